//! The routes of the server's owner, and of the page.

use super::{Body, COMPUTE, Needs, READ, Route};
use crate::app::{self, admin};
use crate::dialects::declared::Unknown;
use crate::serve::VERIFY_FIELDS;
use axum::routing::{delete, get, post};

/// A route for the owner, who may be the server's own page.
const OWN: Route =
    Route { group: "Administration", needs: Needs::Admin, statuses: &[401, 403], ..READ };

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "post",
        paths: &["/v1/receipts/{id}/verify"],
        group: super::OWN,
        summary: "Asks the request of a receipt once more, and says whether the answer has the same \
                  bits, for the client that asked for the answer.",
        body: Some(Body {
            fields: &[VERIFY_FIELDS],
            required: &["request"],
            unknown: Unknown::Refused,
            example: r#"{"request":"{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}"}"#,
        }),
        answer: Some(VERIFIED),
        handler: || post(app::receipts::verify_receipt),
        ..COMPUTE
    },
    Route {
        paths: &["/web/{*id}"],
        group: super::OWN,
        needs: Needs::Nothing,
        summary: "A file of the page, of its own media type.",
        stream: Some("*/*"),
        statuses: &[403, 404],
        handler: || get(app::page_file),
        ..READ
    },
    Route {
        paths: &["/admin/status"],
        summary: "What the server is and may do, and what shows that nothing leaves.",
        answer: Some(STATUS),
        handler: || get(admin::status),
        ..OWN
    },
    Route {
        paths: &["/admin/models"],
        summary: "The models with what pins them, what they need and what is free.",
        answer: Some(MODELS),
        statuses: &[401, 403, 500],
        handler: || get(admin::models),
        ..OWN
    },
    Route {
        paths: &["/admin/config"],
        summary: "The settings in effect, and where each comes from.",
        answer: Some(CONFIG),
        handler: || get(admin::config),
        ..OWN
    },
    Route {
        paths: &["/admin/running"],
        summary: "The requests at work, and the last that have ended; never contents.",
        answer: Some(RUNNING),
        handler: || get(admin::running),
        ..OWN
    },
    Route {
        method: "delete",
        paths: &["/admin/running/{id}"],
        summary: "Cancels requests by the id in `x-request-id`.",
        answer: Some(CANCELLED),
        statuses: &[401, 403, 404],
        handler: || delete(admin::cancel),
        ..OWN
    },
    Route {
        method: "post",
        paths: &["/admin/ledger/verify"],
        summary: "Reads the whole ledger again, and holds it to its hashes and signatures.",
        answer: Some(LEDGER),
        statuses: &[401, 403, 429, 501, 503],
        handler: || post(admin::verify_ledger),
        ..OWN
    },
];

const VERIFIED: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"equal":{"type":"boolean"},"n_tokens":{"type":"integer"},"node":{"type":"string"},"differences":{"type":"array","items":{"type":"string"}}},"required":["id","equal","n_tokens","node","differences"]}"#;
const STATUS: &str = r#"{"type":"object","properties":{"version":{"type":"string"},"numerics":{"type":"integer"},"started":{"type":"integer"},"egress":{"type":"object","required":["mode","evidence"]},"requests_at_work":{"type":"integer"},"ledger":{"enum":["none","well","unavailable"]},"resume_streams_s":{"type":["integer","null"]},"model_changes":{"type":"boolean"},"reload":{"type":"boolean"},"machine":{"type":"object"},"defaults":{"type":"object"}},"required":["version","numerics","started","egress","requests_at_work","ledger","resume_streams_s","model_changes","reload","machine","defaults"]}"#;
const MODELS: &str = r#"{"type":"object","properties":{"models":{"type":"array","items":{"type":"object","required":["name","task","digest","lock","refused","n_bytes","licence","source","open"]}},"aliases":{"type":"array","items":{"type":"object","required":["name","model","refused"]}},"machine":{"type":"object"}},"required":["models","aliases","machine"]}"#;
const CONFIG: &str = r#"{"type":"object","properties":{"settings":{"type":"array","items":{"type":"object","required":["name","value","origin","is_reloadable"]}}},"required":["settings"]}"#;
const RUNNING: &str = r#"{"type":"object","properties":{"running":{"type":"array","items":{"type":"object","required":["id","route","model","who","at_us","age_ms","n_prompt","n_generated"]}},"ended":{"type":"array","items":{"type":"object","required":["id","route","model","who","at_us","age_ms","n_prompt","n_generated","ttft_ms","outcome","error"]}}},"required":["running","ended"]}"#;
const CANCELLED: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"cancelled":{"type":"integer"}},"required":["id","cancelled"]}"#;
const LEDGER: &str = r#"{"type":"object","properties":{"intact":{"type":"boolean"},"rows":{"type":"integer"},"erased":{"type":"integer"},"head":{"type":["object","null"]},"signed":{"type":["integer","null"]},"node":{"type":"string"},"first_bad":{"type":["object","null"]}},"required":["intact","rows","erased","head","signed","node","first_bad"]}"#;
