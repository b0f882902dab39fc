//! Which model is meant: a name of the store, a name of the catalogue, or a file.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::{Embedder, Engine, EngineError, EngineOptions, Opened, Task};
use gguf::Gguf;
use store::{
    Catalogue, Entry, Installed, Progress as _, PullOptions, Source, Store, StoreError, Terms,
};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::locked::{self, Lock};
use crate::numbers;
use crate::progress::Shown;
use crate::terminal;

/// What to do about a catalogue model that is not here yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// Fetch it.
    Fetch,
    /// Say so.
    Fail,
}

/// The model that is meant.
#[derive(Clone)]
pub(crate) struct Chosen {
    /// What to call it.
    pub(crate) name: String,
    /// The file to open; of a split model the first.
    pub(crate) path: PathBuf,
    /// What the store knows of it; `None` for a plain file.
    pub(crate) installed: Option<Installed>,
    /// What the owner says that it is.
    pub(crate) lock: Option<Arc<Lock>>,
}

impl Chosen {
    /// A model of the store.
    pub(crate) fn installed(model: Installed) -> Self {
        let path = model.path().to_owned();
        Self { name: model.name.clone(), path, installed: Some(model), lock: None }
    }

    /// A model of the store under the name by which the lock lists it; `None` where that name
    /// stands for another version of it.
    pub(crate) fn listed(model: Installed, lock: Option<&Arc<Lock>>) -> Option<Self> {
        let name = match lock {
            Some(lock) => lock.file().name_of(&model)?.to_owned(),
            None => model.name.clone(),
        };
        Some(Self { name, ..Self::installed(model) }.held_to(lock))
    }

    fn file(path: &Path) -> Self {
        let stem = path.file_stem().unwrap_or(path.as_os_str());
        let name = stem.to_string_lossy().into_owned();
        Self { name, path: path.to_owned(), installed: None, lock: None }
    }

    /// The model, which opens only as what `lock` says.
    pub(crate) fn held_to(self, lock: Option<&Arc<Lock>>) -> Self {
        Self { lock: lock.cloned(), ..self }
    }
}

impl Chosen {
    /// Opens the model as what it is while its bytes are held against their pin: hashing keeps one
    /// core busy as long as half the loading. Only a model of the promised bytes is given out.
    /// Where it is held to a lock, all else that the lock says comes first, and every byte is
    /// hashed.
    ///
    /// # Errors
    /// A file that differs from its pin, or a model from its lock, whatever else is wrong with it;
    /// else as [`Opened::open`].
    pub(crate) fn open(
        &self,
        context: &Context,
        options: &EngineOptions,
    ) -> anyhow::Result<Opened> {
        self.open_with(context, || Opened::open(&self.path, options))
    }

    /// As [`Chosen::open`], of a model that must write text.
    pub(crate) fn open_engine(
        &self,
        context: &Context,
        options: &EngineOptions,
    ) -> anyhow::Result<Engine> {
        if self.task() == Task::Embed {
            let message = format!(
                "{}: it makes embeddings and writes no text, expected a model that does; \
                 `freehold embed` and `freehold serve` use it",
                self.name
            );
            return Err(Failure::new(Exit::Usage, message).into());
        }
        self.open_with(context, || Engine::open(&self.path, options))
    }

    /// As [`Chosen::open`], of a model that must make embeddings.
    pub(crate) fn open_embedder(
        &self,
        context: &Context,
        options: &EngineOptions,
    ) -> anyhow::Result<Embedder> {
        self.open_with(context, || Embedder::open(&self.path, options))
    }

    /// What the model does; of a file that cannot be read, what most do.
    pub(crate) fn task(&self) -> Task {
        Task::of(&self.path).unwrap_or(Task::Generate)
    }

    fn open_with<T>(
        &self,
        context: &Context,
        open: impl FnOnce() -> Result<T, EngineError>,
    ) -> anyhow::Result<T> {
        if let Some(lock) = &self.lock {
            lock.check(self, context)?;
        }
        let before = store::stamps(&self.files());
        let open = || open().map_err(|error| self.blame(error));
        let opened = store::beside(|| self.check_bytes(context), open)?;
        // What was hashed may else be another file than the one that is mapped.
        if self.lock.is_some() && store::stamps(&self.files()) != before {
            return Err(StoreError::Changed { name: self.name.clone() }.into());
        }
        if let Some(installed) = &self.installed {
            context.store()?.mark_used(installed);
        }
        Ok(opened)
    }

