//! The one writer: takes what is queued, writes it in batches, signs the head now and then.
//!
//! What cannot be written makes the ledger fail closed: who waits is told, nothing more is taken,
//! and what was queued before is tried again each second until the database takes it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection as _};
use tokio::sync::{mpsc, oneshot};

use crate::access::{self, Order};
use crate::chain::{Hash, SignedHead};
use crate::entry::{Entry, Kind};
use crate::place::{Database, Place};
use crate::rows::{Inserted, Rows};
use crate::{LedgerError, NodeKey, now_us, schema};

/// Entries of one transaction: enough that its sync costs each of them little.
const BATCH_ENTRIES: usize = 256;

/// Rows between two signed heads at most, and the longest time that a row stays unsigned: what is
/// cut off behind the last head goes unnoticed.
const HEAD_ROWS: i64 = 256;
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// How often a database that takes nothing is tried again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// How long one transaction may take: longer than SQLite waits for its lock, and an end for a
/// connection whose other side is gone.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// What the writer is handed.
pub(crate) enum Work {
    Append(Entry, Option<Reply<i64>>),
    Erase(Erase, Reply<i64>),
    Act(Box<Order>, Reply<i64>),
    Flush(Reply<()>),
    Close(Reply<()>),
}

/// Whose body is erased, and by whom.
pub(crate) struct Erase {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) principal: String,
}

pub(crate) type Reply<T> = oneshot::Sender<Result<T, LedgerError>>;

/// What the handles see of the writer.
#[derive(Debug, Default)]
pub(crate) struct State {
    failed: Mutex<Option<String>>,
    n_entries: AtomicUsize,
    n_bytes: AtomicUsize,
}

impl State {
    /// Why nothing is taken at present.
    pub(crate) fn failed(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_failed(&self, reason: Option<String>) -> Option<String> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *failed, reason)
    }

    /// How much waits: entries and bytes.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.n_entries.load(Ordering::Relaxed), self.n_bytes.load(Ordering::Relaxed))
    }

    /// Counts an entry as waiting, and returns how much waits with it.
    pub(crate) fn add(&self, n_bytes: usize) -> (usize, usize) {
        let n_entries = self.n_entries.fetch_add(1, Ordering::Relaxed) + 1;
        (n_entries, self.n_bytes.fetch_add(n_bytes, Ordering::Relaxed) + n_bytes)
    }

    /// The entry waits no longer.
    pub(crate) fn remove(&self, n_bytes: usize) {
        self.n_entries.fetch_sub(1, Ordering::Relaxed);
        self.n_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
    }
}

/// The writer; [`run`](Self::run) is its life.
pub(crate) struct Writer {
    place: Place,
    key: NodeKey,
    state: Arc<State>,
    queue: mpsc::Receiver<Work>,
    /// `None` behind a failure: what a transaction left behind is not gone on with.
    connection: Option<AnyConnection>,
    /// What was taken off the queue and is not written yet, in its order.
    waiting: Vec<Work>,
    /// A row that must stand as it is: the last that this process wrote, or its node signed.
    last: Option<(i64, Hash)>,
    /// Rows of this process that no head covers yet, and since when there are any.
    n_unsigned: i64,
    unsigned_since: Option<Instant>,
    has_signed: bool,
    /// The first entry that was refused since the last flush, which nobody waited for.
    refused: Option<LedgerError>,
    /// Who waits for the end, and what they are told then.
    closing: Vec<(Reply<()>, Result<(), LedgerError>)>,
    is_ending: bool,
}

/// What one transaction did.
struct Committed {
    /// For each piece of work in its order: the row, or why it was refused.
    outcomes: Vec<Result<i64, LedgerError>>,
    head: (i64, Hash),
    n_new: i64,
    has_signed: bool,
}

impl Writer {
    /// Opens the ledger for writing, and makes it where there is none.
    ///
    /// # Errors
    /// What keeps it from being opened; [`LedgerError::Altered`] where the last row that this node
    /// has signed is not there any more.
    pub(crate) async fn open(
        place: Place,
        key: NodeKey,
        queue: mpsc::Receiver<Work>,
        state: Arc<State>,
    ) -> Result<Self, LedgerError> {
        let mut writer = Self {
            place,
            key,
            state,
            queue,
            connection: None,
            waiting: Vec::new(),
            last: None,
            n_unsigned: 0,
            unsigned_since: None,
            has_signed: false,
            refused: None,
            closing: Vec::new(),
            is_ending: false,
        };
        let mut connection = connect(&writer.place).await?;
        let mut rows = Rows { place: &writer.place, connection: &mut connection };
        if let Some(head) = rows.last_head_of(&writer.key.public()).await? {
            if !head.is_valid() {
                let reason = "the signature of its head is not valid".to_owned();
                return Err(LedgerError::Altered { seq: head.seq, reason });
            }
            check_stands(&mut rows, (head.seq, head.hash)).await?;
            writer.last = Some((head.seq, head.hash));
        }
        writer.connection = Some(connection);
        Ok(writer)
    }

