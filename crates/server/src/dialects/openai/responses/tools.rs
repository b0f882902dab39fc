//! Tools of a request for a response: flat where those of a chat are nested. Agents bring tools
//! that only a vendor runs; those are left out and told of. The model knows a tool of a namespace
//! by a name that is made of both, and [`custom`] tools as functions.

use super::super::custom::{self, Place};
use super::super::tools::{Choice, Kind, ask, mode, read_function};
use crate::dialects::declared::Field;
use crate::dialects::fields::{Fields, missing, shown, wrong};
use crate::dialects::tools::{Read, take_name as take_tool_name};
use crate::dialects::{Paths, ToolsAsk};
use crate::errors::BadRequest;
use engine::{MAX_TOOLS, Tool, ToolChoice};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// What becomes of the fields of a function.
const FIELDS: &[Field] = &[
    Field::honoured("type"),
    Field::honoured("name"),
    Field::honoured("description"),
    Field::honoured("parameters"),
    Field::honoured("strict"),
    Field::honoured("defer_loading"),
    // The model itself is one of them.
    Field::honoured("allowed_callers"),
    Field::ignored("output_schema"),
    Field::ignored("async"),
];

/// What becomes of the fields of a custom tool.
const CUSTOM: &[Field] = &[
    Field::honoured("type"),
    Field::honoured("name"),
    Field::honoured("description"),
    Field::honoured("format"),
    Field::honoured("defer_loading"),
    // The model itself is one of them.
    Field::honoured("allowed_callers"),
    Field::ignored("async"),
];

/// What becomes of the fields of a namespace.
const NAMESPACE: &[Field] = &[
    Field::honoured("type"),
    Field::honoured("name"),
    Field::honoured("tools"),
    // The model sees functions only.
    Field::ignored("description"),
];

/// Namespaces and names of functions, by the names that the model knows.
pub(super) type Namespaced = HashMap<String, (String, String)>;

/// The name that the model knows of a function in a namespace.
pub(super) fn joined(namespace: &str, name: &str) -> String {
    format!("{namespace}__{name}")
}

/// Tools, and what the response says of them.
pub(super) struct Tools {
    pub(super) ask: Option<ToolsAsk>,
    /// Those that were not left out, as they are held to.
    pub(super) told: Box<RawValue>,
    pub(super) choice: Box<RawValue>,
    pub(super) is_parallel: bool,
    pub(super) namespaced: Namespaced,
}

/// Takes the tools; the paths of what has no effect go to `ignored`.
pub(super) fn take(fields: &mut Fields, ignored: &mut Paths) -> Result<Tools, BadRequest> {
    let is_parallel = fields.flag("parallel_tool_calls")?;
    let choice = fields.take("tool_choice").unwrap_or_else(|| "auto".into());
    let choice = read_choice(choice, ignored)?;
    let list = fields.list("tools")?.unwrap_or_default();
    if list.len() > MAX_TOOLS {
        let problem = format!("{} tools: expected at most {MAX_TOOLS}", list.len());
        return Err(BadRequest::field("tools", &problem));
    }
    let mut all = All::default();
    for (tool_idx, tool) in list.into_iter().enumerate() {
        all.take(format!("tools[{tool_idx}]"), tool, ignored)?;
    }
    let All { tools, told, namespaced } = all;
    let choice_told = told_choice(&choice, &tools);
    if tools.len() > MAX_TOOLS {
        let problem = format!("{} functions: expected at most {MAX_TOOLS}", tools.len());
        return Err(BadRequest::field("tools", &problem));
    }
    let ask = ask(tools, choice, is_parallel)?;
    let is_parallel = ask.as_ref().map_or(is_parallel.unwrap_or(true), |ask| ask.is_parallel);
    let told = super::told(&told);
    Ok(Tools { ask, told, choice: choice_told, is_parallel, namespaced })
}

/// Tools as they come.
#[derive(Default)]
struct All {
    tools: Vec<Read>,
    told: Vec<Box<RawValue>>,
    namespaced: Namespaced,
}

impl All {
    fn take(&mut self, path: String, tool: Value, ignored: &mut Paths) -> Result<(), BadRequest> {
        let mut fields = Fields::of(&path, tool)?;
        let kind = take_kind(&mut fields)?;
        match Kind::of(&kind) {
            Some(kind) => {
                let (_, told) = self.take_tool(fields, None, kind, ignored)?;
                self.told.push(told);
            }
            None if kind == "namespace" => self.take_namespace(fields, ignored)?,
            None => ignored.push(path),
        }
        Ok(())
    }

