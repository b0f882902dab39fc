//! Tools of a chat request: their definitions, and whether and how they may be called.

use crate::dialects::ToolsAsk;
use crate::dialects::fields::{Fields, short, shown, wrong};
use crate::dialects::tools::{self, Read, Schema, distinct};
use crate::errors::BadRequest;
use engine::{Tool, ToolChoice};
use serde_json::Value;

/// Most tools of one request, and most bytes of their names (OpenAI's limits).
const N_TOOLS: usize = 128;
const N_NAME_BYTES: usize = 64;

/// Takes the tools out of `fields`; `None` where there is none to be called or told of.
pub(super) fn take(fields: &mut Fields) -> Result<Option<ToolsAsk>, BadRequest> {
    refuse_function_call(fields)?;
    let is_parallel = fields.flag("parallel_tool_calls")?;
    let choice = take_choice(fields)?;
    let list = fields.list("tools")?.unwrap_or_default();
    if list.len() > N_TOOLS {
        let problem = format!("{} tools: expected at most {N_TOOLS}", list.len());
        return Err(BadRequest::field("tools", &problem));
    }
    let read = |(tool_idx, tool)| read(&format!("tools[{tool_idx}]"), tool);
    let tools = list.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    ask(tools, choice, is_parallel)
}

/// What is asked of tools together, each name once; `None` where there is none to be called or told
/// of.
pub(super) fn ask(
    tools: Vec<Read>,
    choice: Choice,
    is_parallel: Option<bool>,
) -> Result<Option<ToolsAsk>, BadRequest> {
    if tools.is_empty() {
        return match choice {
            Choice { choice: ToolChoice::Required, .. } => {
                let problem = "expected \"tools\" beside it, of which one is to be called";
                Err(BadRequest::field("tool_choice", problem))
            }
            Choice { only: Some(_), .. } => {
                let problem = "expected \"tools\" beside it, which it is a choice of";
                Err(BadRequest::field("tool_choice", problem))
            }
            _ => Ok(None),
        };
    }
    let (mut callable, definitions) = distinct(tools)?;
    if let Some(only) = choice.only {
        for (path, name) in &only {
            if !callable.iter().any(|other| other.tool.name == *name) {
                let problem = format!("{:?}: expected the name of one of the tools", short(name));
                return Err(BadRequest::field(path, &problem));
            }
        }
        callable.retain(|ask| only.iter().any(|(_, name)| ask.tool.name == *name));
    }
    // Clients that name a tool read one call of it, mostly as the form of their answer.
    let is_parallel = is_parallel.unwrap_or(!choice.is_named);
    let choice = choice.choice;
    Ok(Some(ToolsAsk { definitions, callable, choice, is_parallel }))
}

fn read(path: &str, tool: Value) -> Result<Read, BadRequest> {
    let mut fields = Fields::of(path, tool)?;
    take_kind(&mut fields)?;
    let function_path = fields.path("function");
    let Some(mut function) = fields.object("function")? else {
        return Err(BadRequest::field(&function_path, "absent: expected an object"));
    };
    let name = take_name(&mut function)?;
    let read = read_function(&mut function, name)?;
    function.refuse_rest()?;
    fields.refuse_rest()?;
    Ok(read)
}

/// The function of this name, of which the fields tell the rest.
pub(super) fn read_function(function: &mut Fields, name: String) -> Result<Read, BadRequest> {
    let is_strict = function.flag("strict")? == Some(true);
    let mut read = tools::read(function, name, Schema::Optional("parameters"))?;
    read.ask.is_strict = is_strict;
    Ok(read)
}

/// `type`, which is "function".
fn take_kind(fields: &mut Fields) -> Result<(), BadRequest> {
    let path = fields.path("type");
    match fields.take("type") {
        Some(kind) if kind == "function" => Ok(()),
        Some(kind) => {
            let why = format!("{}: this server knows \"function\" only", shown(&kind));
            Err(BadRequest::unsupported(&path, &why))
        }
        None => Err(BadRequest::field(&path, "absent: expected \"function\"")),
    }
}

