//! Models opened as the owner's lock says they are, or not at all: for who embeds an engine. How a
//! model opens, and what an engine is, the caller knows.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::{fs, io, thread};

use gguf::Gguf;

use super::{Difference, LockFile, LockedModel, Running};
use crate::error::StoreError;
use crate::home::Store;
use crate::installed::Installed;
use crate::platform::Stamp;
use crate::progress::Silent;

/// A lock, and where it lies.
#[derive(Debug, Clone, PartialEq)]
pub struct Lock {
    path: PathBuf,
    file: LockFile,
}

impl Lock {
    /// Reads the lock at `path`.
    ///
    /// # Errors
    /// [`StoreError::BadLock`] with line and column; [`StoreError::Io`], also where there is none.
    pub fn read(path: &Path) -> Result<Self, StoreError> {
        let none = || StoreError::io(path, "opening")(io::ErrorKind::NotFound.into());
        let file = LockFile::read(path)?.ok_or_else(none)?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// What it says.
    pub fn file(&self) -> &LockFile {
        &self.file
    }

    /// Has `open` open the model of this name, as `store` has it and the lock says it is, in a
    /// program whose arithmetic has the version `numerics`.
    ///
    /// All but the bytes is compared first; every byte is hashed while `open` runs, which gets the
    /// path of the first file. The lock's defaults are those of the server's requests and not
    /// looked at: who embeds an engine says in each request what it wants.
    ///
    /// # Errors
    /// [`StoreError::NotAsLocked`] with all that differs, each with its item, what was expected and
    /// what was found; [`StoreError::NotLocked`] where the lock does not list it;
    /// [`StoreError::LicenceNotAllowed`];
    /// [`StoreError::UnknownName`] where it is not installed. Else what `open` says.
    pub fn open<T, E: From<StoreError>>(
        &self,
        store: &Store,
        name: &str,
        numerics: u32,
        open: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<T, E> {
        let entry = self.file.models.get(name).ok_or_else(|| StoreError::NotLocked {
            name: name.to_owned(),
            lock: self.path.clone(),
        })?;
        let installed = self.file.resolve(store, name)?;
        self.file.check_licence(name, &installed.licence.id, &self.path)?;
        let files = mapped(&installed);
        let check_bytes = || self.outcome(name, entry.check_bytes(&files, &Silent)?);
        match Gguf::open(installed.path()) {
            Ok(file) => self.outcome(name, differences(entry, &installed, &file, numerics)?)?,
            Err(source) => {
                // Bytes that differ say more.
                check_bytes()?;
                let place = installed.path().display().to_string();
                return Err(StoreError::BadModel { place, source }.into());
            }
        }
        let before = stamps(&files);
        let opened = beside(check_bytes, || open(installed.path()))?;
        // What was hashed may else be another file than the one that is mapped.
        if stamps(&files) != before {
            return Err(StoreError::Changed { name: name.to_owned() }.into());
        }
        Ok(opened)
    }

    fn outcome(&self, name: &str, differences: Vec<Difference>) -> Result<(), StoreError> {
        if differences.is_empty() {
            return Ok(());
        }
        let (name, lock) = (name.to_owned(), self.path.clone());
        Err(StoreError::NotAsLocked { name, lock, differences })
    }
}

fn differences(
    entry: &LockedModel,
    installed: &Installed,
    file: &Gguf,
    numerics: u32,
) -> Result<Vec<Difference>, StoreError> {
    let running = Running { numerics, defaults: entry.defaults.clone() };
    let mut found = LockedModel::of(installed, file, &running)?;
    // The store's name counts where the lock says one.
    found.installed = entry.installed.as_ref().map(|_| installed.full_name());
    Ok(entry.differences(&found))
}

/// The files that are mapped: of a split model the siblings by name, whatever a manifest says.
fn mapped(installed: &Installed) -> Vec<PathBuf> {
    match Gguf::open(installed.path()) {
        Ok(file) => file.files().to_vec(),
        Err(_) => installed.files.iter().map(|file| file.path.clone()).collect(),
    }
}

/// What files look like from outside; `None` of one that is not there.
pub fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| Some(Stamp::of(&fs::metadata(path).ok()?));
    files.iter().map(stamp).collect()
}

/// What `open` gives, where `check`, which runs beside it in a thread, finds nothing wrong: hashing
/// keeps one core busy as long as half the loading.
///
/// # Errors
/// What `check` says, whatever `open` does; else as `open`.
pub fn beside<T, C: Send, E: From<C>>(
    check: impl Fn() -> Result<(), C> + Sync,
    open: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    thread::scope(|scope| {
        match thread::Builder::new().name("hash".to_owned()).spawn_scoped(scope, &check) {
            Ok(check) => {
                let opened = open();
                check.join().unwrap_or_else(|panic| resume_unwind(panic))?;
                opened
            }
            // A system short of threads gets both one after the other.
            Err(_) => {
                check()?;
                open()
            }
        }
    })
}
