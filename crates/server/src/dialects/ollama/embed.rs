//! `POST /api/embed`, and `POST /api/embeddings`, its older form for one text. The vectors have
//! length 1. A text that is too long is refused unless `truncate` is true.

use super::reply::ns;
use super::settings::{KEEP_ALIVE, KEEP_NOTE};
use super::{line, settings};
use crate::dialects::fields::{Field, Fields, wrong};
use crate::dialects::{
    Family, Overlong, Paths, PlainPrompt, Terms, VectorAnswer, VectorAsk, VectorDialect,
};
use crate::errors::BadRequest;
use crate::limits::Limits;
use serde::Serialize;
use serde_json::Value;

/// What becomes of the fields of `/api/embed`; of any other the response tells.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
    Field::honoured("input").shape(INPUT).good(r#"["Hi","there"]"#),
    Field::honoured("truncate").flag().note("cuts what is too long, which is refused otherwise"),
    Field::honoured("dimensions")
        .count(1)
        .by_model()
        .good("384")
        .note("only as many as the model's vectors have: they are not cut"),
    Field::honoured("keep_alive").shape(KEEP_ALIVE).note(KEEP_NOTE),
    // None of them is about vectors.
    Field::ignored("options"),
];

/// What becomes of those of `/api/embeddings`.
pub(crate) const OLD_FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
    Field::honoured("prompt").text(),
    Field::honoured("keep_alive").shape(KEEP_ALIVE).note(KEEP_NOTE),
    Field::ignored("options"),
];

const INPUT: &str =
    r#"{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"string","minLength":1}}]}"#;

/// A request for vectors that was understood in full.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorsRequest {
    /// What it asks of the model.
    pub ask: VectorAsk,
    /// What it says of the model.
    pub terms: Terms,
    /// Where its texts are.
    place: Place,
    ignored: Paths,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Input,
    Inputs,
    Prompt,
}

/// `POST /api/embed`.
pub(crate) struct Embed;

impl VectorDialect for Embed {
    type Request = VectorsRequest;
    const FAMILY: Family = Family::Ollama;

    fn parse(body: &[u8], limits: &Limits) -> Result<VectorsRequest, BadRequest> {
        parse_embed(body, limits)
    }

    fn ask(request: &VectorsRequest) -> &VectorAsk {
        &request.ask
    }

    fn place(request: &VectorsRequest, text_idx: usize) -> String {
        match request.place {
            Place::Input => "input".to_owned(),
            Place::Inputs => format!("input[{text_idx}]"),
            Place::Prompt => "prompt".to_owned(),
        }
    }

    fn body(_: &VectorsRequest, answer: &VectorAnswer) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            model: &'a str,
            embeddings: &'a [Vec<f32>],
            total_duration: u64,
            load_duration: u64,
            prompt_eval_count: u64,
        }
        line(&Body {
            model: &answer.model,
            embeddings: &answer.vectors,
            total_duration: ns(answer.spent.total),
            load_duration: ns(answer.spent.load),
            prompt_eval_count: answer.n_tokens,
        })
    }

    fn take_ignored(request: &mut VectorsRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn terms(request: &VectorsRequest) -> Terms {
        request.terms
    }
}

/// `POST /api/embeddings`.
pub(crate) struct Embeddings;

impl VectorDialect for Embeddings {
    type Request = VectorsRequest;
    const FAMILY: Family = Family::Ollama;

    fn parse(body: &[u8], limits: &Limits) -> Result<VectorsRequest, BadRequest> {
        parse_embeddings(body, limits)
    }

    fn ask(request: &VectorsRequest) -> &VectorAsk {
        Embed::ask(request)
    }

    fn place(request: &VectorsRequest, text_idx: usize) -> String {
        Embed::place(request, text_idx)
    }

    fn body(_: &VectorsRequest, answer: &VectorAnswer) -> String {
        #[derive(Serialize)]
        struct Body<'a> {
            embedding: &'a [f32],
        }
        line(&Body { embedding: answer.vectors.first().map(|v| &**v).unwrap_or_default() })
    }

    fn take_ignored(request: &mut VectorsRequest) -> Paths {
        Embed::take_ignored(request)
    }

    fn terms(request: &VectorsRequest) -> Terms {
        request.terms
    }
}

pub(super) fn parse_embed(body: &[u8], limits: &Limits) -> Result<VectorsRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(FIELDS)?.into_iter().collect();
    let model = settings::take_model(&mut fields)?;
    let keep = settings::take_keep_alive(&mut fields)?;
    let overlong = match fields.flag("truncate")? {
        Some(true) => Overlong::Truncate,
        Some(false) | None => Overlong::Refuse,
    };
    let n_embd = fields.count("dimensions", 1)?;
    let (texts, place) = match fields.take("input") {
        // Only the model is opened.
        None => (Vec::new(), Place::Input),
        Some(Value::String(text)) => (of_text(text), Place::Input),
        Some(Value::Array(list)) => (of_list(list, limits)?, Place::Inputs),
        Some(other) => return Err(wrong("input", &other, "a string or an array of strings")),
    };
    ignored.extend(fields.rest());
    let ask = VectorAsk { model: Some(model), texts, overlong, n_embd };
    Ok(VectorsRequest { ask, terms: Terms { keep, ..Terms::default() }, place, ignored })
}

