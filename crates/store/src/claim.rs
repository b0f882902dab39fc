//! One claim per model, held while it is pulled, adopted or removed, so that two processes do not
//! change it at once. What a model must be is another matter: [`crate::LockFile`].
//!
//! A claim is a lock of the system's (`flock` and its kin) on a file in `HOME/locks`: it goes away
//! with its holder, also at kill -9. The files stay, because removing one while another process
//! waits on it would let two in.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::error::{CREATING, StoreError};
use crate::name::ModelName;
use crate::progress::Progress;

/// What to do when another process holds the claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenHeld {
    /// Say so and wait.
    Wait,
    /// Fail with [`StoreError::Busy`].
    Fail,
}

/// The right to change one model; given back when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    _file: File,
}

impl Claim {
    /// Takes the claim of `name` in the store at `home`.
    pub(crate) fn take(
        home: &Path,
        name: &ModelName,
        when_held: WhenHeld,
        progress: &dyn Progress,
    ) -> Result<Self, StoreError> {
        let folder = home.join("locks");
        fs::create_dir_all(&folder).map_err(StoreError::io(&folder, CREATING))?;
        let path = folder.join(format!("{}.lock", name.flat()));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StoreError::io(&path, "opening the lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if when_held == WhenHeld::Fail => {
                return Err(StoreError::Busy { name: name.to_string() });
            }
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!("another process is at work on {name}; waiting for it"));
                file.lock().map_err(StoreError::io(&path, "waiting for the lock"))?;
            }
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::io(&path, "taking the lock")(error));
            }
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    #[test]
    fn a_held_lock_is_busy_and_free_again_when_dropped() {
        let home = tempfile::tempdir().unwrap();
        let name = ModelName::new("p", "m").unwrap();
        let take = || Claim::take(home.path(), &name, WhenHeld::Fail, &Silent);
        let held = take().unwrap();
        assert!(matches!(take(), Err(StoreError::Busy { .. })));
        let other = ModelName::new("p", "n").unwrap();
        Claim::take(home.path(), &other, WhenHeld::Fail, &Silent).unwrap();
        drop(held);
        take().unwrap();
    }
}
