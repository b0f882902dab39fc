//! `freehold lock`: writes down what models are.

use std::path::{Path, PathBuf};

use gguf::Gguf;
use server::Existing;
use store::{
    Difference, History, Installed, LOCK_FILE, LockFile, LockedModel, Progress, Store, StoreError,
};

use crate::aliases::AliasArgs;
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked;
use crate::progress::Shown;
use crate::terminal;

/// Write down in freehold.lock what models are, to the byte
///
/// Every byte of the models is hashed first. Only what is named changes; an entry that would become
/// another is shown in words and left as it is, unless --update is given. Keep the file in your
/// repository: `freehold serve`, `run` and `embed` refuse what is not as it says.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold lock                              all installed models
  freehold lock smollm2-135m --alias 'claude-*=smollm2-135m'
  freehold lock smollm2-135m --update        take what is installed now

Exit code 4 means that entries would have changed; nothing was written then.")]
pub(crate) struct LockModels {
    /// Installed names (default: all)
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The lock
    #[arg(long, value_name = "FILE", default_value = LOCK_FILE)]
    file: PathBuf,
    #[command(flatten)]
    aliases: AliasArgs,
    /// Let entries change that are there already
    #[arg(long)]
    update: bool,
}

impl Subcommand for LockModels {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        let before = LockFile::read(&self.file)?.unwrap_or_default();
        let mut after = before.clone();
        let (mut n_new, mut n_changed) = (0, 0);
        for full_name in self.full_names(context, &store, &before)? {
            let examined = examine(&store, &full_name, &before, &Shown::new(context))?;
            let put = put(&before, &mut after, examined)?;
            n_new += put.n_new;
            n_changed += usize::from(put.changed.is_some());
            put.changed.iter().flatten().try_for_each(|line| terminal::print_line(line))?;
        }
        for alias in self.aliases.all() {
            if !after.models.contains_key(&alias.model) {
                let message = format!(
                    "--alias {}={}: the lock has no such model, expected one of its names",
                    alias.name, alias.model
                );
                return Err(Failure::new(Exit::Usage, message).into());
            }
            match after.aliases.insert(alias.name.clone(), alias.model.clone()) {
                None => n_new += 1,
                Some(old) if old == alias.model => {}
                Some(old) => {
                    n_changed += 1;
                    let (name, model) = (&alias.name, &alias.model);
                    terminal::print_line(&format!("alias {name}: expected {old}, found {model}"))?;
                }
            }
        }
        for (name, model) in &after.models {
            after.check_licence(name, &model.licence, &self.file)?;
        }
        self.finish(context, &before, &after, (n_new, n_changed))
    }
}

impl LockModels {
    /// What is to be examined: a name of the lock stands for the version that it says. Others that
    /// lie beside it, because it was upgraded, rolled back or not upgraded, are not in the lock
    /// unless they are named.
    fn full_names(
        &self,
        context: &Context,
        store: &Store,
        lock: &LockFile,
    ) -> anyhow::Result<Vec<String>> {
        if !self.names.is_empty() {
            let full_name = |name: &String| Ok(lock.resolve(store, name)?.full_name());
            return self.names.iter().map(full_name).collect();
        }
        let installed: Result<Vec<_>, StoreError> = store.list()?.into_iter().collect();
        let installed = installed?;
        let history = History::read(&self.file)?;
        let mut full_names = Vec::new();
        for model in &installed {
            let Some(name) = lock.name_among(model, &installed) else { continue };
            match version_of(lock, &history, model) {
                Some(of) if !lock.models.contains_key(name) => context.note(&format!(
                    "{}: left out: it is another version of {of}; by its name it is added",
                    model.full_name()
                )),
                _ => full_names.push(model.full_name()),
            }
        }
        Ok(full_names)
    }

    fn finish(
        &self,
        context: &Context,
        before: &LockFile,
        after: &LockFile,
        (n_new, n_changed): (usize, usize),
    ) -> anyhow::Result<()> {
        let path = self.file.display();
        if n_changed > 0 && !self.update {
            let message = format!(
                "{path}: {n_changed} entries would change; nothing was written, --update does it"
            );
            return Err(Failure::new(Exit::Verification, message).into());
        }
        if before == after && self.file.exists() {
            context.note(&format!("{path} says so already"));
            return Ok(());
        }
        after.write(&self.file)?;
        context.note(&format!("{path}: {n_new} new, {n_changed} changed"));
        if n_changed > 0 {
            context.note(locked::TAKEN_UP);
        }
        Ok(())
    }
}