pub(super) fn parse_embeddings(
    body: &[u8],
    _limits: &Limits,
) -> Result<VectorsRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(OLD_FIELDS)?.into_iter().collect();
    let model = settings::take_model(&mut fields)?;
    let keep = settings::take_keep_alive(&mut fields)?;
    let texts = of_text(fields.text("prompt")?.unwrap_or_default());
    ignored.extend(fields.rest());
    let ask = VectorAsk { model: Some(model), texts, overlong: Overlong::Refuse, n_embd: None };
    let terms = Terms { keep, ..Terms::default() };
    Ok(VectorsRequest { ask, terms, place: Place::Prompt, ignored })
}

/// An empty text has no vector.
fn of_text(text: String) -> Vec<PlainPrompt> {
    if text.is_empty() { Vec::new() } else { vec![PlainPrompt::Text(text)] }
}

fn of_list(list: Vec<Value>, limits: &Limits) -> Result<Vec<PlainPrompt>, BadRequest> {
    if list.len() > limits.n_texts {
        let problem = format!("{} texts: expected at most {}", list.len(), limits.n_texts);
        return Err(BadRequest::field("input", &problem));
    }
    let read = |(text_idx, value)| match value {
        Value::String(text) if !text.is_empty() => Ok(PlainPrompt::Text(text)),
        other => {
            let expected = "a string of at least one character";
            Err(wrong(&format!("input[{text_idx}]"), &other, expected))
        }
    };
    list.into_iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::Spent;
    use std::time::Duration;

    #[test]
    fn every_form_of_input_is_read_or_refused_at_its_place() {
        use Overlong::{Refuse, Truncate};
        let check = |more: &str, expected: Result<(usize, Overlong, Option<u32>), &str>| {
            let body = format!(r#"{{"model":"m"{more}}}"#);
            let found = parse_embed(body.as_bytes(), &Limits { n_texts: 2, ..Limits::default() });
            let found = found.map(|r| (r.ask.texts.len(), r.ask.overlong, r.ask.n_embd));
            assert_eq!(
                found.map_err(|e| e.param.unwrap()),
                expected.map_err(str::to_owned),
                "{body}"
            );
        };
        check("", Ok((0, Refuse, None)));
        check(r#","input":"""#, Ok((0, Refuse, None)));
        check(r#","input":"a","truncate":true"#, Ok((1, Truncate, None)));
        check(r#","input":["a","b"],"dimensions":8,"truncate":false"#, Ok((2, Refuse, Some(8))));
        check(r#","input":[]"#, Ok((0, Refuse, None)));
        check(r#","input":["a",""]"#, Err("input[1]"));
        check(r#","input":["a",7]"#, Err("input[1]"));
        check(r#","input":["a","b","c"]"#, Err("input"));
        check(r#","input":{}"#, Err("input"));
        check(r#","dimensions":0"#, Err("dimensions"));
        check(r#","keep_alive":"soon""#, Err("keep_alive"));
        let nobody = parse_embed(b"{}", &Limits::default()).unwrap_err();
        assert_eq!(nobody.param.as_deref(), Some("model"));
    }

    #[test]
    fn answers_have_the_shape_clients_read() {
        let spent = Spent {
            total: Duration::from_nanos(7),
            load: Duration::from_nanos(3),
            ..Spent::default()
        };
        let (id, model) = (String::new(), "m".to_owned());
        let vectors = vec![vec![0.5, -0.25], vec![1.0, 0.0]];
        let answer = VectorAnswer { id, model, vectors, n_tokens: 9, spent };
        let new = parse_embed(br#"{"model":"m"}"#, &Limits::default()).unwrap();
        assert_eq!(
            Embed::body(&new, &answer),
            "{\"model\":\"m\",\"embeddings\":[[0.5,-0.25],[1.0,0.0]],\"total_duration\":7,\
             \"load_duration\":3,\"prompt_eval_count\":9}\n"
        );
        let old = br#"{"name":"m","prompt":"x","options":{"seed":1},"y":2}"#;
        let mut old = parse_embeddings(old, &Limits::default()).unwrap();
        assert_eq!(Embeddings::body(&old, &answer), "{\"embedding\":[0.5,-0.25]}\n");
        assert_eq!(Embeddings::take_ignored(&mut old).kept(), ["options", "y"]);
        let none = VectorAnswer { vectors: Vec::new(), ..answer };
        assert_eq!(Embeddings::body(&old, &none), "{\"embedding\":[]}\n");
    }
}
