//! The routes by which the owner administers the server, from this machine or with a key that has
//! the right.

use super::{Body, Needs, READ, Route};
use crate::access::wire;
use crate::accounts::wire as accounts;
use crate::app;
use crate::dialects::declared::Unknown;
use crate::usage;
use axum::routing::{delete, get, post};

/// A route of theirs.
const ADMIN: Route = Route { group: "Administration", needs: Needs::Admin, ..READ };

/// One that changes keys, projects or limits, where there is a ledger to keep them in; else it
/// answers 501.
const CHANGE: Route = Route {
    method: "post",
    statuses: &[400, 401, 403, 404, 408, 409, 413, 415, 429, 500, 501, 503, 504],
    ..ADMIN
};

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "post",
        paths: &["/admin/reload"],
        summary: "Has the configuration read anew.",
        answer: Some(RELOADED),
        statuses: &[400, 401, 403, 500, 501],
        handler: || post(app::reload::reload),
        ..ADMIN
    },
    Route {
        paths: &["/admin/departures"],
        summary: "What left for other servers, the newest first, and what became of it.",
        query: app::departures::QUERY,
        answer: Some(DEPARTURES),
        statuses: &[400, 401, 403, 404, 503],
        handler: || get(app::departures::departures),
        ..ADMIN
    },
    Route {
        paths: &["/admin/keys"],
        summary: "Lists the keys, without their secrets.",
        query: wire::KEYS_QUERY,
        answer: Some(KEYS),
        statuses: &[400, 401, 403, 503],
        handler: || get(app::keys::list),
        ..ADMIN
    },
    Route {
        paths: &["/admin/keys"],
        summary: "Makes a key, and tells its secret this once.",
        body: Some(Body {
            fields: &[wire::KEY_FIELDS],
            required: &["name"],
            unknown: Unknown::Refused,
            example: r#"{"name":"ci","models":["smollm2-135m"],"expires_in":86400}"#,
        }),
        answer: Some(NEW_KEY),
        handler: || post(app::keys::create),
        ..CHANGE
    },
    Route {
        method: "delete",
        paths: &["/admin/keys/{key}"],
        summary: "Revokes a key, by its name or id.",
        answer: Some(DONE),
        handler: || delete(app::keys::revoke),
        ..CHANGE
    },
    Route {
        paths: &["/admin/keys/{key}/rotate"],
        summary: "Gives a key another secret, and tells it this once.",
        body: Some(Body {
            fields: &[wire::ROTATE_FIELDS],
            required: &[],
            unknown: Unknown::Refused,
            example: r#"{"overlap":3600}"#,
        }),
        answer: Some(NEW_KEY),
        handler: || post(app::keys::rotate),
        ..CHANGE
    },
    Route {
        paths: &["/admin/projects"],
        summary: "Lists the projects, which are groups of keys.",
        answer: Some(PROJECTS),
        statuses: &[401, 403, 503],
        handler: || get(app::keys::list_projects),
        ..ADMIN
    },
    Route {
        paths: &["/admin/projects"],
        summary: "Makes a project.",
        body: Some(Body {
            fields: &[wire::PROJECT_FIELDS],
            required: &["name"],
            unknown: Unknown::Refused,
            example: r#"{"name":"shop"}"#,
        }),
        answer: Some(DONE),
        handler: || post(app::keys::create_project),
        ..CHANGE
    },
    Route {
        method: "delete",
        paths: &["/admin/projects/{project}"],
        summary: "Removes a project that has no keys.",
        answer: Some(DONE),
        handler: || delete(app::keys::remove_project),
        ..CHANGE
    },
    Route {
        paths: &["/admin/limits"],
        summary: "Lists the limits, and how much of each is left.",
        answer: Some(LIMITS),
        statuses: &[401, 403, 503],
        handler: || get(app::limits::list),
        ..ADMIN
    },
    Route {
        paths: &["/admin/limits"],
        summary: "Sets a limit, in the place of the one that is there.",
        body: Some(Body {
            fields: &[accounts::FIELDS],
            required: &["subject", "what", "amount"],
            unknown: Unknown::Refused,
            example: r#"{"subject":"key:nobody","what":"tokens","amount":1000,"per":"day"}"#,
        }),
        answer: Some(LIMIT),
        handler: || post(app::limits::set),
        ..CHANGE
    },
    Route {
        method: "delete",
        paths: &["/admin/limits/{*id}"],
        summary: "Removes a limit, by its id.",
        answer: Some(REMOVED),
        handler: || delete(app::limits::remove),
        ..CHANGE
    },
    Route {
        paths: &["/admin/usage/rows"],
        summary: "What requests took, one row each, in their order. Never any contents.",
        query: accounts::ROWS_QUERY,
        answer: Some(ROWS),
        statuses: &[400, 401, 403, 503],
        handler: || get(app::limits::usage_rows),
        ..ADMIN
    },
    Route {
        paths: &["/admin/usage"],
        summary: "What requests took, by day, model, key or another property, as JSON or CSV.",
        query: usage::QUERY,
        answer: Some(USAGE),
        stream: Some("text/csv"),
        statuses: &[400, 401, 403, 501, 503],
        handler: || get(app::usage::usage),
        ..ADMIN
    },
    Route {
        paths: &["/admin/persons"],
        summary: "Lists the persons of whom contents are kept.",
        answer: Some(PERSONS),
        statuses: &[401, 403, 501, 503],
        handler: || get(app::persons::list),
        ..ADMIN
    },
    Route {
        paths: &["/admin/persons/{person}"],
        summary: "Everything that is kept of a person, one JSON object a line.",
        stream: Some(app::persons::LINES),
        statuses: &[401, 403, 404, 409, 501, 503],
        handler: || get(app::persons::export),
        ..ADMIN
    },
    Route {
        method: "delete",
        paths: &["/admin/persons/{person}"],
        summary: "Erases what is kept of a person, and destroys the keys that could read a copy.",
        answer: Some(DONE),
        handler: || delete(app::persons::erase),
        ..CHANGE
    },
];

