//! The disk under a SQLite file, beside the writer: its log is synced, and copied into the file.
//!
//! A transaction ends in the log, in the system's memory: others see it, and a kill of the process
//! loses nothing of it (<https://sqlite.org/wal.html>). What must outlast a loss of power waits for
//! a sync of the log behind it; one sync serves all who wait, and the writer goes on meanwhile.
//! SQLite's own syncs and copies stand in the way of whoever writes next, so they are not asked
//! for. PostgreSQL has a log of its own: there the end of a transaction waits for it.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use sqlx::{AnyConnection, Connection as _, Row as _};
use tokio::task::JoinHandle;

use crate::LedgerError;
use crate::place::{Database, Place};

/// How long what nobody waits for may be in the system's memory only.
pub(crate) const SYNC_WAIT: Duration = Duration::from_millis(100);

/// How long one sync may take: longer than any disk that goes on.
const SYNC_TIME: Duration = Duration::from_secs(30);

/// How often the log is copied while it is written, and how many pages (of 4 KiB) it may have that
/// are not: from there on the writer waits for a copy, as only behind one of all the log begins
/// anew.
const COPY_INTERVAL: Duration = Duration::from_secs(1);
const LOG_PAGES_MAX: i64 = 16_384;

/// Who waits for a sync, told how it went.
pub(crate) type Waiter = Box<dyn FnOnce(Result<(), LedgerError>) + Send>;

/// What is on the disk, and what is on its way there.
pub(crate) struct Disk {
    place: Place,
    /// `None` where the database syncs by itself.
    log: Option<PathBuf>,
    /// Since when something that was written may not be on the disk.
    unsynced_since: Option<Instant>,
    syncing: Option<JoinHandle<Result<(), LedgerError>>>,
    /// Who waits for the sync at work, and who for the next.
    waiting_now: Vec<Waiter>,
    waiting_next: Vec<Waiter>,
    copying: Copying,
    /// When the last copy began, and whether something was written since.
    copied: Instant,
    is_written: bool,
}

/// Whether the log is being copied, and by which connection.
enum Copying {
    Idle(Option<AnyConnection>),
    Running(JoinHandle<(Option<AnyConnection>, Copied)>),
}

/// How far a copy came: pages of the log that the file does not have, of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Copied {
    pub(crate) n_left: i64,
    pub(crate) n_pages: i64,
}

impl Copied {
    /// Whether the log has grown so long that its writer is to wait for a copy of all.
    pub(crate) fn is_too_long(self) -> bool {
        self.n_left > 0 && self.n_pages > LOG_PAGES_MAX
    }
}

impl Disk {
    pub(crate) fn of(place: &Place) -> Self {
        let log = match &place.database {
            Database::Sqlite(path) => {
                let mut log = path.clone().into_os_string();
                log.push("-wal");
                Some(log.into())
            }
            Database::Postgres => None,
        };
        Self {
            place: place.clone(),
            log,
            unsynced_since: None,
            syncing: None,
            waiting_now: Vec::new(),
            waiting_next: Vec::new(),
            copying: Copying::Idle(None),
            copied: Instant::now(),
            is_written: false,
        }
    }

    /// Whether it is synced beside the writer, whose transactions need not wait then.
    pub(crate) fn is_beside(&self) -> bool {
        self.log.is_some()
    }

    /// A transaction has ended without a sync; these wait for one.
    pub(crate) fn wrote(&mut self, waiters: Vec<Waiter>) {
        self.unsynced_since.get_or_insert_with(Instant::now);
        self.is_written = true;
        self.waiting_next.extend(waiters);
        self.go_on();
    }

    /// A transaction has ended with a sync of all that was written before it.
    pub(crate) fn synced(&mut self, waiters: Vec<Waiter>) {
        self.unsynced_since = None;
        self.is_written = true;
        let before = self.waiting_now.drain(..).chain(self.waiting_next.drain(..));
        before.chain(waiters).for_each(|waiter| waiter(Ok(())));
    }

    /// Whether something written long ago may not be on the disk.
    pub(crate) fn is_old(&self) -> bool {
        self.unsynced_since.is_some_and(|since| since.elapsed() >= SYNC_WAIT)
    }