    /// Takes a tool that the model may call. Returns its name where it stands, and what is told.
    fn take_tool(
        &mut self,
        fields: Fields,
        namespace: Option<&str>,
        kind: Kind,
        ignored: &mut Paths,
    ) -> Result<(String, Box<RawValue>), BadRequest> {
        let (name, read, told) = read(fields, namespace, kind, ignored)?;
        let known = read.ask.tool.name.clone();
        if let Some(namespace) = namespace {
            self.namespaced.insert(known, (namespace.to_owned(), name.clone()));
        }
        self.tools.push(read);
        Ok((name, told))
    }

    fn take_namespace(
        &mut self,
        mut fields: Fields,
        ignored: &mut Paths,
    ) -> Result<(), BadRequest> {
        ignored.extend(fields.treat(NAMESPACE)?);
        let namespace = take_tool_name(&mut fields)?;
        let tools_path = fields.path("tools");
        let mut told = Vec::new();
        for (tool_idx, tool) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
            let path = format!("{tools_path}[{tool_idx}]");
            let mut fields = Fields::of(&path, tool)?;
            match Kind::of(&take_kind(&mut fields)?) {
                Some(kind) => {
                    told.push(self.take_tool(fields, Some(&namespace), kind, ignored)?.1);
                }
                None => ignored.push(path),
            }
        }
        ignored.extend(fields.rest());
        let (kind, name) = (super::told(&"namespace"), super::told(&namespace));
        let tools = super::told(&told);
        let namespace = BTreeMap::from([("type", kind), ("name", name), ("tools", tools)]);
        self.told.push(super::told(&namespace));
        Ok(())
    }
}

fn told_custom(name: &str, read: &Read) -> Box<RawValue> {
    let (kind, name) = (Value::from("custom"), Value::from(name));
    let format = match read.custom.as_ref().and_then(custom::grammar) {
        None => json!({"type": "text"}),
        Some((syntax, definition)) => {
            json!({"type": "grammar", "syntax": syntax, "definition": definition})
        }
    };
    super::told(&BTreeMap::from([
        ("type", &kind),
        ("name", &name),
        ("description", &read.definition["function"]["description"]),
        ("format", &format),
    ]))
}

fn told_function(name: &str, read: &Read) -> Box<RawValue> {
    let function = &read.definition["function"];
    let (kind, name, strict) = (Value::from("function"), Value::from(name), Value::from(true));
    super::told(&BTreeMap::from([
        ("type", &kind),
        ("name", &name),
        ("description", &function["description"]),
        ("parameters", &function["parameters"]),
        ("strict", &strict),
    ]))
}

/// A choice in the words of a request, of which nothing else is told.
fn told_choice(choice: &Choice, tools: &[Read]) -> Box<RawValue> {
    let word = match choice.choice {
        ToolChoice::None => "none",
        ToolChoice::Auto => "auto",
        ToolChoice::Required => "required",
    };
    let tool = |(_, name): &(String, String)| {
        let is_custom = |tool: &Read| tool.custom.as_ref().is_some_and(|of| of.name == *name);
        let kind = if tools.iter().any(is_custom) { Kind::Custom } else { Kind::Function };
        json!({"type": kind.word(), "name": name})
    };
    let body = match &choice.only {
        None => word.into(),
        Some(only) => {
            let mut tools = only.iter().map(tool);
            match choice.is_named {
                true => tools.next().unwrap_or_default(),
                false => {
                    let tools: Vec<Value> = tools.collect();
                    json!({"type": "allowed_tools", "mode": word, "tools": tools})
                }
            }
        }
    };
    super::told(&body)
}

fn take_kind(tool: &mut Fields) -> Result<String, BadRequest> {
    let path = tool.path("type");
    tool.text("type")?.ok_or_else(|| missing(&path, "the type of a tool"))
}

/// A tool, its name where it stands, and what is told of it.
fn read(
    mut fields: Fields,
    namespace: Option<&str>,
    kind: Kind,
    ignored: &mut Paths,
) -> Result<(String, Read, Box<RawValue>), BadRequest> {
    ignored.extend(fields.treat(match kind {
        Kind::Function => FIELDS,
        Kind::Custom => CUSTOM,
    })?);
    let name_path = fields.path("name");
    let name = take_tool_name(&mut fields)?;
    let known = namespace.map_or_else(|| name.clone(), |namespace| joined(namespace, &name));
    if !Tool::is_name(&known) {
        let expected = "at most 128 characters with its namespace";
        return Err(wrong(&name_path, &known.into(), expected));
    }
    let (read, told) = match kind {
        Kind::Function => {
            let read = read_function(&mut fields, known)?;
            let told = told_function(&name, &read);
            (read, told)
        }
        Kind::Custom => {
            let read = custom::read(&mut fields, known, Place::Own, &mut |format| {
                ignored.extend(format.rest());
                Ok(())
            })?;
            let told = told_custom(&name, &read);
            (read, told)
        }
    };
    // Every tool is in the prompt from the beginning, where no search could find more.
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
    Ok((name, read, told))
}

