//! The answers of chat completions, whole and streamed.
//!
//! Log-probabilities are of all tokens of an answer, those of reasoning, calls and marks included.
//! In a stream they come with the next chunk that has something to say, at the latest the last.

use super::super::logprobs::{self, ChatLogprobs};
use super::super::tools::Kind;
use super::super::{UsageBody, custom, finish_word, push_end, push_event, push_failure, to_json};
use crate::dialects::{Answer, Choice, Reply, ToolCall, Usage};
use crate::errors::ServerError;
use engine::{FinishReason, Part, TokenInfo};
use serde::Serialize;
use std::borrow::Cow;
use std::collections::HashSet;

/// Characters of an answer's id that are in those of its calls.
const N_ID_CHARS: usize = 24;

/// Renders the answer to one chat request.
pub(crate) struct ChatReply {
    pub(super) answer: Answer,
    pub(super) id: String,
    pub(super) choices: Vec<Progress>,
    /// Whether tools may be called.
    pub(super) may_call: bool,
    pub(super) logprobs: bool,
    pub(super) include_usage: bool,
    /// Whether a call is told as one of `functions`: there is one at most, without an id.
    pub(super) is_older: bool,
    /// Names of the tools that take a text.
    pub(super) custom: HashSet<String>,
    /// The conversation as the model reads it, where that is the answer.
    pub(super) prompt: Option<String>,
}

/// How far the stream of one choice is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Tokens that no chunk has told of yet, where log-probabilities are told.
    pending: Vec<TokenInfo>,
    n_calls: usize,
    /// Whether a call has begun and not ended.
    is_calling: bool,
    /// Of a call with a text, what takes it out of the arguments.
    reader: Option<custom::Reader>,
}

#[derive(Serialize)]
struct Prompt<'a> {
    prompt: &'a str,
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: &'a [ChunkChoice<'a>],
    /// Absent unless asked for; then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageBody>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// Null where an answer begins that may be calls only.
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    /// As [`ReasoningFields`](crate::dialects::ReasoningFields) has it, and so the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Function<'a>>,
}

/// A call begins with id and name; what follows has neither.
#[derive(Serialize)]
struct CallDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    #[serde(flatten)]
    what: Called<'a>,
}

/// What is called, in the field of its kind.
#[derive(Serialize)]
struct Called<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    function: Option<Function<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    custom: Option<Custom<'a>>,
}

#[derive(Serialize)]
struct Function<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: Cow<'a, str>,
}

#[derive(Serialize)]
struct Custom<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    input: Cow<'a, str>,
}

impl<'a> Called<'a> {
    /// A call of this kind, or more of it: its arguments or its text.
    fn of(kind: Kind, name: Option<&'a str>, more: Cow<'a, str>) -> Self {
        match kind {
            Kind::Function => {
                Self { function: Some(Function { name, arguments: more }), custom: None }
            }
            Kind::Custom => Self { function: None, custom: Some(Custom { name, input: more }) },
        }
    }
}

#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<WholeChoice<'a>>,
    usage: UsageBody,
}

#[derive(Serialize)]
struct WholeChoice<'a> {
    index: usize,
    message: Message<'a>,
    logprobs: Option<ChatLogprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<&'a str>,
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<WholeCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Function<'a>>,
}

#[derive(Serialize)]
struct WholeCall<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    what: Called<'a>,
}

impl ChatReply {
    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: Option<UsageBody>, out: &mut String) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.answer.created,
            model: &self.answer.model,
            system_fingerprint: &self.answer.fingerprint,
            choices,
            usage: self.include_usage.then_some(usage),
        };
        push_event(&chunk, out);
    }

    fn logprobs(&self, tokens: &[TokenInfo]) -> Option<ChatLogprobs> {
        self.logprobs.then(|| logprobs::chat(tokens, self.answer.vocabulary.as_ref()))
    }

    /// Log-probabilities of what no chunk has told of yet.
    fn pending(&mut self, choice_idx: usize) -> Option<ChatLogprobs> {
        let tokens = std::mem::take(&mut self.choices[choice_idx].pending);
        self.logprobs(&tokens)
    }

    /// Names of calls do not come twice, in this answer or another; OpenAI's are of at most 40
    /// characters.
    fn call_id(&self, choice_idx: usize, call_idx: usize) -> String {
        let id = self.answer.id.get(..N_ID_CHARS).unwrap_or(&self.answer.id);
        format!("call_{id}_{choice_idx}_{call_idx}")
    }

    /// As what a tool is called.
    fn kind_of(&self, name: &str) -> Kind {
        if self.custom.contains(name) { Kind::Custom } else { Kind::Function }
    }

    /// `finish_reason`: a call that was cut off, by whatever, is told as an answer that is too
    /// short, never as one that is complete.
    fn word(&self, reason: &FinishReason, n_calls: usize, is_calling: bool) -> &'static str {
        match finish_word(reason) {
            _ if is_calling => "length",
            "stop" if n_calls > 0 && self.is_older => "function_call",
            "stop" if n_calls > 0 => "tool_calls",
            other => other,
        }
    }

    fn whole_choice<'a>(&self, index: usize, choice: &'a Choice) -> WholeChoice<'a> {
        let call = |(call_idx, call): (usize, &'a ToolCall)| {
            let kind = self.kind_of(&call.name);
            let more: Cow<'_, str> = match kind {
                Kind::Function => (&call.arguments).into(),
                Kind::Custom => custom::Reader::default().read(&call.arguments).into(),
            };
            let what = Called::of(kind, Some(&call.name), more);
            WholeCall { id: self.call_id(index, call_idx), kind: kind.word(), what }
        };
        let (older, calls) = match self.is_older {
            true => (choice.calls.first(), &[][..]),
            false => (None, &choice.calls[..]),
        };
        let is_calling = choice.calls.last().is_some_and(|call| !call.is_complete);
        let has_content = !choice.text.is_empty() || choice.calls.is_empty();
        let told = Some(&*choice.reasoning).filter(|text| !text.is_empty());
        let [reasoning_content, reasoning] =
            told.map_or([None; 2], |text| self.answer.reasoning_fields.of(text));
        WholeChoice {
            index,
            message: Message {
                role: "assistant",
                content: has_content.then_some(&choice.text),
                reasoning_content,
                reasoning,
                refusal: None,
                tool_calls: calls.iter().enumerate().map(call).collect(),
                function_call: older.map(|call| Function {
                    name: Some(&call.name),
                    arguments: (&call.arguments).into(),
                }),
            },
            logprobs: self.logprobs(&choice.tokens),
            finish_reason: self.word(&choice.reason, choice.calls.len(), is_calling),
        }
    }
}

