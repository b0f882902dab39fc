//! Why an upstream gave no answer, in the words of this server. A client is told no addresses, and
//! of what an upstream said only what is about its request.

use crate::errors::{BadRequest, ServerError};
use crate::upstream::following::Wrong;
use crate::upstream::shape::Unfit;
use axum::http::StatusCode;
use broker::{BrokerError, Waiting};
use serde_json::Value;
use std::time::Duration;

/// When an upstream may be asked again that does not say.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest that is waited for one.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// What a client is told where the broker has no answer, or not all of it. `restore` puts back the
/// values that were replaced.
pub(crate) fn failure(
    upstream: &str,
    error: &BrokerError,
    restore: impl Fn(&str) -> String,
) -> ServerError {
    let failed = |why: &str| ServerError::UpstreamFailed(format!("upstream {upstream:?}: {why}"));
    let busy = |why: &str, retry_after: Option<Duration>| ServerError::UpstreamBusy {
        what: format!("upstream {upstream:?}: {why}"),
        retry_after: retry_after.unwrap_or(RETRY_AFTER).min(RETRY_AFTER_MAX),
    };
    match error {
        BrokerError::Refused { status, body, .. } => {
            let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
            match status {
                StatusCode::TOO_MANY_REQUESTS => busy("it takes no more", error.retry_after()),
                // What it says of a key is no client's to know.
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    failed("it refuses the key of this server")
                }
                status if status.is_client_error() => {
                    refused(upstream, status, &restore(&message(body)))
                }
                status => failed(&format!("it failed, with status {}", status.as_u16())),
            }
        }
        BrokerError::Busy { .. } => busy("too much is on its way to it", error.retry_after()),
        BrokerError::CircuitOpen { .. } => busy("it failed of late", error.retry_after()),
        BrokerError::TimedOut { waiting: Waiting::Deadline, .. } => ServerError::Expired,
        BrokerError::TimedOut { .. } => failed("it took too long"),
        BrokerError::Unreachable { .. } => failed("it cannot be reached"),
        BrokerError::Cut { .. } => failed("it broke off in the middle of the answer"),
        BrokerError::Away { has_spare, .. } => away(upstream, *has_spare),
        BrokerError::Gone { .. } => failed("who carries requests to it has ended meanwhile"),
        _ => failed("it cannot be asked"),
    }
}

/// That nobody is there who could ask it.
fn away(upstream: &str, has_spare: bool) -> ServerError {
    let when = match has_spare {
        true => "another one takes that place, try again",
        false => "until this server is started again, no upstream can be asked",
    };
    ServerError::UpstreamAway {
        what: format!("upstream {upstream:?}: who carries requests to it has ended; {when}"),
        retry_after: has_spare.then_some(RETRY_AFTER),
    }
}

/// What a client is told of an answer that is not one. `said` is what the upstream says of it.
pub(crate) fn wrong(upstream: &str, wrong: &Wrong, said: Option<&str>) -> ServerError {
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    ServerError::UpstreamFailed(format!("upstream {upstream:?}: {wrong}{said}"))
}

/// What a client is told of an answer that is not what it asked for.
pub(crate) fn unfit(upstream: &str, unfit: &Unfit) -> ServerError {
    ServerError::UpstreamFailed(format!("upstream {upstream:?}: {unfit}"))
}

/// An upstream finds something wrong with the request: its client is told what.
fn refused(upstream: &str, status: StatusCode, said: &str) -> ServerError {
    let said = match said {
        "" => format!("status {}", status.as_u16()),
        said => said.to_owned(),
    };
    let message = format!("upstream {upstream:?} refuses the request: {said}");
    BadRequest { param: None, message, code: Some("upstream_refused") }.into()
}

/// The message in the body of an error, as all vendors have it.
fn message(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    let message = body["error"]["message"].as_str().or(body["error"].as_str());
    let message = message.or(body["message"].as_str()).unwrap_or_default();
    message.chars().take(super::MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, body: &str) -> BrokerError {
        BrokerError::Refused {
            upstream: "u".to_owned(),
            address: "10.0.0.1:80".to_owned(),
            status,
            retry_after_s: Some(7),
            body: body.to_owned(),
            attempts: 2,
        }
    }

    #[track_caller]
    fn check(error: &BrokerError, status: u16, expected: &str) {
        let found = failure("u", error, |text| text.replace("⟦EMAIL_1⟧", "a@x.org"));
        assert_eq!((found.status().as_u16(), &*found.to_string()), (status, expected));
        assert!(!found.to_string().contains("10.0.0.1"));
    }

    #[test]
    fn vendors_errors_become_ours() {
        let quoting = r#"{"error":{"message":"no ⟦EMAIL_1⟧ here","param":"messages"}}"#;
        check(&refusal(400, quoting), 400, "upstream \"u\" refuses the request: no a@x.org here");
        check(&refusal(404, "<html>"), 400, "upstream \"u\" refuses the request: status 404");
        let key = r#"{"error":{"message":"wrong key sk-1234"}}"#;
        check(&refusal(401, key), 502, "upstream \"u\": it refuses the key of this server");
        check(&refusal(503, key), 502, "upstream \"u\": it failed, with status 503");
        check(&refusal(429, key), 429, "upstream \"u\": it takes no more, try again later");
        let busy = failure("u", &refusal(429, ""), str::to_owned);
        assert_eq!(busy.retry_after(), Some(Duration::from_secs(7)));
        let timed_out =
            |waiting| BrokerError::TimedOut { upstream: "u".to_owned(), waiting, after_ms: 5 };
        check(&timed_out(Waiting::FirstByte), 502, "upstream \"u\": it took too long");
        let expired = "the request's time was over before its answer was complete";
        check(&timed_out(Waiting::Deadline), 504, expired);
        let gone = BrokerError::Gone { why: "10.0.0.1".to_owned() };
        check(&gone, 502, "upstream \"u\": who carries requests to it has ended meanwhile");
        let away = |has_spare| BrokerError::Away { why: "10.0.0.1".to_owned(), has_spare };
        let told = |error: &BrokerError| {
            let error = failure("u", error, str::to_owned);
            assert!(!error.to_string().contains("10.0.0.1") && error.may_be_mended(true));
            (error.status().as_u16(), error.retry_after().is_some(), error.is_final())
        };
        assert_eq!(told(&away(true)), (503, true, false));
        assert_eq!(told(&away(false)), (503, false, true));
    }
}