fn read_choice(value: Value, ignored: &mut Paths) -> Result<Choice, BadRequest> {
    const EXPECTED: &str = "\"none\", \"auto\", \"required\" or an object that names a tool";
    let mut named = match value {
        Value::String(word) => {
            let choice = mode(&word);
            let choice = choice.ok_or_else(|| wrong("tool_choice", &word.into(), EXPECTED))?;
            return Ok(Choice { choice, only: None, is_named: false });
        }
        Value::Object(_) => Fields::of("tool_choice", value)?,
        other => return Err(wrong("tool_choice", &other, EXPECTED)),
    };
    let kind = named.take("type").unwrap_or(Value::Null);
    let choice = match kind.as_str() {
        Some("function" | "custom") => {
            let only = Some(vec![take_chosen(&mut named)?]);
            Choice { choice: ToolChoice::Required, only, is_named: true }
        }
        Some("allowed_tools") => read_allowed(&mut named, ignored)?,
        _ => {
            let expected = "\"function\", \"custom\" or \"allowed_tools\"";
            let why = format!("{}: expected {expected}", shown(&kind));
            return Err(BadRequest::unsupported("tool_choice.type", &why));
        }
    };
    ignored.extend(named.rest());
    Ok(choice)
}

/// Functions that may be called; those of a vendor are left out here too.
fn read_allowed(named: &mut Fields, ignored: &mut Paths) -> Result<Choice, BadRequest> {
    let word = named.text("mode")?.unwrap_or_else(|| "auto".to_owned());
    let choice = mode(&word).filter(|choice| *choice != ToolChoice::None);
    let expected = "\"auto\" or \"required\"";
    let choice = choice.ok_or_else(|| wrong("tool_choice.mode", &word.into(), expected))?;
    let mut only = Vec::new();
    for (tool_idx, tool) in named.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("tool_choice.tools[{tool_idx}]");
        let mut tool = Fields::of(&path, tool)?;
        match tool.take("type") {
            Some(kind) if kind == "function" || kind == "custom" => {
                only.push(take_chosen(&mut tool)?);
            }
            Some(Value::String(_)) => ignored.push(path),
            kind => {
                let kind = kind.unwrap_or(Value::Null);
                return Err(wrong(&format!("{path}.type"), &kind, "\"function\" or \"custom\""));
            }
        }
    }
    if only.is_empty() {
        return Err(BadRequest::field("tool_choice.tools", "expected at least one tool"));
    }
    Ok(Choice { choice, only: Some(only), is_named: false })
}

/// The path and the name of a function that may be called, as the model knows it.
fn take_chosen(fields: &mut Fields) -> Result<(String, String), BadRequest> {
    let (path, name) = take_name(fields)?;
    let namespace = fields.text("namespace")?;
    Ok((path, namespace.map_or(name.clone(), |namespace| joined(&namespace, &name))))
}

