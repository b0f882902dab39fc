//! The one writer: takes what is queued, writes it in batches, signs the head now and then. Whose
//! [turn](crate::turn) it is, and what the [disk](crate::disk) has, are decided elsewhere.
//!
//! What cannot be written makes the ledger fail closed: who waits is told, nothing more is taken,
//! and what was queued before is tried again each second until the database takes it.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection as _};
use tokio::sync::mpsc;

use crate::access;
use crate::accounts::{Account, Change, check_room};
use crate::books::{Attempt, Books, Limits, Sheet, Verdict};
use crate::chain::{Hash, ORIGIN, SignedHead};
use crate::contents;
use crate::disk::{self, Copied, Disk, Waiter};
use crate::entry::{Entry, Kind};
use crate::place::{Database, Durability, Place};
use crate::rows::{Inserted, Rows};
use crate::turn::{self, BATCH_ENTRIES, Turn};
use crate::work::{Erase, Reply, Work};
use crate::{LedgerError, NodeKey, now_us, schema};

/// Rows between two signed heads at most, and the longest time that a row stays unsigned: what is
/// cut off behind the last head goes unnoticed.
const HEAD_ROWS: i64 = 256;
const HEAD_WAIT: Duration = Duration::from_secs(10);

/// How often a database that takes nothing is tried again.
const RETRY_WAIT: Duration = Duration::from_secs(1);

/// How long what nobody waits for waits for more of it.
const GATHER_WAIT: Duration = Duration::from_millis(20);

/// How long one transaction may take: longer than SQLite waits for its lock, and an end for a
/// connection whose other side is gone.
const COMMIT_WAIT: Duration = Duration::from_secs(30);

/// What the handles see of the writer.
#[derive(Debug)]
pub(crate) struct State {
    failed: Mutex<Option<String>>,
    n_entries: AtomicUsize,
    n_bytes: AtomicUsize,
    /// Of this process, and the number of what it writes down next.
    pub(crate) instance: i64,
    next_n: AtomicI64,
    limits: Mutex<Limits>,
}

impl State {
    /// Of a process that others tell from themselves by the random `instance`.
    pub(crate) fn new(instance: i64) -> Self {
        Self {
            failed: Mutex::default(),
            n_entries: AtomicUsize::new(0),
            n_bytes: AtomicUsize::new(0),
            instance,
            next_n: AtomicI64::new(1),
            limits: Mutex::default(),
        }
    }

    /// A number that no other request of this process has.
    pub(crate) fn next_n(&self) -> i64 {
        self.next_n.fetch_add(1, Ordering::Relaxed)
    }

    /// The limits as they are known.
    pub(crate) fn limits(&self) -> Limits {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_limits(&self, limits: Limits) {
        *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = limits;
    }

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
    queue: mpsc::UnboundedReceiver<Work>,
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
    books: Books,
    /// How the connection's transactions end.
    durability: Durability,
    disk: Disk,
    /// Since when something waits for which nobody waits, and whose turn it was last.
    gathering_since: Option<Instant>,
    was_first: bool,
    /// When the last transaction ended.
    written: Option<Instant>,
}

/// What one transaction did.
struct Committed {
    /// For each piece of work in its order what came of it, or why it was refused.
    outcomes: Vec<Result<Outcome, LedgerError>>,
    /// The head of the chain, where that was looked at.
    head: Option<(i64, Hash)>,
    n_new: i64,
    has_signed: bool,
    sheet: Option<Sheet>,
}

/// What came of a piece of work.
enum Outcome {
    /// A row of the chain.
    Row(i64),
    Verdict(Verdict),
    /// Limits were changed, and whether the one that it is about was there before.
    Changed(bool),
    Done,
}

/// How long a SQLite file is left to other servers behind each transaction: as long as one takes.
const ROOM_FOR_OTHERS: Duration = Duration::from_millis(2);

impl Writer {
    /// Opens the ledger for writing, and makes it where there is none.
    ///
    /// # Errors
    /// What keeps it from being opened; [`LedgerError::Altered`] where the last row that this node
    /// has signed is not there any more.
    pub(crate) async fn open(
        place: Place,
        key: NodeKey,
        queue: mpsc::UnboundedReceiver<Work>,
        state: Arc<State>,
    ) -> Result<Self, LedgerError> {
        let (books, disk) = (Books::new(state.instance), Disk::of(&place));
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
            books,
            durability: Durability::Synced,
            disk,
            gathering_since: None,
            was_first: false,
            written: None,
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
        let sheet = writer.books.open(&mut rows, Attempt::First).await?;
        writer.state.set_limits(writer.books.close(sheet));
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
        self.disk.finish().await;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!("closing the ledger: {error}");
        }
        for (reply, outcome) in self.closing {
            drop(reply.send(outcome));
        }
    }

