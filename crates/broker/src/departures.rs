//! Departures: without one that agrees with the request, nothing is sent; each is for one request.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// Departures that are remembered as used. When there are more, the oldest in the ledger is
/// forgotten, and all that are older still are refused with it.
const USED_MAX: usize = 1 << 16;

/// What somebody waits for.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A departure as the ledger has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    /// Its place in the chain.
    pub seq: i64,
    /// Its body.
    pub body: String,
}

/// Where departures are looked for.
pub trait Departures: Send + Sync + 'static {
    /// The departure of this id, if a durable entry has it.
    ///
    /// # Errors
    /// Why it cannot be known, in words.
    fn find<'a>(&'a self, id: &'a str) -> Later<'a, Result<Option<Departure>, String>>;
}

/// What of an entry must agree with the request. The rest of it is others'.
#[derive(Debug, Deserialize)]
struct Agreed {
    upstream: String,
    sha256: String,
}

/// Those that were used.
#[derive(Debug)]
pub(crate) struct Used {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// What stands up to here cannot be used any more: it was written for a broker before, or was
    /// forgotten.
    floor: i64,
    seqs: BTreeSet<i64>,
}

impl Used {
    /// None was, of those behind `floor`.
    pub(crate) fn since(floor: i64) -> Self {
        Self { state: Mutex::new(State { floor, seqs: BTreeSet::new() }) }
    }

    /// Uses a departure for the request to `upstream` with this body.
    ///
    /// # Errors
    /// Why it is none for it, in words.
    pub(crate) fn take(
        &self,
        departure: Option<Departure>,
        upstream: &str,
        body: &[u8],
    ) -> Result<(), String> {
        let departure = departure.ok_or("the ledger has none of this id")?;
        let agreed: Agreed = serde_json::from_str(&departure.body)
            .map_err(|error| format!("its entry is none of a departure: {error}"))?;
        if agreed.upstream != upstream {
            return Err("it is to another upstream".to_owned());
        }
        if agreed.sha256 != sha256(body) {
            return Err("it is of another body: SHA-256 differs".to_owned());
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if departure.seq <= state.floor {
            return Err("it was written before this broker was started, or long ago".to_owned());
        }
        if !state.seqs.insert(departure.seq) {
            return Err("it was used before, expected one for each request".to_owned());
        }
        if state.seqs.len() > USED_MAX
            && let Some(oldest) = state.seqs.pop_first()
        {
            state.floor = oldest;
        }
        Ok(())
    }
}

/// The SHA-256 of a request's body, as its departure has it: in lower-case hexadecimal digits.
pub fn sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departure(seq: i64, upstream: &str, body: &[u8]) -> Option<Departure> {
        let sha256 = sha256(body);
        let body = format!(r#"{{"upstream": "{upstream}", "sha256": "{sha256}", "rule": "a"}}"#);
        Some(Departure { seq, body })
    }

    #[track_caller]
    fn check(used: &Used, departure: Option<Departure>, expected: &str) {
        let told = used.take(departure, "one", b"body").unwrap_err();
        assert!(told.contains(expected), "{told}");
    }

    #[test]
    fn one_departure_is_for_one_request() {
        let used = Used::since(10);
        assert_eq!(used.take(departure(11, "one", b"body"), "one", b"body"), Ok(()));
        check(&used, departure(11, "one", b"body"), "used before");
        check(&used, None, "the ledger has none");
        check(&used, departure(12, "two", b"body"), "another upstream");
        check(&used, departure(12, "one", b"bodY"), "SHA-256 differs");
        check(&used, departure(10, "one", b"body"), "before this broker was started");
        let entry = |body: &str| Some(Departure { seq: 12, body: body.to_owned() });
        check(&used, entry("[]"), "none of a departure");
        check(&used, entry(r#"{"upstream": "one"}"#), "none of a departure");
        // What was refused was not used.
        assert_eq!(used.take(departure(12, "one", b"body"), "one", b"body"), Ok(()));
    }

    #[test]
    fn what_is_forgotten_cannot_be_used_again() {
        let used = Used::since(0);
        let n_departures = USED_MAX as i64 + 5;
        for seq in 1..=n_departures {
            assert_eq!(used.take(departure(seq, "one", b""), "one", b""), Ok(()));
        }
        for seq in [1, 5, 6, n_departures] {
            assert!(used.take(departure(seq, "one", b""), "one", b"").is_err(), "{seq}");
        }
    }
}
