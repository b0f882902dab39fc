//! Everything that can go wrong in the ledger, in words a person can act on.

use std::io;
use std::path::Path;

/// What went wrong, where, with what value, and what was expected. It is told to all who wait for
/// the same write, so it can be copied.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A place that could not be understood.
    #[error("ledger {value:?}: {expected}")]
    InvalidPlace {
        /// The text given, without what may be secret in it.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// An entry out of bounds.
    #[error("{what} {value:?}: expected {expected}")]
    InvalidEntry {
        /// The part of the entry.
        what: &'static str,
        /// Its value, or the beginning of it.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Another entry of this kind has the id.
    #[error("row {seq} of the ledger is another {kind} of the id {id:?}")]
    Taken {
        /// The kind.
        kind: &'static str,
        /// The id.
        id: String,
        /// Where the other one stands.
        seq: i64,
    },
    /// There is no such entry.
    #[error("the ledger has no {kind} of the id {id:?}")]
    NotFound {
        /// The kind.
        kind: &'static str,
        /// The id.
        id: String,
    },
    /// What was asked for cannot be, beside what there is.
    #[error("{what} {name:?}: {reason}")]
    Refused {
        /// A key or a project.
        what: &'static str,
        /// Its name.
        name: String,
        /// Why not, and what was expected.
        reason: &'static str,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    NoRandom,
    /// More waits for the writer than may.
    #[error("the ledger's queue is full: {n_entries} entries of {n_bytes} bytes wait for the disk")]
    QueueFull {
        /// How many entries wait.
        n_entries: usize,
        /// Their bytes.
        n_bytes: usize,
    },
    /// The writer has ended, or what it tried to write could not be written.
    #[error("the ledger takes no entries: {reason}")]
    Unwritable {
        /// Why.
        reason: String,
    },
    /// There is no ledger.
    #[error("{place}: there is no ledger here")]
    Missing {
        /// Where it was looked for.
        place: String,
    },
    /// Something else than a ledger is there.
    #[error("{place}: {found}, expected a ledger")]
    NotALedger {
        /// The place.
        place: String,
        /// What is there.
        found: String,
    },
    /// A newer program has written this ledger.
    #[error("{place}: a ledger of format {found}, this program knows up to {known}")]
    TooNew {
        /// The place.
        place: String,
        /// The format that was found.
        found: i64,
        /// The newest format that is known.
        known: i64,
    },
    /// The ledger is not as it was written.
    #[error("row {seq} of the ledger: {reason}")]
    Altered {
        /// The row.
        seq: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// No room is left where the ledger is.
    #[error("{place}: no space is left for the ledger")]
    Full {
        /// The place.
        place: String,
    },
    /// The ledger may be read only.
    #[error("{place}: the ledger can be read, and not written: {reason}")]
    ReadOnly {
        /// The place.
        place: String,
        /// What the database says.
        reason: String,
    },
    /// Another process held the ledger for longer than we wait.
    #[error("{place}: the ledger is locked by another process")]
    Locked {
        /// The place.
        place: String,
    },
    /// The database cannot make sense of its own file.
    #[error("{place}: the ledger's file is damaged: {reason}")]
    Corrupt {
        /// The place.
        place: String,
        /// What the database says.
        reason: String,
    },
    /// The database could not be reached.
    #[error("{place}: the database cannot be reached: {reason}")]
    Unreachable {
        /// The place.
        place: String,
        /// Why.
        reason: String,
    },
    /// What else the database says.
    #[error("{place}: {reason}")]
    Database {
        /// The place.
        place: String,
        /// What it says.
        reason: String,
    },
    /// A key that cannot be used.
    #[error("node key {path}: {reason}")]
    Key {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key of contents, or the folder of them, that cannot be used.
    #[error("content key {path}: {reason}")]
    ContentKey {
        /// The file or folder.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The ledger was opened without keys of contents.
    #[error("no contents are kept: the ledger was opened without a folder of content keys")]
    NotKept,
    /// A content whose key was destroyed, or is another node's.
    #[error("the content {id:?} cannot be read: its key is not here")]
    Dark {
        /// The id.
        id: String,
    },
    /// A line of an export that cannot be understood.
    #[error("line {line} of the export: {reason}")]
    Export {
        /// The line, from 1 on.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A file or folder.
    #[error("{path}: {doing}: {reason}")]
    Io {
        /// The file.
        path: String,
        /// What was being done.
        doing: &'static str,
        /// What the system says.
        reason: String,
    },
}

impl LedgerError {
    pub(crate) fn io(path: &Path, doing: &'static str, error: &io::Error) -> Self {
        let place = path.display().to_string();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { place },
            _ => Self::Io { path: place, doing, reason: error.to_string() },
        }
    }

    /// What a database says, of the ledger at `place`.
    pub(crate) fn database(place: &str, error: &sqlx::Error) -> Self {
        let place = place.to_owned();
        let reason = error.to_string();
        match error {
            sqlx::Error::Database(told) => {
                let code = told.code().unwrap_or_default();
                of_code(place, &code, told.message().to_owned())
            }
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolTimedOut => {
                Self::Unreachable { place, reason }
            }
            _ => Self::Database { place, reason },
        }
    }
}

/// SQLite's codes are numbers (<https://sqlite.org/rescode.html>), the low byte says the kind;
/// PostgreSQL's have five letters and digits (its manual, appendix A).
fn of_code(place: String, code: &str, reason: String) -> LedgerError {
    let sqlite = if code.len() < 5 { code.parse::<u32>().ok() } else { None };
    match (sqlite.map(|code| code & 0xff), code) {
        (Some(13), _) | (_, "53100") => LedgerError::Full { place },
        (Some(8), _) | (_, "25006" | "42501") => LedgerError::ReadOnly { place, reason },
        (Some(5 | 6), _) | (_, "55P03") => LedgerError::Locked { place },
        (Some(11), _) | (_, "XX001" | "XX002") => LedgerError::Corrupt { place, reason },
        (Some(26), _) => LedgerError::NotALedger { place, found: "not a SQLite file".to_owned() },
        (_, code) if ["08", "28", "57P"].iter().any(|class| code.starts_with(class)) => {
            LedgerError::Unreachable { place, reason }
        }
        _ => LedgerError::Database { place, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_databases_are_told_apart() {
        let told = |code| of_code("place".to_owned(), code, "told".to_owned()).to_string();
        for code in ["13", "53100"] {
            assert!(told(code).contains("no space"), "{code}");
        }
        // 1032 is SQLITE_READONLY_DBMOVED: the low byte is that of SQLITE_READONLY.
        for code in ["8", "1032", "25006"] {
            assert!(told(code).contains("not written: told"), "{code}");
        }
        for code in ["5", "517", "55P03"] {
            assert!(told(code).contains("locked"), "{code}");
        }
        assert!(told("11").contains("damaged") && told("26").contains("not a SQLite file"));
        for code in ["28P01", "08006", "57P01"] {
            assert!(told(code).contains("cannot be reached"), "{code}");
        }
        assert_eq!(told("1"), "place: told");
    }
}
