//! What answers people who sign in and out, and the owner who looks at sessions.

use super::{App, Arrival, refuse};
use crate::access::{Session, cookie};
use crate::dialects::fields::short;
use crate::errors::ServerError;
use crate::serve::json_response;
use crate::signin::{CALLBACK, Desk, note_end};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use serde_json::{Value, json};
use std::sync::Arc;

/// Sends a browser to the issuer.
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let begun = desk(&app).and_then(|desk| Ok((desk, desk.begin(arrival.at_us)?)));
    match begun {
        Ok((desk, (to, value))) => {
            let mut response = sent_to(&to);
            // Lax: it has to come back from the issuer's page.
            let (_, name) = desk.config.cookies();
            set(&mut response, desk, &format!("{name}={value}; Max-Age=600; SameSite=Lax"));
            response
        }
        Err(error) => refuse(&error, &arrival),
    }
}

/// Takes a browser that comes back from there, and sends it to the page.
pub(crate) async fn end(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    headers: HeaderMap,
    uri: Uri,
) -> Response<Body> {
    let desk = match desk(&app) {
        Ok(desk) => desk,
        Err(error) => return refuse(&error, &arrival),
    };
    let (session, login) = desk.config.cookies();
    let brought = (uri.query().unwrap_or_default(), cookie(&headers, login));
    let mut response = match desk.end(&app, &arrival, brought).await {
        Ok(of) => {
            let mut response = sent_to("/");
            let lasts = desk.config.lasts.as_secs();
            let value = of.cookie.shown();
            let text = format!("{session}={value}; Max-Age={lasts}; SameSite=Strict");
            set(&mut response, desk, &text);
            response
        }
        Err(error) => refuse(&error, &arrival),
    };
    set(&mut response, desk, &format!("{login}=; Max-Age=0; SameSite=Lax"));
    response
}

/// Ends the session of whoever asks.
pub(crate) async fn sign_out(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let desk = match desk(&app) {
        Ok(desk) => desk,
        Err(error) => return refuse(&error, &arrival),
    };
    let Some(id) = &arrival.who.session else {
        let why = "expected the cookie of a session, sent by this server's own page";
        return refuse(&ServerError::Unauthorized(why.to_owned()), &arrival);
    };
    app.access.sessions.close(id);
    note_end(&app, &arrival, id, &arrival.who).await;
    let mut response = json_response(StatusCode::OK, json!({"signed_out": true}).to_string());
    let (session, _) = desk.config.cookies();
    set(&mut response, desk, &format!("{session}=; Max-Age=0; SameSite=Strict"));
    response
}

/// Whether people sign in here, and who has.
pub(crate) async fn session(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let own = arrival.who.session.as_deref();
    let own = own.and_then(|id| Some((id, app.access.sessions.get(id, arrival.at_us)?)));
    let body = json!({
        "login": app.sign_in.as_ref().map(|_| "/login"),
        "session": own.map(|(id, session)| told(id, &session)),
    });
    let mut response = json_response(StatusCode::OK, body.to_string());
    never_kept(&mut response);
    response
}

/// Who has signed in.
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
) -> Response<Body> {
    let all = app.access.sessions.all(arrival.at_us);
    let told: Vec<Value> = all.iter().map(|(id, session)| told(id, session)).collect();
    json_response(StatusCode::OK, json!({"sessions": told}).to_string())
}

/// Ends somebody's session.
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    let found = app.access.sessions.get(&id, arrival.at_us);
    let Some(found) = found.filter(|_| app.access.sessions.close(&id)) else {
        let none = format!("session {:?}: there is none of this id", short(&id));
        return refuse(&ServerError::NotFound(none), &arrival);
    };
    note_end(&app, &arrival, &id, &found.who).await;
    let told = json!({"id": id, "name": found.who.name, "ended": true});
    json_response(StatusCode::OK, told.to_string())
}

fn desk(app: &App) -> Result<&Desk, ServerError> {
    app.sign_in.as_ref().ok_or_else(|| {
        ServerError::NotFound(
            "nobody signs in here: expected the server to be started with --oidc-issuer, and an \
             address of its own that ends in "
                .to_owned()
                + CALLBACK,
        )
    })
}

fn told(id: &str, session: &Session) -> Value {
    let seconds = |us: i64| us.div_euclid(1_000_000);
    json!({
        "id": id,
        "name": session.who.name,
        "role": session.role.name(),
        "begun_at": seconds(session.begun),
        "expires_at": seconds(session.expires),
    })
}

/// A redirection that is read by GET.
fn sent_to(place: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    let place = HeaderValue::from_str(place).expect("addresses of the settings are ASCII");
    response.headers_mut().insert(header::LOCATION, place);
    never_kept(&mut response);
    response
}

/// Sets a cookie that no script reads, and that goes by TLS alone where browsers come by TLS.
fn set(response: &mut Response<Body>, desk: &Desk, cookie: &str) {
    let secure = if desk.config.is_by_tls() { "; Secure" } else { "" };
    let text = format!("{cookie}; Path=/; HttpOnly{secure}");
    let value = HeaderValue::from_str(&text).expect("it is made of base64url and digits");
    response.headers_mut().append(header::SET_COOKIE, value);
    never_kept(response);
}

fn never_kept(response: &mut Response<Body>) {
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
}
