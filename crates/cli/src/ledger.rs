//! The ledger of this machine: where it is, and how it is opened.

use std::future::Future;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ledger::{ContentKeys, Kind, Ledger, LedgerError, NodeKey, Reader, Recorded};
use serde_json::Value;
use server::receipts::Receipts;

use crate::commands::serve::Serve;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings::{Flags, Resolved, Settings};

/// What the help says that a ledger is given by.
pub(crate) const PLACE: &str = "PATH|URL|none";
/// The word for no ledger.
pub(crate) const NONE: &str = "none";
/// The files in the data directory: the ledger where nobody says another, and the node's key.
const LEDGER_FILE: &str = "ledger.sqlite";
const KEY_FILE: &str = "node.key";
/// The folder of the keys of contents, there too: away from the ledger where that is elsewhere.
const CONTENT_KEYS: &str = "content-keys";

/// The flag that says where the ledger is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LedgerArgs {
    /// Where the receipts of answers are written down: a file, postgres://USER@HOST/NAME, or
    /// "none"; where it cannot be written, nothing is answered (default: ledger.sqlite in the data
    /// directory)
    #[arg(long, value_name = PLACE)]
    ledger: Option<String>,
}

impl LedgerArgs {
    /// Opens the ledger for the answers of a server, and makes it where there is none; `None` where
    /// there is to be none.
    ///
    /// # Errors
    /// A ledger or a key that cannot be used, with the setting that says where it is.
    pub(crate) async fn open(
        &self,
        context: &Context,
        settings: &Resolved,
    ) -> anyhow::Result<Option<Receipts>> {
        let Some(place) = self.place(context)? else { return Ok(None) };
        let hint = || format!("{} (\"none\": no receipts)", settings.place("ledger"));
        let key = key(context).with_context(hint)?;
        let keys = ContentKeys::open(&content_keys(context)).with_context(hint)?;
        let ledger = Ledger::open_keeping(&place, key.clone(), keys).await.with_context(hint)?;
        Ok(Some(Receipts::new(ledger, key)))
    }

    /// The receipt of the answer `id`, as the ledger has it.
    ///
    /// # Errors
    /// No ledger, no such receipt, or one that was erased.
    pub(crate) fn receipt(&self, context: &Context, id: &str) -> anyhow::Result<String> {
        let not_found = |why: &str| Failure::new(Exit::NotFound, format!("receipt {id:?}: {why}"));
        let found = find(&self.read_place(context, &not_found)?, id)?;
        match found.map(|found| found.entry.body) {
            Some(body) if !body.is_empty() => Ok(body),
            Some(_) => Err(not_found("it was erased").into()),
            None => Err(not_found("not in the ledger").into()),
        }
    }

    /// The body of the request that the answer `id` was to, byte for byte, as the ledger keeps it.
    ///
    /// # Errors
    /// No ledger, no contents of that answer, or such whose key is not here.
    pub(crate) fn asked(&self, context: &Context, id: &str) -> anyhow::Result<Vec<u8>> {
        let expected = "expected the request's body as a file (--request)";
        let not_found = |why: &str| {
            Failure::new(Exit::NotFound, format!("request of {id:?}: {why}, {expected}"))
        };
        let place = self.read_place(context, &not_found)?;
        let keys = ContentKeys::open(&content_keys(context))?;
        let found = wait(async { Ok(Reader::open(&place).await?.content(id, &keys).await) })?;
        let content = match found {
            Ok(content) => content.ok_or_else(|| not_found("its contents are not kept"))?,
            Err(LedgerError::Dark { .. }) => {
                return Err(not_found("its contents are kept, and their key is not here").into());
            }
            Err(error) => return Err(error.into()),
        };
        let body: Value = serde_json::from_str(&content.body).unwrap_or_default();
        let request = body["request"].as_str();
        let request = request.ok_or_else(|| not_found("its contents have no request"))?;
        Ok(request.as_bytes().to_vec())
    }

    /// Where it is, for what reads it.
    fn read_place(
        &self,
        context: &Context,
        not_found: &dyn Fn(&str) -> Failure,
    ) -> anyhow::Result<String> {
        let place = match &self.ledger {
            Some(_) => self.place(context)?,
            None => usual_place(context)?,
        };
        let place = place.ok_or_else(|| not_found("expected a ledger, not none"))?;
        if is_path(&place) && !Path::new(&place).is_file() {
            return Err(not_found(&format!("{place}: there is no ledger here")).into());
        }
        Ok(place)
    }

