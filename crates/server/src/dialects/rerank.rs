//! `POST /v1/rerank` and `/rerank`, in the form that Jina and Cohere share: which documents are
//! nearest to a query.
//!
//! The score is the cosine of the two vectors, -1 to 1: a bi-encoder's, not the probability that a
//! cross-encoder gives. Documents come in falling order of it.

use crate::dialects::fields::{Field, Fields, Unknown, missing, wrong};
use crate::dialects::openai::embeddings::{Usage, take_overlong};
use crate::dialects::{Paths, PlainPrompt, VectorAnswer, VectorAsk, VectorDialect};
use crate::errors::BadRequest;
use crate::limits::Limits;
use serde::Serialize;
use serde_json::Value;

/// What becomes of the fields that the route knows.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("query").text().good(r#""key""#),
    Field::honoured("documents").shape(DOCUMENTS).good(r#"["a lock",{"text":"a key"}]"#),
    Field::honoured("model").text().note("without it: the first model that makes vectors"),
    Field::honoured("top_n").count(1).note("best documents that are told"),
    Field::honoured("return_documents").flag(),
    Field::honoured("truncate").flag().note("cuts what is too long, which is refused otherwise"),
    Field::refused("rank_fields", "documents are texts here"),
    Field::refused("max_chunks_per_doc", "documents are not taken apart"),
    Field::refused("max_tokens_per_doc", "this server knows \"truncate\" instead"),
];

const DOCUMENTS: &str = r#"{"type":"array","minItems":1,"items":{"anyOf":[{"type":"string"},{"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":{"type":"null"}}]}}"#;

/// A request that was understood in full. The first text is the query, the documents follow.
#[derive(Debug, Clone, PartialEq)]
pub struct RerankRequest {
    /// What it asks of the model.
    pub ask: VectorAsk,
    /// How many results are wanted; `None`: all.
    pub top_n: Option<u32>,
    /// Whether results hold their documents.
    pub return_documents: bool,
    /// Paths of what has no effect.
    ignored: Paths,
}

/// The route.
pub(crate) struct Rerank;

impl VectorDialect for Rerank {
    type Request = RerankRequest;

    fn parse(body: &[u8], limits: &Limits) -> Result<RerankRequest, BadRequest> {
        parse(body, limits)
    }

    fn parse_leniently(body: &[u8], limits: &Limits) -> Result<RerankRequest, BadRequest> {
        read(body, limits, Unknown::Ignored)
    }

    fn take_ignored(request: &mut RerankRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn ask(request: &RerankRequest) -> &VectorAsk {
        &request.ask
    }

    fn place(_: &RerankRequest, text_idx: usize) -> String {
        match text_idx.checked_sub(1) {
            None => "query".to_owned(),
            Some(document_idx) => format!("documents[{document_idx}]"),
        }
    }

    fn body(request: &RerankRequest, answer: &VectorAnswer) -> String {
        let (query, documents) = answer.vectors.split_first().expect("the query is one");
        let texts = documents.iter().zip(&request.ask.texts[1..]);
        let results = texts.enumerate().map(|(index, (vector, text))| ResultBody {
            index,
            relevance_score: engine::similarity(query, vector),
            document: match text {
                PlainPrompt::Text(text) if request.return_documents => Some(Document { text }),
                _ => None,
            },
        });
        let mut results: Vec<_> = results.collect();
        // Of equal ones the first stays first.
        results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
        results.truncate(request.top_n.map_or(usize::MAX, |top_n| top_n as usize));
        let body = Body {
            id: format!("rerank-{}", answer.id),
            model: &answer.model,
            results,
            usage: Usage { prompt_tokens: answer.n_tokens, total_tokens: answer.n_tokens },
        };
        serde_json::to_string(&body).expect("wire types have string keys and finite numbers")
    }
}

/// Reads the body.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse(body: &[u8], limits: &Limits) -> Result<RerankRequest, BadRequest> {
    read(body, limits, Unknown::Refused)
}

