//! The models that are served: found by name, opened when they are first asked for.

use crate::dialects::fields::short;
use crate::dialects::openai::{ModelCard, ModelMeta, ModelStatus};
use crate::errors::ServerError;
use crate::{Model, VERSION};
use engine::{Engine, Fleet, FleetError, FleetState, FleetStatus, ModelInfo, NUMERICS_VERSION};
use std::collections::HashSet;
use std::time::Duration;

/// When a request may come again that found no room for its model.
const RETRY_NO_ROOM: Duration = Duration::from_secs(5);

/// Names, and the fleet that has what they stand for.
pub(crate) struct Models {
    fleet: Fleet,
    listed: Vec<Model>,
    /// Unix seconds at which the server took them up.
    created: u64,
}

/// A model that is open. It stays so as long as this is held.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) fingerprint: String,
}

impl Models {
    pub(crate) fn new(fleet: Fleet, listed: Vec<Model>, created: u64) -> Result<Self, ServerError> {
        if listed.is_empty() {
            return Err(ServerError::Config("models: none given, expected at least one".into()));
        }
        let mut names = HashSet::new();
        if let Some(twice) = listed.iter().find(|model| !names.insert(model.name.as_str())) {
            let name = &twice.name;
            let problem = format!("models: {name:?} given twice, expected each name once");
            return Err(ServerError::Config(problem));
        }
        Ok(Self { fleet, listed, created })
    }

    /// The model of this name, or the first where none is named.
    fn find(&self, name: Option<&str>) -> Result<&Model, ServerError> {
        let found = match name {
            None => self.listed.first(),
            Some(name) => self.listed.iter().find(|model| model.name == name),
        };
        found.ok_or_else(|| ServerError::ModelNotFound {
            asked: short(name.unwrap_or_default()),
            served: self.listed.iter().map(|model| model.name.clone()).collect(),
        })
    }

    /// The model of this name, or the first where none is named; `None` where [`Models::open`]
    /// would have to open it.
    pub(crate) fn get_open(&self, name: Option<&str>) -> Result<Option<Served>, ServerError> {
        let model = self.find(name)?;
        Ok(self.fleet.get_open(&model.name).map(|engine| Served::new(model, engine)))
    }

    /// As [`Models::get_open`]; opens the model where it is not open, which may take minutes.
    pub(crate) fn open(&self, name: Option<&str>) -> Result<Served, ServerError> {
        let model = self.find(name)?;
        match self.fleet.get(&model.name) {
            Ok(engine) => Ok(Served::new(model, engine)),
            Err(error) => Err(refusal(&error)),
        }
    }

    /// Closes the models whose time is over.
    pub(crate) fn close_idle(&self) {
        for name in self.fleet.close_idle() {
            tracing::info!(model = %name, "closed: nobody used it");
        }
    }

    /// What there is to say of each model, in order.
    pub(crate) fn cards(&self) -> Vec<ModelCard> {
        let statuses = self.fleet.status();
        let card = |model: &Model| {
            let status = statuses.iter().find(|status| status.name == model.name);
            card(model, status, self.created)
        };
        self.listed.iter().map(card).collect()
    }

    /// What there is to say of one model.
    pub(crate) fn card(&self, name: &str) -> Result<ModelCard, ServerError> {
        let model = self.find(Some(name))?;
        let status = self.fleet.status().into_iter().find(|status| status.name == model.name);
        Ok(card(model, status.as_ref(), self.created))
    }

    /// The first model whose engine has stopped for good, and nobody has asked for it since.
    pub(crate) fn stopped(&self) -> Option<String> {
        let is_stopped = |status: &FleetStatus| match &status.state {
            FleetState::Open { engine, .. } => engine.is_stopped(),
            FleetState::Closed | FleetState::Opening => false,
        };
        self.fleet.status().into_iter().find(is_stopped).map(|status| status.name)
    }
}

impl Served {
    fn new(model: &Model, engine: Engine) -> Self {
        let fingerprint = fingerprint(engine.info(), model.digest.as_deref());
        Self { name: model.name.clone(), engine, fingerprint }
    }
}

fn refusal(error: &FleetError) -> ServerError {
    let what = error.to_string();
    match error {
        // What is in use now will not be for ever.
        FleetError::NoRoom { kept, .. } if !kept.is_empty() => {
            ServerError::ModelUnavailable { what, retry_after: Some(RETRY_NO_ROOM) }
        }
        _ => ServerError::ModelUnavailable { what, retry_after: None },
    }
}

fn card(model: &Model, status: Option<&FleetStatus>, created: u64) -> ModelCard {
    let (engine, value) = match status.map(|status| &status.state) {
        Some(FleetState::Open { engine, .. }) => (Some(engine), "loaded"),
        Some(FleetState::Opening) => (None, "loading"),
        Some(FleetState::Closed) | None => (None, "unloaded"),
    };
    let n_ctx = engine.map(|engine| engine.info().n_ctx);
    let meta = |engine: &Engine| {
        let info = engine.info();
        ModelMeta {
            architecture: info.architecture.clone(),
            n_vocab: info.n_vocab,
            n_ctx_train: info.n_ctx_train,
            size: info.weight_bytes,
            chat: engine.template().is_some(),
        }
    };
    ModelCard {
        id: model.name.clone(),
        object: "model",
        created,
        owned_by: "freehold",
        status: ModelStatus { value },
        context_length: n_ctx,
        max_model_len: n_ctx,
        meta: engine.map(meta),
    }
}

/// One word for what answers: it changes with the program's version, with that of its arithmetic,
/// and with the model's file where its digest is known; else only with the model's name and shape,
/// so that two files of one shape look the same. The instruction set and the threads are not in
/// it, since they change no result.
fn fingerprint(info: &ModelInfo, digest: Option<&str>) -> String {
    let parts = format!(
        "{VERSION} {NUMERICS_VERSION} {} {} {} {} {} {} {}",
        digest.unwrap_or_default(),
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
    format!("fp_{hash:016x}")
}
