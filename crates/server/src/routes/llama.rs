//! The routes of `llama-server`.

use super::{Body, COMPUTE, Route};
use crate::app::{generate, tokens};
use crate::dialects::declared::Unknown;
use crate::dialects::llama::{self, Detokenize, Tokenize};
use crate::dialects::openai::chat::{self, ApplyTemplate};
use crate::dialects::openai::settings;
use axum::routing::post;

const LLAMA: &str = "llama-server";

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/tokenize"],
        group: LLAMA,
        summary: "Gives the tokens of a text.",
        body: Some(Body {
            fields: &[llama::TOKENIZE],
            required: &["content"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","content":"Hi"}"#,
        }),
        answer: Some(TOKENS),
        handler: || post(tokens::<Tokenize>),
        ..COMPUTE
    },
    Route {
        paths: &["/detokenize"],
        group: LLAMA,
        summary: "Gives the text of tokens.",
        body: Some(Body {
            fields: &[llama::DETOKENIZE],
            required: &["tokens"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","tokens":[17,18]}"#,
        }),
        answer: Some(CONTENT),
        handler: || post(tokens::<Detokenize>),
        ..COMPUTE
    },
    Route {
        paths: &["/apply-template"],
        group: LLAMA,
        summary: "Gives the prompt that the model would read. Nothing is generated.",
        body: Some(Body {
            fields: &[chat::FIELDS, settings::FIELDS],
            required: &["messages"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}]}"#,
        }),
        answer: Some(PROMPT),
        handler: || post(generate::<ApplyTemplate>),
        ..COMPUTE
    },
];

const TOKENS: &str = r#"{"type":"object","properties":{"tokens":{"type":"array","items":{"type":["integer","object"]}}},"required":["tokens"]}"#;
const CONTENT: &str =
    r#"{"type":"object","properties":{"content":{"type":"string"}},"required":["content"]}"#;
const PROMPT: &str =
    r#"{"type":"object","properties":{"prompt":{"type":"string"}},"required":["prompt"]}"#;
