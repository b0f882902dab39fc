//! The server's side: requests in, answers out, over the pair of sockets.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::frame::{DATA_BYTES_MAX, Frame, FrameKind, WINDOW_BYTES};
use crate::link::{self, Deaf, Inbox, Link};
use crate::request::{BODY_BYTES_MAX, Outgoing};
use crate::serve::{BODIES_BYTES_MAX, REQUESTS_MAX};
use crate::wire::{self, AnswerHead, Known, RequestHead};
use crate::{BrokerError, UpstreamHealth, Waiting};

/// How much longer than the deadline is waited for the broker, which keeps it too.
const GRACE: Duration = Duration::from_secs(5);
/// How long it may take to say how upstreams are.
const HEALTH_TIME: Duration = Duration::from_secs(5);
/// Bytes of a body that one permit stands for, so that their number fits.
const PERMIT_BYTES: usize = 1024;

/// The broker, as the server has it. Clones are the same one.
#[derive(Clone)]
pub struct Broker {
    line: Arc<Line>,
}

/// The broker that is asked, and the one behind it.
struct Line {
    upstreams: Vec<Known>,
    state: Mutex<(Arc<Shared>, Option<UnixStream>)>,
}

/// The beginning of an answer from an upstream; its status is one of success. Dropping it gives the
/// answer up, there too.
#[derive(Debug)]
pub struct Incoming {
    /// The status, 2xx.
    pub status: u16,
    /// The headers, names in lower case, without those of the connection and cookies.
    pub headers: Vec<(String, String)>,
    /// Which address has answered.
    pub address: String,
    /// How many attempts it took.
    pub attempts: u32,
    /// The rest of it.
    pub body: Body,
}

/// The body of an answer, as it comes.
#[derive(Debug)]
pub struct Body {
    ticket: Ticket,
    events: mpsc::UnboundedReceiver<Event>,
    deadline: Instant,
    /// Bytes that were taken, and not given credit for yet.
    n_taken: usize,
    is_over: bool,
    /// Its place among the requests at once.
    _place: OwnedSemaphorePermit,
}

struct Shared {
    link: Link,
    pending: Mutex<Pending>,
    next: AtomicU64,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    /// Told when the broker reads nothing.
    deaf: Arc<Notify>,
}

#[derive(Default)]
struct Pending {
    /// Why the broker has ended, once it has.
    gone: Option<String>,
    requests: HashMap<u64, Waiter>,
    /// Whether the broker was asked how upstreams are, and has not said it yet.
    is_health_asked: bool,
    /// Who waits for that.
    health: Vec<oneshot::Sender<Vec<UpstreamHealth>>>,
}

/// Who waits for the frames of a request.
struct Waiter {
    events: mpsc::UnboundedSender<Event>,
    /// Whether the head of its answer has come.
    has_begun: bool,
    /// Bytes that the broker may still send. What waits in `events` is bounded by it.
    n_credit: usize,
}

#[derive(Debug)]
enum Event {
    Answer(AnswerHead),
    Data(Bytes),
    End,
    Failed(BrokerError),
}

impl Broker {
    /// Speaks to the broker at the other end of `stream`, which has said that it is ready, and once
    /// that has ended to the one at the end of `spare`. Must be called in a runtime, which then
    /// reads and writes.
    pub(crate) fn over(
        stream: tokio::net::UnixStream,
        spare: Option<UnixStream>,
        upstreams: Vec<Known>,
    ) -> Self {
        let state = Mutex::new((Shared::over(stream), spare));
        Self { line: Arc::new(Line { upstreams, state }) }
    }

    /// The upstreams that it knows.
    pub fn upstreams(&self) -> &[Known] {
        &self.line.upstreams
    }

    fn state(&self) -> MutexGuard<'_, (Arc<Shared>, Option<UnixStream>)> {
        self.line.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be asked, where nothing can.
    pub fn away(&self) -> Option<BrokerError> {
        let state = self.state();
        let why = state.0.pending().gone.clone()?;
        Some(BrokerError::Away { why, has_spare: state.1.is_some() })
    }

    /// The broker that is asked.
    fn shared(&self) -> Result<Arc<Shared>, BrokerError> {
        match self.away() {
            Some(away) => Err(away),
            None => Ok(Arc::clone(&self.state().0)),
        }
    }

    /// Puts the spare in the place of a broker that has ended, if there is one.
    fn renew(&self) {
        let mut state = self.state();
        if state.0.pending().gone.is_none() {
            return;
        }
        let Some(spare) = state.1.take() else { return };
        match tokio::net::UnixStream::from_std(spare) {
            Ok(stream) => {
                state.0 = Shared::over(stream);
                tracing::warn!("another broker has taken the place of the one that ended");
            }
            Err(error) => tracing::error!("the spare broker cannot be asked: {error}"),
        }
    }

