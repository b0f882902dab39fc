//! What a receipt says. No contents: of those there are hashes, lengths and numbers.

use super::{hex, sha256};
use engine::{Dry, FinishReason, Mirostat, Request, Sampling};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Of the form.
pub(crate) const VERSION: u32 = 1;
/// Most tokens of one choice that have a place in its trace, and of all choices of a receipt: a
/// body of the ledger is bounded.
const N_TRACED: usize = 8192;
const N_ALL_TRACED: usize = 65_536;

/// One answer, by hash. All hashes are SHA-256 in hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// Of this form: 1.
    pub version: u32,
    /// The answer's.
    pub id: String,
    /// When its request came.
    pub time: ReceiptTime,
    /// What computed it.
    pub engine: ReceiptBuild,
    /// The model that did.
    pub model: ReceiptModel,
    /// What was asked.
    pub request: AskedRequest,
    /// What it came to, with the server's defaults where the request says nothing.
    pub parameters: Parameters,
    /// In what the request was brought into another form (`x-freehold-adapted`).
    pub adapted: Vec<String>,
    /// Paths of fields that had no effect, as `x-freehold-ignored` has them.
    pub ignored: String,
    /// Paths of what the template left out, as `x-freehold-unused` has them.
    pub unused: String,
    /// What the model read.
    pub prompts: Vec<PromptTokens>,
    /// What it answered: those of prompt `i` begin at `i` times the alternatives of each.
    pub choices: Vec<ReceiptChoice>,
    /// Where it was answered, where the owner has rules about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<ReceiptRoute>,
}

/// Where a request was answered, and why there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptRoute {
    /// `here` or `there`.
    pub answered: String,
    /// The request's label.
    pub label: String,
    /// The rule that decided; `None`: none fits.
    pub rule: Option<String>,
    /// What answered instead of this program. Then the receipt has neither prompts nor choices,
    /// since their tokens are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<ReceiptThere>,
}

/// An upstream's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptThere {
    /// The upstream's name.
    pub upstream: String,
    /// The model, as it was asked for there.
    pub model: String,
    /// The departure's id in the ledger.
    pub departure: String,
    /// How often something of a class was replaced before.
    pub redacted: BTreeMap<String, u64>,
    /// The alternatives.
    pub answers: Vec<ReceiptAnswer>,
}

/// One alternative of an upstream's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptAnswer {
    /// As that of a [`ReceiptChoice`].
    pub finish: String,
    /// Of its text, reasoning, and names and arguments of calls, one behind the other as they came
    /// to the client.
    pub sha256: String,
}

/// When.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptTime {
    /// Microseconds since 1970 (UTC).
    pub unix_us: i64,
    /// On the server's wall, such as `2026-11-26T13:50:00`: what the chat template is told.
    pub local: String,
}

/// The program, and how it had the model open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptBuild {
    /// The program with its version, and the machine that it was built for.
    pub build: String,
    /// Of the arithmetic.
    pub numerics: u32,
    /// How keys and values were kept.
    pub kv: String,
    /// Positions of the context.
    pub n_ctx: u32,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptModel {
    /// As served.
    pub name: String,
    /// Of its files, one after the other.
    pub digest: Option<String>,
    /// Of what the owner's lock says of it, where it was held to one.
    pub lock: Option<String>,
    /// Of its chat template's source, where it has one.
    pub template: Option<String>,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AskedRequest {
    /// The route's path.
    pub route: String,
    /// Of the route, a line end and the body, which was unpacked before where it was packed.
    pub sha256: String,
    /// Of the body.
    pub n_bytes: u64,
}

impl AskedRequest {
    /// The request of this body.
    pub fn new(route: &str, body: &[u8]) -> Self {
        let hash = Sha256::new_with_prefix(route).chain_update(b"\n").chain_update(body);
        let (route, n_bytes) = (route.to_owned(), body.len() as u64);
        Self { route, sha256: hex(&hash.finalize()), n_bytes }
    }
}

/// How tokens were chosen, and how long the answer could be: the fields of [`engine::Sampling`] and
/// [`engine::Request`], which documents them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Parameters {
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
    pub min_p: f32,
    pub typical_p: f32,
    pub xtc_probability: f32,
    pub xtc_threshold: f32,
    pub dry: Option<DryParameters>,
    pub mirostat: Option<MirostatParameters>,
    pub repetition_penalty: f32,
    pub presence_penalty: f32,
    pub frequency_penalty: f32,
    pub max_tokens: Option<u32>,
    pub min_tokens: u32,
    pub ignore_eos: bool,
    /// Most tokens of a train of thought.
    pub reasoning_budget: Option<u32>,
    /// Whether a grammar bound the answer: a schema's, or that of calls.
    pub is_constrained: bool,
    /// Hash of the lists: stop strings, stop tokens, biases, DRY's breakers; `None`: all are empty.
    pub lists: Option<String>,
}