    /// The files that are mapped: of a split model the siblings by name, whatever a manifest says.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match (Gguf::open(&self.path), &self.installed) {
            (Ok(file), _) => file.files().to_vec(),
            (Err(_), Some(installed)) => installed.files.iter().map(|of| of.path.clone()).collect(),
            (Err(_), None) => vec![self.path.clone()],
        }
    }

    /// Proves that every byte is what the lock says, else that an installed model is as pinned.
    fn check_bytes(&self, context: &Context) -> anyhow::Result<()> {
        let is_locked = match &self.lock {
            Some(lock) => lock
                .check_bytes(self, &Shown::if_slow(context))
                .map_err(|error| self.name_owner(error))?,
            None => false,
        };
        if is_locked { Ok(()) } else { self.ensure_intact(context) }
    }

    /// `error` about the model's bytes with the other program that has them too, if one has.
    fn name_owner(&self, error: anyhow::Error) -> anyhow::Error {
        match self.installed.as_ref().and_then(|installed| installed.origin.as_ref()) {
            Some(of) => error.context(format!("{}'s {}", of.owner, of.path.display())),
            None => error,
        }
    }

    /// Proves that an installed model is as pinned.
    fn ensure_intact(&self, context: &Context) -> anyhow::Result<()> {
        if let Some(installed) = &self.installed {
            context.store()?.ensure_intact(installed, &Shown::if_slow(context))?;
        }
        Ok(())
    }

    /// `error` with the file it is about, where its own words do not name it.
    pub(crate) fn blame(
        &self,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> anyhow::Error {
        let path = self.path.display().to_string();
        let is_named = error.to_string().contains(&path);
        let error = anyhow::Error::new(error);
        // The flag that the user typed, not the name it has inside.
        if let Some(EngineError::Invalid { field: "n_ctx", value, expected }) = error.downcast_ref()
        {
            let message = format!("--ctx {value}: this model takes {expected}");
            return Failure::new(Exit::Usage, message).into();
        }
        if is_named { error } else { error.context(path) }
    }
}

/// The name of the model that is used when none is given.
pub(crate) fn default_model() -> &'static str {
    Catalogue::builtin().default_name()
}

/// Finds the model that `text` means and proves that an installed one is as pinned.
///
/// # Errors
/// As [`find`]; a file that differs from its pin.
pub(crate) fn model(context: &Context, text: &str, missing: Missing) -> anyhow::Result<Chosen> {
    let chosen = find(context, text, missing)?;
    chosen.ensure_intact(context)?;
    Ok(chosen)
}

/// Finds the model that `text` means; [`Chosen::open`] proves that it is as pinned.
///
/// What looks like a path (`./x`, `/x`, `x.gguf`) is a file. Anything else is a name first, and a
/// file if no model has that name. What is fetched must be as `./freehold.lock` allows.
///
/// # Errors
/// Nothing of that name or path, or a download that failed.
pub(crate) fn find(context: &Context, text: &str, missing: Missing) -> anyhow::Result<Chosen> {
    find_or_fetch(context, text, missing, None)
}

