//! Models held against the owner's lock: which lock counts, and what becomes of what differs.
//!
//! The store knows the file; that a model runs here, with this arithmetic and these defaults, is
//! known here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{NUMERICS_VERSION, Recommended, Sampling};
use gguf::{Gguf, Metadata};
use model::is_encoder;
use server::{Alias, NotAsLocked};
use store::{
    Difference, FileState, History, Installed, InstalledFile, LOCK_FILE, Licence, LockFile,
    LockedModel, Number, Progress, PublisherKey, Running, StoreError, Terms, VerifyReport,
};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locate::{Chosen, Missing};
use crate::progress::Shown;

/// How a lock says where a file came from that somebody had.
pub(crate) const OF_FILE: &str = "file ";

/// What a server has to be told that runs while its lock moves: no command knows where it listens.
pub(crate) const TAKEN_UP: &str = "a server that runs goes by it once it is told, without cutting \
                                   an answer: SIGHUP, `systemctl reload freehold`, or its \
                                   owner's POST /admin/reload";

/// The flags that hold models to a lock.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LockArgs {
    /// Refuse what is not as this lock says (default: ./freehold.lock, where there is one)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Answer with nothing that the lock does not have, and fetch nothing
    #[arg(long)]
    locked: bool,
}

/// What the owner wants of a model that comes in.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SignedArgs {
    /// Take it only with a signature by this public key: minisign's, or one of Ed25519, P-256 or
    /// P-384 for a model.sig of OpenSSF model signing; its text, or a file. `freehold lock` then
    /// keeps to it
    #[arg(long, value_name = "KEY|FILE")]
    signed_by: Option<String>,
}

impl SignedArgs {
    /// By this key, and as `./freehold.lock` says, where there is one.
    ///
    /// # Errors
    /// No public key; a lock that is damaged.
    pub(crate) fn terms(&self) -> anyhow::Result<Terms> {
        let key = self.signed_by.as_deref().map(PublisherKey::find).transpose()?;
        Ok(Terms { lock: read(None)?, signed_by: key })
    }
}

impl LockArgs {
    /// What becomes of a model that is not here.
    pub(crate) fn missing(&self) -> Missing {
        if self.locked { Missing::Fail } else { Missing::Fetch }
    }

    /// The lock that counts; `None` where there is none.
    ///
    /// # Errors
    /// One that is damaged; one that was asked for and is not there.
    pub(crate) fn read(&self, context: &Context) -> anyhow::Result<Option<Arc<Lock>>> {
        let lock = self.find()?;
        match &lock {
            None if self.locked => {
                let message = format!(
                    "--locked: no {LOCK_FILE} is here, expected one, or --lock FILE; \
                     `freehold lock` writes it"
                );
                return Err(Failure::new(Exit::NotFound, message).into());
            }
            None => {}
            Some(lock) => {
                let n_models = lock.file.models.len();
                context.note(&format!("held to {} ({n_models} models)", lock.path.display()));
            }
        }
        Ok(lock.map(Arc::new))
    }

    /// The lock that counts now, where models are held to `old`, which it is where it says the
    /// same.
    ///
    /// # Errors
    /// One that is damaged; none, where there was one.
    pub(crate) fn read_again(&self, old: Option<&Arc<Lock>>) -> anyhow::Result<Option<Arc<Lock>>> {
        match (old, self.find()?) {
            (Some(old), None) => {
                let message = format!(
                    "{}: no such file, and models are held to it: expected it, or a restart",
                    old.path.display()
                );
                Err(Failure::new(Exit::NotFound, message).into())
            }
            (Some(old), Some(new)) if old.file == new.file => Ok(Some(Arc::clone(old))),
            (_, new) => Ok(new.map(Arc::new)),
        }
    }

    fn find(&self) -> anyhow::Result<Option<Lock>> {
        let scope = if self.locked { Scope::Everything } else { Scope::Listed };
        let found = read(self.lock.as_deref())?;
        Ok(found.map(|(path, file)| Lock { path, file, scope }))
    }
}

/// The lock at `path`, or without one `./freehold.lock`, which must be there.
///
/// # Errors
/// One that is damaged or not there.
pub(crate) fn read_some(path: Option<&Path>) -> anyhow::Result<(PathBuf, LockFile)> {
    read(path)?.ok_or_else(|| {
        let message = format!(
            "no {LOCK_FILE} is here, expected one, or --lock FILE; `freehold lock` writes it"
        );
        Failure::new(Exit::NotFound, message).into()
    })
}

