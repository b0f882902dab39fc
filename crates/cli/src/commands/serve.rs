//! `freehold serve`: the server for clients of OpenAI, Anthropic and Ollama.

mod library;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use engine::{
    EngineError, EngineOptions, Fleet, FleetError, FleetModel, Keep, Opened, PrefixStore, Task,
};
use kernels::KvFormat;
use server::{Alias, Batches, ModelChanges};

use library::{Known, OwnModels};

use crate::commands::Subcommand;
use crate::commands::run::{say_info, speculation, warn_of_threads};
use crate::context::{Context, Verbosity};
use crate::exit::{Exit, Failure};
use crate::interrupt;
use crate::kv_format;
use crate::locate::{self, Chosen, Missing};
use crate::numbers;
use crate::terminal::{self, Colour, paint};

/// How long a model stays that was opened on demand, where nobody says.
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// How long answers that were broken off may take to give their model back.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Most models that one command line names.
const MAX_MODELS: usize = 32;

/// Serve models to OpenAI, Anthropic and Ollama clients
///
/// Listens on this machine only unless --listen says otherwise. Ctrl-C or SIGTERM lets running
/// answers finish; a second Ctrl-C ends at once.
///
/// Models that are named are opened at once and stay. Where none is, the default model is, and
/// every other installed one is opened when a request asks for it and closed when nobody uses it.
#[derive(Debug, Clone, clap::Args)]
#[command(group = clap::ArgGroup::new("named").multiple(true))]
#[command(after_help = "\
Examples:
  freehold serve
  freehold serve smollm2-135m minilm-l6-v2   chat, and embeddings
  freehold serve smollm2-135m ./my.gguf --listen 127.0.0.1:8000
  freehold serve big small --on-demand --keep-alive 10m --memory 16GiB
  freehold serve --alias 'claude-*=my-model'  for agents that ask for models of a vendor
  freehold serve --batches ~/batches         batches of requests, answered when it is idle
  freehold serve --allow-model-changes       clients on this machine may pull and delete
  freehold serve --listen 127.0.0.1:0        any free port; the address is printed")]
pub(crate) struct Serve {
    /// Installed or catalogue names, or GGUF files (default: the default model)
    #[arg(value_name = "NAME|FILE", group = "named")]
    models: Vec<String>,
    /// One more model; may be repeated
    #[arg(long, short, value_name = "NAME|FILE", group = "named")]
    model: Vec<String>,
    /// Open the named models only when requests ask for them, and close them when idle
    #[arg(long, requires = "named")]
    on_demand: bool,
    /// How long a model that was opened on demand stays unused, such as 30s, 2h, or "forever"
    /// (default: 5m)
    #[arg(long, value_name = "TIME", value_parser = keep_alive)]
    keep_alive: Option<Keep>,
    /// Serve a model under a further name, or under all that begin with NAME* (may be repeated)
    #[arg(long, value_name = "NAME=MODEL", value_parser = alias)]
    alias: Vec<Alias>,
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
    #[arg(long, value_name = "SIZE", value_parser = numbers::parse_bytes, requires = "cache_dir",
          default_value = "8GiB")]
    cache_size: u64,
    /// How long a finished answer of /v1/responses stays in memory behind its last use, such as 1h,
    /// so that "previous_response_id" finds it; 64 MiB of all of them at most (default: nothing of
    /// any answer is kept)
    #[arg(long, value_name = "TIME", value_parser = keep_responses)]
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
    /// What `cache_dir` says, open.
    #[arg(skip)]
    store: Option<PrefixStore>,
    /// What `batches` says, open.
    #[arg(skip)]
    batches_open: Option<Batches>,
    /// The models that are served.
    #[arg(skip)]
    known: Known,
}

