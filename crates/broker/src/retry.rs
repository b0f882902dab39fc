//! When a request is tried again, and when not. Pure.

use std::time::{Duration, SystemTime};

/// The wait before the second attempt at the same address; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait, also where the upstream asks for more: then whoever asked is told instead.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Longest time that is believed of a `Retry-After`.
const RETRY_AFTER_MAX_S: u64 = 86_400;

/// Whether a status says that there was no answer, and that there may be one soon: too many
/// requests, or a server, or one behind it, in trouble (529: overloaded, Anthropic's).
pub(crate) fn may_pass(status: u16) -> bool {
    matches!(status, 429 | 500 | 502 | 503 | 504 | 529)
}

/// Whether a status speaks against the address: a limit does not, it is the key's.
pub(crate) fn is_failure(status: u16) -> bool {
    status >= 500
}

/// The wait before attempt number `attempt` (2 is the second) at an address that was asked before,
/// or `None` where the upstream wants a longer one than is worth it.
pub(crate) fn wait(attempt: u32, retry_after: Option<Duration>) -> Option<Duration> {
    let doubled = FIRST_WAIT * 2_u32.saturating_pow(attempt.saturating_sub(2).min(16));
    match retry_after {
        Some(asked) => Some(asked.max(FIRST_WAIT)).filter(|asked| *asked <= WAIT_MAX),
        None => Some(doubled.min(WAIT_MAX)),
    }
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date. Vendors write fractions too.
pub(crate) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now).unwrap_or_default(),
    };
    Some(seconds.min(Duration::from_secs(RETRY_AFTER_MAX_S)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_a_time_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let check = |text: &str, seconds: Option<f64>| {
            assert_eq!(retry_after(text, now), seconds.map(Duration::from_secs_f64), "{text}");
        };
        check("7", Some(7.0));
        check(" 0.5 ", Some(0.5));
        check("999999999999", Some(86_400.0));
        check("Sun, 06 Nov 1994 08:49:47 GMT", Some(10.0));
        check("Sun, 06 Nov 1994 08:49:00 GMT", Some(0.0));
        for wrong in ["", "-1", "NaN", "inf", "soon", "1e300"] {
            check(wrong, None);
        }
    }

    #[test]
    fn waits_double_and_end() {
        let ms = Duration::from_millis;
        assert_eq!(wait(2, None), Some(ms(200)));
        assert_eq!(wait(3, None), Some(ms(400)));
        assert_eq!(wait(60, None), Some(WAIT_MAX));
        assert_eq!(wait(2, Some(ms(1500))), Some(ms(1500)));
        assert_eq!(wait(2, Some(ms(0))), Some(ms(200)));
        assert_eq!(wait(2, Some(Duration::from_secs(11))), None);
    }
}
