//! Takes a bundle in: first whose it is and whether all of it has a place, then file by file into
//! staging, where each gets its name when its bytes are those that were signed.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::index::{BundleEntry, BundleIndex, BundledModel};
use super::{CASES, ImportOptions, Imported};
use crate::claim::{Claim, WhenHeld};
use crate::error::StoreError;
use crate::hash::hash_file;
use crate::home::{Store, now, open_model};
use crate::installed::Installed;
use crate::name::{ModelName, check_file_name};
use crate::platform;
use crate::progress::{Progress, Silent};
use crate::pull::install;
use crate::record;
use crate::signature::{Acquaintance, acquaintance, believe, remember};
use crate::staging::{Identity, Staging};

/// Room left for records when free space is judged.
const SPARE_BYTES: u64 = 1 << 20;

impl BundleIndex {
    /// Reads a whole bundle and holds every byte of it against its index, and the index against
    /// its signature. Whether the signer is believed is another matter.
    ///
    /// # Errors
    /// [`StoreError::BadBundle`] with the entry at fault.
    pub fn verify(
        bundle: impl Read + Seek,
        path: &Path,
        progress: &dyn Progress,
    ) -> Result<Self, StoreError> {
        let mut archive = Archive::open(bundle, path)?;
        archive.verify_all(progress)?;
        Ok(archive.index().clone())
    }
}

impl Store {
    /// What this store knows of the signer of a bundle.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`].
    pub fn acquaintance(&self, index: &BundleIndex) -> Result<Acquaintance, StoreError> {
        acquaintance(self.home(), &index.signer.name, index.signer.public_key)
    }

