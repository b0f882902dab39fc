//! The settings of a running server that are in effect, with the lock that it is held to: one
//! place, for whoever changes them and whoever goes by them.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Serve;

/// What is in effect, changed as a whole. Cheap to clone.
#[derive(Clone)]
pub(crate) struct InEffect {
    serve: Arc<RwLock<Arc<Serve>>>,
    turn: Arc<Mutex<()>>,
}

impl InEffect {
    /// What a server begins with.
    pub(crate) fn new(serve: Serve) -> Self {
        Self { serve: Arc::new(RwLock::new(Arc::new(serve))), turn: Arc::default() }
    }

    /// It, as it is now.
    pub(crate) fn get(&self) -> Arc<Serve> {
        Arc::clone(&self.serve.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has other settings in effect from now on.
    pub(crate) fn set(&self, serve: Serve) {
        *self.serve.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(serve);
    }

    /// The right to change it, or to serve one more model by it; waits for whoever has it. Never
    /// within a task of the runtime.
    pub(crate) fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).blocking_lock_owned()
    }
}
