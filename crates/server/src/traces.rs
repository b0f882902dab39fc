//! Traces: what each request was and where its time went, given to whoever takes them elsewhere,
//! where the owner wants that. Never any contents.
//!
//! A request leaves its spans in a queue, which is bounded, and waits for nobody. A thread of their
//! own takes them out in batches and hands each over as one body. What finds no room, or is not
//! taken, is counted and dropped: no trace is worth a delay.

mod context;
mod otlp;

pub(crate) use context::Context;
pub(crate) use otlp::Told;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

/// Requests that may wait: some seconds of a busy server, and a megabyte.
const N_WAITING: usize = 2048;
/// Most requests of one body.
const N_BATCH: usize = 128;
/// How long a batch waits to become larger.
const BATCH_PAUSE: Duration = Duration::from_secs(2);
/// How often a body is handed over that may be taken later, and how long the pauses are: doubled
/// each time, unless the other side asks for more, which it does not get beyond the last.
const N_TRIES: u32 = 3;
const TRY_PAUSE: Duration = Duration::from_secs(1);
const TRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What takes a body of spans (OTLP as JSON) to where they are to go, and gives what is answered;
/// it may block.
pub type Deliver = Box<dyn FnMut(Vec<u8>) -> Result<Vec<u8>, Undelivered> + Send>;

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// What happened, for the log.
    pub reason: String,
    /// Whether the same may be taken later.
    pub may_pass: bool,
    /// How long to wait before.
    pub wait: Option<Duration>,
}

/// Where requests leave their spans.
#[derive(Clone)]
pub struct Traces {
    sender: SyncSender<Message>,
    counts: Arc<Counts>,
}

enum Message {
    Request(Box<Told>),
    /// The last: whoever waits for it is told by the other end's being gone.
    End(SyncSender<()>),
}

/// Spans since the start.
#[derive(Debug, Default)]
struct Counts {
    n_taken: AtomicU64,
    n_dropped: AtomicU64,
}

/// How many spans were taken elsewhere, and how many nobody got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpanCounts {
    pub(crate) n_taken: u64,
    pub(crate) n_dropped: u64,
}

