//! The handle to an open ledger: append, find, erase, verify.

use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, oneshot};

use crate::access::{Act, Order, check_plain};
use crate::contents::{self, Content, ContentKeys, Erased, Keeper, Task};
use crate::entry::check_name;
use crate::place::Place;
use crate::work::{Erase, Reply, Work};
use crate::writer::{State, Writer};
use crate::{Entry, Kind, LedgerError, NodeKey, Reader, Recorded, Verified};

/// What may wait for the writer: a few seconds of a busy server, within this much memory.
const QUEUE_ENTRIES_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A cheap handle to an open ledger; all clones share one writer.
///
/// The writer ends behind the last handle and signs the head then, if its runtime still runs;
/// [`close`](Self::close) waits for that.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(crate) queue: mpsc::UnboundedSender<Work>,
    pub(crate) state: Arc<State>,
    pub(crate) reader: Reader,
    public: [u8; 32],
    /// Where contents may be kept, who seals them.
    keeper: Option<Arc<Keeper>>,
}

/// A handle that keeps no ledger open.
pub(crate) struct WeakLedger {
    queue: mpsc::WeakUnboundedSender<Work>,
    state: Arc<State>,
    reader: Reader,
    public: [u8; 32],
    keeper: Option<Arc<Keeper>>,
}

impl WeakLedger {
    /// The ledger, while anybody else has it open.
    pub(crate) fn upgrade(&self) -> Option<Ledger> {
        let queue = self.queue.upgrade()?;
        let (state, reader) = (Arc::clone(&self.state), self.reader.clone());
        let ledger =
            Ledger { queue, state, reader, public: self.public, keeper: self.keeper.clone() };
        Some(ledger).filter(|ledger| !ledger.is_closed())
    }
}

impl Ledger {
    /// Opens the ledger at `url`: a path, `sqlite:PATH` or `postgres://…`. Makes it where there is
    /// none. Needs a tokio runtime, on which the writer runs.
    ///
    /// # Errors
    /// A place that cannot be opened, that is no ledger, or one of a newer version;
    /// [`LedgerError::Altered`] where the last row that this node signed is not there any more.
    pub async fn open(url: &str, key: NodeKey) -> Result<Self, LedgerError> {
        Self::open_with(url, key, None).await
    }

    /// As [`open`](Self::open), for contents too, which are sealed with keys in the folder `keys`.
    /// Erasures that were cut off are done when it returns; from then on it deletes what is over
    /// its time, within the hour.
    ///
    /// # Errors
    /// As [`open`](Self::open); a key that cannot be destroyed.
    pub async fn open_keeping(
        url: &str,
        key: NodeKey,
        keys: ContentKeys,
    ) -> Result<Self, LedgerError> {
        let keeper = Keeper { keys, node: key.public() };
        let ledger = Self::open_with(url, key, Some(Arc::new(keeper.clone()))).await?;
        contents::resume(&ledger, &keeper).await?;
        tokio::spawn(contents::tend(ledger.weak(), keeper));
        Ok(ledger)
    }

    async fn open_with(
        url: &str,
        key: NodeKey,
        keeper: Option<Arc<Keeper>>,
    ) -> Result<Self, LedgerError> {
        let place = Place::parse(url)?;
        // What may wait is bounded where it is handed over: an end of what was begun has no bound.
        let (queue, received) = mpsc::unbounded_channel();
        let (state, public) = (Arc::new(State::new(random_instance()?)), key.public());
        let writer = Writer::open(place.clone(), key, received, Arc::clone(&state)).await?;
        let reader = Reader::of(place)?;
        tokio::spawn(writer.run());
        Ok(Self { queue, state, reader, public, keeper })
    }

    /// Hands an entry to the writer; never waits. Where its id turns out to be taken, the next
    /// [`flush`](Self::flush) says so.
    ///
    /// # Errors
    /// An entry out of bounds, a full queue, or a writer that cannot write.
    pub fn append(&self, entry: Entry) -> Result<(), LedgerError> {
        self.submit(entry, None)
    }

