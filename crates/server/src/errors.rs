//! Everything that can go wrong in this crate, in one enum; each dialect renders it in its own
//! error shape, all with the same HTTP status.

use crate::NotAsLocked;
use crate::library::LibraryError;
use axum::http::StatusCode;
use engine::EngineError;
use ledger::Standing;
use std::time::Duration;

/// Bounds of the advice when to come again with a deadline.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];
/// When a ledger that takes no entries may take some again.
const RETRY_LEDGER: Duration = Duration::from_secs(5);

/// Why the server could not start, or why a request was refused or broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The configuration cannot be served.
    #[error("{0}")]
    Config(String),
    /// The listener failed.
    #[error("listener: {0}")]
    Io(#[from] std::io::Error),
    /// A field of the request, or the body as a whole, is not what it must be.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// The request comes from where none is taken, a foreign host name or web page, or asks for
    /// what its sender may not have.
    #[error("{0}")]
    Forbidden(String),
    /// Nobody is known by what the request brings.
    #[error("{0}")]
    Unauthorized(String),
    /// There is no such path.
    #[error("{path}: no such path")]
    NoSuchPath {
        /// The path asked for.
        path: String,
    },
    /// The path exists, but not for this method.
    #[error("{method} {path}: method not allowed, expected the methods of the allow header")]
    MethodNotAllowed {
        /// The method used.
        method: String,
        /// The path asked for.
        path: String,
    },
    /// No model of this name is served.
    #[error("model {asked:?} does not exist here, expected one of: {}", .served.join(", "))]
    ModelNotFound {
        /// The name asked for.
        asked: String,
        /// The names that are served.
        served: Vec<String>,
    },
    /// No answer of this id is kept for this client.
    #[error("response {id:?} does not exist here: {why}")]
    NoSuchResponse {
        /// The id asked for.
        id: String,
        /// What may have become of it.
        why: &'static str,
    },
    /// No stream of this id can be resumed by this client.
    #[error("stream {id:?} does not exist here: {why}")]
    NoSuchStream {
        /// The id asked for.
        id: String,
        /// What may have become of it.
        why: &'static str,
    },
    /// The stream has more events than are kept, or than there is room for.
    #[error("the stream cannot be resumed: not all of its events found room")]
    StreamGivenUp,
    /// Another connection reads the stream on.
    #[error("the stream was resumed on another connection")]
    StreamTaken,
    /// The library has nothing of this name, or the server no such thing.
    #[error("{0}")]
    NotFound(String),
    /// What the request is about is in no state for it.
    #[error("{0}")]
    Conflict(String),
    /// The path is known, and this server does not do what it is for.
    #[error("{0}")]
    NotImplemented(String),
    /// The configuration was read anew, and is not taken over.
    #[error("nothing was changed: {}", .problems.join("; "))]
    NotReloaded {
        /// All that is wrong with it: place, value, expectation.
        problems: Vec<String>,
    },
    /// The model is served, and cannot be opened now.
    #[error("the model cannot be opened: {what}")]
    ModelUnavailable {
        /// Why; where memory is short, the arithmetic.
        what: String,
        /// When there may be room; `None` where it is not a matter of time.
        retry_after: Option<Duration>,
    },
    /// The model, or the alias, is not what the owner's lock says.
    #[error(transparent)]
    NotAsLocked(#[from] NotAsLocked),
    /// The body is larger than the server takes.
    #[error("body: more than {limit} bytes, expected at most {limit}")]
    BodyTooLarge {
        /// The bound in bytes.
        limit: usize,
    },
    /// The body did not arrive in time.
    #[error("body: not complete after {} s", .limit.as_secs())]
    BodyTimeout {
        /// The bound.
        limit: Duration,
    },
    /// The body broke off.
    #[error("body: {0}")]
    BodyBroken(String),
    /// The body is encoded in a way that is not known.
    #[error("content-encoding: {0:?}: expected gzip, zstd, or an unencoded body")]
    BodyEncoded(String),
    /// The prompt leaves no room for an answer. The wordings are those that gateways and LangChain
    /// look for.
    #[error(
        "prompt is too long: this model's maximum context length is {n_ctx} tokens, however the \
         prompt has {n_prompt} tokens and at least one must be left for the answer"
    )]
    ContextOverflow {
        /// Tokens of the prompt.
        n_prompt: usize,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// A text to embed is longer than the model's context.
    #[error(
        "{place}: this model's maximum context length is {n_ctx} tokens, however the text has \
         {n_tokens}; shorten it, or send \"truncate\": true to have its end cut off"
    )]
    TextTooLong {
        /// Path of its field.
        place: String,
        /// Its tokens.
        n_tokens: usize,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// As many requests are at work or waiting as the server takes.
    #[error("{what}, try again later")]
    Overloaded {
        /// The arithmetic.
        what: String,
        /// When there should be room.
        retry_after: Duration,
    },
    /// The request's deadline is over before its turn comes.
    #[error("{what}")]
    DeadlineOutOfReach {
        /// The arithmetic.
        what: String,
        /// When the same request would be in time, ten minutes at most.
        retry_after: Duration,
    },
    /// A limit of the owner's leaves no room for the request.
    #[error("{what}")]
    LimitReached {
        /// The arithmetic.
        what: String,
        /// How it stands.
        standing: Box<Standing>,
        /// When there may be room; `None` where there never is so much.
        retry_after: Option<Duration>,
    },
    /// A rule of the owner's refuses the request, or leaves nobody who could answer it.
    #[error("{0}")]
    RefusedByRule(String),
    /// An upstream gave no answer, or not all of it.
    #[error("{0}")]
    UpstreamFailed(String),
    /// An upstream takes no requests now.
    #[error("{what}, try again later")]
    UpstreamBusy {
        /// Which one, and why.
        what: String,
        /// When it may take some.
        retry_after: Duration,
    },
    /// No upstream can be asked now, and nothing was sent.
    #[error("{what}")]
    UpstreamAway {
        /// Which one was to be asked, and why it cannot be.
        what: String,
        /// When it may be; `None`: not while this server runs.
        retry_after: Option<Duration>,
    },
    /// Nothing can be written down, so nothing is answered that must be.
    #[error("{0}")]
    LedgerUnavailable(String),
    /// The request was not answered in the time that it had.
    #[error("the request's time was over before its answer was complete")]
    Expired,
    /// Somebody who may had the request cancelled.
    #[error("the request was cancelled, by its client or by the server's owner")]
    Cancelled,
    /// The models are being opened: the server has just been started.
    #[error("the models are being loaded: the server has just been started, try again later")]
    Loading,
    /// The server is going down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The engine has stopped or a generation broke off: our failure, not the client's.
    #[error("{0}")]
    Failed(String),
}

