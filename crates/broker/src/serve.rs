//! The broker's own side: frames in, requests out, answers back.
//!
//! Whoever speaks here may be taken over by somebody else, so nothing is believed: sizes and counts
//! are bounded, a frame that cannot be ends the broker, and a request leaves only by a departure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinSet};

use crate::ask::{Answer, Question};
use crate::connections::{Dial, told};
use crate::departures::{Departures, Later, Used};
use crate::frame::{DATA_BYTES_MAX, Frame, FrameKind, WINDOW_BYTES};
use crate::link::{self, Deaf, Link};
use crate::request::{BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS, paths};
use crate::upstreams::{Prepared, Server};
use crate::wire::{self, AnswerHead, Ready, RequestHead};
use crate::{BrokerError, Waiting};

/// Most requests at once.
pub(crate) const REQUESTS_MAX: usize = 1024;
/// Most bytes of their bodies together.
pub(crate) const BODIES_BYTES_MAX: usize = 256 << 20;
/// Longest time that is believed of a request.
const DEADLINE_MAX: Duration = Duration::from_secs(86_400);
/// Most bytes of one answer: what no completion is.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// What the broker works with.
pub struct Means {
    /// Where departures are looked for.
    pub departures: Arc<dyn Departures>,
    /// Waits until it may serve, and then gives the place in the chain of the last entry:
    /// departures stand behind it.
    pub floor: Later<'static, Result<i64, String>>,
    /// The way to other servers.
    pub dial: Arc<dyn Dial>,
    /// What holds the process, or why nothing does, in words.
    pub lock: Result<String, String>,
}

/// Serves the other end of `stream` until that is closed. It says that it is ready, and then reads
/// and asks nothing before it may.
///
/// # Errors
/// The other side sent what it may not, or reads nothing; the ledger cannot be asked.
pub async fn serve(prepared: Prepared, means: Means, stream: UnixStream) -> Result<(), String> {
    let servers = prepared.servers(&means.dial);
    stream.set_nonblocking(true).map_err(|error| error.to_string())?;
    let stream = tokio::net::UnixStream::from_std(stream).map_err(|error| error.to_string())?;
    let (mut inbox, half) = link::split(stream);
    let (link, outbox) = Link::new();
    let writer = tokio::spawn(link::write(outbox, half));
    let ready = Ready {
        is_locked: means.lock.is_ok(),
        lock: means.lock.unwrap_or_else(|why| why),
        upstreams: servers.iter().map(|server| server.known()).collect(),
    };
    link.say(wire::frame(FrameKind::Ready, 0, &ready)).map_err(|deaf| deaf.to_string())?;
    let floor = means.floor.await?;
    let mut checks = JoinSet::new();
    for server in &servers {
        watch(server, &mut checks);
    }
    let desk = Arc::new(Desk {
        servers,
        departures: means.departures,
        used: Used::since(floor),
        link,
        requests: Mutex::default(),
        deaf: Notify::new(),
    });
    let ended = loop {
        let frame = tokio::select! {
            biased;
            () = desk.deaf.notified() => break Err(Deaf.to_string()),
            frame = inbox.next() => frame,
        };
        match frame {
            Ok(Some(frame)) => {
                match desk.take(frame) {
                    // Nothing more is read until there is room for it.
                    Ok(Some(reply)) => drop(desk.link.data.send(reply).await),
                    Ok(None) => {}
                    Err(why) => break Err(why),
                }
            }
            Ok(None) => break Ok(()),
            Err(why) => break Err(why),
        }
    };
    desk.cancel_all();
    writer.abort();
    ended
}

/// Asks the addresses of a server for their health from time to time, if it has a path for that.
fn watch(server: &Arc<Server>, checks: &mut JoinSet<()>) {
    let Some(path) = server.config.health_path.clone() else { return };
    let pause = Duration::from_millis(server.config.health_every_ms);
    for (idx, address) in server.addresses.iter().enumerate() {
        let (server, address, path) = (Arc::clone(server), Arc::clone(address), path.clone());
        checks.spawn(async move {
            loop {
                address.judge(server.ask_health(idx, &path).await);
                tokio::time::sleep(pause).await;
            }
        });
    }
}