fn take_name(function: &mut Fields) -> Result<String, BadRequest> {
    let path = function.path("name");
    let name = function.text("name")?;
    let name = name.ok_or_else(|| BadRequest::field(&path, "absent: expected a string"))?;
    if Tool::is_name(&name) && name.len() <= N_NAME_BYTES {
        return Ok(name);
    }
    let expected = "1 to 64 of a-z, A-Z, 0-9, _ and -";
    Err(BadRequest::field(&path, &format!("{:?}: expected {expected}", short(&name))))
}

/// What `tool_choice` says: whether, of which tools (each with its path), and whether it is one
/// that is named.
pub(super) struct Choice {
    pub(super) choice: ToolChoice,
    pub(super) only: Option<Vec<(String, String)>>,
    pub(super) is_named: bool,
}

fn take_choice(fields: &mut Fields) -> Result<Choice, BadRequest> {
    let expected = "\"none\", \"auto\", \"required\" or an object that names a function";
    let value = match fields.take("tool_choice") {
        None => return Ok(Choice { choice: ToolChoice::Auto, only: None, is_named: false }),
        Some(Value::String(word)) => {
            let choice = mode(&word);
            let choice = choice.ok_or_else(|| wrong("tool_choice", &word.into(), expected))?;
            return Ok(Choice { choice, only: None, is_named: false });
        }
        Some(value @ Value::Object(_)) => value,
        Some(other) => return Err(wrong("tool_choice", &other, expected)),
    };
    let mut named = Fields::of("tool_choice", value)?;
    let kind = named.take("type").unwrap_or_else(|| "function".into());
    if kind == "function" {
        let name = take_function_name(&mut named)?;
        named.refuse_rest()?;
        let only = Some(vec![name]);
        return Ok(Choice { choice: ToolChoice::Required, only, is_named: true });
    }
    if kind != "allowed_tools" {
        let expected = "\"function\" or \"allowed_tools\"";
        return Err(wrong("tool_choice.type", &kind, expected));
    }
    let path = named.path("allowed_tools");
    let Some(mut allowed) = named.object("allowed_tools")? else {
        return Err(BadRequest::field(&path, "absent: expected an object"));
    };
    named.refuse_rest()?;
    let mode_path = allowed.path("mode");
    let word = allowed.text("mode")?.unwrap_or_else(|| "auto".to_owned());
    let choice = mode(&word).filter(|choice| *choice != ToolChoice::None);
    let choice =
        choice.ok_or_else(|| wrong(&mode_path, &word.into(), "\"auto\" or \"required\""))?;
    let tools_path = allowed.path("tools");
    let mut only = Vec::new();
    for (tool_idx, tool) in allowed.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let mut tool = Fields::of(&format!("{tools_path}[{tool_idx}]"), tool)?;
        take_kind(&mut tool)?;
        only.push(take_function_name(&mut tool)?);
        tool.refuse_rest()?;
    }
    allowed.refuse_rest()?;
    if only.is_empty() {
        return Err(BadRequest::field(&tools_path, "expected at least one tool"));
    }
    Ok(Choice { choice, only: Some(only), is_named: false })
}