/// Which part of a request is wrong, what it held and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadRequest {
    /// Path of the field, like `messages[1].content`; `None` for the body as a whole.
    pub param: Option<String>,
    /// The whole message: place, value, expectation.
    pub message: String,
    /// A word for programs, like `unknown_parameter`.
    pub code: Option<&'static str>,
}

impl BadRequest {
    /// A field with a value it cannot have; `problem` reads like `"hot": expected a number`.
    pub(crate) fn field(param: &str, problem: &str) -> Self {
        Self {
            param: Some(param.to_owned()),
            message: format!("{param}: {problem}"),
            code: Some("invalid_value"),
        }
    }

    /// A field that this server knows and cannot honour.
    pub(crate) fn unsupported(param: &str, why: &str) -> Self {
        Self { code: Some("unsupported_parameter"), ..Self::field(param, why) }
    }
}

impl ServerError {
    /// The field of the request that is at fault, if it is one.
    pub(crate) fn param(&self) -> Option<&str> {
        match self {
            Self::BadRequest(bad) => bad.param.as_deref(),
            Self::ModelNotFound { .. } | Self::ModelUnavailable { .. } | Self::NotAsLocked(_) => {
                Some("model")
            }
            Self::TextTooLong { place, .. } => Some(place),
            Self::NoSuchResponse { .. } | Self::NoSuchStream { .. } => Some("id"),
            _ => None,
        }
    }

