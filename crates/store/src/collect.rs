//! What may go: downloads that were given up, files that no manifest names, and, where there is a
//! budget, the models that were used longest ago.
//!
//! [`Store::garbage`] looks and changes nothing; [`Store::collect`] takes the model's claim, looks
//! again and removes. It may be killed at any moment: a model's manifest goes first, so that what
//! is left of it are files that no manifest names, which the next collection finds.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::adopt::CARRIED;
use crate::checked::VERIFIED;
use crate::claim::{Claim, WhenHeld};
use crate::error::StoreError;
use crate::home::{Store, folders_in};
use crate::installed::Installed;
use crate::manifest::{self, MANIFEST};
use crate::name::ModelName;
use crate::platform;
use crate::progress::Silent;
use crate::record::stem_of_temporary;
use crate::staging::Staging;

/// What a collection may take.
#[derive(Debug, Clone, Default)]
pub struct CollectOptions {
    /// A download goes when nothing was added to it for so long, a model when it was not used for
    /// so long.
    pub min_age: Duration,
    /// Bytes that models of the store may take; `None` keeps all of them.
    pub budget_bytes: Option<u64>,
    /// Full names of models that stay whatever the budget.
    pub kept: BTreeSet<String>,
}

/// What [`Store::garbage`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collection {
    /// What may go, in the order in which it would.
    pub garbage: Vec<Garbage>,
    /// Bytes by which the models are over the budget even without what may go.
    pub n_bytes_over: u64,
}

/// One thing that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// What it is.
    pub kind: GarbageKind,
    /// The full name of the model that it is of, or would have been.
    pub name: String,
    /// Where it lies; a folder goes with all that is in it.
    pub paths: Vec<PathBuf>,
    /// Bytes that come back.
    pub n_bytes: u64,
    /// When it was changed or used last.
    pub last_used: SystemTime,
}

/// Kinds of [`Garbage`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GarbageKind {
    /// A download that was given up.
    Download,
    /// Files in a model's folder that its manifest does not name, or that have none.
    Leftover,
    /// An installed model.
    Model,
}

impl Store {
    /// What may go. Changes nothing.
    ///
    /// Adopted models never go, and no file but those that this program makes: `.gguf`, records
    /// that were not finished. A folder whose manifest cannot be read is left alone.
    ///
    /// # Errors
    /// [`StoreError::Io`] where the store's folders cannot be read.
    pub fn garbage(&self, options: &CollectOptions) -> Result<Collection, StoreError> {
        let mut garbage = Vec::new();
        for name in self.staged_names()? {
            garbage.extend(self.given_up(&name, options));
        }
        for name in self.folder_names()? {
            garbage.extend(self.leftovers(&name, options));
        }
        let mut collection = Collection { garbage, n_bytes_over: 0 };
        if let Some(budget_bytes) = options.budget_bytes {
            self.over_budget(budget_bytes, options, &mut collection)?;
        }
        Ok(collection)
    }

    /// Removes `garbage`, if it still may go; returns how many bytes came back.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where another process is at work on it, [`StoreError::Io`].
    pub fn collect(&self, garbage: &Garbage, options: &CollectOptions) -> Result<u64, StoreError> {
        let (publisher, name) = garbage.name.split_once('/').unwrap_or(("", &garbage.name));
        let name = ModelName::new(publisher, name)?;
        let _claim = Claim::take(self.home(), &name, WhenHeld::Fail, &Silent)?;
        // It may have been resumed, used or named since it was found.
        let again = match garbage.kind {
            GarbageKind::Download => self.given_up(&name, options),
            GarbageKind::Leftover => self.leftovers(&name, options),
            GarbageKind::Model => {
                let model = self.installed(&name)?.filter(is_ours);
                model.and_then(|model| self.unused(&model, options))
            }
        };
        let Some(again) = again else { return Ok(0) };
        let folder = self.folder_of(&name);
        if again.kind == GarbageKind::Model {
            remove(&folder.join(MANIFEST))?;
            platform::sync_folder(&folder).map_err(StoreError::io(&folder, "syncing"))?;
        }
        again.paths.iter().try_for_each(|path| remove(path))?;
        // A folder that holds somebody's own files stays.
        let _ = fs::remove_dir(&folder);
        let _ = folder.parent().map(fs::remove_dir);
        Ok(again.n_bytes)
    }

    /// The download of `name`, if nothing was added to it for so long.
    fn given_up(&self, name: &ModelName, options: &CollectOptions) -> Option<Garbage> {
        let folder = Staging::folder_of(self.home(), name);
        let files = files_below(&folder);
        let newest = files.iter().map(|(_, metadata)| changed(metadata)).max();
        let last_used = newest.or_else(|| Some(changed(&fs::metadata(&folder).ok()?)))?;
        let n_bytes = files.iter().map(|(_, metadata)| metadata.len()).sum();
        let (kind, name) = (GarbageKind::Download, name.to_string());
        let paths = vec![folder];
        let garbage = Garbage { kind, name, paths, n_bytes, last_used };
        garbage.is_older_than(options.min_age).then_some(garbage)
    }