impl Subcommand for Serve {
    fn run(mut self, context: &Context) -> anyhow::Result<()> {
        // Both ways of naming models are one list.
        self.models.append(&mut self.model);
        // The address first: finding it taken after minutes of loading would be a waste.
        let listener = self.bind()?;
        let address = listener.local_addr().context("address of the listener")?;
        if !address.ip().is_loopback() {
            warn(&format!(
                "{address} can be reached from other machines and no keys exist yet: everyone who \
                 reaches it can use it"
            ));
        }
        warn_of_threads(context, self.threads);
        let fleet = Fleet::new(self.memory);
        self.store = self.prefix_store()?;
        self.batches_open = self.open_batches()?;
        let failure = LastFailure::default();
        let models = self.models(context, &fleet, &failure)?;
        let name = models[0].name.clone();
        // One that is opened on demand says what it is when it is there.
        let use_for = match (models[0].task, fleet.get_open(&name)) {
            (Task::Embed, _) => Use::Embed,
            (_, Some(Opened::Generator(engine))) if engine.template().is_none() => Use::Complete,
            _ => Use::Chat,
        };
        let advice = advice(&base_url(address), &name, use_for);
        let config = self.config(context, &fleet, models, failure);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("start the server's threads")?;
        runtime.block_on(async {
            listener.set_nonblocking(true).context("listener")?;
            let listener = tokio::net::TcpListener::from_std(listener).context("listener")?;
            let shutdown = shutdown_signal()?;
            announce(context, address, &advice)?;
            server::run(listener, config, shutdown).await?;
            // They close here, with all that they have to keep.
            let close = move || {
                let names: Vec<String> = fleet.status().into_iter().map(|of| of.name).collect();
                names.iter().filter(|name| fleet.remove(name)).count()
            };
            tokio::task::spawn_blocking(close).await.context("close the models")?;
            context.note("stopped");
            anyhow::Ok(())
        })?;
        // A model that is just being opened is for nobody any more; one of which an answer was
        // broken off just now may have something to keep.
        runtime.shutdown_timeout(if self.store.is_some() { LAST_ANSWERS } else { Duration::ZERO });
        Ok(())
    }
}

