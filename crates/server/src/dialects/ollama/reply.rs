//! The answers of chat and generate, whole and as lines. A call comes in one piece, with its
//! arguments as an object; one that was cut off does not come.

use super::{GenerationRequest, error_body, line};
use crate::dialects::openai::{ChatToken, token_entries};
use crate::dialects::time::rfc3339_ns;
use crate::dialects::{Answer, Choice, Delivery, Reply, ToolCall, Usage};
use crate::errors::ServerError;
use engine::{FinishReason, Part, TokenInfo};
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;

/// Characters of an answer's id that are in those of its calls.
const N_ID_CHARS: usize = 24;

/// Where in a line the text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Chat,
    Generate,
}

/// Renders the answer to one request.
pub(crate) struct GenerationReply {
    answer: Answer,
    created_at: String,
    shape: Shape,
    delivery: Delivery,
    has_logprobs: bool,
    /// The call of a stream that has begun and not ended.
    call: Option<ToolCall>,
    n_calls: usize,
    /// Whether a call came that cannot be told.
    is_cut: bool,
    /// Tokens of a stream that no line has told.
    held: Vec<TokenInfo>,
    reason: Option<FinishReason>,
    /// The ids of the prompt, and of the answer as they come; `None`: they are not told.
    context: Option<Vec<u32>>,
}

#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: &'a str,
    #[serde(flatten)]
    said: Said<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    logprobs: Vec<ChatToken>,
    done: bool,
    #[serde(flatten)]
    end: Option<End>,
}

/// What is said, in the place where the route's clients look for it.
#[derive(Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Chat {
        message: Message<'a>,
    },
    Generate {
        response: &'a str,
        #[serde(skip_serializing_if = "str::is_empty")]
        thinking: &'a str,
    },
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<CallBody<'a>>,
}

#[derive(Serialize)]
struct CallBody<'a> {
    id: String,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    index: usize,
    name: &'a str,
    arguments: &'a RawValue,
}

/// The end of an answer. Times are in nanoseconds.
#[derive(Serialize)]
struct End {
    done_reason: &'static str,
    total_duration: u64,
    load_duration: u64,
    #[serde(flatten)]
    generated: Option<Generated>,
}

/// What it took to make an answer.
#[derive(Serialize)]
struct Generated {
    /// Tokens of the prompt, those that were in the prefix cache included.
    prompt_eval_count: u64,
    /// Of these, those that were: no field of Ollama's.
    prompt_eval_cached_count: u64,
    prompt_eval_duration: u64,
    eval_count: u64,
    eval_duration: u64,
    /// With the next, only where messages were left out: no fields of Ollama's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated_messages: Option<usize>,
    /// What a later request goes on from; no longer than the model's context.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<Vec<u32>>,
}

impl GenerationReply {
    pub(super) fn new(request: &GenerationRequest, answer: Answer, shape: Shape) -> Self {
        Self {
            created_at: rfc3339_ns(answer.created, answer.created_ns),
            answer,
            shape,
            delivery: request.call.delivery,
            has_logprobs: request.call.logprobs.is_some(),
            call: None,
            n_calls: 0,
            is_cut: false,
            held: Vec::new(),
            reason: None,
            context: None,
        }
    }

    /// The same, which tells the ids of `prompt` and of its answer at the end.
    pub(super) fn with_context(self, prompt: &[u32]) -> Self {
        Self { context: Some(prompt.to_vec()), ..self }
    }

    /// Notes the ids of what came.
    fn note(&mut self, tokens: &[TokenInfo]) {
        if let Some(context) = &mut self.context {
            context.extend(tokens.iter().map(|token| token.id));
        }
    }