    /// Sends a request, and waits for the beginning of its answer. Dropping the future gives it up.
    ///
    /// # Errors
    /// There is no answer, or one of another status than success.
    pub async fn send(&self, outgoing: Outgoing) -> Result<Incoming, BrokerError> {
        let Outgoing { departure, upstream, path, headers, body, deadline, affinity } = outgoing;
        let began = Instant::now();
        let timed_out = || BrokerError::TimedOut {
            upstream: upstream.clone(),
            waiting: Waiting::Deadline,
            after_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        if body.len() > BODY_BYTES_MAX {
            let why = format!("a body of {} bytes, expected {BODY_BYTES_MAX} at most", body.len());
            return Err(BrokerError::Invalid { upstream, why });
        }
        let shared = &self.shared()?;
        let busy = || BrokerError::Busy {
            upstream: upstream.clone(),
            why: format!("{REQUESTS_MAX} requests are on their way, the most at once"),
        };
        let place = Arc::clone(&shared.requests).try_acquire_owned().map_err(|_| busy())?;
        // Lossless: a body is bounded.
        let n_permits = body.len().div_ceil(PERMIT_BYTES) as u32;
        let room = shared.bodies.acquire_many(n_permits);
        let room = tokio::time::timeout_at(deadline.into(), room).await;
        // The semaphore is never closed.
        let room = room.map_err(|_| timed_out())?.map_err(|_| busy())?;
        let (events, mut answers) = mpsc::unbounded_channel();
        let ticket = shared.enter(events)?;
        let timeout_ms = deadline.saturating_duration_since(Instant::now()).as_millis();
        let head = RequestHead {
            departure,
            upstream: upstream.clone(),
            path: path.to_owned(),
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            n_bytes: body.len(),
            timeout_ms: u64::try_from(timeout_ms).unwrap_or(u64::MAX),
            affinity,
        };
        shared.say(wire::frame(FrameKind::Request, ticket.id, &head));
        let until = (deadline + GRACE).into();
        let sent_and_answered = async {
            // A refusal may come before all of the body is sent.
            let sent = shared.send_body(ticket.id, body);
            tokio::pin!(sent);
            tokio::select! {
                biased;
                event = answers.recv() => event,
                () = &mut sent => answers.recv().await,
            }
        };
        match tokio::time::timeout_at(until, sent_and_answered).await {
            Err(_) => Err(timed_out()),
            Ok(Some(Event::Answer(head))) => {
                drop(room);
                let AnswerHead { status, headers, address, attempts } = head;
                let (n_taken, is_over) = (0, false);
                let body =
                    Body { ticket, events: answers, deadline, n_taken, is_over, _place: place };
                Ok(Incoming { status, headers, address, attempts, body })
            }
            Ok(Some(Event::Failed(error))) => Err(error),
            Ok(Some(Event::Data(_) | Event::End) | None) => Err(shared.gone()),
        }
    }

    /// How the upstreams are. Where the broker has ended, its spare takes its place with this.
    ///
    /// # Errors
    /// The broker has ended, or does not answer.
    pub async fn health(&self) -> Result<Vec<UpstreamHealth>, BrokerError> {
        self.renew();
        let shared = self.shared()?;
        let (reply, answer) = oneshot::channel();
        let is_asked = {
            let mut pending = shared.pending();
            if pending.gone.is_some() {
                drop(pending);
                return Err(shared.gone());
            }
            // Those that nobody waits for any more were not answered in time.
            pending.health.retain(|reply| !reply.is_closed());
            pending.health.push(reply);
            std::mem::replace(&mut pending.is_health_asked, true)
        };
        // Who asks meanwhile is told by the same answer.
        if !is_asked {
            let id = shared.next.fetch_add(1, Ordering::Relaxed);
            shared.say(Frame::new(FrameKind::AskHealth, id, Bytes::new()));
        }
        match tokio::time::timeout(HEALTH_TIME, answer).await {
            Ok(Ok(health)) => Ok(health),
            Ok(Err(_)) => Err(shared.gone()),
            Err(_) => {
                let why = format!("no word of it for {} s", HEALTH_TIME.as_secs());
                Err(BrokerError::Gone { why })
            }
        }
    }

    /// Why the broker that was asked last has ended, once it has.
    pub fn ended(&self) -> Option<String> {
        self.state().0.pending().gone.clone()
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("upstreams", &self.line.upstreams).finish()
    }
}

async fn next(inbox: &mut Inbox) -> Result<Frame, String> {
    match inbox.next().await {
        Ok(Some(frame)) => Ok(frame),
        Ok(None) => Err("its end of the connection is closed".to_owned()),
        Err(why) => Err(why),
    }
}

impl Shared {
    fn over(stream: tokio::net::UnixStream) -> Arc<Self> {
        let (mut inbox, half) = link::split(stream);
        let (link, outbox) = Link::new();
        let deaf = Arc::new(Notify::new());
        let shared = Arc::new(Self {
            link,
            pending: Mutex::default(),
            next: AtomicU64::new(1),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            bodies: Arc::new(Semaphore::new(BODIES_BYTES_MAX / PERMIT_BYTES)),
            deaf: Arc::clone(&deaf),
        });
        let weak = Arc::downgrade(&shared);
        let writer = tokio::spawn(link::write(outbox, half));
        tokio::spawn(async move {
            let why = loop {
                let frame = tokio::select! {
                    biased;
                    () = deaf.notified() => Err(Deaf.to_string()),
                    frame = next(&mut inbox) => frame,
                };
                let frame = match frame {
                    Ok(frame) => frame,
                    Err(why) => break why,
                };
                let Some(shared) = weak.upgrade() else { return };
                if let Err(why) = shared.take(frame) {
                    break format!("it said what it may not: {why}");
                }
            };
            // What was read after a frame that cannot be is worth nothing.
            writer.abort();
            if let Some(shared) = weak.upgrade() {
                shared.end(&why);
            }
        });
        shared
    }

