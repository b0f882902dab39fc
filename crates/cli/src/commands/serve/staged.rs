//! Models that are made ready beside those that are served, for a reload: opened and held against
//! the lock that is to be in effect, then put in place at once, or gone again.
//!
//! What stays as it is, its file and what the lock says of it, is neither opened nor hashed again.

use std::sync::Arc;

use engine::{Fleet, FleetModel, Keep};
use server::{Afterwards, Model};

use super::Serve;
use super::library::{Known, KnownModel};
use super::opening::opening_failed;
use super::reload::Reloader;
use crate::exit::{self, Exit};
use crate::locate::{self, Chosen, Missing};
use crate::locked;
use crate::progress::Shown;

/// What a replacing model is called until it takes its place; no name has a space.
const STAGED: &str = " (new)";

/// What is to be made ready.
pub(super) struct Staging<'a> {
    pub(super) reloader: &'a Reloader,
    /// The settings, with the lock, that are to be in effect.
    pub(super) serve: &'a Serve,
    /// The models that are listed now.
    pub(super) served: &'a [Model],
    /// Those of them that the settings in effect ask for.
    pub(super) old_names: &'a [String],
}

impl Serve {
    /// Whether models are held to another lock, or to what another one says now, than by `old`.
    pub(super) fn has_other_lock(&self, old: &Self) -> bool {
        match (&self.lock, &old.lock) {
            (Some(new), Some(old)) => !Arc::ptr_eq(new, old),
            (new, old) => new.is_some() != old.is_some(),
        }
    }
}

impl Staging<'_> {
    /// Makes ready what is to be served and is not, or not with these bytes, or not as the lock
    /// says.
    ///
    /// # Errors
    /// What one of them lacks, or in what it differs from the lock. Then all is as it was.
    pub(super) fn stage(&self) -> Result<Staged, String> {
        // A signal fetches nothing.
        let wanted = self.serve.wanted(&self.reloader.context, Missing::Fail);
        let wanted = wanted.map_err(|error| self.place(&error))?;
        let mut staged = Staged::new(&self.reloader.fleet);
        staged.wanted = wanted.iter().map(|(chosen, _)| chosen.name.clone()).collect();
        let is_gone = |name: &&String| self.is_served(name) && !staged.wanted.contains(*name);
        staged.gone = self.old_names.iter().filter(is_gone).cloned().collect();
        let others = self.others(&staged)?;
        for (chosen, keep) in wanted.into_iter().chain(others) {
            self.stage_one(chosen, keep, &mut staged)?;
        }
        Ok(staged)
    }

    /// What clients have fetched, where it is to be held to another lock.
    fn others(&self, staged: &Staged) -> Result<Vec<(Chosen, Keep)>, String> {
        let Reloader { context, fleet, known, .. } = self.reloader;
        if !self.has_other_lock() {
            return Ok(Vec::new());
        }
        let is_other =
            |name: &&String| !staged.wanted.contains(*name) && !staged.gone.contains(*name);
        let lock = self.serve.lock.as_ref();
        let mut others = Vec::new();
        for name in self.served.iter().map(|model| &model.name).filter(is_other) {
            // A client may have had it deleted meanwhile.
            let (Some(known), Some(keep)) = (known.get(name), fleet.own_keep(name)) else {
                continue;
            };
            let is_listed = lock.is_some_and(|lock| lock.file().models.contains_key(name));
            let text = known.full_name.as_deref().filter(|_| !is_listed).unwrap_or(name);
            let chosen = match locate::find_locked(context, text, Missing::Fail, lock) {
                // Removed beside this server, which goes on with what it has of it.
                Err(error) if exit::code_of(&error) == Exit::NotFound => continue,
                chosen => chosen.map_err(|error| self.place(&error))?,
            };
            others.push((Chosen { name: name.clone(), ..chosen }, keep));
        }
        Ok(others)
    }

    fn stage_one(&self, chosen: Chosen, keep: Keep, staged: &mut Staged) -> Result<(), String> {
        let Reloader { context, fleet, failure, known, .. } = self.reloader;
        let (serve, name) = (self.serve, chosen.name.clone());
        let model = KnownModel::new(&chosen, serve.ctx);
        let before = known.get(&name).filter(|_| self.is_served(&name));
        let is_entry_same = before.as_ref().is_some_and(|old| old.model.lock == model.model.lock);
        let is_same = before.as_ref().is_some_and(|old| old.is(&chosen));
        let is_open = before.is_some() && fleet.get_open(&name).is_some();
        let comes_open = if is_open { Keep::Pinned } else { keep };
        if !is_entry_same {
            // Why it was refused counts no more.
            serve.refusals.forget(&name);
        }
        let is_refused = serve.refusals.get(&name).is_some();
        // What was opened is as its manifest says, which is held against the entry.
        let stays = is_same && (is_entry_same || is_open && chosen.installed.is_some());
        if before.is_some() && self.has_other_lock() && !is_refused {
            self.hold(&chosen, is_entry_same || comes_open == Keep::Pinned && !stays)?;
        }
        let fleet_model = serve.fleet_model(context, chosen.clone(), keep, failure);
        staged.models.push(model);
        if stays {
            staged.kept.push((name.clone(), fleet_model));
            let opened = if is_refused { Ok(()) } else { self.open(&name, keep) };
            return opened.map_err(|error| self.place(&error));
        }
        let staged_name = if before.is_some() { format!("{name}{STAGED}") } else { name.clone() };
        staged.names.push((staged_name.clone(), name));
        fleet.set(&staged_name, fleet_model);
        match self.open(&staged_name, comes_open) {
            // It opens once the old one has made room, to whoever asks for it.
            Err(error) if keep != Keep::Pinned && exit::code_of(&error) == Exit::NoRoom => {
                self.hold(&chosen, false)
            }
            Err(error) if is_open && exit::code_of(&error) == Exit::NoRoom => {
                let error = error.context("both versions must fit, else the server is restarted");
                Err(self.place(&error))
            }
            opened => opened.map_err(|error| self.place(&error)),
        }
    }

    /// Holds a model that is served against the lock: all but its bytes, and those too unless they
    /// were held against this entry before, or are when it is opened.
    fn hold(&self, chosen: &Chosen, spares_bytes: bool) -> Result<(), String> {
        let Some(lock) = &chosen.lock else { return Ok(()) };
        let context = &self.reloader.context;
        let checked = lock.check(chosen, context);
        let checked = checked.and_then(|()| match spares_bytes {
            true => Ok(()),
            false => lock.check_bytes(chosen, &Shown::if_slow(context)).map(drop),
        });
        checked.map_err(|error| self.place(&error))
    }

    /// Opens a model that is to stay open.
    fn open(&self, name: &str, keep: Keep) -> anyhow::Result<()> {
        if keep != Keep::Pinned {
            return Ok(());
        }
        let opened = self.reloader.fleet.get(name).map(drop);
        opened.map_err(|error| opening_failed(error, &self.reloader.failure))
    }

    /// `error` with the setting that it is about; a refusal names the lock.
    fn place(&self, error: &anyhow::Error) -> String {
        match locked::is_refusal(error) {
            true => format!("{error:#}"),
            false => format!("{}: {error:#}", self.serve.settings.place("models")),
        }
    }

    fn is_served(&self, name: &str) -> bool {
        self.served.iter().any(|model| model.name == name)
    }

    fn has_other_lock(&self) -> bool {
        self.serve.has_other_lock(&self.reloader.in_effect())
    }
}

