//! Answers that are JSON: by a schema, or by the value at a path.
//!
//! The JSON may stand in one fenced block (```` ```json ````) that is the whole answer.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use crate::error::{GateError, shown};
use crate::expect::{Check, Kind, Seen};
use crate::fields::Fields;
use crate::json_path::JsonPath;

/// Bytes that a compiled pattern of a schema may take.
const PATTERN_BYTES_MAX: usize = 10 << 20;

/// `schema = {…}`: a JSON schema (draft 2020-12, or as its `$schema` says), formats included.
pub(super) const SCHEMA: Kind = Kind {
    name: "schema",
    read: |fields| {
        let schema = fields.value("schema").unwrap_or_default();
        // By this engine patterns take linear time, whatever they and the answer are.
        let patterns = PatternOptions::regex().size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options().should_validate_formats(true);
        let options = options.should_ignore_unknown_formats(false).with_pattern_options(patterns);
        let validator = options.build(&schema).map_err(|error| {
            fields.wrong("schema", format!("at {:?}: {error}", error.schema_path().to_string()))
        })?;
        Ok(Box::new(Schema { validator }))
    },
};

/// `json = "$.path", equals = value`: numbers by value (1 and 1.0 are equal), the rest as it is.
pub(super) const EQUALS: Kind = Kind {
    name: "equals",
    read: |fields| {
        let expected = fields.value("equals").unwrap_or_default();
        let Some(path) = path(fields)? else {
            return Err(fields.wrong("json", "absent, expected the path of the value"));
        };
        Ok(Box::new(Equals { path, expected }))
    },
};

/// The path in the field `json`.
pub(super) fn path(fields: &mut Fields) -> Result<Option<JsonPath>, GateError> {
    let Some(text) = fields.text("json")? else { return Ok(None) };
    JsonPath::parse(&text).map(Some).map_err(|problem| fields.wrong("json", problem))
}

/// The answer as JSON.
pub(super) fn read(text: &str) -> Result<Value, String> {
    serde_json::from_str(unfenced(text.trim())).map_err(|error| format!("is no JSON: {error}"))
}

/// The value at `path` of the answer.
pub(super) fn at(path: &JsonPath, text: &str) -> Result<Value, String> {
    let value = read(text)?;
    let found = path.find(&value).cloned();
    found.ok_or_else(|| format!("has nothing at {}: {}", path.as_str(), shown(&value)))
}

fn unfenced(text: &str) -> &str {
    let inner = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    match inner.and_then(|inner| inner.split_once('\n')) {
        Some((language, inner)) if language.trim().chars().all(char::is_alphanumeric) => inner,
        _ => text,
    }
}

/// Whether both are the same value: numbers by what they are, not how they are written.
pub(super) fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => x == y || x.as_f64() == y.as_f64(),
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| is_same(x, y))
        }
        (Value::Object(x), Value::Object(y)) => {
            let is_in = |(key, x): (&String, &Value)| y.get(key).is_some_and(|y| is_same(x, y));
            x.len() == y.len() && x.iter().all(is_in)
        }
        _ => a == b,
    }
}

#[derive(Debug)]
struct Schema {
    validator: Validator,
}

impl Check for Schema {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let value = read(&seen.answer.text)?;
        self.validator.validate(&value).map_err(|error| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
            format!("does not fit its schema: {place}{error}")
        })
    }
}

#[derive(Debug)]
struct Equals {
    path: JsonPath,
    expected: Value,
}

impl Check for Equals {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let found = at(&self.path, &seen.answer.text)?;
        if is_same(&found, &self.expected) {
            return Ok(());
        }
        let (path, expected) = (self.path.as_str(), shown(&self.expected));
        Err(format!("has {} at {path}, expected {expected}", shown(&found)))
    }
}

#[cfg(test)]
mod tests {
    use crate::expect::testing::*;
    use serde_json::json;

    #[test]
    fn answers_are_held_against_a_schema() {
        let schema = json!({"schema": {"type": "object", "required": ["a"],
            "properties": {"a": {"type": "integer"}, "on": {"format": "date"}}}});
        check(schema.clone(), "{\"a\": 1}", None);
        check(schema.clone(), "```json\n{\"a\": 1}\n```", None);
        check(schema.clone(), "Here: {\"a\": 1}", Some("is no JSON"));
        check(schema.clone(), "{\"a\": \"x\"}", Some("/a: \"x\" is not of type \"integer\""));
        check(schema, "{\"a\": 1, \"on\": \"soon\"}", Some("/on"));
        check_refused(json!({"schema": {"type": "thing"}}), "expect: schema: at ");
        check_refused(json!({"schema": {"$ref": "https://example.com/x"}}), "schema: at ");
        check_refused(json!({"schema": {"pattern": r"(a)\1"}}), "schema: at ");
    }

    #[test]
    fn values_are_found_by_their_path() {
        let at = |path: &str, value| json!({"json": path, "equals": value});
        check(at("$.a[0]", json!(1)), "{\"a\": [1.0]}", None);
        check(at("$", json!({"b": 2, "a": [1]})), "{\"a\": [1.0], \"b\": 2}", None);
        check(at("$.a", json!(null)), "{\"a\": null}", None);
        check(at("$.a", json!("x")), "{\"a\": \"y\"}", Some("has \"y\" at $.a, expected \"x\""));
        check(at("$.b", json!(1)), "{\"a\": 1}", Some("has nothing at $.b: {\"a\":1}"));
        check_refused(json!({"equals": 1}), "json: absent, expected the path");
        check_refused(at("$[*]", json!(1)), "json: JSON path \"$[*]\", character 3");
    }
}
