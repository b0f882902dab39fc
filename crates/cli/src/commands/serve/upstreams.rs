//! The broker of a server that has upstreams, or an issuer with whom people sign in: a process that
//! is started before the server gives up its own connections, and ends with it. A second one waits
//! beside it to take its place.

use std::process::Command;

use anyhow::Context as _;
use broker::{Broker, Ending, Known, Place, Setup, Started};

use super::{Serve, warn};
use crate::context::{Context, Verbosity};
use crate::exit::{Exit, Failure};

impl Serve {
    /// What is wrong with the upstreams beside other settings.
    pub(super) fn upstreams_problem(&self) -> Option<String> {
        let first = self.settings.upstreams().first()?;
        let name = &first.upstream.name;
        self.ledger.is_none().then(|| {
            let ledger = self.settings.place("ledger");
            format!(
                "{}: upstream.{name}: nothing is sent that the ledger does not have, and there is \
                 none ({ledger}), expected one",
                first.place
            )
        })
    }

    /// Starts the broker, if there is something for it to reach, and says what it came to.
    ///
    /// # Errors
    /// It cannot be started; it cannot be locked, and is to be.
    pub(super) fn start_broker(&self, context: &Context) -> anyhow::Result<Option<Started>> {
        let told = self.settings.upstreams();
        let mut upstreams: Vec<_> = told.iter().map(|told| told.upstream.clone()).collect();
        upstreams.extend(self.issuer());
        let Some(ledger) = self.ledger.place(context)?.filter(|_| !upstreams.is_empty()) else {
            return Ok(None);
        };
        let first = match told.first() {
            Some(first) => first.place.to_string(),
            None => self.settings.place("oidc-issuer"),
        };
        let program = std::env::current_exe().context("find this program")?;
        let command = |place: Place| {
            let mut command = Command::new(&program);
            command.arg("broker").arg(format!("--log-format={}", self.log_format));
            command.args(self.log.iter().map(|log| format!("--log={log}")));
            command.args(match context.verbosity() {
                Verbosity::Quiet => Some("--quiet"),
                Verbosity::Normal => None,
                Verbosity::Verbose => Some("-v"),
                Verbosity::Debug => Some("-vv"),
            });
            command.args((place == Place::Spare).then_some("--spare"));
            command
        };
        let started = Started::with_spare(command, &Setup { upstreams, ledger });
        let started = started.map_err(|error| {
            let path = self.settings.file().map(|path| format!("{}: ", path.display()));
            let message = format!("{}{error}", path.unwrap_or_default());
            Failure::new(Exit::Failed, message)
        })?;
        let ready = started.ready();
        for (upstream, problem) in ready
            .upstreams
            .iter()
            .flat_map(|known| known.problems.iter().map(move |why| (known, why)))
        {
            warn(&format!(
                "upstream {}: {problem}: not reached until the server is started again",
                upstream.name
            ));
        }
        let names: Vec<String> = ready.upstreams.iter().map(words).collect();
        let names = names.join(", ");
        match ready.is_locked {
            true => context.note(&format!(
                "upstreams: {names}; reached by the broker alone, with a departure for each \
                 request: locked {}",
                ready.lock
            )),
            false if self.wants_lock() => {
                let message = format!(
                    "{}: locked, but the broker cannot be, for {}: {}",
                    self.settings.place("egress"),
                    first,
                    ready.lock
                );
                return Err(Failure::new(Exit::Failed, message).into());
            }
            false => warn(&format!(
                "upstreams: {names}; reached by the broker, with a departure for each request, but \
                 the kernel does not hold it to them: {}",
                ready.lock
            )),
        }
        Ok(Some(started))
    }
}

/// Has the server ask the broker, in this runtime. Returns it, and what ends it.
pub(super) fn attach(
    started: Option<Started>,
    config: &mut server::Config,
) -> anyhow::Result<Option<(Broker, Ending)>> {
    let broker = started.map(Started::attach).transpose().context("the broker")?;
    config.broker = broker.as_ref().map(|(broker, _)| broker.clone());
    Ok(broker)
}

/// Ends the broker, once nobody else has it.
pub(super) async fn end(broker: Option<(Broker, Ending)>) -> anyhow::Result<()> {
    let Some((broker, ending)) = broker else { return Ok(()) };
    drop(broker);
    tokio::task::spawn_blocking(|| ending.wait()).await.context("end the broker").map(drop)
}

/// An upstream in a line for people.
fn words(known: &Known) -> String {
    let (name, kind) = (&known.name, known.kind.name());
    match known.n_addresses {
        1 => format!("{name} ({kind}, 1 address)"),
        n => format!("{name} ({kind}, {n} addresses)"),
    }
}
