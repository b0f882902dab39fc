//! The models that are served: found by name, opened when they are first asked for.

mod permitted;

use crate::access::Who;
use crate::dialects::fields::short;
use crate::dialects::openai::{ModelCard, ModelMeta, ModelStatus};
use crate::errors::{BadRequest, ServerError};
use crate::library::{Facts, Library};
use crate::{Alias, Model, NotAsLocked, VERSION};
use engine::{
    Embedder, Engine, EngineError, EngineStats, Fleet, FleetError, FleetState, FleetStatus, Keep,
    Kept, ModelInfo, NUMERICS_VERSION, Opened, Task,
};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

/// When a request may come again that found no room for its model.
const RETRY_NO_ROOM: Duration = Duration::from_secs(5);
/// What Ollama's clients put behind a name that has nothing there.
const NO_TAG: &str = ":latest";
/// Digits of a lock's hash in a fingerprint: enough to tell a model's versions apart.
const N_LOCK_DIGITS: usize = 12;

/// A name without the tag for none.
pub(crate) fn plain_name(name: &str) -> &str {
    name.strip_suffix(NO_TAG).unwrap_or(name)
}

/// Names, and the fleet that has what they stand for.
pub(crate) struct Models {
    fleet: Fleet,
    names: RwLock<Names>,
    library: Option<Arc<dyn Library>>,
    /// Unix seconds at which the server took them up.
    created: u64,
}

/// What a name stands for.
struct Names {
    listed: Vec<Model>,
    aliases: Vec<Alias>,
}

/// What there is to measure of a model.
pub(crate) struct ModelGauges {
    pub(crate) name: String,
    pub(crate) is_open: bool,
    pub(crate) n_opened: u64,
    /// Of an open one.
    pub(crate) planned_bytes: Option<u64>,
    /// Of an open one that generates.
    pub(crate) stats: Option<EngineStats>,
}

/// A model that is open. It stays so as long as this is held.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) fingerprint: String,
    /// What tells its files from all others, where that is known, and what its lock says.
    pub(crate) digest: Option<String>,
    pub(crate) lock: Option<String>,
}

/// As [`Served`], of a model that makes vectors.
#[derive(Debug, Clone)]
pub(crate) struct ServedEmbedder {
    pub(crate) name: String,
    pub(crate) embedder: Embedder,
}

/// All that is known of a model under one of its names.
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) task: Task,
    pub(crate) digest: Option<String>,
    pub(crate) facts: Arc<Facts>,
    /// `None` where it is not open.
    pub(crate) open: Option<OpenModel>,
    /// In what it is not what the owner's lock says.
    pub(crate) refused: Option<String>,
    /// Unix seconds at which the server took it up.
    pub(crate) created: u64,
}

/// What is known of an open model. It holds nothing of it: who asks does not use it.
#[derive(Debug, Clone)]
pub(crate) struct OpenModel {
    pub(crate) planned_bytes: u64,
    /// Positions of its context.
    pub(crate) n_ctx: u32,
    /// Its chat template, if it has one.
    pub(crate) template: Option<String>,
    /// What its file is known by, where the library knows nothing.
    facts: Arc<Facts>,
    /// How long nobody has used it.
    pub(crate) idle: Duration,
    /// When it is closed.
    pub(crate) keep: Keep,
}

impl OpenModel {
    /// By the names of those that are open.
    fn all(fleet: &Fleet) -> Vec<(String, Self)> {
        let of = |status: FleetStatus| match status.state {
            FleetState::Open { model, idle } => {
                Some((status.name, Self::new(&model, idle, status.keep)))
            }
            FleetState::Opening | FleetState::Closed => None,
        };
        fleet.status().into_iter().filter_map(of).collect()
    }

    fn new(model: &Opened, idle: Duration, keep: Keep) -> Self {
        let info = model.info();
        let template = match model {
            Opened::Generator(engine) => engine.template().map(|of| of.source().to_owned()),
            _ => None,
        };
        let facts = Arc::new(facts_of(Some(model)));
        Self { planned_bytes: info.planned_bytes(), n_ctx: info.n_ctx, template, facts, idle, keep }
    }
}