/// The path and the name of a function.
fn take_name(fields: &mut Fields) -> Result<(String, String), BadRequest> {
    let path = fields.path("name");
    let name = fields.text("name")?.ok_or_else(|| missing(&path, "a string"))?;
    Ok((path, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether, of which tools, whether several times, and what has no effect.
    type Expected<'a> = (ToolChoice, &'a [&'a str], bool, &'a [&'a str]);

    fn check(body: Value, expected: Result<Expected<'_>, &str>) {
        let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
        let mut ignored = Paths::default();
        let found = take(&mut fields, &mut ignored).map_err(|bad| bad.param.unwrap());
        let found = found.map(|tools| {
            let ask = tools.ask.expect("tools were given");
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
        json!({"type": "function", "name": name, "parameters": null, "strict": false})
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
        check(with(json!({})), Ok((Auto, all, true, &[])));
        check(with(json!({"tool_choice": "none"})), Ok((None, all, true, &[])));
        let one = json!({"tool_choice": "required", "parallel_tool_calls": false});
        check(with(one), Ok((Required, all, false, &[])));
        let named = json!({"type": "function", "name": "b-2", "x": 1});
        check(
            with(json!({"tool_choice": named})),
            Ok((Required, &["b-2"], false, &["tool_choice.x"])),
        );
        let function = json!({"type": "function", "name": "a"});
        let some = json!([function, {"type": "mcp", "server_label": "x"}]);
        let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": some});
        check(
            with(json!({"tool_choice": allowed})),
            Ok((Auto, &["a"], true, &["tool_choice.tools[1]"])),
        );
    }

    #[test]
    fn tools_that_only_a_vendor_runs_are_left_out_and_told() {
        let others = json!([
            {"type": "web_search"}, tool("f"), {"type": "local_shell"},
            {"type": "mcp", "server_label": "x"},
        ]);
        let told: &[&str] = &["tools[0]", "tools[2]", "tools[3]"];
        check(json!({"tools": others}), Ok((ToolChoice::Auto, &["f"], true, told)));
        let mut fields = Fields::parse(br#"{"tools":[{"type":"web_search"}]}"#).unwrap();
        let none = take(&mut fields, &mut Paths::default()).unwrap();
        assert!(none.ask.is_none());
        assert_eq!((none.told.get(), none.choice.get()), ("[]", r#""auto""#));
    }

    #[test]
    fn custom_tools_are_functions_of_one_text() {
        let custom = |format: Value| json!({"type": "custom", "name": "t", "format": format});
        let grammar = |syntax: &str| {
            custom(json!({"type": "grammar", "syntax": syntax, "definition": "[ab]+"}))
        };
        let told = |tool: &Value, ignored: &[&str]| {
            let body = json!({"tools": [tool], "tool_choice": {"type": "custom", "name": "t"}});
            check(body.clone(), Ok((ToolChoice::Required, &["t"], false, ignored)));
            let mut fields = Fields::parse(body.to_string().as_bytes()).unwrap();
            let tools = take(&mut fields, &mut Paths::default()).unwrap();
            assert_eq!(tools.choice.get(), r#"{"type":"custom","name":"t"}"#);
            let mut ask = tools.ask.unwrap();
            assert!(ask.custom("t").is_some() && ask.custom("u").is_none());
            let schema = ask.callable.remove(0).tool.parameters.unwrap();
            let told: Value = serde_json::from_str(tools.told.get()).unwrap();
            (told[0]["format"].clone(), schema["properties"]["input"]["pattern"].clone())
        };
        let free = (json!({"type": "text"}), Value::Null);
        assert_eq!(told(&custom(Value::Null), &[]), free);
        assert_eq!(told(&custom(json!({"type": "text", "x": 1})), &["tools[0].format.x"]), free);
        let regex = grammar("regex");
        let expected = (regex["format"].clone(), json!("^(?:[ab]+)$"));
        assert_eq!(told(&regex, &[]), expected);
        let lark = grammar("lark");
        assert_eq!(told(&lark, &[]), (lark["format"].clone(), Value::Null));
        for (tool, param) in [
            (custom(json!({"type": "x"})), "tools[0].format.type"),
            (custom(json!({"type": "grammar", "syntax": "lark"})), "tools[0].format.definition"),
            (grammar("gbnf"), "tools[0].format.syntax"),
            (grammar(&"x".repeat(9)), "tools[0].format.syntax"),
            (json!({"type": "custom"}), "tools[0].name"),
        ] {
            check(json!({"tools": [tool]}), Err(param));
        }
    }

    #[test]
    fn what_a_tool_has_beside_is_taken_or_told() {
        let full = json!({
            "type": "function", "name": "f", "description": "d", "parameters": {}, "strict": true,
            "defer_loading": false, "allowed_callers": ["direct", "programmatic"],
            "output_schema": {}, "async": true, "x": 1,
        });
        let told: &[&str] =
            &["tools[0].output_schema", "tools[0].async", "tools[0].allowed_callers", "tools[0].x"];
        check(json!({"tools": [full]}), Ok((ToolChoice::Auto, &["f"], true, told)));
    }

    #[test]
    fn a_tool_that_may_come_later_comes_at_once() {
        let mut later = tool("f");
        later["defer_loading"] = json!(true);
        let told: &[&str] = &["tools[0].defer_loading"];
        check(json!({"tools": [later]}), Ok((ToolChoice::Auto, &["f"], true, told)));
    }

    #[test]
    fn functions_of_a_namespace_have_both_names() {
        let space = json!({"type": "namespace", "name": "mcp__crm", "description": "d",
            "tools": [tool("find"), {"type": "mcp", "name": "x"}, tool("add")], "x": 1});
        let with = |more: Value| {
            let mut body = json!({"tools": [tool("find"), space]});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body
        };
        let all: &[&str] = &["find", "mcp__crm__find", "mcp__crm__add"];
        let told: &[&str] = &["tools[1].description", "tools[1].tools[1]", "tools[1].x"];
        check(with(json!({})), Ok((ToolChoice::Auto, all, true, told)));
        let mut fields = Fields::parse(with(json!({})).to_string().as_bytes()).unwrap();
        let tools = take(&mut fields, &mut Paths::default()).unwrap();
        let entry = |name: &str| tools.namespaced.get(name).cloned();
        assert_eq!(entry("mcp__crm__add"), Some(("mcp__crm".to_owned(), "add".to_owned())));
        assert_eq!(entry("find"), None);
        let told: Value = serde_json::from_str(tools.told.get()).unwrap();
        assert_eq!((&told[1]["type"], &told[1]["name"]), (&json!("namespace"), &json!("mcp__crm")));
        assert_eq!(told[1]["tools"][1]["name"], "add");
        for choice in [
            json!({"type": "function", "name": "mcp__crm__add"}),
            json!({"type": "function", "name": "add", "namespace": "mcp__crm"}),
        ] {
            let mut fields =
                Fields::parse(with(json!({"tool_choice": choice})).to_string().as_bytes());
            let ask = take(fields.as_mut().unwrap(), &mut Paths::default()).unwrap().ask.unwrap();
            let names: Vec<&str> = ask.callable.iter().map(|t| &*t.tool.name).collect();
            assert_eq!(names, ["mcp__crm__add"]);
        }
        let wrong = |change: fn(&mut Value), param: &str| {
            let mut space = space.clone();
            change(&mut space);
            check(json!({"tools": [tool("n__a"), space]}), Err(param));
        };
        wrong(|space| space["name"] = json!("a b"), "tools[1].name");
        wrong(|space| space["name"] = Value::Null, "tools[1].name");
        wrong(|space| space["name"] = json!("a".repeat(125)), "tools[1].tools[0].name");
        wrong(|space| space["tools"] = json!("x"), "tools[1].tools");
        wrong(|space| space["tools"] = json!([{"type": "function"}]), "tools[1].tools[0].name");
        wrong(
            |space| {
                space["name"] = json!("n");
                space["tools"] = json!([tool("a")]);
            },
            "tools[1].tools[0].name",
        );
        wrong(
            |space| space["tools"] = (0..=MAX_TOOLS).map(|i| tool(&i.to_string())).collect(),
            "tools",
        );
    }

    #[test]
    fn wrong_tools_are_refused_by_path() {
        check(json!({"tools": [{"name": "a"}]}), Err("tools[0].type"));
        check(json!({"tools": [{"type": "function"}]}), Err("tools[0].name"));
        check(json!({"tools": [tool("a"), tool("a")]}), Err("tools[1].name"));
        check(json!({"tools": [tool("a b")]}), Err("tools[0].name"));
        check(json!({"tools": [tool(&"a".repeat(129))]}), Err("tools[0].name"));
        let many: Vec<Value> = (0..=MAX_TOOLS).map(|i| tool(&i.to_string())).collect();
        check(json!({"tools": many}), Err("tools"));
        for (field, value) in [
            ("parameters", json!([])),
            ("defer_loading", json!(7)),
            ("allowed_callers", json!(["programmatic"])),
            ("strict", json!("yes")),
        ] {
            let mut wrong = tool("a");
            wrong[field] = value;
            check(json!({"tools": [wrong]}), Err(&format!("tools[0].{field}")));
        }
        check(json!({"tool_choice": "required"}), Err("tool_choice"));
        let vendors = json!([{"type": "web_search"}]);
        check(json!({"tools": vendors, "tool_choice": "required"}), Err("tool_choice"));
        check(with(json!({"tool_choice": "any"})), Err("tool_choice"));
        check(with(json!({"tool_choice": 7})), Err("tool_choice"));
        check(with(json!({"tool_choice": {"type": "web_search"}})), Err("tool_choice.type"));
        let unknown = json!({"type": "function", "name": "c"});
        check(with(json!({"tool_choice": unknown})), Err("tool_choice.name"));
        for (mode, tools, param) in [
            ("none", json!([]), "tool_choice.mode"),
            ("auto", json!([]), "tool_choice.tools"),
            ("auto", json!([{}]), "tool_choice.tools[0].type"),
            ("auto", json!([{"type": "function"}]), "tool_choice.tools[0].name"),
        ] {
            let allowed = json!({"type": "allowed_tools", "mode": mode, "tools": tools});
            check(with(json!({"tool_choice": allowed})), Err(param));
        }
    }
}