fn read(body: &[u8], limits: &Limits, unknown: Unknown) -> Result<RerankRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(FIELDS)?.into_iter().collect();
    let model = fields.text("model")?;
    let top_n = fields.count("top_n", 1)?;
    let return_documents = fields.flag("return_documents")?.unwrap_or(false);
    let overlong = take_overlong(&mut fields)?;
    let query = fields.text("query")?.ok_or_else(|| missing("query", "a string"))?;
    let documents = fields.list("documents")?;
    let documents = documents.ok_or_else(|| missing("documents", "an array of strings"))?;
    if documents.is_empty() || documents.len() >= limits.n_texts {
        let (found, most) = (documents.len(), limits.n_texts - 1);
        let problem = format!("an array of {found}: expected 1 to {most} documents");
        return Err(BadRequest::field("documents", &problem));
    }
    let documents = documents.into_iter().enumerate().map(document);
    let texts = [Ok(query)].into_iter().chain(documents).collect::<Result<Vec<_>, _>>()?;
    ignored.append(fields.finish(unknown)?);
    let texts = texts.into_iter().map(PlainPrompt::Text).collect();
    let ask = VectorAsk { model, texts, overlong, n_embd: None };
    Ok(RerankRequest { ask, top_n, return_documents, ignored })
}

/// A string, or an object that holds it in `text`.
fn document((document_idx, document): (usize, Value)) -> Result<String, BadRequest> {
    let path = format!("documents[{document_idx}]");
    match document {
        Value::String(text) => Ok(text),
        Value::Object(_) => {
            let mut fields = Fields::of(&path, document)?;
            let text = fields.text("text")?;
            fields.refuse_rest()?;
            text.ok_or_else(|| missing(&format!("{path}.text"), "a string"))
        }
        other => Err(wrong(&path, &other, "a string or an object with \"text\"")),
    }
}

#[derive(Serialize)]
struct Body<'a> {
    id: String,
    model: &'a str,
    results: Vec<ResultBody<'a>>,
    usage: Usage,
}

#[derive(Serialize)]
struct ResultBody<'a> {
    index: usize,
    relevance_score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Document<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    text: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::Spent;

    fn request(more: &str) -> RerankRequest {
        let body = format!(r#"{{"query":"q","documents":["a",{{"text":"b"}},"c"]{more}}}"#);
        parse(body.as_bytes(), &Limits::default()).unwrap()
    }

    #[test]
    fn results_come_in_falling_order_and_no_more_than_asked_for() {
        let answer = VectorAnswer {
            id: "x".to_owned(),
            model: "m".to_owned(),
            vectors: [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, -1.0]].map(Vec::from).into(),
            n_tokens: 12,
            spent: Spent::default(),
        };
        assert_eq!(
            Rerank::body(&request(""), &answer),
            r#"{"id":"rerank-x","model":"m","results":[{"index":1,"relevance_score":1.0},{"index":0,"relevance_score":0.0},{"index":2,"relevance_score":0.0}],"usage":{"prompt_tokens":12,"total_tokens":12}}"#
        );
        let body = Rerank::body(&request(r#","top_n":1,"return_documents":true"#), &answer);
        let result = r#""results":[{"index":1,"relevance_score":1.0,"document":{"text":"b"}}],"#;
        assert!(body.contains(result), "{body}");
    }

    #[test]
    fn what_makes_no_sense_is_refused_at_its_place() {
        for (body, expected) in [
            (r#"{"documents":["a"]}"#, "query: absent"),
            (r#"{"query":"q"}"#, "documents: absent"),
            (r#"{"query":"q","documents":[]}"#, "documents: an array of 0: expected 1 to 2047"),
            (r#"{"query":["q"],"documents":["a"]}"#, "query: an array of 1"),
            (r#"{"query":"q","documents":["a",1]}"#, "documents[1]: 1: expected a string"),
            (r#"{"query":"q","documents":[{"title":"a"}]}"#, "documents[0].title: this server"),
            (r#"{"query":"q","documents":[{}]}"#, "documents[0].text: absent"),
            (r#"{"query":"q","documents":["a"],"top_n":0}"#, "top_n: 0"),
            (
                r#"{"query":"q","documents":["a"],"rank_fields":["x"]}"#,
                "rank_fields: an array of 1",
            ),
        ] {
            let error = parse(body.as_bytes(), &Limits::default()).unwrap_err().message;
            assert!(error.starts_with(expected), "{body}: {error}");
        }
    }
}
