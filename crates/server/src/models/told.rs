//! What is told of models: to clients in lists, to the owner with all that is known, and to whoever
//! measures.

use super::Models;
use crate::access::Who;
use crate::dialects::openai::{ModelCard, ModelMeta, ModelStatus, RecommendedSampling};
use crate::errors::ServerError;
use crate::library::Facts;
use crate::{Alias, Model};
use engine::{EngineStats, Fleet, FleetState, FleetStatus, Keep, Opened, Task};
use std::sync::Arc;
use std::time::Duration;

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

impl Models {
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
}

/// What an open model says of itself, where nobody knows more.
fn facts_of(opened: Option<&Opened>) -> Facts {
    let Some(opened) = opened else { return Facts::default() };
    let info = opened.info();
    let generator = match opened {
        Opened::Generator(engine) => Some(engine),
        Opened::Embedder(_) => None,
    };
    let template = generator.and_then(|engine| engine.template());
    Facts {
        n_bytes: info.weight_bytes,
        architecture: info.architecture.clone(),
        n_ctx: Some(info.n_ctx),
        template: template.map(|template| template.source().to_owned()),
        fills_in: generator.is_some_and(|engine| engine.tokenizer().fill_in().is_some()),
        recommended: info.recommended.clone(),
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
            recommended_sampling: RecommendedSampling::of(&info.recommended),
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
