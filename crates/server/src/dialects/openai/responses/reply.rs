//! The answers of responses, whole and streamed: a train of thought, a message and calls, in this
//! order and one after the other. A whole answer is what the events of a stream add up to.
//!
//! Where a summary of the train of thought is asked for, all of it stands there too: clients that
//! ask show nothing else.

use super::super::logprobs::{self, ChatToken};
use super::super::{custom, push_named_event, to_json};
use super::items::OWN_REASONING;
use super::tools::Namespaced;
use super::{ResponseRequest, Told, ids};
use crate::dialects::{Ahead, Answer, Choice, Reply, ToolsAsk, Usage};
use crate::errors::ServerError;
use crate::kept::Kept;
use axum::http::StatusCode;
use engine::{FinishReason, Part, TokenInfo};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Renders the answer to one request.
pub(crate) struct ResponseReply {
    id: String,
    answer: Answer,
    told: Told,
    is_background: bool,
    is_streamed: bool,
    includes_logprobs: bool,
    includes_reasoning: bool,
    namespaced: Namespaced,
    /// Names of the tools that take a text.
    custom: HashSet<String>,
    /// The request's items as they are kept, where the answer is.
    input: String,
    /// Most bytes that are kept.
    n_kept_bytes: usize,
    /// All items of the answer; the last may go on.
    output: Vec<Item>,
    is_open: bool,
    n_calls: usize,
    /// Events of a stream so far.
    n_events: u64,
    /// How the answer ended.
    reason: Option<FinishReason>,
    kept: Option<Kept>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Item {
    Reasoning {
        id: String,
        summary: Vec<Content>,
        content: Vec<Content>,
        #[serde(skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
        status: Status,
    },
    Message {
        id: String,
        status: Status,
        role: &'static str,
        content: Vec<Content>,
    },
    FunctionCall {
        id: String,
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        arguments: String,
        status: Status,
    },
    /// A call with a text, which is taken out of the arguments that the model writes.
    CustomToolCall {
        id: String,
        call_id: String,
        name: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        input: String,
        status: Status,
        #[serde(skip)]
        reader: custom::Reader,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    InProgress,
    Completed,
    Incomplete,
    /// Only of a response.
    Failed,
    Cancelled,
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type")]
enum Content {
    #[serde(rename = "output_text")]
    Output { text: String, annotations: [(); 0], logprobs: Vec<ChatToken> },
    #[serde(rename = "reasoning_text")]
    Reasoning { text: String },
    #[serde(rename = "summary_text")]
    Summary { text: String },
}

#[derive(Serialize)]
struct Response<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: Status,
    background: bool,
    error: Option<Value>,
    incomplete_details: Option<Value>,
    model: &'a str,
    output: &'a [Item],
    temperature: f32,
    top_p: f32,
    #[serde(flatten)]
    told: &'a Told,
    usage: Option<UsageBody>,
    /// Absent where none was left out: no field of OpenAI's.
    #[serde(skip_serializing_if = "Option::is_none")]
    truncated_messages: Option<usize>,
}

/// An event of a stream.
#[derive(Serialize)]
struct Event<T> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    #[serde(flatten)]
    body: T,
}

/// What an event about the response says.
#[derive(Serialize)]
struct Whole<T> {
    response: T,
}

#[derive(Serialize)]
struct UsageBody {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    /// Always 0: what is kept of a prompt is kept beside its computing, at no price.
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl From<Usage> for UsageBody {
    fn from(usage: Usage) -> Self {
        Self {
            input_tokens: usage.n_prompt,
            input_tokens_details: InputDetails {
                cached_tokens: usage.n_reused,
                cache_write_tokens: 0,
            },
            output_tokens: usage.n_generated,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.n_reasoning },
            total_tokens: usage.n_prompt + usage.n_generated,
        }
    }
}

impl Item {
    fn id(&self) -> &str {
        match self {
            Self::Reasoning { id, .. }
            | Self::Message { id, .. }
            | Self::FunctionCall { id, .. }
            | Self::CustomToolCall { id, .. } => id,
        }
    }

    fn set_status(&mut self, new: Status) {
        match self {
            Self::Reasoning { status, .. }
            | Self::Message { status, .. }
            | Self::FunctionCall { status, .. }
            | Self::CustomToolCall { status, .. } => *status = new,
        }
    }