/// What the routes of one task hold of an open model.
pub(crate) trait OfTask: Sized {
    const TASK: Task;
    /// `None` where the model does something else.
    fn new(model: &Model, opened: Opened) -> Option<Self>;
}

impl Models {
    pub(crate) fn new(
        fleet: Fleet,
        listed: Vec<Model>,
        aliases: Vec<Alias>,
        library: Option<Arc<dyn Library>>,
        upstreams: &[String],
        created: u64,
    ) -> Result<Self, ServerError> {
        if listed.is_empty() {
            return Err(ServerError::Config("models: none given, expected at least one".into()));
        }
        let mut names = HashSet::new();
        if let Some(twice) = listed.iter().find(|model| !names.insert(model.name.as_str())) {
            let name = &twice.name;
            let problem = format!("models: {name:?} given twice, expected each name once");
            return Err(ServerError::Config(problem));
        }
        let names: Vec<&str> = listed.iter().map(|model| model.name.as_str()).collect();
        Alias::check(&aliases, &names, upstreams).map_err(ServerError::Config)?;
        let names = RwLock::new(Names { listed, aliases });
        Ok(Self { fleet, names, library, created })
    }

    /// The models as they are listed now.
    pub(crate) fn listed(&self) -> Vec<Model> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).listed.clone()
    }

    /// Their further names.
    pub(crate) fn aliases(&self) -> Vec<Alias> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).aliases.clone()
    }

    fn names_mut(&self) -> RwLockWriteGuard<'_, Names> {
        self.names.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists `models` in front, those in `gone` no more, and has only these aliases, which may
    /// stand for models of these upstreams.
    ///
    /// # Errors
    /// An alias that cannot be had beside these models; then nothing was changed.
    pub(crate) fn renew(
        &self,
        models: Vec<Model>,
        gone: &[String],
        aliases: Vec<Alias>,
        upstreams: &[String],
    ) -> Result<(), String> {
        let mut names = self.names_mut();
        // A client may have had one deleted since it was looked at.
        let mut listed = models;
        listed.retain(|model| self.fleet.own_keep(&model.name).is_some());
        let is_other = |model: &&Model| {
            !gone.contains(&model.name) && !listed.iter().any(|new| new.name == model.name)
        };
        // What clients had fetched meanwhile stays.
        let others: Vec<Model> = names.listed.iter().filter(is_other).cloned().collect();
        listed.extend(others);
        let own_names: Vec<&str> = listed.iter().map(|model| model.name.as_str()).collect();
        Alias::check(&aliases, &own_names, upstreams)?;
        *names = Names { listed, aliases };
        Ok(())
    }

    /// Lists a model that the fleet knows, in the place of one of the same name.
    pub(crate) fn add(&self, model: Model) {
        let listed = &mut self.names_mut().listed;
        match listed.iter_mut().find(|listed| listed.name == model.name) {
            Some(listed) => *listed = model,
            None => listed.push(model),
        }
    }

    /// Lists a model no more.
    pub(crate) fn remove(&self, name: &str) {
        self.names_mut().listed.retain(|model| model.name != name);
    }

    /// The model of this name, with or without the tag for none, or that it is an alias of.
    fn named(&self, name: &str) -> Result<Model, ServerError> {
        self.own(name).or_else(|_| match self.alias(name) {
            Some(alias) => self.own(&alias.model).map_err(|_| self.not_found(name)),
            None => Err(self.not_found(name)),
        })
    }

    /// The alias that `name` is one of the names of, with or without the tag for none.
    fn alias(&self, name: &str) -> Option<Alias> {
        let (plain, aliases) = (plain_name(name), self.aliases());
        let alias = |name: &str| aliases.iter().find(|alias| alias.fits(name)).cloned();
        alias(name).or_else(|| alias(plain))
    }

    /// The alias that `name` is one of the names of, where it is no model's own and what it stands
    /// for is as the owner's lock says.
    pub(crate) fn alias_of(&self, name: &str) -> Option<Alias> {
        if self.own(name).is_ok() {
            return None;
        }
        self.alias(name).filter(|alias| self.refusal(&alias.name, &alias.model).is_none())
    }

    /// What a name stands for that is no model's own: what its alias says, else itself.
    pub(crate) fn target(&self, name: &str) -> Option<String> {
        if self.own(name).is_ok() {
            return None;
        }
        Some(self.alias(name).map_or_else(|| name.to_owned(), |alias| alias.model))
    }

    /// Why a model is not answered with under this name, its own or an alias, as far as that is
    /// known without opening it.
    fn refusal(&self, name: &str, model: &str) -> Option<String> {
        let refusal = self.library.as_ref()?.refusal(name);
        refusal.or_else(|| self.misdirection(name, model))
    }

    /// Why the owner's lock does not have this name stand for this model, if it does not.
    fn misdirection(&self, name: &str, model: &str) -> Option<String> {
        let library = self.library.as_ref()?;
        let misdirection = library.misdirects(name, model);
        misdirection.or_else(|| library.misdirects(plain_name(name), model))
    }

    /// As [`Models::named`], without aliases: for what is to change a model.
    pub(crate) fn own(&self, name: &str) -> Result<Model, ServerError> {
        let plain = plain_name(name);
        let mut listed = self.listed();
        let position = |name: &str| listed.iter().position(|model| model.name == name);
        match position(name).or_else(|| position(plain)) {
            Some(model_idx) => Ok(listed.swap_remove(model_idx)),
            None => Err(self.not_found(name)),
        }
    }

    /// Refuses a name for a new model that stands for something else already, or would but for its
    /// case. One that is served under just this name is no new one.
    pub(crate) fn check_new(&self, name: &str) -> Result<(), ServerError> {
        let wrong = |problem: String| {
            Err(ServerError::Forbidden(format!(
                "{}: {problem}, expected another name",
                short(name)
            )))
        };
        let listed = self.listed();
        if listed.iter().any(|model| model.name == name) {
            return Ok(());
        }
        if let Some(model) = listed.iter().find(|model| model.name.eq_ignore_ascii_case(name)) {
            return wrong(format!("a model is served as {}", model.name));
        }
        match self.aliases().iter().find(|alias| alias.fits(name)) {
            Some(alias) => wrong(format!("the server's owner has an alias {:?}", alias.name)),
            None => Ok(()),
        }
    }

    /// Refuses to have a model removed that the owner has named.
    pub(crate) fn check_removable(&self, name: &str) -> Result<(), ServerError> {
        let wrong = |why: String| Err(ServerError::Forbidden(format!("{name}: {why}")));
        if let Some(alias) = self.aliases().iter().find(|alias| alias.model == name) {
            return wrong(format!("the server's owner has an alias {:?} of it", alias.name));
        }
        match self.fleet.own_keep(name) {
            Some(Keep::Pinned) => wrong("it was named when the server was started".to_owned()),
            Some(Keep::Idle(_)) | None => Ok(()),
        }
    }

    fn not_found(&self, name: &str) -> ServerError {
        ServerError::ModelNotFound {
            asked: short(name),
            served: self.listed().into_iter().map(|model| model.name).collect(),
        }
    }

    /// The model of this name, which must do `task`, or the first that does where none is named.
    fn find(&self, name: Option<&str>, task: Task) -> Result<Model, ServerError> {
        let found = match name {
            None => self.listed().into_iter().find(|model| model.task == task),
            Some(name) => Some(self.asked(name)?),
        };
        found
            .filter(|model| model.task == task)
            .ok_or_else(|| Self::wrong_task(&self.listed(), name, task))
    }

    /// Refuses the name of a model that is not served or does something else.
    pub(crate) fn check(&self, name: Option<&str>, task: Task) -> Result<(), ServerError> {
        self.find(name, task).map(|_| ())
    }

    /// As [`Models::named`], for an answer: a name must stand for what the owner's lock says.
    fn asked(&self, name: &str) -> Result<Model, ServerError> {
        let refusal = |alias: Alias| self.refusal(&alias.name, &alias.model);
        let (model, refused) = match self.own(name) {
            Ok(model) => (model, None),
            Err(_) => (self.named(name)?, self.alias(name).and_then(refusal)),
        };
        match refused.or_else(|| self.misdirection(name, &model.name)) {
            Some(what) => Err(NotAsLocked(what).into()),
            None => Ok(model),
        }
    }

    /// That none of `listed` does the task, or that the one of this name does not.
    fn wrong_task(listed: &[Model], name: Option<&str>, task: Task) -> ServerError {
        let fitting = listed.iter().filter(|model| model.task == task);
        let fitting: Vec<&str> = fitting.map(|model| model.name.as_str()).collect();
        let (does, wanted, route) = match task {
            Task::Generate => ("makes embeddings", "writes text", "/v1/embeddings"),
            Task::Embed => ("writes text", "makes embeddings", "/v1/chat/completions"),
        };
        let problem = match name {
            None => format!("absent: no model here {wanted}"),
            Some(name) => format!("{:?} {does} (use {route})", short(name)),
        };
        let expected = match fitting[..] {
            [] => String::new(),
            _ => format!(": expected one that {wanted}: {}", fitting.join(", ")),
        };
        BadRequest::field("model", &format!("{problem}{expected}")).into()
    }

    /// Keeps an open model so long after its last use; for a client elsewhere no longer than its
    /// owner does. `false` where it is not kept so.
    pub(crate) fn keep(&self, name: &str, idle: Duration, is_local: bool) -> bool {
        let most = match self.fleet.own_keep(name) {
            Some(Keep::Idle(own)) if !is_local => own,
            _ => Duration::MAX,
        };
        self.fleet.keep(name, idle.min(most)) && idle <= most
    }

    /// Has the model of this name closed once nobody uses it, and returns its own name.
    pub(crate) fn unload(&self, name: Option<&str>) -> Result<String, ServerError> {
        let model = match name {
            Some(name) => self.named(name)?,
            None => self.find(None, Task::Generate)?,
        };
        let is_open = self.fleet.get_open(&model.name).is_some();
        if is_open && !self.fleet.keep(&model.name, Duration::ZERO) {
            let name = model.name;
            let why = format!("{name}: it was named when the server was started, and stays open");
            return Err(ServerError::Forbidden(why));
        }
        Ok(model.name)
    }

    /// The model of this name, or the first for this task where none is named; `None` where
    /// [`Models::open`] would have to open it.
    pub(crate) fn get_open<S: OfTask>(&self, name: Option<&str>) -> Result<Option<S>, ServerError> {
        let model = self.find(name, S::TASK)?;
        let opened = self.fleet.get_open(&model.name);
        opened.map(|opened| self.serve(name, &model, opened)).transpose()
    }

    /// As [`Models::get_open`]; opens the model where it is not open, which may take minutes.
    pub(crate) fn open<S: OfTask>(&self, name: Option<&str>) -> Result<S, ServerError> {
        let model = self.find(name, S::TASK)?;
        match self.fleet.get(&model.name) {
            Ok(opened) => self.serve(name, &model, opened),
            Err(error) => Err(refusal(&error)),
        }
    }

    /// A file may have been replaced by one that does something else since it was listed.
    fn serve<S: OfTask>(
        &self,
        name: Option<&str>,
        model: &Model,
        opened: Opened,
    ) -> Result<S, ServerError> {
        S::new(model, opened).ok_or_else(|| Self::wrong_task(&self.listed(), name, S::TASK))
    }

    /// Closes the models whose time is over.
    pub(crate) fn close_idle(&self) {
        for name in self.fleet.close_idle() {
            tracing::info!(model = %name, "closed: nobody used it");
        }
    }

    /// Has the library note which models are open: one that stays open for long is in use.
    pub(crate) fn mark_open(&self) {
        let Some(library) = &self.library else { return };
        for status in self.fleet.status() {
            if matches!(status.state, FleetState::Open { .. }) {
                library.mark_used(&status.name);
            }
        }
    }

    /// What there is to say of each model, in order, and behind them under each further name: who
    /// chooses from the list sees what may be asked for.
    pub(crate) fn cards(&self, who: &Who) -> Vec<ModelCard> {
        let statuses = self.fleet.status();
        let card = |model: &Model| {
            let status = statuses.iter().find(|status| status.name == model.name);
            self.card_of(model, status)
        };
        let mut cards: Vec<ModelCard> = self.listed().iter().map(card).collect();
        for alias in self.aliases().into_iter().filter(Alias::is_one) {
            let of_model = cards.iter().find(|card| card.id == alias.model).cloned();
            cards.extend(of_model.map(|card| self.card_of_alias(&alias, card)));
        }
        cards.retain(|card| self.is_listed_for(&who.scopes, &card.id));
        cards
    }

    /// What there is to say of one model.
    pub(crate) fn card(&self, who: &Who, name: &str) -> Result<ModelCard, ServerError> {
        let model = self.permitted(who, name)?;
        let status = self.fleet.status().into_iter().find(|status| status.name == model.name);
        let card = self.card_of(&model, status.as_ref());
        let alias = self.aliases().into_iter().find(|alias| alias.is_one() && alias.name == name);
        Ok(match alias {
            Some(alias) => self.card_of_alias(&alias, card),
            None => card,
        })
    }

    fn card_of(&self, model: &Model, status: Option<&FleetStatus>) -> ModelCard {
        let card = card(model, status, self.created);
        match self.refusal(&model.name, &model.name) {
            Some(reason) => ModelCard { status: ModelStatus::refused(reason), ..card },
            None => card,
        }
    }

    /// The card of a model under a further name.
    fn card_of_alias(&self, alias: &Alias, card: ModelCard) -> ModelCard {
        let id = alias.name.clone();
        match self.refusal(&alias.name, &alias.model) {
            Some(reason) => ModelCard { id, status: ModelStatus::refused(reason), ..card },
            None => ModelCard { id, ..card },
        }
    }

    /// What there is to measure of each model.
    pub(crate) fn gauges(&self) -> Vec<ModelGauges> {
        let gauges = |status: FleetStatus| {
            let opened = match status.state {
                FleetState::Open { model, .. } => Some(model),
                FleetState::Opening | FleetState::Closed => None,
            };
            ModelGauges {
                name: status.name,
                is_open: opened.is_some(),
                n_opened: status.n_opened,
                planned_bytes: opened.as_ref().map(|opened| opened.info().planned_bytes()),
                stats: opened.and_then(Opened::generator).map(|engine| engine.stats()),
            }
        };
        self.fleet.status().into_iter().map(gauges).collect()
    }

    /// As [`Models::cards`], with all that is known.
    pub(crate) fn descriptions(&self, who: &Who) -> Vec<Description> {
        let open = OpenModel::all(&self.fleet);
        let listed = self.listed();
        let describe = |model: &Model, name: &str| self.describe(model, name, &open);
        let own = listed.iter().map(|model| describe(model, &model.name));
        let aliases = self.aliases();
        let further = aliases.iter().filter(|alias| alias.is_one()).filter_map(|alias| {
            let model = listed.iter().find(|model| model.name == alias.model)?;
            Some(describe(model, &alias.name))
        });
        let is_listed = |of: &Description| self.is_listed_for(&who.scopes, &of.name);
        own.chain(further).filter(is_listed).collect()
    }

    /// All that is known of one model.
    pub(crate) fn description(&self, who: &Who, name: &str) -> Result<Description, ServerError> {
        let model = self.permitted(who, name)?;
        Ok(self.describe(&model, &model.name, &OpenModel::all(&self.fleet)))
    }

    fn describe(&self, model: &Model, name: &str, open: &[(String, OpenModel)]) -> Description {
        let open = open.iter().find(|(of, _)| *of == model.name).map(|(_, open)| open.clone());
        let facts = self.library.as_ref().and_then(|library| library.facts(&model.name));
        let of_open = || open.as_ref().map(|open| Arc::clone(&open.facts));
        let facts = facts.or_else(of_open).unwrap_or_else(|| Arc::new(facts_of(None)));
        Description {
            name: name.to_owned(),
            task: model.task,
            digest: model.digest.clone(),
            facts,
            open,
            refused: {
                let refusal = |name: &str| self.refusal(name, &model.name);
                refusal(name).or_else(|| refusal(&model.name))
            },
            created: self.created,
        }
    }

    /// The first model whose engine has stopped for good, and nobody has asked for it since.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.fleet.status().into_iter().find(is_stopped).map(|status| status.name)
    }
}

