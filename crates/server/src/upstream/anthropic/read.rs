//! Answers of messages, whole and as events.
//!
//! Events and fields that nobody reads here may be anything, as the vendor says of new ones; blocks
//! that nobody asked for are wrong.

use crate::upstream::answer::{Heard, Said};
use crate::upstream::following::{Piece, Wrong};
use crate::upstream::sse;
use engine::FinishReason;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event {
    MessageStart {
        message: Message,
    },
    ContentBlockStart {
        index: u64,
        content_block: Block,
    },
    ContentBlockDelta {
        index: u64,
        delta: Delta,
    },
    ContentBlockStop,
    MessageDelta {
        delta: Stop,
        usage: Option<Usage>,
    },
    MessageStop,
    Error {
        error: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    content: Vec<Block>,
    #[serde(flatten)]
    stop: Stop,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Stop {
    stop_reason: Option<String>,
    stop_sequence: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block {
    Text {
        #[serde(default)]
        text: String,
    },
    Thinking {
        #[serde(default)]
        thinking: String,
    },
    /// Nobody but the vendor can read it.
    RedactedThinking,
    ToolUse {
        name: String,
        #[serde(default)]
        input: Value,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Delta {
    #[serde(rename = "text_delta")]
    Text { text: String },
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: String },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: String },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct OutputDetails {
    thinking_tokens: Option<u64>,
}

/// Reads one event of a stream.
///
/// # Errors
/// What is wrong with it, or what it says is.
pub(in crate::upstream) fn event(event: &sse::Event, heard: &mut Heard) -> Result<Said, Wrong> {
    let event: Event = serde_json::from_str(&event.data)
        .map_err(|error| Wrong::json("event of a message", &error))?;
    match event {
        Event::MessageStart { message } => message.usage.iter().for_each(|of| count(of, heard)),
        Event::ContentBlockStart { index, content_block } => {
            begin(index, content_block, heard)?;
        }
        Event::ContentBlockDelta { index, delta } => more(index, delta, heard)?,
        Event::ContentBlockStop => {}
        Event::MessageDelta { delta, usage } => {
            usage.iter().for_each(|usage| count(usage, heard));
            heard.stop = reason(delta)?.or(heard.stop.take());
        }
        Event::MessageStop => {
            if let Some(reason) = heard.stop.take() {
                heard.following.done(0, reason)?;
            }
            return Ok(Said::End);
        }
        Event::Error { error } => return Err(heard.failed(&error)),
        Event::Other => {}
    }
    Ok(Said::More)
}

/// Reads an answer in one piece.
///
/// # Errors
/// What is wrong with it.
pub(in crate::upstream) fn whole(body: &[u8], heard: &mut Heard) -> Result<(), Wrong> {
    let message: Message =
        serde_json::from_slice(body).map_err(|error| Wrong::json("message", &error))?;
    for (block_idx, block) in message.content.into_iter().enumerate() {
        begin(block_idx as u64, block, heard)?;
    }
    message.usage.iter().for_each(|usage| count(usage, heard));
    match reason(message.stop)? {
        Some(reason) => heard.following.done(0, reason),
        None => Ok(()),
    }
}

/// A block, or its beginning. The input of a call is empty where it comes in pieces.
fn begin(index: u64, block: Block, heard: &mut Heard) -> Result<(), Wrong> {
    let following = &mut heard.following;
    match block {
        Block::Text { text } => following.text(0, text, Vec::new()),
        Block::Thinking { thinking } => following.reasoning(0, thinking),
        Block::RedactedThinking => Ok(()),
        Block::ToolUse { name, input } => {
            let is_empty = input.as_object().is_none_or(serde_json::Map::is_empty);
            let arguments = if is_empty { String::new() } else { input.to_string() };
            following.call(0, index, Some(&name), Piece::Arguments(&arguments))
        }
        Block::Other => Err(Wrong::new("it has a block of a kind that nobody asked for")),
    }
}

fn more(index: u64, delta: Delta, heard: &mut Heard) -> Result<(), Wrong> {
    match delta {
        Delta::Text { text } => heard.following.text(0, text, Vec::new()),
        Delta::Thinking { thinking } => heard.following.reasoning(0, thinking),
        Delta::Input { partial_json } => {
            heard.following.call(0, index, None, Piece::Arguments(&partial_json))
        }
        // Signatures and citations.
        Delta::Other => Ok(()),
    }
}

/// What is read of a cache, or written to one, is no part of the vendor's `input_tokens`.
fn count(usage: &Usage, heard: &mut Heard) {
    let counts = &mut heard.counts;
    if let Some(n_input) = usage.input_tokens {
        let n_cached = usage.cache_read_input_tokens.unwrap_or(0);
        let n_written = usage.cache_creation_input_tokens.unwrap_or(0);
        counts.n_prompt = n_input.saturating_add(n_cached).saturating_add(n_written);
        counts.n_cached = n_cached;
    }
    counts.n_generated = usage.output_tokens.unwrap_or(counts.n_generated);
    let details = usage.output_tokens_details.as_ref();
    counts.n_reasoning =
        details.and_then(|details| details.thinking_tokens).unwrap_or(counts.n_reasoning);
}

fn reason(stop: Stop) -> Result<Option<FinishReason>, Wrong> {
    let Some(word) = stop.stop_reason else { return Ok(None) };
    match &*word {
        "end_turn" | "tool_use" => Ok(Some(FinishReason::Stop)),
        "stop_sequence" => Ok(Some(match stop.stop_sequence {
            Some(stop) => FinishReason::StopString(stop),
            None => FinishReason::Stop,
        })),
        "max_tokens" | "model_context_window_exceeded" => Ok(Some(FinishReason::Length)),
        "refusal" => Err(Wrong::new("its model refused to go on")),
        other => Err(Wrong::of(other, "its answer ended for a reason that is not known")),
    }
}
