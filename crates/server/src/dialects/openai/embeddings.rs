//! `POST /v1/embeddings`: vectors of texts.
//!
//! The vectors have length 1. A text that is too long is refused, not cut; `"truncate": true`,
//! which is no field of OpenAI's, has its end cut off.

use super::completions::PROMPT;
use super::to_json;
use crate::dialects::fields::{Field, Fields, Unknown, take_texts, wrong};
use crate::dialects::{Overlong, Paths, PlainPrompt, VectorAnswer, VectorAsk, VectorDialect};
use crate::errors::BadRequest;
use crate::limits::Limits;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Serialize;
use serde_json::Value;

/// What becomes of the fields that the route knows.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("input").shape(PROMPT).good(r#"["Hi","there"]"#).note("texts or token ids"),
    Field::honoured("model").text().note("without it: the first model that makes vectors"),
    Field::honoured("encoding_format").words(&["float", "base64"]),
    Field::honoured("dimensions")
        .count(1)
        .by_model()
        .good("384")
        .note("only as many as the model's vectors have: they are not cut"),
    Field::honoured("truncate").flag().note("cuts what is too long, which is refused otherwise"),
    // Says who asks, to a vendor that keeps watch over its clients' users.
    Field::tolerated("user"),
];

/// A request for vectors that was understood in full.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingRequest {
    /// What it asks of the model.
    pub ask: VectorAsk,
    /// How a vector is written.
    pub encoding: Encoding,
    /// Paths of what has no effect.
    ignored: Paths,
}

/// How a vector is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As a JSON array of numbers.
    Float,
    /// As the base64 of its little-endian `f32`, which openai-python asks for unasked.
    Base64,
}

/// The route.
pub(crate) struct Embeddings;

impl VectorDialect for Embeddings {
    type Request = EmbeddingRequest;

    fn parse(body: &[u8], limits: &Limits) -> Result<EmbeddingRequest, BadRequest> {
        parse(body, limits, Unknown::Refused)
    }

    fn parse_leniently(body: &[u8], limits: &Limits) -> Result<EmbeddingRequest, BadRequest> {
        parse(body, limits, Unknown::Ignored)
    }

    fn take_ignored(request: &mut EmbeddingRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn ask(request: &EmbeddingRequest) -> &VectorAsk {
        &request.ask
    }

    fn place(request: &EmbeddingRequest, text_idx: usize) -> String {
        place(&request.ask.texts, text_idx)
    }

    fn body(request: &EmbeddingRequest, answer: &VectorAnswer) -> String {
        let data = answer.vectors.iter().enumerate().map(|(index, vector)| Datum {
            object: "embedding",
            index,
            embedding: match request.encoding {
                Encoding::Float => Written::Floats(vector),
                Encoding::Base64 => Written::Base64(base64(vector)),
            },
        });
        to_json(&Body {
            object: "list",
            data: data.collect(),
            model: &answer.model,
            usage: Usage { prompt_tokens: answer.n_tokens, total_tokens: answer.n_tokens },
        })
    }
}

pub(super) fn parse(
    body: &[u8],
    limits: &Limits,
    unknown: Unknown,
) -> Result<EmbeddingRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(FIELDS)?.into_iter().collect();
    let model = fields.text("model")?;
    let encoding = match fields.text("encoding_format")?.as_deref() {
        None | Some("float") => Encoding::Float,
        Some("base64") => Encoding::Base64,
        Some(other) => {
            let other = Value::String(other.to_owned());
            return Err(wrong("encoding_format", &other, "\"float\" or \"base64\""));
        }
    };
    let n_embd = fields.count("dimensions", 1)?;
    let overlong = take_overlong(&mut fields)?;
    let texts = take_texts(&mut fields, "input")?;
    if texts.len() > limits.n_texts {
        let problem = format!("{} texts: expected at most {}", texts.len(), limits.n_texts);
        return Err(BadRequest::field("input", &problem));
    }
    let is_empty = |text: &PlainPrompt| match text {
        PlainPrompt::Text(text) => text.is_empty(),
        PlainPrompt::Tokens(tokens) => tokens.is_empty(),
        PlainPrompt::Middle { .. } => false,
    };
    if let Some(text_idx) = texts.iter().position(is_empty) {
        let place = place(&texts, text_idx);
        return Err(BadRequest::field(&place, "empty: expected at least one character or token"));
    }
    ignored.append(fields.finish(unknown)?);
    let ask = VectorAsk { model, texts, overlong, n_embd };
    Ok(EmbeddingRequest { ask, encoding, ignored })
}

/// Path of a text among those of `input`.
fn place(texts: &[PlainPrompt], text_idx: usize) -> String {
    if texts.len() == 1 { "input".to_owned() } else { format!("input[{text_idx}]") }
}