    /// The status of a response that says this.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_)
            | Self::ContextOverflow { .. }
            | Self::TextTooLong { .. }
            | Self::NotReloaded { .. }
            | Self::BodyBroken(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::RefusedByRule(_) => StatusCode::FORBIDDEN,
            Self::NoSuchPath { .. }
            | Self::ModelNotFound { .. }
            | Self::NoSuchResponse { .. }
            | Self::NoSuchStream { .. }
            | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::StreamGivenUp => StatusCode::GONE,
            Self::StreamTaken => StatusCode::CONFLICT,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::BodyTimeout { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyEncoded(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Overloaded { .. } | Self::LimitReached { .. } | Self::UpstreamBusy { .. } => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::UpstreamFailed(_) => StatusCode::BAD_GATEWAY,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Expired => StatusCode::GATEWAY_TIMEOUT,
            Self::ModelUnavailable { .. }
            | Self::NotAsLocked(_)
            | Self::DeadlineOutOfReach { .. }
            | Self::UpstreamAway { .. }
            | Self::LedgerUnavailable(_)
            | Self::Cancelled
            | Self::Loading
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Config(_) | Self::Io(_) | Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// What is wrong, in one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::BadRequest(bad) => bad.code.unwrap_or("invalid_value"),
            Self::Unauthorized(_) => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::NoSuchPath { .. } => "unknown_url",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::ModelNotFound { .. } => "model_not_found",
            Self::NoSuchResponse { .. } => "response_not_found",
            Self::NoSuchStream { .. } => "stream_not_found",
            Self::StreamGivenUp => "stream_given_up",
            Self::StreamTaken => "stream_taken",
            Self::NotFound(_) => "not_found",
            Self::Conflict(_) => "conflict",
            Self::NotImplemented(_) => "not_implemented",
            Self::NotReloaded { .. } => "not_reloaded",
            Self::ModelUnavailable { .. } => "model_unavailable",
            Self::NotAsLocked(_) => "not_as_locked",
            Self::BodyTooLarge { .. } => "request_too_large",
            Self::BodyTimeout { .. } | Self::BodyBroken(_) => "body_incomplete",
            Self::BodyEncoded(_) => "body_encoded",
            Self::ContextOverflow { .. } | Self::TextTooLong { .. } => "context_length_exceeded",
            Self::Overloaded { .. } => "overloaded",
            Self::LimitReached { .. } => "limit_reached",
            Self::DeadlineOutOfReach { .. } | Self::Expired => "deadline_exceeded",
            Self::LedgerUnavailable(_) => "ledger_unavailable",
            Self::RefusedByRule(_) => "refused_by_rule",
            Self::UpstreamFailed(_) => "upstream_failed",
            Self::UpstreamBusy { .. } => "upstream_busy",
            Self::UpstreamAway { .. } => "upstream_unavailable",
            Self::Cancelled => "cancelled",
            Self::Loading => "loading",
            Self::ShuttingDown => "shutting_down",
            Self::Config(_) | Self::Io(_) | Self::Failed(_) => "failed",
        }
    }

    /// Whether the same request can never be answered.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Overloaded { .. }
            | Self::UpstreamBusy { .. }
            | Self::BodyTimeout { .. }
            | Self::BodyBroken(_) => false,
            Self::ModelUnavailable { retry_after, .. }
            | Self::UpstreamAway { retry_after, .. }
            | Self::LimitReached { retry_after, .. } => retry_after.is_none(),
            Self::NotImplemented(_) | Self::NotAsLocked(_) | Self::Cancelled => true,
            other => other.status().is_client_error(),
        }
    }

    /// Whether somebody else may answer the same request: what failed is who was asked, not the
    /// request. What an upstream cannot be asked can be here.
    pub(crate) fn may_be_mended(&self, was_asked_there: bool) -> bool {
        match self {
            Self::Expired
            | Self::ShuttingDown
            | Self::LedgerUnavailable(_)
            | Self::RefusedByRule(_) => false,
            // Other limits may concern who answers here.
            Self::BadRequest(_) | Self::LimitReached { .. } => was_asked_there,
            Self::Overloaded { .. }
            | Self::UpstreamBusy { .. }
            | Self::UpstreamFailed(_)
            | Self::UpstreamAway { .. }
            | Self::DeadlineOutOfReach { .. }
            | Self::ModelUnavailable { .. }
            | Self::NotAsLocked(_)
            | Self::ContextOverflow { .. }
            | Self::Failed(_) => true,
            _ => false,
        }
    }

    /// After how long the same request may be answered; `None` where trying again is useless.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Overloaded { retry_after, .. }
            | Self::UpstreamBusy { retry_after, .. }
            | Self::DeadlineOutOfReach { retry_after, .. } => Some(*retry_after),
            Self::ModelUnavailable { retry_after, .. }
            | Self::UpstreamAway { retry_after, .. }
            | Self::LimitReached { retry_after, .. } => *retry_after,
            Self::Loading | Self::ShuttingDown => Some(Duration::from_secs(1)),
            Self::LedgerUnavailable(_) => Some(RETRY_LEDGER),
            _ => None,
        }
    }
}

