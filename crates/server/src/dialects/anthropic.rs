//! The Anthropic family: messages, the count of their tokens, the list of models, its errors.
//!
//! A parameter is honoured, or refused with a 400 that names it. Agents send fields that nobody has
//! heard of; those have no effect, and the response lists them in `x-freehold-ignored`.

mod conversation;
mod errors;
mod messages;
mod models;
mod reply;
#[cfg(test)]
mod tests;
mod tools;

pub(crate) use errors::{error_body, push_failure};
pub use messages::MessagesRequest;
pub(crate) use messages::{CountTokens, FIELDS, Messages};
pub(crate) use models::{PAGE_FIELDS, list_body, model_body};

use crate::errors::BadRequest;
use crate::limits::Limits;
use serde::Serialize;

/// Reads the body of `POST /v1/messages`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_messages(body: &[u8], limits: &Limits) -> Result<MessagesRequest, BadRequest> {
    messages::parse(body, limits)
}

/// Reads the body of `POST /v1/messages/count_tokens`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_count(body: &[u8], limits: &Limits) -> Result<MessagesRequest, BadRequest> {
    messages::parse_count(body, limits)
}

/// `usage` on the wire. What the prefix cache spared is no part of `input_tokens`.
#[derive(Debug, Clone, Copy, Serialize)]
struct UsageBody {
    input_tokens: u64,
    /// Always 0: what is kept of a prompt is kept beside its computing, at no price.
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
    /// Absent where there was no train of thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<OutputDetails>,
}

/// What of an answer its reader mostly does not see.
#[derive(Debug, Clone, Copy, Serialize)]
struct OutputDetails {
    thinking_tokens: u64,
}

impl From<super::Usage> for UsageBody {
    fn from(usage: super::Usage) -> Self {
        Self {
            input_tokens: usage.n_prompt - usage.n_reused.min(usage.n_prompt),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.n_reused,
            output_tokens: usage.n_generated,
            output_tokens_details: (usage.n_reasoning > 0)
                .then_some(OutputDetails { thinking_tokens: usage.n_reasoning }),
        }
    }
}

/// A body, or what is in an event, with its type in front.
#[derive(Serialize)]
struct Typed<'a, T> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(flatten)]
    body: T,
}

/// One event of a stream. Clients go by its name, which is the type of its data. JSON escapes every
/// line break, so the data is one line.
fn push_event(kind: &str, body: impl Serialize, out: &mut String) {
    out.push_str("event: ");
    out.push_str(kind);
    out.push_str("\ndata: ");
    out.push_str(&to_json(&Typed { kind, body }));
    out.push_str("\n\n");
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("wire types have string keys and finite numbers")
}
