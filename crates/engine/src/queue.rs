//! Between callers and the engine thread: the waiting requests, and whether anyone still cares.

use crate::error::EngineError;
use crate::request::{Event, Request};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Most requests that may wait for a seat; beyond it `submit` answers
/// [`EngineError::Overloaded`], because a longer queue only means answers nobody waits for.
pub const MAX_WAITING: usize = 256;

/// A request on its way to a seat.
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) seed: u64,
    pub(crate) on_event: Box<dyn FnMut(Event) + Send>,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) submitted_at: Instant,
}

/// What callers and the engine thread share.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// Copies of the state's length and of `closing`, so that a step of a busy engine with an
    /// empty queue takes no lock.
    n_waiting: AtomicUsize,
    closing: AtomicBool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Submission>,
    /// Set once the engine thread takes nothing more, with the reason.
    stopped: Option<String>,
}

impl Queue {
    /// Puts a request at the end of the queue and wakes the engine.
    pub(crate) fn push(&self, submission: Submission) -> Result<(), EngineError> {
        let mut state = self.lock();
        if let Some(reason) = &state.stopped {
            return Err(EngineError::Stopped { reason: reason.clone() });
        }
        let n_waiting = state.waiting.len();
        if n_waiting >= MAX_WAITING {
            return Err(EngineError::Overloaded { n_waiting, limit: MAX_WAITING });
        }
        state.waiting.push_back(submission);
        self.n_waiting.store(n_waiting + 1, Ordering::Release);
        self.wake.notify_one();
        Ok(())
    }

    /// Takes the longest waiting request if `fits` says so.
    pub(crate) fn pop_if(&self, fits: impl FnOnce(&Request) -> bool) -> Option<Submission> {
        if self.n_waiting() == 0 {
            return None;
        }
        let mut state = self.lock();
        if !fits(&state.waiting.front()?.request) {
            return None;
        }
        let submission = state.waiting.pop_front();
        self.n_waiting.store(state.waiting.len(), Ordering::Release);
        submission
    }

    /// Takes the cancelled requests out of the queue.
    pub(crate) fn take_cancelled(&self) -> Vec<Submission> {
        if self.n_waiting() == 0 {
            return Vec::new();
        }
        let mut state = self.lock();
        let is_cancelled = |s: &Submission| s.cancelled.load(Ordering::Relaxed);
        if !state.waiting.iter().any(is_cancelled) {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut state.waiting);
        let (cancelled, waiting): (VecDeque<_>, _) = waiting.into_iter().partition(is_cancelled);
        state.waiting = waiting;
        self.n_waiting.store(state.waiting.len(), Ordering::Release);
        cancelled.into()
    }

    /// Waits until a request is there or the engine is closing.
    pub(crate) fn wait(&self) {
        let mut state = self.lock();
        while state.waiting.is_empty() && !self.is_closing() {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Tells the engine thread to end.
    pub(crate) fn close(&self) {
        // Under the lock, so that it cannot fall between the engine's look and its sleep.
        let _state = self.lock();
        self.closing.store(true, Ordering::Release);
        self.wake.notify_all();
    }

    /// Whether the engine thread was told to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Takes nothing more from now on, for this reason; returns who waited.
    pub(crate) fn stop(&self, reason: &str) -> VecDeque<Submission> {
        let mut state = self.lock();
        state.stopped = Some(reason.to_string());
        self.n_waiting.store(0, Ordering::Release);
        std::mem::take(&mut state.waiting)
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped.is_some()
    }

    /// Requests waiting for a seat.
    pub(crate) fn n_waiting(&self) -> usize {
        self.n_waiting.load(Ordering::Acquire)
    }

    /// No code that can panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
