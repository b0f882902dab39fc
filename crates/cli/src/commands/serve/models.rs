//! Which models are served, and under which names, beside what the lock says of them.

use std::time::Duration;

use engine::{Fleet, Keep, Opened, Task};

use super::announce::Use;
use super::opening::{LastFailure, opening_failed};
use super::{Serve, warn};
use crate::context::Context;
use crate::exit::{self, Exit, Failure};
use crate::locate::{self, Chosen, Missing};
use crate::locked;
use crate::numbers;

/// How long a model stays that was opened on demand, where nobody says.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

impl Serve {
    /// How long a model stays that was opened on demand.
    pub(super) fn keep(&self) -> Keep {
        self.keep_alive.unwrap_or(Keep::Idle(KEEP_ALIVE))
    }

    /// The models to serve, and how long each stays: those that are named, else the default one and
    /// what is installed beside it.
    pub(super) fn wanted(
        &self,
        context: &Context,
        missing: Missing,
    ) -> anyhow::Result<Vec<(Chosen, Keep)>> {
        let default = [locate::default_model().to_owned()];
        let asked: &[String] = if self.models.is_empty() { &default } else { &self.models };
        let mut wanted: Vec<(Chosen, Keep)> = Vec::new();
        for text in asked {
            let chosen = locate::find_locked(context, text, missing, self.lock.as_ref())?;
            if wanted.iter().any(|(other, _)| other.name == chosen.name) {
                let message =
                    format!("model {text}: a model named {} is served already", chosen.name);
                return Err(Failure::new(Exit::Usage, message).into());
            }
            let keep = if self.on_demand { self.keep() } else { Keep::Pinned };
            wanted.push((chosen, keep));
        }
        if self.models.is_empty() {
            for installed in context.store()?.list()? {
                match installed {
                    Ok(installed) => {
                        let chosen = Chosen::listed(installed, self.lock.as_ref());
                        let chosen = chosen.filter(|chosen| chosen.name != wanted[0].0.name);
                        wanted.extend(chosen.map(|chosen| (chosen, self.keep())));
                    }
                    // One that is damaged keeps nobody from the others.
                    Err(error) => context.note(&format!("not served: {error}")),
                }
            }
        }
        Ok(wanted)
    }

    /// How many of the models that [`Serve::wanted`] gives are named, the default one counted.
    fn n_named(&self) -> usize {
        self.models.len().max(1)
    }

    /// The models to serve, those opened that are not on demand.
    pub(super) fn models(
        &self,
        context: &Context,
        wanted: Vec<(Chosen, Keep)>,
        fleet: &Fleet,
        failure: &LastFailure,
    ) -> anyhow::Result<Vec<server::Model>> {
        let add = |(chosen, keep)| self.add(context, fleet, chosen, keep, failure);
        let models: Vec<server::Model> = wanted.into_iter().map(add).collect();
        // Before minutes of loading.
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        self.check_shares(&names).map_err(|problem| Failure::new(Exit::Usage, problem))?;
        self.check_names();
        let (named, others) = names.split_at(self.n_named());
        if !others.is_empty() {
            context.note(&format!("opened when they are asked for: {}", others.join(", ")));
        }
        for name in named {
            if self.on_demand {
                context.note(&format!("{name}: opened when it is asked for"));
                continue;
            }
            match fleet.get(name).map_err(|error| opening_failed(error, failure)) {
                Ok(opened) => say_served(context, name, &opened),
                // The others are served all the same.
                Err(error) if locked::is_refusal(&error) => exit::report(&error),
                Err(error) => return Err(error),
            }
        }
        self.any_left(&models)?;
        Ok(models)
    }

    /// Refuses to serve where all models are refused.
    fn any_left(&self, models: &[server::Model]) -> anyhow::Result<()> {
        if models.iter().any(|model| self.refusals.get(&model.name).is_none()) {
            return Ok(());
        }
        let told: Vec<String> =
            models.iter().filter_map(|model| self.refusals.get(&model.name)).collect();
        let message = format!("nothing is left to serve: {}", told.join("; "));
        Err(Failure::new(Exit::Verification, message).into())
    }

    /// Holds the names that are served against the lock. One that differs is refused when it is
    /// asked for; of an alias of the lock's that nothing here answers to the owner is told.
    pub(super) fn check_names(&self) {
        let Some(lock) = &self.lock else { return };
        for alias in self.aliases.all() {
            match lock.check_alias(alias) {
                Ok(()) => self.refusals.forget(&alias.name),
                Err(error) => {
                    let error = error.into();
                    exit::report(&error);
                    self.refusals.note(&alias.name, &[], &error);
                }
            }
        }
        let names = self.known.names();
        for name in &names {
            if let Err(error) = lock.check_name(name, name) {
                exit::report(&error.into());
            }
        }
        for (name, model) in lock.aliases().filter(|(_, model)| names.contains(model)) {
            let is_given = self.aliases.all().iter().any(|alias| alias.fits(name));
            if !is_given && !names.contains(name) {
                warn(&format!(
                    "alias {name}: the lock has it for {model}, and nothing here answers to it; \
                     expected --alias '{name}={model}'"
                ));
            }
        }
    }

    /// The first model that answers, and what it is for.
    pub(super) fn first(&self, models: &[server::Model], fleet: &Fleet) -> (String, Use) {
        let first = models.iter().find(|model| self.refusals.get(&model.name).is_none());
        let first = first.unwrap_or(&models[0]);
        // One that is opened on demand says what it is when it is there.
        let use_for = match (first.task, fleet.get_open(&first.name)) {
            (Task::Embed, _) => Use::Embed,
            (_, Some(Opened::Generator(engine))) if engine.template().is_none() => Use::Complete,
            _ => Use::Chat,
        };
        (first.name.clone(), use_for)
    }
}

/// One line for each model that is served.
fn say_served(context: &Context, name: &str, opened: &Opened) {
    let info = opened.info();
    let memory = info.weight_bytes.saturating_add(info.kv_bytes).saturating_add(info.scratch_bytes);
    let kind = match opened {
        Opened::Generator(engine) if engine.template().is_some() => String::new(),
        Opened::Generator(_) => ", a base model: completions only".to_owned(),
        Opened::Embedder(embedder) => format!(", embeddings of {} dimensions", embedder.n_embd()),
    };
    context.note(&format!(
        "{name}: context {}, {} threads, {} of memory{kind}",
        info.n_ctx,
        info.n_threads,
        numbers::bytes(memory),
    ));
}
