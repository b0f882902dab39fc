//! The routes by which people sign in and out, and the owner looks at who has.

use super::{Needs, READ, Route};
use crate::app::signin;
use crate::dialects::declared::Field;
use axum::routing::{delete, get, post};

/// A route for everybody, which answers 404 where nobody signs in.
const OPEN: Route =
    Route { group: "Signing in", needs: Needs::Nothing, statuses: &[403, 404], ..READ };

/// What an issuer sends a browser back with; it may say more, which is passed over (RFC 6749,
/// section 4.1.2).
const BACK: &[Field] = &[
    Field::honoured("code").text().note("the issuer's, once"),
    Field::honoured("state").text().note("that of the sign-in that this browser has begun"),
    Field::honoured("iss").text().note("the issuer, where it says so"),
    Field::honoured("error").text().note("why it signs nobody in"),
];

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        paths: &["/login"],
        summary: "Sends a browser to the issuer, to sign in there.",
        sends_to: Some("the issuer's address, with the question of this sign-in"),
        statuses: &[403, 404, 500],
        handler: || get(signin::begin),
        ..OPEN
    },
    Route {
        paths: &["/login/callback"],
        summary: "Takes a browser that comes back from the issuer, and sends it to the page.",
        query: BACK,
        sends_to: Some("the page"),
        statuses: &[400, 403, 404, 429, 500, 501, 502, 503, 504],
        handler: || get(signin::end),
        ..OPEN
    },
    Route {
        method: "post",
        paths: &["/logout"],
        summary: "Ends the session of whoever asks.",
        answer: Some(
            r#"{"type":"object","properties":{"signed_out":{"const":true}},"required":["signed_out"]}"#,
        ),
        statuses: &[401, 403, 404],
        handler: || post(signin::sign_out),
        ..OPEN
    },
    Route {
        paths: &["/session"],
        summary: "Whether people sign in here, and who has.",
        answer: Some(SESSION),
        statuses: &[403],
        handler: || get(signin::session),
        ..OPEN
    },
    Route {
        paths: &["/admin/sessions"],
        needs: Needs::Admin,
        summary: "Lists who has signed in.",
        answer: Some(SESSIONS),
        statuses: &[401, 403],
        handler: || get(signin::list),
        ..OPEN
    },
    Route {
        method: "delete",
        paths: &["/admin/sessions/{id}"],
        needs: Needs::Admin,
        summary: "Ends somebody's session.",
        answer: Some(
            r#"{"type":"object","properties":{"id":{"type":"string"},"name":{"type":"string"},"ended":{"const":true}},"required":["id","name","ended"]}"#,
        ),
        statuses: &[401, 403, 404],
        handler: || delete(signin::revoke),
        ..OPEN
    },
];

const SESSION: &str = r#"{"type":"object","properties":{"login":{"type":["string","null"]},"session":{"type":["object","null"],"required":["id","name","role","begun_at","expires_at"]}},"required":["login","session"]}"#;
const SESSIONS: &str = r#"{"type":"object","properties":{"sessions":{"type":"array","items":{"type":"object","required":["id","name","role","begun_at","expires_at"]}}},"required":["sessions"]}"#;
