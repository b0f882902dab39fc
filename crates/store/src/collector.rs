//! A collector that the owner names, to which a server posts what it measures (OTLP over HTTP,
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>). What that is it does not know.
//!
//! It stands here because here is what opens connections.

use std::fmt;
use std::io::Read as _;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};

use crate::error::StoreError;
use crate::settings::{Settings, install_tls};
use crate::source::{is_loopback, percent_decode};

/// The variable with headers for the collector (`name=value,name=value`), such as a key, which has
/// no place in a file of settings.
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
/// What is posted to, behind the collector's address.
const PATH: &str = "/v1/traces";
/// How long a post may take: it delays nobody but the next one.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer that are read.
const N_ANSWER_BYTES: u64 = 64 << 10;

/// The address of a collector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Reads an address such as `http://127.0.0.1:4318`; what is posted goes to `/v1/traces` there.
    ///
    /// # Errors
    /// What was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected an address such as http://127.0.0.1:4318";
        let mut url = Url::parse(text).map_err(|error| format!("{error}: {EXPECTED}"))?;
        if !["http", "https"].contains(&url.scheme()) || url.host().is_none() {
            return Err(EXPECTED.to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("expected no name or password in it; {HEADERS} has headers"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("expected nothing behind its path".to_owned());
        }
        let path = url.path().trim_end_matches('/');
        if !path.ends_with(PATH) {
            let path = format!("{path}{PATH}");
            url.set_path(&path);
        }
        Ok(Self(url))
    }

    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.0)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why nothing was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unposted {
    /// What happened; never what was sent.
    pub reason: String,
    /// Whether the same may be taken later.
    pub may_pass: bool,
    /// How long the collector asks to wait.
    pub wait: Option<Duration>,
}

/// A connection to a collector. Dropped, as made, outside of any async runtime.
pub struct Collector {
    client: reqwest::blocking::Client,
    url: Url,
    headers: HeaderMap,
}

impl Collector {
    /// What posts to `endpoint`, with the headers that the environment names.
    ///
    /// # Errors
    /// Where the network is switched off and the collector is elsewhere, or the variable cannot be
    /// read.
    pub fn new(endpoint: &Endpoint) -> Result<Self, StoreError> {
        if Settings::from_env()?.offline && !endpoint.is_local() {
            return Err(StoreError::Offline { source_text: endpoint.to_string() });
        }
        let headers = match std::env::var(HEADERS) {
            Ok(text) => read_headers(&text)?,
            Err(_) => HeaderMap::new(),
        };
        Self::with_headers(endpoint, headers)
    }

    fn with_headers(endpoint: &Endpoint, mut headers: HeaderMap) -> Result<Self, StoreError> {
        install_tls();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT);
        if endpoint.is_local() {
            // A proxy would look for its own loopback.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| StoreError::Network {
            place: endpoint.to_string(),
            reason: error.without_url().to_string(),
        })?;
        Ok(Self { client, url: endpoint.0.clone(), headers })
    }

    /// Posts JSON and returns the answer's body.
    ///
    /// # Errors
    /// Where the collector cannot be reached or does not take it.
    pub fn post(&self, body: Vec<u8>) -> Result<Vec<u8>, Unposted> {
        let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
        let response = request.send().map_err(passing)?;
        let status = response.status();
        if !status.is_success() {
            let wait = response.headers().get(RETRY_AFTER);
            let wait = wait.and_then(|value| value.to_str().ok()?.trim().parse().ok());
            return Err(Unposted {
                reason: format!("status {status}"),
                may_pass: MAY_PASS.contains(&status),
                wait: wait.map(Duration::from_secs),
            });
        }
        let mut answer = Vec::new();
        let read = response.take(N_ANSWER_BYTES).read_to_end(&mut answer);
        // It was taken, whatever became of the answer.
        Ok(read.map(|_| answer).unwrap_or_default())
    }
}

/// Statuses after which the same may be sent once more (OTLP/HTTP, "Retryable Response Codes").
const MAY_PASS: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

fn passing(error: reqwest::Error) -> Unposted {
    let is_timeout = error.is_timeout();
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        reason = format!("{reason}: {inner}");
        cause = inner.source();
    }
    // What took too long may have been taken; sent again it would be there twice.
    Unposted { reason, may_pass: !is_timeout, wait: None }
}

