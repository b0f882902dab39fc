//! How long a request may take: what its header says, and the bound on what is not the engine's.
//!
//! HTTP has no such field ("Prefer: wait", RFC 7240, is a wish and no bound), so this one is ours.

use crate::errors::{BadRequest, ServerError};
use axum::http::HeaderMap;
use std::future::Future;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// The header with the milliseconds from the request's arrival to its end.
pub(crate) const HEADER: &str = "x-freehold-deadline-ms";
/// What it may say; a day is beyond the patience of any client.
pub(crate) const RANGE_MS: RangeInclusive<u64> = 1..=86_400_000;

/// When a request that arrived at `arrived` must have ended, where it says so.
pub(super) fn of(headers: &HeaderMap, arrived: Instant) -> Result<Option<Instant>, BadRequest> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.trim().parse::<u64>().ok());
    match number.filter(|number| RANGE_MS.contains(number) && values.next().is_none()) {
        Some(n_ms) => Ok(Some(arrived + Duration::from_millis(n_ms))),
        None => {
            let shown = crate::dialects::fields::short(&String::from_utf8_lossy(value.as_bytes()));
            let (least, most) = (RANGE_MS.start(), RANGE_MS.end());
            let problem = format!("{shown:?}: expected one number of {least} to {most}");
            Err(BadRequest::field(HEADER, &problem))
        }
    }
}

/// `work`, which must not go on beyond the deadline.
pub(super) async fn within<T>(
    deadline: Option<Instant>,
    work: impl Future<Output = Result<T, ServerError>>,
) -> Result<T, ServerError> {
    match deadline {
        None => work.await,
        Some(deadline) => match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(done) => done,
            Err(_) => Err(ServerError::Expired),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn one_number_within_a_day_is_taken() {
        let arrived = Instant::now();
        let check = |values: &[&'static str], expected: Result<Option<u64>, &str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_static(value));
            }
            let found = of(&headers, arrived).map_err(|error| error.to_string());
            let expected = expected.map(|n| n.map(|n| arrived + Duration::from_millis(n)));
            assert_eq!(found, expected.map_err(str::to_owned), "{values:?}");
        };
        let problem = |value: &str| {
            format!("x-freehold-deadline-ms: {value:?}: expected one number of 1 to 86400000")
        };
        check(&[], Ok(None));
        check(&["1"], Ok(Some(1)));
        check(&[" 86400000 "], Ok(Some(86_400_000)));
        for value in ["0", "86400001", "-1", "1.5", "2s", "", "99999999999999999999"] {
            check(&[value], Err(&problem(value)));
        }
        check(&["5", "6"], Err(&problem("5")));
    }
}
