//! What an answer must look like: OpenAI's `response_format`, the names by which vLLM's clients ask
//! for the same and for more, and llama.cpp's `grammar`.
//!
//! A grammar is in GBNF or in Lark's notation under each of these names; which one it is shows.

use crate::dialects::ConstraintAsk;
use crate::dialects::fields::{Fields, shown, wrong};
use crate::errors::BadRequest;
use engine::Grammar;
use serde_json::Value;

/// Takes the constraint out of `fields`; there can be one only.
pub(super) fn take(fields: &mut Fields) -> Result<Option<ConstraintAsk>, BadRequest> {
    let mut asks = Vec::new();
    asks.extend(take_response_format(fields)?);
    for (name, kind) in [
        ("guided_json", Kind::Json),
        ("guided_regex", Kind::Regex),
        ("guided_choice", Kind::Choice),
        ("guided_grammar", Kind::Rules),
        ("grammar", Kind::RulesOrNone),
    ] {
        asks.extend(take_kind(fields, name, kind)?);
    }
    if let Some(mut outputs) = fields.object("structured_outputs")? {
        for (name, kind) in [
            ("json", Kind::Json),
            ("regex", Kind::Regex),
            ("choice", Kind::Choice),
            ("grammar", Kind::Rules),
        ] {
            asks.extend(take_kind(&mut outputs, name, kind)?);
        }
        if outputs.flag("json_object")? == Some(true) {
            let param = outputs.path("json_object");
            asks.push(ConstraintAsk { grammar: Grammar::JsonObject, param });
        }
        outputs.refuse_rest()?;
    }
    if let [first, second, ..] = &asks[..] {
        let problem = format!("expected one constraint only, and {} is another", first.param);
        return Err(BadRequest::field(&second.param, &problem));
    }
    Ok(asks.pop())
}

#[derive(Clone, Copy)]
enum Kind {
    Json,
    Regex,
    Choice,
    Rules,
    /// The same, or an empty text for no constraint.
    RulesOrNone,
}

fn take_kind(
    fields: &mut Fields,
    name: &str,
    kind: Kind,
) -> Result<Option<ConstraintAsk>, BadRequest> {
    let param = fields.path(name);
    let grammar = match kind {
        Kind::Json => fields.take(name).map(|schema| schema_of(&param, schema)).transpose()?,
        Kind::Regex => fields.text(name)?.map(Grammar::Regex),
        Kind::Rules => fields.text(name)?.map(Grammar::of_rules),
        // llama.cpp's clients send an empty one where they want none.
        Kind::RulesOrNone => {
            fields.text(name)?.filter(|text| !text.is_empty()).map(Grammar::of_rules)
        }
        Kind::Choice => {
            let text = |(idx, value): (usize, Value)| match value {
                Value::String(text) => Ok(text),
                other => Err(wrong(&format!("{param}[{idx}]"), &other, "a string")),
            };
            let list = fields.list(name)?;
            let texts = |list: Vec<Value>| list.into_iter().enumerate().map(text).collect();
            list.map(texts).transpose()?.map(Grammar::Choice)
        }
    };
    Ok(grammar.map(|grammar| ConstraintAsk { grammar, param }))
}

/// A schema, or one as text, which is how some clients send it.
fn schema_of(param: &str, schema: Value) -> Result<Grammar, BadRequest> {
    let Value::String(text) = &schema else { return Ok(Grammar::JsonSchema(schema)) };
    let read = serde_json::from_str(text).map(Grammar::JsonSchema);
    read.map_err(|e| BadRequest::field(param, &format!("expected a JSON schema: {e}")))
}

fn take_response_format(fields: &mut Fields) -> Result<Option<ConstraintAsk>, BadRequest> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(None) };
    let path = format.path("type");
    let expected = "\"text\", \"json_object\" or \"json_schema\"";
    let ask = match format.take("type") {
        Some(kind) if kind == "text" => None,
        Some(kind) if kind == "json_object" => {
            Some(ConstraintAsk { grammar: Grammar::JsonObject, param: path })
        }
        Some(kind) if kind == "json_schema" => {
            let Some(mut named) = format.object("json_schema")? else {
                let param = format.path("json_schema");
                return Err(BadRequest::field(&param, "absent: expected an object with a schema"));
            };
            let ask = take_schema(&mut named)?;
            named.refuse_rest()?;
            Some(ask)
        }
        Some(kind) => {
            let why = format!("{}: expected {expected}", shown(&kind));
            return Err(BadRequest::unsupported(&path, &why));
        }
        None => return Err(BadRequest::field(&path, &format!("absent: expected {expected}"))),
    };
    format.refuse_rest()?;
    Ok(ask)
}

/// The schema of a format, and what it is called.
pub(super) fn take_schema(named: &mut Fields) -> Result<ConstraintAsk, BadRequest> {
    let param = named.path("schema");
    let Some(schema) = named.take("schema") else {
        return Err(BadRequest::field(&param, "absent: expected a JSON schema"));
    };
    named.text("name")?;
    named.text("description")?;
    // A schema is enforced either way.
    named.flag("strict")?;
    Ok(ConstraintAsk { grammar: Grammar::JsonSchema(schema), param })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_grammar_is_none_under_the_name_of_llama_cpp_only() {
        let check = |body: Value, expected: Option<&str>| {
            let body = body.to_string();
            let ask = take(&mut Fields::parse(body.as_bytes()).unwrap()).unwrap();
            assert_eq!(ask.map(|ask| ask.param).as_deref(), expected);
        };
        check(json!({"grammar": ""}), None);
        check(json!({"guided_grammar": ""}), Some("guided_grammar"));
        check(json!({"structured_outputs": {"grammar": ""}}), Some("structured_outputs.grammar"));
    }
}