    /// Appends, and returns the place in the chain when that is on disk. An entry that stands there
    /// already, all of it the same, is as good as written.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`LedgerError::Taken`]; what the database says.
    pub async fn append_durable(&self, entry: Entry) -> Result<i64, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.submit(entry, Some(reply))?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }

    /// Waits until all that was handed to the writer before is on disk.
    ///
    /// # Errors
    /// A writer that cannot write; the first entry since the last flush that was refused while
    /// nobody waited for it.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.ask(Work::Flush).await
    }

    /// Writes what is queued, signs the head, and closes the ledger for all handles.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(&self) -> Result<(), LedgerError> {
        // Readers first: SQLite tidies its file up behind the last connection, and that is known
        // to be over when the writer answers.
        self.reader.close().await;
        self.ask(Work::Close).await
    }

    /// The entry of this id, if there is one. What was appended and not flushed may not be there.
    ///
    /// # Errors
    /// What the database says; [`LedgerError::Altered`] for a row whose hash is not its own.
    pub async fn find(&self, kind: Kind, id: &str) -> Result<Option<Recorded>, LedgerError> {
        self.reader.find(kind, id).await
    }

    /// As [`Reader::before`]. What was appended and not flushed may not be there.
    ///
    /// # Errors
    /// As there.
    pub async fn before(
        &self,
        kind: Kind,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Recorded>, LedgerError> {
        self.reader.before(kind, before, limit).await
    }

    /// Erases the body of an entry for `principal` and records that; the chain stays valid, as it
    /// holds only the body's hash. Returns the place of the record, when it is on disk.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`]; as [`append_durable`](Self::append_durable).
    pub async fn erase_body(
        &self,
        kind: Kind,
        id: &str,
        principal: &str,
    ) -> Result<i64, LedgerError> {
        if kind == Kind::Erasure {
            return Err(not_by_hand(kind, "an entry whose body says something"));
        }
        let (id, principal) = (id.to_owned(), principal.to_owned());
        check_name("id", &id)?;
        check_name("principal", &principal)?;
        self.check_open()?;
        self.ask(|reply| Work::Erase(Erase { kind, id, principal }, reply)).await
    }

    /// Changes keys or projects for `principal` and records that, both or neither. Returns the
    /// place of the record, when it is on disk.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`] and [`LedgerError::Refused`] for what cannot be done; as
    /// [`append_durable`](Self::append_durable).
    pub async fn act(&self, act: Act, principal: &str) -> Result<i64, LedgerError> {
        check_name("principal", principal)?;
        let order = Box::new(Order::new(act, principal.to_owned())?);
        self.check_open()?;
        self.ask(|reply| Work::Act(order, reply)).await
    }

    /// Hands a content to the writer, which seals it; never waits. Where it turns out that it
    /// cannot be kept, the log says so.
    ///
    /// # Errors
    /// [`LedgerError::NotKept`]; as [`append`](Self::append).
    pub fn keep(&self, content: Content) -> Result<(), LedgerError> {
        let keeper = self.keeper.clone().ok_or(LedgerError::NotKept)?;
        content.check()?;
        self.check_open()?;
        self.enqueue(content.n_bytes(), Work::Keep(Box::new(content), keeper))
    }

    /// Erases a person for `principal`: records it, destroys the keys of the person's contents,
    /// deletes these and erases the bodies of their receipts; the chain stays valid. Once it has
    /// begun it goes on to its end, whatever becomes of whoever waits for it.
    ///
    /// # Errors
    /// [`LedgerError::NotFound`] where nothing of the person is kept; [`LedgerError::NotKept`]; a
    /// key that cannot be destroyed, which is tried again; as
    /// [`append_durable`](Self::append_durable).
    pub async fn erase_person(&self, person: &str, principal: &str) -> Result<Erased, LedgerError> {
        let keeper = self.keeper.clone().ok_or(LedgerError::NotKept)?;
        check_plain("person", person)?;
        check_name("principal", principal)?;
        self.check_open()?;
        let (ledger, person, principal) = (self.clone(), person.to_owned(), principal.to_owned());
        let erasing = async move { contents::erase(&ledger, &keeper, &person, &principal).await };
        tokio::spawn(erasing).await.unwrap_or_else(|_| Err(ended()))
    }

    /// The keys of contents, where it was opened with some.
    pub fn content_keys(&self) -> Option<&ContentKeys> {
        self.keeper.as_ref().map(|keeper| &keeper.keys)
    }

    /// Has the writer do something to contents, and returns what it came to.
    pub(crate) async fn perform(&self, task: Task) -> Result<i64, LedgerError> {
        self.ask(|reply| Work::Tidy(Box::new(task), reply)).await
    }

    fn weak(&self) -> WeakLedger {
        WeakLedger {
            queue: self.queue.downgrade(),
            state: Arc::clone(&self.state),
            reader: self.reader.clone(),
            public: self.public,
            keeper: self.keeper.clone(),
        }
    }

    /// Whether it takes nothing any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed() || self.reader.is_closed()
    }

    /// What reads it.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Reads the whole chain and all signed heads, of which those of this node are trusted.
    ///
    /// # Errors
    /// Only what keeps it from reading; what is wrong with the chain is in [`Verified`].
    pub async fn verify(&self) -> Result<Verified, LedgerError> {
        self.reader.verify(&[self.public], &[]).await
    }

    /// Whether entries are taken: false when the last write failed, the queue is full, or the
    /// ledger is closed.
    pub fn is_healthy(&self) -> bool {
        let (n_entries, n_bytes) = self.state.waiting();
        let has_room = n_entries < QUEUE_ENTRIES_MAX && n_bytes < QUEUE_BYTES_MAX;
        has_room && self.check_open().is_ok()
    }

    pub(crate) fn check_open(&self) -> Result<(), LedgerError> {
        match self.state.failed() {
            _ if self.queue.is_closed() => Err(ended()),
            Some(reason) => Err(LedgerError::Unwritable { reason }),
            None => Ok(()),
        }
    }

    fn submit(&self, entry: Entry, reply: Option<Reply<i64>>) -> Result<(), LedgerError> {
        if entry.kind == Kind::Erasure {
            return Err(not_by_hand(entry.kind, "a kind that is not written by erasing"));
        }
        entry.check()?;
        self.check_open()?;
        self.enqueue(entry.n_bytes(), Work::Append(entry, reply))
    }

    /// Hands over what takes so much room, if there is that.
    pub(crate) fn enqueue(&self, n_bytes: usize, work: Work) -> Result<(), LedgerError> {
        let (n_waiting, n_bytes_waiting) = self.state.add(n_bytes);
        if n_waiting > QUEUE_ENTRIES_MAX || n_bytes_waiting > QUEUE_BYTES_MAX {
            self.state.remove(n_bytes);
            let (n_entries, n_bytes) = self.state.waiting();
            return Err(LedgerError::QueueFull { n_entries, n_bytes });
        }
        self.send(n_bytes, work)
    }

    /// Hands over what must not be lost, whatever waits already: the end of what was begun, of
    /// which there is no more than requests are at work.
    pub(crate) fn enqueue_anyway(&self, n_bytes: usize, work: Work) -> Result<(), LedgerError> {
        self.state.add(n_bytes);
        self.send(n_bytes, work)
    }

    /// Hands over what is counted as waiting.
    fn send(&self, n_bytes: usize, work: Work) -> Result<(), LedgerError> {
        self.queue.send(work).map_err(|_| {
            self.state.remove(n_bytes);
            ended()
        })
    }

    /// Hands over what takes no room, and waits for the answer.
    async fn ask<T>(&self, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, LedgerError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(work(reply)).map_err(|_| ended())?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// What tells this process from all others that write, now and before.
fn random_instance() -> Result<i64, LedgerError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| LedgerError::NoRandom)?;
    Ok(i64::from_le_bytes(bytes) & i64::MAX)
}

pub(crate) fn ended() -> LedgerError {
    LedgerError::Unwritable { reason: "it is closed".to_owned() }
}

fn not_by_hand(kind: Kind, expected: &'static str) -> LedgerError {
    LedgerError::InvalidEntry { what: "kind", value: kind.name().to_owned(), expected }
}