/// As [`engine::Dry`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct DryParameters {
    pub multiplier: f32,
    pub base: f32,
    pub allowed_length: u32,
    pub range: Option<u32>,
}

/// As [`engine::Mirostat`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct MirostatParameters {
    pub tau: f32,
    pub eta: f32,
}

impl Parameters {
    /// Of what the engine was asked.
    pub(crate) fn of(request: &Request) -> Self {
        let Sampling {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            xtc_probability,
            xtc_threshold,
            ref dry,
            mirostat,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            // In the lists, and of each choice.
            logit_bias: _,
            seed: _,
        } = request.sampling;
        let dry = dry.as_ref().map(|dry| {
            let &Dry { multiplier, base, allowed_length, range, breakers: _ } = dry;
            DryParameters { multiplier, base, allowed_length, range }
        });
        let mirostat = mirostat.map(|Mirostat { tau, eta }| MirostatParameters { tau, eta });
        Self {
            temperature,
            top_k,
            top_p,
            min_p,
            typical_p,
            xtc_probability,
            xtc_threshold,
            dry,
            mirostat,
            repetition_penalty,
            presence_penalty,
            frequency_penalty,
            max_tokens: request.max_tokens,
            min_tokens: request.min_tokens,
            ignore_eos: request.ignore_eos,
            reasoning_budget: request.preamble.as_ref().and_then(|of| of.n_max),
            is_constrained: request.constraint.is_some(),
            lists: lists(request),
        }
    }
}

/// Hash of what a request lists.
fn lists(request: &Request) -> Option<String> {
    let Request { stop, stop_tokens, sampling, .. } = request;
    let breakers = sampling.dry.as_ref().map_or(&[][..], |dry| dry.breakers.as_slice());
    let biases: Vec<(u32, u32)> =
        sampling.logit_bias.iter().map(|(id, bias)| (*id, bias.to_bits())).collect();
    let is_empty =
        stop.is_empty() && stop_tokens.is_empty() && biases.is_empty() && breakers.is_empty();
    let lists = || json!([stop, stop_tokens, biases, breakers]).to_string();
    (!is_empty).then(|| sha256(lists().as_bytes()))
}

/// The tokens of a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptTokens {
    /// How many.
    pub n_tokens: u64,
    /// Of their ids, each of 4 bytes, the least first.
    pub sha256: String,
}

impl PromptTokens {
    /// Of these.
    pub(crate) fn new(tokens: &[u32]) -> Self {
        Self { n_tokens: tokens.len() as u64, sha256: sha256_of_tokens(tokens) }
    }
}

/// One alternative.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptChoice {
    /// What its random numbers come from.
    pub seed: u64,
    /// Why it ended: `stop`, `stop_string` or `length`. Others say what cut it off, and then the
    /// tokens are those until then: `disconnected`, `expired`, `shutdown`, `failed`.
    pub finish: String,
    /// Tokens that were delivered: without those that ended it.
    pub n_tokens: u64,
    /// Of their ids, as of a prompt's.
    pub sha256: String,
    /// Two digits for each token, as far as there is room: the lowest byte of a running hash over
    /// all up to it, by which the first token is found that differs. One that does goes unnoticed
    /// once in 256 times, and then shows at the next.
    pub trace: String,
}

