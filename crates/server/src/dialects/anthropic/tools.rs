//! Tools of a request: their definitions, and whether and how they may be called.

use crate::dialects::fields::{Field, Fields, missing, short, shown, wrong};
use crate::dialects::tools::{self, Read, Schema, distinct, read_list, take_name};
use crate::dialects::{Paths, ToolsAsk};
use crate::errors::BadRequest;
use engine::ToolChoice;
use serde_json::Value;

/// What becomes of the fields of a tool.
const FIELDS: &[Field] = &[
    Field::honoured("type"),
    Field::honoured("name"),
    Field::honoured("description"),
    Field::honoured("input_schema"),
    // Every tool is in the prompt.
    Field::honoured("defer_loading"),
    Field::tolerated("cache_control"),
    Field::honoured("strict"),
    // Arguments always come as they are made.
    Field::tolerated("eager_input_streaming"),
    // The model itself is one of them.
    Field::honoured("allowed_callers"),
    Field::ignored("input_examples"),
];

/// What `tool_choice` says: whether, of which tool (its path and name), and how often.
struct Choice {
    choice: ToolChoice,
    only: Option<(String, String)>,
    is_parallel: bool,
}

/// Takes the tools; `None` where there is none. The paths of what has no effect go to `ignored`.
pub(super) fn take(
    fields: &mut Fields,
    ignored: &mut Paths,
) -> Result<Option<ToolsAsk>, BadRequest> {
    let choice = take_choice(fields, ignored)?;
    let list = fields.list("tools")?.unwrap_or_default();
    if list.is_empty() {
        return match choice.choice {
            ToolChoice::Required => {
                let problem = "expected \"tools\" beside it, of which one is to be called";
                Err(BadRequest::field("tool_choice", problem))
            }
            _ => Ok(None),
        };
    }
    let tools = read_list(list, |path, tool| read(path, tool, ignored))?;
    let (mut callable, definitions) = distinct(tools)?;
    if let Some((path, name)) = choice.only {
        callable.retain(|ask| ask.tool.name == name);
        if callable.is_empty() {
            let problem = format!("{:?}: expected the name of one of the tools", short(&name));
            return Err(BadRequest::field(&path, &problem));
        }
    }
    let Choice { choice, is_parallel, .. } = choice;
    Ok(Some(ToolsAsk { definitions, callable, choice, is_parallel, custom: Vec::new() }))
}

fn read(path: &str, tool: Value, ignored: &mut Paths) -> Result<Read, BadRequest> {
    let mut fields = Fields::of(path, tool)?;
    ignored.extend(fields.treat(FIELDS)?);
    let kind_path = fields.path("type");
    if let Some(kind) = fields.take("type").filter(|kind| kind != "custom") {
        let why = format!("{}: this server runs no tools of its own", shown(&kind));
        return Err(BadRequest::unsupported(&kind_path, &why));
    }
    let name = take_name(&mut fields)?;
    let mut read = tools::read(&mut fields, name, Schema::Required("input_schema"))?;
    read.ask.is_strict = fields.flag("strict")? == Some(true);
    if fields.flag("defer_loading")? == Some(true) {
        ignored.push(fields.path("defer_loading"));
    }
    let callers_path = fields.path("allowed_callers");
    let callers = fields.list("allowed_callers")?.unwrap_or_default();
    if !callers.is_empty() && !callers.iter().any(|caller| caller == "direct") {
        let why = "without \"direct\": this server runs no code that could call it";
        return Err(BadRequest::unsupported(&callers_path, why));
    }
    if callers.iter().any(|caller| caller != "direct") {
        ignored.push(callers_path);
    }
    ignored.extend(fields.rest());
    Ok(read)
}

