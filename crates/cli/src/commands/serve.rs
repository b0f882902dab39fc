//! `freehold serve`: the server for clients of OpenAI, Anthropic and Ollama. Here stands what it
//! can be told; [`start`] is what it does.

mod access;
mod announce;
mod cases;
mod elsewhere;
mod in_effect;
mod keep;
mod library;
mod limits;
mod lock;
mod models;
mod network;
mod oidc;
mod opening;
mod problems;
mod refusals;
mod reload;
mod shares;
mod signals;
mod staged;
mod start;
mod times;
mod tls;
mod traces;
mod upkeep;
mod upstreams;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args as _;
use engine::{Keep, PrefixStore};
use kernels::KvFormat;
use server::Batches;
use server::receipts::Receipts;

use access::AccessArgs;
use cases::CaseArgs;
use elsewhere::ElsewhereArgs;
use keep::KeepArgs;
use library::Known;
pub(in crate::commands) use library::{digest, quantization};
use limits::LimitArgs;
use network::NetworkArgs;
use oidc::OidcArgs;
use refusals::Refusals;
pub(crate) use reload::RELOADABLE;
use shares::ShareArgs;
use times::keep_alive;
pub(crate) use times::some_time;

use crate::aliases::AliasArgs;
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::kv_format;
use crate::ledger::LedgerArgs;
use crate::locked::{Lock, LockArgs};
use crate::numbers;
use crate::settings::{self, Flags, Resolved, Settings};
use crate::terminal::{self, Colour, paint};

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
    /// Field of chat completions that has a model's reasoning: reasoning_content (DeepSeek,
    /// llama-server), reasoning (vLLM, OpenRouter), or both of them
    #[arg(long, value_name = "FIELD", default_value = "both",
          value_parser = server::ReasoningFields::NAMES)]
    reasoning_field: String,
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
    /// Let the owner on this machine move freehold.lock and adopt other programs' models over HTTP
    /// and on the page: nothing is fetched or removed, and the network stays locked
    #[arg(long)]
    allow_lock_changes: bool,
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

    fn run(self, context: &Context) -> anyhow::Result<()> {
        self.serve(context)
    }
}

impl Serve {
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

    /// The file that its settings are from, if there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.settings.file().map(Path::to_owned)
    }

    /// Has the log as these settings say.
    fn set_log(&self) {
        terminal::set_log(self.log.as_deref(), self.log_format == "json");
    }
}

/// Tells the operator of what needs a look.
fn warn(line: &str) {
    let label = paint("warning:", Colour::Yellow, &io::stderr());
    terminal::say(&format!("{label} {line}"));
}