impl Traces {
    /// Starts the thread that calls `deliver`; it ends with the last of the clones.
    ///
    /// # Errors
    /// Where the system has no thread.
    pub fn start(deliver: Deliver) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(N_WAITING);
        let counts = Arc::<Counts>::default();
        let courier = Courier { deliver, counts: counts.clone(), is_failing: false };
        let thread = std::thread::Builder::new().name("traces".to_owned());
        thread.spawn(move || courier.run(receiver))?;
        Ok(Self { sender, counts })
    }

    /// Hands over what waits, for at most this long; what comes later is dropped.
    pub fn finish(&self, within: Duration) {
        let until = Instant::now() + within;
        let (told, end) = sync_channel(0);
        let mut message = Message::End(told);
        // Where the queue is full, there is room when the next batch is taken out of it.
        while let Err(TrySendError::Full(back)) = self.sender.try_send(message) {
            if Instant::now() >= until {
                return;
            }
            message = back;
            std::thread::sleep(BATCH_PAUSE.min(Duration::from_millis(10)));
        }
        // Nothing is ever sent.
        let _ = end.recv_timeout(until.saturating_duration_since(Instant::now()));
    }

    /// Leaves the spans of a request.
    pub(crate) fn leave(&self, told: Told) {
        let sent = self.sender.try_send(Message::Request(Box::new(told)));
        if let Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) = sent
            && let Message::Request(told) = message
        {
            self.counts.n_dropped.fetch_add(told.n_spans(), Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> SpanCounts {
        SpanCounts {
            n_taken: self.counts.n_taken.load(Ordering::Relaxed),
            n_dropped: self.counts.n_dropped.load(Ordering::Relaxed),
        }
    }
}

/// Whoever takes spans out of the queue.
struct Courier {
    deliver: Deliver,
    counts: Arc<Counts>,
    /// Whether the last body was not taken, which is logged once.
    is_failing: bool,
}

impl Courier {
    fn run(mut self, receiver: Receiver<Message>) {
        while let Ok(first) = receiver.recv() {
            let (batch, end) = gather(first, &receiver);
            if !batch.is_empty() {
                self.hand_over(&batch, if end.is_some() { 1 } else { N_TRIES });
            }
            if end.is_some() {
                // Before whoever waits is told: what is left then is nobody's, and counted so.
                drop(receiver);
                return;
            }
        }
    }

    fn hand_over(&mut self, batch: &[Told], n_tries: u32) {
        let n_spans = batch.iter().map(Told::n_spans).sum::<u64>();
        let body = otlp::body(batch);
        let mut pause = TRY_PAUSE;
        let mut last = None;
        for try_idx in 0..n_tries {
            match (self.deliver)(body.clone()) {
                Ok(answer) => {
                    let n_refused = otlp::n_refused(&answer).min(n_spans);
                    self.counts.n_taken.fetch_add(n_spans - n_refused, Ordering::Relaxed);
                    self.counts.n_dropped.fetch_add(n_refused, Ordering::Relaxed);
                    self.is_failing = false;
                    return;
                }
                Err(undelivered) if undelivered.may_pass && try_idx + 1 < n_tries => {
                    let wait = undelivered.wait.unwrap_or(pause).max(pause);
                    std::thread::sleep(wait.min(TRY_PAUSE_MAX));
                    pause *= 2;
                    last = Some(undelivered);
                }
                Err(undelivered) => {
                    last = Some(undelivered);
                    break;
                }
            }
        }
        self.counts.n_dropped.fetch_add(n_spans, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            let reason = last.map(|undelivered| undelivered.reason).unwrap_or_default();
            tracing::warn!(%reason, "spans are not taken: until they are they are dropped");
        }
    }
}

/// A batch that begins with `first`, and whether it is the last.
fn gather(first: Message, receiver: &Receiver<Message>) -> (Vec<Told>, Option<SyncSender<()>>) {
    let until = Instant::now() + BATCH_PAUSE;
    let mut batch = Vec::new();
    let mut next = Ok(first);
    loop {
        match next {
            Ok(Message::Request(told)) => batch.push(*told),
            Ok(Message::End(told)) => return (batch, Some(told)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return (batch, None);
            }
        }
        if batch.len() == N_BATCH {
            return (batch, None);
        }
        next = receiver.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::sync::Mutex;
    use std::sync::mpsc::channel;

    const LONG: Duration = Duration::from_secs(60);

    fn told(route: &str) -> Told {
        Told { route: route.to_owned(), ..Told::of_tests() }
    }

    fn n_spans(body: &[u8]) -> usize {
        let body: Value = serde_json::from_slice(body).unwrap();
        body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().len()
    }

    #[test]
    fn what_waits_is_handed_over_at_the_end() {
        let bodies = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let to = bodies.clone();
        let traces = Traces::start(Box::new(move |body| {
            to.lock().unwrap().push(body);
            Ok(br#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"x"}}"#.to_vec())
        }));
        let traces = traces.unwrap();
        for n in 0..3 {
            traces.leave(told(&n.to_string()));
        }
        traces.finish(LONG);
        let bodies = bodies.lock().unwrap();
        let n = bodies.iter().map(|body| n_spans(body)).sum::<usize>();
        assert_eq!(n, 3 * told("").n_spans() as usize);
        let refused = bodies.len() as u64;
        let counts = SpanCounts { n_taken: n as u64 - refused, n_dropped: refused };
        assert_eq!(traces.counts(), counts);
        // Nobody takes it any more.
        traces.leave(told("late"));
        assert_eq!(traces.counts().n_dropped, refused + told("").n_spans());
    }

    #[test]
    fn who_leaves_spans_never_waits() {
        let (begun, has_begun) = channel::<()>();
        let (go_on, may_go_on) = channel::<()>();
        let traces = Traces::start(Box::new(move |_| {
            begun.send(()).unwrap();
            let _ = may_go_on.recv();
            Err(Undelivered { reason: "no".to_owned(), may_pass: false, wait: None })
        }));
        let traces = traces.unwrap();
        (0..N_BATCH).for_each(|_| traces.leave(told("a")));
        has_begun.recv().unwrap();
        // The thread is at work, and the queue gets full.
        (0..N_WAITING + 3).for_each(|_| traces.leave(told("b")));
        let each = told("").n_spans();
        assert_eq!(traces.counts(), SpanCounts { n_taken: 0, n_dropped: 3 * each });
        drop(go_on);
        let all = (N_BATCH + N_WAITING + 3) as u64 * each;
        while traces.counts().n_dropped < all {
            std::thread::yield_now();
            while has_begun.try_recv().is_ok() {}
        }
        assert_eq!(traces.counts().n_taken, 0);
    }
}
