//! What of a server may change while it runs, and how it does: read anew, made ready, checked, and
//! then put in place at once, or not at all. Answers in flight go on as they began.
//!
//! Where the configuration stands and what it looks like this crate does not know; [`Reload`] does.

use crate::app::App;
use crate::errors::ServerError;
use crate::gate::Gate;
use crate::tls::Tls;
use crate::upstream::Ways;
use crate::{Alias, Elsewhere, Limits, Model, Shares};
use serde::Serialize;
use std::sync::{Arc, PoisonError, RwLock};

/// Reads the configuration of a running server anew.
pub trait Reload: Send + Sync {
    /// Reads it and makes ready what it asks for, beside what runs. `served` are the models that
    /// are listed now. May block for as long as a model takes to open.
    ///
    /// # Errors
    /// All that is wrong with it, each with its place, value and expectation. Nothing has changed.
    fn prepare(&self, served: &[Model]) -> Result<Prepared, Vec<String>>;

    /// What is in effect, and where each value comes from. Of a secret only that it is set.
    fn settings(&self) -> Vec<Setting> {
        Vec::new()
    }
}

/// One setting that is in effect.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its name in the file.
    pub name: String,
    /// Its value; null where it has none.
    pub value: serde_json::Value,
    /// Flag, environment variable, place in a file, or default.
    pub origin: String,
    /// Whether a running server takes a new value over.
    pub is_reloadable: bool,
}

/// A configuration that is ready to be put in place.
pub struct Prepared {
    /// What the server takes over.
    pub live: Live,
    /// What there is to say of it.
    pub report: Report,
    /// Puts in place what the server does not hold itself. Dropped without being called where the
    /// configuration is not taken. Requests wait for its end: what may itself have to wait, for the
    /// memory of what is gone, it returns.
    pub commit: Box<dyn FnOnce() -> Afterwards + Send>,
}

/// What is left to do once all is in place.
pub type Afterwards = Box<dyn FnOnce() + Send>;

/// What a server takes over while it runs.
pub struct Live {
    /// The models, in the order in which they are listed; those that are listed beside them stay,
    /// behind them.
    pub models: Vec<Model>,
    /// The models that are listed no more.
    pub gone: Vec<String>,
    /// Further names of the models.
    pub aliases: Vec<Alias>,
    /// Parts of the requests to them.
    pub shares: Shares,
    /// Where requests may go beside here.
    pub elsewhere: Elsewhere,
    /// The bounds; those that [`Limits::renewed`] keeps stay as they are.
    pub limits: Limits,
    /// As in the configuration at the start.
    pub allowed_origins: Vec<String>,
    /// As in the configuration at the start.
    pub allowed_hosts: Vec<String>,
    /// The certificate of connections that come from now on.
    pub tls: Option<Tls>,
}

/// What a reload has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Settings whose new value is in effect.
    pub changed: Vec<String>,
    /// Settings whose new value is not, until the server is started anew.
    pub needs_restart: Vec<String>,
    /// Models that are served and were not before.
    pub models_added: Vec<String>,
    /// Models whose name stands for other bytes than before, or for others by the owner's lock.
    pub models_replaced: Vec<String>,
    /// Models that are served no more.
    pub models_removed: Vec<String>,
}

/// A value that is read often and changed as a whole.
pub(crate) struct Current<T>(RwLock<Arc<T>>);

impl<T> Current<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(RwLock::new(Arc::new(value)))
    }

    /// The value as it is now.
    pub(crate) fn get(&self) -> Arc<T> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has another from now on.
    pub(crate) fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(value);
    }
}

impl App {
    /// Reads the configuration anew. Who asks meanwhile waits for their turn and has it read once
    /// more, so that each is told the truth.
    ///
    /// # Errors
    /// What is wrong with it, and that nothing was changed; or that there is none to read.
    pub(crate) async fn reload(self: &Arc<Self>) -> Result<Report, ServerError> {
        let Some(reload) = self.reload.clone() else {
            let why = "this server has no configuration that could be read anew";
            return Err(ServerError::NotImplemented(why.to_owned()));
        };
        // Held by the work, not by whoever asked: a client that goes away ends nothing.
        let turn = Arc::clone(&self.reloading).lock_owned().await;
        let app = Arc::clone(self);
        let work = move || {
            let _turn = turn;
            let result = match reload.prepare(&app.models.listed()) {
                Ok(prepared) => app.take_over(prepared),
                Err(problems) => Err(problems),
            };
            say(&result);
            result.map_err(|problems| ServerError::NotReloaded { problems })
        };
        let ended = tokio::task::spawn_blocking(work).await;
        ended.map_err(|_| ServerError::Failed("reading the configuration panicked".to_owned()))?
    }

    fn take_over(&self, prepared: Prepared) -> Result<Report, Vec<String>> {
        let Prepared { live, report, commit } = prepared;
        let limits = self.limits.get().renewed(&live.limits);
        let Live { models, gone, aliases, elsewhere, .. } = &live;
        // An answer says which model made it: names and engines change together.
        let afterwards = self.models.swap(|| {
            let (models, aliases) = (models.clone(), aliases.clone());
            self.models
                .renew(models, gone, aliases, &elsewhere.names())
                .map_err(|problem| vec![problem])?;
            Ok::<_, Vec<String>>(commit())
        })?;
        self.shares.set(live.shares);
        self.ways.set(Ways::new(live.elsewhere));
        self.seats.resize(limits.n_requests);
        self.limits.set(limits);
        self.gate.set(Gate::new(&live.allowed_hosts, &live.allowed_origins));
        // Whether there is TLS at all is a matter of the address, which stays.
        if self.tls.get().is_some() && live.tls.is_some() {
            self.tls.set(live.tls);
        }
        afterwards();
        Ok(report)
    }
}

fn say(result: &Result<Report, Vec<String>>) {
    match result {
        Ok(report) => {
            tracing::info!(
                changed = report.changed.join(", "),
                models_added = report.models_added.join(", "),
                models_replaced = report.models_replaced.join(", "),
                models_removed = report.models_removed.join(", "),
                "configuration reloaded"
            );
            if !report.needs_restart.is_empty() {
                let settings = report.needs_restart.join(", ");
                tracing::warn!(settings, "changed settings need a restart to take effect");
            }
        }
        Err(problems) => {
            for problem in problems {
                tracing::error!(problem, "configuration not reloaded, nothing was changed");
            }
        }
    }
}
