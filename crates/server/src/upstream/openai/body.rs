//! The body of a request for chat completions.

use crate::dialects::openai::custom;
use crate::dialects::{
    Call, ConstraintAsk, CustomAsk, Delivery, Prompts, SamplingAsk, Thinking, ToolsAsk,
};
use crate::errors::BadRequest;
use crate::upstream::body::{Asked, MadeCall, Turn, number, refused, set};
use broker::UpstreamKind::OpenAi;
use engine::{ChatEnd, Grammar, ToolChoice};
use serde_json::{Map, Value, json};

/// What a schema is called, which must have a name.
const SCHEMA_NAME: &str = "answer";
/// The variable of templates that OpenAI has as a field.
const EFFORT: &str = "reasoning_effort";

/// What `model` is asked.
///
/// # Errors
/// The first field that cannot be said.
pub(in crate::upstream) fn body(
    call: &Call,
    model: &str,
    turns: Vec<Turn>,
    asked: &mut Asked,
) -> Result<Map<String, Value>, BadRequest> {
    let mut body = Map::new();
    set(&mut body, "model", Some(model));
    let messages = turns.into_iter().map(|turn| message(turn, call.tools.as_ref()));
    set(&mut body, "messages", Some(messages.collect::<Vec<Value>>()));
    if call.delivery == Delivery::Stream {
        set(&mut body, "stream", Some(true));
        set(&mut body, "stream_options", Some(json!({"include_usage": true})));
    }
    set(&mut body, "n", Some(call.n_per_prompt).filter(|n| *n > 1));
    set(&mut body, "max_completion_tokens", call.max_tokens);
    set(&mut body, "stop", Some(call.stop.clone()).filter(|stop| !stop.is_empty()));
    sampling(&call.sampling, &mut body)?;
    if let Some(n_top) = call.logprobs {
        set(&mut body, "logprobs", Some(true));
        set(&mut body, "top_logprobs", Some(n_top).filter(|n_top| *n_top > 0));
    }
    set(&mut body, "response_format", call.constraint.as_ref().map(format).transpose()?);
    if let Some(tools) = &call.tools {
        set(&mut body, "tools", Some(definitions(tools)));
        set(&mut body, "tool_choice", Some(choice(tools)));
        let several = Some(false).filter(|_| !tools.is_parallel);
        set(&mut body, "parallel_tool_calls", several);
    }
    set(&mut body, EFFORT, effort(call, asked)?);
    Ok(body)
}

fn message(turn: Turn, tools: Option<&ToolsAsk>) -> Value {
    let with_name = |role: &str, text: String, name: Option<String>| {
        let mut message = Map::new();
        set(&mut message, "role", Some(role));
        set(&mut message, "content", Some(text));
        set(&mut message, "name", name);
        message
    };
    Value::Object(match turn {
        Turn::System { text, name } => with_name("system", text, name),
        Turn::User { text, name } => with_name("user", text, name),
        Turn::Assistant { text, name, calls } => {
            let mut message = with_name("assistant", text, name);
            let calls: Vec<Value> = calls.into_iter().map(|call| made(call, tools)).collect();
            set(&mut message, "tool_calls", Some(calls).filter(|calls| !calls.is_empty()));
            message
        }
        Turn::Tool { id, text } => {
            let mut message = with_name("tool", text, None);
            set(&mut message, "tool_call_id", Some(id));
            message
        }
    })
}

