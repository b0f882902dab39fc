//! `freehold key`: who may ask the server, and for what.

mod create;
mod list;
mod revoke;
mod rotate;

use std::time::Duration;

use ledger::{Act, Key, Ledger, Reader, Roster, Which};

use super::Entry;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::{is_path, key as node_key, needed_place, wait};

/// What the group is for.
pub(crate) const ABOUT: &str = "Make, list, rotate and revoke the keys with which clients ask";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<create::Create>("create"),
    Entry::of::<list::List>("list"),
    Entry::of::<rotate::Rotate>("rotate"),
    Entry::of::<revoke::Revoke>("revoke"),
];

/// As whom the ledger has what is done on the command line.
const OWNER: &str = "owner";

/// The ledger that keys are in.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct KeysArgs {
    /// The ledger that the keys are in, as for `freehold serve` (default: the one that its settings
    /// name, else ledger.sqlite in the data directory)
    #[arg(long, value_name = "PATH|URL")]
    ledger: Option<String>,
}

impl KeysArgs {
    /// Where the ledger is.
    ///
    /// # Errors
    /// There is to be none, or settings that cannot be read.
    pub(super) fn place(&self, context: &Context) -> anyhow::Result<String> {
        needed_place(context, self.ledger.as_deref())
    }

    /// Has a change made and recorded.
    ///
    /// # Errors
    /// What cannot be done, or a ledger that cannot be used.
    pub(super) fn act(&self, context: &Context, act: Act) -> anyhow::Result<()> {
        let (place, key) = (self.place(context)?, node_key(context)?);
        wait(async {
            let ledger = Ledger::open(&place, key).await?;
            let done = ledger.act(act, OWNER).await;
            ledger.close().await?;
            done?;
            Ok(())
        })
    }

    /// Who may ask; nobody where there is no ledger yet.
    ///
    /// # Errors
    /// A ledger that cannot be read.
    pub(super) fn roster(&self, context: &Context, which: Which) -> anyhow::Result<Roster> {
        let place = self.place(context)?;
        if is_path(&place) && !std::path::Path::new(&place).is_file() {
            return Ok(Roster::default());
        }
        wait(async { Ok(Reader::open(&place).await?.roster(which).await?) })
    }

    /// The key of this id or name that is not revoked. An id goes first.
    ///
    /// # Errors
    /// There is none.
    fn find(&self, context: &Context, key: &str) -> anyhow::Result<Key> {
        let keys = self.roster(context, Which::Live)?.keys;
        let by_id = keys.iter().find(|of| of.id == key);
        let found = by_id.or_else(|| keys.iter().find(|of| of.name == key)).cloned();
        let missing = || {
            let names: Vec<&str> = keys.iter().map(|of| of.name.as_str()).collect();
            let names =
                if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
            Failure::new(
                Exit::NotFound,
                format!("key {key:?}: expected the name or id of one: {names}"),
            )
        };
        found.ok_or_else(|| missing().into())
    }
}

/// Reads `90s`, `30m`, `12h` or `30d`, which is not nothing.
fn span(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let read = || {
        let (digits, n_seconds) =
            UNITS.iter().find_map(|(unit, n)| Some((text.strip_suffix(unit)?, *n)))?;
        let seconds = digits.parse::<u64>().ok()?.checked_mul(n_seconds)?;
        // A hundred years: what is more was meant otherwise.
        (1..=100 * 366 * 86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
    };
    read().ok_or_else(|| "expected a time such as 12h or 30d".to_owned())
}

/// The time, and a time behind it, in microseconds since 1970.
fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

fn behind(now: i64, span: Duration) -> i64 {
    now.saturating_add(i64::try_from(span.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        assert_eq!(span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(span("30d"), Ok(Duration::from_secs(30 * 86_400)));
        for bad in ["", "d", "0d", "1", "1.5h", "-1h", "99999d", "99999999999999999999d"] {
            assert!(span(bad).is_err(), "{bad}");
        }
        assert_eq!(behind(5, Duration::from_micros(2)), 7);
    }
}
