//! The body of a request for messages.

use crate::dialects::{Call, ConstraintAsk, Delivery, Prompts, SamplingAsk, Thinking, ToolsAsk};
use crate::errors::BadRequest;
use crate::upstream::body::{Asked, MadeCall, Turn, number, refused, set};
use broker::UpstreamKind::Anthropic;
use engine::{Grammar, ToolChoice};
use serde_json::{Map, Value, json};

/// The version of the API, which every request names.
pub(in crate::upstream) const VERSION: &str = "2023-06-01";
/// Tokens that an answer may have where the request does not say: there it must.
const MAX_TOKENS: u32 = 8192;
/// The variable of templates that says how hard to think.
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
    let refusals = [
        ("n", call.n_per_prompt > 1),
        ("logprobs", call.logprobs.is_some()),
        ("seed", call.sampling.seed.is_some()),
        ("logit_bias", !call.sampling.logit_bias.is_empty()),
    ];
    if let Some((param, _)) = refusals.iter().find(|(_, is_asked)| *is_asked) {
        return Err(refused(param, Anthropic));
    }
    let mut body = Map::new();
    set(&mut body, "model", Some(model));
    if call.max_tokens.is_none() {
        asked.adapted.push("max-tokens");
    }
    set(&mut body, "max_tokens", call.max_tokens.or(Some(MAX_TOKENS)));
    let (system, messages) = conversation(turns, asked)?;
    set(&mut body, "system", Some(system).filter(|system| !system.is_empty()));
    set(&mut body, "messages", Some(messages));
    set(&mut body, "stream", Some(true).filter(|_| call.delivery == Delivery::Stream));
    set(&mut body, "stop_sequences", Some(call.stop.clone()).filter(|stop| !stop.is_empty()));
    sampling(&call.sampling, &mut body)?;
    if let Some(tools) = &call.tools {
        texts(tools, asked)?;
        set(&mut body, "tools", Some(definitions(tools)));
        set(&mut body, "tool_choice", Some(choice(tools)?));
    }
    let mut output = Map::new();
    reasoning(call, &mut body, &mut output, asked)?;
    set(&mut output, "format", call.constraint.as_ref().map(format).transpose()?);
    set(&mut body, "output_config", Some(output).filter(|output| !output.is_empty()));
    Ok(body)
}