impl OfTask for Served {
    const TASK: Task = Task::Generate;

    fn new(model: &Model, opened: Opened) -> Option<Self> {
        let engine = opened.generator()?;
        let fingerprint = fingerprint(engine.info(), model);
        let digest = model.digest.clone().or_else(|| engine.info().digest.clone());
        let (name, lock) = (model.name.clone(), model.lock.clone());
        Some(Self { name, engine, fingerprint, digest, lock })
    }
}

impl OfTask for ServedEmbedder {
    const TASK: Task = Task::Embed;

    fn new(model: &Model, opened: Opened) -> Option<Self> {
        Some(Self { name: model.name.clone(), embedder: opened.embedder()? })
    }
}

/// Whether its engine has stopped for good; the next request to it opens it anew.
fn is_stopped(status: &FleetStatus) -> bool {
    match &status.state {
        FleetState::Open { model, .. } => model.is_stopped(),
        FleetState::Opening | FleetState::Closed => false,
    }
}

fn refusal(error: &FleetError) -> ServerError {
    if let FleetError::NotOpened { error, .. } = error
        && let EngineError::Refused(why) = &**error
        && let Some(not_as_locked) = why.downcast_ref::<NotAsLocked>()
    {
        return not_as_locked.clone().into();
    }
    let what = error.to_string();
    match error {
        // What is in use now will not be for ever; what is pinned may.
        FleetError::NoRoom { kept, .. } if kept.iter().any(|(_, why)| *why == Kept::InUse) => {
            ServerError::ModelUnavailable { what, retry_after: Some(RETRY_NO_ROOM) }
        }
        _ => ServerError::ModelUnavailable { what, retry_after: None },
    }
}

