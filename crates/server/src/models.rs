//! The models that are served: found by name, opened when they are first asked for.

mod permitted;
mod served;
mod told;

pub(crate) use served::{OfTask, Served, ServedEmbedder};
pub(crate) use told::{Description, ModelGauges, OpenModel};

use crate::dialects::fields::short;
use crate::errors::{BadRequest, ServerError};
use crate::library::Library;
use crate::{Alias, Model, NotAsLocked};
use engine::{EngineError, Fleet, FleetError, FleetState, FleetStatus, Keep, Kept, Opened, Task};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::Duration;

/// When a request may come again that found no room for its model.
const RETRY_NO_ROOM: Duration = Duration::from_secs(5);
/// What Ollama's clients put behind a name that has nothing there.
const NO_TAG: &str = ":latest";

/// A name without the tag for none.
pub(crate) fn plain_name(name: &str) -> &str {
    name.strip_suffix(NO_TAG).unwrap_or(name)
}

/// Names, and the fleet that has what they stand for.
pub(crate) struct Models {
    fleet: Fleet,
    names: RwLock<Names>,
    /// Counts the times that names and what the fleet has under them were changed together; held
    /// for writing meanwhile, so that nobody is told of the one model and answered by the other.
    swaps: RwLock<u64>,
    library: Option<Arc<dyn Library>>,
    /// Unix seconds at which the server took them up.
    created: u64,
}