    /// Whether something written may not be on the disk.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced_since.is_some() || self.syncing.is_some()
    }

    /// How long it is until something is to be done here; `None`: nothing is.
    pub(crate) fn due(&self) -> Option<Duration> {
        let sync = match self.syncing {
            Some(_) => None,
            None => self.unsynced_since.map(|since| SYNC_WAIT.saturating_sub(since.elapsed())),
        };
        let may_copy = self.is_beside() && self.is_written;
        let copy = match self.copying {
            Copying::Idle(_) if may_copy => {
                Some(COPY_INTERVAL.saturating_sub(self.copied.elapsed()))
            }
            _ => None,
        };
        [sync, copy].into_iter().flatten().min()
    }

    /// Begins the sync and the copy that are due.
    pub(crate) fn go_on(&mut self) {
        if !self.is_beside() {
            return;
        }
        if self.syncing.is_none() && (!self.waiting_next.is_empty() || self.is_old()) {
            self.sync();
        }
        let is_due = self.is_written && self.copied.elapsed() >= COPY_INTERVAL;
        if is_due && let Copying::Idle(connection) = &mut self.copying {
            let (connection, place) = (connection.take(), self.place.clone());
            self.copying = Copying::Running(tokio::spawn(copy_over(connection, place)));
            (self.copied, self.is_written) = (Instant::now(), false);
        }
    }

    fn sync(&mut self) {
        let Some(log) = self.log.clone() else { return };
        self.waiting_now = std::mem::take(&mut self.waiting_next);
        self.unsynced_since = None;
        let place = self.place.shown().to_owned();
        self.syncing = Some(tokio::spawn(async move {
            let synced = tokio::task::spawn_blocking(move || {
                // SQLite holds no lock on its log, so closing this file lets none go.
                let file = OpenOptions::new().read(true).write(true).open(&log);
                let synced = file.and_then(|file| file.sync_data());
                synced.map_err(|error| LedgerError::io(&log, "syncing the log", &error))
            });
            let late = |reason: String| LedgerError::Unreachable { place, reason };
            match tokio::time::timeout(SYNC_TIME, synced).await {
                Ok(Ok(synced)) => synced,
                Ok(Err(error)) => Err(late(error.to_string())),
                Err(_) => Err(late(format!("no sync within {} seconds", SYNC_TIME.as_secs()))),
            }
        }));
    }

    /// Waits until a sync or a copy has ended, if one is at work; else for ever. Those who wait for
    /// a sync are told. Returns how far a copy came. Losing this future loses nothing.
    ///
    /// # Errors
    /// The sync failed: what was written since the last may not be on the disk.
    pub(crate) async fn ended(&mut self) -> Result<Option<Copied>, LedgerError> {
        let Self { syncing, copying, .. } = self;
        let sync = async {
            match syncing {
                Some(syncing) => syncing.await,
                None => std::future::pending().await,
            }
        };
        let copy = async {
            match copying {
                Copying::Running(copying) => copying.await,
                Copying::Idle(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            synced = sync => {
                self.syncing = None;
                let synced = synced.unwrap_or_else(|error| Err(self.broken(&error.to_string())));
                self.waiting_now.drain(..).for_each(|waiter| waiter(synced.clone()));
                if synced.is_err() {
                    self.waiting_next.drain(..).for_each(|waiter| waiter(synced.clone()));
                }
                synced?;
                self.go_on();
                Ok(None)
            }
            copied = copy => {
                let lost = (None, Copied { n_left: 0, n_pages: 0 });
                let (connection, copied) = copied.unwrap_or(lost);
                self.copying = Copying::Idle(connection);
                Ok(Some(copied))
            }
        }
    }

    /// Waits until nobody waits for a sync any more.
    pub(crate) async fn finish(&mut self) {
        self.go_on();
        while self.syncing.is_some() {
            // Those who wait are told what went wrong.
            drop(self.ended().await);
        }
        self.stop_copying().await;
    }

    /// Whether [`ended`](Self::ended) would return at once.
    pub(crate) fn has_ended(&self) -> bool {
        let is_copied = match &self.copying {
            Copying::Running(copying) => copying.is_finished(),
            Copying::Idle(_) => false,
        };
        is_copied || self.syncing.as_ref().is_some_and(JoinHandle::is_finished)
    }

    /// Waits for the copy at work and closes its connection: SQLite copies for one at a time, and
    /// puts its file in order behind the last connection.
    pub(crate) async fn stop_copying(&mut self) {
        let connection = match std::mem::replace(&mut self.copying, Copying::Idle(None)) {
            Copying::Running(copying) => copying.await.ok().and_then(|(connection, _)| connection),
            Copying::Idle(connection) => connection,
        };
        if let Some(connection) = connection
            && let Err(error) = connection.close().await
        {
            tracing::debug!("closing the ledger's copier: {error}");
        }
    }

    fn broken(&self, reason: &str) -> LedgerError {
        let (place, reason) = (self.place.shown().to_owned(), reason.to_owned());
        LedgerError::Unreachable { place, reason }
    }
}

/// Copies what the log has over a connection, or a new one, and hands that back. Where it cannot,
/// the writer is to.
async fn copy_over(
    connection: Option<AnyConnection>,
    place: Place,
) -> (Option<AnyConnection>, Copied) {
    let copied = async {
        let mut connection = match connection {
            Some(connection) => connection,
            None => place.connect().await?,
        };
        let copied = copy(&place, &mut connection).await?;
        Ok::<_, LedgerError>((Some(connection), copied))
    };
    copied.await.unwrap_or_else(|error| {
        tracing::warn!("the ledger's log is not copied beside its writer: {error}");
        (None, Copied { n_left: 1, n_pages: i64::MAX })
    })
}

/// Copies what the log has into the file, as far as no reader needs the file as it is.
pub(crate) async fn copy(
    place: &Place,
    connection: &mut AnyConnection,
) -> Result<Copied, LedgerError> {
    let copy = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)");
    let row = copy.fetch_one(connection).await;
    let read = row.and_then(|row| Ok((row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?)));
    let (n_pages, n_copied) = read.map_err(|error| place.error(&error))?;
    Ok(Copied { n_left: n_pages - n_copied, n_pages })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Durability;
    use crate::schema;
    use std::sync::{Arc, Mutex};

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    async fn written(folder: &tempfile::TempDir) -> (Place, AnyConnection) {
        let path = folder.path().join("ledger.sqlite");
        let place = Place::parse(path.to_str().unwrap()).unwrap();
        let mut connection = place.connect().await.unwrap();
        schema::migrate(&place, &mut connection, schema::ALL).await.unwrap();
        (place, connection)
    }

    #[test]
    fn a_log_that_was_copied_begins_anew() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let (place, mut writer) = written(&folder).await;
            let ways = (Durability::Synced, Durability::Later);
            place.set_durability(&mut writer, ways.0, ways.1).await.unwrap();
            let count = "UPDATE ledger_books SET n_syncs = n_syncs + 1";
            let mut lengths = Vec::new();
            for _ in 0..3 {
                for _ in 0..500 {
                    sqlx::raw_sql(count).execute(&mut writer).await.unwrap();
                }
                let (connection, copied) = copy_over(None, place.clone()).await;
                assert!(copied.n_left == 0 && copied.n_pages >= 500, "{copied:?}");
                assert!(!copied.is_too_long());
                connection.unwrap().close().await.unwrap();
                lengths.push(folder.path().join("ledger.sqlite-wal").metadata().unwrap().len());
            }
            assert_eq!(lengths[1], lengths[2], "{lengths:?}");
        });
    }

    #[test]
    fn one_sync_tells_all_who_wait_and_a_failed_one_too() {
        run(async {
            let folder = tempfile::tempdir().unwrap();
            let (place, writer) = written(&folder).await;
            let mut disk = Disk::of(&place);
            let told = Arc::new(Mutex::new(Vec::new()));
            let waiter = |n: u32| -> Waiter {
                let told = Arc::clone(&told);
                Box::new(move |synced| told.lock().unwrap().push((n, synced.is_ok())))
            };
            disk.wrote(vec![waiter(1), waiter(2)]);
            disk.wrote(vec![waiter(3)]);
            assert!(told.lock().unwrap().is_empty() && disk.is_unsynced());
            assert_eq!(disk.ended().await.unwrap(), None);
            assert_eq!(*told.lock().unwrap(), [(1, true), (2, true)]);
            disk.ended().await.unwrap();
            assert!(told.lock().unwrap()[2].1 && !disk.is_unsynced());
            writer.close().await.unwrap();
            // The last connection has removed the log.
            disk.wrote(vec![waiter(4)]);
            let error = disk.ended().await.unwrap_err().to_string();
            assert!(error.contains("syncing the log"), "{error}");
            assert_eq!(told.lock().unwrap()[3], (4, false));
        });
    }
}
