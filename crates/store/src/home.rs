//! The store itself: open it, pull, resolve, list, adopt, verify, remove.

use std::path::{Path, PathBuf};

use crate::error::StoreError;
use crate::hash::Sha256;
use crate::installed::Installed;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::source::Source;

/// One folder of models.
#[derive(Debug, Clone)]
pub struct Store {
    home: PathBuf,
    settings: Settings,
}

/// Wishes for one pull.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// The user accepts the licence where one must be accepted; recorded with the date.
    pub accept_licence: bool,
    /// Install under this name instead of the one that follows from the source.
    pub name: Option<String>,
    /// Fail with [`StoreError::Busy`] instead of waiting while another process pulls this model.
    pub no_wait: bool,
    /// Ask the source again even though the model is here (a Hub branch may have moved).
    pub refresh: bool,
}

/// What [`Store::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The model's full name.
    pub name: String,
    /// Each file, in order.
    pub files: Vec<FileReport>,
}

/// One verified file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Where it is.
    pub path: PathBuf,
    /// The pinned hash.
    pub expected: Sha256,
    /// What was found.
    pub state: FileState,
}

/// What became of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileState {
    /// Every byte is as pinned.
    Intact,
    /// The bytes differ; this is their hash.
    Different(Sha256),
    /// The file is gone.
    Missing,
}

/// What [`Store::remove`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The model's full name.
    pub name: String,
    /// Bytes given back.
    pub n_bytes: u64,
    /// Adopted files, which were left where they are.
    pub kept: Vec<PathBuf>,
}

impl VerifyReport {
    /// True when every file is as pinned.
    pub fn is_intact(&self) -> bool {
        self.files.iter().all(|file| file.state == FileState::Intact)
    }

    /// The first difference as an error, for callers that go on only with an intact model.
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`] or [`StoreError::FileMissing`].
    pub fn into_result(self) -> Result<(), StoreError> {
        for file in self.files {
            match file.state {
                FileState::Intact => {}
                FileState::Different(found) => {
                    let FileReport { path, expected, .. } = file;
                    return Err(StoreError::HashMismatch { path, expected, found });
                }
                FileState::Missing => return Err(StoreError::FileMissing { path: file.path }),
            }
        }
        Ok(())
    }
}

impl Store {
    /// `FREEHOLD_HOME`, else `XDG_DATA_HOME/freehold`, else the system's place for a user's data.
    pub fn default_home() -> PathBuf {
        todo!()
    }

    /// Opens the store in `home`, with the environment's [`Settings`]. Creates nothing yet.
    ///
    /// # Errors
    /// [`StoreError::InvalidSetting`].
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        Ok(Self::with_settings(home, Settings::from_env()?))
    }

    /// Opens the store in `home` with settings of the caller's.
    pub fn with_settings(home: &Path, settings: Settings) -> Self {
        Self { home: home.to_owned(), settings }
    }

    /// The folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Fetches a model, verifies it and gives it its place; returns it at once when it is here.
    ///
    /// # Errors
    /// Any [`StoreError`]; what had arrived is kept, and the next pull goes on from there.
    pub fn pull(
        &self,
        source: &Source,
        options: &PullOptions,
        progress: &dyn Progress,
    ) -> Result<Installed, StoreError> {
        let _ = (source, options, progress, &self.settings);
        todo!()
    }

    /// The installed model called `name` or `publisher/name`.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AmbiguousName`], [`StoreError::BadRecord`].
    pub fn resolve(&self, name: &str) -> Result<Installed, StoreError> {
        let _ = name;
        todo!()
    }

    /// All installed models by full name; an unreadable manifest is an `Err` among them.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store's folders cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Installed, StoreError>>, StoreError> {
        todo!()
    }

    /// Adopts an existing GGUF file (all its parts when split) where it is, without copying it.
    ///
    /// # Errors
    /// [`StoreError::BadModel`], [`StoreError::NameTaken`], [`StoreError::InvalidName`].
    pub fn add(
        &self,
        path: &Path,
        name: Option<&str>,
        progress: &dyn Progress,
    ) -> Result<Installed, StoreError> {
        let _ = (path, name, progress);
        todo!()
    }

    /// Removes a model: our own files and the manifest; adopted files stay.
    ///
    /// # Errors
    /// As [`Store::resolve`], and [`StoreError::Busy`].
    pub fn remove(&self, name: &str) -> Result<Removed, StoreError> {
        let _ = name;
        todo!()
    }

    /// Hashes every byte of a model again and says what differs.
    ///
    /// # Errors
    /// As [`Store::resolve`]; a difference is no error but stands in the report.
    pub fn verify(&self, name: &str, progress: &dyn Progress) -> Result<VerifyReport, StoreError> {
        let _ = (name, progress);
        todo!()
    }

    /// What `run` and `serve` call before loading: refuses a model that is not as pinned.
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`], [`StoreError::SizeMismatch`], [`StoreError::FileMissing`].
    pub fn ensure_intact(
        &self,
        model: &Installed,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let _ = (model, progress);
        todo!()
    }

    /// Compares length, times and identity with those of the last verification; reads no content.
    ///
    /// # Errors
    /// [`StoreError::SizeMismatch`], [`StoreError::FileMissing`].
    pub fn quick_check(&self, model: &Installed) -> Result<bool, StoreError> {
        let _ = model;
        todo!()
    }
}
