//! A stream between the task that writes it and the connection that sends it.
//!
//! There is one writer, and one reader at a time: the newest. The writer waits while its reader is
//! behind. A tape that is whole keeps what was read, so that another reader can begin anywhere, and
//! goes on without a reader for a while; any other holds what was not read yet and nothing more,
//! and is over when its reader is gone.

#[cfg(test)]
mod tests;

use crate::dialects::Family;
use crate::errors::ServerError;
use axum::body::{Body, Bytes};
use hyper::body::Frame;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes that may wait for a slow reader before the writer waits too. Behind it the engine's events
/// wait, of which one request has no more than its context has positions.
const UNREAD_BYTES: usize = 64 << 10;
/// Most bytes that are handed over at once, unless one piece has more.
const FRAME_BYTES: usize = 16 << 10;
/// What a piece takes beside its text.
const PIECE_BYTES: usize = 64;
/// How far behind a reader may be of what is given up: about what hyper holds of an answer.
const BEHIND_BYTES: usize = 256 << 10;

/// The bounds of a tape that is whole.
pub(super) struct Room {
    /// How long it goes on without a reader.
    pub(super) lasts: Duration,
    /// Most bytes of this one.
    pub(super) n_bytes_max: usize,
    /// Bytes of all that are whole.
    pub(super) n_all: Arc<AtomicUsize>,
}

/// What was written and not given up, and who reads it.
pub(super) struct Tape {
    state: Mutex<State>,
    /// Tells the writer that somebody has read, has come or is gone.
    changed: Notify,
    /// `None`: it never was whole.
    room: Option<Room>,
    /// In whose words a reader is told that it must end.
    family: Family,
}

struct State {
    pieces: VecDeque<Bytes>,
    /// The number of the first of them: those before it are no longer there.
    first: usize,
    is_whole: bool,
    /// Bytes of the pieces, as they are counted while it is whole.
    n_bytes: usize,
    /// Bytes of those that the newest reader has not got.
    n_unread: usize,
    /// The number of the newest reader, and that of the piece which it gets next.
    reader: u64,
    next: usize,
    waker: Option<Waker>,
    /// Since when nobody reads.
    left: Option<Instant>,
    /// What the reader is told while there is nothing to read.
    comment: &'static str,
    end: End,
}

/// How a tape ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Not yet.
    Open,
    /// As it should.
    Whole(Instant),
    /// Without its end.
    Broken(Instant),
}

/// Nobody reads any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

/// Why nobody can begin to read there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// There are only so many pieces.
    Ahead(usize),
    /// Some were given up, for want of room.
    GivenUp,
    /// It has no end and will have none.
    Broken,
}

impl State {
    /// Pieces that were ever written.
    fn n_written(&self) -> usize {
        self.first + self.pieces.len()
    }

