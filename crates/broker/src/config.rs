//! What the owner says of upstreams: parsed by whoever reads the settings, checked here.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use hyper::Uri;
use hyper::http::uri::Scheme;
use serde::{Deserialize, Serialize};

/// Most upstreams, URLs of one, and addresses that one URL's host may have.
pub(crate) const UPSTREAMS_MAX: usize = 64;
/// As above.
pub(crate) const URLS_MAX: usize = 32;
/// As above: a name may have any number of addresses; the first are taken.
pub(crate) const ADDRESSES_MAX: usize = 16;
/// Longest name of an upstream.
const NAME_BYTES_MAX: usize = 64;
/// Longest URL.
const URL_BYTES_MAX: usize = 1024;

/// What an upstream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// The API of OpenAI's chat completions, as vLLM, SGLang, llama-server and many vendors do.
    OpenAi,
    /// Anthropic's messages.
    Anthropic,
    /// An issuer's of OpenID Connect: the very address of one of its endpoints, to which a form is
    /// sent, or which is read where there is none.
    Oidc,
}

impl UpstreamKind {
    /// Every kind that answers requests to models.
    pub const ALL: [Self; 2] = [Self::OpenAi, Self::Anthropic];

    /// The name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Oidc => "oidc",
        }
    }
}

/// Where a key is. The key itself is never in the settings, and only the broker reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeySource {
    /// In this environment variable.
    Env(String),
    /// In this file, alone.
    File(PathBuf),
}

/// An upstream: servers that answer the same, behind one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its name: 1 to 64 of `a-z`, `0-9`, `-` and `_`.
    pub name: String,
    /// What it speaks.
    pub kind: UpstreamKind,
    /// Its servers, as in the vendor's own clients: `https://api.openai.com/v1`,
    /// `https://api.anthropic.com`. Where one of OpenAI's kind has no path, `/v1` is meant.
    pub urls: Vec<String>,
    /// Where the key is, if it wants one.
    pub key: Option<KeySource>,
    /// Whose password the key is, for an issuer of OpenID Connect.
    pub user: String,
    /// Authorities that sign its certificates, in PEM, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether `http://` may go to addresses that are neither this machine's nor private.
    pub allow_plain: bool,
    /// Milliseconds for a connection with its keys.
    pub connect_timeout_ms: u64,
    /// Milliseconds until the head of the answer.
    pub first_byte_timeout_ms: u64,
    /// Milliseconds of silence within an answer.
    pub idle_timeout_ms: u64,
    /// Most further attempts of one request.
    pub retries: u32,
    /// Further attempts of all requests, in percent of the requests of late.
    pub retry_percent: u32,
    /// Most requests at one address at once.
    pub max_in_flight: u32,
    /// Path of the server that answers 2xx while it is well; it is asked without a departure,
    /// because the question says nothing.
    pub health_path: Option<String>,
    /// Milliseconds between two such questions.
    pub health_every_ms: u64,
    /// Failures in a row after which an address is left alone.
    pub failures_to_open: u32,
    /// Milliseconds for which it is.
    pub open_for_ms: u64,
}

