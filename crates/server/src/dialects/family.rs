//! Whose shape a response has that belongs to no route of its own: refusals, the list of models.

use super::{anthropic, ollama, openai};
use crate::errors::ServerError;
use axum::http::{HeaderMap, StatusCode};

/// An API family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Also of whoever does not say: it has `/v1`.
    OpenAi,
    Anthropic,
    Ollama,
}

impl Family {
    /// The family of a request: that of its path, else that of the header which only one sends.
    pub(crate) fn of(path: &str, headers: &HeaderMap) -> Self {
        let rest = path.strip_prefix("/v1/messages");
        let is_its_path = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_its_path || headers.contains_key("anthropic-version") {
            return Self::Anthropic;
        }
        match path == "/api" || path.starts_with("/api/") {
            true => Self::Ollama,
            false => Self::OpenAi,
        }
    }

    /// The body that says `error`, which answers the request of this id.
    pub(crate) fn error_body(self, error: &ServerError, request_id: &str) -> String {
        match self {
            Self::OpenAi => openai::error_body(error),
            Self::Anthropic => anthropic::error_body(error, request_id),
            Self::Ollama => ollama::error_body(error),
        }
    }

    /// The end of a stream that must end with `error`, whatever it said before.
    pub(crate) fn error_event(self, error: &ServerError) -> String {
        let mut out = String::new();
        match self {
            Self::OpenAi => openai::push_failure(error, &mut out),
            Self::Anthropic => anthropic::push_failure(error, &mut out),
            Self::Ollama => out = ollama::error_body(error),
        }
        out
    }

    /// The status of a response that says `error`.
    pub(crate) fn status(self, error: &ServerError) -> StatusCode {
        match (self, error.status()) {
            // 429 is of a client's own limits there.
            (Self::Anthropic, _) if matches!(error, ServerError::Overloaded { .. }) => overloaded(),
            // As Ollama says that its queue is full.
            (Self::Ollama, StatusCode::TOO_MANY_REQUESTS) => StatusCode::SERVICE_UNAVAILABLE,
            (_, status) => status,
        }
    }
}

/// The status by which Anthropic says that it has no room, which no standard has.
fn overloaded() -> StatusCode {
    StatusCode::from_u16(529).expect("it has three digits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn each_family_has_a_status_for_no_room() {
        let retry_after = Duration::from_secs(1);
        let full = ServerError::Overloaded { what: "full".to_owned(), retry_after };
        let check = |family: Family, expected: u16| {
            assert_eq!(family.status(&full).as_u16(), expected, "{family:?}");
        };
        check(Family::OpenAi, 429);
        check(Family::Anthropic, 529);
        check(Family::Ollama, 503);
        assert_eq!(Family::Anthropic.status(&ServerError::ShuttingDown).as_u16(), 503);
    }

    #[test]
    fn path_and_header_tell_the_family() {
        let check = |path: &str, version: Option<&'static str>, expected: Family| {
            let mut headers = HeaderMap::new();
            if let Some(version) = version {
                headers.insert("anthropic-version", version.parse().unwrap());
            }
            assert_eq!(Family::of(path, &headers), expected, "{path} {version:?}");
        };
        check("/v1/messages", None, Family::Anthropic);
        check("/v1/messages/batches", None, Family::Anthropic);
        check("/v1/messagesx", None, Family::OpenAi);
        check("/v1/models", None, Family::OpenAi);
        check("/v1/models", Some("2023-06-01"), Family::Anthropic);
        check("/nothing", None, Family::OpenAi);
        check("/api/chat", None, Family::Ollama);
        // Agents of the other family send their telemetry there.
        check("/api/event", Some("2023-06-01"), Family::Anthropic);
        check("/apix", None, Family::OpenAi);
    }
}