/// Headers as W3C baggage has entries: values are percent-encoded.
fn read_headers(text: &str) -> Result<HeaderMap, StoreError> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let read = pair.split_once('=').and_then(|(name, value)| {
            let name = HeaderName::try_from(name.trim()).ok()?;
            let mut value = HeaderValue::try_from(percent_decode(value.trim())).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        let (name, value) = read.ok_or_else(|| StoreError::InvalidSetting {
            name: HEADERS,
            value: "(not shown)".to_owned(),
            expected: "expected NAME=VALUE,NAME=VALUE with percent-encoded values".to_owned(),
        })?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    #[test]
    fn addresses_are_read() {
        let check = |text: &str, expected: Result<(&str, bool), &str>| {
            let found = Endpoint::parse(text);
            let found = found.map(|endpoint| (endpoint.to_string(), endpoint.is_local()));
            match (found, expected) {
                (Ok((url, is_local)), Ok(expected)) => assert_eq!((&*url, is_local), expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
            }
        };
        check("http://127.0.0.1:4318", Ok(("http://127.0.0.1:4318/v1/traces", true)));
        check("https://otel.example/in/", Ok(("https://otel.example/in/v1/traces", false)));
        check("http://[::1]/v1/traces", Ok(("http://[::1]/v1/traces", true)));
        for wrong in ["otel.example:4318", "ftp://otel.example", "127.0.0.1:4318", ""] {
            check(wrong, Err("http://127.0.0.1:4318"));
        }
        check("http://me:secret@otel.example", Err("OTEL_EXPORTER_OTLP_HEADERS"));
        check("http://otel.example/?key=1", Err("behind its path"));
    }

    #[test]
    fn headers_are_read_and_never_shown() {
        let headers = read_headers("x-key=a%20b, authorization=Basic%20x=,").unwrap();
        assert_eq!(headers["x-key"], "a b");
        assert_eq!(headers["authorization"], "Basic x=");
        for wrong in ["x-key", "a b=secret", "x=secret%0a"] {
            let told = read_headers(wrong).unwrap_err().to_string();
            assert!(told.contains(HEADERS) && !told.contains("secret"), "{told}");
        }
    }

    /// Answers one request with `answer`; gives the request's head and body.
    fn answering(answer: &'static str) -> (Endpoint, std::thread::JoinHandle<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answered = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let (mut head, mut n_bytes) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end().to_ascii_lowercase();
                if let Some(n) = line.strip_prefix("content-length: ") {
                    n_bytes = n.parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
                head.push_str(&line);
                head.push('\n');
            }
            let mut body = vec![0; n_bytes];
            reader.read_exact(&mut body).unwrap();
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
            (head, String::from_utf8(body).unwrap())
        });
        (Endpoint::parse(&format!("http://{address}")).unwrap(), answered)
    }

    #[test]
    fn what_is_posted_arrives_and_refusals_say_whether_they_pass() {
        let (endpoint, answered) =
            answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
        let headers = read_headers("x-key=k").unwrap();
        let collector = Collector::with_headers(&endpoint, headers).unwrap();
        assert_eq!(collector.post(b"{\"a\":1}".to_vec()), Ok(b"{}".to_vec()));
        let (head, body) = answered.join().unwrap();
        assert!(head.starts_with("post /v1/traces http/1.1\n"), "{head}");
        assert!(head.contains("x-key: k\n") && head.contains("content-type: application/json\n"));
        assert_eq!(body, "{\"a\":1}");
        // Nobody listens there any more.
        assert!(collector.post(Vec::new()).unwrap_err().may_pass);
        for (answer, may_pass, wait) in [
            ("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false, None),
            (
                "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                true,
                Some(7),
            ),
        ] {
            let (endpoint, answered) = answering(answer);
            let collector = Collector::with_headers(&endpoint, HeaderMap::new()).unwrap();
            let unposted = collector.post(Vec::new()).unwrap_err();
            let wait = wait.map(Duration::from_secs);
            assert_eq!((unposted.may_pass, unposted.wait), (may_pass, wait), "{unposted:?}");
            answered.join().unwrap();
        }
    }
}
