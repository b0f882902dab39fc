//! A request to an upstream: which address, how long, and whether once more.
//!
//! Tried again is only what has not begun to be answered, within the upstream's budget: what was
//! never sent, what the upstream says that it did not do (429, 500, 502, 503, 504, 529), and what
//! broke before the head of the answer came. The last may have been computed, and paid, twice; a
//! completion changes nothing there. An answer that does not begin in time is not asked for again:
//! the work on it may well go on.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response};

use crate::address::{NotNow, Seat};
use crate::config::Target;
use crate::connections::Broken;
use crate::upstreams::Server;
use crate::{BrokerError, UpstreamKind, Waiting, choose, retry};

/// Most of a refusal that is read, and how long that may take.
const REFUSAL_BYTES_MAX: usize = 16 << 10;
const REFUSAL_TIME: Duration = Duration::from_secs(5);
/// What is said to Anthropic where the request says nothing.
const ANTHROPIC_VERSION: &str = "2023-06-01";
const USER_AGENT: &str = concat!("freehold/", env!("CARGO_PKG_VERSION"));

/// What is asked.
pub(crate) struct Question {
    /// As the client of the broker gave it; it was checked.
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) affinity: Option<u64>,
    pub(crate) deadline: Instant,
}

/// An answer that has begun.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    /// Takes the next request when this answer is whole.
    pub(crate) sender: SendRequest<Full<Bytes>>,
    pub(crate) seat: Seat,
    pub(crate) attempts: u32,
}

/// An attempt that failed.
struct Failure {
    error: BrokerError,
    /// Whether another attempt may do.
    may_pass: bool,
    retry_after: Option<Duration>,
}

impl Server {
    /// Asks until there is an answer, or a reason why there is none.
    pub(crate) async fn ask(&self, question: &Question) -> Result<Answer, BrokerError> {
        self.budget().earn();
        let mut tried = Vec::new();
        let mut attempts = 0;
        let mut last = None;
        loop {
            attempts += 1;
            let seat = self.seat(question.affinity, &tried);
            // What came of asking says more than that nobody is left to ask.
            let (idx, mut seat) = seat.map_err(|error| last.take().unwrap_or(error))?;
            let failure = match self.attempt(&mut seat, question, attempts).await {
                Ok((response, sender)) => {
                    return Ok(Answer { response, sender, seat, attempts });
                }
                Err(failure) => failure,
            };
            drop(seat);
            tried.push(idx);
            if !failure.may_pass || attempts > self.config.retries {
                return Err(failure.error);
            }
            if self.candidates(&tried).0.is_empty() {
                // All were asked: the same ones once more, after a while.
                tried.clear();
                let wait = retry::wait(attempts + 1, failure.retry_after);
                let is_in_time = |wait: &Duration| Instant::now() + *wait < question.deadline;
                let Some(wait) = wait.filter(is_in_time) else { return Err(failure.error) };
                if !self.budget().spend() {
                    return Err(failure.error);
                }
                tokio::time::sleep(wait).await;
            } else if !self.budget().spend() {
                return Err(failure.error);
            }
            last = Some(failure.error);
        }
    }

    /// The address that gets the request.
    fn seat(&self, affinity: Option<u64>, tried: &[usize]) -> Result<(usize, Seat), BrokerError> {
        let upstream = || self.config.name.clone();
        let (candidates, not_now) = self.candidates(tried);
        if let Some(idx) = choose::choose(&candidates, affinity) {
            return Ok((idx, self.addresses[idx].take()));
        }
        if self.addresses.is_empty() {
            let why = format!("it has no address: {}", self.problems.join("; "));
            return Err(BrokerError::Unreachable { upstream: upstream(), why, is_sent: false });
        }
        if not_now.contains(&NotNow::Full) {
            let most = self.config.max_in_flight;
            let why = format!("{most} requests are on their way to each address, the most at once");
            return Err(BrokerError::Busy { upstream: upstream(), why });
        }
        let until = not_now.iter().filter_map(|not_now| match not_now {
            NotNow::Open(until) => *until,
            NotNow::Full => None,
        });
        let wait = until.min().map(|until| until.saturating_duration_since(Instant::now()));
        let retry_after_s = wait.unwrap_or_default().as_secs() + 1;
        Err(BrokerError::CircuitOpen { upstream: upstream(), retry_after_s })
    }

