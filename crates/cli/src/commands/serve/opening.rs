//! How models are opened, by whoever asks for one first, and why one could not be.

use std::sync::{Arc, Mutex, PoisonError};

use engine::{EngineError, EngineOptions, Fleet, FleetError, FleetModel, Keep, Recommended};
use server::NotAsLocked;

use super::Serve;
use super::library::{KnownModel, digest};
use crate::commands::run::{say_info, speculation};
use crate::context::Context;
use crate::exit;
use crate::locate::Chosen;
use crate::locked;

/// How the latest opening failed, in the form that decides the exit status.
pub(super) type LastFailure = Arc<Mutex<Option<anyhow::Error>>>;

impl Serve {
    /// Tells the fleet how to open a model, and notes what is known of it.
    pub(super) fn add(
        &self,
        context: &Context,
        fleet: &Fleet,
        chosen: Chosen,
        keep: Keep,
        failure: &LastFailure,
    ) -> server::Model {
        let chosen = chosen.held_to(self.lock.as_ref());
        let known = KnownModel::new(&chosen, self.ctx);
        let model = known.model.clone();
        fleet.set(&model.name, self.fleet_model(context, chosen, keep, failure));
        self.known.note(known);
        model
    }

    /// How the fleet opens a model.
    pub(super) fn fleet_model(
        &self,
        context: &Context,
        chosen: Chosen,
        keep: Keep,
        failure: &LastFailure,
    ) -> FleetModel {
        let options = EngineOptions {
            n_threads: self.threads.map(usize::from),
            n_ctx: self.ctx,
            max_sequences: usize::from(self.max_sequences),
            speculation: speculation(self.no_speculation),
            kv_format: self.kv,
            prefix_store: self.store.clone(),
            model_digest: digest(&chosen),
            is_hashed: self.receipts.is_some(),
            ..EngineOptions::default()
        };
        // All but the bytes is known before anybody asks; one that is opened now tells it then.
        if keep != Keep::Pinned
            && let Err(error) = self.refusals.check(&chosen, context)
        {
            exit::report(&error);
        }
        let (context, failure) = (context.clone(), failure.clone());
        let refusals = self.refusals.clone();
        let open = move |options: &EngineOptions| {
            let opened = refusals.open(&chosen, &context, options);
            let opened = opened.map_err(|error| as_engine_error(error, &failure))?;
            say_info(&context, &chosen.name, opened.info());
            say_recommended(&context, &chosen.name, &opened.info().recommended);
            Ok(opened)
        };
        FleetModel { open: Arc::new(open), options, keep }
    }
}

/// Says what requests get that do not say, where that is the file's word and not the server's.
fn say_recommended(context: &Context, name: &str, recommended: &Recommended) {
    if !recommended.is_empty() {
        context.note(&format!(
            "{name}: requests that do not say get {recommended}, as its file has it"
        ));
    }
    for why in &recommended.unused {
        context.note(&format!("{name}: not followed: {}", why.escape_debug()));
    }
}

/// Where memory lacks, the fleet frees some; of everything else it needs the words only.
fn as_engine_error(error: anyhow::Error, failure: &LastFailure) -> EngineError {
    match error.downcast_ref() {
        Some(EngineError::NotEnoughMemory(_)) => {}
        // As it is, with the file that it is about.
        _ => return refused(error, failure),
    }
    error.downcast().unwrap_or_else(|error| refused(error, failure))
}

fn refused(error: anyhow::Error, failure: &LastFailure) -> EngineError {
    let words = format!("{error:#}");
    let words: Box<dyn std::error::Error + Send + Sync> = match locked::is_refusal(&error) {
        true => Box::new(NotAsLocked(words)),
        false => words.into(),
    };
    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    EngineError::Refused(words)
}

/// What keeps the server from starting.
pub(super) fn opening_failed(error: FleetError, failure: &LastFailure) -> anyhow::Error {
    match (error, failure.lock().unwrap_or_else(PoisonError::into_inner).take()) {
        (FleetError::NotOpened { .. }, Some(error)) => error,
        (FleetError::NoRoom { name, shortage, .. }, _) => {
            anyhow::Error::new(EngineError::NotEnoughMemory(Box::new(shortage))).context(name)
        }
        (error, _) => error.into(),
    }
}
