//! The routes that say which models there are, in the form of OpenAI or Anthropic.

use super::{READ, Route};
use crate::app;
use crate::dialects::anthropic;
use axum::routing::get;

const MODELS: &str = "Models";

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/v1/models"],
        group: MODELS,
        summary: "Lists the models; with a header `anthropic-version`, in Anthropic's form.",
        query: anthropic::PAGE_FIELDS,
        answer: Some(LIST),
        statuses: &[400, 401, 403],
        handler: || get(app::models::list),
        ..READ
    },
    Route {
        paths: &["/v1/models/{*id}"],
        group: MODELS,
        summary: "Describes a model; with a header `anthropic-version`, in Anthropic's form.",
        answer: Some(CARD),
        statuses: &[401, 403, 404],
        handler: || get(app::models::one),
        ..READ
    },
];

const LIST: &str = r#"{"type":"object","properties":{"data":{"type":"array","items":{"type":"object","required":["id"]}}},"required":["data"]}"#;
const CARD: &str = r#"{"type":"object","properties":{"id":{"type":"string"}},"required":["id"]}"#;