    /// The item as the conversation goes on with it: without what only says more of it.
    fn as_history(&self) -> Self {
        match self {
            Self::Reasoning { id, content, status, .. } => Self::Reasoning {
                id: id.clone(),
                summary: Vec::new(),
                content: content.clone(),
                encrypted_content: None,
                status: *status,
            },
            Self::Message { id, status, role, content } => Self::Message {
                id: id.clone(),
                status: *status,
                role,
                content: content.iter().map(Content::without_logprobs).collect(),
            },
            call @ (Self::FunctionCall { .. } | Self::CustomToolCall { .. }) => call.clone(),
        }
    }

    fn is_call(&self) -> bool {
        matches!(self, Self::FunctionCall { .. } | Self::CustomToolCall { .. })
    }

    /// Whether it is a call that has not come to its end.
    fn is_cut_call(&self) -> bool {
        match self {
            Self::FunctionCall { status, .. } | Self::CustomToolCall { status, .. } => {
                *status != Status::Completed
            }
            Self::Reasoning { .. } | Self::Message { .. } => false,
        }
    }
}

impl Content {
    fn without_logprobs(&self) -> Self {
        match self {
            Self::Output { text, annotations, .. } => {
                Self::Output { text: text.clone(), annotations: *annotations, logprobs: Vec::new() }
            }
            other => other.clone(),
        }
    }
}

impl ResponseReply {
    pub(super) fn new(request: ResponseRequest, answer: Answer) -> Self {
        Self {
            id: ids::response(&answer.id),
            answer,
            told: request.told,
            is_background: request.is_background,
            is_streamed: request.is_streamed,
            includes_logprobs: request.includes_logprobs,
            includes_reasoning: request.includes_reasoning,
            namespaced: request.namespaced,
            custom: request.call.tools.as_ref().map(ToolsAsk::custom_names).unwrap_or_default(),
            input: request.kept,
            n_kept_bytes: request.n_kept_bytes,
            output: Vec::new(),
            is_open: false,
            n_calls: 0,
            n_events: 0,
            reason: None,
            kept: None,
        }
    }

    fn response(&self, status: Status, usage: Option<Usage>) -> Response<'_> {
        Response {
            id: &self.id,
            object: "response",
            created_at: self.answer.created,
            status,
            background: self.is_background,
            error: None,
            incomplete_details: (status == Status::Incomplete)
                .then(|| json!({"reason": "max_output_tokens"})),
            model: &self.answer.model,
            output: &self.output,
            temperature: self.answer.sampling.temperature,
            top_p: self.answer.sampling.top_p,
            told: &self.told,
            usage: usage.map(UsageBody::from),
            truncated_messages: Some(self.answer.n_dropped).filter(|&n_dropped| n_dropped > 0),
        }
    }

    /// A call that was cut off, by whatever, is told as an answer that is too short, never as one
    /// that is complete.
    fn status(&self) -> Status {
        let is_cut = self.output.iter().any(Item::is_cut_call);
        match self.reason {
            Some(FinishReason::Length) => Status::Incomplete,
            _ if is_cut => Status::Incomplete,
            _ => Status::Completed,
        }
    }

    /// An event about the response.
    fn tell(&self, kind: &'static str, response: impl Serialize, out: &mut String) {
        let (sequence_number, body) = (self.n_events, Whole { response });
        push_named_event(kind, &Event { kind, sequence_number, body }, out);
    }

    /// An event about the last item; `field` and `value` are what it says beside.
    fn about(&mut self, kind: &'static str, more: &[(&str, Value)], out: &mut String) {
        let mut body = json!({"output_index": self.output.len().saturating_sub(1)});
        match self.output.last() {
            // These have all of it.
            Some(item) if kind.starts_with("response.output_item") => body["item"] = value(item),
            Some(item) => body["item_id"] = item.id().into(),
            None => {}
        }
        for (field, value) in more {
            body[*field] = value.clone();
        }
        push_named_event(kind, &Event { kind, sequence_number: self.n_events, body }, out);
        self.n_events += 1;
    }

    fn begin_item(&mut self, item: Item, out: &mut String) {
        let is_call = self.output.last().is_some_and(Item::is_call);
        self.end_item(if is_call { Status::Incomplete } else { Status::Completed }, out);
        self.output.push(item);
        self.is_open = true;
        self.about("response.output_item.added", &[], out);
    }

    fn next_id(&self, kind: &str) -> String {
        ids::item(kind, &self.answer.id, self.output.len())
    }

