//! Reading contents: one, or everything that is kept of a person.

use serde_json::{Value, json};
use sqlx::Any;
use sqlx::pool::PoolConnection;

use super::rows::Sealed;
use super::{Content, ContentKeys};
use crate::access::Which;
use crate::chain::Hash;
use crate::rows::Rows;
use crate::usage::{Usage, UsageRow};
use crate::{Kind, LedgerError, Reader, schema};

/// Of the lines of an export.
const FORMAT: u32 = 1;
/// Rows of usage that are read at a time.
const PAGE_USAGE: i64 = 1024;

/// Somebody of whom contents are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: String,
    /// How many contents, and their bytes as they are kept.
    pub n_contents: i64,
    /// See above.
    pub n_bytes: i64,
    /// When the first and the last of them was asked, in microseconds since 1970 (UTC).
    pub first: i64,
    /// See above.
    pub last: i64,
    /// When the last of them is over.
    pub until: i64,
}

/// What was exported of a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Contents that could be read.
    pub n_contents: u64,
    /// Contents that cannot: their key was destroyed, or is another node's.
    pub n_dark: u64,
    /// Receipts of them.
    pub n_receipts: u64,
    /// Rows of usage that name the person.
    pub n_usage: u64,
    /// Keys that do.
    pub n_keys: u64,
}

impl Exported {
    /// Whether nothing of the person was found.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Reader {
    /// The content of this id, if one is kept.
    ///
    /// # Errors
    /// What the database says; [`LedgerError::Dark`] where its key is not among `keys`;
    /// [`LedgerError::ContentKey`] for a key that cannot be read.
    pub async fn content(
        &self,
        id: &str,
        keys: &ContentKeys,
    ) -> Result<Option<Content>, LedgerError> {
        // No content has such an id, and PostgreSQL fails on some.
        if id.contains('\0') {
            return Ok(None);
        }
        let Some(mut connection) = self.contents_connection().await? else { return Ok(None) };
        let mut rows = Rows { place: &self.place, connection: &mut connection };
        match rows.content(id).await? {
            Some(sealed) => match open(sealed, keys)? {
                Ok(content) => Ok(Some(content)),
                Err(dark) => Err(LedgerError::Dark { id: dark.id }),
            },
            None => Ok(None),
        }
    }

    /// Who has contents, by name.
    ///
    /// # Errors
    /// What the database says.
    pub async fn persons(&self) -> Result<Vec<Person>, LedgerError> {
        let Some(mut connection) = self.contents_connection().await? else {
            return Ok(Vec::new());
        };
        Rows { place: &self.place, connection: &mut connection }.persons().await
    }

