//! `POST /v1/chat/completions`: its request. Its answers are in `reply`.

mod reply;

use super::{messages, settings, tools};
use crate::cases;
use crate::dialects::fields::{Field, Fields, Unknown, shown, wrong};
use crate::dialects::{Answer, Call, Delivery, Dialect, Family, Paths, Prompts, ToolsAsk, Wishes};
use crate::errors::BadRequest;
use crate::limits::Limits;
use engine::{ChatEnd, MAX_LOGPROBS, ToolChoice};
use reply::{ChatReply, Progress};
use serde_json::{Map, Value};

/// Template variables that are not the client's to set.
const OWN_VARIABLES: &[&str] =
    &["add_generation_prompt", "bos_token", "eos_token", "messages", "tools"];
/// How hard to think, and the words for it.
const EFFORT: &str = "reasoning_effort";
const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh"];

/// What becomes of the fields that only this route knows.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("messages").shape(MESSAGES).good(r#"[{"role":"user","content":"Hi"}]"#),
    Field::honoured("max_completion_tokens").count(1),
    Field::honoured("max_tokens")
        .count(1)
        .note("`max_completion_tokens` wins, and where they differ this one is told as ignored"),
    Field::honoured("logprobs").flag(),
    Field::honoured("top_logprobs")
        .integer(0, MAX_LOGPROBS as i64)
        .beside(r#"{"logprobs":true}"#)
        .note("only with `logprobs`"),
    Field::adapted("tools").shape(TOOLS).good(TOOL).note(
        "functions and `custom` tools, whose grammars, `regex` and `lark`, are enforced; a \
             model whose template knows none is told of them in a message. What of a schema \
             cannot be enforced is told, or refused where the tool is `strict`",
    ),
    Field::honoured("tool_choice").shape(TOOL_CHOICE).good(r#""none""#).beside(BESIDE_TOOL),
    Field::honoured("parallel_tool_calls").flag().good("false").beside(BESIDE_TOOL),
    Field::adapted("functions")
        .shape(FUNCTIONS)
        .good(FUNCTION)
        .note("the older form of `tools`, not beside them: answers have `function_call`"),
    Field::honoured("function_call")
        .shape(FUNCTION_CALL)
        .good(r#"{"name":"now"}"#)
        .beside(BESIDE_FUNCTION)
        .note("the older name of `tool_choice`; without `functions` only what asks for nothing"),
    Field::honoured("modalities").shape(MODALITIES).good(r#"["text"]"#),
    Field::adapted("reasoning_effort")
        .words(EFFORTS)
        .good(r#""low""#)
        .note("as far as the model's template can do it"),
    Field::honoured("thinking_token_budget").integer(-1, U32_MAX).note("-1: no bound"),
    Field::honoured("thinking_budget_tokens")
        .integer(-1, U32_MAX)
        .note("the same as `thinking_token_budget`"),
    Field::honoured("chat_template_kwargs")
        .shape(KWARGS)
        .by_model()
        .good(r#"{"enable_thinking":false}"#)
        .note("those that the model's template reads"),
    Field::refused("audio", "this server answers in text only"),
    Field::refused("moderation", "this server has no model that judges texts"),
    Field::refused("web_search_options", "this server does not search the web"),
];

const U32_MAX: i64 = u32::MAX as i64;
pub(crate) const MESSAGES: &str = r#"{"type":"array","minItems":1,"items":{"type":"object","properties":{"role":{"enum":["system","developer","user","assistant","tool","function"]},"content":{"type":["string","array","null"]}},"required":["role"]}}"#;
const TOOLS: &str = r#"{"type":"array","items":{"type":"object","properties":{"type":{"enum":["function","custom"]},"function":{"type":["object","null"],"properties":{"name":{"type":"string","pattern":"^[a-zA-Z0-9_-]{1,64}$"},"description":{"type":["string","null"]},"parameters":{"type":["object","null"]},"strict":{"type":["boolean","null"]}},"required":["name"],"additionalProperties":false},"custom":{"type":["object","null"],"properties":{"name":{"type":"string","pattern":"^[a-zA-Z0-9_-]{1,64}$"},"description":{"type":["string","null"]},"format":{"type":["object","null"],"properties":{"type":{"enum":["text","grammar"]},"grammar":{"type":["object","null"],"properties":{"syntax":{"enum":["lark","regex"]},"definition":{"type":"string"}},"required":["syntax","definition"],"additionalProperties":false}},"required":["type"],"additionalProperties":false}},"required":["name"],"additionalProperties":false}},"required":["type"],"additionalProperties":false}}"#;
const TOOL: &str = r#"[{"type":"function","function":{"name":"now","parameters":{"type":"object","properties":{}}}}]"#;
const BESIDE_TOOL: &str = r#"{"tools":[{"type":"function","function":{"name":"now","parameters":{"type":"object","properties":{}}}}]}"#;
const TOOL_CHOICE: &str = r#"{"anyOf":[{"enum":["none","auto","required"]},{"type":"object","properties":{"type":{"enum":["function","custom","allowed_tools",null]}}}]}"#;
const FUNCTIONS: &str = r#"{"type":"array","items":{"type":"object","properties":{"name":{"type":"string","pattern":"^[a-zA-Z0-9_-]{1,64}$"},"description":{"type":["string","null"]},"parameters":{"type":["object","null"]},"strict":{"type":["boolean","null"]}},"required":["name"],"additionalProperties":false}}"#;
const FUNCTION: &str = r#"[{"name":"now","parameters":{"type":"object","properties":{}}}]"#;
const FUNCTION_CALL: &str = r#"{"anyOf":[{"enum":["none","auto"]},{"type":"object","properties":{"name":{"type":"string"}},"required":["name"],"additionalProperties":false}]}"#;
const BESIDE_FUNCTION: &str =
    r#"{"functions":[{"name":"now","parameters":{"type":"object","properties":{}}}]}"#;
const MODALITIES: &str = r#"{"type":"array","items":{"const":"text"}}"#;
const KWARGS: &str = r#"{"type":"object"}"#;

/// A chat request that was understood in full.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// What it asks of the model.
    pub call: Call,
    /// Whether a stream ends with a chunk that holds the usage.
    pub include_usage: bool,
    /// Whether calls are told as `functions` have them, which came before `tools`.
    is_older: bool,
    /// Paths of what has no effect.
    ignored: Paths,
}

/// The route.
pub(crate) struct Chat;

impl Dialect for Chat {
    type Request = ChatRequest;
    type Reply = ChatReply;
    const FAMILY: Family = Family::OpenAi;

    fn parse(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
        parse(body, limits, Unknown::Refused)
    }

    fn parse_leniently(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
        parse(body, limits, Unknown::Ignored)
    }

    fn take_ignored(request: &mut ChatRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn case(body: &[u8]) -> Option<Map<String, Value>> {
        cases::of_openai(body, "messages")
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
            is_older: request.is_older,
            custom: tools.map(ToolsAsk::custom_names).unwrap_or_default(),
            prompt: None,
            answer,
        }
    }
}

/// llama-server's `POST /apply-template`: what chat completions would have the model read.
pub(crate) struct ApplyTemplate;

impl Dialect for ApplyTemplate {
    type Request = ChatRequest;
    type Reply = ChatReply;
    const FAMILY: Family = Family::OpenAi;

    fn parse(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
        Ok(only_counted(parse(body, limits, Unknown::Refused)?))
    }

    fn parse_leniently(body: &[u8], limits: &Limits) -> Result<ChatRequest, BadRequest> {
        Ok(only_counted(parse(body, limits, Unknown::Ignored)?))
    }

    fn take_ignored(request: &mut ChatRequest) -> Paths {
        Chat::take_ignored(request)
    }

    fn call(request: &ChatRequest) -> &Call {
        &request.call
    }

    fn reply(request: ChatRequest, answer: Answer, prompts: &[Vec<u32>]) -> ChatReply {
        let bytes: Vec<u8> =
            prompts.iter().flatten().flat_map(|&id| answer.vocabulary.token_bytes(id)).collect();
        let prompt = Some(String::from_utf8_lossy(&bytes).into_owned());
        ChatReply { prompt, ..Chat::reply(request, answer, prompts) }
    }
}

/// The request, of which nothing is generated.
fn only_counted(mut request: ChatRequest) -> ChatRequest {
    request.call.delivery = Delivery::Count;
    request
}

pub(super) fn parse(
    body: &[u8],
    limits: &Limits,
    unknown: Unknown,
) -> Result<ChatRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let settings = settings::take(&mut fields, limits)?;
    let mut ignored = settings.ignored;
    ignored.extend(fields.treat(FIELDS)?);
    let max_tokens = take_max_tokens(&mut fields, &mut ignored)?;
    let logprobs = take_logprobs(&mut fields)?;
    let (tools, is_older) = tools::take(&mut fields)?;
    let reasoning_budget = take_budget(&mut fields)?;
    refuse_other_outputs(&mut fields)?;
    let (kwargs, wishes) = take_kwargs(&mut fields)?;
    let messages = messages::take(&mut fields, &mut ignored)?;
    ignored.append(fields.finish(unknown)?);
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
            wishes,
            delivery: settings.delivery,
            cache_prompt: settings.cache_prompt,
            priority: settings.priority,
        },
        include_usage: settings.include_usage,
        is_older,
        ignored,
    })
}

