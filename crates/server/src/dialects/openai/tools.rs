//! Tools of a chat request: their definitions, and whether and how they may be called.

use super::custom::{self, Place};
use crate::dialects::ToolsAsk;
use crate::dialects::fields::{Fields, short, shown, wrong};
use crate::dialects::tools::{self, Read, Schema, distinct};
use crate::errors::BadRequest;
use engine::{Tool, ToolChoice};
use serde_json::Value;

/// Most tools of one request, and most bytes of their names (OpenAI's limits).
const N_TOOLS: usize = 128;
const N_NAME_BYTES: usize = 64;

/// Takes the tools out of `fields`; `None` where there is none to be called or told of. With them
/// comes whether they are `functions`, whose calls have a form of their own.
pub(super) fn take(fields: &mut Fields) -> Result<(Option<ToolsAsk>, bool), BadRequest> {
    let is_parallel = fields.flag("parallel_tool_calls")?;
    let choice = take_choice(fields)?;
    let older_choice = take_function_call(fields)?;
    let tools = take_list(fields, "tools", read)?;
    let functions = take_list(fields, "functions", read_older)?;
    if functions.is_empty() {
        if older_choice.only.is_some() {
            let problem = "expected \"functions\" beside it, which it is a choice of";
            return Err(BadRequest::field("function_call", problem));
        }
        return Ok((ask(tools, choice, is_parallel)?, false));
    }
    let newer = [
        ("tools", !tools.is_empty()),
        ("tool_choice", choice.choice != ToolChoice::Auto || choice.only.is_some()),
        // Their answers have room for one call.
        ("parallel_tool_calls", is_parallel == Some(true)),
    ];
    if let Some((name, _)) = newer.iter().find(|(_, is_there)| *is_there) {
        let problem = "expected it beside \"tools\", not \"functions\", their older form";
        return Err(BadRequest::field(name, problem));
    }
    Ok((ask(functions, older_choice, Some(false))?, true))
}

/// Takes a list of tools, each of which `read` reads.
fn take_list(
    fields: &mut Fields,
    name: &str,
    read: impl Fn(&str, Value) -> Result<Read, BadRequest>,
) -> Result<Vec<Read>, BadRequest> {
    let list = fields.list(name)?.unwrap_or_default();
    if list.len() > N_TOOLS {
        let problem = format!("{} {name}: expected at most {N_TOOLS}", list.len());
        return Err(BadRequest::field(name, &problem));
    }
    let tools = list.into_iter().enumerate();
    tools.map(|(tool_idx, tool)| read(&format!("{name}[{tool_idx}]"), tool)).collect()
}

/// What is asked of tools together, each name once; `None` where there is none to be called or told
/// of.
pub(super) fn ask(
    mut tools: Vec<Read>,
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
    let custom = tools.iter_mut().filter_map(|tool| tool.custom.take()).collect();
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
    Ok(Some(ToolsAsk { definitions, callable, choice, is_parallel, custom }))
}

/// A kind of tool that the model may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Function,
    /// It takes a text.
    Custom,
}

impl Kind {
    pub(super) fn of(word: &str) -> Option<Self> {
        [Self::Function, Self::Custom].into_iter().find(|kind| kind.word() == word)
    }

    /// What it is called, and in chats the field that has the rest of it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Function => "function",
            Self::Custom => "custom",
        }
    }

    /// Takes what an object of this kind says in its field.
    pub(super) fn take(self, fields: &mut Fields) -> Result<Fields, BadRequest> {
        let path = fields.path(self.word());
        let inner = fields.object(self.word())?;
        inner.ok_or_else(|| BadRequest::field(&path, "absent: expected an object"))
    }
}

fn read(path: &str, tool: Value) -> Result<Read, BadRequest> {
    let mut fields = Fields::of(path, tool)?;
    let kind = take_kind(&mut fields)?;
    let mut tool = kind.take(&mut fields)?;
    let name = take_name(&mut tool)?;
    let read = match kind {
        Kind::Function => read_function(&mut tool, name)?,
        Kind::Custom => custom::read(&mut tool, name, Place::Grammar, &mut Fields::refuse_rest)?,
    };
    tool.refuse_rest()?;
    fields.refuse_rest()?;
    Ok(read)
}

