//! HTTP as the store needs it: redirects by hand, the token to its own host only, failures sorted.

use std::error::Error as _;
use std::io::Read as _;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::blocking::Response;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use reqwest::{Method, StatusCode, Url};

use crate::error::StoreError;
use crate::hash::Sha256;
use crate::logins::RegistryLogin;
use crate::progress::Progress;
use crate::settings::{Settings, install_tls};
use crate::source::{is_loopback, parse_url};

/// Redirects followed for one request. The Hub needs one or two.
const N_REDIRECTS_MAX: usize = 8;

/// A connection is made within this time or counts as failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a wait between two tries looks whether anybody still waits.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Why a request or its body did not work out.
#[derive(Debug)]
pub(super) enum Failure {
    /// Trying again may help.
    Passing(Setback),
    /// Trying again is no use.
    Final(StoreError),
}

/// A failure that may pass.
#[derive(Debug)]
pub(super) struct Setback {
    /// What happened.
    pub(super) reason: String,
    /// How long the server asks to wait.
    pub(super) wait: Option<Duration>,
    /// No connection was made: the name is unknown or nobody answers.
    pub(super) is_unreachable: bool,
}

impl Failure {
    /// A failure after a connection was made, by a server that asks for no wait.
    pub(super) fn passing(reason: String) -> Self {
        Self::Passing(Setback { reason, wait: None, is_unreachable: false })
    }

    fn unsent(error: reqwest::Error) -> Self {
        let is_unreachable = error.is_connect();
        Self::Passing(Setback { reason: describe(error), wait: None, is_unreachable })
    }

