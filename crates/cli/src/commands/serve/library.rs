//! The store as the server's library of models: what is known of those that are served, and how
//! they come and go.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use engine::{DEFAULT_N_CTX, Fleet, Recommended};
use gguf::{Gguf, Value as GgufValue};
use model::is_encoder;
use serde_json::Value as JsonValue;
use server::{
    Adoptable, Existing, Facts, GateReports, Library, LibraryError, LockStanding, LockedSource,
    Model, Watcher, Work,
};
use store::{
    Catalogue, ErrorKind, Installed, Progress, PullOptions, Source, Store, StoreError, Terms,
};
use text::FillIn;

use super::in_effect::InEffect;
use super::opening::LastFailure;
use super::{lock, upkeep};
use crate::commands::adopt;
use crate::commands::lock::pin;
use crate::commands::rollback::{Wanted, roll_back};
use crate::commands::show;
use crate::context::Context;
use crate::locate::{Chosen, Missing};
use crate::locked::Lock;
use crate::progress::Shown;

/// Longest text of a file's metadata that is told, in bytes.
const N_TEXT_BYTES: usize = 4096;
/// What Ollama's clients put behind a name that has nothing there.
const NO_TAG: &str = ":latest";

/// How `general.file_type` names the way in which most weights are written (llama.cpp's
/// `llama_ftype`).
const FILE_TYPES: &[(u32, &str)] = &[
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (25, "IQ4_NL"),
    (30, "IQ4_XS"),
    (32, "BF16"),
    (38, "MXFP4"),
];

/// The models that are served, by the name that they are served under.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<Mutex<HashMap<String, KnownModel>>>);

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct KnownModel {
    pub(crate) model: Model,
    facts: Arc<Facts>,
    /// The store's name for it; `None` of a plain file.
    pub(crate) full_name: Option<String>,
    /// Where it was pulled from; `None` of a plain file.
    source: Option<String>,
    /// What tells its bytes from others.
    identity: Identity,
}

/// What a name stands for: a pinned file by its digest, another by where it lies and when it was
/// last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    path: PathBuf,
    digest: Option<String>,
    changed: Option<SystemTime>,
}

impl Identity {
    fn of(chosen: &Chosen) -> Self {
        let digest = digest(chosen);
        let metadata = chosen.path.metadata().ok().filter(|_| digest.is_none());
        let changed = metadata.and_then(|metadata| metadata.modified().ok());
        Self { path: chosen.path.clone(), digest, changed }
    }
}

/// What tells the files of an installed model from all others: a split one is all of its files.
pub(in crate::commands) fn digest(chosen: &Chosen) -> Option<String> {
    let files = chosen.installed.as_ref().map(|installed| &installed.files);
    files.map(|files| files.iter().map(|file| file.sha256.to_string()).collect())
}

impl KnownModel {
    /// What is known of `chosen`, opened with a context of `n_ctx`.
    pub(crate) fn new(chosen: &Chosen, n_ctx: Option<u32>) -> Self {
        let (name, task, digest) = (chosen.name.clone(), chosen.task(), digest(chosen));
        let lock = chosen.lock.as_ref().and_then(|lock| lock.digest(&name));
        Self {
            model: Model { name, task, digest, lock },
            facts: Arc::new(facts_of(chosen, n_ctx)),
            full_name: chosen.installed.as_ref().map(Installed::full_name),
            source: chosen.installed.as_ref().map(|installed| installed.source.clone()),
            identity: Identity::of(chosen),
        }
    }

    /// Whether `chosen` is the very same.
    pub(crate) fn is(&self, chosen: &Chosen) -> bool {
        self.identity == Identity::of(chosen)
    }
}

impl Known {
    /// Notes what is known of a model.
    pub(crate) fn note(&self, known: KnownModel) {
        self.lock().insert(known.model.name.clone(), known);
    }

