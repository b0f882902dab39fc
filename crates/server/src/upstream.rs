//! Upstreams: other servers that may answer a request, what is asked of them, and who carries it.
//!
//! What is here is translation: a [`Call`](crate::dialects::Call) of whatever family becomes the
//! body that an upstream reads, and the bytes of its answer become the steps that every family's
//! reply renders. It never waits. Connections are the [broker's](broker), a process of its own.

mod answer;
mod anthropic;
mod body;
mod failure;
mod following;
mod openai;
mod redact;
mod schema;
mod shape;
mod sse;
#[cfg(test)]
mod testing;
mod texts;
mod tokens;
mod unescape;

pub(crate) use answer::{Answer, Counts, Framing};
pub(crate) use body::Asked;
pub(crate) use failure::{failure, unfit, wrong};
pub(crate) use redact::{Redaction, Restoring};
pub(crate) use shape::Shape;
pub(crate) use texts::{n_bytes, texts};
pub(crate) use tokens::TheirTokens;

use crate::dialects::Dialect as _;
use crate::dialects::openai::chat::Chat;
use crate::limits::Limits;
use crate::usage::Renting;
use broker::{Broker, Circuit, UpstreamKind};
use policy::Detector;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads what an upstream of this kind answers to the chat completions request in `request`, which
/// comes in these pieces, as events where `is_streamed`; returns its alternatives and counts in a
/// form of no promise, which is the same however the answer is cut.
///
/// # Errors
/// What is wrong with the request, or with the answer.
pub fn read_answer(
    request: &[u8],
    kind: UpstreamKind,
    is_streamed: bool,
    pieces: &[&[u8]],
) -> Result<String, String> {
    let request = Chat::parse(request, &Limits::default()).map_err(|bad| bad.to_string())?;
    let framing = if is_streamed { Framing::Events } else { Framing::Whole };
    let answer = Answer::new(Chat::call(&request), kind, framing);
    let read = answer.read(pieces).map_err(|wrong| wrong.to_string())?;
    Ok(format!("{read:?}"))
}

/// Longest message of an upstream's error that is passed on.
const MESSAGE_CHARS_MAX: usize = 1000;

/// Where requests go, behind the URL of an upstream of this kind.
pub(crate) fn path(kind: UpstreamKind) -> &'static str {
    match kind {
        UpstreamKind::OpenAi => "/chat/completions",
        UpstreamKind::Anthropic => "/v1/messages",
        // Its address is whole.
        UpstreamKind::Oidc => "",
    }
}

/// Headers that a request needs beside those of whoever carries it.
pub(crate) fn headers(kind: UpstreamKind) -> Vec<(&'static str, String)> {
    match kind {
        UpstreamKind::OpenAi | UpstreamKind::Oidc => Vec::new(),
        UpstreamKind::Anthropic => vec![("anthropic-version", anthropic::VERSION.to_owned())],
    }
}

/// An upstream, as far as requests are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name, as rules have it.
    pub name: String,
    /// What it speaks.
    pub kind: UpstreamKind,
    /// The model that answers there where neither the request nor an alias names one of its;
    /// `None`: the name that the request has.
    pub model: Option<String>,
}

/// Where requests may go beside here.
#[derive(Default)]
pub struct Elsewhere {
    /// What the owner says of it.
    pub rules: policy::Rules,
    /// The upstreams that rules may name.
    pub upstreams: Vec<Upstream>,
    /// What tokens cost there, where the owner lists prices.
    pub prices: Option<Arc<dyn Costs>>,
}

impl Elsewhere {
    /// The upstream of this name.
    pub(crate) fn upstream(&self, name: &str) -> Option<&Upstream> {
        self.upstreams.iter().find(|upstream| upstream.name == name)
    }

    /// The names of all.
    pub(crate) fn names(&self) -> Vec<String> {
        self.upstreams.iter().map(|upstream| upstream.name.clone()).collect()
    }

    /// The upstream and its model that a name such as `vendor/large` means.
    pub(crate) fn model<'a>(&self, name: &'a str) -> Option<(&Upstream, &'a str)> {
        let (upstream, model) = name.split_once('/')?;
        Some((self.upstream(upstream)?, model)).filter(|_| !model.is_empty())
    }

    /// Checks that each rule that sends names an upstream that there is.
    ///
    /// # Errors
    /// The first name that nothing has.
    pub fn check(&self) -> Result<(), String> {
        match self.rules.upstreams().find(|name| self.upstream(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(format!(
                "a rule sends to upstream {name:?}: expected a table [upstream.{name}] that says \
                 where that is"
            )),
        }
    }
}

/// The rules as they are asked.
pub(crate) struct Ways {
    pub(crate) elsewhere: Elsewhere,
    pub(crate) detector: Detector,
}

impl Ways {
    pub(crate) fn new(elsewhere: Elsewhere) -> Self {
        let detector = Detector::new(elsewhere.rules.settings());
        Self { elsewhere, detector }
    }

    /// Whether there is anything to ask.
    pub(crate) fn are_open(&self) -> bool {
        !self.elsewhere.rules.is_empty() || !self.elsewhere.upstreams.is_empty()
    }
}

/// What tokens cost at upstreams.
pub trait Costs: Send + Sync {
    /// The cost in millionths of a currency, and the currency; `None`: no price is listed.
    /// `at_us` is when, in microseconds since 1970.
    fn cost(&self, of: &Priced<'_>, at_us: i64) -> Option<(i64, String)>;

    /// The same prices against what owning costs, where they say that.
    fn renting(&self) -> Option<Arc<Renting>> {
        None
    }
}

/// Tokens whose cost is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Priced<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// The model there.
    pub model: &'a str,
    /// Tokens of the prompt.
    pub n_prompt: u64,
    /// Of those, the ones that the upstream had read before.
    pub n_cached: u64,
    /// Tokens of the answer.
    pub n_answer: u64,
}

/// The names of upstreams none of whose addresses is asked now. Where there is no broker to say so,
/// none: whoever would ask one is told why nothing can be asked.
pub(crate) async fn down(broker: &Broker) -> BTreeSet<String> {
    let health = match broker.health().await {
        Ok(health) => health,
        Err(_) if broker.away().is_some() => return BTreeSet::new(),
        Err(_) => return broker.upstreams().iter().map(|known| known.name.clone()).collect(),
    };
    let is_down = |circuit: &Circuit| matches!(circuit, Circuit::Open { .. });
    let down = health
        .into_iter()
        .filter(|upstream| upstream.addresses.iter().all(|address| is_down(&address.circuit)));
    down.map(|upstream| upstream.name).collect()
}