    /// Takes in the bundle at `path`. What was taken in before it was killed is not read again.
    ///
    /// # Errors
    /// [`StoreError::BadBundle`], [`StoreError::OtherSigner`], [`StoreError::NoSpace`],
    /// [`StoreError::NameTaken`], [`StoreError::FileInTheWay`]: before anything is written;
    /// a file whose bytes are others is found when they were read, and gets no name.
    pub fn import(
        &self,
        path: &Path,
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Imported, StoreError> {
        let file = File::open(path).map_err(StoreError::io(path, "opening"))?;
        let mut archive = Archive::open(file, path)?;
        archive.check_length()?;
        let index = archive.index().clone();
        let (signer, public) = (&index.signer.name, index.signer.public_key);
        let known = believe(self.home(), signer, public, &options.trust)?;
        let texts = texts(&mut archive, &options.folder)?;
        let mut n_bytes = SPARE_BYTES;
        for model in &index.models {
            n_bytes = n_bytes.saturating_add(self.missing_bytes(&index, model)?);
        }
        if let Some(free_bytes) = platform::free_bytes(self.home()).filter(|free| *free < n_bytes) {
            let (path, needed_bytes) = (self.home().to_owned(), n_bytes);
            let what = "what the bundle has and is not here".to_owned();
            return Err(StoreError::NoSpace { path, what, needed_bytes, free_bytes });
        }
        // Not before: a bundle that is refused changes nothing.
        if known != Acquaintance::Known {
            remember(self.home(), signer, public)?;
        }
        if known == Acquaintance::New {
            progress.note(&format!("{signer} signs with {public}, which is believed from now on"));
        }
        let mut models = Vec::new();
        for model in &index.models {
            models.push(self.take_in(&mut archive, model, progress)?);
        }
        for (path, text) in &texts {
            if !path.exists() {
                record::write_text(path, text)?;
            }
        }
        Ok(Imported { models, files: texts.into_iter().map(|(path, _)| path).collect(), index })
    }

    /// Bytes that a model still needs here; refuses one whose name is taken by another.
    fn missing_bytes(&self, index: &BundleIndex, model: &BundledModel) -> Result<u64, StoreError> {
        let name = ModelName::new(&model.publisher, &model.name)?;
        let entries: Vec<&BundleEntry> = index.files_of(model).map(|(_, entry)| entry).collect();
        if let Some(installed) = self.installed(&name)? {
            return match is_it(&installed, &entries) {
                true => Ok(0),
                false => {
                    let (name, source_installed) = (name.to_string(), installed.source);
                    Err(StoreError::NameTaken { name, source_installed })
                }
            };
        }
        let staged = Staging::folder_of(self.home(), &name);
        let here = match staged.is_dir() {
            true => Staging::open(self.home(), &name)?.n_bytes_here(),
            false => 0,
        };
        let total = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.size));
        Ok(total.saturating_sub(here))
    }

    fn take_in<R: Read + Seek>(
        &self,
        archive: &mut Archive<R>,
        model: &BundledModel,
        progress: &dyn Progress,
    ) -> Result<Installed, StoreError> {
        let name = ModelName::new(&model.publisher, &model.name)?;
        let _claim = Claim::take(self.home(), &name, WhenHeld::Wait, progress)?;
        let index = archive.index().clone();
        let files: Vec<(usize, &BundleEntry)> = index.files_of(model).collect();
        let entries: Vec<&BundleEntry> = files.iter().map(|(_, entry)| *entry).collect();
        if let Some(installed) = self.installed(&name)?.filter(|of| is_it(of, &entries)) {
            self.ensure_intact(&installed, progress)?;
            return Ok(installed);
        }
        let staging = Staging::open(self.home(), &name)?;
        let folder = self.folder_of(&name);
        let mut staged = Vec::new();
        for (entry_idx, entry) in files {
            let file_name = file_name_of(entry)?;
            let identity = Identity {
                what: format!("{} in a bundle of {}", entry.path, index.signer.name),
                sha256: Some(entry.sha256),
                n_bytes: Some(entry.size),
                etag: None,
            };
            progress.start(file_name, Some(entry.size));
            let final_path = folder.join(file_name);
            let file = staging.partial(file_name, identity, Some(&final_path), progress);
            let file = file.and_then(|mut partial| {
                let n_here = partial.n_bytes();
                archive.read(entry_idx, n_here, &mut |bytes| partial.append(bytes))?;
                partial.complete()
            });
            progress.finish();
            staged.push(file?);
        }
        let first = staged.first().map(|file| file.path.clone()).unwrap_or_default();
        if let Err(error) = open_model(&first) {
            staging.discard()?;
            return Err(error);
        }
        let installed = Installed {
            name: name.name().to_owned(),
            publisher: name.publisher().to_owned(),
            files: Vec::new(),
            source: model.source.clone(),
            revision: model.revision.clone(),
            licence: model.licence.clone(),
            adopted: false,
            signed_by: model.signed_by.clone(),
            origin: None,
            date: now(),
        };
        install(installed, staged, &folder, staging)
    }
}

/// Whether an installed model has just these files.
fn is_it(installed: &Installed, entries: &[&BundleEntry]) -> bool {
    let is_same = installed.files.iter().map(|file| file.sha256);
    is_same.eq(entries.iter().map(|entry| entry.sha256))
}

fn file_name_of(entry: &BundleEntry) -> Result<&str, StoreError> {
    let file_name = entry.path.rsplit('/').next().unwrap_or_default();
    check_file_name(file_name).map(|()| file_name)
}

/// The texts of a bundle with the place of each, verified; refuses to write over others.
fn texts<R: Read + Seek>(
    archive: &mut Archive<R>,
    folder: &Path,
) -> Result<Vec<(PathBuf, String)>, StoreError> {
    let mut texts = Vec::new();
    for (entry_idx, entry) in archive.index().entries.clone().into_iter().enumerate() {
        let is_root = !entry.path.contains('/');
        if !is_root && !entry.path.starts_with(CASES) {
            continue;
        }
        let mut bytes = Vec::new();
        archive.verify(entry_idx, &mut |chunk| bytes.extend_from_slice(chunk))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| archive.bad(&entry.path, "this is no UTF-8, expected text".to_owned()))?;
        let path = folder.join(&entry.path);
        let is_there = fs::symlink_metadata(&path).is_ok();
        let is_same = hash_file(&path, &Silent).is_ok_and(|(_, found)| found == entry.sha256);
        if is_there && !is_same {
            return Err(StoreError::FileInTheWay { path });
        }
        texts.push((path, text));
    }
    Ok(texts)
}