/// The newer name wins where both are given.
fn take_max_tokens(fields: &mut Fields, ignored: &mut Paths) -> Result<Option<u32>, BadRequest> {
    let older = fields.count("max_tokens", 1)?;
    let newer = fields.count("max_completion_tokens", 1)?;
    if newer.is_some_and(|newer| older.is_some_and(|older| older != newer)) {
        ignored.push(fields.path("max_tokens"));
    }
    Ok(newer.or(older))
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
    Ok(())
}

/// Further template variables, and how hard to think. Whether the template knows them is found out
/// where it is rendered.
fn take_kwargs(fields: &mut Fields) -> Result<(Map<String, Value>, Wishes), BadRequest> {
    let kwargs = match fields.object("chat_template_kwargs")? {
        None => Map::new(),
        Some(kwargs) => kwargs.into_map(),
    };
    if let Some(name) = OWN_VARIABLES.iter().find(|name| kwargs.contains_key(**name)) {
        let problem = "expected only variables that the server does not set itself";
        return Err(BadRequest::field(&format!("chat_template_kwargs.{name}"), problem));
    }
    let Some(word) = fields.text(EFFORT)? else { return Ok((kwargs, Wishes::default())) };
    let Some(effort) = EFFORTS.iter().find(|known| **known == word) else {
        let expected = format!("one of {}", EFFORTS.join(", "));
        return Err(wrong(EFFORT, &Value::String(word), &expected));
    };
    match kwargs.get(EFFORT) {
        None => Ok((kwargs, settings::effort(effort, EFFORT))),
        // What is said to the template itself is more than a wish.
        Some(said) if said == effort => Ok((kwargs, Wishes::default())),
        Some(_) => {
            let expected = "the same as chat_template_kwargs.reasoning_effort, or neither";
            Err(wrong(EFFORT, &Value::String(word), expected))
        }
    }
}

#[cfg(test)]
mod tests;