    /// Asks one address.
    async fn attempt(
        &self,
        seat: &mut Seat,
        question: &Question,
        attempts: u32,
    ) -> Result<(Response<Incoming>, SendRequest<Full<Bytes>>), Failure> {
        let began = Instant::now();
        let first_byte = began + Duration::from_millis(self.config.first_byte_timeout_ms);
        let until = first_byte.min(question.deadline);
        let address = Arc::clone(seat.address());
        let request = self.request(question, &address.target);
        let connect_timeout = Duration::from_millis(self.config.connect_timeout_ms);
        let sent = address.connections.send(request, connect_timeout);
        let timed_out = |waiting| BrokerError::TimedOut {
            upstream: self.config.name.clone(),
            waiting,
            after_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        let fail = |seat: &mut Seat, error: BrokerError, may_pass| {
            seat.fail(&error.to_string());
            Failure { error, may_pass, retry_after: None }
        };
        let unreachable = |why: &str, is_sent| {
            let why = format!("{} ({}): {why}", address.url, address.socket);
            BrokerError::Unreachable { upstream: self.config.name.clone(), why, is_sent }
        };
        match tokio::time::timeout_at(until.into(), sent).await {
            Ok(Ok((response, sender))) if response.status().is_success() => {
                seat.succeed();
                Ok((response, sender))
            }
            Ok(Ok((response, _))) => Err(self.refused(seat, response, attempts).await),
            Ok(Err(Broken::NoConnection(why))) => Err(fail(seat, unreachable(&why, false), true)),
            Ok(Err(Broken::ConnectTimeout)) => {
                Err(fail(seat, timed_out(Waiting::Connection), true))
            }
            Ok(Err(Broken::Later(why))) => Err(fail(seat, unreachable(&why, true), true)),
            // The client's patience is no fault of the address.
            Err(_) if until == question.deadline => {
                let error = timed_out(Waiting::Deadline);
                Err(Failure { error, may_pass: false, retry_after: None })
            }
            Err(_) => Err(fail(seat, timed_out(Waiting::FirstByte), false)),
        }
    }

    /// What a status that is none of success means.
    async fn refused(
        &self,
        seat: &mut Seat,
        response: Response<Incoming>,
        attempts: u32,
    ) -> Failure {
        let status = response.status();
        let retry_after = retry_after(response.headers());
        let mut body = response.into_body();
        let mut said = Vec::new();
        let read = async {
            while said.len() < REFUSAL_BYTES_MAX
                && let Some(Ok(frame)) = body.frame().await
            {
                let data = frame.into_data().unwrap_or_default();
                let room = REFUSAL_BYTES_MAX - said.len();
                said.extend_from_slice(&data[..data.len().min(room)]);
            }
        };
        // What is there by then is what it said.
        let _ = tokio::time::timeout(REFUSAL_TIME, read).await;
        if retry::is_failure(status.as_u16()) {
            seat.fail(&format!("status {status}"));
        } else {
            seat.succeed();
        }
        let error = BrokerError::Refused {
            upstream: self.config.name.clone(),
            address: seat.address().socket.to_string(),
            status: status.as_u16(),
            retry_after_s: retry_after.map(whole_seconds),
            body: String::from_utf8_lossy(&said).into_owned(),
            attempts,
        };
        Failure { error, may_pass: retry::may_pass(status.as_u16()), retry_after }
    }

    /// Asks one address for its health.
    pub(crate) async fn ask_health(&self, idx: usize, path: &str) -> Result<(), String> {
        let address = &self.addresses[idx];
        let request = Request::builder()
            .uri(path)
            .header(hyper::header::HOST, address.target.authority())
            .header(hyper::header::USER_AGENT, USER_AGENT)
            .body(Full::new(Bytes::new()));
        let request = request.map_err(|error| error.to_string())?;
        let timeout = Duration::from_millis(self.config.connect_timeout_ms);
        let sent = tokio::time::timeout(timeout, address.connections.send(request, timeout)).await;
        match sent {
            Ok(Ok((response, _))) if response.status().is_success() => Ok(()),
            Ok(Ok((response, _))) => Err(format!("{path}: status {}", response.status())),
            Ok(Err(Broken::NoConnection(why) | Broken::Later(why))) => {
                Err(format!("{path}: {why}"))
            }
            Ok(Err(Broken::ConnectTimeout)) | Err(_) => Err(format!("{path}: no answer in time")),
        }
    }

    fn request(&self, question: &Question, target: &Target) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(question.body.clone()));
        let is_form = self.config.kind == UpstreamKind::Oidc;
        let is_read = is_form && question.body.is_empty();
        *request.method_mut() = if is_read { Method::GET } else { Method::POST };
        let path = format!("{}{}", target.path, question.path);
        *request.uri_mut() = path.parse().expect("both parts were parsed before");
        let headers = request.headers_mut();
        let host = HeaderValue::from_str(&target.authority());
        headers.insert(hyper::header::HOST, host.expect("it was parsed before"));
        let json = HeaderValue::from_static("application/json");
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        if !is_read {
            let media_type = if is_form { form } else { json.clone() };
            headers.insert(hyper::header::CONTENT_TYPE, media_type);
        }
        headers.insert(hyper::header::ACCEPT, json);
        headers.insert(hyper::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(hyper::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
        if self.config.kind == UpstreamKind::Anthropic {
            let version = HeaderValue::from_static(ANTHROPIC_VERSION);
            headers.insert(HeaderName::from_static("anthropic-version"), version);
        }
        for (name, value) in &question.headers {
            headers.insert(name, value.clone());
        }
        if let Some((name, value)) = &self.key {
            headers.insert(name, value.clone());
        }
        request
    }
}

/// When it may be asked again, as the answer says.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(hyper::header::RETRY_AFTER)?.to_str().ok()?;
    retry::retry_after(text, SystemTime::now())
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
