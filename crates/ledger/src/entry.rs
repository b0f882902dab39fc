//! What is recorded: an entry, and the row that it becomes.

/// What an entry is about. An id is unique within its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// What was asked and answered.
    Receipt,
    /// An act of administration.
    Audit,
    /// The body of another entry was erased; the id is that entry's `KIND:ID`. Only
    /// [`Ledger::erase_body`](crate::Ledger::erase_body) writes these.
    Erasure,
}

impl Kind {
    /// The name in the database, in exports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Audit => "audit",
            Self::Erasure => "erasure",
        }
    }
}

/// Something to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub kind: Kind,
    /// Its name, unique within the kind; at most 256 bytes, without control characters.
    pub id: String,
    /// When it happened, in microseconds since 1970 (UTC).
    pub at: i64,
    /// Who did it; at most 256 bytes, without control characters.
    pub principal: String,
    /// A JSON text of at most 1 MiB.
    pub body: String,
}

/// An entry as it stands in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the chain, from 1 on without gaps.
    pub seq: i64,
    /// The entry. Where its body was erased, that is empty.
    pub entry: Entry,
    /// The hash of this row, which covers all rows before it.
    pub hash: [u8; 32],
    /// The hash of the row before it; zeros for the first.
    pub previous: [u8; 32],
}
