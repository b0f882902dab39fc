//! The OpenAI family: chat completions, responses, completions, embeddings, files and batches of
//! these, the list of models, its errors.
//!
//! What becomes of each parameter is declared beside what reads it; what is not declared is
//! refused.

pub(crate) mod batches;
pub mod chat;
pub mod completions;
mod constraint;
pub(crate) mod custom;
pub mod embeddings;
mod errors;
pub(crate) mod files;
mod logprobs;
mod messages;
mod models;
mod pages;
pub mod responses;
pub(crate) mod settings;
mod tools;

pub use chat::ChatRequest;
pub use completions::CompletionRequest;
pub use embeddings::EmbeddingRequest;
pub(crate) use errors::error_body;
pub(in crate::dialects) use logprobs::{ChatToken, entries as token_entries};
pub(crate) use models::{
    ModelCard, ModelMeta, ModelStatus, RecommendedSampling, list_body, model_body,
};
pub use responses::ResponseRequest;

use crate::batches::input::{self, Lines};
use crate::batches::record::Endpoint;
use crate::dialects::fields::Unknown;
use crate::errors::{BadRequest, ServerError};
use crate::limits::Limits;
use engine::FinishReason;
use serde::Serialize;

/// Reads the body of `POST /v1/chat/completions`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_chat(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
    chat::parse(body, limits, Unknown::Refused)
}

/// Reads the body of `POST /v1/completions`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_completion(body: &[u8], limits: &Limits) -> Result<CompletionRequest, BadRequest> {
    completions::parse(body, limits, Unknown::Refused)
}

/// Reads the body of `POST /v1/embeddings`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_embedding(body: &[u8], limits: &Limits) -> Result<EmbeddingRequest, BadRequest> {
    embeddings::parse(body, limits, Unknown::Refused)
}

/// Reads the body of `POST /v1/responses`, without what it refers to.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_response(body: &[u8], limits: &Limits) -> Result<ResponseRequest, BadRequest> {
    responses::parse(body, limits)
}

/// Checks the lines of a batch of chats, of any model.
///
/// # Errors
/// What is wrong with them, by line, place, value and expectation.
pub fn check_batch(lines: &[u8]) -> Result<u64, Vec<String>> {
    let lines = Lines::new(lines, Limits::default().n_body_bytes);
    match input::check(lines, Endpoint::Chat, |_| Ok(())) {
        Ok(checked) => {
            checked.map_err(|problems| problems.into_iter().map(|of| of.message).collect())
        }
        Err(error) => Err(vec![error.to_string()]),
    }
}

/// `usage` on the wire.
#[derive(Debug, Clone, Copy, Serialize)]
struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    /// Absent where there was no train of thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

/// What of an answer its reader mostly does not see.
#[derive(Debug, Clone, Copy, Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

/// What the prefix cache did.
#[derive(Debug, Clone, Copy, Serialize)]
struct PromptDetails {
    /// Tokens that need not be computed.
    cached_tokens: u64,
    /// Leading tokens that agree with what is kept, which is in pages of 64: no field of OpenAI's.
    matched_tokens: u64,
}

impl From<super::Usage> for UsageBody {
    fn from(usage: super::Usage) -> Self {
        Self {
            prompt_tokens: usage.n_prompt,
            completion_tokens: usage.n_generated,
            total_tokens: usage.n_prompt + usage.n_generated,
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.n_reused,
                matched_tokens: usage.n_matched,
            },
            completion_tokens_details: (usage.n_reasoning > 0)
                .then_some(CompletionDetails { reasoning_tokens: usage.n_reasoning }),
        }
    }
}

/// `finish_reason` on the wire. Clients know a fixed set of words, so every other end (those are
/// told as errors) would have to be one of these.
fn finish_word(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        _ => "stop",
    }
}

/// One event of a stream: a line of data and a blank line. JSON escapes every line break, so the
/// body is one line.
fn push_event(body: &impl Serialize, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&to_json(body));
    out.push_str("\n\n");
}

/// The end marker of a stream.
fn push_end(out: &mut String) {
    out.push_str("data: [DONE]\n\n");
}

/// The end of a stream that broke off: SDKs raise on a top-level `error`.
pub(crate) fn push_failure(error: &ServerError, out: &mut String) {
    out.push_str("data: ");
    out.push_str(&error_body(error));
    out.push_str("\n\n");
    push_end(out);
}

/// As [`push_event`], of an event with a name.
fn push_named_event(name: &str, body: &impl Serialize, out: &mut String) {
    out.push_str("event: ");
    out.push_str(name);
    out.push('\n');
    push_event(body, out);
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("wire types have string keys and finite numbers")
}