/// What all requests share.
struct Desk {
    servers: Vec<Arc<Server>>,
    departures: Arc<dyn Departures>,
    used: Used,
    link: Link,
    requests: Mutex<HashMap<u64, Running>>,
    /// Told when the server reads nothing.
    deaf: Notify,
}

/// A request.
struct Running {
    /// Until all of its body is here.
    coming: Option<Coming>,
    /// Bytes that it holds of what all bodies may.
    n_bytes: usize,
    /// Bytes of the answer that may be sent.
    window: Arc<Semaphore>,
    task: Option<AbortHandle>,
}

struct Coming {
    head: RequestHead,
    body: BytesMut,
    deadline: Instant,
}

impl Desk {
    /// Does what a frame asks for, and returns what is to be said to it at once.
    ///
    /// # Errors
    /// One that a server of ours never sends.
    fn take(self: &Arc<Self>, frame: Frame) -> Result<Option<Frame>, String> {
        match frame.kind {
            FrameKind::Request => self.begin(&frame),
            FrameKind::Data => self.body(&frame).map(|()| None),
            FrameKind::Credit => self.credit(&frame).map(|()| None),
            FrameKind::Cancel => {
                let running = self.requests().remove(&frame.request);
                if let Some(task) = running.and_then(|running| running.task) {
                    task.abort();
                }
                Ok(None)
            }
            FrameKind::AskHealth => {
                let health: Vec<_> = self.servers.iter().map(|server| server.health()).collect();
                Ok(Some(wire::frame(FrameKind::Health, frame.request, &health)))
            }
            kind => Err(format!("frame {kind:?}: not one for a broker that is ready")),
        }
    }

    fn requests(&self) -> MutexGuard<'_, HashMap<u64, Running>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request, or returns why it is not taken.
    fn begin(self: &Arc<Self>, frame: &Frame) -> Result<Option<Frame>, String> {
        let head: RequestHead = wire::read(frame)?;
        // One that is too long is told so, and none of it is kept.
        let n_bytes = if head.n_bytes > BODY_BYTES_MAX { 0 } else { head.n_bytes };
        let mut requests = self.requests();
        let held: usize = requests.values().map(|running| running.n_bytes).sum();
        if requests.len() >= REQUESTS_MAX || held.saturating_add(n_bytes) > BODIES_BYTES_MAX {
            let why = format!(
                "{REQUESTS_MAX} requests with {BODIES_BYTES_MAX} bytes are the most at once"
            );
            let busy = BrokerError::Busy { upstream: head.upstream, why };
            return Ok(Some(wire::frame(FrameKind::Error, frame.request, &busy)));
        }
        let timeout = Duration::from_millis(head.timeout_ms).min(DEADLINE_MAX);
        let deadline = Instant::now() + timeout;
        let coming = Some(Coming { head, body: BytesMut::new(), deadline });
        let window = Arc::new(Semaphore::new(WINDOW_BYTES));
        match requests.entry(frame.request) {
            Entry::Occupied(_) => return Err(format!("request {} twice", frame.request)),
            Entry::Vacant(free) => {
                free.insert(Running { coming, n_bytes, window, task: None });
            }
        }
        drop(requests);
        if n_bytes == 0 {
            self.start(frame.request);
        }
        Ok(None)
    }

    fn body(self: &Arc<Self>, frame: &Frame) -> Result<(), String> {
        let mut requests = self.requests();
        // Of one that failed or was cancelled, more may be on its way.
        let Some(running) = requests.get_mut(&frame.request) else { return Ok(()) };
        let Some(coming) = &mut running.coming else { return Ok(()) };
        let n_bytes = coming.body.len() + frame.payload.len();
        if n_bytes > coming.head.n_bytes {
            let most = coming.head.n_bytes;
            return Err(format!("a body of {n_bytes} bytes, expected {most} as its head says"));
        }
        coming.body.extend_from_slice(&frame.payload);
        if n_bytes == coming.head.n_bytes {
            drop(requests);
            self.start(frame.request);
        }
        Ok(())
    }

