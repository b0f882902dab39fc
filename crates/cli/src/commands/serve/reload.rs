//! Settings that are read anew while the server runs: all of them or none are taken over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::Fleet;
use server::{Afterwards, Elsewhere, Live, Model, Prepared, Reload, Report, Setting, Tls};

use super::Serve;
use super::in_effect::InEffect;
use super::library::Known;
use super::opening::LastFailure;
use super::staged::Staging;
use crate::context::Context;

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

/// The settings of a running server, and what reads them anew.
pub(crate) struct Reloader {
    pub(super) context: Context,
    pub(super) fleet: Fleet,
    pub(super) failure: LastFailure,
    pub(super) known: Known,
    in_effect: InEffect,
    running: Arc<Mutex<Running>>,
}

/// What came of the settings that are in effect.
#[derive(Clone)]
struct Running {
    /// The models that the settings ask for; clients may have fetched others.
    names: Vec<String>,
    tls: Option<Tls>,
    /// The rules, as they can be compared.
    rules: String,
}

impl Reloader {
    /// Of a server that was started with these settings and models.
    pub(crate) fn new(
        context: &Context,
        fleet: &Fleet,
        in_effect: InEffect,
        failure: LastFailure,
        models: &[Model],
    ) -> Self {
        let serve = in_effect.get();
        let names = models.iter().map(|model| model.name.clone()).collect();
        // What was read at the start is read once more: that both are the same is not certain.
        let rules = serve.elsewhere().map(|elsewhere| told(&elsewhere)).unwrap_or_default();
        let tls = serve.tls().ok().flatten();
        let running = Running { names, tls, rules };
        Self {
            context: context.clone(),
            fleet: fleet.clone(),
            failure,
            known: serve.known.clone(),
            in_effect,
            running: Arc::new(Mutex::new(running)),
        }
    }

    /// What the file and the lock say now, as far as it can be taken over, and what differs.
    fn read_again(&self) -> Result<(Serve, Report), Vec<String>> {
        let one = |problem: String| vec![problem];
        let old = self.in_effect.get();
        // The file that was read, not one that would be found now.
        let flags = old.flags.clone().with_file(old.file());
        let new = Serve::resolve(&flags, &self.context)?;
        let keeps_tls = old.tls_cert.is_some() == new.tls_cert.is_some();
        let is_reloadable =
            |name: &str| RELOADABLE.contains(&name) && (keeps_tls || !name.starts_with("tls-"));
        let differing = old.settings.differing(&new.settings);
        let (changed, needs_restart): (Vec<String>, Vec<String>) =
            differing.into_iter().partition(|name| is_reloadable(name));
        let mut report = Report { changed, needs_restart, ..Report::default() };
        let merged = old.settings.with(&new.settings, is_reloadable);
        let mut serve = Serve::of(merged, &old.flags).map_err(one)?;
        serve.store.clone_from(&old.store);
        serve.known.clone_from(&old.known);
        serve.receipts.clone_from(&old.receipts);
        let lock = serve.lock_args.read_again(old.lock.as_ref());
        serve.lock = lock.map_err(|error| one(format!("lock: {error:#}")))?;
        serve.refusals = match serve.has_other_lock(&old) {
            // Until it is in effect, what is refused is so by the old one.
            true => old.refusals.apart(),
            false => old.refusals.clone(),
        };
        note(&mut report.changed, serve.has_other_lock(&old), ["lock", "lock"]);
        fits(&serve, &report.needs_restart)?;
        Ok((serve, report))
    }

    /// The settings that are in effect.
    pub(super) fn in_effect(&self) -> Arc<Serve> {
        self.in_effect.get()
    }

    /// Nothing that can panic runs under the lock.
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reload for Reloader {
    fn settings(&self) -> Vec<Setting> {
        let setting = |value: &crate::settings::Value| Setting {
            name: value.name().to_owned(),
            value: value.to_json(),
            origin: value.origin().to_string(),
            is_reloadable: RELOADABLE.contains(&value.name()),
        };
        self.in_effect.get().settings.values().iter().map(setting).collect()
    }

    fn prepare(&self, served: &[Model]) -> Result<Prepared, Vec<String>> {
        let one = |problem: String| vec![problem];
        // Until it is in effect, or given up.
        let turn = self.in_effect.turn();
        let Running { names: old_names, tls: old_tls, rules: old_rules } = self.running().clone();
        let (serve, mut report) = self.read_again()?;
        let tls = serve.tls().map_err(one)?;
        let is_same_tls = match (&old_tls, &tls) {
            (Some(old), Some(new)) => old.is_same(new),
            _ => true,
        };
        note(&mut report.changed, !is_same_tls, ["tls-cert", "tls-cert"]);
        let elsewhere = serve.elsewhere().map_err(one)?;
        let rules = told(&elsewhere);
        note(&mut report.changed, rules != old_rules, ["rule", "policy"]);
        let staging = Staging { reloader: self, serve: &serve, served, old_names: &old_names };
        let staged = staging.stage().map_err(one)?;
        let (names, gone) = (staged.wanted.clone(), staged.gone.clone());
        check_aliases(&serve, served, &names, &gone).map_err(one)?;
        (report.models_added, report.models_replaced) = staged.added_and_replaced();
        report.models_removed.clone_from(&gone);
        let live = Live {
            models: staged.models(),
            gone,
            aliases: serve.aliases.all().to_vec(),
            shares: serve.shares(),
            elsewhere,
            limits: serve.limits(),
            allowed_origins: serve.allow_origin.clone(),
            allowed_hosts: serve.allow_host.clone(),
            tls: tls.clone(),
        };
        let (in_effect, running) = (self.in_effect.clone(), Arc::clone(&self.running));
        let commit = Box::new(move || {
            serve.set_log();
            let afterwards = staged.commit(&serve.known);
            serve.check_names();
            in_effect.set(serve);
            let came = Running { names, tls, rules };
            *running.lock().unwrap_or_else(PoisonError::into_inner) = came;
            Box::new(move || {
                let _turn = turn;
                afterwards();
            }) as Afterwards
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