    /// Writes everything that is kept of a person as JSON lines: the name (`person`), the keys that
    /// have it (`key`), each content in the order of their times (`content`, or `dark` where its
    /// key is not among `keys`), each row of usage (`usage`), receipts behind what they are of
    /// (`receipt`), and the counts (`end`), so that a file that was cut is noticed. `write` is
    /// handed line by line.
    ///
    /// # Errors
    /// What keeps it from reading; what `write` returns.
    pub async fn export_person<E: From<LedgerError>>(
        &self,
        person: &str,
        keys: &ContentKeys,
        mut write: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<Exported, E> {
        let mut exported = Exported::default();
        let mut line = |value: Value| write(&value.to_string());
        line(json!({"person": {"name": person, "format": FORMAT}}))?;
        for key in self.roster(Which::All).await?.keys {
            if key.person.as_deref() == Some(person) {
                exported.n_keys += 1;
                line(json!({"key": {
                    "id": key.id, "name": key.name, "project": key.project,
                    "created": key.created, "expires": key.expires, "revoked": key.revoked,
                }}))?;
            }
        }
        if let Some(mut connection) = self.contents_connection().await? {
            let mut rows = Rows { place: &self.place, connection: &mut connection };
            let mut after = (i64::MIN, String::new());
            loop {
                let page = rows.contents_of(person, (after.0, &after.1)).await?;
                let Some(last) = page.last() else { break };
                after = (last.content.at, last.content.id.clone());
                for sealed in page {
                    let id = sealed.content.id.clone();
                    match open(sealed, keys)? {
                        Ok(content) => {
                            exported.n_contents += 1;
                            line(content_line(&content))?;
                        }
                        Err(Content { id, at, until, .. }) => {
                            exported.n_dark += 1;
                            line(json!({"dark": {"id": id, "at": at, "until": until}}))?;
                        }
                    }
                    exported.n_receipts += receipt(&mut rows, &id, &mut line).await?;
                }
            }
            let mut after = i64::MIN;
            loop {
                let page = rows.usage_of_person(person, i64::MAX, (after, PAGE_USAGE)).await?;
                let Some(last) = page.last() else { break };
                after = last.seq;
                for UsageRow { usage, .. } in page {
                    exported.n_usage += 1;
                    line(usage_line(&usage))?;
                    // Behind a content it was told before.
                    if !rows.has_content(&usage.receipt).await? {
                        exported.n_receipts +=
                            receipt(&mut rows, &usage.receipt, &mut line).await?;
                    }
                }
            }
        }
        let Exported { n_contents, n_dark, n_receipts, n_usage, n_keys } = exported;
        line(json!({"end": {
            "contents": n_contents, "dark": n_dark, "receipts": n_receipts, "usage": n_usage,
            "keys": n_keys,
        }}))?;
        Ok(exported)
    }

    pub(super) async fn erasing(&self) -> Result<Vec<(String, i64, String)>, LedgerError> {
        let Some(mut connection) = self.contents_connection().await? else {
            return Ok(Vec::new());
        };
        Rows { place: &self.place, connection: &mut connection }.erasing().await
    }

    pub(super) async fn doomed_keys(&self, node: &Hash) -> Result<Vec<String>, LedgerError> {
        let Some(mut connection) = self.contents_connection().await? else {
            return Ok(Vec::new());
        };
        Rows { place: &self.place, connection: &mut connection }.doomed_keys(node).await
    }

    pub(super) async fn n_doomed_elsewhere(
        &self,
        person: &str,
        node: &Hash,
    ) -> Result<i64, LedgerError> {
        let Some(mut connection) = self.contents_connection().await? else { return Ok(0) };
        let mut rows = Rows { place: &self.place, connection: &mut connection };
        rows.n_doomed_elsewhere(person, node).await
    }

    /// A connection to a ledger that has contents; `None` for one of before there were any.
    async fn contents_connection(&self) -> Result<Option<PoolConnection<Any>>, LedgerError> {
        let connection = self.pool.acquire().await;
        let mut connection = connection.map_err(|error| self.place.error(&error))?;
        let newest = schema::ALL.last().map_or(0, |last| last.version);
        let version = schema::version(&self.place, &mut connection, newest).await?;
        Ok((version >= schema::WITH_CONTENTS).then_some(connection))
    }
}

/// Opens what was sealed. Inside `Ok`, what is known of it where it cannot be opened.
fn open(
    Sealed { content, key, sealed }: Sealed,
    keys: &ContentKeys,
) -> Result<Result<Content, Content>, LedgerError> {
    let key = keys.get(&key)?;
    let opened = key.and_then(|key| key.open(content.clone(), &sealed));
    Ok(opened.ok_or(content))
}

/// Tells the receipt of this id, if there is one, and returns how many that was.
async fn receipt<E: From<LedgerError>>(
    rows: &mut Rows<'_>,
    id: &str,
    line: &mut impl FnMut(Value) -> Result<(), E>,
) -> Result<u64, E> {
    let Some(receipt) = rows.find(Kind::Receipt.name(), id).await? else { return Ok(0) };
    line(json!({"receipt": json_of(&receipt.entry.body)}))?;
    Ok(1)
}

fn usage_line(usage: &Usage) -> Value {
    json!({"usage": {
        "id": usage.id, "at": usage.at_us, "key": usage.key, "project": usage.project,
        "alias": usage.alias, "model": usage.model, "route": usage.route, "label": usage.label,
        "upstream": usage.upstream, "n_prompt": usage.n_prompt, "n_cached": usage.n_cached,
        "n_answer": usage.n_answer, "queue_us": usage.queue_us, "first_us": usage.first_us,
        "total_us": usage.total_us, "outcome": usage.outcome, "money_micro": usage.money_micro,
        "energy_mj": usage.energy_mj, "energy_source": usage.energy_source,
        "receipt": usage.receipt,
    }})
}

fn content_line(content: &Content) -> Value {
    let Content { id, at, until, body, .. } = content;
    json!({"content": {"id": id, "at": at, "until": until, "body": json_of(body)}})
}

/// JSON as it was checked to be when it was handed over; empty where a receipt was erased.
fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
