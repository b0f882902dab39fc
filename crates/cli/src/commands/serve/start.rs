//! The course of `freehold serve`, from its settings to its end.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use engine::{Fleet, PrefixStore};
use server::{Batches, Loading, ModelChanges, ReasoningFields, Tls};

use super::announce::{advice, announce, base_url};
use super::in_effect::InEffect;
use super::library::OwnModels;
use super::opening::LastFailure;
use super::reload::Reloader;
use super::signals::{self, shutdown_signal};
use super::{Serve, upstreams, warn};
use crate::commands::run::warn_of_threads;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger;
use crate::settings::{self, Settings};

/// How long answers that were broken off may take to give their model back.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long the last traces may take to reach their collector.
const LAST_TRACES: Duration = Duration::from_secs(3);

impl Serve {
    /// Serves until a signal ends it. The order is the point: what costs nothing and may be wrong
    /// comes first, and what needs the network before that is given up.
    ///
    /// # Errors
    /// What kept it from starting, or broke it off.
    pub(super) fn serve(mut self, context: &Context) -> anyhow::Result<()> {
        self.set_log();
        settings::unknown_variables(&Settings::of::<Self>()).iter().for_each(|line| warn(line));
        if let Some(file) = self.settings.file() {
            context.note(&format!("settings: {}", file.display()));
        }
        let usage = |problem| Failure::new(Exit::Usage, problem);
        let tls = self.tls().map_err(usage)?;
        let cases = self.cases().map_err(usage)?;
        let elsewhere = self.elsewhere().map_err(usage)?;
        let inherited = egress::open_sockets();
        let traces = self.traces(context)?;
        // The address first: finding it taken after minutes of loading would be a waste.
        let listener = self.bind()?;
        let address = listener.local_addr().context("address of the listener")?;
        self.lock = self.lock_args.read(context)?;
        self.store = self.prefix_store()?;
        self.batches_open = self.open_batches()?;
        // The last that may need the network: what starts behind the lock, it holds whole.
        let wanted = self.wanted(context, self.lock_args.missing())?;
        let started = self.start_broker(context)?;
        self.lock_egress(context, &inherited)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("start the server's threads")?;
        let reload_told = Arc::<tokio::sync::Notify>::default();
        // Before minutes of loading, in which the signal would end the process.
        let hung_up = {
            let _inside = runtime.enter();
            signals::hung_up(Arc::clone(&reload_told))?
        };
        warn_of_threads(context, self.threads);
        let fleet = Fleet::new(self.memory);
        self.receipts = runtime.block_on(self.ledger.open(context, &self.settings))?;
        runtime.block_on(self.warn_of_access(address))?;
        let failure = LastFailure::default();
        let loading = answer_meanwhile(&runtime, listener, tls.clone())?;
        let models = self.models(context, wanted, &fleet, &failure)?;
        let (name, use_for) = self.first(&models, &fleet);
        let base = base_url(address, tls.is_some());
        let advice = advice(&base, &name, use_for);
        let mut config = self.config(context, &fleet, models, failure);
        config.elsewhere = elsewhere;
        config.tls = tls;
        config.cases = cases;
        config.traces = traces.clone();
        config.reload_told = reload_told;
        runtime.block_on(async {
            let broker = upstreams::attach(started, &mut config)?;
            let shutdown = shutdown_signal(hung_up)?;
            let listener = loading.end().await.context("listener")?;
            announce(context, &base, &advice)?;
            server::run(listener, config, shutdown).await?;
            close_models(fleet).await?;
            ledger::close(self.receipts.as_ref()).await?;
            upstreams::end(broker).await?;
            context.note("stopped");
            anyhow::Ok(())
        })?;
        // A model that is just being opened is for nobody any more; one of which an answer was
        // broken off just now may have something to keep.
        runtime.shutdown_timeout(if self.store.is_some() { LAST_ANSWERS } else { Duration::ZERO });
        if let Some(traces) = traces {
            traces.finish(LAST_TRACES);
        }
        Ok(())
    }