    /// The open item's parts, where it is of the kind that `part` is part of.
    fn is_open_for(&self, part: &Part) -> bool {
        let last = self.output.last().filter(|_| self.is_open);
        match part {
            Part::Text(_) => matches!(last, Some(Item::Message { .. })),
            Part::Reasoning(_) => matches!(last, Some(Item::Reasoning { .. })),
            Part::Arguments(_) | Part::CallEnd => last.is_some_and(Item::is_call),
            Part::CallBegin(_) => false,
        }
    }

    /// Begins the item that a part belongs to, unless it is at hand.
    fn open_for(&mut self, part: &Part, out: &mut String) {
        if self.is_open_for(part) {
            return;
        }
        let status = Status::InProgress;
        match part {
            Part::Text(_) => {
                let (id, content) = (self.next_id("msg"), Vec::new());
                self.begin_item(Item::Message { id, status, role: "assistant", content }, out);
                let part =
                    Content::Output { text: String::new(), annotations: [], logprobs: Vec::new() };
                self.begin_content("response.content_part.added", part, out);
            }
            Part::Reasoning(_) => {
                let (id, encrypted_content) = (self.next_id("rs"), None);
                let (summary, content) = (Vec::new(), Vec::new());
                let item = Item::Reasoning { id, summary, content, encrypted_content, status };
                self.begin_item(item, out);
                let part = Content::Reasoning { text: String::new() };
                self.begin_content("response.content_part.added", part, out);
                if self.told.reasoning.summary.is_some() {
                    let part = Content::Summary { text: String::new() };
                    self.begin_content("response.reasoning_summary_part.added", part, out);
                }
            }
            Part::CallBegin(name) => {
                let call_id = ids::call(&self.answer.id, self.n_calls);
                self.n_calls += 1;
                let is_custom = self.custom.contains(name);
                let (namespace, name) = match self.namespaced.get(name).cloned() {
                    Some((namespace, name)) => (Some(namespace), name),
                    None => (None, name.clone()),
                };
                let item = if is_custom {
                    let (id, input) = (self.next_id("ctc"), String::new());
                    let reader = custom::Reader::default();
                    Item::CustomToolCall { id, call_id, name, namespace, input, status, reader }
                } else {
                    let (id, arguments) = (self.next_id("fc"), String::new());
                    Item::FunctionCall { id, call_id, name, namespace, arguments, status }
                };
                self.begin_item(item, out);
            }
            Part::Arguments(_) | Part::CallEnd => {}
        }
    }

    fn begin_content(&mut self, kind: &'static str, part: Content, out: &mut String) {
        let index = match &part {
            Content::Summary { .. } => "summary_index",
            _ => "content_index",
        };
        let told = [(index, json!(0)), ("part", value(&part))];
        match (self.output.last_mut(), part) {
            (Some(Item::Reasoning { summary, .. }), part @ Content::Summary { .. }) => {
                summary.push(part);
            }
            (Some(Item::Reasoning { content, .. } | Item::Message { content, .. }), part) => {
                content.push(part);
            }
            _ => {}
        }
        self.about(kind, &told, out);
    }

    fn logprobs(&self, tokens: &[TokenInfo]) -> Vec<ChatToken> {
        if !self.includes_logprobs {
            return Vec::new();
        }
        let vocabulary = self.answer.vocabulary.as_ref();
        // The mark behind a train of thought comes with the text, and is none of it.
        let is_text = |token: &&TokenInfo| !vocabulary.is_control(token.id);
        let tokens: Vec<TokenInfo> = tokens.iter().filter(is_text).cloned().collect();
        logprobs::chat(&tokens, vocabulary).content
    }