    /// Puts a frame before all that may wait; a broker that reads nothing is given up.
    fn say(&self, frame: Frame) {
        if self.link.say(frame).is_err() {
            self.deaf.notify_one();
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn gone(&self) -> BrokerError {
        let why = self.pending().gone.clone();
        BrokerError::Gone { why: why.unwrap_or_else(|| "it said what it may not".to_owned()) }
    }

    /// Waits for the frames of a new request.
    fn enter(
        self: &Arc<Self>,
        events: mpsc::UnboundedSender<Event>,
    ) -> Result<Ticket, BrokerError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut pending = self.pending();
        if pending.gone.is_some() {
            drop(pending);
            return Err(self.gone());
        }
        pending.requests.insert(id, Waiter { events, has_begun: false, n_credit: WINDOW_BYTES });
        Ok(Ticket { shared: Arc::clone(self), id })
    }

    async fn send_body(&self, id: u64, mut body: Bytes) {
        while !body.is_empty() {
            let piece = body.split_to(body.len().min(DATA_BYTES_MAX));
            if self.link.data.send(Frame::new(FrameKind::Data, id, piece)).await.is_err() {
                return;
            }
        }
    }

    /// Hands a frame to whoever waits for it; of a request that was given up more may come.
    ///
    /// # Errors
    /// One that a broker of ours never sends.
    fn take(&self, frame: Frame) -> Result<(), String> {
        let mut pending = self.pending();
        let event = match frame.kind {
            FrameKind::Answer => Event::Answer(wire::read(&frame)?),
            FrameKind::Data => Event::Data(frame.payload),
            FrameKind::End => Event::End,
            FrameKind::Error => Event::Failed(wire::read(&frame)?),
            FrameKind::Health => {
                let health: Vec<UpstreamHealth> = wire::read(&frame)?;
                pending.is_health_asked = false;
                for reply in pending.health.drain(..) {
                    let _ = reply.send(health.clone());
                }
                return Ok(());
            }
            kind => return Err(format!("frame {kind:?}: not one for a server")),
        };
        let Some(waiter) = pending.requests.get_mut(&frame.request) else { return Ok(()) };
        match &event {
            Event::Answer(_) if std::mem::replace(&mut waiter.has_begun, true) => {
                return Err("an answer that begins twice".to_owned());
            }
            Event::Data(bytes) => {
                let left = waiter.n_credit.checked_sub(bytes.len());
                waiter.n_credit = left.ok_or("more of an answer than it has credit for")?;
            }
            _ => {}
        }
        let is_last = matches!(event, Event::End | Event::Failed(_));
        let _ = waiter.events.send(event);
        if is_last {
            pending.requests.remove(&frame.request);
        }
        Ok(())
    }

    /// The broker has ended: all that wait are told.
    fn end(&self, why: &str) {
        tracing::error!("the broker has ended ({why}): no upstream can be asked by it any more");
        let mut pending = self.pending();
        pending.gone = Some(why.to_owned());
        pending.health.clear();
        for (_, waiter) in pending.requests.drain() {
            let _ = waiter.events.send(Event::Failed(BrokerError::Gone { why: why.to_owned() }));
        }
    }
}

/// A request that the broker knows of, until it is dropped.
struct Ticket {
    shared: Arc<Shared>,
    id: u64,
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.id)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // One whose last frame came is not there any more.
        if self.shared.pending().requests.remove(&self.id).is_some() {
            self.shared.say(Frame::new(FrameKind::Cancel, self.id, Bytes::new()));
        }
    }
}