    /// Forgets a model.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().remove(name);
    }

    /// The names under which models are served, in no order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// The name under which a model is served that `name` says in another way: by its publisher or
    /// by where it was pulled from.
    fn served_as(&self, name: &str) -> Option<String> {
        let name = plain(name);
        if !name.contains(['/', ':']) {
            return None;
        }
        let full_name = Catalogue::builtin()
            .find(name)
            .map_or(name.to_owned(), |entry| format!("{}/{}", entry.publisher, entry.name));
        let source = source_of(name).ok().flatten().map(|source| source.to_string());
        let known = self.lock();
        let is_it = |of: &&KnownModel| {
            of.full_name.as_ref() == Some(&full_name) || source.is_some() && of.source == source
        };
        // Of several that came from one place always the same.
        known.values().filter(is_it).map(|of| of.model.name.clone()).min()
    }

    /// What is known of the model that is served as `name`.
    pub(crate) fn get(&self, name: &str) -> Option<KnownModel> {
        self.lock().get(name).cloned()
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, KnownModel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The store of this machine, whose models a fleet serves.
pub(crate) struct OwnModels {
    pub(crate) context: Context,
    pub(crate) fleet: Fleet,
    /// How models are served, and the lock that they are held to.
    pub(crate) serve: InEffect,
    pub(crate) failure: LastFailure,
    pub(crate) known: Known,
}

impl OwnModels {
    fn store(&self) -> Result<Store, LibraryError> {
        self.context.store().map_err(|error| LibraryError::Failed(format!("{error:#}")))
    }

    /// The lock that models are held to.
    fn held_to(&self) -> Option<Arc<Lock>> {
        self.serve.get().lock.clone()
    }

    /// Serves what was just installed. A model of the same name that is served stays: who asks for
    /// a name must not get another publisher's model from one day to the next.
    fn take_up(&self, installed: Installed) -> Result<Model, LibraryError> {
        // Held to the lock that is in effect once it is served.
        let _turn = self.serve.turn();
        match self.served(&installed.name, &installed.full_name())? {
            Some(model) => Ok(model),
            None => {
                let (serve, chosen) = (self.serve.get(), Chosen::installed(installed));
                let keep = serve.keep();
                Ok(serve.add(&self.context, &self.fleet, chosen, keep, &self.failure))
            }
        }
    }

    /// What is served as `name`, if that is the store's `full_name` and not another.
    fn served(&self, name: &str, full_name: &str) -> Result<Option<Model>, LibraryError> {
        match self.known.get(name) {
            Some(known) if known.full_name.as_deref() == Some(full_name) => Ok(Some(known.model)),
            Some(_) => {
                let problem =
                    format!("{full_name} is not served: another model is served as {name}");
                Err(LibraryError::Refused(problem))
            }
            None => Ok(None),
        }
    }

    /// The store's name for a model that is served.
    fn full_name(&self, name: &str) -> Result<String, LibraryError> {
        let known = self.known.get(name);
        let known = known.ok_or_else(|| LibraryError::NotFound(format!("{name}: not served")))?;
        known.full_name.ok_or_else(|| {
            let problem = format!("{name}: served from a file that is not in the store");
            LibraryError::Refused(problem)
        })
    }

    fn pull_from(
        &self,
        source: &Source,
        options: &PullOptions,
        progress: &Passed<'_>,
    ) -> Result<Model, LibraryError> {
        let installed = self.store()?.pull(source, options, progress).map_err(refusal)?;
        self.take_up(installed)
    }
}

impl Library for OwnModels {
    fn facts(&self, name: &str) -> Option<Arc<Facts>> {
        self.known.get(name).map(|known| known.facts)
    }

    fn refusal(&self, name: &str) -> Option<String> {
        self.serve.get().refusals.get(name)
    }

    fn mark_used(&self, name: &str) {
        let full_name = self.known.get(name).and_then(|known| known.full_name);
        if let (Some(full_name), Ok(store)) = (full_name, self.store())
            && let Ok(installed) = store.resolve(&full_name)
        {
            store.mark_used(&installed);
        }
    }

    fn misdirects(&self, name: &str, model: &str) -> Option<String> {
        let checked = self.held_to()?.check_name(name, model);
        checked.err().map(|error| error.to_string())
    }

    fn served_as(&self, name: &str) -> Option<String> {
        self.known.served_as(name)
    }

    fn name_of(&self, name: &str) -> Result<String, LibraryError> {
        let store = self.store()?;
        let full_name = match source_of(name)? {
            Some(source) => store.name_of(&source).map_err(refusal)?,
            None => store.resolve(plain(name)).map_err(refusal)?.full_name(),
        };
        let name = full_name.rsplit('/').next().unwrap_or(&full_name).to_owned();
        self.served(&name, &full_name)?;
        Ok(name)
    }

    fn pull(&self, name: &str, watcher: &dyn Watcher) -> Result<Model, LibraryError> {
        let name = plain(name);
        let Some(source) = source_of(name)? else {
            // What is installed from elsewhere needs no fetching.
            return self.take_up(self.store()?.resolve(name).map_err(refusal)?);
        };
        if self.serve.get().lock_args.missing() == Missing::Fail {
            return Err(LibraryError::Refused(format!("{name}: nothing is fetched: --locked")));
        }
        let lock = self.held_to().map(|lock| lock.for_pull());
        let terms = Terms { lock, ..Terms::default() };
        let options = PullOptions { no_wait: true, terms, ..PullOptions::default() };
        let entry = Catalogue::builtin().find(name);
        let digest = entry.map(|entry| entry.sha256.to_string());
        self.pull_from(&source, &options, &Passed { context: &self.context, watcher, digest })
    }

    fn copy(&self, from: &str, to: &str, watcher: &dyn Watcher) -> Result<Model, LibraryError> {
        let to = plain(to);
        let bare = to.rsplit('/').next().unwrap_or(to);
        if self.known.get(bare).is_some() {
            let problem = format!("{bare}: a model of this name is served, expected another name");
            return Err(LibraryError::Refused(problem));
        }
        let store = self.store()?;
        let is_taken = |one: &Installed| one.name.eq_ignore_ascii_case(bare);
        if store.list().map_err(refusal)?.into_iter().flatten().any(|one| is_taken(&one)) {
            let problem =
                format!("{bare}: a model of this name is installed, expected another name");
            return Err(LibraryError::Refused(problem));
        }
        let original = store.resolve(&self.full_name(from)?).map_err(refusal)?;
        let options = PullOptions {
            no_wait: true,
            name: Some(to.to_owned()),
            licence: Some(original.licence.clone()),
            ..PullOptions::default()
        };
        let source = Source::File(original.path().to_owned());
        let progress = Passed { context: &self.context, watcher, digest: None };
        self.pull_from(&source, &options, &progress)
    }

    fn remove(&self, name: &str) -> Result<(), LibraryError> {
        // What a reload has made ready would else take its place.
        let _turn = self.serve.turn();
        let full_name = self.full_name(name)?;
        let needs = |lock: Arc<Lock>| lock.needs(&full_name).map_err(refusal).transpose();
        if let Some(of) = self.held_to().and_then(needs).transpose()? {
            let problem = format!("{full_name}: {of}; `freehold rm --force` removes it");
            return Err(LibraryError::Refused(problem));
        }
        match self.store()?.remove(&full_name) {
            // Somebody has removed it beside this server.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => drop(removed.map_err(refusal)?),
        }
        self.known.forget(name);
        // Answers that run go on; the files stay in memory until the last of them has ended.
        self.fleet.remove(name);
        Ok(())
    }

    fn lock(&self) -> Result<LockStanding, LibraryError> {
        match self.held_to() {
            None => Ok(LockStanding::default()),
            Some(held) => lock::standing(&held, &self.store()?).map_err(|error| lock::told(&error)),
        }
    }

    fn roll_back(
        &self,
        name: &str,
        to: Option<u32>,
        why: Option<String>,
    ) -> Result<String, LibraryError> {
        let wanted = Wanted { name, to, why };
        let path = &lock::path(self.held_to())?;
        let told = roll_back(&self.store()?, path, wanted, &Shown::if_slow(&self.context));
        told.map_err(|error| lock::told(&error))
    }

    fn pin(&self, name: &str, entry: Existing) -> Result<String, LibraryError> {
        let path = &lock::path(self.held_to())?;
        let progress = Shown::if_slow(&self.context);
        let told = pin(&self.store()?, path, (name, entry), &progress);
        told.map_err(|error| lock::told(&error))
    }

    fn gate_reports(&self) -> Result<GateReports, LibraryError> {
        upkeep::gate_reports(&self.context.home())
    }

    fn gate_report(&self, id: &str) -> Result<JsonValue, LibraryError> {
        upkeep::gate_report(&self.context.home(), id)
    }

    fn adoptable(&self) -> Result<Adoptable, LibraryError> {
        upkeep::adoptable(&self.store()?)
    }

    fn adopt(&self, owner: &str, model: &str) -> Result<(String, Model), LibraryError> {
        if self.serve.get().lock_args.missing() == Missing::Fail {
            return Err(LibraryError::Refused(format!("{model}: nothing is taken up: --locked")));
        }
        let found = upkeep::found(owner, model)?;
        let bare = found.name.rsplit('/').next().unwrap_or(&found.name);
        self.served(bare, &found.name)?;
        let lock = self.held_to().map(|lock| lock.for_pull());
        let terms = Terms { lock, ..Terms::default() };
        let progress = Shown::if_slow(&self.context);
        let installed = self.store()?.adopt(&found, &terms, &progress).map_err(refusal)?;
        let told = adopt::told(&found, &installed);
        Ok((told, self.take_up(installed)?))
    }

    fn locked_sources(&self) -> Result<Vec<LockedSource>, LibraryError> {
        upkeep::locked_sources(&lock::path(self.held_to())?)
    }

    fn latest(&self, name: &str) -> Result<JsonValue, LibraryError> {
        let path = &lock::path(self.held_to())?;
        upkeep::latest(&self.context, &self.store()?, path, name)
    }
}

/// A name without the tag for none.
fn plain(name: &str) -> &str {
    name.strip_suffix(NO_TAG).unwrap_or(name)
}

/// Where to fetch what a client names; `None`: it must be here.
fn source_of(name: &str) -> Result<Option<Source>, LibraryError> {
    let name = plain(name);
    match Catalogue::builtin().find(name) {
        Some(entry) => Ok(Some(Source::Catalogue(entry.name.clone()))),
        None => remote_source(name).map(|text| Source::parse(&text).map_err(refusal)).transpose(),
    }
}

/// The source that a name stands for which a client gave; files of this machine are not among them.
/// Of a whole repository of the Hub, which is a registry to clients of Ollama, the tag says the
/// file.
fn remote_source(name: &str) -> Option<String> {
    for hub in ["hf.co/", "huggingface.co/"] {
        if let Some(rest) = name.strip_prefix(hub) {
            return Some(match rest.matches('/').count() {
                0 | 1 => format!("oci://hf.co/{rest}"),
                _ => format!("hf:{rest}"),
            });
        }
    }
    ["hf:", "pip:", "https://"].iter().any(|begin| name.starts_with(begin)).then(|| name.to_owned())
}

pub(super) fn refusal(error: StoreError) -> LibraryError {
    let message = error.to_string();
    match error {
        StoreError::Cancelled => LibraryError::Cancelled(message),
        StoreError::Busy { .. } => LibraryError::Busy(message),
        other => match other.kind() {
            ErrorKind::NotFound => LibraryError::NotFound(message),
            ErrorKind::Usage => LibraryError::Refused(message),
            _ => LibraryError::Failed(message),
        },
    }
}

/// Passes the store's progress on to a client.
struct Passed<'a> {
    context: &'a Context,
    watcher: &'a dyn Watcher,
    /// Of the file that comes, where it is known.
    digest: Option<String>,
}

