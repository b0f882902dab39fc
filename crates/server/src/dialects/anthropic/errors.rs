//! Errors in Anthropic's shape: `{"type":"error","error":{"type","message"},"request_id"}`.

use super::{Typed, push_event, to_json};
use crate::errors::ServerError;
use axum::http::StatusCode;
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    error: Typed<'a, Message>,
    /// Absent in the middle of a stream, whose head has told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct Message {
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// What programs go by.
#[derive(Serialize)]
struct Details {
    error_code: &'static str,
    unsupported: [&'static str; 1],
}

/// By this the tool runners of the anthropic packages, which send only what is new of a
/// conversation, know that they have to send all of it.
const NO_THREADS: Details =
    Details { error_code: "thread_unsupported_request", unsupported: ["thread"] };

/// The body that says `error`.
pub(crate) fn error_body(error: &ServerError, request_id: &str) -> String {
    let body = Body { error: inner(error), request_id: Some(request_id) };
    to_json(&Typed { kind: "error", body })
}

/// The end of a stream that broke off.
pub(crate) fn push_failure(error: &ServerError, out: &mut String) {
    push_event("error", Body { error: inner(error), request_id: None }, out);
}

fn inner(error: &ServerError) -> Typed<'static, Message> {
    let message = match error {
        // The wording by which clients know that they have to shorten the conversation.
        ServerError::ContextOverflow { n_prompt, n_ctx } => {
            let n_max = n_ctx.saturating_sub(1);
            format!("prompt is too long: {n_prompt} tokens > {n_max} maximum")
        }
        other => other.to_string(),
    };
    let details = match error {
        ServerError::BadRequest(bad) if bad.param.as_deref() == Some("thread") => Some(NO_THREADS),
        _ => None,
    };
    let kind = match error {
        // Waiting does not help.
        ServerError::NotAsLocked(_) => "api_error",
        // With a status of its own, which the family says.
        ServerError::Overloaded { .. } => "overloaded_error",
        other => kind(other.status()),
    };
    Typed { kind, body: Message { message, details } }
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
        StatusCode::GATEWAY_TIMEOUT => "timeout_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "api_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::BadRequest;
    use std::time::Duration;

    fn check(error: ServerError, status: u16, expected: &str) {
        assert_eq!(error.status().as_u16(), status);
        let expected = format!(r#"{{"type":"error","error":{expected},"request_id":"req_1"}}"#);
        assert_eq!(error_body(&error, "req_1"), expected);
    }

    #[test]
    fn errors_have_the_shape_clients_read() {
        check(
            BadRequest::field("temperature", "3: expected a number between 0 and 2").into(),
            400,
            r#"{"type":"invalid_request_error","message":"temperature: 3: expected a number between 0 and 2"}"#,
        );
        check(
            BadRequest::unsupported("thread", "an object: no").into(),
            400,
            r#"{"type":"invalid_request_error","message":"thread: an object: no","details":{"error_code":"thread_unsupported_request","unsupported":["thread"]}}"#,
        );
        check(
            ServerError::ModelNotFound { asked: "x".to_owned(), served: vec!["a/b".to_owned()] },
            404,
            r#"{"type":"not_found_error","message":"model \"x\" does not exist here, expected one of: a/b"}"#,
        );
        check(
            ServerError::ContextOverflow { n_prompt: 9000, n_ctx: 8192 },
            400,
            r#"{"type":"invalid_request_error","message":"prompt is too long: 9000 tokens > 8191 maximum"}"#,
        );
        check(
            ServerError::NotAsLocked(crate::NotAsLocked("m is not as locked".to_owned())),
            503,
            r#"{"type":"api_error","message":"m is not as locked"}"#,
        );
        check(
            ServerError::BodyTooLarge { limit: 4 },
            413,
            r#"{"type":"request_too_large","message":"body: more than 4 bytes, expected at most 4"}"#,
        );
        let retry_after = Duration::from_secs(1);
        check(
            ServerError::Overloaded { what: "64 requests are at work".to_owned(), retry_after },
            429,
            r#"{"type":"overloaded_error","message":"64 requests are at work, try again later"}"#,
        );
        check(
            ServerError::ShuttingDown,
            503,
            r#"{"type":"overloaded_error","message":"the server is shutting down"}"#,
        );
        check(
            ServerError::Expired,
            504,
            r#"{"type":"timeout_error","message":"the request's time was over before its answer was complete"}"#,
        );
        check(
            ServerError::Unauthorized("expected a key".to_owned()),
            401,
            r#"{"type":"authentication_error","message":"expected a key"}"#,
        );
        check(
            ServerError::Forbidden("no".to_owned()),
            403,
            r#"{"type":"permission_error","message":"no"}"#,
        );
        check(
            ServerError::Failed("it broke".to_owned()),
            500,
            r#"{"type":"api_error","message":"it broke"}"#,
        );
    }
}
