//! `freehold serve`: the server for clients of OpenAI, Anthropic and Ollama.

mod access;
mod announce;
mod cases;
mod elsewhere;
mod keep;
mod library;
mod limits;
mod lock;
mod network;
mod oidc;
mod refusals;
mod reload;
mod shares;
mod signals;
mod tls;
mod traces;
mod upkeep;
mod upstreams;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args as _;
use engine::{
    EngineError, EngineOptions, Fleet, FleetError, FleetModel, Keep, Opened, PrefixStore, Task,
};
use kernels::KvFormat;
use server::receipts::Receipts;
use server::{Batches, ModelChanges, NotAsLocked};
use store::Catalogue;

use access::AccessArgs;
use announce::{Use, advice, announce, base_url};
use cases::CaseArgs;
use elsewhere::ElsewhereArgs;
use keep::KeepArgs;
use library::{Known, KnownModel, OwnModels};
pub(in crate::commands) use library::{digest, quantization};
use limits::LimitArgs;
use network::NetworkArgs;
use oidc::OidcArgs;
use refusals::Refusals;
pub(crate) use reload::RELOADABLE;
use reload::Reloader;
use shares::ShareArgs;
use signals::shutdown_signal;

use crate::aliases::AliasArgs;
use crate::commands::Subcommand;
use crate::commands::run::{say_info, speculation, warn_of_threads};
use crate::context::Context;
use crate::exit::{self, Exit, Failure};
use crate::kv_format;
use crate::ledger::{self, LedgerArgs};
use crate::locate::{self, Chosen, Missing};
use crate::locked::{self, Lock, LockArgs};
use crate::numbers;
use crate::settings::{self, Flags, Resolved, Settings};
use crate::terminal::{self, Colour, paint};

/// How long a model stays that was opened on demand, where nobody says.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// How long answers that were broken off may take to give their model back.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How long the last traces may take to reach their collector.
const LAST_TRACES: Duration = Duration::from_secs(3);
/// Most models that one command line names.
const MAX_MODELS: usize = 32;

/// Serve models to OpenAI, Anthropic and Ollama clients
///
/// Listens on this machine only unless --listen says otherwise. Ctrl-C or SIGTERM lets running
/// answers finish; a second Ctrl-C ends at once.
///
/// Models that are named are opened at once and stay. Where none is, the default model is, and
/// every other installed one is opened when a request asks for it and closed when nobody uses it.
///
/// What is not said here comes from the environment, then from the file of settings (`freehold
/// config`). SIGHUP has the file read anew, without an answer being cut.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  freehold serve
  freehold serve smollm2-135m minilm-l6-v2   chat, and embeddings
  freehold serve smollm2-135m ./my.gguf --listen 127.0.0.1:8000
  freehold serve big small --on-demand --keep-alive 10m --memory 16GiB
  freehold serve --alias 'claude-*=my-model'  for agents that ask for models of a vendor
  freehold serve --batches ~/batches         batches of requests, answered when it is idle
  freehold serve --locked                    only what freehold.lock lists, exactly as it says
  freehold serve --allow-model-changes       clients on this machine may pull and delete
  freehold serve --listen 127.0.0.1:0        any free port; the address is printed")]
