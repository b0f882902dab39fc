//! What an engine counts, for whoever watches it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What an engine has at work now, and what it has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Sequences that have a seat.
    pub n_running: u64,
    /// Requests that wait for their first one.
    pub n_waiting: u64,
    /// KV pages that sequences hold; shared ones once.
    pub n_pages_used: u64,
    /// Pages that nobody holds and whose contents are kept for prompts that begin alike.
    pub n_pages_cached: u64,
    /// All of them.
    pub n_pages: u64,
    /// Passes over the model.
    pub n_steps: u64,
    /// Tokens that the passes read of prompts.
    pub n_prefill: u64,
    /// Tokens that they continued answers by, guesses included.
    pub n_decode: u64,
    /// How long the passes took together.
    pub busy: Duration,
    /// How often a sequence gave its seat up to another.
    pub n_preempted: u64,
}

/// The counts of [`EngineStats`], written by the engine thread alone.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    n_running: AtomicU64,
    n_pages_used: AtomicU64,
    n_pages_cached: AtomicU64,
    n_pages: AtomicU64,
    n_steps: AtomicU64,
    n_prefill: AtomicU64,
    n_decode: AtomicU64,
    busy_ns: AtomicU64,
    n_preempted: AtomicU64,
}

impl Counters {
    /// What is at work between two steps.
    pub(crate) fn set(&self, n_running: usize, n_pages: u32, n_free: usize, n_cached: usize) {
        self.n_running.store(n_running as u64, Relaxed);
        self.n_pages.store(n_pages.into(), Relaxed);
        self.n_pages_cached.store(n_cached as u64, Relaxed);
        self.n_pages_used.store(u64::from(n_pages) - (n_free + n_cached) as u64, Relaxed);
    }

    /// A pass was made.
    pub(crate) fn step(&self, n_decode: usize, n_prefill: usize, duration: Duration) {
        self.n_steps.fetch_add(1, Relaxed);
        self.n_decode.fetch_add(n_decode as u64, Relaxed);
        self.n_prefill.fetch_add(n_prefill as u64, Relaxed);
        self.busy_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(0), Relaxed);
    }

    /// A sequence gave its seat up.
    pub(crate) fn preempted(&self) {
        self.n_preempted.fetch_add(1, Relaxed);
    }

    /// All of them now, with `n_waiting` from the queue.
    pub(crate) fn stats(&self, n_waiting: usize) -> EngineStats {
        EngineStats {
            n_running: self.n_running.load(Relaxed),
            n_waiting: n_waiting as u64,
            n_pages_used: self.n_pages_used.load(Relaxed),
            n_pages_cached: self.n_pages_cached.load(Relaxed),
            n_pages: self.n_pages.load(Relaxed),
            n_steps: self.n_steps.load(Relaxed),
            n_prefill: self.n_prefill.load(Relaxed),
            n_decode: self.n_decode.load(Relaxed),
            busy: Duration::from_nanos(self.busy_ns.load(Relaxed)),
            n_preempted: self.n_preempted.load(Relaxed),
        }
    }
}
