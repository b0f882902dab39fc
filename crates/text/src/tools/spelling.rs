//! The grammar of arguments that are not written as a JSON object.
//!
//! Values are JSON of their schemas, but for those that a model writes as they are: text without
//! other bounds, and choices of texts. Arguments come in the order of the schema's properties. What
//! a schema says about the object as a whole, beyond names, cannot be held to here and is refused.

use super::arguments::{Form, Kind, kind_of};
use super::grammar::{arguments_schema, literal};
use super::{Calls, Tool};
use crate::constraint::{ConstraintError, is_annotation, json_grammar, keyword_error, normalise};
use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

/// Longest name of an argument that no schema names.
const KEY_CHARS_MAX: usize = 64;

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
) -> Result<Vec<GrammarWithLexer>, ConstraintError> {
    let original = arguments_schema(tool.parameters.as_ref())?;
    let schema = normalise(&original)?;
    let shape = Shape::of(tool_idx, &original, &schema)?;
    match calls.format().arguments {
        Form::Json => {}
        Form::Tagged { before_key, after_key, after_value } => {
            shape.push_tagged(calls, [before_key, after_key, after_value], lark)?;
        }
        Form::Python => shape.push_python(lark)?,
    }
    let mut grammars = Vec::new();
    let values = shape.properties.iter().enumerate();
    let values = values.map(|(idx, (.., schema))| (idx.to_string(), schema));
    for (name, value) in values.chain(shape.others.iter().map(|value| ("x".to_owned(), value))) {
        let name = format!("value_{tool_idx}_{name}");
        if lark.contains(&format!("@{name} ")) {
            grammars.push(GrammarWithLexer { name: Some(name), ..json_grammar(value.clone()) });
        }
    }
    Ok(grammars)
}

impl<'s> Shape<'s> {
    fn of(
        tool_idx: usize,
        original: &'s Value,
        schema: &'s Value,
    ) -> Result<Self, ConstraintError> {
        const KNOWN: [&str; 5] =
            ["$defs", "additionalProperties", "properties", "required", "type"];
        let Some(map) = schema.as_object() else {
            return Err(ConstraintError::Grammar("#: expected a schema of an object".to_owned()));
        };
        let other = map.keys().find(|key| !KNOWN.contains(&&***key) && !is_annotation(key));
        if let Some(keyword) = other {
            let why = "cannot be enforced in the way in which this model writes arguments";
            return Err(keyword_error("#", keyword, why));
        }
        // A value refers to what the whole schema defines.
        let whole = |value: &Value| match (value, map.get("$defs")) {
            (Value::Object(value), Some(definitions)) => {
                let mut value = value.clone();
                value.insert("$defs".to_owned(), definitions.clone());
                value.into()
            }
            (value, _) => value.clone(),
        };
        let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
        let property = |(key, value): (&'s String, &Value)| {
            (&**key, kind_of(&original["properties"][key]), whole(value))
        };
        let properties: Vec<_> = properties.map(property).collect();
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
        let required: Vec<&str> = required.filter_map(Value::as_str).collect();
        let is_named = |key: &&str| properties.iter().any(|(name, ..)| name == key);
        if let Some(key) = required.iter().find(|key| !is_named(key)) {
            let why = format!("{key:?}: expected the name of one of the properties");
            return Err(keyword_error("#", "required", &why));
        }
        let others = match map.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            None => Some(json!({})),
            Some(schema) => Some(whole(schema)),
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
        let end = literal(calls, after_value);
        if !lark.contains("\ntext_value: ") {
            // Up to the first mark. A mark that is a token is none of the text's.
            let mark = Value::from(after_value.trim_ascii());
            let any = format!("VALUE: /(?s:.+)/ & ~(/(?s:.*)/ {mark} /(?s:.*)/)\n");
            lark.push_str(&any);
            match end.starts_with('<') {
                true => lark.push_str(&format!("text_value: VALUE? {end}\n")),
                false => {
                    lark.push_str(&format!("TEXT_VALUE: VALUE? {end}\ntext_value: TEXT_VALUE\n"));
                }
            }
        }
        let mut arguments = Vec::new();
        for (idx, (key, kind, _)) in self.properties.iter().enumerate() {
            let before = literal(calls, &[before_key, key, after_key].concat());
            let value = match kind {
                Kind::Text => "text_value".to_owned(),
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
            let value = match others.as_object().is_some_and(Map::is_empty) {
                true => "text_value".to_owned(),
                false => format!("@value_{tool_idx}_x {end}"),
            };
            let (before, behind) = (literal(calls, before_key), literal(calls, after_key));
            lark.push_str(&format!("OTHER_KEY_{tool_idx}: {key}\n"));
            lark.push_str(&format!(
                "other_{tool_idx}: {before} OTHER_KEY_{tool_idx} {behind} {value}\n"
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
                Kind::Json if schema["type"] == "boolean" && schema.get("enum").is_none() => {
                    "(\"True\" | \"False\")".to_owned()
                }
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

fn is_digit_first(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_digit())
}

fn one_of(texts: &[String]) -> String {
    let quoted: Vec<String> =
        texts.iter().map(|text| Value::from(text.as_str()).to_string()).collect();
    quoted.join(" | ")
}