/// A call that was made: one with a text, where such a tool is offered.
fn made(call: MadeCall, tools: Option<&ToolsAsk>) -> Value {
    let MadeCall { id, name, arguments } = call;
    if tools.is_some_and(|tools| tools.custom(&name).is_some())
        && let Some(input) = custom::text_of(&arguments)
    {
        return json!({"id": id, "type": "custom", "custom": {"name": name, "input": input}});
    }
    let arguments = match arguments {
        Value::String(text) => text,
        object => object.to_string(),
    };
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn sampling(asked: &SamplingAsk, body: &mut Map<String, Value>) -> Result<(), BadRequest> {
    if asked.top_k.is_some_and(|top_k| top_k > 0) {
        return Err(refused("top_k", OpenAi));
    }
    let numbers = [
        ("temperature", asked.temperature),
        ("top_p", asked.top_p),
        ("presence_penalty", asked.presence_penalty),
        ("frequency_penalty", asked.frequency_penalty),
    ];
    for (name, value) in numbers {
        set(body, name, value.map(number));
    }
    // Seeds are of 64 bits with a sign there.
    set(body, "seed", asked.seed.map(|seed| seed as i64));
    if !asked.logit_bias.is_empty() {
        let biases = asked.logit_bias.iter();
        let biases: Map<String, Value> =
            biases.map(|(id, bias)| (id.to_string(), number(*bias))).collect();
        set(body, "logit_bias", Some(biases));
    }
    Ok(())
}

fn format(ask: &ConstraintAsk) -> Result<Value, BadRequest> {
    match &ask.grammar {
        Grammar::JsonObject => Ok(json!({"type": "json_object"})),
        Grammar::JsonSchema(schema) => {
            let named = json!({"name": SCHEMA_NAME, "schema": schema, "strict": true});
            Ok(json!({"type": "json_schema", "json_schema": named}))
        }
        _ => Err(refused(&ask.param, OpenAi)),
    }
}

fn definitions(tools: &ToolsAsk) -> Value {
    let definition = |definition: &Value| {
        let function = &definition["function"];
        match function["name"].as_str().and_then(|name| tools.custom(name)) {
            None => function_of(tools, definition),
            Some(custom) => with_text(custom, function["description"].as_str()),
        }
    };
    tools.definitions.as_array().into_iter().flatten().map(definition).collect()
}

/// A tool with arguments, held to its schema there too where that was asked.
fn function_of(tools: &ToolsAsk, definition: &Value) -> Value {
    let mut told = definition.clone();
    let function = &mut told["function"];
    if let Some(strict) = tools.is_strict(&function["name"]) {
        function["strict"] = strict.into();
        // Vendors want it said where a schema is to be kept to, of none too.
        if function["parameters"] == json!({"type": "object", "properties": {}}) {
            function["parameters"]["additionalProperties"] = false.into();
        }
    }
    told
}

/// A tool that takes a text.
fn with_text(custom: &CustomAsk, description: Option<&str>) -> Value {
    let format = match custom::grammar(custom) {
        None => json!({"type": "text"}),
        Some((syntax, definition)) => {
            let grammar = json!({"syntax": syntax, "definition": definition});
            json!({"type": "grammar", "grammar": grammar})
        }
    };
    let mut told = Map::new();
    set(&mut told, "name", Some(&*custom.name));
    set(&mut told, "description", description.filter(|text| !text.is_empty()));
    set(&mut told, "format", Some(format));
    json!({"type": "custom", "custom": told})
}

fn choice(tools: &ToolsAsk) -> Value {
    let named = |name: &str| match tools.custom(name) {
        None => json!({"type": "function", "function": {"name": name}}),
        Some(_) => json!({"type": "custom", "custom": {"name": name}}),
    };
    let is_all = tools.definitions.as_array().map(Vec::len) == Some(tools.callable.len());
    match (tools.choice, &tools.callable[..]) {
        (ToolChoice::None, _) => "none".into(),
        (ToolChoice::Auto, _) if is_all => "auto".into(),
        (ToolChoice::Required, _) if is_all => "required".into(),
        (ToolChoice::Required, [only]) => named(&only.tool.name),
        (choice, some) => {
            let mode = if choice == ToolChoice::Required { "required" } else { "auto" };
            let some: Vec<Value> = some.iter().map(|ask| named(&ask.tool.name)).collect();
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": some}})
        }
    }
}

/// How hard to think, in one word; wishes that there is no word for are told.
fn effort(call: &Call, asked: &mut Asked) -> Result<Option<Value>, BadRequest> {
    if call.reasoning_budget.is_some() {
        return Err(refused("thinking_token_budget", OpenAi));
    }
    let mut effort = None;
    if let Prompts::Chat { kwargs, end, .. } = &call.prompts {
        if *end == ChatEnd::Continue {
            let why = "a last message of the assistant's, which it would answer, not continue";
            return Err(BadRequest::unsupported("messages", why));
        }
        if let Some(name) = kwargs.keys().find(|name| *name != EFFORT) {
            let name = crate::dialects::fields::short(name);
            return Err(refused(&format!("chat_template_kwargs.{name}"), OpenAi));
        }
        effort = kwargs.get(EFFORT).cloned();
    }
    let wishes = &call.wishes;
    // Where no effort was asked for, there is a word for that.
    let off = wishes.thinking.filter(|wish| wish.what == Thinking::Off);
    let is_none = off.and_then(|wish| wish.param).is_some_and(|param| param.ends_with("effort"));
    let thinking = wishes.thinking.filter(|wish| wish.what != Thinking::Free && !is_none);
    let vain = [thinking.and_then(|wish| wish.param), wishes.budget.and_then(|wish| wish.param)];
    // One field may state several.
    let told = wishes.effort.and_then(|wish| wish.param);
    let vain = vain.into_iter().flatten().filter(|param| Some(*param) != told);
    asked.ignored.extend(vain.map(str::to_owned));
    let word = wishes.effort.map(|wish| match wish.what {
        "max" => {
            asked.adapted.push("effort");
            "xhigh"
        }
        word => word,
    });
    Ok(effort.or(word.or(is_none.then_some("none")).map(Value::from)))
}
