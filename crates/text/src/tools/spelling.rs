//! The grammar of arguments that are not written as a JSON object.
//!
//! Values are JSON of their schemas, but for those that a model writes as they are: text without
//! other bounds, and choices of texts. Arguments come in the order of the schema's properties. What
//! a schema says about the object as a whole, beyond names, cannot be held to here and is refused.

use super::arguments::{Form, Kind, kind_in, others_are_json};
use super::grammar::{arguments_schema, literal, lower_texts, text_in_quotes};
use super::{Calls, Tool};
use crate::constraint::{ConstraintError, is_annotation, json_grammar, keyword_error, normalise};
use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

/// Longest name of an argument that no schema names.
const KEY_CHARS_MAX: usize = 64;

/// Most bytes of definitions, each counted for every argument that leads to it: the parser reads
/// them for each.
const DEFINITIONS_BYTES_MAX: usize = 4 << 20;

/// What the root of a schema is called among its definitions, which otherwise have numbers.
const ROOT: &str = "root";

/// Whether a keyword of the whole schema can be held to: it is about names.
pub(super) fn is_known(keyword: &str) -> bool {
    ["$defs", "$schema", "additionalProperties", "properties", "required", "type"]
        .contains(&keyword)
}

/// One tool's arguments, as far as the grammar goes by them.
struct Shape<'s> {
    tool_idx: usize,
    /// Name, how its value is written, and the value's schema.
    properties: Vec<(&'s str, Kind, Value)>,
    required: Vec<&'s str>,
    /// The schema of arguments that are not named; `None` where there can be none.
    others: Option<Value>,
}

/// The rule `arguments_<tool_idx>` in Lark's notation, appended to `lark`, and the grammars of
/// values that it refers to.
pub(super) fn lower(
    calls: &Calls,
    tool_idx: usize,
    tool: &Tool,
    lark: &mut String,
    n_bytes: &mut usize,
) -> Result<Vec<GrammarWithLexer>, ConstraintError> {
    let original = arguments_schema(tool.parameters.as_ref())?;
    let schema = with_root_defined(normalise(&original)?);
    let shape = Shape::of(tool_idx, (tool, &original), &schema, n_bytes)?;
    let form = calls.format().arguments;
    match form {
        Form::Json => {}
        Form::Tagged { before_key, after_key, after_value } => {
            shape.push_tagged(calls, [before_key, after_key, after_value], lark)?;
        }
        Form::Python => shape.push_python(lark)?,
    }
    let mut grammars = Vec::new();
    let mut push = |name: &dyn std::fmt::Display, value: &Value| {
        let name = Some(format!("value_{tool_idx}_{name}"));
        let grammar = match tool.texts {
            Some(_) => {
                GrammarWithLexer::from_lark(format!("start: {}\n", text_in_quotes(tool_idx)))
            }
            None => json_grammar(value.clone()),
        };
        grammars.push(GrammarWithLexer { name, ..grammar });
    };
    let is_python = form == Form::Python;
    for (idx, (_, kind, value)) in shape.properties.iter().enumerate() {
        let is_used = if is_python { !is_any_boolean(value) } else { *kind == Kind::Json };
        if is_used {
            push(&idx, value);
        }
    }
    if let Some(value) = shape.others.as_ref().filter(|value| is_python || !is_anything(value)) {
        push(&"x", value);
    }
    if let Some(texts) = &tool.texts {
        grammars.push(lower_texts(tool_idx, texts)?);
    }
    Ok(grammars)
}

impl<'s> Shape<'s> {
    fn of(
        tool_idx: usize,
        (tool, original): (&Tool, &'s Value),
        schema: &'s Value,
        n_bytes: &mut usize,
    ) -> Result<Self, ConstraintError> {
        let Some(map) = schema.as_object() else {
            return Err(ConstraintError::Grammar("#: expected a schema of an object".to_owned()));
        };
        let other = map.keys().find(|key| !is_known(key) && !is_annotation(key));
        if let Some(keyword) = other {
            let why = "cannot be enforced in the way in which this model writes arguments";
            return Err(keyword_error("#", keyword, why));
        }
        let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
        let mut property = |(key, value): (&'s String, &Value)| {
            let kind = kind_in(tool, &original["properties"][key]);
            Ok((&**key, kind, of_value(value, map, n_bytes)?))
        };
        let properties: Vec<_> =
            properties.map(&mut property).collect::<Result<_, ConstraintError>>()?;
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
        let required: Vec<&str> = required.filter_map(Value::as_str).collect();
        let is_named = |key: &&str| properties.iter().any(|(name, ..)| name == key);
        if let Some(key) = required.iter().find(|key| !is_named(key)) {
            let why = format!("{key:?}: expected the name of one of the properties");
            return Err(keyword_error("#", "required", &why));
        }
        let others = match map.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(schema) if others_are_json(original) => Some(of_value(schema, map, n_bytes)?),
            _ => Some(json!({})),
        };
        Ok(Self { tool_idx, properties, required, others })
    }

