//! One set of cores for several models, which take turns at them step by step.
//!
//! Each model has threads of its own for as many cores as there are. Two that computed at once
//! would wait for each other's threads inside every product, and both be slower than half as fast.
//! So a step waits for its [`Turn`]; whose that is, [`Rota`] decides. A turn is of one pass: it
//! ends before its tokens are sampled and sent, which the next model's pass has not to wait for,
//! and by a panic too. Models whose threads fit on the cores together have turns at once.
//!
//! Opening a model takes no turn: it reads from the disk as much as it computes.
//!
//! Turns choose when a token comes, never which.

use crate::host;
use crate::request::Priority;
use crate::rota::{Answer, Rota};
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Cores that several models share. Cheap to clone.
#[derive(Clone)]
pub struct Cores {
    inner: Arc<Inner>,
}

struct Inner {
    rota: Mutex<Rota>,
    /// Woken when somebody who waits may be next.
    changed: Condvar,
    n_cores: usize,
}

impl Cores {
    /// So many cores. A model whose threads are more takes all of them.
    pub fn new(n_cores: usize) -> Self {
        let (rota, changed) = (Mutex::new(Rota::new(n_cores)), Condvar::new());
        Self { inner: Arc::new(Inner { rota, changed, n_cores }) }
    }

    /// Whether some model waits for its turn.
    #[cfg(test)]
    pub(crate) fn has_waiting(&self) -> bool {
        self.inner.lock().has_waiting()
    }

    /// A place among the models for one that computes with so many threads.
    pub(crate) fn join(&self, n_threads: usize) -> Member {
        let id = self.inner.lock().join(n_threads);
        Member { shared: Some((Arc::clone(&self.inner), id)) }
    }
}

impl Default for Cores {
    /// Those that this process may use.
    fn default() -> Self {
        Self::new(host::n_cores())
    }
}

impl fmt::Debug for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cores").field("n_cores", &self.inner.n_cores).finish_non_exhaustive()
    }
}

impl Inner {
    /// No code that can panic half-way runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Rota> {
        self.rota.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One model's place among those that share cores. It is given up when it is dropped.
pub(crate) struct Member {
    /// `None` where it shares them with nobody.
    shared: Option<(Arc<Inner>, usize)>,
}

impl Member {
    /// A model that has its cores to itself.
    pub(crate) fn alone() -> Self {
        Self { shared: None }
    }

    /// Waits for a turn for a step of this priority; one at a time. `None` once it is retired.
    pub(crate) fn take(self: &Arc<Self>, priority: Priority) -> Option<Turn> {
        let turn = |has_waited| Turn { member: Arc::clone(self), has_waited };
        let Some((inner, id)) = &self.shared else { return Some(turn(false)) };
        let mut rota = inner.lock();
        if rota.claim(*id, priority) {
            inner.changed.notify_all();
        }
        let mut has_waited = false;
        loop {
            let now = Instant::now();
            let until = match rota.ask(*id, now) {
                Answer::Begin => {
                    // There may be cores for one more.
                    if rota.has_free() && rota.has_waiting() {
                        inner.changed.notify_all();
                    }
                    return Some(turn(has_waited));
                }
                Answer::Never => return None,
                Answer::Wait(until) => until,
            };
            has_waited = true;
            rota = match until {
                None => inner.changed.wait(rota).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let timeout = until.saturating_duration_since(now);
                    let waited = inner.changed.wait_timeout(rota, timeout);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }

    /// Tells that an interactive request has come to the model: before the model can take it, or
    /// this would be about a later turn.
    pub(crate) fn raise(&self) {
        self.tell(Rota::raise);
    }

    /// Tells that the model is about to look at who has come.
    pub(crate) fn lower(&self) {
        self.tell(Rota::lower);
    }

    /// Tells that the model has no work: nobody need wait for its next step.
    pub(crate) fn rest(&self) {
        self.tell(Rota::rest);
    }

    /// Ends all waiting for turns, for good.
    pub(crate) fn retire(&self) {
        self.tell(Rota::retire);
    }

    /// Changes something, and wakes those who wait, whose turn it may be by that.
    fn tell(&self, change: impl FnOnce(&mut Rota, usize)) {
        let Some((inner, id)) = &self.shared else { return };
        let mut rota = inner.lock();
        // Asking is cheaper than waking nobody.
        let has_waiting = rota.has_waiting();
        change(&mut rota, *id);
        drop(rota);
        if has_waiting {
            inner.changed.notify_all();
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.tell(|rota, id| rota.leave(id, Instant::now()));
    }
}

/// A model's turn at the cores, to be dropped when its pass is over.
pub(crate) struct Turn {
    member: Arc<Member>,
    /// Whether it did not begin at once.
    pub(crate) has_waited: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.member.tell(|rota, id| rota.end(id, Instant::now()));
    }
}

#[cfg(test)]
#[path = "cores_tests.rs"]
mod tests;
