//! Rows and heads in the database: how they are read and written. Nothing that was read is trusted.
//!
//! Every value is cut to one more than it may have, so that a row of any size costs no more than
//! one of the largest; what was cut fails its hash.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use crate::chain::{self, Bad, Body, Hash, ORIGIN, Row, SignedHead};
use crate::entry::{Entry, Kind};
use crate::place::Place;
use crate::{LedgerError, Recorded};

/// Rows read at a time: with the largest bodies, 32 MiB.
pub(crate) const PAGE_ROWS: i64 = 32;

/// A connection to the ledger at a place, for as long as a piece of work takes.
pub(crate) struct Rows<'c> {
    pub(crate) place: &'c Place,
    pub(crate) connection: &'c mut AnyConnection,
}

/// A row as it was read.
#[derive(Debug)]
pub(crate) enum Found {
    Row(Row),
    /// What stands there is no row.
    Broken(Bad),
}

/// A signed head as it was read.
#[derive(Debug)]
pub(crate) struct FoundHead {
    /// In which order they were signed.
    pub(crate) n: i64,
    pub(crate) seq: i64,
    /// The head, or why what stands there is none.
    pub(crate) head: Result<SignedHead, String>,
}

macro_rules! select_rows {
    ($which:literal) => {
        concat!(
            "SELECT e.seq, substr(e.kind, 1, 65), substr(e.id, 1, 600), e.at_us, ",
            "substr(e.principal, 1, 257), substr(e.body_hash, 1, 33), ",
            "substr(e.previous, 1, 33), substr(e.hash, 1, 33), substr(b.body, 1, 1048577) ",
            "FROM ledger_entries e LEFT JOIN ledger_bodies b ON b.seq = e.seq ",
            $which
        )
    };
}

