//! Who may reach this server from where: host names on loopback, and web pages anywhere.
//!
//! Any page in a browser on this machine can send requests to loopback. A page of another origin
//! is told apart by its `Origin`; one whose own name was pointed at loopback afterwards (DNS
//! rebinding) by the `Host`, which then is a name that is not ours. A `Host` that is an address
//! cannot be rebound, so any address passes.

use crate::dialects::fields::short;
use crate::errors::ServerError;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use std::net::{IpAddr, SocketAddr};

/// The rules.
pub(crate) struct Gate {
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// A request that may go on.
#[derive(Debug, PartialEq)]
pub(crate) struct Passed {
    /// The page's origin where it is one of another site that may read the answer.
    pub(crate) origin: Option<HeaderValue>,
}

impl Gate {
    pub(crate) fn new(hosts: &[String], origins: &[String]) -> Self {
        Self {
            hosts: hosts.iter().map(|host| plain_host(host)).collect(),
            origins: origins
                .iter()
                .map(|origin| origin.trim_end_matches('/').to_ascii_lowercase())
                .collect(),
        }
    }

    /// Checks where a request comes from; `local` is the address at which it arrived.
    pub(crate) fn check<B>(
        &self,
        local: Option<SocketAddr>,
        request: &axum::http::Request<B>,
    ) -> Result<Passed, ServerError> {
        let headers = request.headers();
        // Without `Host` (HTTP/1.0) no browser is asking. A target with a host of its own
        // outranks the header.
        let host = match request.uri().authority() {
            Some(authority) => Some(authority.as_str()),
            None => text(headers, header::HOST)?,
        };
        let on_loopback = local.is_none_or(|local| local.ip().to_canonical().is_loopback());
        if let Some(host) = host
            && on_loopback
            && !self.knows_host(host)
        {
            return Err(ServerError::Forbidden(format!(
                "host: {:?}: expected \"localhost\", an address, or a name that the server was \
                 told to allow (a web page may be behind this)",
                short(host)
            )));
        }
        let Some(origin) = text(headers, header::ORIGIN)? else {
            return Ok(Passed { origin: None });
        };
        if host.is_some_and(|host| is_same_origin(origin, host)) {
            return Ok(Passed { origin: None });
        }
        let allowed = |one: &String| one == "*" || one.eq_ignore_ascii_case(origin);
        if self.origins.iter().any(allowed) {
            return Ok(Passed { origin: headers.get(header::ORIGIN).cloned() });
        }
        Err(ServerError::Forbidden(format!(
            "origin: {:?}: expected no web page, or one of an origin that the server was told to \
             allow",
            short(origin)
        )))
    }

    fn knows_host(&self, host: &str) -> bool {
        let name = plain_host(host);
        name == "localhost"
            || name.ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok()
            || self.hosts.contains(&name)
    }
}

impl Passed {
    /// Whether this is a browser's question before the request itself.
    pub(crate) fn is_preflight(&self, request: &Request) -> bool {
        self.origin.is_some()
            && request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// The answer to it: an allowed origin may send any headers, whatever SDK adds them.
    pub(crate) fn preflight_response(&self, request: &Request) -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        let methods = HeaderValue::from_static("GET, HEAD, POST, DELETE, OPTIONS");
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        if let Some(asked) = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        response
    }
}

fn text(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ServerError> {
    let mut values = headers.get_all(&name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match value.to_str() {
        Ok(value) if values.next().is_none() => Ok(Some(value)),
        // Two of them: whoever looks at the other one is being deceived.
        _ => Err(ServerError::Forbidden(format!("{name}: expected one value in ASCII"))),
    }
}

/// The host without its port, brackets and final dot, in lower case.
fn plain_host(host: &str) -> String {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => match host.rsplit_once(':') {
            // More than one colon: an address without brackets, and no port.
            Some((name, _)) if !name.contains(':') => name,
            _ => host,
        },
    };
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether the headers say that the server's own page sent the request.
pub(crate) fn is_own_page(headers: &HeaderMap) -> bool {
    let value = |name| text(headers, name).ok().flatten();
    match (value(header::ORIGIN), value(header::HOST)) {
        (Some(origin), Some(host)) => is_same_origin(origin, host),
        _ => false,
    }
}

/// Whether a page of `origin` came from this very server.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(local: &str, headers: &[(&str, &str)], expected: Result<Option<&str>, &str>) {
        let gate = Gate::new(&["Box.lan".to_owned()], &["https://chat.example/".to_owned()]);
        let mut request = axum::http::Request::builder().uri("/v1/models");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let found = gate.check(Some(local.parse().unwrap()), &request.body(()).unwrap());
        match (found, expected) {
            (Ok(passed), Ok(origin)) => {
                assert_eq!(passed.origin.as_ref().map(|o| o.to_str().unwrap()), origin);
            }
            (Err(error), Err(start)) => {
                assert!(error.to_string().starts_with(start), "{error}");
                assert_eq!(error.status(), StatusCode::FORBIDDEN);
            }
            (found, expected) => panic!("{headers:?}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn names_are_checked_on_loopback() {
        for host in
            ["localhost:8080", "LOCALHOST", "127.0.0.1:80", "[::1]:80", "box.lan:1", "a.localhost."]
        {
            check("127.0.0.1:80", &[("host", host)], Ok(None));
        }
        check("127.0.0.1:80", &[], Ok(None));
        check("127.0.0.1:80", &[("host", "evil.example")], Err("host: \"evil.example\""));
        check("[::1]:80", &[("host", "localhost.evil.example:80")], Err("host: "));
        check("[::ffff:127.0.0.1]:80", &[("host", "evil.example")], Err("host: "));
        check("127.0.0.1:80", &[("host", "a"), ("host", "localhost")], Err("host: expected one"));
        check("192.168.1.2:80", &[("host", "ai.home")], Ok(None));
    }

    #[test]
    fn pages_of_other_origins_are_refused_unless_allowed() {
        let host = ("host", "localhost:8080");
        check("127.0.0.1:80", &[host, ("origin", "http://localhost:8080")], Ok(None));
        check("127.0.0.1:80", &[host, ("origin", "http://localhost:3000")], Err("origin: "));
        check("127.0.0.1:80", &[host, ("origin", "null")], Err("origin: \"null\""));
        let allowed = "https://chat.example";
        check("127.0.0.1:80", &[host, ("origin", allowed)], Ok(Some(allowed)));
        check("192.168.1.2:80", &[host, ("origin", "https://evil.example")], Err("origin: "));
    }
}
