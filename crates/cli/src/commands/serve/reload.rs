//! Settings that are read anew while the server runs: all of them or none are taken over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::{Fleet, Keep};
use server::{Elsewhere, Live, Model, Prepared, Reload, Report, Setting, Tls};

use super::Serve;
use super::library::{Known, KnownModel};
use super::opening::{LastFailure, opening_failed};
use crate::context::Context;
use crate::locate::{Chosen, Missing};

/// The settings that a running server takes over; all others need a restart. Those of TLS are,
/// where it has TLS already: whether it does is a matter of its address.
pub(crate) const RELOADABLE: &[&str] = &[
    "models",
    "on-demand",
    "alias",
    "canary",
    "shadow",
    "policy",
    "upstream-model",
    "prices",
    "allow-origin",
    "allow-host",
    "tls-cert",
    "tls-key",
    "log",
    "log-format",
    "max-body",
    "header-timeout",
    "body-timeout",
    "handshake-timeout",
    "max-requests",
    "max-choices-per-prompt",
    "max-choices",
    "max-texts",
    "max-text-tokens",
    "max-file",
    "ping",
    "write-timeout",
    "shutdown-grace",
];

/// What a replacing model is called until it takes its place; no name has a space.
const STAGED: &str = " (new)";

/// The settings of a running server, and what reads them anew.
pub(crate) struct Reloader {
    context: Context,
    fleet: Fleet,
    failure: LastFailure,
    known: Known,
    running: Arc<Mutex<Running>>,
}

/// What is in effect.
#[derive(Clone)]
struct Running {
    serve: Serve,
    /// The models that the settings ask for; clients may have fetched others.
    names: Vec<String>,
    tls: Option<Tls>,
    /// The rules, as they can be compared.
    rules: String,
}

impl Reloader {
    /// Of a server that was started as `serve` with these models.
    pub(crate) fn new(
        context: &Context,
        fleet: &Fleet,
        serve: &Serve,
        failure: LastFailure,
        models: &[Model],
    ) -> Self {
        let names = models.iter().map(|model| model.name.clone()).collect();
        // What was read at the start is read once more: that both are the same is not certain.
        let rules = serve.elsewhere().map(|elsewhere| told(&elsewhere)).unwrap_or_default();
        let tls = serve.tls().ok().flatten();
        let running = Running { serve: serve.clone(), names, tls, rules };
        Self {
            context: context.clone(),
            fleet: fleet.clone(),
            failure,
            known: serve.known.clone(),
            running: Arc::new(Mutex::new(running)),
        }
    }

    /// Nothing that can panic runs under the lock.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes ready what `serve` wants to have served and is not, or not with these bytes.
    fn stage(&self, serve: &Serve, served: &[Model]) -> Result<Staged, String> {
        let place = || serve.settings.place("models");
        // A signal fetches nothing.
        let wanted = serve.wanted(&self.context, Missing::Fail);
        let wanted = wanted.map_err(|error| format!("{}: {error:#}", place()))?;
        let mut staged = Staged::new(&self.fleet);
        for (chosen, keep) in wanted {
            let known = self.known.get(&chosen.name).filter(|known| known.is(&chosen));
            match known.filter(|_| served.iter().any(|model| model.name == chosen.name)) {
                Some(known) => {
                    self.open(serve, &chosen.name, keep)?;
                    staged.models.push((known, keep));
                }
                None => self.stage_one(serve, served, chosen, keep, &mut staged)?,
            }
        }
        Ok(staged)
    }

    /// Opens a model that is to stay open.
    fn open(&self, serve: &Serve, name: &str, keep: Keep) -> Result<(), String> {
        if keep != Keep::Pinned {
            return Ok(());
        }
        let opened = self.fleet.get(name).map_err(|error| {
            let error = opening_failed(error, &self.failure);
            format!("{}: {error:#}", serve.settings.place("models"))
        });
        opened.map(drop)
    }

    /// Makes a model ready beside what is served.
    fn stage_one(
        &self,
        serve: &Serve,
        served: &[Model],
        chosen: Chosen,
        keep: Keep,
        staged: &mut Staged,
    ) -> Result<(), String> {
        let known = KnownModel::new(&chosen, serve.ctx);
        let name = chosen.name.clone();
        let is_served = served.iter().any(|model| model.name == name);
        let staged_name = if is_served { format!("{name}{STAGED}") } else { name.clone() };
        let model = serve.fleet_model(&self.context, chosen, keep, &self.failure);
        staged.names.push((staged_name.clone(), name));
        self.fleet.set(&staged_name, model);
        self.open(serve, &staged_name, keep)?;
        staged.models.push((known, keep));
        Ok(())
    }
}

impl Reload for Reloader {
    fn settings(&self) -> Vec<Setting> {
        let running = self.running();
        let setting = |value: &crate::settings::Value| Setting {
            name: value.name().to_owned(),
            value: value.to_json(),
            origin: value.origin().to_string(),
            is_reloadable: RELOADABLE.contains(&value.name()),
        };
        running.serve.settings.values().iter().map(setting).collect()
    }