    fn bind(&self) -> anyhow::Result<TcpListener> {
        let place = || format!("{} {}", self.settings.place("listen"), self.listen);
        let addresses = self.listen.to_socket_addrs().map_err(|error| {
            let message =
                format!("{}: {error}, expected HOST:PORT such as 127.0.0.1:11500", place());
            Failure::new(Exit::Usage, message)
        })?;
        let addresses: Vec<SocketAddr> = addresses.collect();
        TcpListener::bind(addresses.as_slice()).map_err(|error| {
            let exit = match error.kind() {
                io::ErrorKind::AddrInUse => Exit::AddressInUse,
                _ => Exit::Failed,
            };
            let hint = match exit {
                Exit::AddressInUse => {
                    ": another program listens there, expected a free port (port 0 finds one)"
                }
                _ => "",
            };
            Failure::new(exit, format!("{}: {error}{hint}", place())).into()
        })
    }

    /// Opens the folder of the prefix cache, if there is to be one.
    fn prefix_store(&self) -> anyhow::Result<Option<PrefixStore>> {
        let Some(folder) = &self.cache_dir else { return Ok(None) };
        let store = PrefixStore::open(folder, self.cache_size, warn);
        Ok(Some(store.with_context(|| self.settings.place("cache-dir"))?))
    }

    /// Opens the folder of files and batches, if clients may have some.
    fn open_batches(&self) -> anyhow::Result<Option<Batches>> {
        let Some(folder) = &self.batches else { return Ok(None) };
        Ok(Some(
            Batches::open(folder, self.batches_size, warn)
                .with_context(|| self.settings.place("batches"))?,
        ))
    }

    /// What the server is told.
    fn config(
        &self,
        context: &Context,
        fleet: &Fleet,
        models: Vec<server::Model>,
        failure: LastFailure,
    ) -> server::Config {
        let mut config = server::Config::new(fleet.clone(), models);
        config.prefix_store = self.store.clone();
        config.batches = self.batches_open.clone();
        config.receipts = self.receipts.clone();
        config.contents = self.contents();
        config.energy = self.energy(context);
        let in_effect = InEffect::new(self.clone());
        config.library = Some(Arc::new(OwnModels {
            context: context.clone(),
            fleet: fleet.clone(),
            serve: in_effect.clone(),
            failure: failure.clone(),
            known: self.known.clone(),
        }));
        let reloader = Reloader::new(context, fleet, in_effect, failure, &config.models);
        config.reload = Some(Arc::new(reloader));
        config.model_changes = match (self.allow_model_changes, self.allow_lock_changes) {
            (true, _) => ModelChanges::FromLoopback,
            (false, true) => ModelChanges::OfLock,
            (false, false) => ModelChanges::Refused,
        };
        config.aliases.extend(self.aliases.all().iter().cloned());
        config.shares = self.shares();
        config.limits = self.limits();
        config.reasoning_fields =
            ReasoningFields::from_name(&self.reasoning_field).unwrap_or_default();
        config.egress = self.network.mode;
        config.local_access = self.access.local_access;
        config.allow_anyone = self.access.allow_anyone;
        config.sign_in = self.sign_in().ok().flatten();
        config.allowed_origins.extend(self.allow_origin.iter().cloned());
        config.allowed_hosts.extend(self.allow_host.iter().cloned());
        config
    }
}

/// Tells probes that models are being opened, which may take minutes.
fn answer_meanwhile(
    runtime: &tokio::runtime::Runtime,
    listener: TcpListener,
    tls: Option<Tls>,
) -> anyhow::Result<Loading> {
    let _inside = runtime.enter();
    listener.set_nonblocking(true).context("listener")?;
    let listener = tokio::net::TcpListener::from_std(listener).context("listener")?;
    Ok(Loading::start(listener, tls))
}

/// Closes the models, with all that they have to keep.
async fn close_models(fleet: Fleet) -> anyhow::Result<()> {
    let close = move || {
        let names: Vec<String> = fleet.status().into_iter().map(|of| of.name).collect();
        names.iter().filter(|name| fleet.remove(name)).count()
    };
    tokio::task::spawn_blocking(close).await.context("close the models").map(drop)
}
