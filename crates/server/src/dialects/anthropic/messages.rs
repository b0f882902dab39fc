//! `POST /v1/messages` and `POST /v1/messages/count_tokens`: their request, which is the same but
//! for what only an answer needs. The answer is in `reply`.

use super::reply::{Display, MessagesReply};
use super::{conversation, tools};
use crate::dialects::fields::{Field, Fields, missing, shown, wrong};
use crate::dialects::{
    Answer, Call, ConstraintAsk, Delivery, Dialect, Family, Paths, Prompts, SamplingAsk, Thinking,
    Wish, Wishes,
};
use crate::errors::BadRequest;
use crate::limits::Limits;
use engine::{ChatEnd, Grammar, MAX_STOP_BYTES, MAX_STOP_STRINGS, Priority};
use serde_json::{Map, Value};

/// What becomes of the fields that both routes know; of any other the response tells.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("messages").shape(MESSAGES).good(r#"[{"role":"user","content":"Hi"}]"#),
    Field::honoured("system").shape(SYSTEM).good(r#"[{"type":"text","text":"Be brief."}]"#),
    Field::honoured("max_tokens").count(1).note("not of count_tokens"),
    Field::honoured("stream").flag(),
    Field::honoured("stop_sequences").shape(TEXTS).good(r#"["END"]"#),
    Field::honoured("temperature").number(0.0, 2.0),
    Field::honoured("top_k").count(0),
    Field::honoured("top_p").number(0.0, 1.0),
    Field::adapted("thinking")
        .shape(THINKING)
        .good(r#"{"type":"enabled","budget_tokens":8}"#)
        .note("as far as the model's template and vocabulary can do it"),
    Field::adapted("output_config")
        .shape(OUTPUT_CONFIG)
        .good(r#"{"effort":"low"}"#)
        .beside(r#"{"thinking":{"type":"adaptive"}}"#)
        .note("`format` is kept to, `effort` as far as the model's template can do it"),
    Field::honoured("output_format")
        .shape(FORMAT)
        .good(A_FORMAT)
        .note("the older place of `output_config.format`"),
    Field::adapted("tools").shape(TOOLS).good(TOOL).note(
        "a model whose template knows none is told of them in a message. What of a schema cannot \
             be enforced is told, or refused where the tool is `strict`",
    ),
    Field::honoured("tool_choice")
        .shape(TOOL_CHOICE)
        .good(r#"{"type":"none"}"#)
        .beside(BESIDE_TOOL),
    Field::honoured("service_tier").words(&["auto", "standard_only"]),
    Field::honoured("speed").words(&["standard"]),
    // Labels for the vendor's books, and hints at what a paid cache is to keep: here whatever
    // prompts have in common is kept.
    Field::tolerated("metadata"),
    Field::tolerated("cache_control"),
    Field::tolerated("user_profile_id"),
    Field::tolerated("workspace_id"),
    // Agents send it with every request; a conversation that grows too long is refused.
    Field::ignored("context_management").note("a conversation that is too long is refused"),
    Field::ignored("diagnostics"),
    Field::ignored("fallbacks").note("no model here declines"),
    Field::refused("compaction", "this server summarizes no conversation"),
    Field::refused("container", "this server has no containers"),
    Field::refused("mcp_servers", "this server calls no other servers"),
    Field::refused("inference_geo", "this server computes where it stands"),
    // Told apart in `errors`: clients then send the whole conversation.
    Field::refused("thread", "this server keeps no conversations, send all messages"),
];

const MESSAGES: &str = r#"{"type":"array","minItems":1,"items":{"type":"object","properties":{"role":{"enum":["user","assistant","system"]},"content":{"type":["string","array"]}},"required":["role","content"]}}"#;
const SYSTEM: &str = r#"{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"object","properties":{"type":{"const":"text"},"text":{"type":"string"}},"required":["text"]}}]}"#;
const TEXTS: &str = r#"{"type":"array","items":{"type":"string","minLength":1}}"#;
const THINKING: &str = r#"{"type":"object","properties":{"type":{"enum":["enabled","adaptive","disabled"]},"budget_tokens":{"type":["integer","null"]},"display":{"enum":["summarized","omitted",null]}},"required":["type"]}"#;
const FORMAT: &str = r#"{"type":"object","properties":{"type":{"const":"json_schema"},"schema":{"type":"object"}},"required":["type","schema"]}"#;
const A_FORMAT: &str = r#"{"type":"json_schema","schema":{"type":"object"}}"#;
const OUTPUT_CONFIG: &str = r#"{"type":"object","properties":{"effort":{"enum":["low","medium","high","xhigh","max",null]},"format":{"type":["object","null"]}}}"#;
const TOOLS: &str = r#"{"type":"array","items":{"type":"object","properties":{"name":{"type":"string","pattern":"^[a-zA-Z0-9_-]{1,128}$"},"description":{"type":["string","null"]},"input_schema":{"type":"object"}},"required":["name","input_schema"]}}"#;
const TOOL: &str = r#"[{"name":"now","input_schema":{"type":"object","properties":{}}}]"#;
const BESIDE_TOOL: &str =
    r#"{"tools":[{"name":"now","input_schema":{"type":"object","properties":{}}}]}"#;
const TOOL_CHOICE: &str = r#"{"type":"object","properties":{"type":{"enum":["auto","any","tool","none"]},"name":{"type":["string","null"]},"disable_parallel_tool_use":{"type":["boolean","null"]}},"required":["type"]}"#;

/// The fields of messages of templates, and the blocks that they are made of.
const BLOCKS: &[(&str, &str)] =
    &[("tool_calls", "tool_use"), ("reasoning_content", "thinking"), ("content", "tool_result")];

/// A request that was understood in full.
#[derive(Debug, Clone, PartialEq)]
pub struct MessagesRequest {
    /// What it asks of the model.
    pub call: Call,
    /// Whether a train of thought is shown.
    pub(super) display: Display,
    /// Where each of the call's messages begins in the request.
    places: Vec<String>,
    /// Paths of what has no effect.
    ignored: Paths,
}

/// The route that answers.
pub(crate) struct Messages;

impl Dialect for Messages {
    type Request = MessagesRequest;
    type Reply = MessagesReply;
    const FAMILY: Family = Family::Anthropic;

    fn parse(body: &[u8], limits: &Limits) -> Result<MessagesRequest, BadRequest> {
        parse(body, limits)
    }

    fn call(request: &MessagesRequest) -> &Call {
        &request.call
    }

    fn reply(request: MessagesRequest, answer: Answer, prompts: &[Vec<u32>]) -> MessagesReply {
        MessagesReply::new(&request, answer, prompts)
    }

    fn take_ignored(request: &mut MessagesRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn place(request: &MessagesRequest, message_idx: usize, field: &str) -> String {
        let place = request.places.get(message_idx).map_or("messages", |place| place);
        match BLOCKS.iter().find(|(name, _)| *name == field) {
            Some((_, block)) => format!("{place}.content[{block}]"),
            None => format!("{place}.{field}"),
        }
    }
}

/// The route that counts the tokens of the prompt, which is made in the same way.
pub(crate) struct CountTokens;

impl Dialect for CountTokens {
    type Request = MessagesRequest;
    type Reply = MessagesReply;
    const FAMILY: Family = Family::Anthropic;

    fn parse(body: &[u8], limits: &Limits) -> Result<MessagesRequest, BadRequest> {
        parse_count(body, limits)
    }

    fn call(request: &MessagesRequest) -> &Call {
        Messages::call(request)
    }

    fn reply(request: MessagesRequest, answer: Answer, prompts: &[Vec<u32>]) -> MessagesReply {
        Messages::reply(request, answer, prompts)
    }

    fn take_ignored(request: &mut MessagesRequest) -> Paths {
        Messages::take_ignored(request)
    }

    fn place(request: &MessagesRequest, message_idx: usize, field: &str) -> String {
        Messages::place(request, message_idx, field)
    }
}

pub(super) fn parse(body: &[u8], _limits: &Limits) -> Result<MessagesRequest, BadRequest> {
    let request = read(body)?;
    if request.call.max_tokens.is_none() {
        return Err(missing("max_tokens", "an integer of at least 1"));
    }
    Ok(request)
}

pub(super) fn parse_count(body: &[u8], _limits: &Limits) -> Result<MessagesRequest, BadRequest> {
    let mut request = read(body)?;
    request.call.delivery = Delivery::Count;
    Ok(request)
}

fn read(body: &[u8]) -> Result<MessagesRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(FIELDS)?.into_iter().collect();
    let model = fields.text("model")?.ok_or_else(|| missing("model", "the name of a model"))?;
    let stream = fields.flag("stream")?.unwrap_or(false);
    let (thinking, budget, display) = take_thinking(&mut fields, &mut ignored)?;
    let (effort, constraint) = take_output(&mut fields, &mut ignored)?;
    check_word(&mut fields, "service_tier", &["auto", "standard_only"])?;
    check_word(&mut fields, "speed", &["standard"])?;
    let call = Call {
        model: Some(model),
        prompts: Prompts::Plain(Vec::new()),
        n_per_prompt: 1,
        max_tokens: fields.count("max_tokens", 1)?,
        sampling: SamplingAsk {
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_k: fields.count("top_k", 0)?,
            // 0 keeps the likeliest token only, as the smallest positive number does.
            top_p: fields.number("top_p", 0.0..=1.0)?.map(|p| p.max(f32::MIN_POSITIVE)),
            ..SamplingAsk::default()
        },
        stop: take_stop(&mut fields)?,
        ignore_eos: false,
        banned: Vec::new(),
        min_tokens: 0,
        stop_tokens: Vec::new(),
        logprobs: None,
        prompt_logprobs: None,
        constraint,
        tools: tools::take(&mut fields, &mut ignored)?,
        reasoning_budget: None,
        wishes: Wishes { thinking: Some(thinking), budget, effort },
        delivery: if stream { Delivery::Stream } else { Delivery::Whole },
        cache_prompt: true,
        priority: Priority::Interactive,
    };
    let read = conversation::take(&mut fields, &mut ignored)?;
    if read.end == ChatEnd::Continue {
        check_continued(&call)?;
    }
    ignored.extend(fields.rest());
    let (messages, kwargs, end) = (read.messages, Map::new(), read.end);
    let call = Call { prompts: Prompts::Chat { messages, kwargs, end }, ..call };
    Ok(MessagesRequest { call, display, places: read.places, ignored })
}

/// Refuses what has to come before or around an answer that has begun already.
fn check_continued(call: &Call) -> Result<(), BadRequest> {
    if let Some(ask) = &call.constraint {
        let why = "a last message of the assistant's cannot be continued in a format of its own";
        return Err(BadRequest::unsupported(&ask.param, why));
    }
    if call.wishes.thinking.is_some_and(|thinking| thinking.what == Thinking::On) {
        let why = "\"enabled\": a last message of the assistant's is continued, and thinking would \
                   stand before it";
        return Err(BadRequest::unsupported("thinking", why));
    }
    Ok(())
}

type ThinkingAsk = (Wish<Thinking>, Option<Wish<u32>>, Display);

/// `thinking`: whether, how many tokens at most, and whether it is shown. Clients of this family
/// that do not mention it expect the answer itself to come first.
fn take_thinking(fields: &mut Fields, ignored: &mut Paths) -> Result<ThinkingAsk, BadRequest> {
    let Some(mut thinking) = fields.object("thinking")? else {
        return Ok((Wish { what: Thinking::Off, param: None }, None, Display::Shown));
    };
    let kind = thinking.take("type").unwrap_or(Value::Null);
    let (what, budget) = match kind.as_str() {
        Some("enabled") => {
            let path = thinking.path("budget_tokens");
            let budget = thinking.count("budget_tokens", 1)?;
            let budget = budget.ok_or_else(|| missing(&path, "an integer of at least 1"))?;
            let param = Some("thinking.budget_tokens");
            (Thinking::On, Some(Wish { what: budget, param }))
        }
        Some("adaptive") => (Thinking::Free, None),
        Some("disabled") => (Thinking::Off, None),
        Some("between_tools") => {
            let why = "\"between_tools\": this server has no way to hold a model to it";
            return Err(BadRequest::unsupported(&thinking.path("type"), why));
        }
        _ => {
            let expected = "\"enabled\", \"adaptive\" or \"disabled\"";
            return Err(wrong(&thinking.path("type"), &kind, expected));
        }
    };
    let display_path = thinking.path("display");
    let display = match thinking.text("display")?.as_deref() {
        None => Display::Shown,
        // There is no summary; all of it is shown.
        Some("summarized") => {
            ignored.push(display_path);
            Display::Shown
        }
        Some("omitted") => Display::Omitted,
        Some(other) => {
            let expected = "\"summarized\" or \"omitted\"";
            return Err(wrong(&display_path, &other.into(), expected));
        }
    };
    ignored.extend(thinking.rest());
    Ok((Wish { what, param: Some("thinking") }, budget, display))
}

type OutputAsk = (Option<Wish<&'static str>>, Option<ConstraintAsk>);

/// `output_config`: how hard to think, and what the answer must look like.
fn take_output(fields: &mut Fields, ignored: &mut Paths) -> Result<OutputAsk, BadRequest> {
    const EFFORTS: &[&str] = &["low", "medium", "high", "xhigh", "max"];
    let older = take_format(fields, "output_format", ignored)?;
    let Some(mut config) = fields.object("output_config")? else { return Ok((None, older)) };
    let effort_path = config.path("effort");
    let effort = match config.text("effort")? {
        None => None,
        Some(word) => {
            let known = EFFORTS.iter().find(|known| **known == word);
            let expected = format!("one of {}", EFFORTS.join(", "));
            Some(*known.ok_or_else(|| wrong(&effort_path, &word.into(), &expected))?)
        }
    };
    let format = take_format(&mut config, "format", ignored)?;
    if let (Some(_), Some(format)) = (&older, &format) {
        let problem = "expected it once only, and output_format is another";
        return Err(BadRequest::field(&format.param, problem));
    }
    ignored.extend(config.rest());
    let effort = effort.map(|what| Wish { what, param: Some("output_config.effort") });
    Ok((effort, format.or(older)))
}

fn take_format(
    fields: &mut Fields,
    name: &str,
    ignored: &mut Paths,
) -> Result<Option<ConstraintAsk>, BadRequest> {
    let Some(mut format) = fields.object(name)? else { return Ok(None) };
    let kind_path = format.path("type");
    let kind = format.take("type").unwrap_or(Value::Null);
    if kind != "json_schema" {
        let why = format!("{}: expected \"json_schema\"", shown(&kind));
        return Err(BadRequest::unsupported(&kind_path, &why));
    }
    let param = format.path("schema");
    let schema = match format.take("schema") {
        Some(schema @ Value::Object(_)) => schema,
        Some(other) => return Err(wrong(&param, &other, "a JSON schema")),
        None => return Err(missing(&param, "a JSON schema")),
    };
    ignored.extend(format.rest());
    Ok(Some(ConstraintAsk { grammar: Grammar::JsonSchema(schema), param }))
}

/// A word that asks for what is done anyway.
fn check_word(fields: &mut Fields, name: &str, words: &[&str]) -> Result<(), BadRequest> {
    match fields.text(name)? {
        Some(word) if !words.contains(&word.as_str()) => {
            let why = format!("{}: expected {}", shown(&word.into()), words.join(" or "));
            Err(BadRequest::unsupported(name, &why))
        }
        _ => Ok(()),
    }
}

/// Strings at which the answer ends. Empty ones would stop at once; they are refused.
fn take_stop(fields: &mut Fields) -> Result<Vec<String>, BadRequest> {
    let list = fields.list("stop_sequences")?.unwrap_or_default();
    if list.len() > MAX_STOP_STRINGS {
        let problem = format!("{} strings: expected at most {MAX_STOP_STRINGS}", list.len());
        return Err(BadRequest::field("stop_sequences", &problem));
    }
    let read = |(stop_idx, value): (usize, Value)| match value {
        Value::String(text) if (1..=MAX_STOP_BYTES).contains(&text.len()) => Ok(text),
        other => {
            let expected = format!("a string of 1 to {MAX_STOP_BYTES} bytes");
            Err(wrong(&format!("stop_sequences[{stop_idx}]"), &other, &expected))
        }
    };
    list.into_iter().enumerate().map(read).collect()
}