    /// The pieces that the newest reader has not got.
    fn unread(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter().skip(self.next.saturating_sub(self.first))
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Drops what the reader has got.
    fn drop_read(&mut self) {
        while self.first < self.next && self.pieces.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Drops everything; the stream is over, unless it has ended.
    fn clear(&mut self) {
        if self.end == End::Open {
            self.end = End::Broken(Instant::now());
        }
        self.first = self.n_written();
        self.pieces = VecDeque::new();
        self.n_unread = 0;
        self.wake();
    }
}

impl Tape {
    /// An empty one, which is whole where it has room to be.
    pub(super) fn new(family: Family, room: Option<Room>) -> Arc<Self> {
        let state = State {
            pieces: VecDeque::new(),
            first: 0,
            is_whole: room.is_some(),
            n_bytes: 0,
            n_unread: 0,
            reader: 0,
            next: 0,
            waker: None,
            left: Some(Instant::now()),
            comment: "",
            end: End::Open,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new(), room, family })
    }

    /// A new reader, which begins with the piece of the number `from`; one before it must end.
    pub(super) fn read(self: &Arc<Self>, from: usize) -> Result<Reader, Lost> {
        let mut state = self.lock();
        self.check_in(&state, from)?;
        state.reader += 1;
        (state.next, state.left) = (from, None);
        state.n_unread = state.unread().map(Bytes::len).sum();
        state.wake();
        let number = state.reader;
        drop(state);
        self.changed.notify_one();
        Ok(Reader { tape: Arc::clone(self), number, is_over: false })
    }

    /// Whether somebody could begin to read there.
    pub(super) fn check(&self, from: usize) -> Result<(), Lost> {
        self.check_in(&self.lock(), from)
    }

    fn check_in(&self, state: &State, from: usize) -> Result<(), Lost> {
        match state.end {
            _ if self.room.is_some() && !state.is_whole => Err(Lost::GivenUp),
            End::Broken(_) => Err(Lost::Broken),
            _ if from > state.n_written() => Err(Lost::Ahead(state.n_written())),
            _ => Ok(()),
        }
    }

    /// Bytes that are counted.
    pub(super) fn n_bytes(&self) -> usize {
        self.lock().n_bytes
    }

    /// Whether all of it can be read.
    pub(super) fn is_whole(&self) -> bool {
        self.lock().is_whole
    }

    /// When it ended, if nobody reads it any more.
    pub(super) fn ended(&self) -> Option<Instant> {
        let state = self.lock();
        match state.end {
            End::Whole(at) | End::Broken(at) if state.left.is_some() => Some(at),
            _ => None,
        }
    }

    /// Gives up what was read, and all where nobody reads or the reader is far behind.
    pub(super) fn give_up(&self) {
        self.give_up_in(&mut self.lock());
        self.changed.notify_one();
    }

    fn give_up_in(&self, state: &mut State) {
        if let Some(room) = self.room.as_ref().filter(|_| state.is_whole) {
            room.n_all.fetch_sub(state.n_bytes, Ordering::Relaxed);
            (state.is_whole, state.n_bytes) = (false, 0);
        }
        state.drop_read();
        if state.left.is_some() || state.n_unread > BEHIND_BYTES {
            state.clear();
        }
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of pieces.
enum Push {
    Done,
    /// The reader is behind.
    Wait,
    Gone,
}

/// The end that writes. Dropped without [`Writer::finish`] it leaves a stream that broke off.
pub(super) struct Writer(pub(super) Arc<Tape>);

impl Writer {
    /// The bytes that these pieces count if they are written while the tape is whole; `None` where
    /// it is not, or no longer because they are too many.
    pub(super) fn fit(&self, pieces: &[Bytes]) -> Option<usize> {
        let mut state = self.0.lock();
        let room = self.0.room.as_ref().filter(|_| state.is_whole)?;
        let n_bytes = n_bytes(pieces);
        if state.n_bytes + n_bytes > room.n_bytes_max {
            self.0.give_up_in(&mut state);
        }
        state.is_whole.then_some(n_bytes)
    }

    /// Writes these, waiting while the reader is behind.
    pub(super) async fn write(&mut self, mut pieces: Vec<Bytes>) -> Result<(), Gone> {
        loop {
            match self.push(&mut pieces) {
                Push::Done => return Ok(()),
                Push::Gone => return Err(Gone),
                Push::Wait => self.0.changed.notified().await,
            }
        }
    }

    fn push(&self, pieces: &mut Vec<Bytes>) -> Push {
        let mut state = self.0.lock();
        if state.left.is_some() && !state.is_whole {
            state.clear();
        }
        if state.end != End::Open {
            return Push::Gone;
        }
        if state.left.is_none() && state.n_unread >= UNREAD_BYTES {
            return Push::Wait;
        }
        if let Some(room) = self.0.room.as_ref().filter(|_| state.is_whole) {
            let n_bytes = n_bytes(pieces);
            state.n_bytes += n_bytes;
            room.n_all.fetch_add(n_bytes, Ordering::Relaxed);
        }
        state.n_unread += pieces.iter().map(Bytes::len).sum::<usize>();
        state.pieces.extend(pieces.drain(..));
        state.wake();
        Push::Done
    }

    /// Tells a reader that has read everything so much, which is kept for nobody.
    pub(super) fn comment(&self, comment: &'static str) {
        let mut state = self.0.lock();
        if state.left.is_none() && state.n_unread == 0 {
            state.comment = comment;
            state.wake();
        }
    }

    /// Returns when nobody reads any more, and none may come: then the stream is over.
    pub(super) async fn gone(&self) {
        loop {
            let until = {
                let mut state = self.0.lock();
                let room = self.0.room.as_ref().filter(|_| state.is_whole);
                let lasts = room.map_or(Duration::ZERO, |room| room.lasts);
                match state.left {
                    Some(left) if left.elapsed() >= lasts => return state.clear(),
                    // One that is too far away to be told never comes.
                    Some(left) => left.checked_add(lasts),
                    None => None,
                }
            };
            let changed = self.0.changed.notified();
            match until {
                Some(until) => drop(tokio::time::timeout_at(until.into(), changed).await),
                None => changed.await,
            }
        }
    }

    /// Says that the stream ended as it should.
    pub(super) fn finish(self) {
        let mut state = self.0.lock();
        if state.end == End::Open {
            state.end = End::Whole(Instant::now());
        }
        state.wake();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        if state.end == End::Open {
            state.end = End::Broken(Instant::now());
        }
        state.wake();
    }
}

fn n_bytes(pieces: &[Bytes]) -> usize {
    pieces.iter().map(|piece| piece.len() + PIECE_BYTES).sum()
}

/// The body of a response that reads a tape. A stream that broke off ends in an error, which closes
/// the connection: it must not look complete.
pub(super) struct Reader {
    tape: Arc<Tape>,
    number: u64,
    is_over: bool,
}

impl Reader {
    pub(super) fn into_body(self) -> Body {
        Body::new(self)
    }

    /// Ends with an error in the family's words.
    fn end(&mut self, error: &ServerError) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.is_over = true;
        let event = self.tape.family.error_event(error);
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

impl hyper::body::Body for Reader {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let tape = Arc::clone(&self.tape);
        let mut state = tape.lock();
        if state.reader != self.number {
            drop(state);
            return self.end(&ServerError::StreamTaken);
        }
        if state.next < state.first {
            drop(state);
            return self.end(&ServerError::StreamGivenUp);
        }
        if state.n_unread > 0 {
            let frame = state.take_frame();
            drop(state);
            tape.changed.notify_one();
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match state.end {
            End::Whole(_) => {
                self.is_over = true;
                Poll::Ready(None)
            }
            End::Broken(_) => {
                self.is_over = true;
                Poll::Ready(Some(Err(std::io::Error::other("the stream broke off"))))
            }
            End::Open if !state.comment.is_empty() => {
                let comment = std::mem::take(&mut state.comment);
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(comment.as_bytes())))))
            }
            End::Open => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }
}

impl State {
    /// What the reader gets next, several pieces in one where they are small.
    fn take_frame(&mut self) -> Bytes {
        let mut n_bytes = 0;
        let fits = |piece: &&Bytes| {
            n_bytes += piece.len();
            n_bytes <= FRAME_BYTES
        };
        let n_pieces = self.unread().take_while(fits).count().max(1);
        let frame = match (n_pieces, self.unread().next()) {
            (1, Some(piece)) => piece.clone(),
            _ => {
                let mut frame = Vec::with_capacity(n_bytes.min(FRAME_BYTES));
                self.unread().take(n_pieces).for_each(|piece| frame.extend_from_slice(piece));
                frame.into()
            }
        };
        self.next += n_pieces;
        self.n_unread -= frame.len();
        self.comment = "";
        if !self.is_whole {
            self.drop_read();
        }
        frame
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.tape.lock();
        if state.reader == self.number {
            state.left = Some(Instant::now());
            state.waker = None;
            drop(state);
            self.tape.changed.notify_one();
        }
    }
}
