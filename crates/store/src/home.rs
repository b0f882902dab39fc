//! The store itself: open it, pull, resolve, list, adopt, verify, remove.

use std::fs;
use std::path::{Path, PathBuf};

use crate::adopt::CARRIED;
use crate::catalogue::Catalogue;
use crate::checked::{VERIFIED, Verified, mark_used};
use crate::claim::{Claim, WhenHeld};
use crate::error::{ErrorKind, StoreError};
use crate::hash::{Sha256, hash_file};
use crate::installed::{Installed, InstalledFile, Licence, Origin};
use crate::manifest::{self, MANIFEST};
use crate::name::{ModelName, check_word, name_of_file};
use crate::platform::{self, Stamp};
use crate::progress::{Progress, Silent};
use crate::pull;
use crate::settings::Settings;
use crate::signers::{Signed, Terms, text_in};
use crate::source::Source;
use crate::staging::Staging;

/// Models up to this size are hashed on every load: with SHA instructions that is less than a
/// quarter of a second (measured: 1.2 GB/s on two busy virtual cores).
const ALWAYS_HASH_BYTES: u64 = 256 << 20;

/// Longest licence id or link taken from a model file, in characters.
const STATED_CHARS_MAX: usize = 200;

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
    /// What the owner wants of its licence and of who signed it.
    pub terms: Terms,
    /// The licence to record, for a model whose file may not state its own; a catalogue entry's
    /// goes before it.
    pub licence: Option<Licence>,
}

/// What [`Store::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyReport {
    /// The model's full name.
    pub name: String,
    /// Each file, in order.
    pub files: Vec<FileReport>,
    /// The other program that has the files too.
    pub origin: Option<Origin>,
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
            let error = match file.state {
                FileState::Intact => continue,
                FileState::Different(found) => {
                    let FileReport { path, expected, .. } = file;
                    StoreError::HashMismatch { path, expected, found }
                }
                FileState::Missing => StoreError::FileMissing { path: file.path },
            };
            return Err(error.about_file_of(self.origin.as_ref()));
        }
        Ok(())
    }
}

impl Store {
    /// `FREEHOLD_HOME`, else `XDG_DATA_HOME/freehold`, else the system's place for a user's data.
    pub fn default_home() -> PathBuf {
        if let Some(home) = std::env::var_os("FREEHOLD_HOME").filter(|home| !home.is_empty()) {
            return PathBuf::from(home);
        }
        let data_home = platform::data_home();
        data_home.map_or_else(|| PathBuf::from(".freehold"), |folder| folder.join("freehold"))
    }