impl Upstream {
    /// One with what is usual where the owner says nothing.
    pub fn new(name: &str, kind: UpstreamKind, urls: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            urls,
            key: None,
            user: String::new(),
            ca_file: None,
            allow_plain: false,
            connect_timeout_ms: 10_000,
            // A long prompt is read before the first token comes.
            first_byte_timeout_ms: 300_000,
            idle_timeout_ms: 120_000,
            retries: 2,
            retry_percent: 20,
            max_in_flight: 64,
            health_path: None,
            health_every_ms: 10_000,
            failures_to_open: 5,
            open_for_ms: 30_000,
        }
    }

    /// Finds what is out of bounds.
    ///
    /// # Errors
    /// The field, its value and what was expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        let is_named = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if self.name.is_empty()
            || self.name.len() > NAME_BYTES_MAX
            || !self.name.bytes().all(is_named)
        {
            return Err(error("name", &self.name, "1 to 64 of a-z, 0-9, - and _"));
        }
        if self.urls.is_empty() || self.urls.len() > URLS_MAX {
            return Err(error("urls", &self.urls.len().to_string(), "1 to 32 addresses"));
        }
        for url in &self.urls {
            Target::parse(url, self.kind)?;
        }
        if let Some(KeySource::Env(name)) = &self.key
            && (name.is_empty() || name.contains(['=', '\0']))
        {
            return Err(error("key-env", name, "the name of an environment variable"));
        }
        if let Some(path) = &self.health_path
            && (!path.starts_with('/') || path.parse::<hyper::http::uri::PathAndQuery>().is_err())
        {
            return Err(error("health", path, "a path, such as /health"));
        }
        let is_bounded = |name, value: u64, most: u64, expected| match value {
            0 => Err(error(name, "0", expected)),
            _ if value > most => Err(error(name, &value.to_string(), expected)),
            _ => Ok(()),
        };
        const DAY_MS: u64 = 86_400_000;
        for (name, time_ms) in [
            ("connect-timeout", self.connect_timeout_ms),
            ("first-byte-timeout", self.first_byte_timeout_ms),
            ("idle-timeout", self.idle_timeout_ms),
            ("health-every", self.health_every_ms),
            ("open-for", self.open_for_ms),
        ] {
            is_bounded(name, time_ms, DAY_MS, "more than nothing, and a day at most")?;
        }
        is_bounded("max-in-flight", self.max_in_flight.into(), 4096, "1 to 4096")?;
        is_bounded("failures", self.failures_to_open.into(), 1000, "1 to 1000")?;
        let is_at_most = |name, value: u32, most: u32, expected| match value {
            _ if value > most => Err(error(name, &value.to_string(), expected)),
            _ => Ok(()),
        };
        is_at_most("retries", self.retries, 10, "0 to 10")?;
        is_at_most("retry-percent", self.retry_percent, 100, "0 to 100")
    }
}

/// What is wrong with the settings of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {value:?}: expected {expected}")]
pub struct ConfigError {
    /// The setting, without the upstream's name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// What was expected.
    pub expected: &'static str,
}

fn error(name: &'static str, value: &str, expected: &'static str) -> ConfigError {
    ConfigError { name, value: value.chars().take(120).collect(), expected }
}

/// A URL, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) is_tls: bool,
    /// A name or an address; one of IPv6 without its brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What stands before the paths of requests: empty, or from `/` on, without one at the end;
    /// of an issuer's endpoint the whole path.
    pub(crate) path: String,
}

impl Target {
    /// Reads `http(s)://HOST[:PORT][/PATH]`.
    ///
    /// # Errors
    /// Anything else: a user, a query, another scheme.
    pub(crate) fn parse(url: &str, kind: UpstreamKind) -> Result<Self, ConfigError> {
        let wrong = |expected| error("url", &without_user(url), expected);
        const FORM: &str = "http(s)://HOST[:PORT][/PATH]";
        if url.len() > URL_BYTES_MAX || url.contains(['#', '?']) {
            return Err(wrong(FORM));
        }
        let uri: Uri = url.parse().map_err(|_| wrong(FORM))?;
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
            return Err(wrong(FORM));
        };
        let is_tls = *scheme == Scheme::HTTPS;
        if !is_tls && *scheme != Scheme::HTTP {
            return Err(wrong(FORM));
        }
        if authority.as_str().contains('@') {
            return Err(wrong("no user in it: a key comes from key-env or key-file"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = match authority.port_u16() {
            Some(port) => port,
            // A port that is no number is no port of `http`'s.
            None if authority.as_str().ends_with(authority.host()) => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
            None => return Err(wrong(FORM)),
        };
        if host.is_empty() || port == 0 {
            return Err(wrong(FORM));
        }
        let path = match (kind, uri.path(), uri.path().trim_end_matches('/')) {
            // It is all of the address, and nothing is put behind it.
            (UpstreamKind::Oidc, path, _) => path.to_owned(),
            (UpstreamKind::OpenAi, _, "") => "/v1".to_owned(),
            (_, _, path) => path.to_owned(),
        };
        Ok(Self { is_tls, host, port, path })
    }

    /// What the header `host` says.
    pub(crate) fn authority(&self) -> String {
        let host =
            if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.is_tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.path)
    }
}

/// A user's password stands there, and keys in queries.
fn without_user(url: &str) -> String {
    let url = url.split_inclusive(['?', '#']).next().unwrap_or_default();
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://…@{rest}"),
        _ => url.to_owned(),
    }
}