    fn credit(&self, frame: &Frame) -> Result<(), String> {
        let requests = self.requests();
        let Some(running) = requests.get(&frame.request) else { return Ok(()) };
        let n_bytes = frame.n_credit();
        if running.window.available_permits().saturating_add(n_bytes) > WINDOW_BYTES {
            return Err(format!("credit for more than {WINDOW_BYTES} bytes"));
        }
        running.window.add_permits(n_bytes);
        Ok(())
    }

    /// Has a request that is whole answered.
    fn start(self: &Arc<Self>, id: u64) {
        let mut requests = self.requests();
        let Some(running) = requests.get_mut(&id) else { return };
        let Some(coming) = running.coming.take() else { return };
        let (desk, window) = (Arc::clone(self), Arc::clone(&running.window));
        let place = Place { desk: Arc::clone(self), id, is_over: false };
        let task = tokio::spawn(async move {
            let mut place = place;
            let done = desk.answer(id, coming, &window).await;
            let last = match done {
                Ok(()) => Frame::new(FrameKind::End, id, Bytes::new()),
                Err(error) => wire::frame(FrameKind::Error, id, &error),
            };
            place.is_over = true;
            drop(place);
            let _ = desk.link.data.send(last).await;
        });
        running.task = Some(task.abort_handle());
    }

    async fn answer(&self, id: u64, coming: Coming, window: &Semaphore) -> Result<(), BrokerError> {
        let Coming { head, body, deadline } = coming;
        let server = self.server(&head.upstream)?;
        let question = question(server, &head, body.freeze(), deadline)?;
        self.depart(&head, &question.body).await?;
        let answer = server.ask(&question).await?;
        // It is not sent again from here on.
        drop(question);
        if let Some(running) = self.requests().get_mut(&id) {
            running.n_bytes = 0;
        }
        let began = AnswerHead {
            status: answer.response.status().as_u16(),
            headers: readable(answer.response.headers()),
            address: answer.seat.address().socket.to_string(),
            attempts: answer.attempts,
        };
        let _ = self.link.data.send(wire::frame(FrameKind::Answer, id, &began)).await;
        self.pass_on(id, server, answer, deadline, window).await
    }

    fn server(&self, name: &str) -> Result<&Arc<Server>, BrokerError> {
        let found = self.servers.iter().find(|server| server.config.name == name);
        found.ok_or_else(|| {
            let names: Vec<&str> =
                self.servers.iter().map(|server| server.config.name.as_str()).collect();
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            BrokerError::UnknownUpstream { upstream: name.chars().take(80).collect(), known }
        })
    }

    /// Without a departure for this very request nothing is sent.
    async fn depart(&self, head: &RequestHead, body: &[u8]) -> Result<(), BrokerError> {
        let found = self.departures.find(&head.departure).await;
        let found = found.map_err(|why| format!("the ledger cannot be asked: {why}"));
        let taken = found.and_then(|found| self.used.take(found, &head.upstream, body));
        taken.map_err(|why| BrokerError::NoDeparture {
            departure: head.departure.chars().take(80).collect(),
            why,
        })
    }

