//! Anthropic's routes.

use super::{Body, COMPUTE, GENERATE, Route};
use crate::app::generate;
use crate::dialects::Family;
use crate::dialects::anthropic::{self, CountTokens, Messages};
use crate::dialects::declared::Unknown;
use axum::routing::post;

const ANTHROPIC: &str = "Anthropic";

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/v1/messages"],
        group: ANTHROPIC,
        summary: "Answers a conversation.",
        family: Family::Anthropic,
        body: Some(Body {
            fields: &[anthropic::FIELDS],
            required: &["model", "messages", "max_tokens"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}],"max_tokens":1}"#,
        }),
        answer: Some(MESSAGE),
        statuses: &[400, 401, 403, 404, 408, 410, 413, 415, 429, 500, 503, 504, 529],
        handler: || post(generate::<Messages>),
        ..GENERATE
    },
    Route {
        paths: &["/v1/messages/count_tokens"],
        group: ANTHROPIC,
        summary: "Counts the tokens of a conversation.",
        family: Family::Anthropic,
        body: Some(Body {
            fields: &[anthropic::FIELDS],
            required: &["model", "messages"],
            unknown: Unknown::Ignored,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}]}"#,
        }),
        answer: Some(COUNT),
        statuses: &[400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504, 529],
        handler: || post(generate::<CountTokens>),
        ..COMPUTE
    },
];

const MESSAGE: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"type":{"const":"message"},"role":{"const":"assistant"},"model":{"type":"string"},"content":{"type":"array"},"stop_reason":{"type":["string","null"]},"usage":{"type":"object"}},"required":["id","type","role","model","content","stop_reason","usage"]}"#;
const COUNT: &str = r#"{"type":"object","properties":{"input_tokens":{"type":"integer"}},"required":["input_tokens"]}"#;