impl Progress for Passed<'_> {
    fn start(&self, what: &str, total: Option<u64>) {
        // What is fetched is named by its file alone.
        let is_fetched = !what.contains(' ');
        let digest = self.digest.clone().filter(|_| is_fetched);
        self.watcher.start(&Work { what: what.to_owned(), digest, total });
    }

    fn advance(&self, n_bytes: u64) {
        self.watcher.advance(n_bytes);
    }

    fn finish(&self) {}

    fn note(&self, text: &str) {
        self.context.detail(text);
    }

    fn is_cancelled(&self) -> bool {
        self.watcher.is_cancelled()
    }
}

/// What the file and the store say of a model. A file that cannot be read says nothing; opening it
/// tells why.
fn facts_of(chosen: &Chosen, n_ctx: Option<u32>) -> Facts {
    let Ok(file) = Gguf::open(&chosen.path) else { return Facts::default() };
    let text = |key: &str| file.metadata().str(key).ok().flatten().map(str::to_owned);
    let architecture = text("general.architecture").unwrap_or_default();
    let n_ctx_train = file.metadata().u32(&format!("{architecture}.context_length")).ok().flatten();
    let n_ctx = match (is_encoder(&file), n_ctx_train) {
        (true, n_ctx_train) => n_ctx_train,
        (false, Some(n_ctx_train)) => Some(n_ctx.unwrap_or(n_ctx_train.min(DEFAULT_N_CTX))),
        (false, None) => n_ctx,
    };
    let is_told = |value: &GgufValue| match value {
        GgufValue::String(text) => text.len() <= N_TEXT_BYTES,
        GgufValue::Array(_) => false,
        _ => true,
    };
    let metadata = file.metadata().iter().filter(|(_, value)| is_told(value));
    let installed = chosen.installed.as_ref();
    // Where files lie on this machine is nobody else's business.
    let is_local = installed.is_none_or(|model| {
        model.adopted || model.publisher == "local" || Path::new(&model.source).is_absolute()
    });
    let file_name = chosen.path.file_name().unwrap_or_default().to_string_lossy();
    Facts {
        n_bytes: installed.map_or(file.n_bytes(), Installed::n_bytes),
        installed: installed.map(|model| model.date.clone()),
        n_parameters: show::n_parameters(&file),
        quantization: quantization(&file),
        n_ctx,
        template: text(show::TEMPLATE_KEY),
        licence: show::licence(chosen, &file),
        source: match installed.filter(|_| !is_local) {
            Some(model) => model.source.clone(),
            None => file_name.into_owned(),
        },
        fills_in: !is_encoder(&file) && FillIn::of(file.metadata()).is_some(),
        recommended: Recommended::of(file.metadata()),
        metadata: metadata.map(|(key, value)| (key.to_owned(), show::json_of(value))).collect(),
        architecture,
    }
}

