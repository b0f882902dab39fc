//! The routes that make vectors of texts, or compare texts by them: OpenAI's, Jina's and Cohere's.

use super::{Body, COMPUTE, Route};
use crate::app::vectors;
use crate::dialects::declared::Unknown;
use crate::dialects::openai::embeddings::{self, Embeddings};
use crate::dialects::rerank::{self, Rerank};
use axum::routing::post;

const VECTORS_OF_TEXTS: &str = "OpenAI, Jina and Cohere: vectors";

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/v1/embeddings"],
        group: VECTORS_OF_TEXTS,
        summary: "Makes vectors of texts.",
        body: Some(Body {
            fields: &[embeddings::FIELDS],
            required: &["input"],
            unknown: Unknown::Refused,
            example: r#"{"model":"minilm-l6-v2","input":"Hi"}"#,
        }),
        answer: Some(VECTORS),
        handler: || post(vectors::<Embeddings>),
        ..COMPUTE
    },
    Route {
        paths: &["/v1/rerank", "/rerank"],
        group: VECTORS_OF_TEXTS,
        summary: "Sorts documents by how near they are to a query.",
        body: Some(Body {
            fields: &[rerank::FIELDS],
            required: &["query", "documents"],
            unknown: Unknown::Refused,
            example: r#"{"model":"minilm-l6-v2","query":"key","documents":["a lock"]}"#,
        }),
        answer: Some(RANKS),
        handler: || post(vectors::<Rerank>),
        ..COMPUTE
    },
];

const VECTORS: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","properties":{"object":{"const":"embedding"},"index":{"type":"integer"},"embedding":{"type":["array","string"]}},"required":["object","index","embedding"]}},"model":{"type":"string"},"usage":{"type":"object"}},"required":["object","data","model","usage"]}"#;
const RANKS: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"model":{"type":"string"},"results":{"type":"array","items":{"type":"object","properties":{"index":{"type":"integer"},"relevance_score":{"type":"number"}},"required":["index","relevance_score"]}},"usage":{"type":"object"}},"required":["id","model","results","usage"]}"#;
