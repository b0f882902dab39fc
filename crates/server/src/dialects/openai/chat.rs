//! `POST /v1/chat/completions`: its request, and its answers whole and streamed.

use super::logprobs::{self, ChatLogprobs};
use super::{
    UsageBody, error_body, finish_word, messages, push_end, push_event, push_failure, settings,
    to_json,
};
use crate::dialects::fields::{Fields, shown, wrong};
use crate::dialects::{Answer, Call, Choice, Dialect, Prompts, Reply, Usage};
use crate::errors::{BadRequest, ServerError};
use crate::limits::Limits;
use engine::{FinishReason, MAX_LOGPROBS, TokenInfo};
use serde::Serialize;
use serde_json::{Map, Value};

/// Template variables that are not the client's to set.
const OWN_VARIABLES: &[&str] =
    &["add_generation_prompt", "bos_token", "eos_token", "messages", "tools"];
/// Words of `reasoning_effort`.
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh"];

/// A chat request that was understood in full.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// What it asks of the model.
    pub call: Call,
    /// Whether a stream ends with a chunk that holds the usage.
    pub include_usage: bool,
}

/// The route.
pub(crate) struct Chat;

impl Dialect for Chat {
    type Request = ChatRequest;
    type Reply = ChatReply;

    fn parse(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
        parse(body, limits)
    }

    fn call(request: &ChatRequest) -> &Call {
        &request.call
    }

    fn reply(request: ChatRequest, answer: Answer, _prompts: &[Vec<u32>]) -> ChatReply {
        ChatReply {
            id: format!("chatcmpl-{}", answer.id),
            n_choices: request.call.n_per_prompt,
            logprobs: request.call.logprobs.is_some(),
            include_usage: request.include_usage,
            answer,
        }
    }

    fn error_body(error: &ServerError) -> String {
        error_body(error)
    }
}

pub(super) fn parse(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let settings = settings::take(&mut fields, limits)?;
    // The newer name wins where both are given.
    let older = fields.count("max_tokens", 1)?;
    let max_tokens = fields.count("max_completion_tokens", 1)?.or(older);
    let logprobs = take_logprobs(&mut fields)?;
    refuse_tools(&mut fields)?;
    refuse_other_outputs(&mut fields)?;
    let kwargs = take_kwargs(&mut fields)?;
    let messages = messages::take(&mut fields)?;
    fields.refuse_rest()?;
    Ok(ChatRequest {
        call: Call {
            model: settings.model,
            prompts: Prompts::Chat { messages, kwargs },
            n_per_prompt: settings.n,
            max_tokens,
            sampling: settings.sampling,
            stop: settings.stop,
            ignore_eos: settings.ignore_eos,
            banned: settings.banned,
            min_tokens: settings.min_tokens,
            stop_tokens: settings.stop_tokens,
            logprobs,
            constraint: settings.constraint,
            delivery: settings.delivery,
            cache_prompt: settings.cache_prompt,
            priority: settings.priority,
        },
        include_usage: settings.include_usage,
    })
}

fn take_logprobs(fields: &mut Fields) -> Result<Option<u32>, BadRequest> {
    let wanted = fields.flag("logprobs")?.unwrap_or(false);
    let n_top = fields.integer("top_logprobs", 0..=i64::from(MAX_LOGPROBS))?;
    match n_top {
        Some(n_top) if !wanted => {
            let problem = format!("{n_top}: expected it only together with \"logprobs\": true");
            Err(BadRequest::field("top_logprobs", &problem))
        }
        n_top => Ok(wanted.then(|| n_top.unwrap_or(0) as u32)),
    }
}

/// Tools are taken only where none can be called: an empty list, or a choice of "none".
fn refuse_tools(fields: &mut Fields) -> Result<(), BadRequest> {
    let choice = fields.take("tool_choice");
    let none = choice.as_ref().is_some_and(|choice| choice == "none");
    if let Some(choice) = choice
        && choice != "none"
        && choice != "auto"
    {
        let why = format!("{}: this server makes no tool calls, use \"none\"", shown(&choice));
        return Err(BadRequest::unsupported("tool_choice", &why));
    }
    fields.flag("parallel_tool_calls")?;
    if let Some(tools) = fields.list("tools")?
        && !tools.is_empty()
        && !none
    {
        let why = format!(
            "{} given: this server makes no tool calls, leave them out or set \"tool_choice\": \
             \"none\"",
            tools.len()
        );
        return Err(BadRequest::unsupported("tools", &why));
    }
    let choice = fields.take("function_call");
    let none = choice.as_ref().is_some_and(|choice| choice == "none");
    if let Some(choice) = choice
        && choice != "none"
        && choice != "auto"
    {
        let why = format!("{}: this server makes no function calls", shown(&choice));
        return Err(BadRequest::unsupported("function_call", &why));
    }
    if let Some(functions) = fields.list("functions")?
        && !functions.is_empty()
        && !none
    {
        let why = format!("{} given: this server makes no function calls", functions.len());
        return Err(BadRequest::unsupported("functions", &why));
    }
    Ok(())
}