/// Whether an address is of this machine or of a network of one's own.
pub(crate) fn is_near(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_near(v4.into()),
            None => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, kind: UpstreamKind, expected: Result<&str, &str>) {
        match (Target::parse(url, kind), expected) {
            (Ok(target), Ok(expected)) => assert_eq!(target.to_string(), expected),
            (Err(error), Err(expected)) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            (found, _) => panic!("{url}: {found:?}"),
        }
    }

    #[test]
    fn urls_are_those_of_the_vendors_clients() {
        use UpstreamKind::{Anthropic, Oidc, OpenAi};
        check("https://api.openai.com/v1", OpenAi, Ok("https://api.openai.com/v1"));
        check("http://127.0.0.1:8000", OpenAi, Ok("http://127.0.0.1:8000/v1"));
        check("http://[::1]:8000/", OpenAi, Ok("http://[::1]:8000/v1"));
        check("https://api.anthropic.com/", Anthropic, Ok("https://api.anthropic.com"));
        check("https://h/o/token/", Oidc, Ok("https://h/o/token/"));
        check("https://h:443/openai/v1/", OpenAi, Ok("https://h/openai/v1"));
        for wrong in
            ["", "h", "ftp://h", "http://", "http://h:x", "http://h:0", "/v1", "http://h?a"]
        {
            check(wrong, OpenAi, Err("expected http(s)://HOST"));
        }
        let told = Target::parse("https://user:secret@h/v1", OpenAi).unwrap_err().to_string();
        assert!(told.contains("no user in it") && !told.contains("secret"), "{told}");
        for url in ["https://h/v1?key=secret", "https://h/v1#secret"] {
            let told = Target::parse(url, OpenAi).unwrap_err().to_string();
            assert!(told.contains("https://h/v1") && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn what_is_out_of_bounds_is_told() {
        let upstream = || Upstream::new("a-1", UpstreamKind::OpenAi, vec!["http://h".to_owned()]);
        assert_eq!(upstream().check(), Ok(()));
        let check = |change: fn(&mut Upstream), expected: &str| {
            let mut changed = upstream();
            change(&mut changed);
            let told = changed.check().unwrap_err().to_string();
            assert!(told.contains(expected), "{told}");
        };
        check(|upstream| upstream.name = "A".to_owned(), "name: \"A\": expected 1 to 64");
        check(|upstream| upstream.urls.clear(), "urls: \"0\": expected 1 to 32");
        check(|upstream| upstream.retries = 11, "retries: \"11\": expected 0 to 10");
        check(|upstream| upstream.idle_timeout_ms = 0, "idle-timeout: \"0\": expected more");
        check(|upstream| upstream.health_path = Some("health".to_owned()), "expected a path");
        check(|upstream| upstream.key = Some(KeySource::Env(String::new())), "key-env: \"\"");
    }

    #[test]
    fn near_addresses_are_known() {
        for near in ["127.0.0.1", "10.1.2.3", "192.168.0.1", "::1", "fd00::1", "::ffff:10.0.0.1"] {
            assert!(is_near(near.parse().unwrap()), "{near}");
        }
        for far in ["1.1.1.1", "172.32.0.1", "2606:4700::1", "::ffff:1.1.1.1"] {
            assert!(!is_near(far.parse().unwrap()), "{far}");
        }
    }
}