/// As [`find`]; what is fetched must be as `lock` allows, without one as `./freehold.lock`.
fn find_or_fetch(
    context: &Context,
    text: &str,
    missing: Missing,
    lock: Option<&Arc<Lock>>,
) -> anyhow::Result<Chosen> {
    let path = Path::new(text);
    if looks_like_path(text) {
        return file(path);
    }
    let store = context.store()?;
    let found = match lock {
        Some(lock) => lock.file().resolve(&store, text),
        None => store.resolve(text),
    };
    let installed = match found {
        Ok(installed) => installed,
        Err(StoreError::UnknownName { .. }) if path.is_file() => return Ok(Chosen::file(path)),
        Err(unknown @ StoreError::UnknownName { .. }) => {
            if missing == Missing::Fail || Catalogue::builtin().get(text).is_err() {
                return Err(unknown.into());
            }
            let lock = match lock {
                Some(lock) => Some(lock.for_pull()),
                None => locked::read(None)?,
            };
            let terms = Terms { lock, ..Terms::default() };
            let options = PullOptions { terms, ..PullOptions::default() };
            pull(&store, &Source::Catalogue(text.to_owned()), options, &Shown::new(context))?
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Chosen::installed(installed))
}

/// As [`find`], held to `lock`: a name that it lists stands for the version that it says.
///
/// # Errors
/// As [`find`]; a version that is not here.
pub(crate) fn find_locked(
    context: &Context,
    text: &str,
    missing: Missing,
    lock: Option<&Arc<Lock>>,
) -> anyhow::Result<Chosen> {
    let version = lock.map_or(text, |lock| lock.file().installed_name(text));
    if version == text {
        return Ok(find_or_fetch(context, text, missing, lock)?.held_to(lock));
    }
    let installed = context.store()?.resolve(version).map_err(|error| match (error, lock) {
        (StoreError::UnknownName { .. }, Some(lock)) => {
            let entry = &lock.file().models[text];
            let remedy = locked::remedy(&entry.source, version);
            let message =
                format!("{text}: the lock says that it is {version}, which is not here: {remedy}");
            Failure::new(Exit::NotFound, message).into()
        }
        (error, _) => anyhow::Error::from(error),
    })?;
    Ok(Chosen { name: text.to_owned(), ..Chosen::installed(installed) }.held_to(lock))
}

/// Whether `text` is meant as a file, whatever names there are.
pub(crate) fn looks_like_path(text: &str) -> bool {
    let is_gguf = Path::new(text).extension().is_some_and(|ext| ext.eq_ignore_ascii_case("gguf"));
    is_gguf || text.starts_with('.') || Path::new(text).is_absolute()
}

fn file(path: &Path) -> anyhow::Result<Chosen> {
    if path.is_file() {
        return Ok(Chosen::file(path));
    }
    let problem = if path.exists() { "not a file" } else { "no such file" };
    let message = format!("{}: {problem}, expected a GGUF file", path.display());
    Err(Failure::new(Exit::NotFound, message).into())
}

/// Pulls, asking on a terminal for a licence that must be accepted first.
///
/// # Errors
/// As [`Store::pull`]; without a terminal, or when the answer is no, that of the licence.
pub(crate) fn pull(
    store: &Store,
    source: &Source,
    options: PullOptions,
    progress: &Shown,
) -> anyhow::Result<Installed> {
    say_what_comes(store, source, &options, progress);
    let _stop = interrupt::StopPull::install()?;
    match store.pull(source, &options, progress) {
        Err(error @ StoreError::LicenceNotAccepted { .. }) => {
            let can_ask = can_ask();
            say_licence(&error, can_ask);
            if !(can_ask && asks_yes("Accept this licence?")) {
                return Err(error.into());
            }
            let options = PullOptions { accept_licence: true, ..options };
            Ok(store.pull(source, &options, progress)?)
        }
        result => Ok(result?),
    }
}

/// One line before a model of the catalogue is fetched.
fn say_what_comes(store: &Store, source: &Source, options: &PullOptions, progress: &Shown) {
    let Source::Catalogue(name) = source else { return };
    let is_here = store.resolve(options.name.as_deref().unwrap_or(name)).is_ok();
    // A licence that is asked for comes first.
    let may_come = |entry: &&Entry| !is_here && (options.accept_licence || !entry.must_accept);
    if let Some(entry) = Catalogue::builtin().find(name).filter(may_come) {
        let (size, licence) = (numbers::bytes(entry.download_bytes), &entry.licence.id);
        progress.note(&format!("fetching {} ({size}, {licence}), once", entry.name));
    }
}

/// Before a question the licence and its notice; without one the error tells the licence itself.
fn say_licence(error: &StoreError, can_ask: bool) {
    if let StoreError::LicenceNotAccepted { name, licence, url, notice } = error {
        if can_ask {
            terminal::say(&format!("{name} comes under the {licence} licence: {url}"));
        }
        if let Some(notice) = notice {
            terminal::say(notice);
        }
    }
}

/// Whether somebody is there who can be asked.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Whether the one at the terminal says yes.
pub(crate) fn asks_yes(question: &str) -> bool {
    let mut stderr = io::stderr().lock();
    // If the question cannot be shown, the answer is no.
    if write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_names_are_told_apart() {
        for path in ["model.gguf", "MODEL.GGUF", "./model", "/models/x", "a/b.gguf", "../x"] {
            assert!(looks_like_path(path), "{path}");
        }
        for name in ["smollm2-135m", "huggingfacetb/smollm2-135m", "model", "gguf"] {
            assert!(!looks_like_path(name), "{name}");
        }
    }
}