    /// Whether it is a database that is reached by a connection.
    pub(crate) fn needs_network(&self) -> bool {
        self.ledger.as_deref().is_some_and(is_remote)
    }

    /// Whether there is to be none.
    pub(crate) fn is_none(&self) -> bool {
        self.ledger.as_deref() == Some(NONE)
    }

    /// Where it is; `None` where there is to be none.
    ///
    /// # Errors
    /// A data directory whose path is not UTF-8.
    pub(crate) fn place(&self, context: &Context) -> anyhow::Result<Option<String>> {
        Ok(match self.ledger.as_deref() {
            Some(NONE) => None,
            Some(place) => Some(place.to_owned()),
            None => Some(default_place(context)?),
        })
    }
}

/// Where a server that is started here without flags has its ledger: as the environment says or
/// `freehold.toml`, else in the data directory; `None` where it has none.
///
/// # Errors
/// Settings that such a server would not start with; a data directory whose path is not UTF-8.
pub(crate) fn usual_place(context: &Context) -> anyhow::Result<Option<String>> {
    let settings = Settings::of::<Serve>().resolve(&Flags::default(), &context.home());
    let settings =
        settings.map_err(|problems| Failure::new(Exit::Usage, problems.join("\n       ")))?;
    match settings.text("ledger") {
        Some(place) if place == NONE => Ok(None),
        Some(place) => Ok(Some(place)),
        None => default_place(context).map(Some),
    }
}

/// Where the ledger of a command is that needs one: as `given`, else [as usual](usual_place).
///
/// # Errors
/// There is to be none; as there.
pub(crate) fn needed_place(context: &Context, given: Option<&str>) -> anyhow::Result<String> {
    let place = match given {
        Some(place) => Some(place.to_owned()),
        None => usual_place(context)?,
    };
    let none = || Failure::new(Exit::Usage, "ledger none: expected a ledger (--ledger PATH|URL)");
    Ok(place.filter(|place| place != NONE).ok_or_else(none)?)
}

/// Where the ledger is that nobody says another place of.
///
/// # Errors
/// A data directory whose path is not UTF-8.
fn default_place(context: &Context) -> anyhow::Result<String> {
    let path = context.home().join(LEDGER_FILE);
    let text = path.to_str().with_context(|| format!("{}: not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

/// Waits for what speaks to a database.
pub(crate) fn wait<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("wait for the database")?.block_on(work)
}

/// Whether a place is a database that is reached by a connection.
pub(crate) fn is_remote(place: &str) -> bool {
    place.starts_with("postgres://") || place.starts_with("postgresql://")
}

/// Whether a place is a file, not an address or none.
pub(crate) fn is_path(place: &str) -> bool {
    place != NONE && !place.contains("://") && !place.starts_with("sqlite:")
}

/// Where the key of this node is.
pub(crate) fn key_path(context: &Context) -> PathBuf {
    context.home().join(KEY_FILE)
}

/// Where the keys of contents are.
pub(crate) fn content_keys(context: &Context) -> PathBuf {
    context.home().join(CONTENT_KEYS)
}

/// The day of a time in microseconds since 1970 (UTC), for people.
pub(crate) fn day(at_us: i64) -> String {
    meter::Date::of_us(at_us).to_string()
}

/// The key of this node, made where there is none.
///
/// # Errors
/// One that cannot be used.
pub(crate) fn key(context: &Context) -> anyhow::Result<NodeKey> {
    Ok(NodeKey::load_or_create(&key_path(context))?)
}

/// Ends a ledger that was opened for a server, with all that was written on the disk.
///
/// # Errors
/// Not all of it is there.
pub(crate) async fn close(receipts: Option<&Receipts>) -> anyhow::Result<()> {
    match receipts {
        Some(receipts) => Ok(receipts.close().await?),
        None => Ok(()),
    }
}

fn find(place: &str, id: &str) -> anyhow::Result<Option<Recorded>> {
    wait(async { Ok(Reader::open(place).await?.find(Kind::Receipt, id).await?) })
}

/// The public key of this node, in hexadecimal digits, where it has one.
pub(crate) fn own_node(context: &Context) -> Option<String> {
    let key = NodeKey::load(&key_path(context)).ok().flatten()?;
    Some(key.public().iter().map(|byte| format!("{byte:02x}")).collect())
}
