//! The routes of the server's owner, and of the page.

use super::{Body, COMPUTE, Needs, READ, Route};
use crate::app::{self, admin, lock, operate, policy};
use crate::dialects::declared::Unknown;
use crate::serve::VERIFY_FIELDS;
use axum::routing::{delete, get, post};

/// A route for the owner, who may be the server's own page.
const OWN: Route =
    Route { group: "Administration", needs: Needs::Admin, statuses: &[401, 403], ..READ };

/// One about the rules and the lock.
const RULE: Route = Route { group: "Administration: rules and the lock", ..OWN };

/// One of them that reads a body.
const ASK: Route =
    Route { method: "post", statuses: &[400, 401, 403, 408, 413, 415, 429, 500, 504], ..RULE };

/// One that changes the lock, where the owner lets clients change models; without a library of
/// models it answers 501.
const CHANGE: Route =
    Route { statuses: &[400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 501, 503, 504], ..ASK };

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
        handler: || get(operate::page_file),
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
    Route {
        paths: &["/admin/policy"],
        summary: "The rules about where requests may go, as people read them.",
        answer: Some(POLICY),
        handler: || get(policy::rules),
        ..RULE
    },
    Route {
        paths: &["/admin/policy/explain"],
        summary: "Which rule decides about a request that is made up, and why those before it do \
                  not. What is not said of it is not known.",
        body: Some(Body {
            fields: &[policy::FIELDS],
            required: &[],
            unknown: Unknown::Refused,
            example: r#"{"request":{"key_label":"public","alias":"gpt-4o","tokens":1200}}"#,
        }),
        answer: Some(EXPLAINED),
        handler: || post(policy::explain),
        ..ASK
    },
    Route {
        paths: &["/admin/lock"],
        summary: "What the lock says of the models and said before, and in what they differ.",
        answer: Some(LOCK),
        statuses: &[401, 403, 404, 500],
        handler: || get(lock::lock),
        ..RULE
    },
    Route {
        paths: &["/admin/lock/{model}"],
        summary: "Writes down in the lock what an installed model is, to the byte, and has the \
                  settings read anew.",
        body: Some(Body {
            fields: &[lock::PIN_FIELDS],
            required: &[],
            unknown: Unknown::Refused,
            example: r#"{"update":false}"#,
        }),
        answer: Some(TOLD),
        handler: || post(lock::pin),
        ..CHANGE
    },
    Route {
        paths: &["/admin/lock/{model}/rollback"],
        summary: "Has the lock say again what it said before, and the settings read anew.",
        body: Some(Body {
            fields: &[lock::ROLLBACK_FIELDS],
            required: &[],
            unknown: Unknown::Refused,
            example: r#"{"why":"worse answers"}"#,
        }),
        answer: Some(TOLD),
        handler: || post(lock::rollback),
        ..CHANGE
    },
];

const VERIFIED: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"equal":{"type":"boolean"},"n_tokens":{"type":"integer"},"node":{"type":"string"},"differences":{"type":"array","items":{"type":"string"}}},"required":["id","equal","n_tokens","node","differences"]}"#;
const STATUS: &str = r#"{"type":"object","properties":{"version":{"type":"string"},"numerics":{"type":"integer"},"started":{"type":"integer"},"egress":{"type":"object","required":["mode","evidence"]},"requests_at_work":{"type":"integer"},"ledger":{"enum":["none","well","unavailable"]},"resume_streams_s":{"type":["integer","null"]},"model_changes":{"type":"boolean"},"lock_changes":{"type":"boolean"},"reload":{"type":"boolean"},"machine":{"type":"object"},"defaults":{"type":"object"}},"required":["version","numerics","started","egress","requests_at_work","ledger","resume_streams_s","model_changes","lock_changes","reload","machine","defaults"]}"#;
const MODELS: &str = r#"{"type":"object","properties":{"models":{"type":"array","items":{"type":"object","required":["name","task","digest","lock","refused","n_bytes","licence","source","open"]}},"aliases":{"type":"array","items":{"type":"object","required":["name","model","refused"]}},"machine":{"type":"object"}},"required":["models","aliases","machine"]}"#;
const CONFIG: &str = r#"{"type":"object","properties":{"settings":{"type":"array","items":{"type":"object","required":["name","value","origin","is_reloadable"]}}},"required":["settings"]}"#;
const RUNNING: &str = r#"{"type":"object","properties":{"running":{"type":"array","items":{"type":"object","required":["id","route","model","who","at_us","age_ms","n_prompt","n_generated"]}},"ended":{"type":"array","items":{"type":"object","required":["id","route","model","who","at_us","age_ms","n_prompt","n_generated","ttft_ms","outcome","error"]}}},"required":["running","ended"]}"#;
const CANCELLED: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"cancelled":{"type":"integer"}},"required":["id","cancelled"]}"#;
const LEDGER: &str = r#"{"type":"object","properties":{"intact":{"type":"boolean"},"rows":{"type":"integer"},"erased":{"type":"integer"},"head":{"type":["object","null"]},"signed":{"type":["integer","null"]},"node":{"type":"string"},"first_bad":{"type":["object","null"]},"counters":{"type":["string","null"]}},"required":["intact","rows","erased","head","signed","node","first_bad","counters"]}"#;
const POLICY: &str = r#"{"type":"object","properties":{"rules":{"type":"array","items":{"type":"object","required":["rule","line","conditions","outcome"]}},"raises":{"type":"array","items":{"type":"object","required":["class","label"]}},"upstreams":{"type":"array","items":{"type":"string"}}},"required":["rules","raises","upstreams"]}"#;
const EXPLAINED: &str = r#"{"type":"object","properties":{"outcome":{"enum":["here","there","here-then-there","there-then-here","refuse"]},"upstream":{"type":["string","null"]},"redacted":{"type":["boolean","null"]},"reason":{"type":["string","null"]},"notes":{"type":"array","items":{"type":"string"}},"rule":{"type":["string","null"]},"label":{"enum":["public","internal","private"]},"label_because":{"type":"array","items":{"type":"string"}},"considered":{"type":"array","items":{"type":"object","required":["rule","line","why_not","assumed"]}}},"required":["outcome","upstream","redacted","reason","notes","rule","label","label_because","considered"]}"#;
const LOCK: &str = r#"{"type":"object","properties":{"file":{"type":["string","null"]},"has_changed":{"type":"boolean"},"models":{"type":"array","items":{"type":"object","required":["name","versions","now","back"]}},"changes":{"type":"array","items":{"type":"object","required":["name","change"]}}},"required":["file","has_changed","models","changes"]}"#;
const TOLD: &str = r#"{"type":"object","properties":{"name":{"type":"string"},"told":{"type":"string"}},"required":["name","told"]}"#;
