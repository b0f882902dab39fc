//! What is served and not as the lock says, by name, with the reason: for the list of models, and
//! so that nobody makes the server hash a model of gigabytes again and again by asking for it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use engine::{EngineOptions, Opened};
use server::NotAsLocked;

use crate::context::Context;
use crate::locate::Chosen;
use crate::locked;

/// How long a model stays refused whose files look as they did; then its bytes are read again.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Refused models and aliases. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusals(Arc<Mutex<HashMap<String, Refusal>>>);

#[derive(Debug, Clone)]
struct Refusal {
    reason: String,
    files: Vec<Look>,
    since: Instant,
}

/// What a file looks like from outside; `None` of one that is not there.
type Look = Option<(u64, SystemTime)>;

impl Refusals {
    /// The same, to go ways of their own from now on.
    pub(crate) fn apart(&self) -> Self {
        Self(Arc::new(Mutex::new(self.lock().clone())))
    }

    /// Why `name` is refused, if it is.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.lock().get(name).map(|refusal| refusal.reason.clone())
    }

    /// Notes that `name` is refused, whose files are `files`.
    pub(crate) fn note(&self, name: &str, files: &[PathBuf], error: &anyhow::Error) {
        let (reason, files) = (format!("{error:#}"), looks(files));
        let refusal = Refusal { reason, files, since: Instant::now() };
        self.lock().insert(name.to_owned(), refusal);
    }

    /// Notes that `name` is as the lock says.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Holds all but the bytes of a model against its lock, and notes what comes of it.
    ///
    /// # Errors
    /// It is not as the lock says.
    pub(crate) fn check(&self, chosen: &Chosen, context: &Context) -> anyhow::Result<()> {
        let Some(lock) = &chosen.lock else { return Ok(()) };
        match self.noted(chosen, lock.check(chosen, context)) {
            // What else is wrong with it, opening it tells.
            Err(error) if !locked::is_refusal(&error) => Ok(()),
            result => result,
        }
    }

    /// Opens a model, unless it was refused just now and its files still look the same.
    ///
    /// # Errors
    /// As [`Chosen::open`].
    pub(crate) fn open(
        &self,
        chosen: &Chosen,
        context: &Context,
        options: &EngineOptions,
    ) -> anyhow::Result<Opened> {
        if let Some(error) = self.again(chosen) {
            return Err(error);
        }
        self.noted(chosen, chosen.open(context, options))
    }

    /// The refusal of a model that need not be looked at again.
    fn again(&self, chosen: &Chosen) -> Option<anyhow::Error> {
        let now = looks(&chosen.files());
        let refusals = self.lock();
        let refusal = refusals.get(&chosen.name)?;
        let is_same = refusal.since.elapsed() < REMEMBERED && refusal.files == now;
        is_same.then(|| NotAsLocked(refusal.reason.clone()).into())
    }

    fn noted<T>(&self, chosen: &Chosen, result: anyhow::Result<T>) -> anyhow::Result<T> {
        match &result {
            Err(error) if locked::is_refusal(error) => {
                self.note(&chosen.name, &chosen.files(), error);
            }
            // What failed otherwise says nothing of the lock.
            Err(_) => {}
            Ok(_) => drop(self.lock().remove(&chosen.name)),
        }
        result
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn looks(files: &[PathBuf]) -> Vec<Look> {
    let look = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    files.iter().map(look).collect()
}