/// What an open model says of itself, where nobody knows more.
fn facts_of(opened: Option<&Opened>) -> Facts {
    let Some(opened) = opened else { return Facts::default() };
    let info = opened.info();
    let template = match opened {
        Opened::Generator(engine) => engine.template().map(|t| t.source().to_owned()),
        Opened::Embedder(_) => None,
    };
    Facts {
        n_bytes: info.weight_bytes,
        architecture: info.architecture.clone(),
        n_ctx: Some(info.n_ctx),
        template,
        ..Facts::default()
    }
}

fn card(model: &Model, status: Option<&FleetStatus>, created: u64) -> ModelCard {
    let (opened, value) = match status.map(|status| &status.state) {
        Some(FleetState::Open { model, .. }) => (Some(model), "loaded"),
        Some(FleetState::Opening) => (None, "loading"),
        Some(FleetState::Closed) | None => (None, "unloaded"),
    };
    let n_ctx = opened.map(|opened| opened.info().n_ctx);
    let meta = |opened: &Opened| {
        let info = opened.info();
        let (chat, n_embd) = match opened {
            Opened::Generator(engine) => (engine.template().is_some(), None),
            Opened::Embedder(embedder) => (false, Some(embedder.n_embd())),
        };
        ModelMeta {
            architecture: info.architecture.clone(),
            n_vocab: info.n_vocab,
            n_ctx_train: info.n_ctx_train,
            size: info.weight_bytes,
            chat,
            n_embd,
        }
    };
    ModelCard {
        id: model.name.clone(),
        object: "model",
        created,
        owned_by: "freehold",
        status: ModelStatus { value, reason: None },
        context_length: n_ctx,
        max_model_len: n_ctx,
        meta: opened.map(meta),
    }
}