    /// Tells the end of the open item, and of its parts where it has come to one.
    fn end_item(&mut self, status: Status, out: &mut String) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let (zero, includes_reasoning) = (json!(0), self.includes_reasoning);
        let Some(item) = self.output.last_mut() else { return };
        item.set_status(status);
        let mut events: Vec<(&'static str, Vec<(&str, Value)>)> = Vec::new();
        match item {
            Item::Message { content, .. } => {
                for part in content.iter() {
                    let Content::Output { text, logprobs, .. } = part else { continue };
                    let at = ("content_index", zero.clone());
                    let text = ("text", json!(text));
                    let logprobs = ("logprobs", value(logprobs));
                    events.push(("response.output_text.done", vec![at.clone(), text, logprobs]));
                    let part = ("part", value(part));
                    events.push(("response.content_part.done", vec![at, part]));
                }
            }
            Item::Reasoning { content, summary, encrypted_content, .. } => {
                for part in content.iter().chain(summary.iter()) {
                    let (text, index, kinds) = match part {
                        Content::Reasoning { text } => (text, "content_index", REASONING_DONE),
                        Content::Summary { text } => (text, "summary_index", SUMMARY_DONE),
                        Content::Output { .. } => continue,
                    };
                    let at = (index, zero.clone());
                    events.push((kinds[0], vec![at.clone(), ("text", json!(text))]));
                    events.push((kinds[1], vec![at, ("part", value(part))]));
                    if includes_reasoning && index == "content_index" {
                        *encrypted_content = Some(format!("{OWN_REASONING}{text}"));
                    }
                }
            }
            // One that was cut off has no arguments to be made with.
            Item::FunctionCall { arguments, .. } if status == Status::Completed => {
                let arguments = ("arguments", json!(arguments));
                events.push(("response.function_call_arguments.done", vec![arguments]));
            }
            Item::CustomToolCall { input, .. } if status == Status::Completed => {
                let input = ("input", json!(input));
                events.push(("response.custom_tool_call_input.done", vec![input]));
            }
            Item::FunctionCall { .. } | Item::CustomToolCall { .. } => {}
        }
        for (kind, more) in events {
            self.about(kind, &more, out);
        }
        self.about("response.output_item.done", &[], out);
    }

    /// The body of an answer that has ended well, of which what is to be kept is noted.
    fn finish(&mut self, usage: Usage) -> String {
        let body = to_json(&self.response(self.status(), Some(usage)));
        if !self.told.store {
            return body;
        }
        // A call without its end is none: nobody has made it, and its arguments cannot be read.
        let whole = self.output.iter().filter(|item| !item.is_cut_call());
        let output: Vec<Item> = whole.map(Item::as_history).collect();
        let kept = Kept {
            id: self.id.clone(),
            previous: self.told.previous_response_id.clone(),
            input: std::mem::take(&mut self.input),
            output: to_json(&output),
            body,
            is_whole: true,
        };
        if kept.n_bytes() > self.n_kept_bytes {
            self.told.store = false;
            return to_json(&self.response(self.status(), Some(usage)));
        }
        let body = kept.body.clone();
        self.kept = Some(kept);
        body
    }

    /// Ends without the answer's end, in this state. What is asked for later is kept as it is; no
    /// other answer that broke off.
    fn break_off(&mut self, kind: &'static str, status: Status, error: Option<Value>) -> String {
        if let Some(item) = self.output.last_mut().filter(|_| self.is_open) {
            item.set_status(Status::Incomplete);
        }
        self.told.store = self.is_background;
        let mut response = self.response(status, None);
        response.error = error;
        let body = to_json(&response);
        let mut out = String::new();
        let told = RawValue::from_string(body.clone()).expect("it was written as JSON");
        self.tell(kind, told, &mut out);
        if self.is_background {
            self.kept = Some(Kept {
                id: self.id.clone(),
                previous: self.told.previous_response_id.clone(),
                input: std::mem::take(&mut self.input),
                output: "[]".to_owned(),
                body,
                is_whole: false,
            });
        }
        out
    }
}

/// What is written as `x` is. Numbers of 32 bits would have other digits if they were converted.
fn value(x: &impl Serialize) -> Value {
    serde_json::from_str(&to_json(x)).expect("it was written as JSON")
}

/// The ends of a train of thought and of the part that it is in.
const REASONING_DONE: [&str; 2] = ["response.reasoning_text.done", "response.content_part.done"];
const SUMMARY_DONE: [&str; 2] =
    ["response.reasoning_summary_text.done", "response.reasoning_summary_part.done"];

impl Reply for ResponseReply {
    fn stream_id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn ahead(&self) -> Option<Ahead> {
        self.is_background.then(|| Ahead {
            body: to_json(&self.response(Status::InProgress, None)),
            is_streamed: self.is_streamed,
        })
    }

    fn open(&mut self, out: &mut String) {
        for kind in ["response.created", "response.in_progress"] {
            self.tell(kind, self.response(Status::InProgress, None), out);
            self.n_events += 1;
        }
    }