/// What a name stands for.
struct Names {
    listed: Vec<Model>,
    aliases: Vec<Alias>,
    /// The names of the owner's upstreams.
    upstreams: Vec<String>,
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
        let names = RwLock::new(Names { listed, aliases, upstreams: upstreams.to_vec() });
        Ok(Self { fleet, names, swaps: RwLock::new(0), library, created })
    }

    /// The models as they are listed now.
    pub(crate) fn listed(&self) -> Vec<Model> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).listed.clone()
    }

    /// Their further names.
    pub(crate) fn aliases(&self) -> Vec<Alias> {
        self.names.read().unwrap_or_else(PoisonError::into_inner).aliases.clone()
    }

    /// Does what changes names and the fleet together: who asks meanwhile waits for its end.
    pub(crate) fn swap<T>(&self, change: impl FnOnce() -> T) -> T {
        let mut swaps = self.swaps.write().unwrap_or_else(PoisonError::into_inner);
        *swaps += 1;
        change()
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
        *names = Names { listed, aliases, upstreams: upstreams.to_vec() };
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

    /// What a name stands for that is not what a model is listed as: what its alias says, else
    /// itself. The owner's upstreams go before a name under which a model came.
    pub(crate) fn target(&self, name: &str) -> Option<String> {
        if self.listed_as(name).is_some() {
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
        let found = self.listed_as(name).or_else(|| self.came_as(name));
        found.ok_or_else(|| self.not_found(name))
    }

    /// The model that is listed under this name, with or without the tag for none.
    fn listed_as(&self, name: &str) -> Option<Model> {
        let mut listed = self.listed();
        let position = |name: &str| listed.iter().position(|model| model.name == name);
        let model_idx = position(name).or_else(|| position(plain_name(name)))?;
        Some(listed.swap_remove(model_idx))
    }

    /// The model that came by this name, as by a pull, where the owner has no alias of it, and no
    /// upstream that it names.
    fn came_as(&self, name: &str) -> Option<Model> {
        let names = || self.names.read().unwrap_or_else(PoisonError::into_inner);
        let is_there = name
            .split_once('/')
            .is_some_and(|(first, _)| names().upstreams.iter().any(|upstream| upstream == first));
        if is_there || self.alias(name).is_some() {
            return None;
        }
        self.listed_as(&self.library.as_ref()?.served_as(name)?)
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
    /// [`Models::open`] would have to open it, or to wait for a change of what names stand for.
    pub(crate) fn get_open<S: OfTask>(&self, name: Option<&str>) -> Result<Option<S>, ServerError> {
        let whole = self.swaps.try_read();
        let model = self.find(name, S::TASK)?;
        if whole.is_err() {
            return Ok(None);
        }
        let opened = self.fleet.get_open(&model.name);
        opened.map(|opened| self.serve(name, &model, opened)).transpose()
    }

    /// As [`Models::get_open`]; opens the model where it is not open, which may take minutes.
    pub(crate) fn open<S: OfTask>(&self, name: Option<&str>) -> Result<S, ServerError> {
        // Held no longer than it takes to look: what is opened here may be what a change waits for.
        let look = || {
            let swaps = self.swaps.read().unwrap_or_else(PoisonError::into_inner);
            Ok::<_, ServerError>((*swaps, self.find(name, S::TASK)?))
        };
        loop {
            let (n_swaps, model) = look()?;
            let opened = self.fleet.get(&model.name);
            // Another may have come to stand for the name meanwhile.
            if look()?.0 != n_swaps {
                continue;
            }
            return match opened {
                Ok(opened) => self.serve(name, &model, opened),
                Err(error) => Err(refusal(&error)),
            };
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

    /// The first model whose engine has stopped for good, and nobody has asked for it since.
    pub(crate) fn stopped(&self) -> Option<String> {
        self.fleet.status().into_iter().find(is_stopped).map(|status| status.name)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Who;
    use crate::library::{LibraryError, Watcher};
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
    fn who_asks_while_names_and_models_change_waits_for_both() {
        let fleet = Fleet::new(None);
        fleet.set("m", later(Keep::Pinned));
        let models = models(&fleet, &["m"], &[]);
        fleet.get("m").unwrap();
        let get = || models.get_open::<ServedEmbedder>(Some("m")).unwrap().map(|of| of.name);
        assert_eq!(get().as_deref(), Some("m"));
        std::thread::scope(|scope| {
            let asked = models.swap(|| {
                assert_eq!(get(), None, "its name may stand for another model already");
                let asked = scope.spawn(|| models.open::<ServedEmbedder>(Some("m")));
                let n = Model { name: "n".to_owned(), ..models.listed().swap_remove(0) };
                assert!(fleet.rename("m", "n").is_some());
                models.renew(vec![n], &["m".to_owned()], Vec::new(), &[]).unwrap();
                asked
            });
            // However far it had come, it is told what is so behind the change.
            assert!(matches!(asked.join().unwrap(), Err(ServerError::ModelNotFound { .. })));
        });
        assert!(models.get_open::<ServedEmbedder>(Some("n")).unwrap().is_some());
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
    fn a_name_by_which_a_model_came_stands_for_it_behind_all_others() {
        struct Came;
        impl Library for Came {
            fn facts(&self, _name: &str) -> Option<Arc<crate::Facts>> {
                None
            }
            fn served_as(&self, name: &str) -> Option<String> {
                matches!(name, "hf.co/o/a:q4" | "hf.co/o/b" | "b").then(|| "a".to_owned())
            }
            fn name_of(&self, name: &str) -> Result<String, LibraryError> {
                Err(LibraryError::NotFound(name.to_owned()))
            }
            fn pull(&self, name: &str, _: &dyn Watcher) -> Result<Model, LibraryError> {
                Err(LibraryError::NotFound(name.to_owned()))
            }
            fn copy(&self, _: &str, to: &str, _: &dyn Watcher) -> Result<Model, LibraryError> {
                Err(LibraryError::NotFound(to.to_owned()))
            }
            fn remove(&self, name: &str) -> Result<(), LibraryError> {
                Err(LibraryError::NotFound(name.to_owned()))
            }
        }
        let models = Models {
            library: Some(Arc::new(Came)),
            ..models(&Fleet::new(None), &["a", "b"], &[("hf.co/o/b", "b")])
        };
        let check = |name: &str, own: Option<&str>, named: Option<&str>| {
            assert_eq!(models.own(name).ok().map(|model| model.name).as_deref(), own, "{name}");
            assert_eq!(models.named(name).ok().map(|model| model.name).as_deref(), named, "{name}");
        };
        check("hf.co/o/a:q4", Some("a"), Some("a"));
        check("b", Some("b"), Some("b"));
        check("hf.co/o/b", None, Some("b"));
        check("hf.co/o/c", None, None);
        // An upstream of such a name goes before.
        assert_eq!(models.target("hf.co/o/a:q4").as_deref(), Some("hf.co/o/a:q4"));
        assert_eq!(models.description(&Who::owner(), "hf.co/o/a:q4").unwrap().name, "a");
        // It opens the model to nobody who may not have it by its own name.
        let may = |names: &[&str]| {
            let names = Some(names.iter().map(|name| (*name).to_owned()).collect());
            let scopes = crate::access::Scopes { models: names, ..crate::access::Scopes::all() };
            let mut who = Who::owner();
            (who.scopes, who.is_admin) = (scopes, false);
            models.permitted(&who, "hf.co/o/a:q4").is_ok()
        };
        assert_eq!([may(&["hf.co/*"]), may(&["hf.co/o/a:q4"]), may(&["a"])], [false, false, true]);
        models.names_mut().upstreams.push("hf.co".to_owned());
        check("hf.co/o/a:q4", None, None);
        check("hf.co/o/b", None, Some("b"));
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