    /// Waits until there is something to write.
    async fn receive(&mut self) {
        while let Ok(work) = self.queue.try_recv() {
            self.waiting.push(work);
        }
        self.gather();
        if self.disk.has_ended() {
            let outcome = self.disk.ended().await;
            self.heed(outcome).await;
        }
        while let Some(wait) = self.idle_for() {
            let n_received = tokio::select! {
                biased;
                n = self.queue.recv_many(&mut self.waiting, BATCH_ENTRIES) => Some(n),
                outcome = self.disk.ended() => {
                    self.heed(outcome).await;
                    None
                }
                () = over(wait) => None,
            };
            self.is_ending |= n_received == Some(0);
            if self.is_ending || self.state.failed().is_some() {
                return;
            }
            self.gather();
            self.disk.go_on();
        }
    }

    /// Notes since when something waits for which nobody does.
    fn gather(&mut self) {
        self.gathering_since = match self.waiting.iter().any(Work::may_wait) {
            true => self.gathering_since.or_else(|| Some(Instant::now())),
            false => None,
        };
    }

    /// How long nothing is to be written; inside it `None`: until something comes.
    fn idle_for(&self) -> Option<Option<Duration>> {
        if self.state.failed().is_some() {
            return Some(Some(RETRY_WAIT));
        }
        let is_waited_for = self.waiting.iter().any(|work| !work.may_wait());
        let is_unsigned_old = self.unsigned_since.is_some_and(|at| at.elapsed() >= HEAD_WAIT);
        let is_sync_due = !self.disk.is_beside() && self.disk.is_old();
        if is_waited_for
            || is_unsigned_old
            || is_sync_due
            || self.is_behind()
            || self.books.due().is_some_and(|due| due.is_zero())
        {
            return None;
        }
        let gathered = self.gathering_since.map(|at| GATHER_WAIT.saturating_sub(at.elapsed()));
        let unsigned = self.unsigned_since.map(|at| HEAD_WAIT.saturating_sub(at.elapsed()));
        let due = [gathered, unsigned, self.disk.due(), self.books.due()];
        Some(due.into_iter().flatten().min())
    }

    /// Whether what nobody waits for has waited long enough.
    fn is_behind(&self) -> bool {
        let is_old = self.gathering_since.is_some_and(|at| at.elapsed() >= GATHER_WAIT);
        is_old || self.waiting.len() >= BATCH_ENTRIES
    }

    /// Takes notice of a sync or a copy of the log that has ended.
    async fn heed(&mut self, outcome: Result<Option<Copied>, LedgerError>) {
        match (outcome, &mut self.connection) {
            (Err(error), _) => {
                // What it wrote may be nowhere: it is written again with the next row.
                self.connection = None;
                self.fail(&error);
            }
            (Ok(Some(copied)), Some(connection)) if copied.is_too_long() => {
                if let Err(error) = disk::copy(&self.place, connection).await {
                    tracing::warn!("the ledger's log is not copied: {error}");
                }
            }
            (Ok(_), _) => {}
        }
    }

    /// Writes one batch of what waits.
    async fn turn(&mut self) {
        let is_first = !(self.was_first && self.is_behind());
        let turn = match is_first {
            _ if self.is_ending || self.state.failed().is_some() => Turn::InOrder,
            true => Turn::First,
            false => Turn::Later,
        };
        self.leave_room().await;
        let n = turn::next(&mut self.waiting, turn, Work::urgency);
        self.was_first = is_first;
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
        self.written = Some(Instant::now());
        self.gather();
    }

