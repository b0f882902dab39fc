//! `POST /v1/chat/completions`: its request. Its answers are in `reply`.

mod reply;

use super::{messages, settings, tools};
use crate::dialects::fields::{Fields, shown, wrong};
use crate::dialects::{Answer, Call, Dialect, Family, Prompts, Wishes};
use crate::errors::BadRequest;
use crate::limits::Limits;
use engine::{ChatEnd, MAX_LOGPROBS, ToolChoice};
use reply::{ChatReply, Progress};
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
    const FAMILY: Family = Family::OpenAi;

    fn parse(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
        parse(body, limits)
    }

    fn call(request: &ChatRequest) -> &Call {
        &request.call
    }

    fn reply(request: ChatRequest, answer: Answer, _prompts: &[Vec<u32>]) -> ChatReply {
        let tools = request.call.tools.as_ref();
        ChatReply {
            id: format!("chatcmpl-{}", answer.id),
            choices: vec![Progress::default(); request.call.n_per_prompt],
            may_call: tools.is_some_and(|tools| tools.choice != ToolChoice::None),
            logprobs: request.call.logprobs.is_some(),
            include_usage: request.include_usage,
            answer,
        }
    }
}

pub(super) fn parse(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let settings = settings::take(&mut fields, limits)?;
    // The newer name wins where both are given.
    let older = fields.count("max_tokens", 1)?;
    let max_tokens = fields.count("max_completion_tokens", 1)?.or(older);
    let logprobs = take_logprobs(&mut fields)?;
    let tools = tools::take(&mut fields)?;
    let reasoning_budget = take_budget(&mut fields)?;
    refuse_other_outputs(&mut fields)?;
    let kwargs = take_kwargs(&mut fields)?;
    let messages = messages::take(&mut fields)?;
    fields.refuse_rest()?;
    Ok(ChatRequest {
        call: Call {
            model: settings.model,
            prompts: Prompts::Chat { messages, kwargs, end: ChatEnd::Answer },
            n_per_prompt: settings.n,
            max_tokens,
            sampling: settings.sampling,
            stop: settings.stop,
            ignore_eos: settings.ignore_eos,
            banned: settings.banned,
            min_tokens: settings.min_tokens,
            stop_tokens: settings.stop_tokens,
            logprobs,
            prompt_logprobs: None,
            constraint: settings.constraint,
            tools,
            reasoning_budget,
            wishes: Wishes::default(),
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

/// Most tokens of a train of thought: "thinking_token_budget" is vLLM's name for it,
/// "thinking_budget_tokens" llama-server's; -1 is no bound. OpenAI has none.
fn take_budget(fields: &mut Fields) -> Result<Option<u32>, BadRequest> {
    let names = ["thinking_token_budget", "thinking_budget_tokens"];
    let mut budget = None;
    for name in names {
        let Some(n) = fields.integer(name, -1..=i64::from(u32::MAX))? else { continue };
        if budget.is_some_and(|other| other != n) {
            let problem = format!("{n}: expected the same as {}, or neither", names[0]);
            return Err(BadRequest::field(name, &problem));
        }
        budget = Some(n);
    }
    Ok(budget.and_then(|n| u32::try_from(n).ok()))
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

#[cfg(test)]
mod tests;