impl Reply for ChatReply {
    fn stream_id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn open(&mut self, out: &mut String) {
        for index in 0..self.choices.len() {
            let content = Some(if self.may_call { None } else { Some("") });
            let delta = Delta { role: Some("assistant"), content, ..Delta::default() };
            let choice = ChunkChoice { index, delta, logprobs: None, finish_reason: None };
            self.chunk(&[choice], None, out);
        }
    }

    fn part(&mut self, choice_idx: usize, part: &Part, tokens: &[TokenInfo], out: &mut String) {
        let progress = &mut self.choices[choice_idx];
        if self.logprobs {
            progress.pending.extend_from_slice(tokens);
        }
        let mut delta = Delta::default();
        let call = |index, id, kind: Option<Kind>, what| {
            Some([CallDelta { index, id, kind: kind.map(Kind::word), what }])
        };
        match part {
            Part::Text(text) if text.is_empty() => return,
            Part::Text(text) => delta.content = Some(Some(text)),
            Part::Reasoning(text) => {
                [delta.reasoning_content, delta.reasoning] = self.answer.reasoning_fields.of(text);
            }
            Part::CallBegin(name) => {
                let index = progress.n_calls;
                progress.n_calls += 1;
                progress.is_calling = true;
                if self.is_older && index > 0 {
                    return;
                }
                let kind = self.kind_of(name);
                let is_text = kind == Kind::Custom;
                self.choices[choice_idx].reader = is_text.then(custom::Reader::default);
                let what = Called::of(kind, Some(name), "".into());
                let id = Some(self.call_id(choice_idx, index));
                match self.is_older {
                    true => delta.function_call = what.function,
                    false => delta.tool_calls = call(index, id, Some(kind), what),
                }
            }
            Part::Arguments(_) if self.is_older && progress.n_calls > 1 => return,
            Part::Arguments(arguments) => {
                let what = match &mut progress.reader {
                    None => Called::of(Kind::Function, None, arguments.into()),
                    Some(reader) => {
                        let text = reader.read(arguments);
                        if text.is_empty() {
                            return;
                        }
                        Called::of(Kind::Custom, None, text.into())
                    }
                };
                match self.is_older {
                    true => delta.function_call = what.function,
                    false => {
                        let index = progress.n_calls.saturating_sub(1);
                        delta.tool_calls = call(index, None, None, what);
                    }
                }
            }
            Part::CallEnd => {
                progress.is_calling = false;
                return;
            }
        }
        let logprobs = self.pending(choice_idx);
        let choice = ChunkChoice { index: choice_idx, delta, logprobs, finish_reason: None };
        self.chunk(&[choice], None, out);
    }

    fn done(&mut self, choice_idx: usize, reason: &FinishReason, out: &mut String) {
        let has_pending = !self.choices[choice_idx].pending.is_empty();
        let logprobs = if has_pending { self.pending(choice_idx) } else { None };
        let Progress { n_calls, is_calling, .. } = self.choices[choice_idx];
        let choice = ChunkChoice {
            index: choice_idx,
            delta: Delta::default(),
            logprobs,
            finish_reason: Some(self.word(reason, n_calls, is_calling)),
        };
        self.chunk(&[choice], None, out);
    }

    fn close(&mut self, usage: Usage, out: &mut String) {
        if self.include_usage {
            self.chunk(&[], Some(usage.into()), out);
        }
        push_end(out);
    }

    fn fail(&mut self, error: &ServerError, out: &mut String) {
        push_failure(error, out);
    }

    fn whole(&mut self, choices: &[Choice], usage: Usage) -> String {
        if let Some(prompt) = &self.prompt {
            return to_json(&Prompt { prompt });
        }
        let choices = choices.iter().enumerate();
        to_json(&Completion {
            id: &self.id,
            object: "chat.completion",
            created: self.answer.created,
            model: &self.answer.model,
            system_fingerprint: &self.answer.fingerprint,
            choices: choices.map(|(index, choice)| self.whole_choice(index, choice)).collect(),
            usage: usage.into(),
        })
    }
}
