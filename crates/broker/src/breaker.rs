//! The circuit breaker of one address. Pure: whoever asks says what time it is.
//!
//! Closed, it lets all through. After so many failures in a row it opens and lets nothing through
//! for a while; then it is half open: one request tries the address, and its end decides.

use std::time::{Duration, Instant};

use crate::Circuit;

/// A breaker.
#[derive(Debug, Clone)]
pub(crate) struct Breaker {
    n_failures_max: u32,
    open_for: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed {
        n_failures: u32,
    },
    Open {
        until: Instant,
    },
    /// A request tries the address, until when it is taken for lost.
    Trying {
        until: Instant,
    },
}

impl Breaker {
    pub(crate) fn new(n_failures_max: u32, open_for: Duration) -> Self {
        Self { n_failures_max, open_for, state: State::Closed { n_failures: 0 } }
    }

    /// Whether a request may go to the address now.
    pub(crate) fn allows(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => true,
            State::Open { until } | State::Trying { until } => now >= until,
        }
    }

    /// A request goes to the address.
    pub(crate) fn begin(&mut self, now: Instant) {
        if !matches!(self.state, State::Closed { .. }) {
            self.state = State::Trying { until: now + self.open_for };
        }
    }

    /// The address has answered.
    pub(crate) fn succeed(&mut self) {
        self.state = State::Closed { n_failures: 0 };
    }

    /// It has failed.
    pub(crate) fn fail(&mut self, now: Instant) {
        self.state = match self.state {
            State::Closed { n_failures } if n_failures + 1 < self.n_failures_max => {
                State::Closed { n_failures: n_failures + 1 }
            }
            _ => State::Open { until: now + self.open_for },
        };
    }

    /// The request that tried it was given up before anything was known.
    pub(crate) fn forget(&mut self, now: Instant) {
        if let State::Trying { .. } = self.state {
            self.state = State::Open { until: now };
        }
    }

    /// How it is.
    pub(crate) fn circuit(&self, now: Instant) -> Circuit {
        match self.state {
            State::Closed { .. } => Circuit::Closed,
            State::Open { until } if now < until => {
                let for_ms = until.duration_since(now).as_millis();
                Circuit::Open { for_ms: u64::try_from(for_ms).unwrap_or(u64::MAX) }
            }
            State::Open { .. } | State::Trying { .. } => Circuit::HalfOpen,
        }
    }

    /// When the address may be tried, where that is not now.
    pub(crate) fn closed_until(&self) -> Option<Instant> {
        match self.state {
            State::Closed { .. } => None,
            State::Open { until } | State::Trying { until } => Some(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(30);

    #[test]
    fn it_opens_after_failures_in_a_row_and_one_request_tries() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = Breaker::new(3, OPEN_FOR);
        breaker.fail(at(0));
        breaker.fail(at(0));
        breaker.succeed();
        breaker.fail(at(0));
        breaker.fail(at(0));
        assert_eq!(breaker.circuit(at(0)), Circuit::Closed);
        breaker.fail(at(0));
        assert!(!breaker.allows(at(29)));
        assert_eq!(breaker.circuit(at(10)), Circuit::Open { for_ms: 20_000 });
        assert_eq!(breaker.closed_until(), Some(at(30)));
        // One tries, and no other beside it.
        assert!(breaker.allows(at(30)));
        breaker.begin(at(30));
        assert!(!breaker.allows(at(31)));
        assert_eq!(breaker.circuit(at(31)), Circuit::HalfOpen);
        breaker.fail(at(32));
        assert!(!breaker.allows(at(61)) && breaker.allows(at(62)));
        breaker.begin(at(62));
        breaker.succeed();
        assert!(breaker.allows(at(62)));
        assert_eq!(breaker.circuit(at(62)), Circuit::Closed);
    }

    #[test]
    fn one_that_tried_and_was_given_up_keeps_nobody_out() {
        let start = Instant::now();
        let mut breaker = Breaker::new(1, OPEN_FOR);
        breaker.fail(start);
        breaker.begin(start + OPEN_FOR);
        breaker.forget(start + OPEN_FOR);
        assert!(breaker.allows(start + OPEN_FOR));
        // Nor does one of which nothing is heard any more.
        breaker.begin(start + OPEN_FOR);
        assert!(breaker.allows(start + 2 * OPEN_FOR));
    }
}
