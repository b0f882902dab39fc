//! Between callers and the engine thread: the requests that arrive, and bounds on what waits.
//!
//! The bound is on work, in tokens: a hundred short questions are a shorter queue than three books.
//! Who comes next is decided on the engine thread, in [`waiting`](crate::waiting).

use crate::answer::Listener;
use crate::error::EngineError;
use crate::request::{Priority, Request};
use crate::stats::Counters;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most requests that may wait for a seat, whatever their size; beyond it `submit` answers
/// [`EngineError::Overloaded`], because a longer queue only means answers nobody waits for.
pub const MAX_WAITING: usize = 1024;
/// What an answer without a bound counts for in the queue: most end by themselves about there.
const N_ANSWER_EXPECTED: usize = 512;
/// Bounds of the advice when to come again.
const RETRY_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(600)];
/// How many times as wide the bounds are for a client that has nothing waiting: others must not be
/// able to keep it out by filling the queue.
const N_BOUNDS_NEWCOMER: usize = 2;
/// How much faster than lately the engine may be, when a deadline is held against what waits:
/// prompts may be in the cache, and answers end early.
const SPEED_MARGIN: f32 = 2.0;
/// Where nothing was measured yet.
const FIRST_TOKENS_PER_SECOND: f32 = 100.0;

/// A request on its way to a seat.
pub(crate) struct Submission {
    pub(crate) request: Request,
    pub(crate) seed: u64,
    pub(crate) listener: Listener,
    pub(crate) cancelled: Arc<AtomicBool>,
    pub(crate) submitted_at: Instant,
}

impl Submission {
    /// Tokens that it is expected to take, prompt and answer.
    pub(crate) fn n_tokens(&self) -> usize {
        let n_answer = self.request.max_tokens.map_or(N_ANSWER_EXPECTED, |n| n as usize);
        self.request.prompt.len() + n_answer.min(N_ANSWER_EXPECTED)
    }

    /// Whose it is, and which of the client's others it waits behind.
    fn account(&self) -> (u64, Priority) {
        (self.request.client, self.request.priority)
    }
}

/// What callers and the engine thread share.
pub(crate) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
    /// Tokens that may wait.
    max_tokens: usize,
    /// Copies of the state's counts and of `closing`, so that a step of a busy engine to which
    /// nobody came takes no lock.
    n_arrived: AtomicUsize,
    n_waiting: AtomicUsize,
    closing: AtomicBool,
    /// Bits of the engine's tokens per second, an `f32`.
    speed: AtomicU32,
    /// What the engine thread counts.
    pub(crate) counters: Counters,
}

#[derive(Default)]
struct State {
    arrived: Vec<Submission>,
    /// Requests without a seat, those that the engine thread has taken over included, and their
    /// tokens.
    n_waiting: usize,
    n_tokens: usize,
    /// Of them, those of each client and priority.
    by_client: HashMap<(u64, Priority), (usize, usize)>,
    /// Set once the engine thread takes nothing more, with the reason.
    stopped: Option<String>,
}

impl State {
    /// Whether its client has something of this class waiting.
    fn waits(&self, submission: &Submission) -> bool {
        self.by_client.contains_key(&submission.account())
    }
}

