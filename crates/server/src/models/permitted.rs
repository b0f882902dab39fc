//! Which models a key may ask for, and sees: to one whose scopes name some, others do not exist.

use super::{Models, plain_name};
use crate::access::{Scopes, Who};
use crate::dialects::fields::short;
use crate::errors::ServerError;
use crate::{Alias, Model};
use engine::Task;

impl Models {
    /// The name by which what is asked for goes on, where who asks may have that. Where nothing is
    /// named and not all may be had, the first that may.
    ///
    /// # Errors
    /// Another model than the key's scopes name, or one of theirs that does something else.
    pub(crate) fn permit(
        &self,
        who: &Who,
        name: Option<&str>,
        task: Task,
    ) -> Result<Option<String>, ServerError> {
        if who.scopes.models.is_none() {
            return Ok(name.map(str::to_owned));
        }
        let wrong_task = |name| {
            let seen = self.seen(&who.scopes);
            let seen: Vec<Model> =
                seen.into_iter().map(|(name, of)| Model { name, ..of }).collect();
            Self::wrong_task(&seen, name, task)
        };
        let Some(name) = name else {
            let mut seen = self.seen(&who.scopes).into_iter();
            let first = seen.find(|(_, model)| model.task == task);
            return first.map(|(name, _)| Some(name)).ok_or_else(|| wrong_task(None));
        };
        match self.permitted(who, name)?.task == task {
            true => Ok(Some(name.to_owned())),
            false => Err(wrong_task(Some(name))),
        }
    }

    /// Refuses a name that who asks may not ask for, be it one of an upstream's models: those are
    /// named by an alias or as `UPSTREAM/MODEL`.
    ///
    /// # Errors
    /// [`ServerError::Forbidden`], as for models that are here.
    pub(crate) fn check_permitted(&self, who: &Who, name: &str) -> Result<(), ServerError> {
        let scopes = &who.scopes;
        let target = self.target(name);
        let is_there = |target: &String| scopes.has_model(name) || scopes.has_model(target);
        if scopes.models.is_none() || target.as_ref().is_some_and(is_there) {
            return Ok(());
        }
        self.permitted(who, name).map(drop)
    }

    /// The model of this name, where who asks may know of it.
    ///
    /// # Errors
    /// [`ServerError::Forbidden`] for any other name, whether there is such a model or not.
    pub(super) fn permitted(&self, who: &Who, name: &str) -> Result<Model, ServerError> {
        let scopes = &who.scopes;
        let found = self.named(name);
        if scopes.models.is_none() {
            return found;
        }
        // A name under which it came says whose it was: that opens no other's model to a key.
        let is_given = self.listed_as(name).is_some() || self.alias(name).is_some();
        let has =
            |model: &Model| is_given && scopes.has_model(name) || scopes.has_model(&model.name);
        found.ok().filter(has).ok_or_else(|| {
            let seen: Vec<String> = self.seen(scopes).into_iter().map(|(name, _)| name).collect();
            let seen =
                if seen.is_empty() { "none that is here".to_owned() } else { seen.join(", ") };
            let (key, asked) = (&who.name, short(plain_name(name)));
            ServerError::Forbidden(format!(
                "model: {asked:?}: the key {key:?} may use these models: {seen}"
            ))
        })
    }

    /// The names of which these scopes have some, and the models that they stand for.
    fn seen(&self, scopes: &Scopes) -> Vec<(String, Model)> {
        let listed = self.listed();
        let own = listed.iter().filter(|model| scopes.has_model(&model.name));
        let own = own.map(|model| (model.name.clone(), model.clone()));
        let aliases = self.aliases();
        let further = aliases.iter().filter(|alias| alias.is_one() && is_seen(scopes, alias));
        let further = further.filter_map(|alias| {
            let model = listed.iter().find(|model| model.name == alias.model)?;
            Some((alias.name.clone(), model.clone()))
        });
        own.chain(further).collect()
    }

    /// Whether a card or a description of this name is for the holder of these scopes.
    pub(super) fn is_listed_for(&self, scopes: &Scopes, name: &str) -> bool {
        let by_alias = || {
            let aliases = self.aliases();
            aliases.iter().any(|alias| alias.name == name && is_seen(scopes, alias))
        };
        scopes.has_model(name) || by_alias()
    }
}

/// An alias is named itself, or with the model that it stands for.
fn is_seen(scopes: &Scopes, alias: &Alias) -> bool {
    scopes.has_model(&alias.name) || scopes.has_model(&alias.model)
}
