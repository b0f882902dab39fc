//! How settings say how long something takes.

use std::time::Duration;

use engine::Keep;

/// Reads a time or `forever`.
pub(super) fn keep_alive(text: &str) -> Result<Keep, String> {
    let time = if text == "forever" { Some(Duration::MAX) } else { time(text) };
    let time = time.ok_or("expected a time such as 30s, 5m or 2h, or \"forever\"")?;
    Ok(Keep::Idle(time))
}

/// Reads a time, which ends, but not at once.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    let time = time(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected a time such as 30m or 2h".to_owned())
}

/// Reads `30s`, `5m`, `2h`, or plain seconds.
fn time(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];
    let unit = UNITS.iter().find_map(|(unit, n)| Some((text.strip_suffix(unit)?, *n)));
    let (digits, n_seconds) = unit.unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(n_seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let idle = |seconds| Ok(Keep::Idle(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("0", idle(0)),
            ("90", idle(90)),
            ("30s", idle(30)),
            ("5m", idle(300)),
            ("2h", idle(7200)),
        ] {
            assert_eq!(keep_alive(text), expected, "{text}");
        }
        assert_eq!(keep_alive("forever"), Ok(Keep::Idle(Duration::MAX)));
        for text in ["", "m", "5d", "-1", "1.5h", "99999999999999999h"] {
            assert!(keep_alive(text).is_err(), "{text}");
            assert!(some_time(text).is_err(), "{text}");
        }
        assert_eq!(some_time("30m"), Ok(Duration::from_secs(1800)));
        for endless in ["0", "forever"] {
            assert!(some_time(endless).is_err(), "{endless}");
        }
    }
}