/// One of `functions`.
fn read_older(path: &str, function: Value) -> Result<Read, BadRequest> {
    let mut fields = Fields::of(path, function)?;
    let name = take_name(&mut fields)?;
    let read = read_function(&mut fields, name)?;
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

fn take_kind(fields: &mut Fields) -> Result<Kind, BadRequest> {
    let path = fields.path("type");
    let Some(word) = fields.take("type") else {
        return Err(BadRequest::field(&path, "absent: expected \"function\" or \"custom\""));
    };
    word.as_str().and_then(Kind::of).ok_or_else(|| {
        let why = format!("{}: this server knows \"function\" and \"custom\"", shown(&word));
        BadRequest::unsupported(&path, &why)
    })
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
    let expected = "\"none\", \"auto\", \"required\" or an object that names a tool";
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
    if let Some(kind) = kind.as_str().and_then(Kind::of) {
        let only = Some(vec![take_chosen(&mut named, kind)?]);
        named.refuse_rest()?;
        return Ok(Choice { choice: ToolChoice::Required, only, is_named: true });
    }
    if kind != "allowed_tools" {
        let expected = "\"function\", \"custom\" or \"allowed_tools\"";
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
        let kind = take_kind(&mut tool)?;
        only.push(take_chosen(&mut tool, kind)?);
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

/// The path and the name of a tool of this kind.
fn take_chosen(fields: &mut Fields, kind: Kind) -> Result<(String, String), BadRequest> {
    let mut tool = kind.take(fields)?;
    let path = tool.path("name");
    let name = tool.text("name")?;
    let name = name.ok_or_else(|| BadRequest::field(&path, "absent: expected a string"))?;
    tool.refuse_rest()?;
    Ok((path, name))
}

/// The older name of `tool_choice`, of `functions`.
fn take_function_call(fields: &mut Fields) -> Result<Choice, BadRequest> {
    let expected = "\"none\", \"auto\" or an object that names a function";
    let plain = |choice| Choice { choice, only: None, is_named: false };
    match fields.take("function_call") {
        None => Ok(plain(ToolChoice::Auto)),
        Some(word) if word == "auto" => Ok(plain(ToolChoice::Auto)),
        Some(word) if word == "none" => Ok(plain(ToolChoice::None)),
        Some(value @ Value::Object(_)) => {
            let mut named = Fields::of("function_call", value)?;
            let path = named.path("name");
            let name = named.text("name")?;
            let name = name.ok_or_else(|| BadRequest::field(&path, "absent: expected a string"))?;
            named.refuse_rest()?;
            let only = Some(vec![(path, name)]);
            Ok(Choice { choice: ToolChoice::Required, only, is_named: true })
        }
        Some(other) => Err(wrong("function_call", &other, expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(body: Value, expected: Result<(ToolChoice, &[&str], bool), &str>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let found = take(&mut fields).map_err(|bad| bad.param.unwrap());
        let found = found.map(|(ask, is_older)| {
            assert_eq!(is_older, body["functions"].is_array(), "{body}");
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

    /// A tool that takes a text.
    fn note(format: Value) -> Value {
        json!({"type": "custom", "custom": {"name": "note", "format": format}})
    }

    fn grammar(syntax: &str, definition: &str) -> Value {
        let grammar = json!({"syntax": syntax, "definition": definition});
        json!({"type": "grammar", "grammar": grammar})
    }

    #[test]
    fn tools_that_take_a_text_are_chosen_as_others() {
        use ToolChoice::{Auto, Required};
        let tools = |choice: Value| {
            json!({"tools": [tool("a"), note(json!({"type": "text"}))],
            "tool_choice": choice})
        };
        check(tools(json!("auto")), Ok((Auto, &["a", "note"], true)));
        let named = json!({"type": "custom", "custom": {"name": "note"}});
        check(tools(named.clone()), Ok((Required, &["note"], false)));
        let function = json!({"type": "function", "function": {"name": "a"}});
        for (some, expected) in
            [(json!([named]), &["note"][..]), (json!([named, function]), &["a", "note"])]
        {
            let allowed = json!({"mode": "required", "tools": some});
            let allowed = json!({"type": "allowed_tools", "allowed_tools": allowed});
            check(tools(allowed), Ok((Required, expected, true)));
        }
        let unknown = json!({"type": "custom", "custom": {"name": "b"}});
        check(tools(unknown), Err("tool_choice.custom.name"));
        let strange = json!({"type": "custom", "custom": {"name": "note", "x": 1}});
        check(tools(strange), Err("tool_choice.custom.x"));
    }

    #[test]
    fn a_text_is_held_to_its_format() {
        let read = |format: Value| {
            let body = json!({"tools": [note(format)]}).to_string();
            take(&mut Fields::parse(body.as_bytes()).unwrap()).unwrap().0.unwrap()
        };
        let held = |format: Value| {
            let mut ask = read(format);
            let grammar = custom::grammar(ask.custom("note").unwrap());
            let grammar = grammar.map(|(syntax, text)| (syntax, text.to_owned()));
            let ask = ask.callable.remove(0);
            let input = &ask.tool.parameters.unwrap()["properties"]["input"];
            (grammar, input["pattern"].clone(), ask.tool.texts, ask.param)
        };
        let path = || "tools[0].custom.format".to_owned();
        for free in [Value::Null, json!({"type": "text"})] {
            assert_eq!(held(free), (None, Value::Null, None, path()));
        }
        let path = || "tools[0].custom.format.grammar.definition".to_owned();
        let grammar_of = |syntax, text: &str| Some((syntax, text.to_owned()));
        assert_eq!(
            held(grammar("regex", "[ab]+")),
            (grammar_of("regex", "[ab]+"), json!("^(?:[ab]+)$"), None, path())
        );
        let lark = "start: \"a\"";
        assert_eq!(
            held(grammar("lark", lark)),
            (grammar_of("lark", lark), Value::Null, Some(lark.to_owned()), path())
        );
    }

    #[test]
    fn wrong_texts_are_refused_by_path() {
        let wrong = |format: Value, param: &str| {
            check(json!({"tools": [note(format)]}), Err(&format!("tools[0].custom.format{param}")));
        };
        wrong(json!("text"), "");
        wrong(json!({}), ".type");
        wrong(json!({"type": "json"}), ".type");
        wrong(json!({"type": "text", "x": 1}), ".x");
        wrong(json!({"type": "grammar"}), ".grammar");
        // As the other API has it.
        wrong(json!({"type": "grammar", "syntax": "lark", "definition": "a"}), ".grammar");
        wrong(json!({"type": "grammar", "grammar": {"syntax": "lark"}}), ".grammar.definition");
        wrong(grammar("gbnf", "a"), ".grammar.syntax");
        wrong(grammar("regex", &"a".repeat((64 << 10) + 1)), ".grammar.definition");
        let mut strange = grammar("regex", "a");
        strange["grammar"]["x"] = json!(1);
        wrong(strange, ".grammar.x");
        let tool = |custom: Value| json!({"tools": [{"type": "custom", "custom": custom}]});
        check(tool(json!({})), Err("tools[0].custom.name"));
        check(tool(json!({"name": "a b"})), Err("tools[0].custom.name"));
        check(tool(json!({"name": "a", "parameters": {}})), Err("tools[0].custom.parameters"));
        check(tool(json!({"name": "a", "description": 7})), Err("tools[0].custom.description"));
        check(json!({"tools": [{"type": "custom"}]}), Err("tools[0].custom"));
        check(
            json!({"tools": [note(Value::Null), note(Value::Null)]}),
            Err("tools[1].custom.name"),
        );
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
        check(with(json!({"tool_choice": {"type": "mcp"}})), Err("tool_choice.type"));
        check(with(json!({"tool_choice": {"type": "custom"}})), Err("tool_choice.custom"));
        let unknown = json!({"type": "function", "function": {"name": "c"}});
        check(with(json!({"tool_choice": unknown})), Err("tool_choice.function.name"));
        let none = json!({"type": "allowed_tools", "allowed_tools": {"tools": []}});
        check(with(json!({"tool_choice": none})), Err("tool_choice.allowed_tools.tools"));
    }
}