impl ReceiptChoice {
    /// One of `n_choices`.
    pub(crate) fn new(seed: u64, finish: &str, tokens: &[u32], n_choices: usize) -> Self {
        let n_traced = (N_ALL_TRACED / n_choices.max(1)).min(N_TRACED);
        Self {
            seed,
            finish: finish.to_owned(),
            n_tokens: tokens.len() as u64,
            sha256: sha256_of_tokens(tokens),
            trace: trace(&tokens[..n_traced.min(tokens.len())]),
        }
    }

    /// Whether it came to its end.
    pub(crate) fn is_whole(&self) -> bool {
        WHOLE.contains(&&*self.finish)
    }
}

/// How whole choices finish.
const WHOLE: [&str; 3] = ["stop", "stop_string", "length"];

/// The word for how a choice came to its end; `None` where it did not.
pub(crate) fn finish_word(reason: &FinishReason) -> Option<&'static str> {
    let [stop, stop_string, length] = WHOLE;
    match reason {
        FinishReason::Stop => Some(stop),
        FinishReason::StopString(_) => Some(stop_string),
        FinishReason::Length => Some(length),
        _ => None,
    }
}

fn sha256_of_tokens(tokens: &[u32]) -> String {
    let bytes: Vec<u8> = tokens.iter().flat_map(|id| id.to_le_bytes()).collect();
    sha256(&bytes)
}

/// The mixing is that of splitmix64 (Steele, Lea and Flood 2014, figure 15).
fn trace(tokens: &[u32]) -> String {
    let mut hash = 0_u64;
    let bytes = tokens.iter().map(|id| {
        hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15) ^ u64::from(*id);
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        hash as u8
    });
    hex(&bytes.collect::<Vec<u8>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_tells_the_first_token_that_differs() {
        let tokens: Vec<u32> = (0..400).map(|idx| idx * 7 % 50_000).collect();
        let choice = ReceiptChoice::new(1, "stop", &tokens, 1);
        assert_eq!((choice.n_tokens, choice.trace.len()), (400, 800));
        let mut n_exact = 0;
        for idx in 0..400 {
            let mut other = tokens.clone();
            other[idx] ^= 1;
            let other = ReceiptChoice::new(1, "stop", &other, 1);
            assert_ne!(other.sha256, choice.sha256);
            let pairs = choice.trace.as_bytes().chunks(2).zip(other.trace.as_bytes().chunks(2));
            let found = pairs.clone().position(|(a, b)| a != b);
            n_exact += usize::from(found == Some(idx));
            assert!(found.is_none_or(|found| (idx..idx + 4).contains(&found)), "{idx} {found:?}");
        }
        assert!(n_exact > 385, "{n_exact} of 400");
    }

    #[test]
    fn receipts_of_many_choices_stay_small() {
        let tokens = vec![1; 10_000];
        assert_eq!(ReceiptChoice::new(0, "stop", &tokens, 1).trace.len(), 2 * 8192);
        assert_eq!(ReceiptChoice::new(0, "stop", &tokens, 128).trace.len(), 2 * 512);
    }

    #[test]
    fn a_request_is_its_route_and_its_bytes() {
        let asked = AskedRequest::new("/v1/completions", b"{}");
        assert_eq!(asked, AskedRequest::new("/v1/completions", b"{}"));
        assert_ne!(asked.sha256, AskedRequest::new("/v1/completions", b"{ }").sha256);
        assert_ne!(asked.sha256, AskedRequest::new("/v1/chat/completions", b"{}").sha256);
        assert_eq!(asked.sha256, sha256(b"/v1/completions\n{}"));
    }
}
