//! Streams between who writes them and who reads them, and those that their clients may resume,
//! where the operator wants that: in memory, for the client that asked for them, within bounds of
//! bytes, until they have ended and some time is over.
//!
//! What is in their events only their dialect knows.

mod tape;

pub(crate) use tape::Gone;

use crate::dialects::Family;
use crate::dialects::fields::{short, wrong};
use crate::errors::{BadRequest, ServerError};
use crate::limits::Limits;
use axum::body::{Body, Bytes};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tape::{Lost, Room, Tape};

/// Most streams that may be resumed, so that looking through them takes no time; of one that says
/// little no bound of bytes keeps the number small.
const N_STREAMS: usize = 1024;

/// All streams that may be resumed.
pub(crate) struct Streams {
    /// How long they stay without a reader, and behind their end; `None`: none may be resumed.
    lasts: Option<Duration>,
    n_each_max: usize,
    n_all_max: usize,
    /// Bytes of all of them.
    n_all: Arc<AtomicUsize>,
    by_id: Mutex<HashMap<String, Held>>,
}

struct Held {
    client: u64,
    asked: Asked,
    since: Instant,
    tape: Arc<Tape>,
}

/// What a request was, as far as its repetition is known by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) route: String,
    /// Checksum and length of its body.
    pub(crate) body: (u32, u32),
}

/// Where a stream is to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) id: String,
    /// Behind the event of this number; `None`: with the first.
    pub(crate) after: Option<usize>,
    /// Where the client says that, for what is wrong with it.
    pub(crate) param: &'static str,
}

impl Place {
    /// The first event to come.
    fn from(&self) -> usize {
        self.after.map_or(0, |after| after.saturating_add(1))
    }
}