/// The lock at `path`, or without one `./freehold.lock`; `None` where that is not there.
///
/// # Errors
/// One that is damaged; a `path` where there is none.
pub(crate) fn read(path: Option<&Path>) -> anyhow::Result<Option<(PathBuf, LockFile)>> {
    let found = path.unwrap_or(Path::new(LOCK_FILE));
    match (LockFile::read(found)?, path) {
        (Some(file), _) => Ok(Some((found.to_owned(), file))),
        (None, None) => Ok(None),
        (None, Some(path)) => {
            let message = format!("{}: no such file, expected a lock", path.display());
            Err(Failure::new(Exit::NotFound, message).into())
        }
    }
}

/// The entry of the lock at `path` that `name` stands for, which may be an alias of it.
///
/// # Errors
/// It has none of that name.
pub(crate) fn entry_of<'a>(
    path: &Path,
    lock: &'a LockFile,
    name: &'a str,
) -> anyhow::Result<(&'a str, &'a LockedModel)> {
    let model = lock.model_of(name).filter(|model| lock.models.contains_key(*model));
    let model = model.ok_or_else(|| {
        let path = path.display();
        let message = format!(
            "{name:?} is not in {path}, expected one of its models or aliases; `freehold lock` \
             adds them"
        );
        Failure::new(Exit::NotFound, message)
    })?;
    Ok((model, &lock.models[model]))
}

/// The lock at `path`, which speaks for what it lists.
///
/// # Errors
/// As [`read`].
pub(crate) fn at(path: &Path) -> anyhow::Result<Option<Arc<Lock>>> {
    let held = |(path, file)| Arc::new(Lock { path, file, scope: Scope::Listed });
    Ok(read(Some(path))?.map(held))
}

/// A lock that models are held to.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    file: LockFile,
    scope: Scope,
}

/// What a lock speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What it lists; the rest is as it is.
    Listed,
    /// Everything: what it does not list is refused.
    Everything,
}

impl Lock {
    /// The lock of `file`, read from `path`, which speaks for what it lists.
    pub(crate) fn of(path: PathBuf, file: LockFile) -> Self {
        Self { path, file, scope: Scope::Listed }
    }

    /// Holds all but the bytes of a model against the lock.
    ///
    /// # Errors
    /// [`StoreError::NotAsLocked`] with all that differs, [`StoreError::NotLocked`]; where the file
    /// cannot be read as a model, what differs in its bytes, else why.
    pub(crate) fn check(&self, chosen: &Chosen, context: &Context) -> anyhow::Result<()> {
        if let Some(installed) = &chosen.installed {
            self.file.check_licence(&chosen.name, &installed.licence.id, &self.path)?;
        }
        let Some(entry) = self.entry(&chosen.name)? else { return Ok(()) };
        let file = match Gguf::open(&chosen.path) {
            Ok(file) => file,
            Err(error) => {
                self.check_bytes(chosen, &Shown::if_slow(context))?;
                return Err(chosen.blame(error));
            }
        };
        let found = match &chosen.installed {
            Some(installed) => observed_as(entry, installed, &file)?,
            None => observed_file(&chosen.path, &file, entry)?,
        };
        self.outcome(&chosen.name, entry.differences(&found)).map_err(Into::into)
    }