    fn part(&mut self, _choice_idx: usize, part: &Part, tokens: &[TokenInfo], out: &mut String) {
        if matches!(part, Part::Text(text) | Part::Reasoning(text) if text.is_empty()) {
            return;
        }
        self.open_for(part, out);
        let logprobs = match part {
            Part::Text(_) => self.logprobs(tokens),
            _ => Vec::new(),
        };
        let at = ("content_index", json!(0));
        match (part, self.output.last_mut()) {
            (Part::Text(more), Some(Item::Message { content, .. })) => {
                let told = [at, ("delta", json!(more)), ("logprobs", value(&logprobs))];
                if let Some(Content::Output { text, logprobs: all, .. }) = content.last_mut() {
                    text.push_str(more);
                    all.extend(logprobs);
                }
                self.about("response.output_text.delta", &told, out);
            }
            (Part::Reasoning(more), Some(Item::Reasoning { content, summary, .. })) => {
                let has_summary = !summary.is_empty();
                for part in content.iter_mut().chain(summary) {
                    if let Content::Reasoning { text } | Content::Summary { text } = part {
                        text.push_str(more);
                    }
                }
                let delta = ("delta", json!(more));
                self.about("response.reasoning_text.delta", &[at, delta.clone()], out);
                if has_summary {
                    let at = ("summary_index", json!(0));
                    self.about("response.reasoning_summary_text.delta", &[at, delta], out);
                }
            }
            (Part::Arguments(more), Some(Item::FunctionCall { arguments, .. })) => {
                arguments.push_str(more);
                let delta = [("delta", json!(more))];
                self.about("response.function_call_arguments.delta", &delta, out);
            }
            (Part::Arguments(more), Some(Item::CustomToolCall { input, reader, .. })) => {
                let more = reader.read(more);
                input.push_str(&more);
                if !more.is_empty() {
                    let delta = [("delta", json!(more))];
                    self.about("response.custom_tool_call_input.delta", &delta, out);
                }
            }
            (Part::CallEnd, Some(item)) if item.is_call() => {
                self.end_item(Status::Completed, out);
            }
            _ => {}
        }
    }

    fn done(&mut self, _choice_idx: usize, reason: &FinishReason, out: &mut String) {
        let is_call = self.output.last().is_some_and(Item::is_call);
        let status = match reason {
            FinishReason::Length => Status::Incomplete,
            // It would have ended by itself.
            _ if is_call => Status::Incomplete,
            _ => Status::Completed,
        };
        self.end_item(status, out);
        self.reason = Some(reason.clone());
    }

    fn close(&mut self, usage: Usage, out: &mut String) {
        let kind = match self.status() {
            Status::Incomplete => "response.incomplete",
            _ => "response.completed",
        };
        let body = self.finish(usage);
        self.tell(kind, RawValue::from_string(body).expect("it was written as JSON"), out);
    }

    fn fail(&mut self, error: &ServerError, out: &mut String) {
        // Clients know a fixed set of words.
        let code = match error.status() {
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_exceeded",
            _ => "server_error",
        };
        let told = json!({"code": code, "message": error.to_string()});
        out.push_str(&self.break_off("response.failed", Status::Failed, Some(told)));
    }

    fn cancel(&mut self, out: &mut String) {
        out.push_str(&self.break_off("response.incomplete", Status::Cancelled, None));
    }

    fn whole(&mut self, choices: &[Choice], usage: Usage) -> String {
        let Some(choice) = choices.first() else {
            let body = json!({"object": "response.input_tokens", "input_tokens": usage.n_prompt});
            return body.to_string();
        };
        let mut unsent = String::new();
        let text_tokens = choice.tokens.get(choice.text_tokens.clone()).unwrap_or_default();
        self.part(0, &Part::Reasoning(choice.reasoning.clone()), &[], &mut unsent);
        self.part(0, &Part::Text(choice.text.clone()), text_tokens, &mut unsent);
        for call in &choice.calls {
            self.part(0, &Part::CallBegin(call.name.clone()), &[], &mut unsent);
            self.part(0, &Part::Arguments(call.arguments.clone()), &[], &mut unsent);
            if call.is_complete {
                self.part(0, &Part::CallEnd, &[], &mut unsent);
            }
        }
        self.done(0, &choice.reason, &mut unsent);
        self.finish(usage)
    }

    fn take_kept(&mut self) -> Option<Kept> {
        self.kept.take()
    }
}