impl Body {
    /// The next piece; `None` where the answer is whole. After an error nothing comes.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, BrokerError>> {
        if self.is_over {
            return None;
        }
        let until = (self.deadline + GRACE).into();
        let event = match tokio::time::timeout_at(until, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => Event::Failed(self.ticket.shared.gone()),
            Err(_) => Event::Failed(BrokerError::Gone { why: "it keeps no deadline".to_owned() }),
        };
        match event {
            Event::Data(bytes) => {
                self.give_credit(bytes.len());
                Some(Ok(bytes))
            }
            Event::Failed(error) => {
                self.is_over = true;
                Some(Err(error))
            }
            Event::End => {
                self.is_over = true;
                None
            }
            Event::Answer(_) => {
                self.is_over = true;
                let why = "it began an answer twice".to_owned();
                Some(Err(BrokerError::Gone { why }))
            }
        }
    }

    /// Lets the broker send more, once half of what it may have on the way was taken.
    fn give_credit(&mut self, n_bytes: usize) {
        self.n_taken += n_bytes;
        if self.n_taken < WINDOW_BYTES / 2 {
            return;
        }
        let (shared, id) = (&self.ticket.shared, self.ticket.id);
        let mut pending = shared.pending();
        let Some(waiter) = pending.requests.get_mut(&id) else { return };
        waiter.n_credit += self.n_taken;
        drop(pending);
        // Lossless: it is about a window.
        shared.say(Frame::credit(id, self.n_taken as u32));
        self.n_taken = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    fn run(future: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(future);
    }

    /// A broker, and the end at which it is somebody else.
    fn broker() -> (Broker, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Broker::over(ours, None, Vec::new()), theirs)
    }

    fn bytes(frames: &[Frame]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes).unwrap());
        bytes
    }

    #[test]
    fn an_answer_that_begins_twice_ends_the_broker() {
        run(async {
            let (broker, theirs) = broker();
            let (events, mut answers) = mpsc::unbounded_channel();
            let ticket = broker.shared().unwrap().enter(events).unwrap();
            let (headers, address) = (Vec::new(), String::new());
            let head = AnswerHead { status: 200, headers, address, attempts: 1 };
            let frame = || wire::frame(FrameKind::Answer, ticket.id, &head);
            let bytes = bytes(&[frame(), frame()]);
            assert_eq!(theirs.try_write(&bytes).unwrap(), bytes.len());
            assert!(matches!(answers.recv().await, Some(Event::Answer(_))));
            assert!(matches!(answers.recv().await, Some(Event::Failed(_))));
            assert!(broker.ended().unwrap().contains("begins twice"));
        });
    }

    #[test]
    fn a_broker_that_reads_nothing_is_given_up() {
        run(async {
            let (broker, _theirs) = broker();
            let shared = broker.shared().unwrap();
            let (events, mut answers) = mpsc::unbounded_channel();
            let _ticket = shared.enter(events).unwrap();
            // More than the queue and the system's own buffers hold.
            for n in 0..100_000 {
                shared.say(Frame::credit(n, 1));
            }
            let told = answers.recv().await;
            assert!(matches!(told, Some(Event::Failed(BrokerError::Gone { .. }))), "{told:?}");
            assert!(broker.ended().unwrap().contains("reads nothing"));
            let away = broker.health().await.unwrap_err();
            assert!(matches!(away, BrokerError::Away { has_spare: false, .. }), "{away:?}");
        });
    }

    #[test]
    fn who_asks_how_upstreams_are_meanwhile_is_told_by_the_same_answer() {
        run(async {
            let (broker, theirs) = broker();
            let (mut inbox, half) = link::split(theirs);
            let answer = async {
                let ask = inbox.next().await.unwrap().unwrap();
                assert_eq!(ask.kind, FrameKind::AskHealth);
                let none = Vec::<UpstreamHealth>::new();
                let bytes = bytes(&[wire::frame(FrameKind::Health, ask.request, &none)]);
                assert_eq!(half.try_write(&bytes).unwrap(), bytes.len());
                let more = tokio::time::timeout(Duration::from_millis(50), inbox.next());
                assert!(more.await.is_err(), "asked twice");
            };
            let (one, other, ()) = tokio::join!(broker.health(), broker.health(), answer);
            assert!(one.unwrap().is_empty() && other.unwrap().is_empty());
        });
    }
}