    fn prepare(&self, served: &[Model]) -> Result<Prepared, Vec<String>> {
        let one = |problem: String| vec![problem];
        let Running { serve: old, names: old_names, tls: old_tls, rules: old_rules } =
            self.running().clone();
        // The file that was read, not one that would be found now.
        let flags = old.flags.clone().with_file(old.file());
        let new = Serve::resolve(&flags, &self.context)?;
        let keeps_tls = old.tls_cert.is_some() == new.tls_cert.is_some();
        let is_reloadable =
            |name: &str| RELOADABLE.contains(&name) && (keeps_tls || !name.starts_with("tls-"));
        let differing = old.settings.differing(&new.settings);
        let (mut changed, mut needs_restart): (Vec<String>, Vec<String>) =
            differing.into_iter().partition(|name| is_reloadable(name));
        let merged = old.settings.with(&new.settings, is_reloadable);
        let mut serve = Serve::of(merged, &old.flags).map_err(one)?;
        (serve.store, serve.known, serve.receipts) = (old.store, old.known, old.receipts);
        // What is served stays held to the lock that was read at the start.
        (serve.lock, serve.refusals) = (old.lock, old.refusals);
        if serve.lock.as_ref().is_some_and(|lock| lock.has_changed()) {
            needs_restart.push("lock".to_owned());
        }
        fits(&serve, &needs_restart)?;
        let tls = serve.tls().map_err(one)?;
        let is_same_tls = match (&old_tls, &tls) {
            (Some(old), Some(new)) => old.is_same(new),
            _ => true,
        };
        note(&mut changed, !is_same_tls, ["tls-cert", "tls-cert"]);
        let elsewhere = serve.elsewhere().map_err(one)?;
        let rules = told(&elsewhere);
        note(&mut changed, rules != old_rules, ["rule", "policy"]);
        let staged = self.stage(&serve, served).map_err(one)?;
        let models: Vec<Model> =
            staged.models.iter().map(|(known, _)| known.model.clone()).collect();
        let names: Vec<String> = models.iter().map(|model| model.name.clone()).collect();
        let is_served = |name: &String| served.iter().any(|model| model.name == *name);
        let gone: Vec<String> =
            old_names.into_iter().filter(|name| is_served(name) && !names.contains(name)).collect();
        check_aliases(&serve, served, &names, &gone).map_err(one)?;
        let (replaced, added): (Vec<_>, Vec<_>) =
            staged.names.iter().cloned().partition(|(staged, name)| staged != name);
        let name = |(_, name): (String, String)| name;
        let report = Report {
            changed,
            needs_restart,
            models_added: added.into_iter().map(name).collect(),
            models_replaced: replaced.into_iter().map(name).collect(),
            models_removed: gone.clone(),
        };
        let live = Live {
            models,
            gone: gone.clone(),
            aliases: serve.aliases.all().to_vec(),
            shares: serve.shares(),
            elsewhere,
            limits: serve.limits(),
            allowed_origins: serve.allow_origin.clone(),
            allowed_hosts: serve.allow_host.clone(),
            tls: tls.clone(),
        };
        let (known, running) = (self.known.clone(), Arc::clone(&self.running));
        let commit = Box::new(move || {
            serve.set_log();
            staged.commit(&known, &gone);
            serve.check_names();
            let in_effect = Running { serve, names, tls, rules };
            *running.lock().unwrap_or_else(PoisonError::into_inner) = in_effect;
        });
        Ok(Prepared { live, report, commit })
    }
}

/// Notes that what a file says is another, unless another setting says so already.
fn note(changed: &mut Vec<String>, is_other: bool, [name, unless]: [&str; 2]) {
    if is_other && !changed.iter().any(|changed| changed == unless) {
        changed.push(name.to_owned());
    }
}

/// The rules, as they can be compared.
fn told(elsewhere: &Elsewhere) -> String {
    format!("{:?}", elsewhere.rules)
}

/// Checks what can be taken over against what cannot: the file alone is right, but what stands
/// against it stays in effect until a restart.
fn fits(serve: &Serve, needs_restart: &[String]) -> Result<(), Vec<String>> {
    let stays = needs_restart.join(", ");
    let why = |problem| format!("{stays}: cannot change before a restart: {problem}");
    let problems: Vec<String> = serve.problems().into_iter().map(why).collect();
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// Checks the aliases, and what goes by them, beside what will be served.
fn check_aliases(
    serve: &Serve,
    served: &[Model],
    names: &[String],
    gone: &[String],
) -> Result<(), String> {
    let others = served.iter().map(|model| &model.name).filter(|name| !gone.contains(name));
    let names: Vec<&str> = names.iter().chain(others).map(String::as_str).collect();
    serve.check_shares(&names)
}

/// Models that are ready to be served. What was not served before goes again where this is dropped
/// before [`Staged::commit`].
struct Staged {
    fleet: Fleet,
    /// All that are to be served, in order.
    models: Vec<(KnownModel, Keep)>,
    /// Of those that the fleet was told of: what it knows each by until then, and from then on.
    names: Vec<(String, String)>,
}

impl Staged {
    fn new(fleet: &Fleet) -> Self {
        Self { fleet: fleet.clone(), models: Vec::new(), names: Vec::new() }
    }

    /// Has them take their places, and those in `gone` go. Answers that run go on.
    fn commit(mut self, known: &Known, gone: &[String]) {
        for (staged, name) in std::mem::take(&mut self.names) {
            self.fleet.rename(&staged, &name);
        }
        for (model, keep) in std::mem::take(&mut self.models) {
            // A client may have had it deleted meanwhile.
            if self.fleet.set_own_keep(&model.model.name, keep) {
                known.note(model);
            }
        }
        for name in gone {
            known.forget(name);
            self.fleet.remove(name);
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        for (staged, _) in &self.names {
            self.fleet.remove(staged);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn what_is_reloadable_is_a_setting() {
        let names: Vec<String> = Settings::of::<Serve>().names().collect();
        for name in RELOADABLE {
            assert!(names.iter().any(|of| of == name), "{name}");
        }
    }
}
