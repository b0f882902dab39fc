//! The answers of messages, whole and streamed: blocks of thinking, text and calls, in this order
//! and one after the other. No block is empty: where a model says nothing, there is none.

use super::errors::push_failure;
use super::messages::MessagesRequest;
use super::{UsageBody, push_event, to_json};
use crate::dialects::{Answer, Choice, Reply, ToolCall, Usage};
use crate::errors::ServerError;
use engine::{FinishReason, Part, TokenInfo};
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

/// Characters of an answer's id that are in those of its calls.
const N_ID_CHARS: usize = 24;
/// Stands for no proof: nobody but this server's own clients reads its answers.
const SIGNATURE: &str = "";

/// Whether trains of thought are in the answer, or only that there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    Shown,
    Omitted,
}

/// Renders the answer to one request.
pub(crate) struct MessagesReply {
    id: String,
    answer: Answer,
    display: Display,
    n_prompt: u64,
    max_tokens: u64,
    /// The block of a stream that has begun and not ended.
    open: Option<Kind>,
    /// Blocks of a stream that have ended, and calls that have begun.
    n_blocks: usize,
    n_calls: usize,
    /// How the answer ended.
    reason: Option<FinishReason>,
    /// Whether it ended within a call.
    is_cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Call,
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: Vec<Block<'a>>,
    /// Null until it is known.
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: UsageBody,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Thinking { thinking: &'a str, signature: &'static str },
    Text { text: &'a str },
    ToolUse { id: String, name: &'a str, input: &'a RawValue },
}

#[derive(Serialize)]
#[serde(tag = "type")]
enum Delta<'a> {
    #[serde(rename = "thinking_delta")]
    Thinking { thinking: &'a str },
    #[serde(rename = "signature_delta")]
    Signature { signature: &'static str },
    #[serde(rename = "text_delta")]
    Text { text: &'a str },
    #[serde(rename = "input_json_delta")]
    Input { partial_json: &'a str },
}

impl MessagesReply {
    pub(super) fn new(request: &MessagesRequest, answer: Answer, prompts: &[Vec<u32>]) -> Self {
        Self {
            id: format!("msg_{}", answer.id),
            answer,
            display: request.display,
            n_prompt: prompts.iter().map(|prompt| prompt.len() as u64).sum(),
            max_tokens: request.call.max_tokens.map_or(u64::MAX, u64::from),
            open: None,
            n_blocks: 0,
            n_calls: 0,
            reason: None,
            is_cut: false,
        }
    }

    fn message<'a>(&'a self, content: Vec<Block<'a>>, usage: Usage) -> Message<'a> {
        Message {
            id: &self.id,
            kind: "message",
            role: "assistant",
            model: &self.answer.model,
            content,
            stop_reason: self.reason.as_ref().map(|reason| self.stop_reason(reason, usage)),
            stop_sequence: self.stop_sequence(),
            usage: usage.into(),
        }
    }

    /// A call that was cut off, by whatever, is told as an answer that is too short, never as one
    /// that is complete.
    fn stop_reason(&self, reason: &FinishReason, usage: Usage) -> &'static str {
        match reason {
            FinishReason::Length if usage.n_generated < self.max_tokens => {
                "model_context_window_exceeded"
            }
            FinishReason::Length => "max_tokens",
            _ if self.is_cut => "max_tokens",
            FinishReason::StopString(_) => "stop_sequence",
            _ if self.n_calls > 0 => "tool_use",
            _ => "end_turn",
        }
    }

    fn stop_sequence(&self) -> Option<&str> {
        match &self.reason {
            Some(FinishReason::StopString(stop)) if !self.is_cut => Some(stop),
            _ => None,
        }
    }

    /// Names of calls do not come twice, in this answer or another.
    fn call_id(&self, call_idx: usize) -> String {
        let id = self.answer.id.get(..N_ID_CHARS).unwrap_or(&self.answer.id);
        format!("toolu_{id}_{call_idx}")
    }

    /// Ends the block at hand where there is one.
    fn end_block(&mut self, out: &mut String) {
        if self.open == Some(Kind::Thinking) {
            self.delta(&Delta::Signature { signature: SIGNATURE }, out);
        }
        if self.open.take().is_some() {
            push_event("content_block_stop", json!({"index": self.n_blocks}), out);
            self.n_blocks += 1;
        }
    }

    /// Begins a block, behind the end of the one at hand.
    fn begin_block(&mut self, kind: Kind, block: &Block<'_>, out: &mut String) {
        self.end_block(out);
        self.open = Some(kind);
        let index = self.n_blocks;
        push_event("content_block_start", json!({"index": index, "content_block": block}), out);
    }

    fn delta(&self, delta: &Delta<'_>, out: &mut String) {
        push_event("content_block_delta", json!({"index": self.n_blocks, "delta": delta}), out);
    }
}

/// The arguments of a call that is complete, as the model wrote them: numbers of any size and
/// objects of any depth. Only complete ones are JSON.
fn input(call: &ToolCall) -> Option<&RawValue> {
    serde_json::from_str(&call.arguments).ok().filter(|_| call.is_complete)
}

impl Reply for MessagesReply {
    fn stream_id(&self) -> Option<&str> {
        Some(&self.id)
    }

    /// What the cache spares is not known yet; the end of the stream corrects it.
    fn open(&mut self, out: &mut String) {
        let usage = Usage { n_prompt: self.n_prompt, ..Usage::default() };
        let message = json!({"message": self.message(Vec::new(), usage)});
        push_event("message_start", message, out);
    }

    fn part(&mut self, _choice_idx: usize, part: &Part, _tokens: &[TokenInfo], out: &mut String) {
        match part {
            Part::Text(text) if text.is_empty() => {}
            Part::Text(text) => {
                if self.open != Some(Kind::Text) {
                    self.begin_block(Kind::Text, &Block::Text { text: "" }, out);
                }
                self.delta(&Delta::Text { text }, out);
            }
            Part::Reasoning(text) => {
                if self.open != Some(Kind::Thinking) {
                    let block = Block::Thinking { thinking: "", signature: "" };
                    self.begin_block(Kind::Thinking, &block, out);
                }
                if self.display == Display::Shown {
                    self.delta(&Delta::Thinking { thinking: text }, out);
                }
            }
            Part::CallBegin(name) => {
                let id = self.call_id(self.n_calls);
                self.n_calls += 1;
                self.is_cut = true;
                let input = serde_json::from_str("{}").expect("it is an empty object");
                let block = Block::ToolUse { id, name, input };
                self.begin_block(Kind::Call, &block, out);
            }
            Part::Arguments(arguments) => {
                self.delta(&Delta::Input { partial_json: arguments }, out);
            }
            Part::CallEnd => {
                self.is_cut = false;
                self.end_block(out);
            }
        }
    }

    fn done(&mut self, _choice_idx: usize, reason: &FinishReason, out: &mut String) {
        self.end_block(out);
        self.reason = Some(reason.clone());
    }

    fn close(&mut self, usage: Usage, out: &mut String) {
        let stop_reason = self.reason.as_ref().map(|reason| self.stop_reason(reason, usage));
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": self.stop_sequence()});
        let usage = UsageBody::from(usage);
        push_event("message_delta", json!({"delta": delta, "usage": usage}), out);
        push_event("message_stop", json!({}), out);
    }

    fn ping(&self) -> &'static str {
        "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    }

    fn fail(&mut self, error: &ServerError, out: &mut String) {
        push_failure(error, out);
    }

    fn whole(&mut self, choices: &[Choice], usage: Usage) -> String {
        let Some(choice) = choices.first() else {
            return json!({"input_tokens": usage.n_prompt}).to_string();
        };
        self.n_calls = choice.calls.len();
        self.is_cut = choice.calls.iter().any(|call| input(call).is_none());
        self.reason = Some(choice.reason.clone());
        let mut content = Vec::new();
        if !choice.reasoning.is_empty() {
            let is_shown = self.display == Display::Shown;
            let thinking = if is_shown { &*choice.reasoning } else { "" };
            content.push(Block::Thinking { thinking, signature: SIGNATURE });
        }
        if !choice.text.is_empty() {
            content.push(Block::Text { text: &choice.text });
        }
        for (call_idx, call) in choice.calls.iter().enumerate() {
            // One that was cut off is left out, so that nobody makes it without its arguments.
            if let Some(input) = input(call) {
                content.push(Block::ToolUse {
                    id: self.call_id(call_idx),
                    name: &call.name,
                    input,
                });
            }
        }
        to_json(&self.message(content, usage))
    }
}
