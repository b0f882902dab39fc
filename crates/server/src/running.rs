//! What is at work, and what was lately: who asked, which model, how far. Never any contents.
//!
//! It follows requests to models; how they go is written in `serve`.

use crate::app::Arrival;
use crate::errors::ServerError;
use engine::Handle;
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Notify;

/// Requests that have ended and are still told.
const N_ENDED: usize = 200;

/// All requests to models that have not ended, and the last that have.
#[derive(Default)]
pub(crate) struct Running(Mutex<All>);

#[derive(Default)]
struct All {
    /// In the order in which they came.
    at_work: BTreeMap<u64, Arc<Work>>,
    n_come: u64,
    ended: VecDeque<Ended>,
}

/// One request at work.
pub(crate) struct Work {
    id: String,
    route: String,
    who: String,
    started: Instant,
    at_us: i64,
    model: Mutex<String>,
    n_prompt: AtomicU64,
    n_generated: AtomicU64,
    cancelling: Mutex<Cancelling>,
    /// Told when somebody has it cancelled.
    cancelled: Notify,
}

/// Whether somebody had it cancelled, and what is to be then.
#[derive(Default)]
struct Cancelling {
    is_told: bool,
    handles: Vec<Handle>,
}

/// Its place among those at work, until it is dropped.
pub(crate) struct AtWork {
    running: Arc<Running>,
    number: u64,
    pub(crate) work: Arc<Work>,
}

/// One request as it is told.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Shown {
    id: String,
    route: String,
    model: String,
    /// The name of the key; `owner` or `anyone` without one.
    who: String,
    /// Microseconds since 1970.
    at_us: i64,
    age_ms: u64,
    n_prompt: u64,
    n_generated: u64,
}

/// One that has ended.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Ended {
    #[serde(flatten)]
    request: Shown,
    ttft_ms: Option<u64>,
    outcome: &'static str,
    /// The word of its error, where it ended with one.
    error: Option<&'static str>,
}

impl Running {
    /// Takes a request in.
    pub(crate) fn begin(self: &Arc<Self>, arrival: &Arrival) -> AtWork {
        let work = Arc::new(Work {
            id: arrival.id.clone(),
            route: arrival.route.clone(),
            who: arrival.who.name.clone(),
            started: arrival.started,
            at_us: arrival.at_us,
            model: Mutex::default(),
            n_prompt: AtomicU64::new(0),
            n_generated: AtomicU64::new(0),
            cancelling: Mutex::default(),
            cancelled: Notify::new(),
        });
        let mut all = self.lock();
        all.n_come += 1;
        let number = all.n_come;
        all.at_work.insert(number, Arc::clone(&work));
        AtWork { running: Arc::clone(self), number, work }
    }

    /// Those at work, the oldest first, and those that have ended, the newest first.
    pub(crate) fn shown(&self) -> (Vec<Shown>, Vec<Ended>) {
        let all = self.lock();
        let at_work = all.at_work.values().map(|work| work.shown()).collect();
        (at_work, all.ended.iter().rev().cloned().collect())
    }

    /// Has the requests of this id end. Returns how many.
    pub(crate) fn cancel(&self, id: &str) -> usize {
        let is_meant = |work: &&Arc<Work>| work.id == id;
        let meant: Vec<Arc<Work>> =
            self.lock().at_work.values().filter(is_meant).cloned().collect();
        meant.iter().for_each(|work| work.cancel());
        meant.len()
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    /// The model that answers: another one than before, where that one could not.
    pub(crate) fn model(&self, name: &str) {
        name.clone_into(&mut self.model.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How far it is, in tokens.
    pub(crate) fn progress(&self, n_prompt: u64, n_generated: u64) {
        self.n_prompt.store(n_prompt, Ordering::Relaxed);
        self.n_generated.store(n_generated, Ordering::Relaxed);
    }

    /// What is to be cancelled with it; at once, where that was asked for already.
    pub(crate) fn hold(&self, handles: &[Handle]) {
        let mut cancelling = self.cancelling.lock().unwrap_or_else(PoisonError::into_inner);
        cancelling.handles = handles.to_vec();
        if cancelling.is_told {
            cancelling.handles.iter().for_each(Handle::cancel);
        }
    }

    fn cancel(&self) {
        let mut cancelling = self.cancelling.lock().unwrap_or_else(PoisonError::into_inner);
        cancelling.is_told = true;
        cancelling.handles.iter().for_each(Handle::cancel);
        self.cancelled.notify_waiters();
    }

    /// Waits until somebody has it cancelled.
    pub(crate) async fn cancelled(&self) {
        // Before it is asked, so that no word in between is missed.
        let told = self.cancelled.notified();
        if !self.is_cancelled() {
            told.await;
        }
    }

    /// What `work` comes to, unless this is cancelled before: then `work` is given up.
    ///
    /// # Errors
    /// [`ServerError::Cancelled`]; those of `work`.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, ServerError>>,
    ) -> Result<T, ServerError> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(ServerError::Cancelled),
            done = work => done,
        }
    }

    /// Whether somebody had it cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelling.lock().unwrap_or_else(PoisonError::into_inner).is_told
    }

    fn shown(&self) -> Shown {
        let age = self.started.elapsed();
        Shown {
            id: self.id.clone(),
            route: self.route.clone(),
            model: self.model.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            who: self.who.clone(),
            at_us: self.at_us,
            age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
            n_prompt: self.n_prompt.load(Ordering::Relaxed),
            n_generated: self.n_generated.load(Ordering::Relaxed),
        }
    }
}

impl AtWork {
    /// It has ended so; told from now on among those that have.
    pub(crate) fn ended(
        &self,
        outcome: &'static str,
        error: Option<&'static str>,
        ttft_ms: Option<u64>,
    ) {
        let ended = Ended { request: self.work.shown(), ttft_ms, outcome, error };
        let mut all = self.running.lock();
        all.ended.push_back(ended);
        if all.ended.len() > N_ENDED {
            all.ended.pop_front();
        }
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.running.lock().at_work.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_until_it_ends_and_a_while_behind_that() {
        let running = Arc::<Running>::default();
        let arrival = Arrival::in_process();
        let at_work = running.begin(&arrival);
        at_work.work.model("elsewhere/m");
        at_work.work.model("m");
        at_work.work.progress(3, 2);
        let (shown, ended) = running.shown();
        assert_eq!((shown.len(), ended.len()), (1, 0));
        assert_eq!((&*shown[0].model, shown[0].n_prompt, shown[0].n_generated), ("m", 3, 2));
        for _ in 0..=N_ENDED {
            at_work.ended("done", None, Some(1));
        }
        drop(at_work);
        let (shown, ended) = running.shown();
        assert_eq!((shown.len(), ended.len()), (0, N_ENDED));
    }

    #[tokio::test]
    async fn what_is_cancelled_ends_whatever_it_waits_for() {
        let running = Arc::<Running>::default();
        let arrival = Arrival::in_process();
        let at_work = running.begin(&arrival);
        assert_eq!(running.cancel("another"), 0);
        let done = at_work.work.unless_cancelled(async { Ok(7) }).await;
        assert_eq!(done.unwrap(), 7);
        let never = at_work.work.unless_cancelled(std::future::pending::<Result<(), _>>());
        let (ended, n) = tokio::join!(never, async { running.cancel(&arrival.id) });
        assert!(n == 1 && matches!(ended, Err(ServerError::Cancelled)), "{ended:?}");
        // And at once from then on.
        let late = at_work.work.unless_cancelled(async { Ok(7) }).await;
        assert!(matches!(late, Err(ServerError::Cancelled)), "{late:?}");
    }
}
