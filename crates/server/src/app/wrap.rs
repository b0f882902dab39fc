//! What is around every response: the gate before it, the headers on it, and the refusals where no
//! route answers.

use super::arrival::word;
use super::{App, Arrival, Local, Peer};
use crate::accounts;
use crate::dialects::{Family, fields};
use crate::errors::ServerError;
use crate::gate::Passed;
use crate::serve::error_response;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, Method, Response, Uri, header};
use axum::middleware::Next;
use std::sync::{Arc, LazyLock};

/// What pages of other origins may read of a response's headers, beside what is left of limits.
const EXPOSED: &str = "x-request-id, request-id, retry-after, retry-after-ms, x-should-retry, \
                       x-freehold-unused, x-freehold-adapted, x-freehold-ignored, \
                       x-freehold-resumable, x-freehold-canary, x-freehold-receipt, \
                       x-freehold-route, x-freehold-upstream, x-freehold-rule, \
                       x-freehold-redacted, x-freehold-fallback";

/// All of it.
static ALL_EXPOSED: LazyLock<HeaderValue> = LazyLock::new(|| {
    let names = accounts::NAMES.as_flattened().iter().copied();
    let all = [EXPOSED].into_iter().chain(names).collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&all).expect("names of headers are visible ASCII")
});

/// Around every request: its name, the gate, who asks and whether they may, and the headers that
/// every response carries.
pub(super) async fn wrap(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let peer = request.extensions().get::<Peer>().copied();
    let local = request.extensions().get::<Local>().copied();
    let passed = app.gate.get().check(local.map(|Local(address)| address), &request);
    let (arrival, admitted) = app.arrival(&request, peer);
    let method = request.method().clone();
    let path = fields::short(request.uri().path());
    let mut response = match (&passed, admitted) {
        (Err(error), _) => refuse(error, &arrival),
        // A browser asks this without a key.
        (Ok(passed), _) if passed.is_preflight(&request) => passed.preflight_response(&request),
        (Ok(_), Err(error)) => refuse(&error, &arrival),
        (Ok(_), Ok(())) => {
            request.extensions_mut().insert(arrival.clone());
            next.run(request).await
        }
    };
    if response.extensions_mut().remove::<Refused>().is_some() {
        // A client with a wrong base address is found by this line.
        let status = response.status().as_u16();
        tracing::info!(id = %arrival.id, %method, %path, status, "refused");
    }
    app.metrics.response(&arrival.route, word(&method), response.status().as_u16());
    let headers = response.headers_mut();
    if let Ok(Passed { origin: Some(origin) }) = &passed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::VARY, HeaderValue::from_static("origin"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ALL_EXPOSED.clone());
    }
    let id = HeaderValue::from_str(&arrival.id).expect("sane ids are visible ASCII");
    headers.insert("x-request-id", id.clone());
    headers.insert("request-id", id);
    response
}

/// `uri` with its path in the form that the routes have: clients join base addresses and paths
/// with one slash too many. `None` where it is so already.
pub(crate) fn plain_path(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") && (path.len() == 1 || !path.ends_with('/')) {
        return None;
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", parts.join("/")).parse().ok()
}

pub(super) async fn no_such_path(
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    let path = fields::short(uri.path());
    refuse(&ServerError::NoSuchPath { path }, &arrival)
}

/// The router adds `Allow`.
pub(super) async fn method_not_allowed(
    Extension(arrival): Extension<Arrival>,
    method: Method,
    uri: Uri,
) -> Response<Body> {
    let path = fields::short(uri.path());
    refuse(&ServerError::MethodNotAllowed { method: method.to_string(), path }, &arrival)
}

/// Marks a response that no [`serve`] has logged.
#[derive(Clone)]
struct Refused;

/// A refusal outside any dialect's own routes.
pub(super) fn refuse(error: &ServerError, arrival: &Arrival) -> Response<Body> {
    let mut response = error_response(error, arrival.family, &arrival.id);
    // Only the routes of Anthropic's API publish its status for having no room; a header may have
    // told the family here.
    if arrival.family == Family::Anthropic && matches!(error, ServerError::Overloaded { .. }) {
        *response.status_mut() = error.status();
    }
    response.extensions_mut().insert(Refused);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superfluous_slashes_are_taken_out() {
        let check = |uri: &str, expected: Option<&str>| {
            let found = plain_path(&uri.parse().unwrap()).map(|uri| uri.to_string());
            assert_eq!(found.as_deref(), expected, "{uri}");
        };
        check("/", None);
        check("/v1/models", None);
        check("/v1/models/", Some("/v1/models"));
        check("//v1//models?x=/", Some("/v1/models?x=/"));
        check("//", Some("/"));
    }
}
