//! Reading a ledger: one entry, or all of it in its order, to be checked or exported.

use std::collections::VecDeque;

use sqlx::{AnyConnection, AnyPool, Connection as _};

use crate::access::{Roster, Which};
use crate::chain::{Bad, Row, SignedHead, Verified, Walk};
use crate::export::{Exporter, Selection};
use crate::place::Place;
use crate::rows::{Found, FoundHead, Rows};
use crate::{Kind, LedgerError, Recorded, schema};

/// Most entries of one list: with the largest bodies, 256 MiB.
const LIST_MAX: usize = 256;

/// A ledger that is opened for reading only: nothing is made, nothing is changed.
#[derive(Debug, Clone)]
pub struct Reader {
    pub(crate) place: Place,
    pub(crate) pool: AnyPool,
}

/// What a walk through the ledger comes by.
pub(crate) enum Item {
    Row(Row),
    Head(SignedHead),
}

/// Why a walk ended early.
enum Stop {
    Bad(Bad),
    Ledger(LedgerError),
}

impl From<LedgerError> for Stop {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Altered { seq, reason } => Self::Bad(Bad { seq, reason }),
            error => Self::Ledger(error),
        }
    }
}

impl Reader {
    /// Opens the ledger at `url`: a path, `sqlite:PATH` or `postgres://…`.
    ///
    /// # Errors
    /// Where there is none, or something else, or one of a newer version.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        let reader = Self::of(Place::parse(url)?)?;
        let place = &reader.place;
        let connection = reader.pool.acquire().await;
        let mut connection = connection.map_err(|error| place.error(&error))?;
        let newest = schema::ALL.last().map_or(0, |last| last.version);
        let version = schema::version(place, &mut connection, newest).await?;
        if version == 0 {
            return Err(LedgerError::Missing { place: place.shown().to_owned() });
        }
        drop(connection);
        Ok(reader)
    }

    pub(crate) fn of(place: Place) -> Result<Self, LedgerError> {
        let pool = place.readers()?;
        Ok(Self { place, pool })
    }

    /// Closes the connections.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    /// The entry of this id, if there is one.
    ///
    /// # Errors
    /// What the database says; [`LedgerError::Altered`] for a row whose hash is not its own.
    pub async fn find(&self, kind: Kind, id: &str) -> Result<Option<Recorded>, LedgerError> {
        // No entry has such an id, and PostgreSQL fails on some.
        if id.contains('\0') {
            return Ok(None);
        }
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let mut rows = Rows { place: &self.place, connection: &mut connection };
        rows.find(kind.name(), id).await
    }

    /// The place of the last entry; 0 where there is none yet.
    ///
    /// # Errors
    /// What the database says.
    pub async fn last_seq(&self) -> Result<i64, LedgerError> {
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let mut rows = Rows { place: &self.place, connection: &mut connection };
        Ok(rows.head().await?.0)
    }

    /// The entries of a kind by their ids, the last first, at most `limit` (of at most 256), of
    /// those whose ids come before `before`. Where ids begin with the time, the newest come first.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub async fn before(
        &self,
        kind: Kind,
        before: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Recorded>, LedgerError> {
        if before.is_some_and(|id| id.contains('\0')) {
            return Ok(Vec::new());
        }
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let mut rows = Rows { place: &self.place, connection: &mut connection };
        rows.before(kind.name(), before, limit.min(LIST_MAX) as i64).await
    }

    /// Who may ask: the keys and the projects. A ledger of before there were keys has none.
    ///
    /// # Errors
    /// What the database says.
    pub async fn roster(&self, which: Which) -> Result<Roster, LedgerError> {
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let newest = schema::ALL.last().map_or(0, |last| last.version);
        let version = schema::version(&self.place, &mut connection, newest).await?;
        if version < schema::WITH_KEYS {
            return Ok(Roster::default());
        }
        Rows { place: &self.place, connection: &mut connection }.roster(which, version).await
    }

    /// Whether keys and projects were changed since: the number of [`Roster::version`].
    ///
    /// # Errors
    /// What the database says.
    pub async fn roster_version(&self) -> Result<i64, LedgerError> {
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        Rows { place: &self.place, connection: &mut connection }.version().await
    }

    /// Reads the whole chain and all signed heads, and holds them to each other. Heads count whose
    /// key is `trusted`; where none is, nobody's is asked for. `noted` are heads that were kept
    /// elsewhere: with them it is found that the ledger was replaced by an older or another one.
    ///
    /// # Errors
    /// Only what keeps it from reading; what is wrong with the chain is in [`Verified`].
    pub async fn verify(
        &self,
        trusted: &[[u8; 32]],
        noted: &[SignedHead],
    ) -> Result<Verified, LedgerError> {
        let mut walk = Walk::new(trusted, 1).with_noted(noted);
        let each = |item: Item| match item {
            Item::Row(row) => walk.row(&row).map_err(Stop::Bad),
            Item::Head(head) => walk.head(&head).map_err(Stop::Bad),
        };
        match self.walk(i64::MIN, each).await {
            Ok(()) => Ok(walk.end(Ok(()))),
            Err(Stop::Bad(bad)) => Ok(walk.end(Err(bad))),
            Err(Stop::Ledger(error)) => Err(error),
        }
    }

    /// Writes the rows from `since` on as JSON lines, with hashes and signed heads, so that
    /// [`check_export`](crate::check_export) can check them elsewhere. Of rows of other kinds than
    /// `kind`, if one is given, only the hashes are written. `write` is handed line by line.
    ///
    /// # Errors
    /// What keeps it from reading, [`LedgerError::Altered`] for a row that is none; what `write`
    /// returns.
    pub async fn export<E: From<LedgerError>>(
        &self,
        since: i64,
        kind: Option<Kind>,
        mut write: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let since = since.max(1);
        let mut exporter = Exporter::new(Selection { since, kind });
        write(&exporter.begin())?;
        // From the first row on, what stands before it is found too.
        let from = if since == 1 { i64::MIN } else { since };
        self.walk(from, |item: Item| write(&exporter.line(&item)?)).await?;
        write(&exporter.end())
    }

    /// Writes the signed heads as JSON lines, so that they can be kept elsewhere.
    ///
    /// # Errors
    /// As [`export`](Self::export).
    pub async fn heads<E: From<LedgerError>>(
        &self,
        mut write: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<(), E> {
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let mut heads = Heads::since(i64::MIN);
        let mut rows = Rows { place: &self.place, connection: &mut connection };
        while let Some(head) = heads.next_up_to(i64::MAX, &mut rows).await? {
            write(&Exporter::head(&head))?;
        }
        Ok(())
    }

    /// Hands all rows from `since` on to `each`, each with the heads that are of it behind it, as
    /// they stand at one moment.
    async fn walk<E: From<LedgerError>>(
        &self,
        since: i64,
        mut each: impl FnMut(Item) -> Result<(), E>,
    ) -> Result<(), E> {
        let place = &self.place;
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| place.error(&error))?;
        let connection: &mut AnyConnection = &mut connection;
        let transaction = connection.begin_with(place.begin_reading()).await;
        let mut transaction = transaction.map_err(|error| place.error(&error))?;
        let mut rows = Rows { place, connection: &mut transaction };
        let mut heads = Heads::since(since);
        let mut after = since.saturating_sub(1);
        loop {
            let page = rows.page(after).await?;
            if page.is_empty() {
                break;
            }
            for found in page {
                let row = match found {
                    Found::Row(row) => row,
                    Found::Broken(Bad { seq, reason }) => {
                        return Err(LedgerError::Altered { seq, reason }.into());
                    }
                };
                after = row.seq;
                each(Item::Row(row))?;
                while let Some(head) = heads.next_up_to(after, &mut rows).await? {
                    each(Item::Head(head))?;
                }
            }
        }
        while let Some(head) = heads.next_up_to(i64::MAX, &mut rows).await? {
            each(Item::Head(head))?;
        }
        Ok(())
    }
}

/// The signed heads in the order of their rows, a page at a time.
struct Heads {
    page: VecDeque<FoundHead>,
    /// Row and number of the last that was read.
    after: (i64, i64),
    is_over: bool,
}

impl Heads {
    fn since(since: i64) -> Self {
        Self { page: VecDeque::new(), after: (since.saturating_sub(1), i64::MAX), is_over: false }
    }

    /// The next head, if it is of a row up to `seq`.
    ///
    /// # Errors
    /// [`LedgerError::Altered`] for one that is none.
    async fn next_up_to(
        &mut self,
        seq: i64,
        rows: &mut Rows<'_>,
    ) -> Result<Option<SignedHead>, LedgerError> {
        if self.page.is_empty() && !self.is_over {
            self.page = rows.heads(self.after).await?.into();
            match self.page.back() {
                Some(last) => self.after = (last.seq, last.n),
                None => self.is_over = true,
            }
        }
        let Some(found) = self.page.pop_front_if(|found| found.seq <= seq) else { return Ok(None) };
        let altered = |reason| LedgerError::Altered { seq: found.seq, reason };
        found.head.map(Some).map_err(altered)
    }
}
