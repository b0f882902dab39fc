//! The routes by which the owner keeps models up: what the behaviour gate found, what can be
//! adopted of other programs, and whether sources have something newer.

use super::{Body, Needs, READ, Route};
use crate::app::upkeep;
use crate::dialects::declared::Unknown;
use axum::routing::{get, post};

/// A route about the models, for the owner.
const OWN: Route =
    Route { group: "Administration: what becomes of models", needs: Needs::Admin, ..READ };

/// All of them. Those that change something, or ask elsewhere, answer 403 where clients may not
/// change models, and without a library of models 501.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/admin/gate/reports"],
        summary: "The last reports of `freehold test` and `freehold upgrade`, in numbers.",
        answer: Some(REPORTS),
        statuses: &[401, 403, 500],
        handler: || get(upkeep::reports),
        ..OWN
    },
    Route {
        paths: &["/admin/gate/reports/{id}"],
        summary: "One of them: what became of each case, and the answers that changed, with what \
                  differs.",
        answer: Some(REPORT),
        statuses: &[401, 403, 404, 500],
        handler: || get(upkeep::report),
        ..OWN
    },
    Route {
        paths: &["/admin/adoptable"],
        summary: "The models of other programs on this machine, which can be used without a copy.",
        answer: Some(ADOPTABLE),
        statuses: &[401, 403, 500],
        handler: || get(upkeep::adoptable),
        ..OWN
    },
    Route {
        method: "post",
        paths: &["/admin/adopt"],
        summary: "Adopts one of them in place: every byte is hashed, and nothing of the other \
                  program's changes.",
        body: Some(Body {
            fields: &[upkeep::ADOPT_FIELDS],
            required: &["owner", "model"],
            unknown: Unknown::Refused,
            example: r#"{"owner":"Ollama","model":"library/nobody-7b"}"#,
        }),
        answer: Some(TOLD),
        statuses: &[400, 401, 403, 404, 408, 413, 415, 429, 500, 501, 503, 504],
        handler: || post(upkeep::adopt),
        ..OWN
    },
    Route {
        method: "post",
        paths: &["/admin/outdated"],
        summary: "Asks the sources of the locked models whether they have something newer; where \
                  there is a ledger, with a departure for each.",
        answer: Some(OUTDATED),
        statuses: &[400, 401, 403, 404, 429, 500, 501, 503],
        handler: || post(upkeep::outdated),
        ..OWN
    },
];

const REPORTS: &str = r#"{"type":"object","properties":{"reports":{"type":"array","items":{"type":"object","required":["id","made","step","subject","passed","new","old","comparison"]}},"damaged":{"type":"array","items":{"type":"string"}}},"required":["reports","damaged"]}"#;
const REPORT: &str = r#"{"type":"object","properties":{"summary":{"type":"object","required":["id","made","step","subject","passed"]},"report":{"type":"object","required":["passed","reasons","new","old","comparison","cases","changes"]}},"required":["summary","report"]}"#;
const ADOPTABLE: &str = r#"{"type":"object","properties":{"models":{"type":"array","items":{"type":"object","required":["name","owner","word","n_bytes","path","notes","refused","is_here"]}},"problems":{"type":"array","items":{"type":"string"}}},"required":["models","problems"]}"#;
const TOLD: &str = r#"{"type":"object","properties":{"name":{"type":"string"},"told":{"type":"string"}},"required":["name","told"]}"#;
const OUTDATED: &str = r#"{"type":"object","properties":{"models":{"type":"array","items":{"type":"object","required":["name","state","source","revision","now","upgrade_to"]}}},"required":["models"]}"#;