    /// Lets others write between two transactions. SQLite lets nobody stand in line: who waits for
    /// the right to write looks for it now and then, and would hardly ever find it free.
    async fn leave_room(&mut self) {
        if self.place.is_sqlite()
            && self.books.has_others()
            && let Some(written) = self.written
        {
            let left = ROOM_FOR_OTHERS.saturating_sub(written.elapsed());
            if !left.is_zero() {
                tokio::time::sleep(left).await;
            }
        }
    }

    /// As [`commit`](Self::commit), once more where the connection was an old one that turned out
    /// to be cut: what may have been written by then is not written twice.
    async fn commit_over_any(&mut self, n: usize) -> Result<Committed, LedgerError> {
        let is_old = self.connection.is_some();
        let attempt = match self.state.failed() {
            Some(_) => Attempt::Again,
            None => Attempt::First,
        };
        match self.commit(n, attempt).await {
            Err(LedgerError::Unreachable { .. }) if is_old => self.commit(n, Attempt::Again).await,
            outcome => outcome,
        }
    }

    /// Writes the first `n` pieces of work, and a head where one is due, or nothing at all.
    async fn commit(&mut self, n: usize, attempt: Attempt) -> Result<Committed, LedgerError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.durability = Durability::Synced;
                connect(&self.place).await?
            }
        };
        let (place, work) = (&self.place, &self.waiting[..n]);
        let durability = self.durability_of(work);
        place.set_durability(&mut connection, self.durability, durability).await?;
        self.durability = durability;
        let transaction = connection.begin_with(place.begin_writing()).await;
        let mut transaction = transaction.map_err(|error| place.error(&error))?;
        place.lock(&mut transaction).await?;
        let mut rows = Rows { place, connection: &mut transaction };
        let is_chained = work.iter().any(Work::is_chained) || self.is_head_due(0);
        let mut chain = None;
        if is_chained {
            let before = rows.head().await?;
            match self.last {
                Some(last) if last == before => {}
                Some(last) => check_stands(&mut rows, last).await?,
                None => {}
            }
            chain = Some((before, before));
        }
        let mut sheet = open_books(&self.books, self.is_ending, &mut rows, (work, attempt)).await?;
        let mut outcomes = Vec::with_capacity(n);
        for work in work {
            // Work of accounts alone does not move the head.
            let head = &mut chain.get_or_insert(((0, ORIGIN), (0, ORIGIN))).1;
            outcomes.push(write(&mut rows, head, sheet.as_mut(), work).await?);
        }
        if self.is_ending
            && let Some(sheet) = &mut sheet
        {
            sheet.give_up(&mut rows, self.books.instance).await?;
        }
        let chain = chain.filter(|_| is_chained);
        // What an attempt before wrote, whose answer was lost, is new too.
        let n_new = chain.map_or(0, |(before, head)| {
            head.0 - self.last.map_or(before.0, |last| last.0.min(before.0))
        });
        let head = chain.map(|(_, head)| head);
        let has_signed = match head.filter(|head| head.0 > 0 && self.is_head_due(n_new)) {
            Some(head) => {
                let head = SignedHead::sign(&self.key, head.0, head.1, now_us());
                rows.insert_head(&head).await?;
                true
            }
            None => false,
        };
        if let Some(sheet) = &mut sheet {
            sheet.write(&mut rows).await?;
        }
        let may_be_nowhere = self.disk.is_unsynced() || self.state.failed().is_some();
        if durability == Durability::Synced && may_be_nowhere {
            rows.touch().await?;
        }
        transaction.commit().await.map_err(|error| place.error(&error))?;
        if work.iter().any(Work::erases) {
            self.disk.stop_copying().await;
            forget_erased(place, &mut connection).await;
        }
        self.connection = Some(connection);
        Ok(Committed { outcomes, head, n_new, has_signed, sheet })
    }

    /// How the transaction of this work ends. Where the disk is synced beside it, with a sync only
    /// in the end, and behind a failure: then only its own sync shows that there is none any more.
    /// Elsewhere with one, unless somebody waits and nobody for that.
    fn durability_of(&self, work: &[Work]) -> Durability {
        let is_waited_for = work.iter().any(|work| !work.may_wait());
        let may_be_later = match self.disk.is_beside() {
            true => true,
            false => is_waited_for && !self.disk.is_old() && !work.iter().any(Work::is_durable),
        };
        match may_be_later && !self.is_ending && self.state.failed().is_none() {
            true => Durability::Later,
            false => Durability::Synced,
        }
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
        let Committed { outcomes, head, n_new, has_signed, sheet } = committed;
        if self.state.set_failed(None).is_some() {
            tracing::info!("the ledger takes entries again");
        }
        self.last = head.filter(|head| head.0 > 0).or(self.last);
        if has_signed {
            (self.n_unsigned, self.unsigned_since, self.has_signed) = (0, None, true);
        } else if n_new > 0 {
            self.n_unsigned += n_new;
            self.unsigned_since.get_or_insert_with(Instant::now);
        }
        if let Some(sheet) = sheet {
            self.state.set_limits(self.books.close(sheet));
        }
        let mut waiters = Vec::new();
        let written: Vec<Work> = self.waiting.drain(..n).collect();
        for (work, outcome) in written.into_iter().zip(outcomes) {
            waiters.extend(self.told(work, outcome));
        }
        match self.durability {
            Durability::Synced => self.disk.synced(waiters),
            Durability::Later => self.disk.wrote(waiters),
        }
    }

    /// Tells what became of a piece of work that was written, or returns who waits until that is on
    /// disk. Who waited may have gone; what was done stays done.
    fn told(&mut self, work: Work, outcome: Result<Outcome, LedgerError>) -> Option<Waiter> {
        match (work, outcome) {
            (Work::Append(entry, reply), outcome) => {
                self.state.remove(entry.n_bytes());
                match (reply, row(outcome)) {
                    (Some(reply), outcome) => return Some(synced(reply, outcome)),
                    (None, Err(error)) => {
                        tracing::error!("an entry was not recorded: {error}");
                        self.refused.get_or_insert(error);
                    }
                    (None, Ok(_)) => {}
                }
            }
            (Work::Erase(_, reply) | Work::Act(_, reply) | Work::Tidy(_, reply), outcome) => {
                return Some(synced(reply, row(outcome)));
            }
            (Work::Keep(content, _), outcome) => {
                self.state.remove(content.n_bytes());
                if let Err(error) = outcome {
                    tracing::error!(id = %content.id, "a content was not kept: {error}");
                }
            }
            (Work::Account(account), outcome) => {
                self.state.remove(account.n_bytes());
                if matches!(account, Account::Watch) {
                    self.books.watch();
                }
                return tell(account, outcome);
            }
            (Work::Flush(reply), _) => {
                let refused = self.refused.take();
                return Some(synced(reply, refused.map_or(Ok(()), Err)));
            }
            (Work::Close(reply), _) => {
                self.closing.push((reply, self.refused.take().map_or(Ok(()), Err)));
            }
        }
        None
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
                work if work.may_wait() => kept.push(work),
                Work::Append(entry, reply) => {
                    self.state.remove(entry.n_bytes());
                    if let Some(reply) = reply {
                        drop(reply.send(Err(error.clone())));
                    }
                }
                Work::Account(account) => {
                    self.state.remove(account.n_bytes());
                    if matches!(account, Account::Watch) {
                        self.books.watch();
                    }
                    if let Some(waiter) = tell(account, Err(error.clone())) {
                        waiter(Err(error.clone()));
                    }
                }
                Work::Keep(content, _) => self.state.remove(content.n_bytes()),
                Work::Erase(_, reply) | Work::Act(_, reply) | Work::Tidy(_, reply) => {
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

/// Opens the books, where the work is about them or something in them is due.
async fn open_books(
    books: &Books,
    is_ending: bool,
    rows: &mut Rows<'_>,
    (work, attempt): (&[Work], Attempt),
) -> Result<Option<Sheet>, LedgerError> {
    let is_due = books.due().is_some_and(|due| due.is_zero());
    let is_left = is_ending && books.due().is_some();
    let is_asked = work.iter().any(|work| matches!(work, Work::Account(_)));
    if !is_due && !is_left && !is_asked {
        return Ok(None);
    }
    let mut sheet = books.open(rows, attempt).await?;
    if is_due {
        sheet.look(rows, books).await?;
    }
    Ok(Some(sheet))
}

/// Tells who waits for a piece of accounts what became of it, or returns who waits until that is on
/// disk.
fn tell(account: Account, outcome: Result<Outcome, LedgerError>) -> Option<Waiter> {
    match account {
        Account::Reserve { reply, .. } => {
            drop(reply.send(outcome.map(|outcome| match outcome {
                Outcome::Verdict(verdict) => verdict,
                _ => unreachable!("a reservation has a verdict"),
            })));
            None
        }
        Account::Limits(_, reply) => {
            let was_there = outcome.map(|outcome| matches!(outcome, Outcome::Changed(true)));
            Some(synced(reply, was_there))
        }
        Account::Settle(..) | Account::Release(_) | Account::Record(..) | Account::Watch => None,
    }
}

/// Who is told an outcome once it is on disk.
fn synced<T: Send + 'static>(reply: Reply<T>, outcome: Result<T, LedgerError>) -> Waiter {
    Box::new(move |synced| drop(reply.send(synced.and(outcome))))
}

/// Waits for so long; without a time for ever.
async fn over(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// The row of an entry.
fn row(outcome: Result<Outcome, LedgerError>) -> Result<i64, LedgerError> {
    outcome.map(|outcome| match outcome {
        Outcome::Row(seq) => seq,
        _ => unreachable!("an entry has a row"),
    })
}

async fn connect(place: &Place) -> Result<AnyConnection, LedgerError> {
    let mut connection = place.connect().await?;
    schema::migrate(place, &mut connection, schema::ALL).await?;
    Ok(connection)
}

/// Does one piece of work behind `head`, in the books where it is about them. Inside `Ok`, what
/// came of it or why it was refused; an error means that nothing of the transaction counts.
async fn write(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    sheet: Option<&mut Sheet>,
    work: &Work,
) -> Result<Result<Outcome, LedgerError>, LedgerError> {
    match (work, sheet) {
        (Work::Append(entry, _), _) => Ok(append(rows, head, entry).await?.map(Outcome::Row)),
        (Work::Erase(work, _), _) => Ok(erase(rows, head, work).await?.map(Outcome::Row)),
        (Work::Act(order, _), _) => Ok(access::make(rows, head, order).await?.map(Outcome::Row)),
        (Work::Tidy(task, _), _) => {
            Ok(contents::perform(rows, head, task).await?.map(Outcome::Row))
        }
        (Work::Keep(content, keeper), _) => {
            Ok(contents::keep(rows, keeper, content).await?.map(|()| Outcome::Done))
        }
        (Work::Account(account), Some(sheet)) => account_for(rows, head, sheet, account).await,
        (Work::Account(_), None) => unreachable!("the books are open for work on them"),
        (Work::Flush(_) | Work::Close(_), _) => Ok(Ok(Outcome::Done)),
    }
}

/// Does one piece of work in the books.
async fn account_for(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    sheet: &mut Sheet,
    account: &Account,
) -> Result<Result<Outcome, LedgerError>, LedgerError> {
    let instance = sheet.instance();
    let by = |n: i64| (instance, n);
    match account {
        Account::Reserve { n, most, n_least, .. } => {
            let verdict = sheet.reserve(rows, *n, most, *n_least).await?;
            return Ok(Ok(Outcome::Verdict(verdict)));
        }
        Account::Settle(n, usage) => sheet.settle(rows, by(*n), usage).await?,
        Account::Release(n) => sheet.release(rows, by(*n)).await?,
        Account::Record(n, usage) => sheet.record(rows, by(*n), usage).await?,
        Account::Limits(change, _) => {
            let (id, audit) = match &**change {
                Change::Set(limit, audit) => (limit.id(), audit),
                Change::Remove(id, audit) => (id.clone(), audit),
            };
            let was_there = sheet.has_limit(&id);
            match &**change {
                Change::Set(limit, _) => {
                    if !was_there && let Err(refused) = check_room(sheet.n_limits()) {
                        return Ok(Err(refused));
                    }
                    sheet.set_limit(rows, limit).await?;
                }
                Change::Remove(..) if !was_there => return Ok(Ok(Outcome::Changed(false))),
                Change::Remove(id, _) => sheet.remove_limit(rows, id).await?,
            }
            return Ok(append(rows, head, audit).await?.map(|_| Outcome::Changed(was_there)));
        }
        Account::Watch => {}
    }
    Ok(Ok(Outcome::Done))
}

/// Erases a body, and records that.
pub(crate) async fn erase(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    erase: &Erase,
) -> Result<Result<i64, LedgerError>, LedgerError> {
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
