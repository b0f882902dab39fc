//! What the pool's protocol is made of: the standard library's types, or loom's when the model test
//! takes the same code through every order of events.

#[cfg(all(loom, test))]
pub(super) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Condvar, Mutex},
    thread::{Builder, JoinHandle, Thread, park, yield_now},
};
#[cfg(not(all(loom, test)))]
pub(super) use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Arc, Condvar, Mutex},
    thread::{Builder, JoinHandle, Thread, park, yield_now},
};

use std::time::{Duration, Instant};

/// The standard cell with loom's interface, which sees when an access begins and ends.
#[cfg(not(all(loom, test)))]
pub(super) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(all(loom, test)))]
impl<T> UnsafeCell<T> {
    pub(super) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }
    pub(super) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }
    pub(super) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Time measured from a moment on. To loom, which knows no time, every bound is long past.
pub(super) struct Since(Instant);

impl Since {
    pub(super) fn now() -> Self {
        Self(Instant::now())
    }

    /// Spins a little; `false` once `bound` is over.
    pub(super) fn spin(&self, bound: Duration) -> bool {
        if self.is_over(bound) {
            return false;
        }
        // Few: a pause can take 140 cycles, and what is waited for is noticed after them.
        (0..2).for_each(|_| std::hint::spin_loop());
        true
    }

    pub(super) fn is_over(&self, bound: Duration) -> bool {
        cfg!(all(loom, test)) || self.0.elapsed() >= bound
    }
}
