//! What answers the owner about the rules: what they say, and what they make of a request.

use super::{App, Arrival};
use crate::dialects::Paths;
use crate::dialects::declared::{Field, Unknown};
use crate::dialects::fields::{Fields, wrong};
use crate::errors::BadRequest;
use crate::serve::admin::{Taken, noted, take};
use crate::serve::blocking;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, Response};
use policy::{Decision, Departure, Facts, PolicyError, Route, Rule, decide};
use serde_json::{Value, json};
use std::sync::Arc;

/// A request that the rules are tried with, in the words of `freehold policy explain`.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("request")
        .shape(r#"{"type":"object","additionalProperties":{"type":["string","number","array","null"],"items":{"type":"string"}}}"#)
        .good(r#"{"key_label":"public","tokens":1200,"needs":["tools"]}"#)
        .note("what is known of it, in the names of `freehold policy explain`"),
    Field::honoured("text").text().note("contents, in which something may be detected"),
];

/// What the rules say.
pub(crate) async fn rules(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let ways = app.ways.get();
    let rules = &ways.elsewhere.rules;
    let rule = |rule: &Rule| {
        let condition = |(name, value): (&str, &str)| json!({"name": name, "value": value});
        json!({
            "rule": rule.name(),
            "line": rule.line(),
            "conditions": rule.conditions().map(condition).collect::<Vec<_>>(),
            "outcome": rule.outcome(),
        })
    };
    let raise = |(class, label): (&str, &str)| json!({"class": class, "label": label});
    let body = json!({
        "rules": rules.all().map(rule).collect::<Vec<_>>(),
        "raises": rules.raises().map(raise).collect::<Vec<_>>(),
        "upstreams": ways.elsewhere.names(),
    });
    noted(Ok((body.to_string(), Paths::default())), &arrival)
}

/// Which rule decides about a request that the owner makes up, and why those before it did not.
pub(crate) async fn explain(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let told = async {
        let Taken { body, unknown, .. } = &take(&app, &arrival, &headers, body).await?;
        let (facts, text, ignored) = read(body, *unknown)?;
        let ways = app.ways.get();
        let decision = blocking(move || {
            let mut facts = facts;
            if let Some(text) = text {
                let found = ways.detector.find(&text).map_err(|error| at("text", &error))?;
                facts.detected.get_or_insert_default().extend(found.iter().map(|of| of.class));
            }
            Ok(decide(&ways.elsewhere.rules, &facts))
        });
        Ok((explained(&decision.await?).to_string(), ignored))
    };
    noted(told.await, &arrival)
}

/// What is known of the request, and its contents.
fn read(body: &[u8], unknown: Unknown) -> Result<(Facts, Option<String>, Paths), BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.treat(FIELDS)?;
    let request = fields.object("request")?.map(Fields::into_map).unwrap_or_default();
    let text = fields.text("text")?;
    let ignored = fields.finish(unknown)?;
    let known = request.into_iter().filter(|(_, value)| !value.is_null());
    let pairs = known.map(|(name, value)| {
        let word = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let value = match &value {
            // As a command line has a list.
            Value::Array(list) if list.is_empty() => Some("none".to_owned()),
            Value::Array(list) => {
                let words: Option<Vec<String>> = list.iter().map(word).collect();
                words.map(|words| words.join(","))
            }
            one => word(one),
        }
        .ok_or_else(|| wrong("request", &value, "texts, numbers and lists of texts"))?;
        Ok((name, value))
    });
    let pairs = pairs.collect::<Result<Vec<_>, BadRequest>>()?;
    let facts = Facts::from_pairs(&pairs).map_err(|error| at("request", &error))?;
    Ok((facts, text, ignored))
}

/// What the rules' own reader has against it, said of the field.
fn at(field: &str, error: &PolicyError) -> BadRequest {
    let problem = error.to_string();
    BadRequest::field(field, problem.strip_prefix("--request: ").unwrap_or(&problem))
}

/// A decision and how it came about, as JSON.
pub fn explained(decision: &Decision) -> Value {
    let reason = match &decision.route {
        Route::Refuse { reason } => Some(reason),
        _ => None,
    };
    let departure = decision.route.departure();
    let considered = decision.considered.iter().map(|rule| {
        json!({
            "rule": rule.rule,
            "line": rule.line,
            "why_not": rule.why_not,
            "assumed": rule.assumed,
        })
    });
    json!({
        "outcome": decision.route.name(),
        "upstream": departure.map(Departure::upstream),
        "redacted": departure.map(Departure::is_redacted),
        "reason": reason,
        "notes": decision.notes,
        "rule": decision.rule().map(|rule| &rule.rule),
        "label": decision.label.name(),
        "label_because": decision.label_because,
        "considered": considered.collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_as_the_command_line_reads_it() {
        let read = |body: &str| read(body.as_bytes(), Unknown::Refused);
        let (facts, text, _) = read(
            r#"{"request":{"alias":"gpt-4o","tokens":1200,"needs":["tools","images"],"detected":[],"key":null},"text":"hi"}"#,
        )
        .unwrap();
        assert_eq!((facts.alias.as_deref(), facts.n_tokens), (Some("gpt-4o"), Some(1200)));
        assert_eq!(facts.needs.unwrap().len(), 2);
        assert!(facts.detected.unwrap().is_empty() && facts.key.is_none());
        assert_eq!(text.as_deref(), Some("hi"));
        for (body, words) in [
            (r#"{"request":{"tokns":1}}"#, "request: unknown field \"tokns\", did you mean"),
            (r#"{"request":{"tokens":true}}"#, "request: true: expected texts"),
            (r#"{"request":{"a b":"c"}}"#, "request: \"a b\": expected NAME=VALUE"),
            (r#"{"request":7}"#, "request: 7: expected"),
        ] {
            let error = read(body).unwrap_err();
            assert!(error.message.starts_with(words), "{}", error.message);
            assert_eq!(error.param.as_deref(), Some("request"));
        }
    }
}
