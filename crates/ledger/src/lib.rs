//! The ledger: an append-only, hash-chained database with heads that a node signs.
//!
//! It keeps what must not change behind its owner's back: receipts, acts of administration; and
//! beside the chain, who may ask: keys and projects; the accounts: limits, what requests may take
//! of them, what they took; and sealed contents where they are kept. SQLite in a file by default,
//! PostgreSQL by URL. It knows neither HTTP nor what an entry or a content says, nor what a key may
//! do.
//!
//! ```
//! use freehold_ledger::{Entry, Kind, Ledger, NodeKey};
//!
//! # async fn example(home: &std::path::Path) -> Result<(), freehold_ledger::LedgerError> {
//! let key = NodeKey::load_or_create(&home.join("node.key"))?;
//! let ledger = Ledger::open("sqlite:ledger.sqlite", key).await?;
//! ledger.append(Entry {
//!     kind: Kind::Audit,
//!     id: "reload-1".to_owned(),
//!     at: 1_795_694_400_000_000,
//!     principal: "owner".to_owned(),
//!     body: r#"{"act":"reload"}"#.to_owned(),
//! })?;
//! ledger.close().await?;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod access;
mod account_rows;
mod accounts;
mod books;
mod chain;
mod contents;
mod disk;
mod entry;
mod error;
mod export;
mod hex;
mod key;
mod ledger;
mod limit;
mod place;
mod reader;
mod rows;
mod schema;
mod turn;
mod usage;
mod usage_reader;
mod work;
mod writer;

use std::time::{SystemTime, UNIX_EPOCH};

pub use access::{
    Act, KEY_FORM, Key, NAME_CHARS_MAX, Project, Roster, Secret, Which, check_plain, id_of,
};
pub use accounts::{Reservation, Reserved};
pub use books::Standing;
pub use chain::{Bad, SignedHead, Verified};
pub use contents::{Content, ContentKeys, Erased, Exported, Person};
pub use entry::{Entry, Kind, Recorded};
pub use error::LedgerError;
pub use export::{check_export, read_heads};
pub use hex::{from_hex, hex};
pub use key::NodeKey;
pub use ledger::Ledger;
pub use limit::{LIMITS_MAX, Limit, Per, Then, What};
pub use reader::Reader;
pub use usage::{Usage, UsageBy, UsageQuery, UsageRow, UsageSum, UsageTimes};

/// The time, in microseconds since 1970 (UTC).
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
