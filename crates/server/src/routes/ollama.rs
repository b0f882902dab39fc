//! Ollama's routes: what it answers, and how its models come and go.

use super::{Body, COMPUTE, READ, Route};
use crate::app::{self, generate, vectors};
use crate::dialects::Family;
use crate::dialects::declared::Unknown;
use crate::dialects::ollama;
use axum::routing::{MethodFilter, get, head, post};

const OLLAMA: &str = "Ollama";
const LINES: Option<&str> = Some("application/x-ndjson");

/// A route that changes which models there are, where the owner lets clients on this machine do so;
/// without a library of models it answers 501.
const CHANGE: Route = Route {
    group: "Ollama: models come and go",
    family: Family::Ollama,
    statuses: &[400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 501, 503, 504],
    ..COMPUTE
};

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/api/chat"],
        group: OLLAMA,
        summary: "Answers a conversation; without messages only opens or closes the model.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::chat::FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}],"stream":false,"options":{"num_predict":1}}"#,
        }),
        answer: Some(OLLAMA_CHAT),
        stream: LINES,
        handler: || post(generate::<ollama::Chat>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/generate"],
        group: OLLAMA,
        summary: "Answers a prompt; without one only opens or closes the model.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::generate::FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","prompt":"Hi","stream":false,"options":{"num_predict":1}}"#,
        }),
        answer: Some(OLLAMA_TEXT),
        stream: LINES,
        handler: || post(generate::<ollama::Generate>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/embed"],
        group: OLLAMA,
        summary: "Makes vectors of texts.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::embed::FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"minilm-l6-v2","input":"Hi"}"#,
        }),
        answer: Some(OLLAMA_VECTORS),
        handler: || post(vectors::<ollama::Embed>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/embeddings"],
        group: OLLAMA,
        summary: "Makes a vector of a text; the older form.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::embed::OLD_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"minilm-l6-v2","prompt":"Hi"}"#,
        }),
        answer: Some(OLLAMA_VECTOR),
        handler: || post(vectors::<ollama::Embeddings>),
        ..COMPUTE
    },
    Route {
        paths: &["/api/show"],
        group: OLLAMA,
        summary: "Says what is known of a model.",
        family: Family::Ollama,
        body: Some(Body {
            fields: &[ollama::changes::SHOW_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m"}"#,
        }),
        answer: Some(OLLAMA_SHOW),
        handler: || post(app::ollama::show_model),
        ..COMPUTE
    },
    Route {
        paths: &["/api/tags"],
        group: OLLAMA,
        summary: "Lists the models.",
        family: Family::Ollama,
        answer: Some(OLLAMA_LIST),
        handler: || get(app::ollama::tags),
        ..READ
    },
    Route {
        paths: &["/api/ps"],
        group: OLLAMA,
        summary: "Lists those that are open.",
        family: Family::Ollama,
        answer: Some(OLLAMA_LIST),
        handler: || get(app::ollama::ps),
        ..READ
    },
    Route {
        paths: &["/api/version"],
        group: OLLAMA,
        summary: "The version of Ollama whose API this is.",
        family: Family::Ollama,
        answer: Some(
            r#"{"type":"object","properties":{"version":{"type":"string"}},"required":["version"]}"#,
        ),
        handler: || get(app::ollama::api_version),
        ..READ
    },
    Route {
        paths: &["/api/pull"],
        summary: "Fetches a model.",
        body: Some(Body {
            fields: &[ollama::changes::PULL_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m"}"#,
        }),
        answer: Some(OLLAMA_STATUS),
        stream: LINES,
        handler: || app::ollama::changes(MethodFilter::POST, ollama::read_pull),
        ..CHANGE
    },
    Route {
        paths: &["/api/create"],
        summary: "Makes a model of another, which is a copy.",
        body: Some(Body {
            fields: &[ollama::changes::CREATE_FIELDS],
            required: &["model", "from"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"mine","from":"smollm2-135m"}"#,
        }),
        answer: Some(OLLAMA_STATUS),
        stream: LINES,
        handler: || app::ollama::changes(MethodFilter::POST, ollama::read_create),
        ..CHANGE
    },
    Route {
        paths: &["/api/copy"],
        summary: "Copies a model to another name.",
        body: Some(Body {
            fields: &[ollama::changes::COPY_FIELDS],
            required: &["source", "destination"],
            unknown: Unknown::Ignored,
            example: r#"{"source":"smollm2-135m","destination":"mine"}"#,
        }),
        handler: || app::ollama::changes(MethodFilter::POST, ollama::read_copy),
        ..CHANGE
    },
    Route {
        method: "delete",
        paths: &["/api/delete"],
        summary: "Removes a model.",
        body: Some(Body {
            fields: &[ollama::changes::DELETE_FIELDS],
            required: &["model"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"mine"}"#,
        }),
        handler: || app::ollama::changes(MethodFilter::DELETE, ollama::read_delete),
        ..CHANGE
    },
    Route {
        paths: &["/api/push"],
        summary: "Refused: this server has no registry.",
        statuses: &[401, 403, 501],
        handler: || post(app::ollama::no_registry),
        ..CHANGE
    },
    Route {
        paths: &["/api/blobs/{digest}"],
        summary: "Refused: files are not taken over HTTP.",
        statuses: &[401, 403],
        handler: || post(app::ollama::no_blobs),
        ..CHANGE
    },
    Route {
        method: "head",
        paths: &["/api/blobs/{digest}"],
        summary: "Whether a file is there: none is.",
        statuses: &[401, 403, 404],
        handler: || head(app::ollama::no_blob),
        ..CHANGE
    },
];

const OLLAMA_CHAT: &str = r#"{"type":"object","properties":{"model":{"type":"string"},"created_at":{"type":"string"},"message":{"type":"object","required":["role","content"]},"done":{"const":true},"done_reason":{"type":"string"}},"required":["model","created_at","message","done","done_reason"]}"#;
const OLLAMA_TEXT: &str = r#"{"type":"object","properties":{"model":{"type":"string"},"created_at":{"type":"string"},"response":{"type":"string"},"done":{"const":true},"done_reason":{"type":"string"}},"required":["model","created_at","response","done","done_reason"]}"#;
const OLLAMA_VECTORS: &str = r#"{"type":"object","properties":{"model":{"type":"string"},"embeddings":{"type":"array","items":{"type":"array","items":{"type":"number"}}}},"required":["model","embeddings"]}"#;
const OLLAMA_VECTOR: &str = r#"{"type":"object","properties":{"embedding":{"type":"array","items":{"type":"number"}}},"required":["embedding"]}"#;
const OLLAMA_SHOW: &str = r#"{"type":"object","properties":{"details":{"type":"object"},"model_info":{"type":"object"},"capabilities":{"type":"array","items":{"type":"string"}}},"required":["details","model_info","capabilities"]}"#;
const OLLAMA_LIST: &str = r#"{"type":"object","properties":{"models":{"type":"array","items":{"type":"object","required":["name","model","size","digest","details"]}}},"required":["models"]}"#;
const OLLAMA_STATUS: &str =
    r#"{"type":"object","properties":{"status":{"type":"string"}},"required":["status"]}"#;