impl Serve {
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
        config.limits.n_batch_lines = self.max_sequences.into();
        config.library = Some(Arc::new(OwnModels {
            context: context.clone(),
            fleet: fleet.clone(),
            serve: self.clone(),
            failure,
            known: self.known.clone(),
        }));
        if self.allow_model_changes {
            config.model_changes = ModelChanges::FromLoopback;
        }
        config.aliases.extend(self.alias.iter().cloned());
        config.limits.keep_responses = self.keep_responses;
        config.allowed_origins.extend(self.allow_origin.iter().cloned());
        config.allowed_hosts.extend(self.allow_host.iter().cloned());
        config
    }

    fn bind(&self) -> anyhow::Result<TcpListener> {
        let place = || format!("--listen {}", self.listen);
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
        Ok(Some(store.context("--cache-dir")?))
    }

    /// Opens the folder of files and batches, if clients may have some.
    fn open_batches(&self) -> anyhow::Result<Option<Batches>> {
        let Some(folder) = &self.batches else { return Ok(None) };
        Ok(Some(Batches::open(folder, self.batches_size, warn).context("--batches")?))
    }

    /// How long a model stays that was opened on demand.
    fn keep(&self) -> Keep {
        self.keep_alive.unwrap_or(Keep::Idle(KEEP_ALIVE))
    }

    /// The models to serve, those opened that are not on demand.
    fn models(
        &self,
        context: &Context,
        fleet: &Fleet,
        failure: &LastFailure,
    ) -> anyhow::Result<Vec<server::Model>> {
        let default = [locate::default_model().to_owned()];
        let asked: &[String] = if self.models.is_empty() { &default } else { &self.models };
        if asked.len() > MAX_MODELS {
            let message = format!("models: {} given, expected at most {MAX_MODELS}", asked.len());
            return Err(Failure::new(Exit::Usage, message).into());
        }
        if self.keep_alive.is_some() && !self.models.is_empty() && !self.on_demand {
            let message =
                "--keep-alive: the named models stay open, expected --on-demand beside it";
            return Err(Failure::new(Exit::Usage, message.to_owned()).into());
        }
        let mut models: Vec<server::Model> = Vec::new();
        for text in asked {
            let chosen = locate::find(context, text, Missing::Fetch)?;
            if models.iter().any(|model| model.name == chosen.name) {
                let message =
                    format!("model {text}: a model named {} is served already", chosen.name);
                return Err(Failure::new(Exit::Usage, message).into());
            }
            let keep = if self.on_demand { self.keep() } else { Keep::Pinned };
            models.push(self.add(context, fleet, chosen, keep, failure));
        }
        if self.models.is_empty() {
            models.extend(self.others(context, fleet, &models[0].name, failure)?);
        }
        // Before minutes of loading.
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        Alias::check(&self.alias, &names)
            .map_err(|problem| Failure::new(Exit::Usage, format!("--alias: {problem}")))?;
        for text in asked.iter().filter(|_| self.on_demand) {
            context.note(&format!("{text}: opened when it is asked for"));
        }
        if !self.on_demand {
            for model in &models[..asked.len()] {
                let opened = fleet.get(&model.name).map_err(|e| opening_failed(e, failure))?;
                say_served(context, &model.name, &opened);
            }
        }
        Ok(models)
    }

    /// What is installed beside the default model, on demand.
    fn others(
        &self,
        context: &Context,
        fleet: &Fleet,
        default: &str,
        failure: &LastFailure,
    ) -> anyhow::Result<Vec<server::Model>> {
        let mut models = Vec::new();
        for installed in context.store()?.list()? {
            match installed {
                Ok(installed) if installed.name != default => {
                    let chosen = Chosen::installed(installed);
                    models.push(self.add(context, fleet, chosen, self.keep(), failure));
                }
                Ok(_) => {}
                // One that is damaged keeps nobody from the others.
                Err(error) => context.note(&format!("not served: {error}")),
            }
        }
        if !models.is_empty() {
            let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
            context.note(&format!("opened when they are asked for: {}", names.join(", ")));
        }
        Ok(models)
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
        let (name, task) = (chosen.name.clone(), chosen.task());
        // A split model is all of its files.
        let digest: Option<String> = chosen
            .installed
            .as_ref()
            .map(|installed| installed.files.iter().map(|file| file.sha256.to_string()).collect());
        let options = EngineOptions {
            n_threads: self.threads.map(usize::from),
            n_ctx: self.ctx,
            max_sequences: usize::from(self.max_sequences),
            speculation: speculation(self.no_speculation),
            kv_format: self.kv,
            prefix_store: self.store.clone(),
            model_digest: digest.clone(),
            ..EngineOptions::default()
        };
        let model = server::Model { name: name.clone(), task, digest };
        self.known.note(&model, &chosen, self.ctx);
        let (context, failure) = (context.clone(), failure.clone());
        let open = move |options: &EngineOptions| {
            let opened = chosen.open(&context, options);
            let opened = opened.map_err(|error| as_engine_error(error, &failure))?;
            say_info(&context, &chosen.name, opened.info());
            Ok(opened)
        };
        fleet.set(&name, FleetModel { open: Arc::new(open), options, keep });
        model
    }
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
    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    EngineError::Refused(words.into())
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