    fn busy(reason: String, headers: &HeaderMap) -> Self {
        let wait = retry_after(headers);
        Self::Passing(Setback { reason, wait, is_unreachable: false })
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

/// How far redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Follow {
    /// To the end.
    All,
    /// Only on the same host: the answer that leads away is itself the answer.
    SameOrigin,
}

/// What a client shows to its own host.
#[derive(Clone, Copy)]
pub(super) enum Secret<'a> {
    /// A token (RFC 6750).
    Token(&'a str),
    /// A user and a password (RFC 7617). As base64 they have plain characters, whatever they are.
    Login(&'a RegistryLogin),
}

/// An HTTP client that knows one secret and one host to tell it to.
pub(super) struct Client {
    client: reqwest::blocking::Client,
    /// The token, ready as a header, and the origin it belongs to.
    authorization: Option<(HeaderValue, Url)>,
    /// What to do about a refusal, where it is not the Hub that refuses.
    hint: Option<&'static str>,
    pub(super) settings: Settings,
}

impl Client {
    /// A client for requests that begin at `home`; `secret` goes to the origin of `home` only.
    pub(super) fn new(
        settings: &Settings,
        home: &Url,
        secret: Option<Secret<'_>>,
    ) -> Result<Self, StoreError> {
        install_tls();
        let mut builder = reqwest::blocking::Client::builder()
            .user_agent(concat!("freehold/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            // In the blocking client this bounds the wait for the headers and each single read,
            // not the whole download.
            .timeout(settings.stall_timeout);
        if is_loopback(home) {
            // A proxy would look for its own loopback.
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| StoreError::Network {
            place: home.to_string(),
            reason: describe(error),
        })?;
        let authorization = match secret {
            None => None,
            Some(secret) => {
                let text = match secret {
                    Secret::Token(token) => format!("Bearer {token}"),
                    Secret::Login(RegistryLogin { user, password, .. }) => {
                        format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
                    }
                };
                let header = HeaderValue::try_from(text);
                let mut header = header.map_err(|_| StoreError::InvalidSetting {
                    name: "HF_TOKEN",
                    value: "(not shown)".to_owned(),
                    expected: "expected a token of plain characters".to_owned(),
                })?;
                header.set_sensitive(true);
                Some((header, home.clone()))
            }
        };
        Ok(Self { client, authorization, hint: None, settings: settings.clone() })
    }

    /// The same client, which says `hint` when it is refused.
    pub(super) fn with_hint(self, hint: &'static str) -> Self {
        Self { hint: Some(hint), ..self }
    }

    /// What the server at `url` wants to be shown first: the challenges of its 401 (RFC 9110,
    /// section 11.6.1). None where it wants nothing; what else it answers the next request tells.
    pub(super) fn challenges(
        &self,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Vec<String>, Failure> {
        let mut request = self.client.get(url.clone());
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let response = request.send().map_err(Failure::unsent)?;
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges = challenges.filter_map(|value| value.to_str().ok().map(str::to_owned));
        let challenges: Vec<String> = challenges.collect();
        match response.status() {
            StatusCode::UNAUTHORIZED => Ok(challenges),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                self.judge(response, url).map(|_| Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Sends one request, following redirects as `follow` says. A status of 400 or more, other than
    /// 416 (which the caller judges), is a [`Failure`].
    pub(super) fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        follow: Follow,
    ) -> Result<Response, Failure> {
        let mut at = url.clone();
        for _ in 0..=N_REDIRECTS_MAX {
            // The bytes as they are: a packed answer has another length and cannot be resumed.
            let mut request = self
                .client
                .request(method.clone(), at.clone())
                .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            for (name, value) in headers {
                request = request.header(name, value);
            }
            if let Some((header, home)) = &self.authorization
                && home.origin() == at.origin()
            {
                request = request.header(AUTHORIZATION, header);
            }
            let response = request.send().map_err(Failure::unsent)?;
            if !is_redirect(response.status()) {
                return self.judge(response, &at);
            }
            let next = self.redirect_target(&response, &at)?;
            if follow == Follow::SameOrigin && next.origin() != at.origin() {
                return Ok(response);
            }
            at = next;
        }
        let reason = format!("more than {N_REDIRECTS_MAX} redirects, expected an answer");
        Err(Failure::Final(StoreError::Network { place: show(url), reason }))
    }

    fn redirect_target(&self, response: &Response, at: &Url) -> Result<Url, Failure> {
        let refuse =
            |reason: String| Failure::Final(StoreError::Network { place: show(at), reason });
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location =
            location.ok_or_else(|| refuse("a redirect without a location".to_owned()))?;
        let next =
            at.join(location).map_err(|error| refuse(format!("a redirect to nowhere: {error}")))?;
        parse_url(next.as_str())
            .map_err(|expected| refuse(format!("a redirect away: {expected}")))?;
        // Another host must not be able to make us talk to services of this machine.
        if is_loopback(&next) && !is_loopback(at) {
            return Err(refuse("a redirect to this machine itself, expected another".to_owned()));
        }
        Ok(next)
    }

    fn judge(&self, response: Response, at: &Url) -> Result<Response, Failure> {
        let status = response.status();
        let place = show(at);
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let reason = format!("status {status}");
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let hint = match (self.hint, &self.authorization) {
                    (Some(hint), _) => hint,
                    (None, Some(_)) => {
                        "the token in HF_TOKEN may not read this; accept the model's terms \
                                on its page or use another token"
                    }
                    (None, None) => "it may need a login; on the Hub set HF_TOKEN",
                };
                let (status, hint) = (status.as_u16(), hint.to_owned());
                Failure::Final(StoreError::AccessDenied { place, status, hint })
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => Failure::Final(StoreError::NotAtSource {
                place,
                reason: format!("{reason}: there is no such file or revision"),
            }),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Failure::busy(reason, response.headers())
            }
            status if status.is_server_error() => Failure::busy(reason, response.headers()),
            _ => Failure::Final(StoreError::Network { place, reason }),
        })
    }
}

/// Asks what an address has, with the same patience as a download.
pub(super) fn head(
    client: &Client,
    url: &Url,
    follow: Follow,
    progress: &dyn Progress,
) -> Result<Response, StoreError> {
    patiently(&client.settings, url, progress, || client.send(&Method::HEAD, url, &[], follow))
}

/// The SHA-256 that an answer names its content by: `X-Linked-Etag` of the Hub, else `ETag`. What
/// else stands there (the hash of a git object, a number) is no SHA-256 and of another length.
pub(super) fn named_sha256(response: &Response) -> Option<Sha256> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let etag = header("x-linked-etag").or_else(|| header(ETAG.as_str()))?;
    etag.trim_start_matches("W/").trim_matches('"').parse().ok()
}

/// Counts failures and waits between them; both bounded by the settings.
pub(super) struct Patience<'a> {
    settings: &'a Settings,
    n_failed: u32,
    n_tries_in_all: u32,
    /// A connection was made at least once.
    was_reached: bool,
}

/// Tries of a server that no connection could be made to: it is rather the name, the cable or a
/// firewall than a moment's weakness, and a person waits.
const N_TRIES_UNREACHABLE_MAX: u32 = 3;

/// Tries of one file in all, however much each gained: a bound on a server that sends crumbs.
const N_TRIES_IN_ALL_MAX: u32 = 200;

impl<'a> Patience<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        Self { settings, n_failed: 0, n_tries_in_all: 0, was_reached: false }
    }