/// Whether tools are called, in one word.
pub(super) fn mode(word: &str) -> Option<ToolChoice> {
    match word {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

/// The path and the name of `function.name`.
fn take_function_name(fields: &mut Fields) -> Result<(String, String), BadRequest> {
    let path = fields.path("function");
    let Some(mut function) = fields.object("function")? else {
        return Err(BadRequest::field(&path, "absent: expected an object with a name"));
    };
    let path = function.path("name");
    let name = function.text("name")?;
    let name = name.ok_or_else(|| BadRequest::field(&path, "absent: expected a string"))?;
    function.refuse_rest()?;
    Ok((path, name))
}

/// The older name of `tool_choice`, for functions that are refused.
fn refuse_function_call(fields: &mut Fields) -> Result<(), BadRequest> {
    match fields.take("function_call") {
        Some(choice) if choice != "none" && choice != "auto" => {
            let why = format!("{}: this server knows \"tool_choice\" instead", shown(&choice));
            Err(BadRequest::unsupported("function_call", &why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(body: Value, expected: Result<(ToolChoice, &[&str], bool), &str>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let found = take(&mut fields).map_err(|bad| bad.param.unwrap());
        let found = found.map(|ask| {
            let ask = ask.expect("tools were given");
            let names: Vec<String> = ask.callable.iter().map(|t| t.tool.name.clone()).collect();
            (ask.choice, names, ask.is_parallel)
        });
        let expected = expected.map_err(str::to_owned).map(|(choice, names, is_parallel)| {
            (choice, names.iter().map(|name| (*name).to_owned()).collect(), is_parallel)
        });
        assert_eq!(found, expected, "{body}");
    }

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "strict": true}})
    }

    fn with(more: Value) -> Value {
        let mut body = json!({"tools": [tool("a"), tool("b-2")]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    #[test]
    fn choices_are_read_in_every_form() {
        use ToolChoice::{Auto, None, Required};
        let all: &[&str] = &["a", "b-2"];
        check(with(json!({})), Ok((Auto, all, true)));
        check(with(json!({"tool_choice": "auto"})), Ok((Auto, all, true)));
        check(with(json!({"tool_choice": "none"})), Ok((None, all, true)));
        let one = json!({"tool_choice": "required", "parallel_tool_calls": false});
        check(with(one), Ok((Required, all, false)));
        let named = json!({"type": "function", "function": {"name": "b-2"}});
        check(with(json!({"tool_choice": named})), Ok((Required, &["b-2"], false)));
        let several = json!({"tool_choice": named, "parallel_tool_calls": true});
        check(with(several), Ok((Required, &["b-2"], true)));
        let function = json!({"type": "function", "function": {"name": "a"}});
        let allowed = json!({"mode": "auto", "tools": [function]});
        let allowed = json!({"type": "allowed_tools", "allowed_tools": allowed});
        check(with(json!({"tool_choice": allowed})), Ok((Auto, &["a"], true)));
    }

    #[test]
    fn wrong_tools_are_refused_by_path() {
        check(json!({"tools": [{"type": "function"}]}), Err("tools[0].function"));
        check(json!({"tools": [{"function": {"name": "a"}}]}), Err("tools[0].type"));
        check(json!({"tools": [{"type": "web_search"}]}), Err("tools[0].type"));
        check(json!({"tools": [tool("a"), tool("a")]}), Err("tools[1].function.name"));
        check(json!({"tools": [tool("a b")]}), Err("tools[0].function.name"));
        check(json!({"tools": [tool(&"a".repeat(65))]}), Err("tools[0].function.name"));
        let many: Vec<Value> = (0..129).map(|i| tool(&i.to_string())).collect();
        check(json!({"tools": many}), Err("tools"));
        let mut strange = tool("a");
        strange["function"]["x"] = json!(1);
        check(json!({"tools": [strange]}), Err("tools[0].function.x"));
        let mut strange = tool("a");
        strange["function"]["parameters"] = json!([]);
        check(json!({"tools": [strange]}), Err("tools[0].function.parameters"));
        check(json!({"tool_choice": "required"}), Err("tool_choice"));
        check(with(json!({"tool_choice": "any"})), Err("tool_choice"));
        check(with(json!({"tool_choice": 7})), Err("tool_choice"));
        check(with(json!({"tool_choice": {"type": "custom"}})), Err("tool_choice.type"));
        let unknown = json!({"type": "function", "function": {"name": "c"}});
        check(with(json!({"tool_choice": unknown})), Err("tool_choice.function.name"));
        let none = json!({"type": "allowed_tools", "allowed_tools": {"tools": []}});
        check(with(json!({"tool_choice": none})), Err("tool_choice.allowed_tools.tools"));
    }
}