/// Reads a time, which ends.
fn keep_responses(text: &str) -> Result<Duration, String> {
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

/// Reads `NAME=MODEL`; names of models have no `=`.
fn alias(text: &str) -> Result<Alias, String> {
    match text.split_once('=') {
        Some((name, model)) if !name.is_empty() && !model.is_empty() => {
            Ok(Alias { name: name.to_owned(), model: model.to_owned() })
        }
        _ => Err("expected NAME=MODEL, such as claude-*=smollm2-135m".to_owned()),
    }
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

/// Prints the address, and what to paste to use it.
fn announce(context: &Context, address: SocketAddr, advice: &str) -> anyhow::Result<()> {
    terminal::print_line(&format!("listening on {}", base_url(address)))?;
    if context.verbosity() == Verbosity::Quiet {
        return Ok(());
    }
    terminal::print(advice)?;
    context.note("Ctrl-C stops the server");
    Ok(())
}

/// What a model is for.
#[derive(Clone, Copy)]
enum Use {
    Chat,
    Complete,
    Embed,
}

/// What to paste to ask `model`: a question where it chats, a text to continue or to embed where it
/// does that.
fn advice(base: &str, model: &str, use_for: Use) -> String {
    let (path, data, call, field) = match use_for {
        Use::Chat => {
            let data = r#""messages": [{"role": "user", "content": "Hello"}]"#;
            let arguments = r#"messages=[{"role": "user", "content": "Hello"}]"#;
            let call = format!(r#"chat.completions.create(model="{model}", {arguments})"#);
            ("chat/completions", data, call, "choices[0].message.content")
        }
        Use::Complete => {
            let data = r#""prompt": "Once upon a time", "max_tokens": 64"#;
            let arguments = r#"prompt="Once upon a time", max_tokens=64"#;
            let call = format!(r#"completions.create(model="{model}", {arguments})"#);
            ("completions", data, call, "choices[0].text")
        }
        Use::Embed => {
            let data = r#""input": "Once upon a time""#;
            let arguments = r#"input="Once upon a time""#;
            let call = format!(r#"embeddings.create(model="{model}", {arguments})"#);
            ("embeddings", data, call, "data[0].embedding")
        }
    };
    let client = format!(r#"OpenAI(base_url="{base}/v1", api_key="none")"#);
    format!(
        r#"
curl {base}/v1/{path} -H 'Content-Type: application/json' -d '{{"model": "{model}", {data}}}'

python3 -c 'from openai import OpenAI; print({client}.{call}.{field})'

"#
    )
}

/// The address to call from this machine: an unspecified one is reached through loopback.
fn base_url(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip([127, 0, 0, 1].into()),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        _ => {}
    }
    format!("http://{address}")
}

/// Ready at the first Ctrl-C or SIGTERM; from then on a second Ctrl-C ends the process.
fn shutdown_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let terminated = terminated()?;
    interrupt::take_over();
    Ok(async move {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminated => {}
        }
        terminal::say("stopping: running answers may finish, Ctrl-C again ends at once");
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                std::process::exit(Exit::Interrupted as i32);
            }
        });
    })
}

#[cfg(unix)]
fn terminated() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut signal = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    Ok(async move {
        signal.recv().await;
    })
}

#[cfg(not(unix))]
fn terminated() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    Ok(std::future::pending())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_asked_for_what_it_does() {
        let chat = advice("http://h:1", "m", Use::Chat);
        assert!(chat.contains("http://h:1/v1/chat/completions") && chat.contains("messages="));
        let base = advice("http://h:1", "m", Use::Complete);
        assert!(base.contains("http://h:1/v1/completions") && !base.contains("messages"), "{base}");
        let data = base.split('\'').find(|part| part.starts_with('{')).unwrap();
        let data: serde_json::Value = serde_json::from_str(data).unwrap();
        assert_eq!((&data["model"], &data["prompt"]), (&"m".into(), &"Once upon a time".into()));
        assert!(base.contains(r#"completions.create(model="m", prompt="#), "{base}");
        let embeds = advice("http://h:1", "m", Use::Embed);
        assert!(
            embeds.contains("http://h:1/v1/embeddings") && embeds.contains("input="),
            "{embeds}"
        );
    }

    #[test]
    fn the_address_shown_can_be_called() {
        let check = |listen: &str, expected: &str| {
            assert_eq!(base_url(listen.parse().unwrap()), expected);
        };
        check("127.0.0.1:11500", "http://127.0.0.1:11500");
        check("0.0.0.0:80", "http://127.0.0.1:80");
        check("[::]:80", "http://[::1]:80");
        check("192.168.1.2:80", "http://192.168.1.2:80");
    }

    #[test]
    fn aliases_are_read() {
        let found = alias("claude-*=a/b");
        let (name, model) = ("claude-*".to_owned(), "a/b".to_owned());
        assert_eq!(found, Ok(Alias { name, model }));
        for text in ["", "a", "=a", "a="] {
            assert!(alias(text).is_err(), "{text}");
        }
    }

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
            assert!(keep_responses(text).is_err(), "{text}");
        }
        assert_eq!(keep_responses("30m"), Ok(Duration::from_secs(1800)));
        for endless in ["0", "forever"] {
            assert!(keep_responses(endless).is_err(), "{endless}");
        }
    }
}