const DEPARTURES: &str = r#"{"type":"object","properties":{"departures":{"type":"array","items":{"type":"object","required":["id","at_us","principal","end"]}},"next":{"type":["string","null"]}},"required":["departures","next"]}"#;
const RELOADED: &str = r#"{"type":"object","properties":{"changed":{"type":"array","items":{"type":"string"}},"needs_restart":{"type":"array","items":{"type":"string"}},"models_added":{"type":"array","items":{"type":"string"}},"models_replaced":{"type":"array","items":{"type":"string"}},"models_removed":{"type":"array","items":{"type":"string"}}},"required":["changed","needs_restart","models_added","models_replaced","models_removed"]}"#;
const KEYS: &str = r#"{"type":"object","properties":{"keys":{"type":"array","items":{"type":"object","required":["id","name","scopes","defaults","created_at"]}}},"required":["keys"]}"#;
const NEW_KEY: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"name":{"type":"string"},"secret":{"type":"string"}},"required":["id","name","secret"]}"#;
const PROJECTS: &str = r#"{"type":"object","properties":{"projects":{"type":"array","items":{"type":"object","required":["name","created_at"]}}},"required":["projects"]}"#;
const LIMITS: &str = r#"{"type":"object","properties":{"limits":{"type":"array","items":{"type":"object","required":["id","subject","what","amount","then","used","reserved","left"]}}},"required":["limits"]}"#;
const LIMIT: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"subject":{"type":"string"},"what":{"type":"string"},"amount":{"type":"number"},"per":{"type":["string","null"]},"then":{"type":"string"},"replaced":{"type":"boolean"}},"required":["id","subject","what","amount","per","then","replaced"]}"#;
const REMOVED: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"removed":{"const":true}},"required":["id","removed"]}"#;
const ROWS: &str = r#"{"type":"object","properties":{"rows":{"type":"array","items":{"type":"object","required":["seq","id","at_us","key","model","route","n_prompt","n_answer","outcome"]}},"next":{"type":"integer"}},"required":["rows","next"]}"#;
const USAGE: &str = r#"{"type":"object","properties":{"rows":{"type":"array","items":{"type":"object","required":["n_requests","n_prompt","n_cached","n_answer","energy_mj","money_micro"]}},"by":{"type":"string"},"since":{"type":"string"},"until":{"type":"string"},"compared":{"type":["array","null"],"items":{"type":"object","required":["rented","currency","rent_micro","own_micro","paid_micro","break_even","days_without_price"]}},"left_out":{"type":"array","items":{"type":"object","required":["rented","why"]}}},"required":["rows","by","since","until"]}"#;
const PERSONS: &str = r#"{"type":"object","properties":{"persons":{"type":"array","items":{"type":"object","required":["name","contents","bytes","first","last","until"]}}},"required":["persons"]}"#;
const DONE: &str =
    r#"{"type":"object","properties":{"name":{"type":"string"}},"required":["name"]}"#;
