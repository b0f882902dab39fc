//! How many pages of an engine may be between it and the disk at once.
//!
//! Each has a slot from before it is copied or read until it is written or taken in, so what they
//! take is known beforehand and counted with the rest of the engine's memory. An engine's slots are
//! its own: one that is slow to take in its pages keeps no other waiting.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Some slots. Clones are the same ones.
#[derive(Clone)]
pub(crate) struct Slots {
    shared: Arc<(Mutex<usize>, Condvar)>,
}

/// One that is taken, until it is dropped.
pub(crate) struct Slot {
    of: Slots,
}

impl Slots {
    pub(crate) fn new(n_slots: usize) -> Self {
        Self { shared: Arc::new((Mutex::new(n_slots), Condvar::new())) }
    }

    /// One that is free now.
    pub(crate) fn try_take(&self) -> Option<Slot> {
        let mut n_free = self.n_free();
        *n_free = n_free.checked_sub(1)?;
        Some(Slot { of: self.clone() })
    }

    /// One that becomes free before `end`.
    pub(crate) fn take_until(&self, end: Instant) -> Option<Slot> {
        let left = end.saturating_duration_since(Instant::now());
        let waited = self.shared.1.wait_timeout_while(self.n_free(), left, |n_free| *n_free == 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        self.try_take()
    }

    fn n_free(&self) -> MutexGuard<'_, usize> {
        // Nothing that can panic runs under the lock.
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.of.n_free() += 1;
        self.of.shared.1.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let slots = Slots::new(2);
        let taken = [slots.try_take().unwrap(), slots.try_take().unwrap()];
        assert!(slots.try_take().is_none());
        assert!(slots.take_until(Instant::now()).is_none());
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| slots.take_until(Instant::now() + Duration::from_secs(60)));
            drop(taken);
            assert!(waits.join().unwrap().is_some());
        });
        let both = (slots.try_take(), slots.try_take());
        assert!(both.0.is_some() && both.1.is_some() && slots.try_take().is_none());
    }
}