/// Takes `truncate`.
pub(crate) fn take_overlong(fields: &mut Fields) -> Result<Overlong, BadRequest> {
    match fields.flag("truncate")? {
        Some(true) => Ok(Overlong::Truncate),
        Some(false) | None => Ok(Overlong::Refuse),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    object: &'static str,
    data: Vec<Datum<'a>>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Datum<'a> {
    object: &'static str,
    index: usize,
    embedding: Written<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Written<'a> {
    Floats(&'a [f32]),
    Base64(String),
}

/// `usage` of an answer that holds no generated tokens.
#[derive(Serialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u64,
    pub(crate) total_tokens: u64,
}

/// Base64 (RFC 4648, section 4) of the little-endian bytes.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    BASE64_STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::Spent;
    use crate::dialects::openai::parse_embedding as parse;

    #[test]
    fn base64_is_that_of_the_standard() {
        assert_eq!(base64(&[]), "");
        assert_eq!(base64(&[1.0]), "AACAPw==");
        assert_eq!(base64(&[1.0, -2.5]), "AACAPwAAIMA=");
        assert_eq!(base64(&[1.0, -2.5, f32::from_bits(0xffff_ffff)]), "AACAPwAAIMD/////");
    }

    fn refused(body: &str) -> String {
        let bad = parse(body.as_bytes(), &Limits { n_texts: 2, ..Limits::default() }).unwrap_err();
        format!(
            "{}|{}|{}",
            bad.param.unwrap_or_default(),
            bad.code.unwrap_or_default(),
            bad.message
        )
    }

    #[test]
    fn every_form_of_input_is_read() {
        let check = |input: &str, n_texts: usize| {
            let body = format!(r#"{{"model":"m","input":{input},"user":"me"}}"#);
            let request = parse(body.as_bytes(), &Limits::default()).unwrap();
            assert_eq!(request.ask.texts.len(), n_texts, "{input}");
            assert_eq!(
                (request.encoding, request.ask.overlong),
                (Encoding::Float, Overlong::Refuse)
            );
        };
        check(r#""a""#, 1);
        check(r#"["a"]"#, 1);
        check("[1,2]", 1);
        check(r#"["a",[1,2]]"#, 2);
        let body = br#"{"input":"a","encoding_format":"base64","dimensions":384,"truncate":true}"#;
        let request = parse(body, &Limits::default()).unwrap();
        assert_eq!(request.encoding, Encoding::Base64);
        assert_eq!((request.ask.n_embd, request.ask.overlong), (Some(384), Overlong::Truncate));
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_place() {
        for (body, expected) in [
            ("{}", "input|missing_required_parameter|input: absent"),
            (r#"{"input":""}"#, "input|invalid_value|input: empty"),
            (r#"{"input":["a",""]}"#, "input[1]|invalid_value|input[1]: empty"),
            (r#"{"input":[]}"#, "input|invalid_value|input: an array of 0"),
            (r#"{"input":["a",[]]}"#, "input[1]|invalid_value|input[1]: empty"),
            (r#"{"input":[1,-1]}"#, "input[1]|invalid_value|input[1]: -1: expected a token id"),
            (
                r#"{"input":["a","b","c"]}"#,
                "input|invalid_value|input: 3 texts: expected at most 2",
            ),
            (r#"{"input":{"text":"a"}}"#, "input|invalid_value|input: an object"),
            (r#"{"input":"a","encoding_format":"hex"}"#, "encoding_format|invalid_value|"),
            (r#"{"input":"a","dimensions":0}"#, "dimensions|invalid_value|dimensions: 0"),
            (r#"{"input":"a","truncate":"END"}"#, "truncate|invalid_value|truncate: \"END\""),
            (r#"{"input":"a","temperature":1}"#, "temperature|unknown_parameter|"),
        ] {
            let found = refused(body);
            assert!(found.starts_with(expected), "{body}: {found}");
        }
    }

    #[test]
    fn an_answer_has_the_shape_clients_read() {
        let answer = VectorAnswer {
            id: "x".to_owned(),
            model: "m".to_owned(),
            vectors: vec![vec![0.5, -0.25], vec![1.0, 0.0]],
            n_tokens: 7,
            spent: Spent::default(),
        };
        let request = |more: &str| {
            parse(format!(r#"{{"input":["a","b"]{more}}}"#).as_bytes(), &Limits::default()).unwrap()
        };
        assert_eq!(
            Embeddings::body(&request(""), &answer),
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-0.25]},{"object":"embedding","index":1,"embedding":[1.0,0.0]}],"model":"m","usage":{"prompt_tokens":7,"total_tokens":7}}"#
        );
        let body = Embeddings::body(&request(r#","encoding_format":"base64""#), &answer);
        assert!(body.contains(r#""embedding":"AAAAPwAAgL4="}"#), "{body}");
    }
}
