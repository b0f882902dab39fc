//! The ledger: an append-only, hash-chained database with heads that a node signs.
//!
//! It keeps what must not change behind its owner's back: receipts, acts of administration. SQLite
//! in a file by default, PostgreSQL by URL. It knows neither HTTP nor what an entry says.
#![forbid(unsafe_code)]
#![allow(clippy::todo)] // until the next commit

mod entry;
mod error;
mod key;
mod ledger;

pub use entry::{Entry, Kind, Recorded};
pub use error::LedgerError;
pub use key::NodeKey;
pub use ledger::{Bad, Ledger, Verified};