/// One word for what answers: it changes with the program's version, with that of its arithmetic,
/// and with the model's file where its digest is known; else only with the model's name and shape,
/// so that two files of one shape look the same. The instruction set and the threads are not in
/// it, since they change no result.
///
/// Of a model that is held to a lock it goes on with the version of the arithmetic and the first
/// digits of what the lock says, which `freehold why` shows: `fp_0123456789abcdef_n1_0123456789ab`.
fn fingerprint(info: &ModelInfo, model: &Model) -> String {
    let parts = format!(
        "{VERSION} {NUMERICS_VERSION} {} {} {} {} {} {} {}",
        model.digest.as_deref().unwrap_or_default(),
        info.architecture,
        info.name.as_deref().unwrap_or_default(),
        info.n_layers,
        info.n_vocab,
        info.n_ctx_train,
        info.weight_bytes
    );
    // FNV-1a, 64 bits: no secret, only a short name that stays the same from start to start.
    let hash = parts.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    match &model.lock {
        None => format!("fp_{hash:016x}"),
        Some(lock) => {
            let lock = lock.get(..N_LOCK_DIGITS).unwrap_or(lock);
            format!("fp_{hash:016x}_n{NUMERICS_VERSION}_{lock}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{EngineOptions, FleetModel};

    fn models(fleet: &Fleet, names: &[&str], aliases: &[(&str, &str)]) -> Models {
        let model = |name: &&str| Model {
            name: (*name).to_owned(),
            task: Task::Embed,
            digest: None,
            lock: None,
        };
        let alias = |(name, model): &(&str, &str)| Alias {
            name: (*name).to_owned(),
            model: (*model).to_owned(),
        };
        let listed = names.iter().map(model).collect();
        let aliases = aliases.iter().map(alias).collect();
        Models::new(fleet.clone(), listed, aliases, None, &[], 0).unwrap()
    }

    fn later(keep: Keep) -> FleetModel {
        FleetModel::file(testkit::minilm_f16(), EngineOptions::default(), keep)
    }

    #[test]
    fn clients_elsewhere_keep_a_model_no_longer_than_its_owner_does() {
        let fleet = Fleet::new(None);
        let seconds = Duration::from_secs;
        fleet.set("m", later(Keep::Idle(seconds(60))));
        let models = models(&fleet, &["m"], &[]);
        fleet.get("m").unwrap();
        let check = |asked: u64, is_local: bool, is_kept: bool, expected: u64| {
            assert_eq!(models.keep("m", seconds(asked), is_local), is_kept, "{asked} {is_local}");
            assert_eq!(fleet.status()[0].keep, Keep::Idle(seconds(expected)), "{asked} {is_local}");
        };
        check(3600, false, false, 60);
        check(30, false, true, 30);
        check(60, false, true, 60);
        check(3600, true, true, 3600);
        // One that makes vectors is closed as any other.
        assert_eq!(models.unload(Some("m:latest")).unwrap(), "m");
        assert_eq!(fleet.close_idle(), ["m"]);
    }

    #[test]
    fn what_is_asked_of_a_model_does_not_use_it() {
        let fleet = Fleet::new(None);
        fleet.set("m", later(Keep::Idle(Duration::ZERO)));
        let models = models(&fleet, &["m"], &[]);
        fleet.get("m").unwrap();
        let descriptions = models.descriptions(&Who::owner());
        assert!(descriptions[0].open.as_ref().unwrap().planned_bytes > 0);
        assert_eq!(fleet.close_idle(), ["m"]);
        assert!(models.description(&Who::owner(), "m").unwrap().open.is_none());
    }

    #[test]
    fn what_the_owner_named_is_not_the_clients_to_change() {
        let fleet = Fleet::new(None);
        fleet.set("a", later(Keep::Pinned));
        fleet.set("b", later(Keep::Idle(Duration::ZERO)));
        fleet.set("c", later(Keep::Idle(Duration::ZERO)));
        let models = models(&fleet, &["a", "b", "c"], &[("x-*", "b"), ("y", "b")]);
        for (name, expected) in
            [("a", true), ("A", false), ("x-1", false), ("y", false), ("d", true)]
        {
            assert_eq!(models.check_new(name).is_ok(), expected, "{name}");
        }
        for (name, expected) in [("a", false), ("b", false), ("c", true)] {
            assert_eq!(models.check_removable(name).is_ok(), expected, "{name}");
        }
    }
}