impl From<LibraryError> for ServerError {
    fn from(error: LibraryError) -> Self {
        match error {
            LibraryError::NotFound(what) => Self::NotFound(what),
            LibraryError::Refused(message) => {
                BadRequest { param: Some("model".to_owned()), message, code: None }.into()
            }
            LibraryError::Busy(what) => Self::Overloaded { what, retry_after: RETRY_AFTER[0] },
            LibraryError::Cancelled(what) | LibraryError::Failed(what) => Self::Failed(what),
        }
    }
}

impl From<EngineError> for ServerError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::ContextOverflow { n_prompt, n_ctx } => {
                Self::ContextOverflow { n_prompt, n_ctx }
            }
            EngineError::TextTooLong { text_idx, n_tokens, n_ctx } => {
                Self::TextTooLong { place: format!("text {text_idx}"), n_tokens, n_ctx }
            }
            EngineError::Invalid { field, value, expected } => {
                BadRequest::field(field, &format!("{value}: expected {expected}")).into()
            }
            EngineError::NoChatTemplate => BadRequest::unsupported(
                "messages",
                "the model has no chat template (it is a base model): use /v1/completions",
            )
            .into(),
            // The system gave no thread: the messages are not to blame.
            EngineError::Template(thread @ text::TemplateError::Thread(_)) => {
                Self::Failed(thread.to_string())
            }
            EngineError::Template(refusal) => BadRequest::field(
                "messages",
                &format!("the model's chat template refuses them: {refusal}"),
            )
            .into(),
            EngineError::Overloaded { retry_after, .. } => {
                Self::Overloaded { what: error.to_string(), retry_after }
            }
            EngineError::DeadlineOutOfReach { wait, left, .. } => Self::DeadlineOutOfReach {
                what: error.to_string(),
                retry_after: wait.saturating_sub(left).clamp(RETRY_AFTER[0], RETRY_AFTER[1]),
            },
            other => Self::Failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use text::TemplateError;

    #[test]
    fn only_the_template_itself_blames_the_messages() {
        let check = |error: TemplateError, status: u16| {
            assert_eq!(ServerError::from(EngineError::Template(error)).status(), status);
        };
        check(TemplateError::Refused { message: "no".to_owned() }, 400);
        check(TemplateError::Thread(std::io::ErrorKind::OutOfMemory.into()), 500);
    }
}