    /// The names, which must be such.
    fn check_names(&self, is_such: impl Fn(char) -> bool) -> Result<(), ConstraintError> {
        let is_bad = |name: &&str| name.is_empty() || !name.chars().all(&is_such);
        match self.properties.iter().map(|(name, ..)| *name).find(is_bad) {
            None => Ok(()),
            Some(name) => {
                let why = format!("{name:?} cannot be a name in the way this model writes calls");
                Err(keyword_error("#", "properties", &why))
            }
        }
    }

    /// A terminal for the names of other arguments.
    fn other_key(&self, pattern: &str) -> String {
        let names = self.properties.iter().map(|(name, ..)| Value::from(*name).to_string());
        let names: Vec<String> = names.collect();
        match names.is_empty() {
            true => format!("/{pattern}/"),
            false => format!("/{pattern}/ & ~({})", names.join(" | ")),
        }
    }

    fn push_tagged(
        &self,
        calls: &Calls,
        [before_key, after_key, after_value]: [&str; 3],
        lark: &mut String,
    ) -> Result<(), ConstraintError> {
        self.check_names(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>'))?;
        let Self { tool_idx, .. } = self;
        let (end, mark) = (literal(calls, after_value), after_value.trim_ascii());
        if !lark.contains("\ntext_value: ") {
            // Up to the first mark. A mark that is a token is none of the text's.
            let mark = Value::from(mark);
            let any = format!("VALUE: /(?s:.+)/ & ~(/(?s:.*)/ {mark} /(?s:.*)/)\n");
            lark.push_str(&any);
            match end.starts_with('<') {
                true => lark.push_str(&format!("text_value: VALUE? {end}\n")),
                false => {
                    lark.push_str(&format!("TEXT_VALUE: VALUE? {end}\ntext_value: TEXT_VALUE\n"));
                }
            }
        }
        let [before_key, after_key] = [before_key, after_key].map(|text| literal(calls, text));
        let mut arguments = Vec::new();
        for (idx, (key, kind, _)) in self.properties.iter().enumerate() {
            // The name is a terminal of its own, as those that no schema names are: one that has
            // the text before it in it would be the only one to go on with.
            let before = format!("{before_key} {} {after_key}", Value::from(*key));
            let value = match kind {
                Kind::Text => "text_value".to_owned(),
                Kind::Choice(texts) if texts.iter().any(|text| text.contains(mark)) => {
                    let why = format!("of {key:?}: a text has {mark:?} in it, which ends it");
                    return Err(keyword_error("#", "properties", &why));
                }
                Kind::Choice(texts) => format!("({}) {end}", one_of(texts)),
                Kind::Json => format!("@value_{tool_idx}_{idx} {end}"),
            };
            lark.push_str(&format!("argument_{tool_idx}_{idx}: {before} {value}\n"));
            let is_required = self.required.contains(key);
            let mark = if is_required { "" } else { "?" };
            arguments.push(format!("argument_{tool_idx}_{idx}{mark}"));
        }
        if let Some(others) = &self.others {
            let key = self.other_key(&format!("[a-zA-Z0-9_.-]{{1,{KEY_CHARS_MAX}}}"));
            let value = match is_anything(others) {
                true => "text_value".to_owned(),
                false => format!("@value_{tool_idx}_x {end}"),
            };
            lark.push_str(&format!("OTHER_KEY_{tool_idx}: {key}\n"));
            lark.push_str(&format!(
                "other_{tool_idx}: {before_key} OTHER_KEY_{tool_idx} {after_key} {value}\n"
            ));
            arguments.push(format!("other_{tool_idx}*"));
        }
        let arguments = if arguments.is_empty() { "\"\"".to_owned() } else { arguments.join(" ") };
        lark.push_str(&format!("arguments_{tool_idx}: {arguments}\n"));
        Ok(())
    }

    /// For each argument two rules for it and those behind it: with none before it, and behind one.
    fn push_python(&self, lark: &mut String) -> Result<(), ConstraintError> {
        self.check_names(|c| c.is_ascii_alphanumeric() || c == '_')?;
        if let Some((name, ..)) = self.properties.iter().find(|(name, ..)| is_digit_first(name)) {
            let why = format!("{name:?} cannot be a name in the way this model writes calls");
            return Err(keyword_error("#", "properties", &why));
        }
        let Self { tool_idx, .. } = self;
        lark.push_str(&format!("arguments_{tool_idx}: first_{tool_idx}_0\n"));
        for (idx, (key, kind, schema)) in self.properties.iter().enumerate() {
            let next = idx + 1;
            let value = match kind {
                Kind::Json if is_any_boolean(schema) => "(\"True\" | \"False\")".to_owned(),
                _ => format!("@value_{tool_idx}_{idx} "),
            };
            let argument = format!("\"{key}=\" {value} more_{tool_idx}_{next}");
            for (rule, before) in [("first", ""), ("more", "\", \" ")] {
                let skip = match self.required.contains(key) {
                    true => String::new(),
                    false => format!(" | {rule}_{tool_idx}_{next}"),
                };
                lark.push_str(&format!("{rule}_{tool_idx}_{idx}: {before}{argument}{skip}\n"));
            }
        }
        let last = self.properties.len();
        let (mut first, mut more) = ("\"\"".to_owned(), "\"\"".to_owned());
        if self.others.is_some() {
            let key = self.other_key(&format!("[a-zA-Z_][a-zA-Z0-9_]{{0,{}}}", KEY_CHARS_MAX - 1));
            lark.push_str(&format!("OTHER_KEY_{tool_idx}: {key}\n"));
            let other = format!("OTHER_KEY_{tool_idx} \"=\" @value_{tool_idx}_x ");
            more = format!("(\", \" {other})*");
            first = format!("({other} {more})?");
        }
        lark.push_str(&format!("first_{tool_idx}_{last}: {first}\n"));
        lark.push_str(&format!("more_{tool_idx}_{last}: {more}\n"));
        Ok(())
    }
}

/// The schema with itself among its definitions, where a part refers to it: a value's schema has
/// another root.
fn with_root_defined(mut schema: Value) -> Value {
    if !redirect_root(&mut schema) {
        return schema;
    }
    let mut root = schema.clone();
    if let (Some(map), Some(root_map)) = (schema.as_object_mut(), root.as_object_mut()) {
        root_map.remove("$schema");
        let definitions = root_map.remove("$defs").unwrap_or_else(|| json!({}));
        let definitions = map.entry("$defs").or_insert(definitions);
        definitions[ROOT] = root;
    }
    schema
}

/// Turns references to the root to its definition, and says whether there are any.
fn redirect_root(value: &mut Value) -> bool {
    match value {
        Value::Object(map) => {
            let is_it = map.get("$ref").is_some_and(|target| target == "#");
            if is_it {
                map.insert("$ref".to_owned(), format!("#/$defs/{ROOT}").into());
            }
            map.values_mut().fold(is_it, |is_any, value| redirect_root(value) || is_any)
        }
        // All of them, so without stopping at the first.
        Value::Array(all) => {
            all.iter_mut().filter_map(|v| redirect_root(v).then_some(())).count() > 0
        }
        _ => false,
    }
}

/// The schema of one value by itself: of the same draft as the whole, `map`, and with those of its
/// definitions that it leads to. These count in `n_bytes`.
fn of_value(
    value: &Value,
    map: &Map<String, Value>,
    n_bytes: &mut usize,
) -> Result<Value, ConstraintError> {
    let Value::Object(own) = value else { return Ok(value.clone()) };
    let mut own = own.clone();
    let (mut reached, mut names) = (Map::new(), Vec::new());
    push_references(value, &mut names);
    while let Some(name) = names.pop() {
        if let Some(definition) = map.get("$defs").and_then(|all| all.get(name))
            && !reached.contains_key(name)
        {
            *n_bytes += definition.to_string().len();
            if *n_bytes > DEFINITIONS_BYTES_MAX {
                let what = "bytes of the definitions that arguments refer to, for each argument";
                let (found, max) = (*n_bytes, DEFINITIONS_BYTES_MAX);
                return Err(ConstraintError::TooLarge { what, found, max });
            }
            push_references(definition, &mut names);
            reached.insert(name.to_owned(), definition.clone());
        }
    }
    if !reached.is_empty() {
        own.insert("$defs".to_owned(), reached.into());
    }
    if let Some(draft) = map.get("$schema") {
        own.insert("$schema".to_owned(), draft.clone());
    }
    Ok(own.into())
}

/// Appends the names of the definitions that are referred to.
fn push_references<'v>(value: &'v Value, names: &mut Vec<&'v str>) {
    match value {
        Value::Object(map) => {
            let target = map.get("$ref").and_then(Value::as_str);
            names.extend(target.and_then(|target| target.strip_prefix("#/$defs/")));
            map.values().for_each(|value| push_references(value, names));
        }
        Value::Array(all) => all.iter().for_each(|value| push_references(value, names)),
        _ => {}
    }
}

/// Whether the schema says nothing but that a value is a boolean.
fn is_any_boolean(schema: &Value) -> bool {
    let is_all = |map: &Map<String, Value>| {
        map.keys().all(|key| ["$defs", "$schema", "type"].contains(&&**key))
    };
    schema["type"] == "boolean" && schema.as_object().is_some_and(is_all)
}

fn is_anything(schema: &Value) -> bool {
    schema.as_object().is_some_and(Map::is_empty)
}

fn is_digit_first(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit())
}

fn one_of(texts: &[String]) -> String {
    let quoted: Vec<String> =
        texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
    quoted.join(" | ")
}