/// The name of the lock that `model` is, was or was to be a version of.
fn version_of<'a>(lock: &'a LockFile, history: &History, model: &Installed) -> Option<&'a str> {
    let full_name = model.full_name();
    let is_of = |(name, entry): &(&String, &LockedModel)| {
        let number = model.name.strip_prefix(name.as_str()).and_then(|of| of.strip_prefix("-v"));
        let is_numbered = number.is_some_and(|of| of.parse::<u32>().is_ok_and(|n| n > 1));
        let versions = history.timeline(name, entry).versions;
        let mut entries = versions.iter().filter_map(|version| version.entry.as_ref());
        is_numbered || entries.any(|of| of.full_name(name) == full_name)
    };
    lock.models.iter().find(is_of).map(|(name, _)| name.as_str())
}

/// Writes what the installed model `name` is into the lock at `path`. Returns what came of it.
///
/// # Errors
/// It is not here, would change an entry that stays, or the lock does not allow its licence.
pub(in crate::commands) fn pin(
    store: &Store,
    path: &Path,
    (name, existing): (&str, Existing),
    progress: &dyn Progress,
) -> anyhow::Result<String> {
    let before = LockFile::read(path)?.unwrap_or_default();
    let mut after = before.clone();
    let full_name = before.resolve(store, name)?.full_name();
    let examined = examine(store, &full_name, &before, progress)?;
    let Put { n_new, changed } = put(&before, &mut after, examined)?;
    for (name, model) in &after.models {
        after.check_licence(name, &model.licence, path)?;
    }
    let shown = path.display();
    if let Some(lines) = changed.as_ref().filter(|_| existing == Existing::Stays) {
        let lines = lines.join("; ");
        let message = format!("{shown}: an entry would change, nothing was written: {lines}");
        return Err(Failure::new(Exit::Verification, message).into());
    }
    if before == after && path.exists() {
        return Ok(format!("{shown} says so already"));
    }
    after.write(path)?;
    Ok(format!("{shown}: {n_new} new, {} changed", usize::from(changed.is_some())))
}

/// What became of a lock by one model.
struct Put {
    n_new: usize,
    /// In what its entry becomes another, line by line.
    changed: Option<Vec<String>>,
}

/// The name that applications ask for, what the model is, and the key that signed it.
type Examined = (String, LockedModel, Option<String>);

/// Has `after` say what a model is.
fn put(
    before: &LockFile,
    after: &mut LockFile,
    (name, entry, signed_by): Examined,
) -> anyhow::Result<Put> {
    let mut put = Put { n_new: 0, changed: None };
    if signed_by.is_some_and(|key| after.note_signer(&name, &key)) {
        put.n_new += 1;
    }
    match before.models.get(&name) {
        None => put.n_new += 1,
        Some(old) if *old == entry => {}
        Some(old) => {
            let differences = old.differences(&entry);
            let line = |difference: &Difference| format!("{name}: {difference}");
            put.changed = Some(differences.iter().map(line).collect());
        }
    }
    let (publisher, twin) = (entry.publisher.clone(), after.models.insert(name.clone(), entry));
    if let Some(twin) = twin.filter(|twin| before.models.get(&name) != Some(twin)) {
        let message = format!(
            "{name}: {} and {publisher} both have one, and a lock has one of each name",
            twin.publisher
        );
        return Err(Failure::new(Exit::Usage, message).into());
    }
    Ok(put)
}

/// What a model is, every byte hashed.
fn examine(
    store: &Store,
    full_name: &str,
    lock: &LockFile,
    progress: &dyn Progress,
) -> anyhow::Result<Examined> {
    store.verify(full_name, progress)?.into_result()?;
    let installed = store.resolve(full_name)?;
    let file = Gguf::open(installed.path())?;
    // A version that is named by itself takes the place of the one that the lock has.
    let name = lock.name_of(&installed).unwrap_or(&installed.name).to_owned();
    let mut entry = locked::observed(&installed, &file)?;
    entry.installed = (name != installed.name).then_some(installed.full_name());
    if let Some(before) = lock.models.get(&name) {
        if before.installed == Some(installed.full_name()) {
            entry.installed.clone_from(&before.installed);
        }
        // Its files may be called otherwise elsewhere.
        if before.differences(&entry).is_empty() {
            entry.clone_from(before);
        }
    }
    Ok((name, entry, installed.signed_by))
}