/// How most of the weights are written: as the file says, else as most of its bytes are.
pub(in crate::commands) fn quantization(file: &Gguf) -> String {
    let file_type = file.metadata().u32("general.file_type").ok().flatten();
    let named = FILE_TYPES.iter().find(|(id, _)| Some(*id) == file_type).map(|(_, name)| *name);
    let formats = show::formats(file);
    let most = formats.iter().max_by_key(|(.., n_bytes)| *n_bytes).map(|(name, ..)| *name);
    named.or(most).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use engine::Task;

    use super::*;

    #[test]
    fn the_facts_of_the_default_model_are_those_of_its_file() {
        let path = testkit::smollm2();
        let chosen = Chosen { name: "m".to_owned(), path, installed: None, lock: None };
        let facts = facts_of(&chosen, None);
        assert_eq!((&*facts.architecture, &*facts.quantization), ("llama", "Q4_1"));
        assert_eq!((facts.n_parameters, facts.n_ctx), (134_515_008, Some(8192)));
        assert!(facts.template.is_some_and(|template| template.contains("im_start")));
        assert!(facts.metadata["llama.context_length"].is_u64());
        assert!(!facts.metadata.contains_key("tokenizer.ggml.tokens"));
        assert!(!facts.source.contains('/'), "{}", facts.source);
        assert_eq!(facts_of(&chosen, Some(512)).n_ctx, Some(512));
    }

    #[test]
    fn a_model_is_found_under_the_names_by_which_it_came() {
        let model = |name: &str, full_name: Option<&str>, source: Option<&str>| KnownModel {
            model: Model { name: name.to_owned(), task: Task::Generate, digest: None, lock: None },
            facts: Arc::default(),
            full_name: full_name.map(str::to_owned),
            source: source.map(str::to_owned),
            identity: Identity { path: PathBuf::from(name), digest: None, changed: None },
        };
        let known = Known::default();
        let tagged = "oci://hf.co/o/r:Q4_K_M";
        known.note(model("r-q4_k_m", Some("o/r-q4_k_m"), Some(tagged)));
        known.note(model("f", Some("o/f"), Some("hf:o/r/f.gguf@v1")));
        known.note(model("bare", Some("local/bare"), Some("/models/bare.gguf")));
        known.note(model("file", None, None));
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(known.served_as(name).as_deref(), expected, "{name}");
        };
        for name in ["hf.co/o/r:Q4_K_M", "huggingface.co/o/r:Q4_K_M", "o/r-q4_k_m:latest"] {
            check(name, Some("r-q4_k_m"));
        }
        check("hf.co/o/r/f.gguf@v1", Some("f"));
        check("local/bare", Some("bare"));
        // Another tag or revision is another model, and files of this machine are nobody's names.
        for name in ["hf.co/o/r:Q8_0", "hf.co/o/r", "hf.co/o/r/f.gguf", "/models/bare.gguf", "p/f"]
        {
            check(name, None);
        }
    }

    #[test]
    fn names_of_other_machines_are_sources_and_files_of_this_one_are_not() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(remote_source(name).as_deref(), expected, "{name}");
        };
        check("hf.co/o/r/f.gguf", Some("hf:o/r/f.gguf"));
        check("hf.co/o/r:Q4_K_M", Some("oci://hf.co/o/r:Q4_K_M"));
        check("huggingface.co/o/r", Some("oci://hf.co/o/r"));
        check("hf:o/r/f.gguf", Some("hf:o/r/f.gguf"));
        check("pip:p==1/f.gguf", Some("pip:p==1/f.gguf"));
        check("https://h/f.gguf#sha256=0", Some("https://h/f.gguf#sha256=0"));
        for name in ["/etc/f.gguf", "./f.gguf", "f.gguf", "file:///f.gguf", "http://h/f", "llama3"]
        {
            check(name, None);
        }
    }
}
