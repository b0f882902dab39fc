//! `POST /v1/responses` and `POST /v1/responses/input_tokens`: their request, which is the same.
//! The answer is in `reply`, what is kept of it in `stored`.
//!
//! A parameter is honoured, or refused with a 400 that names it. Agents send fields and tools that
//! nobody has heard of; those have no effect, and the response lists them in `x-freehold-ignored`.

mod ids;
mod items;
mod reply;
mod stored;
#[cfg(test)]
mod tests;
mod tools;

pub(crate) use stored::{ITEMS_QUERY, deleted_body, is_background, items_body};

use super::constraint::take_schema;
use super::settings::{effort as wished, take_priority, take_seed, take_stop};
use super::to_json;
use crate::dialects::declared::{Field, NO_END};
use crate::dialects::fields::{Fields, short, shown, wrong};
use crate::dialects::{
    Answer, Call, ConstraintAsk, Delivery, Dialect, Family, Overlong, Paths, Prompts, SamplingAsk,
    Terms, Wishes,
};
use crate::errors::BadRequest;
use crate::kept::Own;
use crate::limits::Limits;
use engine::{ChatEnd, Grammar, MAX_LOGPROBS, Priority};
use items::Conversation;
use reply::ResponseReply;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tools::Namespaced;

/// What becomes of the fields that both routes know; of any other the response tells.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("model").text().note("without it: the first model that writes text"),
    Field::honoured("input").shape(INPUT).good(r#"[{"role":"user","content":"Hi"}]"#).note(
        "`[]` only beside `previous_response_id`; items of tools that only a vendor runs, \
             which say nothing to another model (as `web_search_call`), are left out and told",
    ),
    Field::honoured("instructions").text().good(r#""Be brief.""#),
    Field::honoured("previous_response_id").text().note("only with `--keep-responses`"),
    Field::honoured("store").flag().good("false").note("`true` only with `--keep-responses`"),
    Field::honoured("stream").flag(),
    Field::honoured("background")
        .flag()
        .good("false")
        .note("`true` only with `--keep-responses`: for as long as that, where nobody asks for it"),
    Field::honoured("max_output_tokens").count(1),
    Field::honoured("max_tool_calls").count(1).note("of the vendor's own tools: there are none"),
    Field::honoured("temperature").number(0.0, 2.0),
    Field::honoured("top_p").number(0.0, 1.0),
    Field::honoured("top_logprobs").integer(0, MAX_LOGPROBS as i64),
    Field::honoured("include").shape(TEXTS).good(r#"["message.output_text.logprobs"]"#),
    Field::honoured("text").shape(TEXT).good(r#"{"format":{"type":"json_object"}}"#),
    Field::adapted("reasoning")
        .shape(REASONING_SHAPE)
        .good(r#"{"effort":"low"}"#)
        .note("as far as the model's template can do it"),
    Field::adapted("tools").shape(TOOLS).good(TOOL).note(
        "functions and `custom` tools, also in namespaces; tools that only a vendor runs are \
             left out and told. The grammars of `custom` tools, `regex` and `lark`, are enforced. \
             What of a schema cannot be enforced is told, or refused where the tool is `strict`",
    ),
    Field::honoured("tool_choice").shape(TOOL_CHOICE).good(r#""none""#).beside(BESIDE_TOOL),
    Field::honoured("parallel_tool_calls").flag(),
    Field::honoured("truncation")
        .words(&["disabled", "auto"])
        .note("`auto` leaves out the oldest turns of what is too long, and tells it"),
    Field::honoured("service_tier")
        .words(&["auto", "default", "fast", "priority", "flex"])
        .note("`flex` lets others go first"),
    Field::honoured("metadata").shape(METADATA).good(r#"{"a":"b"}"#),
    // No fields of OpenAI's: those of its chat completions, and names that other servers have.
    Field::honoured("seed").integer(i64::MIN, NO_END),
    Field::honoured("stop").shape(STOP).good(r#"["END"]"#),
    Field::honoured("top_k").count(0),
    Field::honoured("min_p").number(0.0, 1.0),
    // Labels for the vendor's books, hints at what its cache is to keep (here whatever prompts have
    // in common is kept), and padding against whoever watches its lines.
    Field::tolerated("client_metadata"),
    Field::tolerated("prompt_cache_key"),
    Field::tolerated("prompt_cache_options"),
    Field::tolerated("prompt_cache_retention"),
    Field::tolerated("safety_identifier"),
    Field::tolerated("stream_options"),
    Field::tolerated("user"),
    Field::ignored("access_programs"),
    Field::ignored("background_options"),
    Field::ignored("context_management").note("a conversation that is too long is refused"),
    Field::ignored("image"),
    Field::ignored("personality").note("of the route that counts"),
    Field::refused("conversation", "this server has \"previous_response_id\" instead"),
    Field::refused("moderation", "this server has no model that moderates"),
    Field::refused("prompt", "this server keeps no prompts; send its text as \"input\""),
];

const INPUT: &str = r#"{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"object"}}]}"#;
const TEXTS: &str = r#"{"type":"array","items":{"type":"string"}}"#;
const TEXT: &str =
    r#"{"type":"object","properties":{"format":{"type":["object","null"]},"verbosity":{}}}"#;
const REASONING_SHAPE: &str = r#"{"type":"object","properties":{"effort":{"enum":["none","minimal","low","medium","high","xhigh","max",null]},"summary":{"enum":["auto","concise","detailed",null]}}}"#;
const TOOLS: &str = r#"{"type":"array","items":{"type":"object","properties":{"type":{"type":"string"}},"required":["type"]}}"#;
const TOOL: &str =
    r#"[{"type":"function","name":"now","parameters":{"type":"object","properties":{}}}]"#;
const BESIDE_TOOL: &str = r#"{"tools":[{"type":"function","name":"now","parameters":{"type":"object","properties":{}}}]}"#;
const TOOL_CHOICE: &str = r#"{"anyOf":[{"enum":["none","auto","required"]},{"type":"object","properties":{"type":{"type":"string"}},"required":["type"]}]}"#;
pub(super) const METADATA: &str = r#"{"type":"object","additionalProperties":{"type":"string"}}"#;
const STOP: &str = r#"{"anyOf":[{"type":"string","minLength":1},{"type":"array","items":{"type":"string","minLength":1}}]}"#;

/// What `include` can ask for: log-probabilities, trains of thought in a form that comes back, and
/// what tools of the vendor's found, of which there is nothing.
const LOGPROBS: &str = "message.output_text.logprobs";
const REASONING: &str = "reasoning.encrypted_content";
const INCLUDABLE: &[&str] = &[
    LOGPROBS,
    REASONING,
    "code_interpreter_call.outputs",
    "computer_call_output.output.image_url",
    "file_search_call.results",
    "message.input_image.image_url",
    "web_search_call.action.sources",
    "web_search_call.results",
];

/// Bounds of `metadata` (OpenAI's), which comes back with every response.
const N_METADATA: usize = 16;
const N_KEY_CHARS: usize = 64;
const N_VALUE_CHARS: usize = 512;

/// A request that was understood in full.
#[derive(Debug, Clone)]
pub struct ResponseRequest {
    /// What it asks of the model. Where it refers to what is kept, its messages are there only once
    /// that was brought in.
    pub call: Call,
    told: Told,
    /// Whether its client asks for the answer later, and whether it gets it as it comes.
    is_background: bool,
    is_streamed: bool,
    /// Whether log-probabilities and encrypted trains of thought are in the answer.
    includes_logprobs: bool,
    includes_reasoning: bool,
    namespaced: Namespaced,
    /// Its own items, where they wait for what they refer to.
    waiting: Vec<Value>,
    /// The same as they are to be kept, where they are.
    kept: String,
    /// Most bytes that are kept.
    n_kept_bytes: usize,
    /// Of each of the call's messages, its fields' places in the request.
    places: Vec<Vec<(&'static str, String)>>,
    /// Paths of what has no effect.
    ignored: Paths,
}

/// What of the request the response tells, for as long as the answer takes: of nested objects what
/// is known of them, and as text, since trees are many times as large.
#[derive(Debug, Clone, Serialize)]
struct Told {
    instructions: Option<String>,
    max_output_tokens: Option<u32>,
    max_tool_calls: Option<u32>,
    metadata: BTreeMap<String, String>,
    parallel_tool_calls: bool,
    previous_response_id: Option<String>,
    reasoning: ToldReasoning,
    service_tier: &'static str,
    store: bool,
    text: Box<RawValue>,
    tool_choice: Box<RawValue>,
    tools: Box<RawValue>,
    top_logprobs: u32,
    truncation: &'static str,
}

#[derive(Debug, Clone, Default, Serialize)]
struct ToldReasoning {
    effort: Option<&'static str>,
    summary: Option<String>,
}

/// The route that answers.
pub(crate) struct Responses;

impl Dialect for Responses {
    type Request = ResponseRequest;
    type Reply = ResponseReply;
    const FAMILY: Family = Family::OpenAi;
    const CONVERSATION: &str = "input";
    const TRUNCATION: &str = "truncation";

    fn parse(body: &[u8], limits: &Limits) -> Result<ResponseRequest, BadRequest> {
        parse(body, limits)
    }

    fn recall(
        request: &mut ResponseRequest,
        own: Own<'_>,
        limits: &Limits,
    ) -> Result<(), BadRequest> {
        stored::recall(request, own, limits)
    }

    fn call(request: &ResponseRequest) -> &Call {
        &request.call
    }

    fn reply(request: ResponseRequest, answer: Answer, _prompts: &[Vec<u32>]) -> ResponseReply {
        ResponseReply::new(request, answer)
    }

    fn take_ignored(request: &mut ResponseRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn terms(request: &ResponseRequest) -> Terms {
        let overlong = match request.told.truncation {
            "auto" => Overlong::Truncate,
            _ => Overlong::Refuse,
        };
        Terms { overlong, ..Terms::default() }
    }

    fn place(request: &ResponseRequest, message_idx: usize, field: &str) -> String {
        items::place(request.places.get(message_idx).map_or(&[], Vec::as_slice), field)
    }
}

/// The route that counts the tokens of the prompt, which is made in the same way.
pub(crate) struct CountInput;

impl Dialect for CountInput {
    type Request = ResponseRequest;
    type Reply = ResponseReply;
    const FAMILY: Family = Family::OpenAi;
    const CONVERSATION: &str = Responses::CONVERSATION;
    const TRUNCATION: &str = Responses::TRUNCATION;

    fn parse(body: &[u8], limits: &Limits) -> Result<ResponseRequest, BadRequest> {
        parse_count(body, limits)
    }

    fn recall(
        request: &mut ResponseRequest,
        own: Own<'_>,
        limits: &Limits,
    ) -> Result<(), BadRequest> {
        Responses::recall(request, own, limits)
    }

    fn call(request: &ResponseRequest) -> &Call {
        Responses::call(request)
    }

    fn reply(request: ResponseRequest, answer: Answer, prompts: &[Vec<u32>]) -> ResponseReply {
        Responses::reply(request, answer, prompts)
    }

    fn take_ignored(request: &mut ResponseRequest) -> Paths {
        Responses::take_ignored(request)
    }

    fn terms(request: &ResponseRequest) -> Terms {
        Responses::terms(request)
    }

    fn place(request: &ResponseRequest, message_idx: usize, field: &str) -> String {
        Responses::place(request, message_idx, field)
    }
}

pub(super) fn parse_count(body: &[u8], limits: &Limits) -> Result<ResponseRequest, BadRequest> {
    let mut request = parse(body, limits)?;
    request.call.delivery = Delivery::Count;
    Ok(request)
}

pub(super) fn parse(body: &[u8], limits: &Limits) -> Result<ResponseRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(FIELDS)?.into_iter().collect();
    let (store, previous_response_id) = stored::take(&mut fields, limits)?;
    let way @ Way { is_background, is_streamed } = take_way(&mut fields, store, limits)?;
    let include = take_include(&mut fields, &mut ignored)?;
    let n_top = fields.integer("top_logprobs", 0..=i64::from(MAX_LOGPROBS))?;
    let includes_logprobs = include.contains(&LOGPROBS) || n_top.is_some_and(|n_top| n_top > 0);
    let top_logprobs = n_top.unwrap_or(0) as u32;
    let (wishes, reasoning) = take_reasoning(&mut fields, &mut ignored)?;
    let (text, constraint) = take_text(&mut fields, &mut ignored)?;
    let tools = tools::take(&mut fields, &mut ignored)?;
    let priority = take_priority(&mut fields)?;
    let told = Told {
        instructions: fields.text("instructions")?,
        max_output_tokens: fields.count("max_output_tokens", 1)?,
        max_tool_calls: fields.count("max_tool_calls", 1)?,
        metadata: take_metadata(&mut fields)?,
        parallel_tool_calls: tools.is_parallel,
        previous_response_id,
        reasoning,
        service_tier: if priority == Priority::Batch { "flex" } else { "default" },
        store,
        text,
        tool_choice: tools.choice,
        tools: tools.told,
        top_logprobs,
        truncation: take_truncation(&mut fields)?,
    };
    let call = Call {
        model: fields.text("model")?,
        prompts: Prompts::Plain(Vec::new()),
        n_per_prompt: 1,
        max_tokens: told.max_output_tokens,
        sampling: take_sampling(&mut fields)?,
        stop: take_stop(&mut fields)?,
        ignore_eos: false,
        banned: Vec::new(),
        min_tokens: 0,
        stop_tokens: Vec::new(),
        logprobs: includes_logprobs.then_some(top_logprobs),
        prompt_logprobs: None,
        constraint,
        tools: tools.ask,
        reasoning_budget: None,
        wishes,
        delivery: way.delivery(),
        cache_prompt: true,
        priority,
    };
    let items = items::take(&mut fields)?;
    ignored.extend(fields.rest());
    let mut request = ResponseRequest {
        call,
        told,
        is_background,
        is_streamed,
        includes_logprobs,
        includes_reasoning: include.contains(&REASONING),
        namespaced: tools.namespaced,
        waiting: Vec::new(),
        kept: String::new(),
        n_kept_bytes: limits.n_kept_bytes,
        places: Vec::new(),
        ignored,
    };
    request.begin(items, limits)?;
    Ok(request)
}

impl ResponseRequest {
    /// Takes the request's own items. Those that refer to what is kept wait for it.
    fn begin(&mut self, items: Vec<Value>, limits: &Limits) -> Result<(), BadRequest> {
        let goes_on = self.told.previous_response_id.is_some();
        if items.is_empty() && !goes_on {
            return Err(BadRequest::field("input", "[]: expected at least one item"));
        }
        if stored::check(&items, limits)? || goes_on {
            self.waiting = items;
            return Ok(());
        }
        self.converse(Vec::new(), items)
    }

    /// Makes the conversation: the instructions, what happened before, and the request's own items,
    /// which are written down here where they are kept: trees are many times as large.
    fn converse(&mut self, history: Vec<Value>, items: Vec<Value>) -> Result<(), BadRequest> {
        if self.told.store {
            self.kept = items::known(&items);
        }
        let mut conversation = Conversation::default();
        if let Some(instructions) = &self.told.instructions {
            conversation.system("instructions", instructions);
        }
        // What of it has no effect was told when it came.
        let mut known = Paths::default();
        for item in history {
            conversation.item("previous_response_id", item, &mut known)?;
        }
        for (item_idx, item) in items.into_iter().enumerate() {
            conversation.item(&format!("input[{item_idx}]"), item, &mut self.ignored)?;
        }
        let (messages, places) = conversation.into_parts();
        if places.is_empty() {
            return Err(BadRequest::field("input", "expected at least one item with a text"));
        }
        let kwargs = Map::new();
        self.call.prompts = Prompts::Chat { messages, kwargs, end: ChatEnd::Answer };
        self.places = places;
        Ok(())
    }
}

/// How the answer is to come.
#[derive(Clone, Copy)]
struct Way {
    is_background: bool,
    is_streamed: bool,
}

impl Way {
    /// What is made in the background goes on as a stream does, whether it is one or not.
    fn delivery(self) -> Delivery {
        match self.is_streamed || self.is_background {
            true => Delivery::Stream,
            false => Delivery::Whole,
        }
    }
}

/// Takes how the answer is to come, which is of all that was sent.
fn take_way(fields: &mut Fields, store: bool, limits: &Limits) -> Result<Way, BadRequest> {
    let is_background = stored::take_background(fields, store, limits)?;
    Ok(Way { is_background, is_streamed: fields.flag("stream")? == Some(true) })
}

/// What becomes of a conversation that is too long.
fn take_truncation(fields: &mut Fields) -> Result<&'static str, BadRequest> {
    match fields.text("truncation")?.as_deref() {
        None | Some("disabled") => Ok("disabled"),
        Some("auto") => Ok("auto"),
        Some(other) => Err(wrong("truncation", &other.into(), "\"auto\" or \"disabled\"")),
    }
}

fn take_sampling(fields: &mut Fields) -> Result<SamplingAsk, BadRequest> {
    Ok(SamplingAsk {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        top_k: fields.count("top_k", 0)?,
        // 0 keeps the likeliest token only, as the smallest positive number does.
        top_p: fields.number("top_p", 0.0..=1.0)?.map(|p| p.max(f32::MIN_POSITIVE)),
        min_p: fields.number("min_p", 0.0..=1.0)?,
        seed: take_seed(fields)?,
        ..SamplingAsk::default()
    })
}

/// What the answer is to hold beside; of what is not known the response tells.
fn take_include(fields: &mut Fields, ignored: &mut Paths) -> Result<Vec<&'static str>, BadRequest> {
    let mut include = Vec::new();
    for (idx, value) in fields.list("include")?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("include[{idx}]");
        let Value::String(word) = &value else { return Err(wrong(&path, &value, "a string")) };
        match INCLUDABLE.iter().find(|known| **known == word) {
            Some(known) => include.push(*known),
            None => ignored.push(path),
        }
    }
    Ok(include)
}

/// `reasoning`: how hard to think, and whether it is told in brief, which this server cannot: it
/// tells all of it there.
fn take_reasoning(
    fields: &mut Fields,
    ignored: &mut Paths,
) -> Result<(Wishes, ToldReasoning), BadRequest> {
    const EFFORTS: &[&str] = &["none", "minimal", "low", "medium", "high", "xhigh", "max"];
    const SUMMARIES: &[&str] = &["auto", "concise", "detailed"];
    let Some(mut reasoning) = fields.object("reasoning")? else {
        return Ok((Wishes::default(), ToldReasoning::default()));
    };
    let effort = match reasoning.text("effort")? {
        None => None,
        Some(word) => {
            let known = EFFORTS.iter().find(|known| **known == word);
            let expected = format!("one of {}", EFFORTS.join(", "));
            let wrong = || wrong(&reasoning.path("effort"), &word.as_str().into(), &expected);
            Some(*known.ok_or_else(wrong)?)
        }
    };
    let mut summary = None;
    // The second is the older name.
    for name in ["summary", "generate_summary"] {
        let path = reasoning.path(name);
        let Some(word) = reasoning.text(name)? else { continue };
        if !SUMMARIES.contains(&word.as_str()) {
            return Err(wrong(&path, &word.into(), &format!("one of {}", SUMMARIES.join(", "))));
        }
        ignored.push(path);
        summary.get_or_insert(word);
    }
    ignored.extend(reasoning.rest());
    let wishes = effort.map_or_else(Wishes::default, |word| wished(word, "reasoning.effort"));
    Ok((wishes, ToldReasoning { effort, summary }))
}

/// What is told, as text.
fn told(body: &impl Serialize) -> Box<RawValue> {
    RawValue::from_string(to_json(body)).expect("it was written as JSON")
}

/// What is known of a format.
fn told_format(format: &Value) -> Box<RawValue> {
    let known: &[&str] = match format["type"].as_str() {
        Some("json_schema") => &["type", "name", "description", "schema", "strict"],
        _ => &["type"],
    };
    let field = |name: &&'static str| Some((*name, format.get(*name)?));
    let format: BTreeMap<&str, &Value> = known.iter().filter_map(field).collect();
    told(&BTreeMap::from([("format", format)]))
}

/// `text`: what the answer must look like, as the response tells it and as a constraint.
fn take_text(
    fields: &mut Fields,
    ignored: &mut Paths,
) -> Result<(Box<RawValue>, Option<ConstraintAsk>), BadRequest> {
    let plain = || told_format(&json!({"type": "text"}));
    let Some(mut text) = fields.object("text")? else { return Ok((plain(), None)) };
    let verbosity_path = text.path("verbosity");
    if text.text("verbosity")?.is_some() {
        ignored.push(verbosity_path);
    }
    let format_path = text.path("format");
    let format = text.take("format");
    ignored.extend(text.rest());
    let Some(format) = format else { return Ok((plain(), None)) };
    let told = told_format(&format);
    let mut format = Fields::of(&format_path, format)?;
    let param = format.path("type");
    let ask = match format.take("type") {
        Some(kind) if kind == "text" => None,
        Some(kind) if kind == "json_object" => {
            Some(ConstraintAsk { grammar: Grammar::JsonObject, param })
        }
        Some(kind) if kind == "json_schema" => Some(take_schema(&mut format)?),
        kind => {
            let kind = kind.unwrap_or(Value::Null);
            let expected = "\"text\", \"json_object\" or \"json_schema\"";
            return Err(wrong(&param, &kind, expected));
        }
    };
    ignored.extend(format.rest());
    Ok((told, ask))
}

/// Names of the client's own.
pub(super) fn take_metadata(fields: &mut Fields) -> Result<BTreeMap<String, String>, BadRequest> {
    let Some(metadata) = fields.object("metadata")? else { return Ok(BTreeMap::new()) };
    let map = metadata.into_map();
    if map.len() > N_METADATA {
        let problem = format!("{} names: expected at most {N_METADATA}", map.len());
        return Err(BadRequest::field("metadata", &problem));
    }
    let read = |(name, value): (String, Value)| {
        let path = format!("metadata.{}", short(&name));
        if name.chars().count() > N_KEY_CHARS {
            let problem = format!("expected a name of at most {N_KEY_CHARS} characters");
            return Err(BadRequest::field(&path, &problem));
        }
        match value {
            Value::String(text) if text.chars().count() <= N_VALUE_CHARS => Ok((name, text)),
            other => {
                let expected = format!("a string of at most {N_VALUE_CHARS} characters");
                Err(BadRequest::field(&path, &format!("{}: expected {expected}", shown(&other))))
            }
        }
    };
    map.into_iter().map(read).collect()
}