pub(crate) struct Serve {
    /// Installed or catalogue names, or GGUF files (default: the default model)
    #[arg(value_name = "NAME|FILE")]
    models: Vec<String>,
    /// One more model; may be repeated
    #[arg(long, short, value_name = "NAME|FILE")]
    model: Vec<String>,
    /// File of settings (default: ./freehold.toml, else freehold.toml in the data directory)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Open the named models only when requests ask for them, and close them when idle
    #[arg(long)]
    on_demand: bool,
    /// How long a model that was opened on demand stays unused, such as 30s, 2h, or "forever"
    /// (default: 5m)
    #[arg(long, value_name = "TIME", value_parser = keep_alive)]
    keep_alive: Option<Keep>,
    #[command(flatten)]
    aliases: AliasArgs,
    #[command(flatten)]
    share_args: ShareArgs,
    #[command(flatten)]
    case_args: CaseArgs,
    #[command(flatten)]
    elsewhere_args: ElsewhereArgs,
    /// Most memory of all models together, such as 16GiB (default: what the system has)
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_bytes)]
    memory: Option<u64>,
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:11500")]
    listen: String,
    /// Positions of the context of each sequence (default: the model's own, at most 8192)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, short, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    /// Keys and values of past positions: f16, or q8 for half the memory and a little less exact
    #[arg(long, value_name = "FORMAT", default_value = KvFormat::F16.name(),
          value_parser = kv_format::parser())]
    kv: KvFormat,
    /// Most answers made at once by each model; they share the memory for keys and values
    #[arg(long, value_name = "N", default_value = "32",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_SEQUENCES as i64))]
    max_sequences: u16,
    /// Compute one token at a time: same answers, no guesses checked in advance
    #[arg(long)]
    no_speculation: bool,
    /// Folder where what was read of prompts is kept over restarts, readable by you alone; it
    /// grows to --cache-size. Only for requests from this machine; those of one key share it, as do
    /// those without
    #[arg(long, value_name = "FOLDER")]
    cache_dir: Option<PathBuf>,
    /// Most bytes of that folder, such as 20GiB; what was used least recently goes
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_bytes, default_value = "8GiB")]
    cache_size: u64,
    /// How long a finished answer of /v1/responses stays in memory behind its last use, such as 1h,
    /// so that "previous_response_id" finds it; 64 MiB of all of them at most (default: nothing of
    /// any answer is kept)
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    keep_responses: Option<Duration>,
    /// Folder where clients keep files of requests and have them answered as batches (/v1/files,
    /// /v1/batches), readable by you alone; what they send stays there until they delete it
    /// (default: nobody may)
    #[arg(long, value_name = "FOLDER")]
    batches: Option<PathBuf>,
    /// Most bytes of that folder, such as 20GiB, of one client three quarters
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_bytes, requires = "batches",
          default_value = "8GiB")]
    batches_size: u64,
    /// How long a stream whose connection was lost goes on, and its events stay in memory behind
    /// its end, such as 60s, so that its client can resume it; 8 MiB of each and 64 MiB of all of
    /// them at most (default: it is cancelled at once)
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    resume_streams: Option<Duration>,
    /// Web origin whose pages may call the server, such as https://chat.example (may be repeated)
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Host name accepted beside the loopback names (may be repeated)
    #[arg(long, value_name = "HOST")]
    allow_host: Vec<String>,
    /// Let clients on this machine pull, copy and delete models, as Ollama's do; whatever runs
    /// here, and whoever comes through a proxy here that does not say so, can then fill the disk
    #[arg(long)]
    allow_model_changes: bool,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    oidc: OidcArgs,
    #[command(flatten)]
    network: NetworkArgs,
    /// Serve HTTPS with this certificate, in PEM; those that lead from it to a root stand behind it
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM, which not everybody on this machine may read
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Collector of OpenTelemetry's that gets a trace of each request, such as
    /// http://127.0.0.1:4318: times, counts and names of models, never contents (default: none)
    #[arg(long, value_name = "URL", value_parser = store::Endpoint::parse)]
    otlp_endpoint: Option<store::Endpoint>,
    /// What is logged: a level such as info, or levels by part such as warn,freehold_server=debug
    /// (default: requests and what needs attention)
    #[arg(long, value_name = "FILTER", value_parser = terminal::log_filter)]
    log: Option<String>,
    /// How the log is written: text for people, or json for programs, one object a line
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    #[command(flatten)]
    ledger: LedgerArgs,
    #[command(flatten)]
    keep_args: KeepArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    lock_args: LockArgs,
    /// What was said of all this, and where.
    #[arg(skip)]
    settings: Resolved,
    /// What of it was said on the command line.
    #[arg(skip)]
    flags: Flags,
    /// What `lock_args` say, read.
    #[arg(skip)]
    lock: Option<Arc<Lock>>,
    /// What is not as it says.
    #[arg(skip)]
    refusals: Refusals,
    /// What `cache_dir` says, open.
    #[arg(skip)]
    store: Option<PrefixStore>,
    /// What `batches` says, open.
    #[arg(skip)]
    batches_open: Option<Batches>,
    /// What `ledger` says, open.
    #[arg(skip)]
    receipts: Option<Receipts>,
    /// The models that are served.
    #[arg(skip)]
    known: Known,
}

impl Subcommand for Serve {
    fn augment(command: clap::Command) -> clap::Command {
        limits::hide_in_short_help(settings::overridable(Self::augment_args(command)))
    }

    fn start(matches: &clap::ArgMatches, context: &Context) -> anyhow::Result<()> {
        let flags = Settings::of::<Self>().flags(matches);
        let serve = Self::resolve(&flags, context).map_err(|problems| {
            let message = problems.join("\n       ");
            Failure::new(Exit::Usage, message)
        })?;
        serve.run(context)
    }