impl Rows<'_> {
    /// Place and hash of the last row; of what stands before the first where there is none.
    pub(crate) async fn head(&mut self) -> Result<(i64, Hash), LedgerError> {
        let head = "SELECT seq, substr(hash, 1, 33) FROM ledger_entries ORDER BY seq DESC LIMIT 1";
        let row = sqlx::query(head).fetch_optional(&mut *self.connection).await;
        let Some(row) = self.told(row)? else { return Ok((0, ORIGIN)) };
        let (seq, hash) = self.told(row.try_get(0).and_then(|seq| Ok((seq, bytes(&row, 1)?))))?;
        Ok((seq, hash))
    }

    /// The hash of the row at `seq`.
    pub(crate) async fn hash(&mut self, seq: i64) -> Result<Option<Hash>, LedgerError> {
        let hash = "SELECT substr(hash, 1, 33) FROM ledger_entries WHERE seq = $1";
        let row = sqlx::query(hash).bind(seq).fetch_optional(&mut *self.connection).await;
        let row = self.told(row)?;
        self.told(row.map(|row| bytes(&row, 0)).transpose())
    }

    /// The rows behind `after`, at most a page. A row that is none is told, and ends the page.
    pub(crate) async fn page(&mut self, after: i64) -> Result<Vec<Found>, LedgerError> {
        let page = select_rows!("WHERE e.seq > $1 ORDER BY e.seq LIMIT $2");
        let (mut after, mut found) = (after, Vec::new());
        let mut limit = PAGE_ROWS;
        loop {
            let rows = sqlx::query(page).bind(after).bind(limit);
            match rows.fetch_all(&mut *self.connection).await {
                Ok(rows) => {
                    for row in &rows {
                        found.push(self.row(row).await?);
                    }
                    // Alone, good rows before the bad one are read until it comes.
                    let Some(Found::Row(last)) = found.last() else { return Ok(found) };
                    if limit > 1 || rows.is_empty() {
                        return Ok(found);
                    }
                    after = last.seq;
                }
                Err(error) if is_about_values(&error) && limit > 1 => limit = 1,
                Err(error) if is_about_values(&error) => {
                    let reason = unreadable(&error);
                    let seq = after.max(0).saturating_add(1);
                    found.push(Found::Broken(Bad { seq, reason }));
                    return Ok(found);
                }
                Err(error) => return Err(self.place.error(&error)),
            }
        }
    }

    /// Where the entry of this id stands.
    pub(crate) async fn place_of(
        &mut self,
        kind: &str,
        id: &str,
    ) -> Result<Option<i64>, LedgerError> {
        let one = "SELECT seq FROM ledger_entries WHERE kind = $1 AND id = $2";
        let row = sqlx::query(one).bind(kind).bind(id).fetch_optional(&mut *self.connection).await;
        let row = self.told(row)?;
        self.told(row.map(|row| row.try_get(0)).transpose())
    }

    /// The entry of this id as it stands, checked against its own hash.
    pub(crate) async fn find(
        &mut self,
        kind: &str,
        id: &str,
    ) -> Result<Option<Recorded>, LedgerError> {
        let one = select_rows!("WHERE e.kind = $1 AND e.id = $2");
        let row = sqlx::query(one).bind(kind).bind(id).fetch_optional(&mut *self.connection).await;
        let Some(row) = self.told(row)? else { return Ok(None) };
        match self.row(&row).await? {
            Found::Row(row) => recorded(row).map(Some),
            Found::Broken(Bad { seq, reason }) => Err(LedgerError::Altered { seq, reason }),
        }
    }

    /// The entries of a kind whose ids come before `before` in the database's order, the last
    /// first, at most `limit`; each checked against its own hash.
    pub(crate) async fn before(
        &mut self,
        kind: &str,
        before: Option<&str>,
        limit: i64,
    ) -> Result<Vec<Recorded>, LedgerError> {
        let some = select_rows!(
            "WHERE e.kind = $1 AND ($2 = '' OR e.id < $2) ORDER BY e.id DESC LIMIT $3"
        );
        let rows = sqlx::query(some).bind(kind).bind(before.unwrap_or_default()).bind(limit);
        let rows = rows.fetch_all(&mut *self.connection).await;
        let mut found = Vec::new();
        for row in &self.told(rows)? {
            found.push(match self.row(row).await? {
                Found::Row(row) => recorded(row)?,
                Found::Broken(Bad { seq, reason }) => {
                    return Err(LedgerError::Altered { seq, reason });
                }
            });
        }
        Ok(found)
    }

    /// Writes the entry behind the head, and returns the new head.
    ///
    /// # Errors
    /// [`LedgerError::Taken`], within `Ok` its place where it is the very same entry.
    pub(crate) async fn insert(
        &mut self,
        head: (i64, Hash),
        entry: &Entry,
    ) -> Result<Inserted, LedgerError> {
        let row = next_row(head, entry);
        let insert = "INSERT INTO ledger_entries \
             (seq, kind, id, at_us, principal, body_hash, previous, hash) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (kind, id) DO NOTHING";
        let insert = sqlx::query(insert)
            .bind(row.seq)
            .bind(&row.kind)
            .bind(&row.id)
            .bind(row.at)
            .bind(&row.principal)
            .bind(&row.body_hash[..])
            .bind(&row.previous[..])
            .bind(&row.hash[..]);
        let done = insert.execute(&mut *self.connection).await;
        let done = self.told(done)?;
        if done.rows_affected() == 0 {
            return self.same(&row).await;
        }
        let insert = "INSERT INTO ledger_bodies (seq, body) VALUES ($1, $2)";
        let insert = sqlx::query(insert).bind(row.seq).bind(entry.body.as_bytes());
        let done = insert.execute(&mut *self.connection).await;
        self.told(done)?;
        Ok(Inserted::New((row.seq, row.hash)))
    }

    /// An entry that is written again, because nobody knew whether it had been, is no second one.
    async fn same(&mut self, row: &Row) -> Result<Inserted, LedgerError> {
        let one = "SELECT seq, at_us, substr(principal, 1, 257), substr(body_hash, 1, 33) \
             FROM ledger_entries WHERE kind = $1 AND id = $2";
        let one = sqlx::query(one).bind(&row.kind).bind(&row.id);
        let other = one.fetch_one(&mut *self.connection).await;
        let other = self.told(other)?;
        let read = || -> sqlx::Result<(i64, bool)> {
            let same = other.try_get::<i64, _>(1)? == row.at
                && other.try_get::<&str, _>(2)? == row.principal
                && bytes::<32>(&other, 3)? == row.body_hash;
            Ok((other.try_get(0)?, same))
        };
        let (seq, same) = self.told(read())?;
        Ok(if same { Inserted::Before(seq) } else { Inserted::Taken(seq) })
    }

    /// Deletes the body of the row at `seq`.
    pub(crate) async fn delete_body(&mut self, seq: i64) -> Result<(), LedgerError> {
        let delete = sqlx::query("DELETE FROM ledger_bodies WHERE seq = $1").bind(seq);
        let done = delete.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// Writes a signed head.
    pub(crate) async fn insert_head(&mut self, head: &SignedHead) -> Result<(), LedgerError> {
        let insert = "INSERT INTO ledger_heads (seq, hash, at_us, node, signature) \
             VALUES ($1, $2, $3, $4, $5)";
        let insert = sqlx::query(insert)
            .bind(head.seq)
            .bind(&head.hash[..])
            .bind(head.at)
            .bind(&head.key[..])
            .bind(&head.signature[..]);
        let done = insert.execute(&mut *self.connection).await;
        self.told(done).map(drop)
    }

    /// The last head that the holder of `key` signed.
    pub(crate) async fn last_head_of(
        &mut self,
        key: &Hash,
    ) -> Result<Option<SignedHead>, LedgerError> {
        let last = "SELECT n, seq, substr(hash, 1, 33), at_us, substr(node, 1, 33), \
             substr(signature, 1, 65) FROM ledger_heads WHERE node = $1 \
             ORDER BY seq DESC, n DESC LIMIT 1";
        let row = sqlx::query(last).bind(&key[..]).fetch_optional(&mut *self.connection).await;
        let row = self.told(row)?;
        self.told(row.map(|row| head(&row)).transpose())
    }

    /// The heads behind the one of `(seq, n)`, at most a page.
    pub(crate) async fn heads(&mut self, after: (i64, i64)) -> Result<Vec<FoundHead>, LedgerError> {
        let page = "SELECT n, seq, substr(hash, 1, 33), at_us, substr(node, 1, 33), \
             substr(signature, 1, 65) FROM ledger_heads \
             WHERE seq > $1 OR (seq = $1 AND n > $2) ORDER BY seq, n LIMIT 64";
        let rows = sqlx::query(page).bind(after.0).bind(after.1);
        let rows = rows.fetch_all(&mut *self.connection).await;
        let rows = self.told(rows)?;
        let found = rows.iter().map(|row| -> sqlx::Result<FoundHead> {
            let head = head(row).map_err(|error| format!("a head of it: {}", unreadable(&error)));
            Ok(FoundHead { n: row.try_get(0)?, seq: row.try_get(1)?, head })
        });
        self.told(found.collect())
    }

    /// A row, with what became of its body.
    async fn row(&mut self, row: &AnyRow) -> Result<Found, LedgerError> {
        let mut read = match self::row(row) {
            Ok(read) => read,
            Err(error) if is_about_values(&error) => {
                let (seq, reason) = (row.try_get(0), unreadable(&error));
                return Ok(Found::Broken(Bad { seq: self.told(seq)?, reason }));
            }
            Err(error) => return Err(self.place.error(&error)),
        };
        if read.body == Body::Missing {
            let by = self.place_of(Kind::Erasure.name(), &read.name()).await?;
            read.body = by.map_or(Body::Missing, Body::Erased);
        }
        Ok(Found::Row(read))
    }

    pub(crate) fn told<T>(&self, result: sqlx::Result<T>) -> Result<T, LedgerError> {
        result.map_err(|error| self.place.error(&error))
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is the new head.
    New((i64, Hash)),
    /// The very same entry stands there since before.
    Before(i64),
    /// Another entry has the id.
    Taken(i64),
}

/// The row that an entry becomes behind `head`.
fn next_row(head: (i64, Hash), entry: &Entry) -> Row {
    let mut row = Row {
        seq: head.0.saturating_add(1),
        kind: entry.kind.name().to_owned(),
        id: entry.id.clone(),
        at: entry.at,
        principal: entry.principal.clone(),
        body_hash: chain::body_hash(entry.body.as_bytes()),
        previous: head.1,
        hash: ORIGIN,
        body: Body::Missing,
    };
    row.hash = chain::row_hash(&row.previous, row.seq, &row.content());
    row
}

/// A row as the caller knows it.
///
/// # Errors
/// [`LedgerError::Altered`] where it is not as it was written.
fn recorded(row: Row) -> Result<Recorded, LedgerError> {
    let seq = row.seq;
    let altered = |reason: &str| LedgerError::Altered { seq, reason: reason.to_owned() };
    if chain::row_hash(&row.previous, seq, &row.content()) != row.hash {
        return Err(altered("what it says is not what its hash is of"));
    }
    let kind = Kind::of_name(&row.kind).ok_or_else(|| altered("it is of a kind of later"))?;
    let body = match row.body {
        Body::Here(body) if chain::body_hash(&body) == row.body_hash => {
            String::from_utf8(body).map_err(|_| altered("its body is no text"))?
        }
        Body::Erased(by) if by > seq => String::new(),
        _ => return Err(altered("its body is not the one that was recorded")),
    };
    let entry = Entry { kind, id: row.id, at: row.at, principal: row.principal, body };
    Ok(Recorded { seq, entry, hash: row.hash, previous: row.previous })
}

fn row(row: &AnyRow) -> sqlx::Result<Row> {
    let body: Option<Vec<u8>> = row.try_get(8)?;
    Ok(Row {
        seq: row.try_get(0)?,
        kind: row.try_get(1)?,
        id: row.try_get(2)?,
        at: row.try_get(3)?,
        principal: row.try_get(4)?,
        body_hash: bytes(row, 5)?,
        previous: bytes(row, 6)?,
        hash: bytes(row, 7)?,
        body: body.map_or(Body::Missing, Body::Here),
    })
}

fn head(row: &AnyRow) -> sqlx::Result<SignedHead> {
    let (hash, key, signature) = (bytes(row, 2)?, bytes(row, 4)?, bytes(row, 5)?);
    Ok(SignedHead { seq: row.try_get(1)?, hash, at: row.try_get(3)?, key, signature })
}

/// Bytes of a column, of which there must be just so many.
pub(crate) fn bytes<const N: usize>(row: &AnyRow, column: usize) -> sqlx::Result<[u8; N]> {
    let found: &[u8] = row.try_get(column)?;
    found.try_into().map_err(|_| {
        let source = format!("{} bytes or more, expected {N}", found.len()).into();
        sqlx::Error::ColumnDecode { index: column.to_string(), source }
    })
}

/// Why a row is none. An error may quote the value, which can be large.
fn unreadable(error: &sqlx::Error) -> String {
    let told: String = error.to_string().chars().take(200).collect();
    format!("it cannot be read: {told}")
}

/// Whether an error is about what a row says, rather than about the database.
fn is_about_values(error: &sqlx::Error) -> bool {
    use sqlx::Error::{AnyDriverError, ColumnDecode, Decode, TypeNotFound};
    matches!(error, ColumnDecode { .. } | Decode(_) | AnyDriverError(_) | TypeNotFound { .. })
}
