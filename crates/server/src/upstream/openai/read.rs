//! Answers of chat completions, whole and as events.
//!
//! Fields that nobody reads here may be anything: vendors add some every month.

use crate::upstream::answer::{Heard, Said};
use crate::upstream::following::{Piece, Wrong};
use crate::upstream::sse::Event;
use engine::{FinishReason, TokenInfo};
use serde::Deserialize;
use serde_json::Value;

/// The last event of a stream.
const DONE: &str = "[DONE]";

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: usize,
    /// Of an answer in one piece.
    message: Option<Message>,
    /// Of an event.
    delta: Option<Message>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<String>,
}

/// A message, or more of it.
#[derive(Deserialize, Default)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
    /// DeepSeek's, vLLM's and llama-server's name for it, and OpenRouter's.
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<Call>>,
}

#[derive(Deserialize)]
struct Call {
    index: Option<u64>,
    function: Option<Function>,
    custom: Option<Custom>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct Custom {
    name: Option<String>,
    input: Option<String>,
}

#[derive(Deserialize)]
struct Logprobs {
    content: Option<Vec<Token>>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(flatten)]
    one: Likely,
    #[serde(default)]
    top_logprobs: Vec<Likely>,
}

#[derive(Deserialize)]
struct Likely {
    token: String,
    bytes: Option<Vec<u8>>,
    logprob: Option<f32>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<AnswerDetails>,
}

#[derive(Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct AnswerDetails {
    reasoning_tokens: Option<u64>,
}

/// Reads one event of a stream.
///
/// # Errors
/// What is wrong with it, or what it says is.
pub(in crate::upstream) fn event(event: &Event, heard: &mut Heard) -> Result<Said, Wrong> {
    if event.data.trim() == DONE {
        return Ok(Said::End);
    }
    read(event.data.as_bytes(), heard)?;
    Ok(Said::More)
}

/// Reads an answer in one piece.
///
/// # Errors
/// What is wrong with it.
pub(in crate::upstream) fn whole(body: &[u8], heard: &mut Heard) -> Result<(), Wrong> {
    read(body, heard)
}

fn read(body: &[u8], heard: &mut Heard) -> Result<(), Wrong> {
    let body: Body =
        serde_json::from_slice(body).map_err(|error| Wrong::json("chat completion", &error))?;
    if let Some(error) = body.error.filter(|error| !error.is_null()) {
        return Err(heard.failed(&error));
    }
    for choice in body.choices {
        follow(choice, heard)?;
    }
    if let Some(usage) = body.usage {
        let counts = &mut heard.counts;
        counts.n_prompt = usage.prompt_tokens.unwrap_or(counts.n_prompt);
        counts.n_generated = usage.completion_tokens.unwrap_or(counts.n_generated);
        let cached = usage.prompt_tokens_details.and_then(|details| details.cached_tokens);
        counts.n_cached = cached.unwrap_or(counts.n_cached);
        let reasoning =
            usage.completion_tokens_details.and_then(|details| details.reasoning_tokens);
        counts.n_reasoning = reasoning.unwrap_or(counts.n_reasoning);
    }
    Ok(())
}

fn follow(choice: Choice, heard: &mut Heard) -> Result<(), Wrong> {
    let Choice { index, message, delta, logprobs, finish_reason } = choice;
    let is_whole = message.is_some();
    let message = message.or(delta).unwrap_or_default();
    let reasoning = message.reasoning_content.or(message.reasoning).unwrap_or_default();
    heard.following.reasoning(index, reasoning)?;
    let mut tokens = match logprobs {
        Some(logprobs) if heard.wants_logprobs => infos(logprobs, heard),
        _ => Vec::new(),
    };
    // Of calls there are none: they come without texts.
    for text in [message.content, message.refusal].into_iter().flatten() {
        heard.following.text(index, text, std::mem::take(&mut tokens))?;
    }
    for (call_idx, call) in message.tool_calls.unwrap_or_default().into_iter().enumerate() {
        let key = call.index.unwrap_or(if is_whole { call_idx as u64 } else { 0 });
        if let Some(Function { name, arguments }) = call.function {
            let more = arguments.unwrap_or_default();
            heard.following.call(index, key, name.as_deref(), Piece::Arguments(&more))?;
        }
        if let Some(Custom { name, input }) = call.custom {
            let more = input.unwrap_or_default();
            heard.following.call(index, key, name.as_deref(), Piece::Text(&more))?;
        }
    }
    if let Some(word) = finish_reason {
        heard.following.done(index, reason(&word)?)?;
    }
    Ok(())
}

fn infos(logprobs: Logprobs, heard: &Heard) -> Vec<TokenInfo> {
    let named = |likely: Likely| {
        let id = heard.tokens.id(likely.bytes.unwrap_or_else(|| likely.token.into_bytes()));
        (id, likely.logprob.filter(|logprob| logprob.is_finite()))
    };
    let token = |token: Token| {
        let (id, logprob) = named(token.one);
        let top = token.top_logprobs.into_iter().map(named);
        TokenInfo { id, logprob, top: top.filter_map(|(id, p)| Some((id, p?))).collect() }
    };
    logprobs.content.unwrap_or_default().into_iter().map(token).collect()
}

fn reason(word: &str) -> Result<FinishReason, Wrong> {
    match word {
        "stop" | "tool_calls" | "function_call" | "eos" => Ok(FinishReason::Stop),
        "length" => Ok(FinishReason::Length),
        "content_filter" => Err(Wrong::new("its filter of contents ended the answer")),
        other => Err(Wrong::of(other, "its answer ended for a reason that is not known")),
    }
}
