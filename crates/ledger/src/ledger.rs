//! The ledger itself: open, append, find, verify.

use crate::{Entry, Kind, LedgerError, NodeKey, Recorded};

/// A cheap handle to an open ledger; all clones share one writer.
#[derive(Debug, Clone)]
pub struct Ledger;

/// What [`Ledger::verify`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Rows that were read.
    pub n_rows: i64,
    /// Place and hash of the last row; `None` in an empty ledger.
    pub head: Option<(i64, [u8; 32])>,
    /// The first row that is not as it was written.
    pub first_bad: Option<Bad>,
}

/// A row that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// Its place in the chain.
    pub seq: i64,
    /// What is wrong with it.
    pub reason: String,
}

impl Ledger {
    /// Opens the ledger at `url`: a path, `sqlite:PATH` or `postgres://…`. Makes it where there is
    /// none. Needs a tokio runtime, on which the writer runs.
    ///
    /// # Errors
    /// A place that cannot be opened, that is no ledger, or is one of a newer version.
    pub async fn open(_url: &str, _key: NodeKey) -> Result<Self, LedgerError> {
        todo!()
    }

    /// Hands an entry to the writer; never waits.
    ///
    /// # Errors
    /// An entry out of bounds, a full queue, or a writer that cannot write.
    pub fn append(&self, _entry: Entry) -> Result<(), LedgerError> {
        todo!()
    }

    /// Appends, and returns the place in the chain when that is on disk.
    ///
    /// # Errors
    /// As [`append`](Self::append); an id that is taken; what the database says.
    pub async fn append_durable(&self, _entry: Entry) -> Result<i64, LedgerError> {
        todo!()
    }

    /// Waits until all that was handed to the writer before is on disk.
    ///
    /// # Errors
    /// A writer that cannot write.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        todo!()
    }

    /// Writes what is queued, signs the head, and ends the writer.
    ///
    /// # Errors
    /// A writer that cannot write.
    pub async fn close(&self) -> Result<(), LedgerError> {
        todo!()
    }

    /// The entry of this id, if there is one.
    ///
    /// # Errors
    /// What the database says; a row that is malformed.
    pub async fn find(&self, _kind: Kind, _id: &str) -> Result<Option<Recorded>, LedgerError> {
        todo!()
    }

    /// Erases the body of an entry and records that; the chain stays valid, as it holds only the
    /// body's hash. Returns the place of the record.
    ///
    /// # Errors
    /// No such entry; as [`append_durable`](Self::append_durable).
    pub async fn erase_body(
        &self,
        _kind: Kind,
        _id: &str,
        _principal: &str,
    ) -> Result<i64, LedgerError> {
        todo!()
    }

    /// Reads the whole chain and all signed heads.
    ///
    /// # Errors
    /// Only what keeps it from reading; what is wrong with the chain is in [`Verified`].
    pub async fn verify(&self) -> Result<Verified, LedgerError> {
        todo!()
    }

    /// Whether entries are taken: false when the last write failed, or the queue is full.
    pub fn is_healthy(&self) -> bool {
        todo!()
    }
}