    fn run(mut self, context: &Context) -> anyhow::Result<()> {
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
            listener.set_nonblocking(true).context("listener")?;
            let listener = tokio::net::TcpListener::from_std(listener).context("listener")?;
            let shutdown = shutdown_signal(hung_up)?;
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
}

impl Serve {
    /// The first model that answers, and what it is for.
    fn first(&self, models: &[server::Model], fleet: &Fleet) -> (String, Use) {
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
        config.library = Some(Arc::new(OwnModels {
            context: context.clone(),
            fleet: fleet.clone(),
            serve: self.clone(),
            failure: failure.clone(),
            known: self.known.clone(),
        }));
        config.reload =
            Some(Arc::new(Reloader::new(context, fleet, self, failure, &config.models)));
        if self.allow_model_changes {
            config.model_changes = ModelChanges::FromLoopback;
        }
        config.aliases.extend(self.aliases.all().iter().cloned());
        config.shares = self.shares();
        config.limits = self.limits();
        config.egress = self.network.mode;
        config.local_access = self.access.local_access;
        config.allow_anyone = self.access.allow_anyone;
        config.sign_in = self.sign_in().ok().flatten();
        config.allowed_origins.extend(self.allow_origin.iter().cloned());
        config.allowed_hosts.extend(self.allow_host.iter().cloned());
        config
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

    /// How long a model stays that was opened on demand.
    fn keep(&self) -> Keep {
        self.keep_alive.unwrap_or(Keep::Idle(KEEP_ALIVE))
    }

    /// What `flags`, the environment and the file say now.
    ///
    /// # Errors
    /// All that is wrong, each with its place, value and expectation.
    pub(crate) fn resolve(flags: &Flags, context: &Context) -> Result<Self, Vec<String>> {
        let settings = Settings::of::<Self>().resolve(flags, &context.home())?;
        let serve = Self::of(settings, flags).map_err(|problem| vec![problem])?;
        let problems = serve.problems();
        if problems.is_empty() { Ok(serve) } else { Err(problems) }
    }

    /// What these settings are.
    fn of(settings: Resolved, flags: &Flags) -> Result<Self, String> {
        let serve = settings.read::<Self>()?;
        Ok(Self { settings, flags: flags.clone(), ..serve })
    }

    /// What is wrong with the settings together.
    fn problems(&self) -> Vec<String> {
        let place = |name: &str| self.settings.place(name);
        let mut problems = Vec::new();
        if self.models.len() > MAX_MODELS {
            let n_models = self.models.len();
            problems.push(format!(
                "{}: {n_models} given, expected at most {MAX_MODELS}",
                place("models")
            ));
        }
        if self.on_demand && self.models.is_empty() {
            let expected = "no models are named, expected some beside it";
            problems.push(format!("{}: {expected}", place("on-demand")));
        }
        if self.keep_alive.is_some() && !self.models.is_empty() && !self.on_demand {
            let expected = "the named models stay open, expected --on-demand beside it";
            problems.push(format!("{}: {expected}", place("keep-alive")));
        }
        let is_sized = self
            .settings
            .values()
            .iter()
            .any(|value| value.name() == "cache-size" && !value.is_default());
        if is_sized && self.cache_dir.is_none() {
            let expected = "nothing is kept, expected --cache-dir beside it";
            problems.push(format!("{}: {expected}", place("cache-size")));
        }
        problems.extend(self.egress_problem());
        problems.extend(self.access_problem());
        problems.extend(self.upstreams_problem());
        problems.extend(self.sign_in().err());
        problems.extend(self.keep_problem());
        for (one, other) in [("tls-cert", "tls-key"), ("tls-key", "tls-cert")] {
            let is_given = |name| if name == "tls-cert" { &self.tls_cert } else { &self.tls_key };
            if is_given(one).is_some() && is_given(other).is_none() {
                problems.push(format!("{}: expected --{other} beside it", place(one)));
            }
        }
        let of_cases = self.case_args.problem();
        problems.extend(of_cases.map(|(name, problem)| format!("{}: {problem}", place(name))));
        problems
    }

    /// What is wrong that only a look at models and certificates tells.
    pub(crate) fn deeper_problems(&self, context: &Context) -> Vec<String> {
        let is_here = |text: &&String| {
            // The server fetches these when it starts.
            let is_known = Catalogue::builtin().find(text).is_some();
            let found = locate::find(context, text, Missing::Fail);
            found.err().filter(|_| !is_known)
        };
        let models = self.models.iter().filter_map(|text| is_here(&text));
        let place = self.settings.place("models");
        let models = models.map(|error| format!("{place}: {error:#}"));
        models.chain(self.tls().err()).chain(self.elsewhere().err()).collect()
    }

    /// The file that its settings are from, if there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.settings.file().map(Path::to_owned)
    }

