//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`.
//!
//! `code` is a string or null, never a number: openai-python types it so.

use crate::errors::ServerError;
use axum::http::StatusCode;
use serde::Serialize;

#[derive(Serialize)]
struct Body<'a> {
    error: Inner<'a>,
}

#[derive(Serialize)]
struct Inner<'a> {
    message: String,
    #[serde(rename = "type")]
    kind: &'static str,
    param: Option<&'a str>,
    code: Option<&'a str>,
    /// With `n_ctx`, only for a prompt that is too long: what llama-server's clients read.
    #[serde(skip_serializing_if = "Option::is_none")]
    n_prompt_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n_ctx: Option<u32>,
}

/// The body that says `error`; the same in a response and in the middle of a stream.
pub(crate) fn error_body(error: &ServerError) -> String {
    let (param, code) = match error {
        ServerError::BadRequest(bad) => (bad.param.as_deref(), bad.code),
        ServerError::ModelNotFound { .. } => (Some("model"), Some("model_not_found")),
        ServerError::ModelUnavailable { .. } => (Some("model"), Some("model_unavailable")),
        ServerError::NotAsLocked(_) => (Some("model"), Some("not_as_locked")),
        ServerError::NoSuchResponse { .. } => (Some("id"), Some("response_not_found")),
        ServerError::NoSuchStream { .. } => (Some("id"), Some("stream_not_found")),
        ServerError::NotReloaded { .. } => (None, Some("not_reloaded")),
        ServerError::StreamGivenUp => (None, Some("stream_given_up")),
        ServerError::StreamTaken => (None, Some("stream_taken")),
        ServerError::ContextOverflow { .. } => (None, Some("context_length_exceeded")),
        ServerError::TextTooLong { place, .. } => (Some(&**place), Some("context_length_exceeded")),
        ServerError::BodyTooLarge { .. } => (None, Some("request_too_large")),
        ServerError::Overloaded { .. }
        | ServerError::LimitReached { .. }
        | ServerError::UpstreamBusy { .. } => (None, Some("rate_limit_exceeded")),
        ServerError::RefusedByRule(_) => (None, Some("refused_by_rule")),
        ServerError::UpstreamFailed(_) => (None, Some("upstream_failed")),
        ServerError::Unauthorized(_) => (None, Some("invalid_api_key")),
        ServerError::NoSuchPath { .. } => (None, Some("unknown_url")),
        ServerError::MethodNotAllowed { .. } => (None, Some("method_not_allowed")),
        ServerError::LedgerUnavailable(_) => (None, Some("ledger_unavailable")),
        ServerError::Cancelled => (None, Some("cancelled")),
        ServerError::Loading => (None, Some("loading")),
        ServerError::ShuttingDown => (None, Some("shutting_down")),
        ServerError::Expired | ServerError::DeadlineOutOfReach { .. } => {
            (None, Some("deadline_exceeded"))
        }
        _ => (None, None),
    };
    let (n_prompt_tokens, n_ctx) = match error {
        ServerError::ContextOverflow { n_prompt, n_ctx }
        | ServerError::TextTooLong { n_tokens: n_prompt, n_ctx, .. } => {
            (Some(*n_prompt), Some(*n_ctx))
        }
        _ => (None, None),
    };
    let kind = kind(error.status());
    let inner = Inner { message: error.to_string(), kind, param, code, n_prompt_tokens, n_ctx };
    super::to_json(&Body { error: inner })
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::NOT_FOUND => "not_found_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        status if status.is_client_error() => "invalid_request_error",
        _ => "server_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::BadRequest;

    fn check(error: ServerError, status: u16, expected: &str) {
        assert_eq!(error.status().as_u16(), status);
        assert_eq!(error_body(&error), expected);
    }

    #[test]
    fn errors_have_the_shape_clients_read() {
        check(
            BadRequest::field("temperature", "3: expected a number between 0 and 2").into(),
            400,
            r#"{"error":{"message":"temperature: 3: expected a number between 0 and 2","type":"invalid_request_error","param":"temperature","code":"invalid_value"}}"#,
        );
        check(
            ServerError::ModelNotFound { asked: "gpt".to_owned(), served: vec!["a/b".to_owned()] },
            404,
            r#"{"error":{"message":"model \"gpt\" does not exist here, expected one of: a/b","type":"not_found_error","param":"model","code":"model_not_found"}}"#,
        );
        check(
            ServerError::ContextOverflow { n_prompt: 9000, n_ctx: 8192 },
            400,
            r#"{"error":{"message":"prompt is too long: this model's maximum context length is 8192 tokens, however the prompt has 9000 tokens and at least one must be left for the answer","type":"invalid_request_error","param":null,"code":"context_length_exceeded","n_prompt_tokens":9000,"n_ctx":8192}}"#,
        );
        check(
            ServerError::Overloaded {
                what: "64 requests are at work".to_owned(),
                retry_after: std::time::Duration::from_secs(1),
            },
            429,
            r#"{"error":{"message":"64 requests are at work, try again later","type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}"#,
        );
        check(
            ServerError::NotAsLocked(crate::NotAsLocked(
                "m is not as freehold.lock says".to_owned(),
            )),
            503,
            r#"{"error":{"message":"m is not as freehold.lock says","type":"server_error","param":"model","code":"not_as_locked"}}"#,
        );
        check(
            ServerError::Unauthorized("expected a key".to_owned()),
            401,
            r#"{"error":{"message":"expected a key","type":"authentication_error","param":null,"code":"invalid_api_key"}}"#,
        );
        check(
            ServerError::Failed("the engine has stopped".to_owned()),
            500,
            r#"{"error":{"message":"the engine has stopped","type":"server_error","param":null,"code":null}}"#,
        );
    }
}
