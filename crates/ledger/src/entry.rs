//! What is recorded: an entry with its bounds, and the row that it becomes.

use serde::de::IgnoredAny;

use crate::LedgerError;

/// Longest id and principal. An id is a name, not a text.
pub(crate) const NAME_BYTES_MAX: usize = 256;

/// Longest body: what is large is recorded by its hash. A body is held whole while it is hashed.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;

/// Characters of a value that an error quotes.
const QUOTED_CHARS: usize = 60;

/// What an entry is about. An id is unique within its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// What was asked and answered.
    Receipt,
    /// An act of administration.
    Audit,
    /// That a request left for another server, before it did; and how that ended.
    Departure,
    /// The body of another entry was erased; the id is that entry's `KIND:ID`. Only
    /// [`Ledger::erase_body`](crate::Ledger::erase_body) writes these.
    Erasure,
}

impl Kind {
    /// Every kind.
    pub const ALL: &[Self] = &[Self::Receipt, Self::Audit, Self::Departure, Self::Erasure];

    /// The name in the database, in exports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Receipt => "receipt",
            Self::Audit => "audit",
            Self::Departure => "departure",
            Self::Erasure => "erasure",
        }
    }

    /// The kind of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// Something to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is about.
    pub kind: Kind,
    /// Its name, unique within the kind; 1 to 256 bytes, without control characters.
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

impl Entry {
    /// Finds what is out of bounds.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        check_name("id", &self.id)?;
        check_name("principal", &self.principal)?;
        let invalid = |what, value: &str, expected| {
            let value = value.chars().take(QUOTED_CHARS).collect();
            Err(LedgerError::InvalidEntry { what, value, expected })
        };
        if self.id.is_empty() {
            return invalid("id", "", "a name of 1 to 256 bytes");
        }
        if self.at < 0 {
            return invalid("time", &self.at.to_string(), "microseconds since 1970");
        }
        if self.body.len() > BODY_BYTES_MAX {
            return invalid("body", &self.body, "at most 1 MiB");
        }
        if serde_json::from_str::<IgnoredAny>(&self.body).is_err() {
            return invalid("body", &self.body, "a JSON text");
        }
        Ok(())
    }

    /// What the entry takes while it waits.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.principal.len() + self.body.len()
    }
}

/// Finds what is out of bounds in an id or a principal.
pub(crate) fn check_name(what: &'static str, value: &str) -> Result<(), LedgerError> {
    let expected = if value.len() > NAME_BYTES_MAX {
        "at most 256 bytes"
    } else if value.chars().any(char::is_control) {
        "no control characters"
    } else {
        return Ok(());
    };
    let value = value.chars().take(QUOTED_CHARS).collect();
    Err(LedgerError::InvalidEntry { what, value, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let (id, principal) = ("a".to_owned(), "owner".to_owned());
        Entry { kind: Kind::Audit, id, at: 1, principal, body: "{}".to_owned() }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Entry), expected: &str) {
        let mut changed = entry();
        change(&mut changed);
        let told = changed.check().expect_err(expected).to_string();
        assert!(told.contains(expected) && told.len() < 400, "{told}");
    }

    #[test]
    fn what_is_out_of_bounds_is_told() {
        entry().check().unwrap();
        check(|entry| entry.id = String::new(), "id \"\": expected a name of 1 to 256 bytes");
        check(|entry| entry.id = "x".repeat(257), "expected at most 256 bytes");
        check(|entry| entry.id = "a\nb".to_owned(), "id \"a\\nb\": expected no control characters");
        check(|entry| entry.principal = "a\0".to_owned(), "expected no control characters");
        check(|entry| entry.at = -1, "time \"-1\": expected microseconds since 1970");
        check(|entry| entry.body = format!("\"{}\"", "x".repeat(1 << 20)), "at most 1 MiB");
        check(|entry| entry.body = "{".to_owned(), "body \"{\": expected a JSON text");
        check(|entry| entry.body = "[".repeat(1 << 20), "expected a JSON text");
    }

    #[test]
    fn kinds_have_names() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of_name(kind.name()), Some(*kind));
        }
        assert_eq!(Kind::of_name("Receipt"), None);
    }
}