/// Models that are ready to be served. What was not served before goes again where this is dropped
/// before [`Staged::commit`].
pub(super) struct Staged {
    fleet: Fleet,
    /// The names that the settings ask for.
    pub(super) wanted: Vec<String>,
    /// Those that they asked for and do no more.
    pub(super) gone: Vec<String>,
    /// All that are to be served, in order.
    models: Vec<KnownModel>,
    /// Of those that the fleet was told of: what it knows each by until then, and from then on.
    names: Vec<(String, String)>,
    /// Those that stay as they are, and how they are opened from then on.
    kept: Vec<(String, FleetModel)>,
}

impl Staged {
    fn new(fleet: &Fleet) -> Self {
        Self {
            fleet: fleet.clone(),
            wanted: Vec::new(),
            gone: Vec::new(),
            models: Vec::new(),
            names: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// All that are to be served, in order.
    pub(super) fn models(&self) -> Vec<Model> {
        self.models.iter().map(|known| known.model.clone()).collect()
    }

    /// Those that were not served before, and those that take another's place.
    pub(super) fn added_and_replaced(&self) -> (Vec<String>, Vec<String>) {
        let (added, replaced): (Vec<_>, Vec<_>) =
            self.names.iter().partition(|(staged, name)| staged == name);
        let names = |of: Vec<&(String, String)>| of.into_iter().map(|(_, to)| to.clone()).collect();
        (names(added), names(replaced))
    }

    /// Has them take their places, and the others go. Answers that run go on.
    pub(super) fn commit(mut self, known: &Known) -> Afterwards {
        let names = std::mem::take(&mut self.names);
        let replaced: Vec<_> =
            names.iter().filter_map(|(staged, name)| self.fleet.rename(staged, name)).collect();
        for (name, model) in std::mem::take(&mut self.kept) {
            self.fleet.renew(&name, model);
        }
        for model in std::mem::take(&mut self.models) {
            // A client may have had it deleted meanwhile.
            if self.fleet.own_keep(&model.model.name).is_some() {
                known.note(model);
            }
        }
        let gone = std::mem::take(&mut self.gone);
        gone.iter().for_each(|name| known.forget(name));
        let fleet = self.fleet.clone();
        Box::new(move || {
            drop(replaced);
            for name in &gone {
                fleet.remove(name);
            }
        })
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (staged, _) in &self.names {
            self.fleet.remove(staged);
        }
    }
}
