//! The HTTP service: dialects and the one request path.
//!
//! [`run`] takes a bound listener and a fleet of models and serves them until it is told to stop.
//! This is the only crate that knows HTTP, JSON on the wire and async; the engine below it is plain
//! threads and token ids. How a request goes is written in `serve`, and nowhere else.
#![forbid(unsafe_code)]

pub mod access;
mod accounts;
mod app;
mod background;
mod batches;
mod cases;
mod contents;
pub mod departures;
pub mod dialects;
mod energy;
mod errors;
mod gate;
mod kept;
mod library;
mod limits;
mod listen;
mod metrics;
mod models;
mod page;
pub mod receipts;
mod reload;
mod routes;
mod running;
mod seats;
mod serve;
mod shares;
mod signin;
mod streams;
mod tls;
mod traces;
mod upstream;
pub mod usage;

pub use app::policy::explained;
pub use batches::Batches;
pub use cases::{Cases, Consent, PENDING_CASES};
pub use contents::Contents;
pub use dialects::ReasoningFields;
pub use energy::{Energy, EnergySource};
pub use errors::{BadRequest, ServerError};
pub use library::{
    Adoptable, AdoptableModel, Existing, Facts, GateReports, Library, LibraryError, LockStanding,
    LockVersion, LockedModel, LockedSource, Watcher, Work,
};
pub use limits::Limits;
pub use listen::Loading;
pub use policy::Label;
pub use reload::{Afterwards, Live, Prepared, Reload, Report, Setting};
pub use serve::{InProcess, Told, ToldCall, unpack_zstd};
pub use shares::{Share, Shares};
pub use signin::{CALLBACK, KEYS_UPSTREAM, RoleRule, SignIn, TOKEN_UPSTREAM, read_id_token};
pub use tls::{Tls, TlsError};
pub use traces::{Deliver, Traces, Undelivered};
pub use upstream::{Costs, Elsewhere, Priced, Upstream, read_answer};

use engine::Sampling;
use std::future::Future;
use std::sync::Arc;
use tokio::sync::Notify;

/// Of this build.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A model to serve.
#[derive(Debug, Clone)]
pub struct Model {
    /// The name that clients ask for, and that the fleet knows it by.
    pub name: String,
    /// What it does: which routes it answers on.
    pub task: engine::Task,
    /// What tells its file from every other, such as its SHA-256, where that is known; it goes
    /// into `system_fingerprint`.
    pub digest: Option<String>,
    /// SHA-256 of what the owner's lock says of it, where it is held to one; the first digits
    /// stand in `system_fingerprint`.
    pub lock: Option<String>,
}

/// Why a model or an alias is not answered with: it is not what the owner's lock says. Whoever
/// opens the models of a fleet wraps it in [`engine::EngineError::Refused`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotAsLocked(pub String);

/// Names that clients ask for without asking whether there is such a model: agents have those of
/// their vendor built in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    /// The name; with `*` at its end, all that begin so.
    pub name: String,
    /// The served model that it stands for, or `UPSTREAM/MODEL`.
    pub model: String,
}

impl Alias {
    /// Checks that each alias of a server with models and upstreams of these names can be reached,
    /// and stands for one of the models, or for one of an upstream.
    ///
    /// # Errors
    /// What is wrong with the first that is not, by its name.
    pub fn check(aliases: &[Self], models: &[&str], upstreams: &[String]) -> Result<(), String> {
        for (alias_idx, alias) in aliases.iter().enumerate() {
            let Self { name, model } = alias;
            let wrong = |problem: &str| Err(format!("alias {name:?}: {problem}"));
            if name.strip_suffix('*').unwrap_or(name).contains('*') {
                return wrong("expected \"*\" at its end only");
            }
            if models.contains(&&**name) {
                return wrong("a served model has this name, expected another");
            }
            if let Some(earlier) = aliases[..alias_idx].iter().find(|other| other.fits(name)) {
                return wrong(&format!("never reached behind {:?}", earlier.name));
            }
            let is_there = model.split_once('/').is_some_and(|(upstream, model)| {
                upstreams.iter().any(|name| name == upstream) && !model.is_empty()
            });
            if !models.contains(&&**model) && !is_there {
                return wrong(&format!("{model:?}: expected the name of a served model"));
            }
        }
        Ok(())
    }

