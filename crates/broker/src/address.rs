//! One address of an upstream: its connections, and what is known of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::breaker::Breaker;
use crate::choose::{self, Candidate};
use crate::config::Target;
use crate::connections::Connections;
use crate::{AddressHealth, Circuit, Upstream};

/// Characters of the last error that are kept.
const ERROR_CHARS: usize = 200;

/// An address.
pub(crate) struct Address {
    /// The URL in the settings that it is of.
    pub(crate) url: String,
    pub(crate) target: Target,
    pub(crate) socket: SocketAddr,
    pub(crate) connections: Connections,
    place: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    n_in_flight: u64,
    n_given: u64,
    n_answered: u64,
    n_failed: u64,
    last_error: Option<String>,
}

impl Address {
    pub(crate) fn new(
        upstream: &Upstream,
        url: &str,
        target: Target,
        connections: Connections,
        socket: SocketAddr,
    ) -> Arc<Self> {
        let open_for = Duration::from_millis(upstream.open_for_ms);
        let state = State {
            breaker: Breaker::new(upstream.failures_to_open, open_for),
            n_in_flight: 0,
            n_given: 0,
            n_answered: 0,
            n_failed: 0,
            last_error: None,
        };
        // Not what it was resolved to: a name keeps its prompts when its address changes.
        let place = choose::hash(&format!("{target} {}", socket.ip()));
        let (url, state) = (url.to_owned(), Mutex::new(state));
        Arc::new(Self { url, target, socket, connections, place, state })
    }

    /// It as one that may be asked, if it may be.
    pub(crate) fn candidate(&self, idx: usize, n_in_flight_max: u32) -> Result<Candidate, NotNow> {
        let state = self.state();
        if !state.breaker.allows(Instant::now()) {
            return Err(NotNow::Open(state.breaker.closed_until()));
        }
        if state.n_in_flight >= n_in_flight_max.into() {
            return Err(NotNow::Full);
        }
        let (n_in_flight, n_given) = (state.n_in_flight, state.n_given);
        Ok(Candidate { idx, place: self.place, n_in_flight, n_given })
    }

    /// Begins a request to it.
    pub(crate) fn take(self: &Arc<Self>) -> Seat {
        let mut state = self.state();
        state.breaker.begin(Instant::now());
        state.n_in_flight += 1;
        state.n_given += 1;
        drop(state);
        Seat { address: Arc::clone(self), is_judged: false }
    }

    /// How it is.
    pub(crate) fn health(&self) -> AddressHealth {
        let state = self.state();
        AddressHealth {
            url: self.url.clone(),
            address: self.socket.to_string(),
            circuit: state.breaker.circuit(Instant::now()),
            n_in_flight: state.n_in_flight,
            n_answered: state.n_answered,
            n_failed: state.n_failed,
            last_error: state.last_error.clone(),
        }
    }

    /// It answered a question for its health, or did not.
    pub(crate) fn judge(&self, answer: Result<(), String>) {
        let mut state = self.state();
        let before = state.breaker.circuit(Instant::now());
        match answer {
            Ok(()) => state.breaker.succeed(),
            Err(why) => state.fail(&why),
        }
        let after = state.breaker.circuit(Instant::now());
        drop(state);
        self.tell(before, after);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line for the operator where requests go elsewhere from now on, or come back.
    fn tell(&self, before: Circuit, after: Circuit) {
        let address = format!("{} ({})", self.url, self.socket);
        match (before, after) {
            (Circuit::Closed, Circuit::Open { for_ms }) => {
                tracing::warn!("{address} failed again and again: not asked for {for_ms} ms");
            }
            (Circuit::Open { .. } | Circuit::HalfOpen, Circuit::Closed) => {
                tracing::info!("{address} answers again");
            }
            _ => {}
        }
    }
}

impl State {
    fn fail(&mut self, why: &str) {
        self.n_failed += 1;
        self.last_error = Some(why.chars().take(ERROR_CHARS).collect());
        self.breaker.fail(Instant::now());
    }
}

/// Why an address is not asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotNow {
    /// Its breaker is open, until then.
    Open(Option<Instant>),
    /// It has as many requests as it may.
    Full,
}

/// A request that is on its way to an address, until it is dropped.
pub(crate) struct Seat {
    address: Arc<Address>,
    is_judged: bool,
}

impl Seat {
    pub(crate) fn address(&self) -> &Arc<Address> {
        &self.address
    }

    /// The address has answered.
    pub(crate) fn succeed(&mut self) {
        self.is_judged = true;
        let mut state = self.address.state();
        let before = state.breaker.circuit(Instant::now());
        state.n_answered += 1;
        state.last_error = None;
        state.breaker.succeed();
        drop(state);
        self.address.tell(before, Circuit::Closed);
    }

    /// It has failed.
    pub(crate) fn fail(&mut self, why: &str) {
        self.is_judged = true;
        let mut state = self.address.state();
        let before = state.breaker.circuit(Instant::now());
        state.fail(why);
        let after = state.breaker.circuit(Instant::now());
        drop(state);
        self.address.tell(before, after);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.address.state();
        state.n_in_flight -= 1;
        if !self.is_judged {
            state.breaker.forget(Instant::now());
        }
    }
}
