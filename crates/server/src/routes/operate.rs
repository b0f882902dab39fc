//! The routes of this server's own: streams and receipts of answers, and how it is.

use super::{EVENTS, Needs, READ, Route};
use crate::app::{self, operate};
use crate::serve::resume;
use axum::routing::get;

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/v1/streams/{id}"],
        summary: "The events of a stream that can be resumed, by the id of its answer; with a \
                  header `anthropic-version`, errors in Anthropic's form.",
        query: resume::STREAM_QUERY,
        stream: EVENTS,
        statuses: &[400, 401, 403, 404, 410],
        handler: || get(operate::stream),
        ..READ
    },
    Route {
        paths: &["/v1/receipts/{id}"],
        summary: "The receipt of an answer, by its id, for the client that asked for the answer.",
        answer: Some(RECEIPT),
        statuses: &[401, 403, 404, 503],
        handler: || get(app::receipts::receipt),
        ..READ
    },
    Route {
        paths: &["/"],
        needs: Needs::Nothing,
        summary: "The page, to browsers; else `Ollama is running`, which clients of Ollama compare \
                  with.",
        statuses: &[403],
        handler: || get(operate::root),
        ..READ
    },
    Route {
        paths: &["/health"],
        needs: Needs::Nothing,
        summary: "Whether the server is well: 503 where a model's engine has stopped, and while \
                  models are being opened at the start.",
        answer: Some(STATUS),
        statuses: &[403, 503],
        handler: || get(operate::health),
        ..READ
    },
    Route {
        paths: &["/ready"],
        needs: Needs::Nothing,
        summary: "Whether requests are answered: 503 on the way up and down.",
        answer: Some(STATUS),
        statuses: &[403, 503],
        handler: || get(operate::ready),
        ..READ
    },
    Route {
        paths: &["/metrics"],
        needs: Needs::Named,
        summary: "What the server counts, as Prometheus reads it.",
        handler: || get(operate::metrics_page),
        ..READ
    },
    Route {
        paths: &["/version"],
        summary: "The program's version, and whether it can open connections of its own.",
        answer: Some(
            r#"{"type":"object","properties":{"version":{"type":"string"},"egress":{"enum":["locked","open"]}},"required":["version","egress"]}"#,
        ),
        handler: || get(operate::version),
        ..READ
    },
    Route {
        paths: &["/openapi.json"],
        summary: "What is published of all routes, as an OpenAPI document.",
        answer: Some(r#"{"type":"object","required":["openapi","info","paths"]}"#),
        handler: || get(operate::openapi),
        ..READ
    },
];

const RECEIPT: &str = r#"{"type":"object","properties":{"receipt":{"type":"object","required":["version","id","time","engine","model","request","parameters","prompts","choices"]},"node":{"type":"string"},"checks":{"type":"string"},"signature":{"type":"string"}},"required":["receipt","node","checks","signature"]}"#;
const STATUS: &str =
    r#"{"type":"object","properties":{"status":{"type":"string"}},"required":["status"]}"#;