    /// Whether `name` is one of its names. Of a name with `*` at its end: whether all that begin so
    /// are.
    pub fn fits(&self, name: &str) -> bool {
        access::fits(&self.name, name)
    }

    /// Whether it is one name, not all that begin alike.
    fn is_one(&self) -> bool {
        !self.name.ends_with('*')
    }
}

/// What a server serves, and within which bounds.
pub struct Config {
    /// What opens the models and holds them.
    pub fleet: engine::Fleet,
    /// The models in the order in which they are listed. A request that names no model gets the
    /// first one that does what the route is for.
    pub models: Vec<Model>,
    /// Further names of theirs; the first that fits counts, after the models' own names.
    pub aliases: Vec<Alias>,
    /// Parts of the requests to aliases that other models answer, or answer too.
    pub shares: Shares,
    /// The bounds on bodies, counts and times.
    pub limits: Limits,
    /// What requests that do not say get; see [`default_sampling`].
    pub default_sampling: Sampling,
    /// Where chat completions have reasoning.
    pub reasoning_fields: ReasoningFields,
    /// Web origins (`https://chat.example`) whose pages may call this server, `*` for all; empty:
    /// none, which is the default.
    pub allowed_origins: Vec<String>,
    /// Host names accepted in the `Host` header beside `localhost` and addresses when a connection
    /// arrives on loopback; a proxy in front of the server may need one.
    pub allowed_hosts: Vec<String>,
    /// Where the models keep what they read over restarts, if they do: it tells clients apart.
    pub prefix_store: Option<engine::PrefixStore>,
    /// Where clients' files and batches are kept, if they may have some.
    pub batches: Option<Batches>,
    /// Where requests are kept as cases for the gate, if those of some clients are.
    pub cases: Option<Cases>,
    /// Where the receipts of answers go, if they are to have some; then none is given without. The
    /// keys that are taken are in their ledger.
    pub receipts: Option<receipts::Receipts>,
    /// Where requests may go beside here.
    pub elsewhere: Elsewhere,
    /// Whoever reaches the upstreams, where there are some; then there must be receipts, whose
    /// ledger has the departures.
    pub broker: Option<broker::Broker>,
    /// What programs on this machine may do without a key.
    pub local_access: access::LocalAccess,
    /// Whether other machines may ask while there is no key.
    pub allow_anyone: bool,
    /// With whom people sign in, where they do; then there must be a broker that has the issuer's
    /// endpoints, and receipts.
    pub sign_in: Option<SignIn>,
    /// Where what is asked and answered is kept, if any of it may be; answers have receipts then.
    pub contents: Option<Contents>,
    /// What tells how much energy requests take, where something does.
    pub energy: Option<Energy>,
    /// What keeps the models on this machine, where there is such a thing.
    pub library: Option<Arc<dyn Library>>,
    /// What clients on this machine may have it do: move the lock; pull, copy and delete models.
    pub model_changes: ModelChanges,
    /// Whether this process can open connections, which clients are told.
    pub egress: Egress,
    /// The certificate to serve with; `None`: without TLS.
    pub tls: Option<Tls>,
    /// Where requests leave their spans, if the owner has a collector for them.
    pub traces: Option<Traces>,
    /// What reads all this anew when the owner asks for that, where there is such a thing.
    pub reload: Option<Arc<dyn Reload>>,
    /// To be told when the process is asked for it, by a signal say.
    pub reload_told: Arc<Notify>,
}

/// Whether clients may change which models are on this machine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelChanges {
    /// Nobody may.
    #[default]
    Refused,
    /// The owner may have the lock moved, and models taken up that are on this machine: nothing is
    /// fetched and nothing removed, so it takes no network.
    OfLock,
    /// The owner may: programs on this machine while there is no key, keys with that right.
    FromLoopback,
}