impl Queue {
    /// An empty queue in which at most `max_tokens` tokens may wait, or what came together.
    pub(crate) fn new(max_tokens: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            max_tokens,
            n_arrived: AtomicUsize::new(0),
            n_waiting: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            speed: AtomicU32::new(0.0_f32.to_bits()),
            counters: Counters::default(),
        }
    }

    /// Puts a request at the end of the queue and wakes the engine.
    #[cfg(test)]
    pub(crate) fn push(&self, submission: Submission) -> Result<(), EngineError> {
        self.push_all(vec![submission], || {})
    }

    /// Puts requests at the end of the queue, all or none, and wakes the engine. Where nobody
    /// else waits there is room for them whatever their size, as there is for one. Says `taken`
    /// before the engine thread can have them.
    pub(crate) fn push_all(
        &self,
        submissions: Vec<Submission>,
        taken: impl FnOnce(),
    ) -> Result<(), EngineError> {
        let mut state = self.lock();
        if let Some(reason) = &state.stopped {
            return Err(EngineError::Stopped { reason: reason.clone() });
        }
        let n_tokens = submissions.iter().map(Submission::n_tokens).sum();
        let n_bounds = match submissions.iter().any(|submission| state.waits(submission)) {
            true => 1,
            false => N_BOUNDS_NEWCOMER,
        };
        let n_tokens_after = state.n_tokens.saturating_add(n_tokens);
        let max_tokens = self.max_tokens.saturating_mul(n_bounds);
        let is_full = state.n_waiting > 0 && n_tokens_after > max_tokens;
        let n_after = state.n_waiting + submissions.len();
        if is_full || submissions.len() > MAX_WAITING || n_after > n_bounds * MAX_WAITING {
            return Err(self.refusal(&state, n_tokens, max_tokens));
        }
        for submission in &submissions {
            self.ensure_in_reach(&state, submission)?;
        }
        state.n_waiting = n_after;
        state.n_tokens = n_tokens_after;
        for mut submission in submissions {
            let own = state.by_client.entry(submission.account()).or_default();
            *own = (own.0 + 1, own.1 + submission.n_tokens());
            submission.listener.arm();
            state.arrived.push(submission);
        }
        self.publish(&state);
        taken();
        self.wake.notify_one();
        Ok(())
    }

    /// Refuses a deadline that is over before the request's turn: a client's requests of a class
    /// have theirs one after the other, whatever share of the engine the client gets.
    fn ensure_in_reach(&self, state: &State, submission: &Submission) -> Result<(), EngineError> {
        let Some(deadline) = submission.request.deadline else { return Ok(()) };
        let left = deadline.saturating_duration_since(Instant::now());
        let own = state.by_client.get(&submission.account());
        let (n_waiting, n_tokens_waiting) = own.copied().unwrap_or_default();
        let speed = self.tokens_per_second();
        let seconds = speed.map_or(0.0, |speed| n_tokens_waiting as f32 / (speed * SPEED_MARGIN));
        let wait = Duration::try_from_secs_f32(seconds).unwrap_or(Duration::MAX);
        if left > wait {
            return Ok(());
        }
        Err(EngineError::DeadlineOutOfReach {
            n_waiting,
            n_tokens_waiting,
            tokens_per_second: speed.unwrap_or(FIRST_TOKENS_PER_SECOND),
            wait,
            left,
        })
    }

    /// How fast the engine worked lately; `None` where nothing was measured yet.
    fn tokens_per_second(&self) -> Option<f32> {
        let speed = f32::from_bits(self.speed.load(Ordering::Relaxed));
        (speed > 0.0).then_some(speed.max(0.01))
    }

    fn refusal(&self, state: &State, n_tokens: usize, max_tokens: usize) -> EngineError {
        let n_over = state.n_tokens.saturating_add(n_tokens).saturating_sub(max_tokens);
        // Full by count: one must go, which is about the mean.
        let n_to_go = n_over.max(state.n_tokens / state.n_waiting.max(1));
        let tokens_per_second = self.tokens_per_second().unwrap_or(FIRST_TOKENS_PER_SECOND);
        let seconds = (n_to_go as f32 / tokens_per_second).min(RETRY_AFTER[1].as_secs_f32());
        EngineError::Overloaded {
            n_waiting: state.n_waiting,
            n_tokens_waiting: state.n_tokens,
            n_tokens,
            max_tokens_waiting: max_tokens,
            tokens_per_second,
            retry_after: Duration::from_secs_f32(seconds.ceil()).max(RETRY_AFTER[0]),
        }
    }

    /// Hands over who arrived since the last call.
    pub(crate) fn take_arrived(&self, into: &mut Vec<Submission>) {
        if self.n_arrived.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut state = self.lock();
        into.append(&mut state.arrived);
        self.publish(&state);
    }

    /// Notes that a request that was handed over waits no longer.
    pub(crate) fn no_longer_waits(&self, submission: &Submission) {
        let mut state = self.lock();
        let n_tokens = submission.n_tokens();
        state.n_waiting -= 1;
        state.n_tokens -= n_tokens;
        if let Entry::Occupied(mut own) = state.by_client.entry(submission.account()) {
            let (n_waiting, n_tokens_waiting) = own.get_mut();
            *n_waiting -= 1;
            *n_tokens_waiting -= n_tokens;
            if *n_waiting == 0 {
                own.remove();
            }
        }
        self.publish(&state);
    }

    /// Waits until a request is there or the engine is closing.
    pub(crate) fn wait(&self) {
        let mut state = self.lock();
        while state.arrived.is_empty() && !self.is_closing() {
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Queue::wait`], for so long at most.
    pub(crate) fn wait_for(&self, timeout: Duration) {
        let state = self.lock();
        if state.arrived.is_empty() && !self.is_closing() {
            // Awake too early costs one look more.
            drop(self.wake.wait_timeout(state, timeout));
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

    /// Takes nothing more from now on, for this reason; returns who had just arrived.
    pub(crate) fn stop(&self, reason: &str) -> Vec<Submission> {
        let mut state = self.lock();
        let arrived = std::mem::take(&mut state.arrived);
        *state = State { stopped: Some(reason.to_string()), ..State::default() };
        self.publish(&state);
        arrived
    }

    /// Whether nothing is taken any more.
    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().stopped.is_some()
    }

    /// Requests waiting for a first seat.
    pub(crate) fn n_waiting(&self) -> usize {
        self.n_waiting.load(Ordering::Acquire)
    }

    /// Tells how fast the engine works, for the advice when to come again.
    pub(crate) fn set_speed(&self, tokens_per_second: f64) {
        self.speed.store((tokens_per_second as f32).to_bits(), Ordering::Relaxed);
    }

    fn publish(&self, state: &State) {
        self.n_arrived.store(state.arrived.len(), Ordering::Release);
        self.n_waiting.store(state.n_waiting, Ordering::Release);
    }

    /// No code that can panic runs under the lock, so a poisoned one is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