    fn said<'a>(&self, content: &'a str, thinking: &'a str, calls: Vec<CallBody<'a>>) -> Said<'a> {
        match self.shape {
            Shape::Chat => {
                let role = "assistant";
                Said::Chat { message: Message { role, content, thinking, tool_calls: calls } }
            }
            Shape::Generate => Said::Generate { response: content, thinking },
        }
    }

    fn line(&self, said: Said<'_>, tokens: &[TokenInfo], end: Option<End>) -> String {
        let logprobs = match self.has_logprobs {
            true => token_entries(tokens, &*self.answer.vocabulary),
            false => Vec::new(),
        };
        let done = end.is_some();
        let (model, created_at) = (&*self.answer.model, &*self.created_at);
        line(&Line { model, created_at, said, logprobs, done, end })
    }

    /// The end of an answer; an answer that ended within a call is too short, whatever ended it.
    fn end(&self, usage: Usage) -> End {
        let done_reason = match &self.reason {
            Some(FinishReason::Length) => "length",
            _ if self.is_cut => "length",
            _ => "stop",
        };
        let n_dropped = self.answer.n_dropped;
        let generated = Generated {
            prompt_eval_count: usage.n_prompt,
            prompt_eval_cached_count: usage.n_reused,
            prompt_eval_duration: ns(usage.spent.prefill),
            eval_count: usage.n_generated,
            eval_duration: ns(usage.spent.decode),
            truncated: n_dropped > 0,
            truncated_messages: (n_dropped > 0).then_some(n_dropped),
            context: self.context.clone(),
        };
        End { generated: Some(generated), ..self.end_without_answer(done_reason, usage) }
    }

    fn end_without_answer(&self, done_reason: &'static str, usage: Usage) -> End {
        let (total_duration, load_duration) = (ns(usage.spent.total), ns(usage.spent.load));
        End { done_reason, total_duration, load_duration, generated: None }
    }

    /// Its arguments as the model wrote them; `None` of one that is not complete.
    fn call_body<'a>(&self, index: usize, call: &'a ToolCall) -> Option<CallBody<'a>> {
        let arguments = serde_json::from_str(&call.arguments).ok().filter(|_| call.is_complete)?;
        let id = self.answer.id.get(..N_ID_CHARS).unwrap_or(&self.answer.id);
        let function = Function { index, name: &call.name, arguments };
        Some(CallBody { id: format!("call_{id}_{index}"), function })
    }
}

/// Never 0: clients divide by it.
pub(super) fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

impl Reply for GenerationReply {
    const STREAM_TYPE: &'static str = "application/x-ndjson";

    fn open(&mut self, _out: &mut String) {}

    fn part(&mut self, _choice_idx: usize, part: &Part, tokens: &[TokenInfo], out: &mut String) {
        if self.has_logprobs {
            self.held.extend_from_slice(tokens);
        }
        self.note(tokens);
        let call;
        let said = match part {
            Part::Text(text) | Part::Reasoning(text) if text.is_empty() => return,
            Part::Text(text) => self.said(text, "", Vec::new()),
            Part::Reasoning(text) => self.said("", text, Vec::new()),
            Part::CallBegin(name) => {
                self.call = Some(ToolCall { name: name.clone(), ..ToolCall::default() });
                return;
            }
            Part::Arguments(text) => {
                if let Some(call) = &mut self.call {
                    call.arguments.push_str(text);
                }
                return;
            }
            Part::CallEnd => {
                let Some(ended) = self.call.take() else { return };
                call = ToolCall { is_complete: true, ..ended };
                let Some(body) = self.call_body(self.n_calls, &call) else {
                    self.is_cut = true;
                    return;
                };
                self.n_calls += 1;
                self.said("", "", vec![body])
            }
        };
        out.push_str(&self.line(said, &self.held, None));
        self.held.clear();
    }

    fn done(&mut self, _choice_idx: usize, reason: &FinishReason, _out: &mut String) {
        self.reason = Some(reason.clone());
    }

    fn close(&mut self, usage: Usage, out: &mut String) {
        self.is_cut |= self.call.is_some();
        let end = self.end(usage);
        let said = self.said("", "", Vec::new());
        out.push_str(&self.line(said, &self.held, Some(end)));
    }

    /// A line is an object, and an object says something.
    fn ping(&self) -> &'static str {
        ""
    }

    fn fail(&mut self, error: &ServerError, out: &mut String) {
        out.push_str(&error_body(error));
    }

    fn whole(&mut self, choices: &[Choice], usage: Usage) -> String {
        let Some(choice) = choices.first() else {
            let reason = if self.delivery == Delivery::Unload { "unload" } else { "load" };
            let end = self.end_without_answer(reason, usage);
            return self.line(self.said("", "", Vec::new()), &[], Some(end));
        };
        self.reason = Some(choice.reason.clone());
        let mut calls = Vec::with_capacity(choice.calls.len());
        for call in &choice.calls {
            calls.extend(self.call_body(calls.len(), call));
        }
        self.is_cut = calls.len() < choice.calls.len();
        self.note(&choice.tokens);
        let said = self.said(&choice.text, &choice.reasoning, calls);
        self.line(said, &choice.tokens, Some(self.end(usage)))
    }
}
