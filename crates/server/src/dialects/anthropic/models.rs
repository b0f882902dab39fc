//! `GET /v1/models` and `GET /v1/models/{id}` as clients of this family read them.

use super::to_json;
use crate::dialects::fields::{Field, short, wrong};
use crate::dialects::openai::ModelCard;
use crate::dialects::time::rfc3339;
use crate::errors::BadRequest;
use serde::Serialize;

/// Models on one page where nobody says, and most of them.
const PAGE: usize = 20;
const PAGE_MAX: usize = 1000;

/// The parameters of the list's query. Others, such as `beta=true`, ask for nothing.
pub(crate) const PAGE_FIELDS: &[Field] = &[
    Field::honoured("limit").integer(1, PAGE_MAX as i64).note("in Anthropic's form only"),
    Field::honoured("after_id").text().note("in Anthropic's form only"),
    Field::honoured("before_id").text().note("in Anthropic's form only"),
];

#[derive(Serialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    display_name: &'a str,
    /// RFC 3339.
    created_at: String,
    lifecycle: &'static str,
    /// In what it is not what the owner's lock says; only of one that is not answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    /// This and the next only of a model that is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_input_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

fn model(card: &ModelCard) -> Model<'_> {
    Model {
        kind: "model",
        id: &card.id,
        display_name: &card.id,
        created_at: rfc3339(card.created),
        lifecycle: "active",
        refused: card.status.reason.as_deref(),
        max_input_tokens: card.context_length,
        max_tokens: card.context_length,
    }
}

/// The body of one model.
pub(crate) fn model_body(card: &ModelCard) -> String {
    to_json(&model(card))
}

/// The body of the page of the list that `query` asks for: `limit` models, those behind `after_id`
/// or those before `before_id`.
pub(crate) fn list_body(cards: &[ModelCard], query: &str) -> Result<String, BadRequest> {
    #[derive(Serialize)]
    struct List<'a> {
        data: Vec<Model<'a>>,
        has_more: bool,
        first_id: Option<&'a str>,
        last_id: Option<&'a str>,
    }
    let (mut from, mut to, mut limit, mut is_backward) = (0, cards.len(), PAGE, false);
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        match name {
            "limit" => {
                limit =
                    value.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n)).ok_or_else(|| {
                        let expected = format!("an integer between 1 and {PAGE_MAX}");
                        wrong("limit", &value.into(), &expected)
                    })?;
            }
            "after_id" => from = place(cards, name, value)? + 1,
            "before_id" => (to, is_backward) = (place(cards, name, value)?, true),
            // Such as `beta=true`.
            _ => {}
        }
    }
    let asked = cards.get(from..to).unwrap_or_default();
    let page = match is_backward {
        true => &asked[asked.len().saturating_sub(limit)..],
        false => &asked[..asked.len().min(limit)],
    };
    Ok(to_json(&List {
        has_more: page.len() < asked.len(),
        first_id: page.first().map(|card| &*card.id),
        last_id: page.last().map(|card| &*card.id),
        data: page.iter().map(model).collect(),
    }))
}

/// Where the model is in the list whose id, percent-encoded, is `value`.
fn place(cards: &[ModelCard], name: &str, value: &str) -> Result<usize, BadRequest> {
    let id = decoded(value);
    let found = cards.iter().position(|card| card.id.as_bytes() == id);
    found.ok_or_else(|| {
        let shown = short(&String::from_utf8_lossy(&id));
        BadRequest::field(name, &format!("{shown:?}: expected the id of a model"))
    })
}

/// Percent-encoded text; what is no encoding stands for itself.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| byte == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(code.unwrap_or(if byte == b'+' { b' ' } else { byte }));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::openai::ModelStatus;
    use serde_json::Value;

    fn cards() -> Vec<ModelCard> {
        let card = |id: &str| ModelCard {
            id: id.to_owned(),
            object: "model",
            created: 1_700_000_000,
            owned_by: "freehold",
            status: ModelStatus { value: "loaded", reason: None },
            context_length: Some(512),
            max_model_len: Some(512),
            meta: None,
        };
        ["a", "b/c d", "e", "f"].map(card).to_vec()
    }

    #[test]
    fn a_model_has_the_fields_clients_read() {
        let expected = r#"{"type":"model","id":"a","display_name":"a","created_at":"2023-11-14T22:13:20Z","lifecycle":"active","max_input_tokens":512,"max_tokens":512}"#;
        assert_eq!(model_body(&cards()[0]), expected);
        let status = ModelStatus::refused("m is not as locked".to_owned());
        let refused = model_body(&ModelCard { status, ..cards()[0].clone() });
        let expected = r#""lifecycle":"active","refused":"m is not as locked""#;
        assert!(refused.contains(expected), "{refused}");
    }

    #[test]
    fn pages_are_those_that_were_asked_for() {
        let check = |query: &str, expected: Result<(&[&str], bool), &str>| {
            let found = list_body(&cards(), query).map_err(|bad| bad.message).map(|body| {
                let body: Value = serde_json::from_str(&body).unwrap();
                let id = |model: &Value| model["id"].as_str().unwrap().to_owned();
                let data = body["data"].as_array().unwrap();
                let ids: Vec<String> = data.iter().map(id).collect();
                assert_eq!(body["first_id"].as_str(), ids.first().map(|id| &**id), "{query}");
                assert_eq!(body["last_id"].as_str(), ids.last().map(|id| &**id), "{query}");
                (ids, body["has_more"].as_bool().unwrap())
            });
            let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
            let expected = expected.map(|(ids, more)| (owned(ids), more));
            assert_eq!(found, expected.map_err(str::to_owned), "{query}");
        };
        check("", Ok((&["a", "b/c d", "e", "f"], false)));
        check("beta=true&limit=1000", Ok((&["a", "b/c d", "e", "f"], false)));
        check("limit=2", Ok((&["a", "b/c d"], true)));
        check("limit=2&after_id=b%2Fc%20d", Ok((&["e", "f"], false)));
        check("after_id=b%2Fc+d", Ok((&["e", "f"], false)));
        check("limit=2&before_id=f", Ok((&["b/c d", "e"], true)));
        check("after_id=f", Ok((&[], false)));
        check("after_id=f&before_id=a", Ok((&[], false)));
        check("limit=0", Err("limit: \"0\": expected an integer between 1 and 1000"));
        check("after_id=%", Err("after_id: \"%\": expected the id of a model"));
    }
}