    /// Holds every byte of a model against the lock; `false` where it does not list the model.
    ///
    /// # Errors
    /// [`StoreError::NotAsLocked`], or why a file could not be read.
    pub(crate) fn check_bytes(
        &self,
        chosen: &Chosen,
        progress: &dyn Progress,
    ) -> anyhow::Result<bool> {
        let Some(entry) = self.entry(&chosen.name)? else { return Ok(false) };
        self.outcome(&chosen.name, entry.check_bytes(&chosen.files(), progress)?)?;
        Ok(true)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the lock says.
    pub(crate) fn file(&self) -> &LockFile {
        &self.file
    }

    /// Where it is and what it says, for a pull that is to keep to it.
    pub(crate) fn for_pull(&self) -> (PathBuf, LockFile) {
        (self.path.clone(), self.file.clone())
    }

    /// As [`Lock::for_pull`], of a version of `name` that is to be kept as `version`: what the lock
    /// says of `name` and of its aliases counts for that too.
    pub(crate) fn for_version(&self, name: &str, version: &str) -> (PathBuf, LockFile) {
        let (path, mut file) = self.for_pull();
        let word = version.rsplit('/').next().unwrap_or(version);
        for model in file.aliases.values_mut().filter(|model| model.as_str() == name) {
            word.clone_into(model);
        }
        file.aliases.insert(name.to_owned(), word.to_owned());
        (path, file)
    }

    /// Why the installed model `full_name` must stay, where the lock in its file, as it is now, or
    /// its history needs it.
    ///
    /// # Errors
    /// One of them that cannot be read.
    pub(crate) fn needs(&self, full_name: &str) -> Result<Option<String>, StoreError> {
        let Some(file) = LockFile::read(&self.path)? else { return Ok(None) };
        Ok(needed(&self.path, &file)?.remove(full_name))
    }

    /// Whether the lock in its file is another by now, or cannot be read any more.
    pub(crate) fn has_changed(&self) -> bool {
        !LockFile::read(&self.path).is_ok_and(|file| file.as_ref() == Some(&self.file))
    }

    /// Holds an alias against the lock.
    ///
    /// # Errors
    /// [`StoreError::NotAsLocked`], [`StoreError::NotLocked`].
    pub(crate) fn check_alias(&self, alias: &Alias) -> Result<(), StoreError> {
        self.check_name(&alias.name, &alias.model)?;
        match self.file.aliases.contains_key(&alias.name) {
            true => Ok(()),
            false => self.unlisted(format!("alias {}", alias.name)),
        }
    }

    /// Holds the model that answers to a name against the one that the lock has for it: a model of
    /// that name, else that of the alias, else that of the narrowest `NAME*`.
    ///
    /// # Errors
    /// [`StoreError::NotAsLocked`].
    pub(crate) fn check_name(&self, name: &str, model: &str) -> Result<(), StoreError> {
        let own = self.file.models.get_key_value(name).map(|(own, _)| own);
        let expected =
            own.or_else(|| self.file.aliases.get(name)).or_else(|| self.file.wider(name));
        let Some(expected) = expected.filter(|expected| *expected != model) else { return Ok(()) };
        let (expected, found) = (expected.clone(), model.to_owned());
        let item = "the model it stands for".to_owned();
        self.outcome(&format!("alias {name}"), vec![Difference { item, expected, found }])
    }

    /// The aliases that it has, each with its model.
    pub(crate) fn aliases(&self) -> impl Iterator<Item = (&String, &String)> {
        self.file.aliases.iter()
    }

    /// What stands for what the lock says of a model, where it says something.
    pub(crate) fn digest(&self, name: &str) -> Option<String> {
        self.file.models.get(name).map(|entry| entry.digest().to_string())
    }

    fn entry(&self, name: &str) -> Result<Option<&LockedModel>, StoreError> {
        match self.file.models.get(name) {
            Some(entry) => Ok(Some(entry)),
            None => self.unlisted(name.to_owned()).map(|()| None),
        }
    }

    fn unlisted(&self, name: String) -> Result<(), StoreError> {
        match self.scope {
            Scope::Listed => Ok(()),
            Scope::Everything => Err(StoreError::NotLocked { name, lock: self.path.clone() }),
        }
    }

    fn outcome(&self, name: &str, differences: Vec<Difference>) -> Result<(), StoreError> {
        if differences.is_empty() {
            return Ok(());
        }
        let (name, lock) = (name.to_owned(), self.path.clone());
        Err(StoreError::NotAsLocked { name, lock, differences })
    }
}

/// The full names that the last move of each entry of a lock is about, and what needs them.
///
/// # Errors
/// A history that cannot be read.
pub(crate) fn needed(path: &Path, lock: &LockFile) -> Result<BTreeMap<String, String>, StoreError> {
    let history = History::read(path)?;
    let mut needed = BTreeMap::new();
    for (name, entry) in &lock.models {
        let timeline = history.timeline(name, entry);
        if timeline.versions.len() < 2 {
            continue;
        }
        let path = path.display();
        needed.insert(entry.full_name(name), format!("{path} says that {name} is this"));
        let back = timeline.back.and_then(|back| timeline.versions[back].entry.as_ref());
        if let Some(back) = back {
            needed.insert(
                back.full_name(name),
                format!("`freehold rollback {name}` goes back to it by the history of {path}"),
            );
        }
    }
    Ok(needed)
}

/// How a person gets what came from `source` and is to be called `full_name`.
pub(crate) fn remedy(source: &str, full_name: &str) -> String {
    match source.strip_prefix(OF_FILE) {
        Some(file) => format!(
            "put {file} here, and `freehold pull './{file}' --name {full_name}` takes it in"
        ),
        None => format!("`freehold pull '{source}' --name {full_name}` fetches it"),
    }
}

/// Whether an error says that something is not as locked, not that something failed.
pub(crate) fn is_refusal(error: &anyhow::Error) -> bool {
    let is_of_store = matches!(
        error.downcast_ref(),
        Some(
            StoreError::NotAsLocked { .. }
                | StoreError::NotLocked { .. }
                | StoreError::LicenceNotAllowed { .. }
        )
    );
    is_of_store || error.is::<NotAsLocked>()
}

/// What an installed model is; its hashes are those of its manifest.
///
/// # Errors
/// Metadata that is not of its type.
pub(crate) fn observed(installed: &Installed, file: &Gguf) -> Result<LockedModel, StoreError> {
    let defaults = if is_encoder(file) { BTreeMap::new() } else { defaults(file.metadata()) };
    let running = Running { numerics: NUMERICS_VERSION, defaults };
    LockedModel::of(installed, file, &running)
}

/// As [`observed`], to be held against `entry`: the store's name counts where that says one.
///
/// # Errors
/// Metadata that is not of its type.
pub(crate) fn observed_as(
    entry: &LockedModel,
    installed: &Installed,
    file: &Gguf,
) -> Result<LockedModel, StoreError> {
    let mut found = observed(installed, file)?;
    found.installed = entry.installed.as_ref().map(|_| installed.full_name());
    Ok(found)
}

/// In what an installed model whose bytes were just hashed differs from `entry`.
///
/// # Errors
/// Metadata that is not of its type.
pub(crate) fn differences(
    entry: &LockedModel,
    installed: &Installed,
    report: &VerifyReport,
) -> Result<Vec<Difference>, StoreError> {
    let mut found = match Gguf::open(installed.path()) {
        Ok(file) => observed_as(entry, installed, &file)?,
        // Its bytes say enough.
        Err(_) => entry.clone(),
    };
    for (file, hashed) in found.files.iter_mut().zip(&report.files) {
        match hashed.state {
            FileState::Intact => file.sha256 = hashed.expected,
            FileState::Different(sha256) => file.sha256 = sha256,
            FileState::Missing => {}
        }
    }
    Ok(entry.differences(&found))
}

/// What a plain file is that goes by the name of a locked model. Where it came from nobody noted,
/// so only its contents count.
fn observed_file(path: &Path, file: &Gguf, entry: &LockedModel) -> Result<LockedModel, StoreError> {
    let pins = entry.files.iter().map(|file| (file.n_bytes, file.sha256));
    let files = file.files().iter().zip(pins);
    let installed = Installed {
        name: String::new(),
        publisher: entry.publisher.clone(),
        files: files
            .map(|(path, (n_bytes, sha256))| InstalledFile { path: path.clone(), n_bytes, sha256 })
            .collect(),
        source: String::new(),
        revision: entry.revision.clone(),
        licence: Licence { id: entry.licence.clone(), ..Licence::unknown() },
        adopted: true,
        signed_by: None,
        origin: None,
        date: String::new(),
    };
    if installed.files.is_empty() {
        return Err(StoreError::FileMissing { path: path.to_owned() });
    }
    let mut found = observed(&installed, file)?;
    found.source.clone_from(&entry.source);
    found.installed.clone_from(&entry.installed);
    for (found, expected) in found.files.iter_mut().zip(&entry.files) {
        found.name.clone_from(&expected.name);
    }
    Ok(found)
}

/// What requests get that do not say: what the file recommends, else the server's. What is off
/// unless a request asks for it (DRY, mirostat, a bias, a seed) is no default.
fn defaults(metadata: &Metadata) -> BTreeMap<String, Number> {
    let Sampling {
        temperature,
        top_k,
        top_p,
        min_p,
        typical_p,
        xtc_probability,
        xtc_threshold,
        dry: _,
        mirostat: _,
        repetition_penalty,
        presence_penalty,
        frequency_penalty,
        logit_bias: _,
        seed: _,
    } = Recommended::of(metadata).over(&server::default_sampling());
    let defaults = [
        ("temperature", temperature.into()),
        ("top_k", Number::Integer(top_k.into())),
        ("top_p", top_p.into()),
        ("min_p", min_p.into()),
        ("typical_p", typical_p.into()),
        ("xtc_probability", xtc_probability.into()),
        ("xtc_threshold", xtc_threshold.into()),
        ("repetition_penalty", repetition_penalty.into()),
        ("presence_penalty", presence_penalty.into()),
        ("frequency_penalty", frequency_penalty.into()),
    ];
    defaults.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use gguf::write::Writer;

    use super::*;

    #[test]
    fn the_defaults_of_a_model_are_what_its_file_recommends_else_the_servers() {
        let of = |writer: &Writer| {
            let file = Gguf::from_bytes(writer.finish().unwrap()).unwrap();
            defaults(file.metadata())
        };
        let usual = of(&Writer::new());
        assert_eq!(usual["temperature"], Number::from(0.8_f32));
        let mut writer = Writer::new();
        writer.metadata("general.sampling.temp", 0.6_f32);
        let mut expected = usual;
        expected.insert("temperature".to_owned(), Number::from(0.6_f32));
        assert_eq!(of(&writer), expected);
    }
}