fn take_choice(fields: &mut Fields, ignored: &mut Paths) -> Result<Choice, BadRequest> {
    let Some(mut named) = fields.object("tool_choice")? else {
        return Ok(Choice { choice: ToolChoice::Auto, only: None, is_parallel: true });
    };
    let kind = named.take("type").unwrap_or(Value::Null);
    let is_single = named.flag("disable_parallel_tool_use")?;
    let (choice, only) = match kind.as_str() {
        Some("auto") => (ToolChoice::Auto, None),
        Some("any") => (ToolChoice::Required, None),
        Some("none") => (ToolChoice::None, None),
        Some("tool") => {
            let path = named.path("name");
            let name = named.text("name")?.ok_or_else(|| missing(&path, "a string"))?;
            (ToolChoice::Required, Some((path, name)))
        }
        _ => {
            let expected = "\"auto\", \"any\", \"tool\" or \"none\"";
            return Err(wrong(&named.path("type"), &kind, expected));
        }
    };
    ignored.extend(named.rest());
    // Clients that name a tool read one call of it, mostly as the form of their answer.
    let is_parallel = !is_single.unwrap_or(only.is_some());
    Ok(Choice { choice, only, is_parallel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::MAX_TOOLS;
    use serde_json::json;

    /// Whether, of which tools, whether several times, and what has no effect.
    type Read<'a> = (ToolChoice, &'a [&'a str], bool, &'a [&'a str]);

    fn check(body: Value, expected: Result<Read<'_>, &str>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let mut ignored = Paths::default();
        let found = take(&mut fields, &mut ignored).map_err(|bad| bad.param.unwrap());
        let found = found.map(|ask| {
            let ask = ask.expect("tools were given");
            let names: Vec<String> = ask.callable.iter().map(|t| t.tool.name.clone()).collect();
            (ask.choice, names, ask.is_parallel, ignored.kept().to_vec())
        });
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected = expected.map(|(choice, names, is_parallel, ignored)| {
            (choice, owned(names), is_parallel, owned(ignored))
        });
        assert_eq!(found, expected.map_err(str::to_owned), "{body}");
    }

    fn tool(name: &str) -> Value {
        json!({"name": name, "input_schema": {"type": "object"}})
    }

    fn with(choice: Value) -> Value {
        json!({"tools": [tool("a"), tool("b-2")], "tool_choice": choice})
    }

    #[test]
    fn choices_are_read_in_every_form() {
        use ToolChoice::{Auto, None, Required};
        let all: &[&str] = &["a", "b-2"];
        check(with(Value::Null), Ok((Auto, all, true, &[])));
        check(with(json!({"type": "auto"})), Ok((Auto, all, true, &[])));
        check(with(json!({"type": "none"})), Ok((None, all, true, &[])));
        let one = json!({"type": "any", "disable_parallel_tool_use": true});
        check(with(one), Ok((Required, all, false, &[])));
        check(with(json!({"type": "tool", "name": "a"})), Ok((Required, &["a"], false, &[])));
        let named = json!({"type": "tool", "name": "b-2", "disable_parallel_tool_use": false});
        check(with(named), Ok((Required, &["b-2"], true, &[])));
        let strange = json!({"type": "auto", "x": 1});
        check(with(strange), Ok((Auto, all, true, &["tool_choice.x"])));
    }

    #[test]
    fn what_a_tool_has_beside_is_taken_or_told() {
        let full = json!({
            "type": "custom", "name": "f", "description": "d", "input_schema": {}, "strict": true,
            "cache_control": {"type": "ephemeral"}, "eager_input_streaming": true,
            "defer_loading": false, "allowed_callers": ["direct", "y"],
            "input_examples": [{}], "x": 1,
        });
        let told: &[&str] = &["tools[0].input_examples", "tools[0].allowed_callers", "tools[0].x"];
        check(json!({"tools": [full]}), Ok((ToolChoice::Auto, &["f"], true, told)));
    }

    #[test]
    fn wrong_tools_are_refused_by_path() {
        check(json!({"tools": [{"name": "a"}]}), Err("tools[0].input_schema"));
        check(json!({"tools": [{"name": "a", "input_schema": []}]}), Err("tools[0].input_schema"));
        check(json!({"tools": [{"input_schema": {}}]}), Err("tools[0].name"));
        let typed = json!({"type": "web_search_20250305", "name": "web_search"});
        check(json!({"tools": [tool("a"), typed]}), Err("tools[1].type"));
        check(json!({"tools": [tool("a"), tool("a")]}), Err("tools[1].name"));
        check(json!({"tools": [tool("a b")]}), Err("tools[0].name"));
        let long = "a".repeat(128);
        check(json!({"tools": [tool(&long)]}), Ok((ToolChoice::Auto, &[&long], true, &[])));
        check(json!({"tools": [tool(&format!("{long}a"))]}), Err("tools[0].name"));
        let mut called = tool("a");
        for (callers, expected) in [
            (json!(["direct"]), Ok(&[][..])),
            (json!([]), Ok(&[][..])),
            (json!(["direct", "x"]), Ok(&["tools[0].allowed_callers"][..])),
            (json!(["code_execution_20250825"]), Err("tools[0].allowed_callers")),
            (json!("direct"), Err("tools[0].allowed_callers")),
        ] {
            called["allowed_callers"] = callers;
            let expected = expected.map(|told| (ToolChoice::Auto, &["a"][..], true, told));
            check(json!({"tools": [called]}), expected);
        }
        let mut deferred = tool("a");
        deferred["defer_loading"] = json!(true);
        let told: &[&str] = &["tools[0].defer_loading"];
        check(json!({"tools": [deferred]}), Ok((ToolChoice::Auto, &["a"], true, told)));
        deferred["defer_loading"] = json!("x");
        check(json!({"tools": [deferred]}), Err("tools[0].defer_loading"));
        let typed = json!({"type": "tool_search_tool_regex_20251119", "name": "tool_search"});
        check(json!({"tools": [tool("a"), typed]}), Err("tools[1].type"));
        let many: Vec<Value> = (0..=MAX_TOOLS).map(|i| tool(&i.to_string())).collect();
        check(json!({"tools": many}), Err("tools"));
        check(json!({"tool_choice": {"type": "any"}}), Err("tool_choice"));
        check(with(json!("any")), Err("tool_choice"));
        check(with(json!({"type": "required"})), Err("tool_choice.type"));
        check(with(json!({})), Err("tool_choice.type"));
        check(with(json!({"type": "tool"})), Err("tool_choice.name"));
        check(with(json!({"type": "tool", "name": "c"})), Err("tool_choice.name"));
    }
}