    /// Writes until it is told to close, or nobody is left who could hand it anything.
    pub(crate) async fn run(mut self) {
        while !self.is_ending {
            self.receive().await;
            self.turn().await;
        }
        // What came in beside the end is written too, or told that it is not.
        self.queue.close();
        while let Ok(work) = self.queue.try_recv() {
            self.waiting.push(work);
        }
        while !self.waiting.is_empty() && self.state.failed().is_none() {
            self.turn().await;
        }
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!("closing the ledger: {error}");
        }
        for (reply, outcome) in self.closing {
            drop(reply.send(outcome));
        }
    }

    /// Waits for work, or until something is due without any.
    async fn receive(&mut self) {
        let has_failed = self.state.failed().is_some();
        if !self.waiting.is_empty() && !has_failed {
            return;
        }
        let due = match self.unsigned_since {
            _ if has_failed => Some(RETRY_WAIT),
            Some(since) => Some(HEAD_WAIT.saturating_sub(since.elapsed())),
            None => None,
        };
        let receive = self.queue.recv_many(&mut self.waiting, BATCH_ENTRIES);
        let n_received = match due {
            Some(due) => tokio::time::timeout(due, receive).await.ok(),
            None => Some(receive.await),
        };
        self.is_ending = n_received == Some(0);
    }

    /// Writes one batch of what waits.
    async fn turn(&mut self) {
        let n = self.waiting.len().min(BATCH_ENTRIES);
        let is_closed = self.waiting[..n].iter().any(|work| matches!(work, Work::Close(_)));
        self.is_ending |= is_closed;
        let attempt = tokio::time::timeout(COMMIT_WAIT, self.commit_over_any(n)).await;
        let late = || LedgerError::Unreachable {
            place: self.place.shown().to_owned(),
            reason: format!("no answer within {} seconds", COMMIT_WAIT.as_secs()),
        };
        match attempt.unwrap_or_else(|_| Err(late())) {
            Ok(committed) => self.done(n, committed),
            Err(error) => self.fail(&error),
        }
    }

    /// As [`commit`](Self::commit), once more where the connection was an old one that turned out
    /// to be cut: what may have been written by then is not written twice.
    async fn commit_over_any(&mut self, n: usize) -> Result<Committed, LedgerError> {
        let is_old = self.connection.is_some();
        match self.commit(n).await {
            Err(LedgerError::Unreachable { .. }) if is_old => self.commit(n).await,
            outcome => outcome,
        }
    }

    /// Writes the first `n` pieces of work, and a head where one is due, or nothing at all.
    async fn commit(&mut self, n: usize) -> Result<Committed, LedgerError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => connect(&self.place).await?,
        };
        let place = &self.place;
        let transaction = connection.begin_with(place.begin_writing()).await;
        let mut transaction = transaction.map_err(|error| place.error(&error))?;
        place.lock(&mut transaction).await?;
        let mut rows = Rows { place, connection: &mut transaction };
        let before = rows.head().await?;
        match self.last {
            Some(last) if last == before => {}
            Some(last) => check_stands(&mut rows, last).await?,
            None => {}
        }
        let (mut head, mut outcomes) = (before, Vec::with_capacity(n));
        for work in &self.waiting[..n] {
            outcomes.push(write(&mut rows, &mut head, work).await?);
        }
        // What an attempt before wrote, whose answer was lost, is new too.
        let known = self.last.map_or(before.0, |last| last.0.min(before.0));
        let n_new = head.0 - known;
        let has_signed = head.0 > 0 && self.is_head_due(n_new);
        if has_signed {
            let head = SignedHead::sign(&self.key, head.0, head.1, now_us());
            rows.insert_head(&head).await?;
        }
        transaction.commit().await.map_err(|error| place.error(&error))?;
        if self.waiting[..n].iter().any(|work| matches!(work, Work::Erase(..))) {
            forget_erased(place, &mut connection).await;
        }
        self.connection = Some(connection);
        Ok(Committed { outcomes, head, n_new, has_signed })
    }

    /// Whether the head is signed now that `n_new` rows are written. Behind a failure it is: only
    /// what was written shows that the database takes something again.
    fn is_head_due(&self, n_new: i64) -> bool {
        let n_unsigned = self.n_unsigned + n_new;
        let is_old = self.unsigned_since.is_some_and(|since| since.elapsed() >= HEAD_WAIT);
        let is_due = self.is_ending || is_old || !self.has_signed || n_unsigned >= HEAD_ROWS;
        (n_unsigned > 0 && is_due) || self.state.failed().is_some()
    }

    /// Tells the first `n` what became of them.
    fn done(&mut self, n: usize, committed: Committed) {
        let Committed { outcomes, head, n_new, has_signed } = committed;
        if self.state.set_failed(None).is_some() {
            tracing::info!("the ledger takes entries again");
        }
        self.last = (head.0 > 0).then_some(head).or(self.last);
        if has_signed {
            (self.n_unsigned, self.unsigned_since, self.has_signed) = (0, None, true);
        } else if n_new > 0 {
            self.n_unsigned += n_new;
            self.unsigned_since.get_or_insert_with(Instant::now);
        }
        for (work, outcome) in self.waiting.drain(..n).zip(outcomes) {
            // Who waited may have gone; what was done stays done.
            match work {
                Work::Append(entry, reply) => {
                    self.state.remove(entry.n_bytes());
                    match (reply, outcome) {
                        (Some(reply), outcome) => drop(reply.send(outcome)),
                        (None, Err(error)) => {
                            tracing::error!("an entry was not recorded: {error}");
                            self.refused.get_or_insert(error);
                        }
                        (None, Ok(_)) => {}
                    }
                }
                Work::Erase(_, reply) | Work::Act(_, reply) => drop(reply.send(outcome)),
                Work::Flush(reply) => {
                    drop(reply.send(self.refused.take().map_or(Ok(()), Err)));
                }
                Work::Close(reply) => {
                    self.closing.push((reply, self.refused.take().map_or(Ok(()), Err)));
                }
            }
        }
    }

    /// Keeps what nobody waits for, and tells all others.
    fn fail(&mut self, error: &LedgerError) {
        if self.state.set_failed(Some(error.to_string())).is_none() {
            tracing::error!("the ledger takes no entries: {error}");
        }
        while let Ok(work) = self.queue.try_recv() {
            self.waiting.push(work);
        }
        let mut kept = Vec::new();
        for work in self.waiting.drain(..) {
            match work {
                Work::Append(entry, None) => kept.push(Work::Append(entry, None)),
                Work::Append(entry, Some(reply)) => {
                    self.state.remove(entry.n_bytes());
                    drop(reply.send(Err(error.clone())));
                }
                Work::Erase(_, reply) | Work::Act(_, reply) => {
                    drop(reply.send(Err(error.clone())));
                }
                Work::Flush(reply) => drop(reply.send(Err(error.clone()))),
                Work::Close(reply) => self.closing.push((reply, Err(error.clone()))),
            }
        }
        self.waiting = kept;
        if self.is_ending && !self.waiting.is_empty() {
            let n = self.waiting.len();
            tracing::error!("the ledger ends with {n} entries that could not be written: {error}");
        }
    }
}