    /// Opens the store in `home`, with the environment's [`Settings`]. Creates nothing yet.
    ///
    /// # Errors
    /// [`StoreError::InvalidSetting`]; [`StoreError::Io`] when the working directory is gone.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        Self::with_settings(home, Settings::from_env()?)
    }

    /// Opens the store in `home` with settings of the caller's.
    ///
    /// # Errors
    /// [`StoreError::Io`] when `home` is relative and the working directory is gone.
    pub fn with_settings(home: &Path, settings: Settings) -> Result<Self, StoreError> {
        // Absolute, so that pip and the manifests of adopted files mean the same folder.
        let home = std::path::absolute(home).map_err(StoreError::io(home, "finding"))?;
        Ok(Self { home, settings })
    }

    /// The folder; absolute.
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
        pull::pull(self, source, options, progress)
    }

    /// The full name under which [`Store::pull`] installs what comes from `source`, where no other
    /// is wished for. Fetches nothing.
    ///
    /// # Errors
    /// [`StoreError::InvalidSource`], [`StoreError::InvalidName`], [`StoreError::UnknownName`].
    pub fn name_of(&self, source: &Source) -> Result<String, StoreError> {
        pull::name_of(source, &PullOptions::default()).map(|name| name.to_string())
    }

    /// The installed model called `name` or `publisher/name`.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AmbiguousName`], [`StoreError::BadRecord`].
    pub fn resolve(&self, name: &str) -> Result<Installed, StoreError> {
        let full_name = self.full_name_of(name)?;
        self.installed(&full_name)?.ok_or_else(|| unknown(name))
    }

    /// The full name of what [`Store::remove`] would remove for `name`: an installed model, or a
    /// download that was given up.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`], [`StoreError::AmbiguousName`], [`StoreError::InvalidName`].
    pub fn find(&self, name: &str) -> Result<String, StoreError> {
        Ok(self.full_name_of(name)?.to_string())
    }

    /// All installed models by full name; an unreadable manifest is an `Err` among them.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the store's folders cannot be read.
    pub fn list(&self) -> Result<Vec<Result<Installed, StoreError>>, StoreError> {
        let names = self.names()?;
        Ok(names.iter().filter_map(|name| self.installed(name).transpose()).collect())
    }

    /// Adopts an existing GGUF file (all its parts when split) where it is, without copying it.
    ///
    /// Adopting the same file again takes its present content as the pinned one. Signatures that
    /// `terms` want must lie beside it.
    ///
    /// # Errors
    /// [`StoreError::BadModel`], [`StoreError::NameTaken`], [`StoreError::InvalidName`],
    /// [`StoreError::LicenceNotAllowed`], [`StoreError::NotSigned`].
    pub fn add(
        &self,
        path: &Path,
        name: Option<&str>,
        terms: &Terms,
        progress: &dyn Progress,
    ) -> Result<Installed, StoreError> {
        let path = fs::canonicalize(path).map_err(StoreError::io(path, "opening"))?;
        let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let full_name = named(name, "local", || name_of_file(file_name))?;
        let opened = open_model(&path)?;
        let source = path.display().to_string();
        let _claim = Claim::take(&self.home, &full_name, WhenHeld::Wait, progress)?;
        if let Some(other) = self.installed(&full_name)?.filter(|other| other.source != source) {
            let (name, source_installed) = (full_name.to_string(), other.source);
            return Err(StoreError::NameTaken { name, source_installed });
        }
        let licence = licence_of(&opened);
        terms.check_licence(full_name.name(), &licence.id)?;
        let (mut files, mut stamps) = (Vec::new(), Vec::new());
        let mut verified = Verified::default();
        for part in opened.files() {
            let part = fs::canonicalize(part).map_err(StoreError::io(part, "opening"))?;
            let (stamp, n_bytes, sha256) = hash_stamped(&part, progress)?;
            let file = InstalledFile { path: part, n_bytes, sha256 };
            verified.remember(&file, stamp);
            files.push(file);
            stamps.push(stamp);
        }
        let hashed = files.iter().zip(stamps).map(|(of, stamp)| (&*of.path, stamp, of.sha256));
        let signed_by = check_signed(terms, &full_name, &hashed.collect::<Vec<_>>(), progress)?;
        let installed = Installed {
            name: full_name.name().to_owned(),
            publisher: full_name.publisher().to_owned(),
            files,
            source,
            revision: None,
            licence,
            adopted: true,
            signed_by,
            origin: None,
            date: now(),
        };
        let folder = self.folder_of(&full_name);
        manifest::write(&folder, &installed)?;
        verified.write(&folder);
        Ok(installed)
    }

    /// Removes a model: our own files and the manifest; adopted files stay. A download that was
    /// given up is removed by the same name.
    ///
    /// # Errors
    /// As [`Store::resolve`], and [`StoreError::Busy`].
    pub fn remove(&self, name: &str) -> Result<Removed, StoreError> {
        let full_name = self.full_name_of(name)?;
        let _claim = Claim::take(&self.home, &full_name, WhenHeld::Fail, &Silent)?;
        let mut removed = Removed { name: full_name.to_string(), n_bytes: 0, kept: Vec::new() };
        let staged = Staging::folder_of(&self.home, &full_name);
        if staged.is_dir() {
            let staging = Staging::open(&self.home, &full_name)?;
            removed.n_bytes += staging.n_bytes_here();
            staging.discard()?;
        }
        let Some(model) = self.installed(&full_name)? else { return Ok(removed) };
        let folder = self.folder_of(&full_name);
        if model.adopted {
            removed.kept = model.files.into_iter().map(|file| file.path).collect();
        } else {
            // The bytes of a hard link are another program's too: nothing is given back.
            removed.kept = model.origin.iter().map(|origin| origin.path.clone()).collect();
            for file in &model.files {
                match fs::remove_file(&file.path) {
                    Ok(()) if model.origin.is_some() => {}
                    Ok(()) => removed.n_bytes += file.n_bytes,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::io(&file.path, "removing")(error)),
                }
            }
        }
        // The manifest goes last: a removal that was cut off can be repeated by name.
        let _ = fs::remove_file(folder.join(VERIFIED));
        let _ = fs::remove_dir_all(folder.join(CARRIED));
        let path = folder.join(MANIFEST);
        fs::remove_file(&path).map_err(StoreError::io(&path, "removing"))?;
        // A folder that holds somebody's own files stays.
        let _ = fs::remove_dir(&folder);
        let _ = folder.parent().map(fs::remove_dir);
        Ok(removed)
    }

    /// Hashes every byte of a model again and says what differs.
    ///
    /// # Errors
    /// As [`Store::resolve`]; a difference is no error but stands in the report.
    pub fn verify(&self, name: &str, progress: &dyn Progress) -> Result<VerifyReport, StoreError> {
        let model = self.resolve(name)?;
        let folder = self.folder_of(&ModelName::new(&model.publisher, &model.name)?);
        let mut verified = Verified::read(&folder);
        let mut files = Vec::new();
        for file in &model.files {
            files.push(check_file(file, &mut verified, progress)?);
        }
        verified.write(&folder);
        Ok(VerifyReport { name: model.full_name(), files, origin: model.origin })
    }

    /// Notes that a model is used now, which is what [`Store::garbage`] goes by. Cheap, and no
    /// failure where the store cannot be written to.
    pub fn mark_used(&self, model: &Installed) {
        if let Ok(name) = ModelName::new(&model.publisher, &model.name) {
            mark_used(&self.folder_of(&name));
        }
    }

    /// What `run` and `serve` call while they load, and heed before the first answer: refuses a
    /// model that is not as pinned.
    ///
    /// A model of up to 256 MiB is hashed every time, which takes a quarter of a second where the
    /// processor has SHA instructions. A larger one is hashed when [`Store::quick_check`] cannot
    /// vouch for it: after any write to its files, and on the first load after a pull.
    ///
    /// # Errors
    /// [`StoreError::HashMismatch`], [`StoreError::SizeMismatch`], [`StoreError::FileMissing`].
    pub fn ensure_intact(
        &self,
        model: &Installed,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let is_known = self.quick_check(model)?;
        if is_known && model.n_bytes() > ALWAYS_HASH_BYTES {
            return Ok(());
        }
        let folder = self.folder_of(&ModelName::new(&model.publisher, &model.name)?);
        let mut verified = Verified::read(&folder);
        let mut files = Vec::new();
        for file in &model.files {
            files.push(check_file(file, &mut verified, progress)?);
        }
        let origin = model.origin.clone();
        let result = VerifyReport { name: model.full_name(), files, origin }.into_result();
        // What is found as it was known needs no new record, which would wait for the disk.
        if !(is_known && result.is_ok()) {
            verified.write(&folder);
        }
        result
    }

    /// Compares length, times and identity of each file with those at its last verification and
    /// reads no content: `true` when nothing was written since, as far as the file system tells.
    ///
    /// It finds every write through this system, also one that sets the old date again. It cannot
    /// find bytes that changed beneath the file system; `false` means only that hashing is needed.
    ///
    /// # Errors
    /// [`StoreError::SizeMismatch`], [`StoreError::FileMissing`].
    pub fn quick_check(&self, model: &Installed) -> Result<bool, StoreError> {
        let folder = self.folder_of(&ModelName::new(&model.publisher, &model.name)?);
        let verified = Verified::read(&folder);
        let mut is_unchanged = true;
        for file in &model.files {
            let path = file.path.clone();
            match fs::metadata(&path) {
                Ok(metadata) if metadata.len() == file.n_bytes => {}
                Ok(metadata) => {
                    let (expected, found) = (file.n_bytes, metadata.len());
                    let error = StoreError::SizeMismatch { path, expected, found };
                    return Err(error.about_file_of(model.origin.as_ref()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let error = StoreError::FileMissing { path };
                    return Err(error.about_file_of(model.origin.as_ref()));
                }
                Err(error) => return Err(StoreError::io(&path, "reading")(error)),
            }
            is_unchanged &= verified.is_unchanged(file);
        }
        Ok(is_unchanged)
    }

    /// The folder of a model.
    pub(crate) fn folder_of(&self, name: &ModelName) -> PathBuf {
        self.home.join("models").join(name.publisher()).join(name.name())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The model of exactly this name, if it is installed.
    pub(crate) fn installed(&self, name: &ModelName) -> Result<Option<Installed>, StoreError> {
        manifest::read(&self.folder_of(name), name)
    }

    /// The full name of what `name` or `publisher/name` means among installed and staged models.
    ///
    /// Case does not matter: on some systems two names that differ in it are one folder.
    fn full_name_of(&self, name: &str) -> Result<ModelName, StoreError> {
        let is_meant = |full: &ModelName| {
            full.name().eq_ignore_ascii_case(name) || full.to_string().eq_ignore_ascii_case(name)
        };
        // Refused before anything is looked up: what could never be a name.
        match name.split_once('/') {
            Some((publisher, word)) => drop(ModelName::new(publisher, word)?),
            None => check_word("model name", name)?,
        }
        let mut found = self.names()?;
        found.retain(is_meant);
        if found.is_empty() {
            found = self.staged_names()?;
            found.retain(is_meant);
        }
        // The full name itself goes before one that differs in case.
        if let Some(exact) = found.iter().find(|full| full.to_string() == name) {
            return Ok(exact.clone());
        }
        match <[ModelName; 1]>::try_from(found) {
            Ok([full_name]) => Ok(full_name),
            Err(none) if none.is_empty() => Err(unknown(name)),
            Err(several) => Err(StoreError::AmbiguousName {
                name: name.to_owned(),
                candidates: several.iter().map(ModelName::to_string).collect(),
            }),
        }
    }

    /// The names of all folders with a manifest, sorted.
    fn names(&self) -> Result<Vec<ModelName>, StoreError> {
        let models = self.home.join("models");
        let mut names = Vec::new();
        for publisher in folders_in(&models)? {
            for name in folders_in(&models.join(&publisher))? {
                let has_manifest = models.join(&publisher).join(&name).join(MANIFEST).is_file();
                // A folder of another name is not ours.
                if let Ok(name) = ModelName::new(&publisher, &name)
                    && has_manifest
                {
                    names.push(name);
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// The names of downloads that are under way or were given up.
    pub(crate) fn staged_names(&self) -> Result<Vec<ModelName>, StoreError> {
        let flat_names = folders_in(&self.home.join("staging"))?;
        let parse = |flat: &String| {
            let (publisher, name) = flat.split_once("--")?;
            ModelName::new(publisher, name).ok()
        };
        Ok(flat_names.iter().filter_map(parse).collect())
    }
}

/// The full name that a user's wish or else the source gives.
pub(crate) fn named(
    wish: Option<&str>,
    publisher: &str,
    name: impl FnOnce() -> Result<String, StoreError>,
) -> Result<ModelName, StoreError> {
    match wish.map(|wish| wish.split_once('/').unwrap_or((publisher, wish))) {
        Some((publisher, name)) => ModelName::new(publisher, name),
        None => ModelName::new(publisher, &name()?),
    }
}

/// Opens a GGUF file to see that it is one.
pub(crate) fn open_model(path: &Path) -> Result<gguf::Gguf, StoreError> {
    gguf::Gguf::open(path).map_err(|mut source| {
        // The place says which file it is; another part of a split model keeps its own name.
        if let gguf::Error::Malformed { file, .. } | gguf::Error::UnknownTensorType { file, .. } =
            &mut source
            && file.as_deref() == Some(path)
        {
            *file = None;
        }
        StoreError::BadModel { place: path.display().to_string(), source }
    })
}

/// The licence as the model file states it; otherwise unknown.
pub(crate) fn licence_of(model: &gguf::Gguf) -> Licence {
    let stated = |key: &str| {
        let text = model.metadata().str(key).ok().flatten()?;
        // The file may say anything; a manifest and a terminal get one plain line of it.
        let line: String =
            text.chars().filter(|c| !c.is_control()).take(STATED_CHARS_MAX).collect();
        Some(line.trim().to_owned()).filter(|line| !line.is_empty())
    };
    match stated("general.license") {
        Some(id) => Licence { id, url: stated("general.license.link"), ..Licence::unknown() },
        None => Licence::unknown(),
    }
}

/// The key that signed the files that were `hashed`, each with what it looked like then, where
/// `terms` want one. Signatures lie beside the files.
pub(crate) fn check_signed(
    terms: &Terms,
    name: &ModelName,
    hashed: &[(&Path, Stamp, Sha256)],
    progress: &dyn Progress,
) -> Result<Option<String>, StoreError> {
    let Some(wanted) = terms.wanted(name.name())? else { return Ok(None) };
    let names = hashed.iter().map(|(path, ..)| path.file_name().unwrap_or_default());
    let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
    let signed = hashed.iter().zip(&names);
    let signed = signed.map(|((path, _, sha256), name)| Signed { name, path, sha256: *sha256 });
    let signed: Vec<Signed<'_>> = signed.collect();
    let folder = hashed.first().and_then(|(path, ..)| path.parent()).unwrap_or(Path::new(""));
    let key = wanted.check(&signed, &mut |name| text_in(folder, name), progress)?;
    // What was hashed may else be another file than the one whose signature counts.
    let is_same = |(path, stamp, _): &(&Path, Stamp, Sha256)| {
        fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata) == *stamp)
    };
    match hashed.iter().all(is_same) {
        true => Ok(Some(key.to_string())),
        false => Err(StoreError::Changed { name: name.to_string() }),
    }
}

/// This moment as RFC 3339 in UTC, whole seconds.
pub fn now() -> String {
    let seconds = jiff::Timestamp::now().as_second();
    jiff::Timestamp::from_second(seconds).map_or_else(|_| String::new(), |now| now.to_string())
}

/// Hashes one installed file and says whether it is as pinned.
fn check_file(
    file: &InstalledFile,
    verified: &mut Verified,
    progress: &dyn Progress,
) -> Result<FileReport, StoreError> {
    let (path, expected) = (file.path.clone(), file.sha256);
    let state = match hash_stamped(&path, progress) {
        Ok((stamp, _, found)) if found == expected => {
            verified.remember(file, stamp);
            FileState::Intact
        }
        Ok((_, _, found)) => FileState::Different(found),
        Err(error) if error.kind() == ErrorKind::NotFound => FileState::Missing,
        Err(error) => return Err(error),
    };
    if state != FileState::Intact {
        verified.forget(file);
    }
    Ok(FileReport { path, expected, state })
}

/// The stamp of a file taken before its hashing, its length and its hash.
pub(crate) fn hash_stamped(
    path: &Path,
    progress: &dyn Progress,
) -> Result<(Stamp, u64, Sha256), StoreError> {
    let metadata = fs::metadata(path).map_err(StoreError::io(path, "reading"))?;
    let what = path.file_name().unwrap_or_default().to_string_lossy();
    progress.start(&format!("verifying {what}"), Some(metadata.len()));
    let hashed = hash_file(path, progress);
    progress.finish();
    let (n_bytes, sha256) = hashed?;
    Ok((Stamp::of(&metadata), n_bytes, sha256))
}

fn unknown(name: &str) -> StoreError {
    let catalogue = Catalogue::builtin();
    let hint = match catalogue.find(name) {
        Some(entry) => format!("it is not here yet; run `freehold pull {}`", entry.name),
        None => {
            format!("it is not installed, and the catalogue has {}", catalogue.names().join(", "))
        }
    };
    StoreError::UnknownName { name: name.to_owned(), hint }
}

/// The names of the folders in `folder`; none when it does not exist.
pub(crate) fn folders_in(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::io(folder, "reading")(error)),
    };
    let is_folder = |entry: &fs::DirEntry| entry.path().is_dir();
    Ok(entries
        .flatten()
        .filter(is_folder)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_full_name_goes_before_one_that_differs_in_case() {
        let home = tempfile::tempdir().unwrap();
        for name in ["own", "Own"] {
            let folder = home.path().join("models/local").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(MANIFEST), "").unwrap();
        }
        let store = Store::open(home.path()).unwrap();
        for name in ["local/own", "local/Own"] {
            assert_eq!(store.find(name).unwrap(), name);
        }
        for name in ["own", "Own", "local/OWN"] {
            let error = store.find(name).unwrap_err();
            assert!(matches!(error, StoreError::AmbiguousName { .. }), "{name}: {error}");
        }
    }
}
