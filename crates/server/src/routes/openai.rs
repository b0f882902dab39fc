//! OpenAI's routes of answers: chat, responses and completions.

use super::{Body, COMPUTE, DELETED, EVENTS, GENERATE, READ, Route};
use crate::app::{self, generate};
use crate::dialects::declared::Unknown;
use crate::dialects::openai::chat::{self, Chat};
use crate::dialects::openai::completions::{self, Completions};
use crate::dialects::openai::responses::{self, CountInput, Responses};
use crate::dialects::openai::settings;
use crate::serve::resume;
use axum::routing::{delete, get, post};

const OPENAI: &str = "OpenAI";
const RESPONSE: &str = r#"{"model":"smollm2-135m","input":"Hi","max_output_tokens":1}"#;

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/v1/chat/completions"],
        group: OPENAI,
        summary: "Answers a conversation.",
        body: Some(Body {
            fields: &[chat::FIELDS, settings::FIELDS],
            required: &["messages"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","messages":[{"role":"user","content":"Hi"}],"max_tokens":1}"#,
        }),
        answer: Some(ANSWER),
        handler: || post(generate::<Chat>),
        ..GENERATE
    },
    Route {
        paths: &["/v1/responses"],
        group: OPENAI,
        summary: "Answers items of a conversation, and keeps the answer where the owner wants that.",
        body: Some(Body {
            fields: &[responses::FIELDS],
            required: &["input"],
            unknown: Unknown::Ignored,
            example: RESPONSE,
        }),
        answer: Some(RESPONSE_ANSWER),
        handler: || post(generate::<Responses>),
        ..GENERATE
    },
    Route {
        paths: &["/v1/responses/input_tokens"],
        group: OPENAI,
        summary: "Counts the tokens of such a conversation.",
        body: Some(Body {
            fields: &[responses::FIELDS],
            required: &["input"],
            unknown: Unknown::Ignored,
            example: RESPONSE,
        }),
        answer: Some(INPUT_TOKENS),
        handler: || post(generate::<CountInput>),
        ..COMPUTE
    },
    Route {
        paths: &["/v1/responses/{id}"],
        group: OPENAI,
        summary: "An answer that is kept for the client or made in the background, or its events.",
        query: resume::RESPONSE_QUERY,
        answer: Some(RESPONSE_ANSWER),
        stream: EVENTS,
        statuses: &[400, 401, 403, 404, 410],
        handler: || get(app::responses::kept),
        ..READ
    },
    Route {
        method: "delete",
        paths: &["/v1/responses/{id}"],
        group: OPENAI,
        summary: "Forgets it.",
        answer: Some(DELETED),
        statuses: &[401, 403, 404],
        handler: || delete(app::responses::forget),
        ..READ
    },
    Route {
        method: "post",
        paths: &["/v1/responses/{id}/cancel"],
        group: OPENAI,
        summary: "Has one that is made in the background go no further.",
        answer: Some(RESPONSE_ANSWER),
        statuses: &[400, 401, 403, 404],
        handler: || post(app::responses::cancel),
        ..READ
    },
    Route {
        paths: &["/v1/responses/{id}/input_items"],
        group: OPENAI,
        summary: "The items that it was made from.",
        query: responses::ITEMS_QUERY,
        answer: Some(ITEMS),
        statuses: &[400, 401, 403, 404],
        handler: || get(app::responses::kept_items),
        ..READ
    },
    Route {
        paths: &["/v1/completions"],
        group: OPENAI,
        summary: "Continues texts.",
        body: Some(Body {
            fields: &[completions::FIELDS, settings::FIELDS],
            required: &["prompt"],
            unknown: Unknown::Refused,
            example: r#"{"model":"smollm2-135m","prompt":"Hi","max_tokens":1}"#,
        }),
        answer: Some(ANSWER),
        handler: || post(generate::<Completions>),
        ..GENERATE
    },
];

const ANSWER: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"type":"string"},"created":{"type":"integer"},"model":{"type":"string"},"system_fingerprint":{"type":"string"},"choices":{"type":"array","items":{"type":"object","required":["index","finish_reason"]}},"usage":{"type":"object"}},"required":["id","object","created","model","choices","usage"]}"#;
const RESPONSE_ANSWER: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"response"},"created_at":{"type":"integer"},"status":{"enum":["completed","incomplete","failed","cancelled","in_progress"]},"model":{"type":"string"},"output":{"type":"array"},"usage":{"type":["object","null"]}},"required":["id","object","created_at","status","model","output","usage"]}"#;
const INPUT_TOKENS: &str = r#"{"type":"object","properties":{"object":{"const":"response.input_tokens"},"input_tokens":{"type":"integer"}},"required":["object","input_tokens"]}"#;
const ITEMS: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object"}},"has_more":{"type":"boolean"}},"required":["object","data","has_more"]}"#;