async fn connect(place: &Place) -> Result<AnyConnection, LedgerError> {
    let mut connection = place.connect().await?;
    schema::migrate(place, &mut connection, schema::ALL).await?;
    Ok(connection)
}

/// Does one piece of work behind `head`. Inside `Ok`, the row or why it was refused; an error
/// means that nothing of the transaction counts.
async fn write(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    work: &Work,
) -> Result<Result<i64, LedgerError>, LedgerError> {
    match work {
        Work::Append(entry, _) => append(rows, head, entry).await,
        Work::Erase(erase, _) => {
            let (kind, id) = (erase.kind.name(), &erase.id);
            let Some(seq) = rows.place_of(kind, id).await? else {
                return Ok(Err(LedgerError::NotFound { kind, id: id.clone() }));
            };
            let recorded = (Kind::Erasure.name(), format!("{kind}:{id}"));
            if let Some(before) = rows.place_of(recorded.0, &recorded.1).await? {
                rows.delete_body(seq).await?;
                return Ok(Ok(before));
            }
            let (principal, body) = (erase.principal.clone(), "{}".to_owned());
            let (kind, id) = (Kind::Erasure, recorded.1);
            let entry = Entry { kind, id, at: now_us(), principal, body };
            let appended = append(rows, head, &entry).await?;
            rows.delete_body(seq).await?;
            Ok(appended)
        }
        Work::Act(order, _) => access::make(rows, head, order).await,
        Work::Flush(_) | Work::Close(_) => Ok(Ok(head.0)),
    }
}

/// Writes an entry behind `head`, which it becomes.
pub(crate) async fn append(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    entry: &Entry,
) -> Result<Result<i64, LedgerError>, LedgerError> {
    Ok(match rows.insert(*head, entry).await? {
        Inserted::New(new) => {
            *head = new;
            Ok(new.0)
        }
        Inserted::Before(seq) => Ok(seq),
        Inserted::Taken(seq) => {
            Err(LedgerError::Taken { kind: entry.kind.name(), id: entry.id.clone(), seq })
        }
    })
}

/// Holds a row to what it was.
async fn check_stands(rows: &mut Rows<'_>, last: (i64, Hash)) -> Result<(), LedgerError> {
    if rows.hash(last.0).await? == Some(last.1) {
        return Ok(());
    }
    let reason = "it is not as this node left it; `freehold ledger verify` tells more".to_owned();
    Err(LedgerError::Altered { seq: last.0, reason })
}

/// Overwrites what SQLite's log still has of an erased body. A reader may keep it from that; the
/// log goes when the last connection does.
async fn forget_erased(place: &Place, connection: &mut AnyConnection) {
    if let Database::Sqlite(_) = place.database {
        let forget = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)");
        if let Err(error) = forget.execute(connection).await {
            tracing::warn!("the ledger's log may still have an erased body: {error}");
        }
    }
}