/// Whether the process that serves can open connections of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Egress {
    /// It can, as any process.
    #[default]
    Open,
    /// It has given that up: the kernel refuses them.
    Locked,
}

impl Egress {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Locked => "locked",
        }
    }
}

impl Config {
    /// Serves `models` of `fleet` with the default limits, to no web page of another origin.
    pub fn new(fleet: engine::Fleet, models: Vec<Model>) -> Self {
        Self {
            fleet,
            models,
            aliases: Vec::new(),
            shares: Shares::default(),
            limits: Limits::default(),
            default_sampling: default_sampling(),
            reasoning_fields: ReasoningFields::default(),
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            prefix_store: None,
            batches: None,
            cases: None,
            receipts: None,
            elsewhere: Elsewhere::default(),
            broker: None,
            local_access: access::LocalAccess::default(),
            sign_in: None,
            allow_anyone: false,
            contents: None,
            energy: None,
            library: None,
            model_changes: ModelChanges::default(),
            egress: Egress::default(),
            tls: None,
            traces: None,
            reload: None,
            reload_told: Arc::default(),
        }
    }
}

/// Sampling for requests that do not say: temperature 0.8 and the nucleus of 0.95, as llama-server
/// has them. OpenAI's 1.0 and 1.0 suit models of a hundred times the size; small ones ramble.
pub fn default_sampling() -> Sampling {
    Sampling { temperature: 0.8, top_p: 0.95, ..Sampling::default() }
}

/// What is published of all routes and their fields, as an OpenAPI 3.1 document; a server has it at
/// `/openapi.json`.
pub fn openapi() -> serde_json::Value {
    routes::openapi::document()
}

/// Serves `config` on `listener` until `shutdown` is ready.
///
/// Then it stops accepting, lets the answers in flight finish for [`Limits::shutdown_grace`], tells
/// the rest with an error event, and returns. Must be called within a tokio runtime with IO and
/// time enabled.
///
/// # Errors
/// [`ServerError::Config`] when the configuration cannot be served (no model, a name twice). A
/// failed connection or request ends neither the server nor this future.
pub async fn run(
    listener: tokio::net::TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    listen::run(listener, config, shutdown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_that_can_have_no_effect_are_refused() {
        let check = |aliases: &[(&str, &str)], expected: Result<(), &str>| {
            let alias = |&(name, model): &(&str, &str)| Alias {
                name: name.to_owned(),
                model: model.to_owned(),
            };
            let aliases: Vec<Alias> = aliases.iter().map(alias).collect();
            let found = Alias::check(&aliases, &["a", "b"], &["u".to_owned()]);
            assert_eq!(found, expected.map_err(str::to_owned), "{aliases:?}");
        };
        check(&[("x", "a"), ("x-*", "a"), ("y", "b"), ("*", "b")], Ok(()));
        let target = "alias \"x\": \"c\": expected the name of a served model";
        check(&[("x", "c")], Err(target));
        check(&[("x", "u/large"), ("y", "u/a/b")], Ok(()));
        let target = "alias \"x\": \"u/\": expected the name of a served model";
        check(&[("x", "u/")], Err(target));
        check(&[("x*y", "a")], Err("alias \"x*y\": expected \"*\" at its end only"));
        check(&[("x**", "a")], Err("alias \"x**\": expected \"*\" at its end only"));
        let shadowed = "alias \"b\": a served model has this name, expected another";
        check(&[("b", "a")], Err(shadowed));
        check(&[("x", "a"), ("x", "b")], Err("alias \"x\": never reached behind \"x\""));
        check(&[("x*", "a"), ("xy", "b")], Err("alias \"xy\": never reached behind \"x*\""));
        check(&[("x*", "a"), ("xy*", "b")], Err("alias \"xy*\": never reached behind \"x*\""));
    }
}