    /// The last try gained something: the count of failures in a row begins again.
    pub(super) fn gained(&mut self) {
        self.n_failed = 0;
    }

    /// Waits before the next try, or gives up with the reason and the number of tries, or because
    /// nobody wants it any more.
    pub(super) fn again(
        &mut self,
        place: &str,
        setback: &Setback,
        progress: &dyn Progress,
    ) -> Result<(), StoreError> {
        let Setback { reason, wait, is_unreachable } = setback;
        self.n_failed += 1;
        self.n_tries_in_all += 1;
        self.was_reached |= !is_unreachable;
        let n_tries_max = match self.was_reached {
            true => self.settings.n_tries,
            false => self.settings.n_tries.min(N_TRIES_UNREACHABLE_MAX),
        };
        if self.n_failed >= n_tries_max || self.n_tries_in_all >= N_TRIES_IN_ALL_MAX {
            let n_tries = self.n_tries_in_all;
            let reason = format!("{reason} (given up after {n_tries} tries)");
            return Err(StoreError::Network { place: place.to_owned(), reason });
        }
        let doubled = self.settings.retry_wait.saturating_mul(1 << (self.n_failed - 1).min(16));
        let wait =
            wait.map_or(doubled, |asked| asked.max(doubled)).min(self.settings.retry_wait_max);
        progress.note(&format!("{reason}; trying again in {:.1} s", wait.as_secs_f64()));
        pause(wait, progress)
    }
}

/// Waits, but not for whom nobody waits any more.
fn pause(wait: Duration, progress: &dyn Progress) -> Result<(), StoreError> {
    let start = Instant::now();
    loop {
        if progress.is_cancelled() {
            return Err(StoreError::Cancelled);
        }
        match wait.checked_sub(start.elapsed()) {
            Some(rest) if !rest.is_zero() => std::thread::sleep(rest.min(POLL_INTERVAL)),
            _ => return Ok(()),
        }
    }
}

/// The whole body of an answer of at most `n_bytes_max`.
pub(super) fn read_body(response: Response, n_bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let place = show(response.url());
    let mut bytes = Vec::new();
    let read = response.take(n_bytes_max + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::passing(format!("the connection broke: {error}")))?;
    if bytes.len() as u64 > n_bytes_max {
        let reason = format!("a longer answer, expected at most {n_bytes_max} bytes");
        return Err(Failure::Final(StoreError::Network { place, reason }));
    }
    Ok(bytes)
}

/// Does `attempt` until it succeeds, fails for good, or patience ends.
pub(super) fn patiently<T>(
    settings: &Settings,
    url: &Url,
    progress: &dyn Progress,
    mut attempt: impl FnMut() -> Result<T, Failure>,
) -> Result<T, StoreError> {
    let mut patience = Patience::new(settings);
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Failure::Final(error)) => return Err(error),
            Err(Failure::Passing(setback)) => patience.again(&show(url), &setback, progress)?,
        }
    }
}

/// An address without its query, which may hold signatures that belong in no log.
pub(super) fn show(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// A transport error with its causes, without the address.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// `Retry-After` in seconds; the form with a date is rare and ignored.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}