    /// The files in the folder of `name` that no manifest names.
    fn leftovers(&self, name: &ModelName, options: &CollectOptions) -> Option<Garbage> {
        let folder = self.folder_of(name);
        let model = manifest::read(&folder, name).ok()?;
        let is_named = |path: &Path| {
            let files = model.iter().flat_map(|model| &model.files);
            files.map(|file| file.path.as_path()).any(|named| named == path)
        };
        let is_waste = |path: &Path| {
            let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_own = file_name.ends_with(".gguf") || stem_of_temporary(file_name).is_some();
            let is_orphan = model.is_none() && file_name == VERIFIED;
            (is_own && !is_named(path)) || is_orphan
        };
        let is_old = |metadata: &Metadata| age(changed(metadata)) >= options.min_age;
        let entries = fs::read_dir(&folder).ok()?.flatten();
        let files: Vec<(PathBuf, Metadata)> = entries
            .filter_map(|entry| Some((entry.path(), fs::symlink_metadata(entry.path()).ok()?)))
            .filter(|(path, metadata)| metadata.is_file() && is_waste(path) && is_old(metadata))
            .collect();
        let last_used = files.iter().map(|(_, metadata)| changed(metadata)).max()?;
        let n_bytes = files.iter().map(|(_, metadata)| metadata.len()).sum();
        let mut paths: Vec<PathBuf> = files.into_iter().map(|(path, _)| path).collect();
        let carried = folder.join(CARRIED);
        if model.is_none() && carried.is_dir() {
            paths.push(carried);
        }
        let (kind, name) = (GarbageKind::Leftover, name.to_string());
        Some(Garbage { kind, name, paths, n_bytes, last_used })
    }

    /// Adds the models that were used longest ago until the rest is within the budget.
    fn over_budget(
        &self,
        budget_bytes: u64,
        options: &CollectOptions,
        collection: &mut Collection,
    ) -> Result<(), StoreError> {
        let models: Vec<Installed> = self.list()?.into_iter().flatten().filter(is_ours).collect();
        let mut n_bytes: u64 = models.iter().map(Installed::n_bytes).sum();
        let is_free = |model: &&Installed| !options.kept.contains(&model.full_name());
        let mut unused: Vec<Garbage> =
            models.iter().filter(is_free).filter_map(|model| self.unused(model, options)).collect();
        unused.sort_by_key(|garbage| garbage.last_used);
        for garbage in unused {
            if n_bytes <= budget_bytes {
                break;
            }
            n_bytes -= garbage.n_bytes;
            collection.garbage.push(garbage);
        }
        collection.n_bytes_over = n_bytes.saturating_sub(budget_bytes);
        Ok(())
    }

    /// A model, if it was not used for so long.
    fn unused(&self, model: &Installed, options: &CollectOptions) -> Option<Garbage> {
        let name = ModelName::new(&model.publisher, &model.name).ok()?;
        let folder = self.folder_of(&name);
        let dates = [MANIFEST, VERIFIED].map(|file| fs::metadata(folder.join(file)).ok());
        let last_used = dates.iter().flatten().map(changed).max()?;
        let files = model.files.iter().map(|file| file.path.clone());
        let garbage = Garbage {
            kind: GarbageKind::Model,
            name: model.full_name(),
            paths: files.chain([folder.join(VERIFIED)]).collect(),
            n_bytes: model.n_bytes(),
            last_used,
        };
        garbage.is_older_than(options.min_age).then_some(garbage)
    }

    /// The names of all folders of models, with or without a manifest.
    fn folder_names(&self) -> Result<Vec<ModelName>, StoreError> {
        let models = self.home().join("models");
        let mut names = Vec::new();
        for publisher in folders_in(&models)? {
            for name in folders_in(&models.join(&publisher))? {
                names.extend(ModelName::new(&publisher, &name));
            }
        }
        names.sort();
        Ok(names)
    }
}

impl Garbage {
    fn is_older_than(&self, min_age: Duration) -> bool {
        age(self.last_used) >= min_age
    }
}

/// Whether a model's files are ours alone, so that removing them gives their bytes back.
fn is_ours(model: &Installed) -> bool {
    !model.adopted && model.origin.is_none()
}

fn changed(metadata: &Metadata) -> SystemTime {
    // A system without dates has nothing that is old.
    metadata.modified().unwrap_or_else(|_| SystemTime::now())
}

/// How long ago `then` was; a date in the future is now.
fn age(then: SystemTime) -> Duration {
    SystemTime::now().duration_since(then).unwrap_or_default()
}

/// Removes a file, or a folder with all that is in it; one that is gone is removed.
fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io(path, "removing")(error))
        }
        _ => Ok(()),
    }
}

/// All files below `folder`; links are not followed.
fn files_below(folder: &Path) -> Vec<(PathBuf, Metadata)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => files.extend(files_below(&entry.path())),
            Ok(metadata) => files.push((entry.path(), metadata)),
            Err(_) => {}
        }
    }
    files
}