    /// Has the log as these settings say.
    fn set_log(&self) {
        terminal::set_log(self.log.as_deref(), self.log_format == "json");
    }

    /// The bounds.
    fn limits(&self) -> server::Limits {
        server::Limits {
            keep_responses: self.keep_responses,
            resume_streams: self.resume_streams,
            ..self.limits.limits()
        }
    }

    /// How many of the models that [`Serve::wanted`] gives are named, the default one counted.
    fn n_named(&self) -> usize {
        self.models.len().max(1)
    }

    /// The models to serve, and how long each stays: those that are named, else the default one and
    /// what is installed beside it.
    fn wanted(&self, context: &Context, missing: Missing) -> anyhow::Result<Vec<(Chosen, Keep)>> {
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

    /// The models to serve, those opened that are not on demand.
    fn models(
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
    fn check_names(&self) {
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

    /// Tells the fleet how to open a model, and notes what is known of it.
    fn add(
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
    fn fleet_model(
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
            Ok(opened)
        };
        FleetModel { open: Arc::new(open), options, keep }
    }
}

/// Closes the models, with all that they have to keep.
async fn close_models(fleet: Fleet) -> anyhow::Result<()> {
    let close = move || {
        let names: Vec<String> = fleet.status().into_iter().map(|of| of.name).collect();
        names.iter().filter(|name| fleet.remove(name)).count()
    };
    tokio::task::spawn_blocking(close).await.context("close the models").map(drop)
}

/// How the latest opening failed, in the form that decides the exit status.
type LastFailure = Arc<Mutex<Option<anyhow::Error>>>;

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
fn opening_failed(error: FleetError, failure: &LastFailure) -> anyhow::Error {
    match (error, failure.lock().unwrap_or_else(PoisonError::into_inner).take()) {
        (FleetError::NotOpened { .. }, Some(error)) => error,
        (FleetError::NoRoom { name, shortage, .. }, _) => {
            anyhow::Error::new(EngineError::NotEnoughMemory(Box::new(shortage))).context(name)
        }
        (error, _) => error.into(),
    }
}

/// Reads a time or `forever`.
fn keep_alive(text: &str) -> Result<Keep, String> {
    let time = if text == "forever" { Some(Duration::MAX) } else { time(text) };
    let time = time.ok_or("expected a time such as 30s, 5m or 2h, or \"forever\"")?;
    Ok(Keep::Idle(time))
}

/// Reads a time, which ends, but not at once.
pub(crate) fn some_time(text: &str) -> Result<Duration, String> {
    let time = time(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected a time such as 30m or 2h".to_owned())
}

/// Tells the operator of what needs a look.
fn warn(line: &str) {
    let label = paint("warning:", Colour::Yellow, &io::stderr());
    terminal::say(&format!("{label} {line}"));
}

/// Reads `30s`, `5m`, `2h`, or plain seconds.
fn time(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 3] = [("s", 1), ("m", 60), ("h", 3600)];
    let unit = UNITS.iter().find_map(|(unit, n)| Some((text.strip_suffix(unit)?, *n)));
    let (digits, n_seconds) = unit.unwrap_or((text, 1));
    digits.parse::<u64>().ok()?.checked_mul(n_seconds).map(Duration::from_secs)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        let idle = |seconds| Ok(Keep::Idle(Duration::from_secs(seconds)));
        for (text, expected) in [
            ("0", idle(0)),
            ("90", idle(90)),
            ("30s", idle(30)),
            ("5m", idle(300)),
            ("2h", idle(7200)),
        ] {
            assert_eq!(keep_alive(text), expected, "{text}");
        }
        assert_eq!(keep_alive("forever"), Ok(Keep::Idle(Duration::MAX)));
        for text in ["", "m", "5d", "-1", "1.5h", "99999999999999999h"] {
            assert!(keep_alive(text).is_err(), "{text}");
            assert!(some_time(text).is_err(), "{text}");
        }
        assert_eq!(some_time("30m"), Ok(Duration::from_secs(1800)));
        for endless in ["0", "forever"] {
            assert!(some_time(endless).is_err(), "{endless}");
        }
    }
}