    /// Sends the answer's body piece by piece, as fast as it is taken.
    async fn pass_on(
        &self,
        id: u64,
        server: &Server,
        answer: Answer,
        deadline: Instant,
        window: &Semaphore,
    ) -> Result<(), BrokerError> {
        let Answer { response, sender, mut seat, .. } = answer;
        let mut body = response.into_body();
        let upstream = || server.config.name.clone();
        let idle = Duration::from_millis(server.config.idle_timeout_ms);
        let began = Instant::now();
        let timed_out = |waiting| {
            let after_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            BrokerError::TimedOut { upstream: upstream(), waiting, after_ms }
        };
        let mut n_bytes = 0_u64;
        loop {
            let until = deadline.min(Instant::now() + idle);
            let address = seat.address().socket.to_string();
            let cut = |why| BrokerError::Cut { upstream: upstream(), address, n_bytes, why };
            let frame = match tokio::time::timeout_at(until.into(), body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    let error = cut(told(&error));
                    seat.fail(&error.to_string());
                    return Err(error);
                }
                Err(_) if until == deadline => return Err(timed_out(Waiting::Deadline)),
                Err(_) => {
                    let error = timed_out(Waiting::NextByte);
                    seat.fail(&error.to_string());
                    return Err(error);
                }
            };
            // Trailers say nothing that anybody reads.
            let mut data = frame.into_data().unwrap_or_default();
            if n_bytes + data.len() as u64 > ANSWER_BYTES_MAX {
                return Err(cut(format!("it is longer than {ANSWER_BYTES_MAX} bytes")));
            }
            n_bytes += data.len() as u64;
            while !data.is_empty() {
                let piece = data.split_to(data.len().min(DATA_BYTES_MAX));
                // Lossless: a piece is short.
                let room = window.acquire_many(piece.len() as u32);
                match tokio::time::timeout_at(deadline.into(), room).await {
                    Ok(Ok(room)) => room.forget(),
                    _ => return Err(timed_out(Waiting::Deadline)),
                }
                let _ = self.link.data.send(Frame::new(FrameKind::Data, id, piece)).await;
            }
        }
        seat.address().connections.keep(sender);
        Ok(())
    }

    fn fail(&self, id: u64, error: &BrokerError) {
        if self.link.say(wire::frame(FrameKind::Error, id, error)).is_err() {
            self.deaf.notify_one();
        }
    }

    fn cancel_all(&self) {
        let requests = std::mem::take(&mut *self.requests());
        requests.into_values().filter_map(|running| running.task).for_each(|task| task.abort());
    }
}

/// A request's place among those at work, until it is dropped: whatever ends its task, by a panic
/// too, whoever waits is told.
struct Place {
    desk: Arc<Desk>,
    id: u64,
    is_over: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let was_there = self.desk.requests().remove(&self.id).is_some();
        // One that was cancelled is not there any more.
        if was_there && !self.is_over {
            let why = "its task ended before its time".to_owned();
            self.desk.fail(self.id, &BrokerError::Gone { why });
        }
    }
}

/// What is asked, if it is what the broker sends.
fn question(
    server: &Server,
    head: &RequestHead,
    body: Bytes,
    deadline: Instant,
) -> Result<Question, BrokerError> {
    let invalid = |why: String| BrokerError::Invalid { upstream: head.upstream.clone(), why };
    let short = |text: &str| text.chars().take(80).collect::<String>();
    let paths = paths(server.config.kind);
    if !paths.contains(&head.path.as_str()) {
        let why = format!("path {:?}, expected one of {}", short(&head.path), paths.join(", "));
        return Err(invalid(why));
    }
    if head.n_bytes > BODY_BYTES_MAX {
        let why = format!("a body of {} bytes, expected {BODY_BYTES_MAX} at most", head.n_bytes);
        return Err(invalid(why));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        let name = HEADERS.into_iter().find(|allowed| allowed == name).ok_or_else(|| {
            invalid(format!("header {:?}, expected one of {}", short(name), HEADERS.join(", ")))
        })?;
        let parsed = HeaderValue::from_str(value).ok();
        let parsed = parsed.filter(|_| value.len() <= HEADER_BYTES_MAX).ok_or_else(|| {
            let value = short(value);
            invalid(format!("header {name}: {value:?}, expected {HEADER_BYTES_MAX} bytes at most"))
        })?;
        headers.insert(HeaderName::from_static(name), parsed);
    }
    let (path, affinity) = (head.path.clone(), head.affinity);
    Ok(Question { path, headers, body, affinity, deadline })
}

/// The headers of an answer that are text, but for those of its connection and for cookies.
fn readable(headers: &HeaderMap) -> Vec<(String, String)> {
    const LEFT_OUT: [&str; 4] = ["connection", "keep-alive", "set-cookie", "transfer-encoding"];
    let kept = headers.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
    let read = kept.filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    read.collect()
}