/// The system's text, and the messages: results of calls stand in turns of the user's, and turns of
/// one role that follow each other are one.
fn conversation(turns: Vec<Turn>, asked: &mut Asked) -> Result<(String, Vec<Value>), BadRequest> {
    let mut system = Vec::new();
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for (message_idx, turn) in turns.into_iter().enumerate() {
        let (role, name, blocks) = match turn {
            Turn::System { text, name } if messages.is_empty() => {
                system.push(text);
                ("system", name, Vec::new())
            }
            Turn::System { text, name } => ("system", name, vec![text_block(text)]),
            Turn::User { text, name } => ("user", name, vec![text_block(text)]),
            Turn::Tool { id, text } => {
                let result = json!({"type": "tool_result", "tool_use_id": id, "content": text});
                ("user", None, vec![result])
            }
            Turn::Assistant { text, name, calls } => {
                let mut blocks = Vec::new();
                if !text.is_empty() {
                    blocks.push(text_block(text));
                }
                for call in calls {
                    blocks.push(made(call, message_idx)?);
                }
                ("assistant", name, blocks)
            }
        };
        if name.is_some() {
            asked.unused.push((message_idx, "name"));
        }
        match messages.last_mut() {
            _ if blocks.is_empty() => {}
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    let message = |(role, blocks)| json!({"role": role, "content": Value::Array(blocks)});
    Ok((system.join("\n\n"), messages.into_iter().map(message).collect()))
}

fn text_block(text: String) -> Value {
    json!({"type": "text", "text": text})
}

fn made(call: MadeCall, message_idx: usize) -> Result<Value, BadRequest> {
    let MadeCall { id, name, arguments } = call;
    if !arguments.is_object() {
        let path = format!("messages[{message_idx}].tool_calls");
        let problem = format!("the arguments of {name}: expected a JSON object");
        return Err(BadRequest::field(&path, &problem));
    }
    Ok(json!({"type": "tool_use", "id": id, "name": name, "input": arguments}))
}

fn sampling(asked: &SamplingAsk, body: &mut Map<String, Value>) -> Result<(), BadRequest> {
    let is_on = |value: Option<f32>| value.is_some_and(|value| value != 0.0);
    if is_on(asked.presence_penalty) {
        return Err(refused("presence_penalty", Anthropic));
    }
    if is_on(asked.frequency_penalty) {
        return Err(refused("frequency_penalty", Anthropic));
    }
    if let Some(temperature) = asked.temperature.filter(|temperature| *temperature > 1.0) {
        let kind = Anthropic.name();
        let why = format!("{temperature}: an upstream of kind {kind:?} takes at most 1");
        return Err(BadRequest::unsupported("temperature", &why));
    }
    set(body, "temperature", asked.temperature.map(number));
    set(body, "top_p", asked.top_p.map(number));
    set(body, "top_k", asked.top_k.filter(|top_k| *top_k > 0));
    Ok(())
}

/// A tool that takes a text is one of an argument there, where nothing holds it to a grammar.
fn texts(tools: &ToolsAsk, asked: &mut Asked) -> Result<(), BadRequest> {
    if let Some(ask) = tools.custom.iter().find_map(|custom| custom.text.as_ref()) {
        return Err(refused(&ask.param, Anthropic));
    }
    if !tools.custom.is_empty() {
        asked.adapted.push("custom-tools");
    }
    Ok(())
}

fn definitions(tools: &ToolsAsk) -> Value {
    let tool = |tool: &Value| {
        let function = &tool["function"];
        let mut told = Map::new();
        set(&mut told, "name", Some(function["name"].clone()));
        let description = function["description"].as_str().filter(|text| !text.is_empty());
        set(&mut told, "description", description);
        set(&mut told, "input_schema", Some(function["parameters"].clone()));
        set(&mut told, "strict", tools.is_strict(&function["name"]));
        Value::Object(told)
    };
    tools.definitions.as_array().into_iter().flatten().map(tool).collect()
}

fn choice(tools: &ToolsAsk) -> Result<Value, BadRequest> {
    let is_all = tools.definitions.as_array().map(Vec::len) == Some(tools.callable.len());
    let mut choice = match (tools.choice, &tools.callable[..]) {
        (ToolChoice::None, _) => return Ok(json!({"type": "none"})),
        (ToolChoice::Auto, _) if is_all => json!({"type": "auto"}),
        (ToolChoice::Required, _) if is_all => json!({"type": "any"}),
        (ToolChoice::Required, [only]) => json!({"type": "tool", "name": only.tool.name}),
        _ => return Err(refused("tool_choice", Anthropic)),
    };
    if !tools.is_parallel {
        choice["disable_parallel_tool_use"] = true.into();
    }
    Ok(choice)
}

fn format(ask: &ConstraintAsk) -> Result<Value, BadRequest> {
    match &ask.grammar {
        Grammar::JsonSchema(schema) => Ok(json!({"type": "json_schema", "schema": schema})),
        _ => Err(refused(&ask.param, Anthropic)),
    }
}

/// Whether to think, how much and how hard.
fn reasoning(
    call: &Call,
    body: &mut Map<String, Value>,
    output: &mut Map<String, Value>,
    asked: &mut Asked,
) -> Result<(), BadRequest> {
    let wishes = &call.wishes;
    let mut thinking = match wishes.thinking {
        Some(wish) if wish.what == Thinking::Off => {
            // Where nobody says so it is what an answer is without.
            wish.param.map(|_| json!({"type": "disabled"}))
        }
        Some(_) => Some(json!({"type": "adaptive"})),
        None => None,
    };
    if let Some(n) = wishes.budget.map(|wish| wish.what).or(call.reasoning_budget) {
        thinking = Some(match n {
            0 => json!({"type": "disabled"}),
            n => json!({"type": "enabled", "budget_tokens": n}),
        });
    }
    let mut effort = wishes.effort.map(|wish| wish.what.to_owned());
    if let Prompts::Chat { kwargs, .. } = &call.prompts {
        if let Some(name) = kwargs.keys().find(|name| *name != EFFORT) {
            let name = crate::dialects::fields::short(name);
            return Err(refused(&format!("chat_template_kwargs.{name}"), Anthropic));
        }
        effort = kwargs.get(EFFORT).and_then(Value::as_str).map(str::to_owned).or(effort);
    }
    match effort.as_deref() {
        Some("none") => thinking = Some(json!({"type": "disabled"})),
        Some("minimal") => {
            asked.adapted.push("effort");
            set(output, "effort", Some("low"));
        }
        effort => set(output, "effort", effort),
    }
    set(body, "thinking", thinking);
    Ok(())
}