impl Streams {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            lasts: limits.resume_streams,
            n_each_max: limits.n_stream_bytes,
            n_all_max: limits.n_streams_bytes,
            n_all: Arc::default(),
            by_id: Mutex::default(),
        })
    }

    /// How long a stream may be resumed, if it may.
    pub(crate) fn lasts(&self) -> Option<Duration> {
        self.lasts
    }

    /// Bytes of those that may.
    pub(crate) fn n_bytes(&self) -> usize {
        self.n_all.load(Ordering::Relaxed)
    }

    /// A stream and its first reader. It may be resumed where it has an id.
    pub(crate) fn begin(
        self: &Arc<Self>,
        family: Family,
        client: u64,
        id: Option<&str>,
        asked: Asked,
    ) -> (Outlet, Body) {
        let room = self.lasts.filter(|_| id.is_some()).map(|lasts| Room {
            lasts,
            n_bytes_max: self.n_each_max,
            n_all: self.n_all.clone(),
        });
        let numbers = id.filter(|_| room.is_some()).map(|id| Numbers {
            streams: Arc::clone(self),
            id: id.to_owned(),
            n_events: 0,
        });
        let tape = Tape::new(family, room);
        let reader = tape.read(0).expect("an empty tape can be read from its beginning");
        if let Some(Numbers { id, .. }) = &numbers {
            let held = Held { client, asked, since: Instant::now(), tape: tape.clone() };
            let mut by_id = self.lock();
            by_id.insert(id.clone(), held);
            self.make_room(&mut by_id, 0);
        }
        (Outlet { tape: tape::Writer(tape), numbers }, reader.into_body())
    }

    /// The rest of a stream, from that place on. Another reader of it must end.
    ///
    /// `asked` is what the client asks for where it repeats the request.
    pub(crate) fn resume(
        &self,
        client: u64,
        place: &Place,
        asked: Option<&Asked>,
    ) -> Result<Body, ServerError> {
        let reader = self.held(client, place, asked)?.read(place.from());
        reader.map(tape::Reader::into_body).map_err(|lost| self.lost(place, lost))
    }

    /// Whether [`Streams::resume`] would give it; whoever reads it goes on.
    pub(crate) fn look(&self, client: u64, place: &Place) -> Result<(), ServerError> {
        let looked = self.held(client, place, None)?.check(place.from());
        looked.map_err(|lost| self.lost(place, lost))
    }

    fn held(
        &self,
        client: u64,
        place: &Place,
        asked: Option<&Asked>,
    ) -> Result<Arc<Tape>, ServerError> {
        let by_id = self.lock();
        let own = by_id.get(&place.id).filter(|held| held.client == client);
        let held = own.filter(|held| !self.is_over(held, Instant::now()));
        let held = held.ok_or_else(|| self.no_such_stream(&place.id))?;
        if asked.is_some_and(|asked| *asked != held.asked) {
            let problem = format!("{:?}: the stream of another request", short(&place.id));
            return Err(BadRequest::field(place.param, &problem).into());
        }
        Ok(held.tape.clone())
    }

    fn lost(&self, place: &Place, lost: Lost) -> ServerError {
        match lost {
            Lost::GivenUp => ServerError::StreamGivenUp,
            Lost::Broken => self.no_such_stream(&place.id),
            Lost::Ahead(n_events) => {
                let after = place.after.unwrap_or_default();
                let expected = match n_events.checked_sub(1) {
                    Some(last) => format!("at most {last}, the newest event's number"),
                    None => "none, since there is no event yet".to_owned(),
                };
                wrong(place.param, &after.into(), &expected).into()
            }
        }
    }

    fn no_such_stream(&self, id: &str) -> ServerError {
        let why = match self.lasts {
            Some(_) => {
                "not resumed in time, ended too long ago, given up for want of room, or another \
                 client's"
            }
            None => "none can be resumed, start the server with --resume-streams",
        };
        ServerError::NoSuchStream { id: short(id), why }
    }

    /// Forgets a stream: nobody can resume it any more.
    pub(crate) fn forget(&self, client: u64, id: &str) {
        let mut by_id = self.lock();
        if by_id.get(id).is_some_and(|held| held.client == client)
            && let Some(held) = by_id.remove(id)
        {
            held.tape.give_up();
        }
    }

    /// Forgets what ended too long ago.
    pub(crate) fn sweep(&self, now: Instant) {
        if self.lasts.is_none() {
            return;
        }
        let over = |_: &String, held: &mut Held| self.is_over(held, now);
        let over: Vec<_> = self.lock().extract_if(over).collect();
        over.iter().for_each(|(_, held)| held.tape.give_up());
    }

    fn is_over(&self, held: &Held, now: Instant) -> bool {
        let lasts = self.lasts.unwrap_or_default();
        held.tape.ended().is_some_and(|at| now.saturating_duration_since(at) >= lasts)
    }

    /// Gives up streams of whoever has most, until there is room for so many bytes: those that
    /// ended, then those that were begun first.
    fn make_room(&self, by_id: &mut HashMap<String, Held>, n_bytes: usize) {
        loop {
            // Only what has ended makes a place; those that go on are as many as requests at work.
            let by_number =
                by_id.len() > N_STREAMS && by_id.values().any(|held| held.tape.ended().is_some());
            if !by_number && self.n_bytes() + n_bytes <= self.n_all_max {
                return;
            }
            let Some(id) = next_to_give_up(by_id, by_number) else { return };
            let Some(held) = by_id.get(&id) else { return };
            // Of one that goes on it is told that it was given up.
            let is_over = held.tape.ended().is_some();
            held.tape.give_up();
            if is_over {
                by_id.remove(&id);
            }
        }
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The stream to be given up next, because there are too many bytes or too many streams.
fn next_to_give_up(by_id: &HashMap<String, Held>, by_number: bool) -> Option<String> {
    let is_candidate =
        |held: &&Held| held.tape.ended().is_some() || (!by_number && held.tape.is_whole());
    let mut by_client: HashMap<u64, (usize, usize)> = HashMap::new();
    for held in by_id.values().filter(is_candidate) {
        let (n_bytes, n_streams) = by_client.entry(held.client).or_default();
        *n_bytes += held.tape.n_bytes();
        *n_streams += 1;
    }
    let (most, _) =
        by_client.into_iter().max_by_key(|(_, (n_bytes, n_streams))| match by_number {
            true => (*n_streams, *n_bytes),
            false => (*n_bytes, *n_streams),
        })?;
    let own = by_id.iter().filter(|(_, held)| held.client == most && is_candidate(held));
    let first = own.min_by_key(|(_, held)| match held.tape.ended() {
        Some(at) => (false, at),
        None => (true, held.since),
    });
    first.map(|(id, _)| id.clone())
}

/// A stream without a client that could resume it, such as one of lines, and its reader.
pub(crate) fn plain(family: Family) -> (Outlet, Body) {
    let tape = Tape::new(family, None);
    let reader = tape.read(0).expect("an empty tape can be read from its beginning");
    (Outlet { tape: tape::Writer(tape), numbers: None }, reader.into_body())
}

/// The end of a stream that writes. Dropped without [`Outlet::finish`] it leaves a stream that
/// broke off.
pub(crate) struct Outlet {
    tape: tape::Writer,
    numbers: Option<Numbers>,
}

/// What makes a stream one that can be resumed: its events have ids.
struct Numbers {
    streams: Arc<Streams>,
    id: String,
    n_events: usize,
}

impl Outlet {
    /// Sends `text`, which is of whole events, waiting while the client is behind.
    pub(crate) async fn send(&mut self, text: String) -> Result<(), Gone> {
        if text.is_empty() {
            return Ok(());
        }
        let pieces = match &mut self.numbers {
            Some(numbers) => numbers.number(&text),
            None => vec![text.into()],
        };
        if let Some(numbers) = &self.numbers
            && let Some(n_bytes) = self.tape.fit(&pieces)
        {
            numbers.make_room(n_bytes);
        }
        self.tape.write(pieces).await
    }

    /// Sends bytes of a stream that is none of events.
    pub(crate) async fn send_bytes(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        self.tape.write(vec![bytes.into()]).await
    }

    /// Sends a comment to a client that has nothing to read.
    pub(crate) fn comment(&self, comment: &'static str) {
        self.tape.comment(comment);
    }

    /// Returns when nobody listens any more, and the stream is over.
    pub(crate) async fn gone(&self) {
        self.tape.gone().await;
    }

    /// Says that the stream ended as it should.
    pub(crate) fn finish(self) {
        self.tape.finish();
    }
}

impl Numbers {
    /// The events of `text`, each with its id in front: a blank line ends an event, and there is
    /// none within.
    fn number(&mut self, text: &str) -> Vec<Bytes> {
        let mut numbered = String::with_capacity(text.len() + self.id.len() + 16);
        let mut ends = Vec::new();
        for event in text.split_inclusive("\n\n") {
            let _ = write!(numbered, "id: {}:{}\n{event}", self.id, self.n_events);
            self.n_events += 1;
            ends.push(numbered.len());
        }
        let all = Bytes::from(numbered);
        let mut begin = 0;
        let slice = |end: usize| all.slice(std::mem::replace(&mut begin, end)..end);
        ends.into_iter().map(slice).collect()
    }

    fn make_room(&self, n_bytes: usize) {
        if self.streams.n_bytes() + n_bytes > self.streams.n_all_max {
            self.streams.make_room(&mut self.streams.lock(), n_bytes);
        }
    }
}

#[cfg(test)]
mod tests;