/// Answers are text: other modalities are refused.
fn refuse_other_outputs(fields: &mut Fields) -> Result<(), BadRequest> {
    for modality in fields.list("modalities")?.unwrap_or_default() {
        if modality != "text" {
            let why = format!("{}: this server answers in \"text\" only", shown(&modality));
            return Err(BadRequest::unsupported("modalities", &why));
        }
    }
    for (name, why) in [
        ("audio", "this server answers in text only"),
        ("web_search_options", "this server does not search the web"),
    ] {
        if let Some(value) = fields.take(name) {
            let why = format!("{}: {why}", shown(&value));
            return Err(BadRequest::unsupported(name, &why));
        }
    }
    Ok(())
}

/// Further template variables. Whether the template knows them is found out where it is rendered.
fn take_kwargs(fields: &mut Fields) -> Result<Map<String, Value>, BadRequest> {
    let mut kwargs = match fields.object("chat_template_kwargs")? {
        None => Map::new(),
        Some(kwargs) => kwargs.into_map(),
    };
    if let Some(name) = OWN_VARIABLES.iter().find(|name| kwargs.contains_key(**name)) {
        let problem = "expected only variables that the server does not set itself";
        return Err(BadRequest::field(&format!("chat_template_kwargs.{name}"), problem));
    }
    if let Some(effort) = fields.text("reasoning_effort")? {
        if !EFFORTS.contains(&effort.as_str()) {
            let expected = format!("one of {}", EFFORTS.join(", "));
            return Err(wrong("reasoning_effort", &Value::String(effort), &expected));
        }
        kwargs.insert("reasoning_effort".to_owned(), effort.into());
    }
    Ok(kwargs)
}

/// Renders the answer to one chat request.
pub(crate) struct ChatReply {
    answer: Answer,
    id: String,
    n_choices: usize,
    logprobs: bool,
    include_usage: bool,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
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
    content: &'a str,
    refusal: Option<&'a str>,
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
}

impl Reply for ChatReply {
    fn open(&mut self, out: &mut String) {
        for index in 0..self.n_choices {
            let delta = Delta { role: Some("assistant"), content: Some("") };
            let choice = ChunkChoice { index, delta, logprobs: None, finish_reason: None };
            self.chunk(&[choice], None, out);
        }
    }

    fn text(&mut self, choice_idx: usize, text: &str, tokens: &[TokenInfo], out: &mut String) {
        // Tokens without text say something only where log-probabilities are told.
        if text.is_empty() && (tokens.is_empty() || !self.logprobs) {
            return;
        }
        let choice = ChunkChoice {
            index: choice_idx,
            delta: Delta { role: None, content: Some(text) },
            logprobs: self.logprobs(tokens),
            finish_reason: None,
        };
        self.chunk(&[choice], None, out);
    }

    fn done(&mut self, choice_idx: usize, reason: &FinishReason, out: &mut String) {
        let choice = ChunkChoice {
            index: choice_idx,
            delta: Delta::default(),
            logprobs: None,
            finish_reason: Some(finish_word(reason)),
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
        let whole = |(index, choice)| whole_choice(self, index, choice);
        to_json(&Completion {
            id: &self.id,
            object: "chat.completion",
            created: self.answer.created,
            model: &self.answer.model,
            system_fingerprint: &self.answer.fingerprint,
            choices: choices.iter().enumerate().map(whole).collect(),
            usage: usage.into(),
        })
    }
}

fn whole_choice<'a>(reply: &ChatReply, index: usize, choice: &'a Choice) -> WholeChoice<'a> {
    WholeChoice {
        index,
        message: Message { role: "assistant", content: &choice.text, refusal: None },
        logprobs: reply.logprobs(&choice.tokens),
        finish_reason: finish_word(&choice.reason),
    }
}

#[cfg(test)]
mod tests;
