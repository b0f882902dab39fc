//! What was asked and answered, of those whose key says that it is kept: sealed with a key of the
//! person's, beside the chain, until its time is over.
//!
//! Keys are files that the database never has. Who is erased has their keys destroyed and their
//! rows deleted, and the chain has a record of that; a copy of the database of before says nothing
//! any more. Each node has keys of its own: where several write to one ledger, each destroys its
//! own when it finds them marked, within seconds where it runs. A key is in use for a month only,
//! and is destroyed when the last of what it sealed is gone, so that what is over its time is dark
//! in old copies too.

mod read;
mod rows;
mod seal;
mod tend;

pub use read::{Exported, Person};
pub use seal::ContentKeys;
pub use tend::Erased;
pub(crate) use tend::{erase, resume, tend};

use std::sync::Arc;

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::access::check_plain;
use crate::access::secret::random;
use crate::chain::Hash;
use crate::entry::{Entry, Kind, check_name};
use crate::hex::hex;
use crate::rows::Rows;
use crate::work::Erase;
use crate::writer::append;
use crate::{LedgerError, now_us};

/// Longest body: it is held whole while it waits, is sealed and is read back.
pub(crate) const CONTENT_BYTES_MAX: usize = 8 << 20;

const DAY_US: i64 = 86_400_000_000;
/// How long a key seals, and how old it is at least when it is destroyed because nothing is left:
/// a day more, for clocks that differ.
const KEY_US: i64 = 30 * DAY_US;
const KEY_US_MAX: i64 = 31 * DAY_US;

/// Rows that one transaction forgets. Each may be an entry of the chain too.
const PAGE_ROWS: i64 = 128;

/// What was asked and answered once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The id of the answer, and of its receipt; 1 to 256 bytes, without control characters.
    pub id: String,
    /// Whose words they are; see [`check_plain`].
    pub person: String,
    /// When it was asked, in microseconds since 1970 (UTC).
    pub at: i64,
    /// Until when it is kept.
    pub until: i64,
    /// A JSON text of at most 8 MiB.
    pub body: String,
}

impl Content {
    /// Finds what is out of bounds.
    pub(crate) fn check(&self) -> Result<(), LedgerError> {
        check_name("id", &self.id)?;
        check_plain("person", &self.person)?;
        let invalid = |what, value: &str, expected| {
            let value = value.chars().take(60).collect();
            Err(LedgerError::InvalidEntry { what, value, expected })
        };
        if self.id.is_empty() {
            return invalid("id", "", "a name of 1 to 256 bytes");
        }
        if self.at < 0 || self.until < self.at {
            let times = format!("{} to {}", self.at, self.until);
            return invalid("time", &times, "microseconds since 1970, the later one behind");
        }
        if self.body.len() > CONTENT_BYTES_MAX {
            return invalid("content", &self.body, "at most 8 MiB");
        }
        if serde_json::from_str::<IgnoredAny>(&self.body).is_err() {
            return invalid("content", &self.body, "a JSON text");
        }
        Ok(())
    }

    /// What it takes while it waits.
    pub(crate) fn n_bytes(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.person.len() + self.body.len()
    }
}

/// Who seals: this node, with these keys.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    pub(crate) keys: ContentKeys,
    pub(crate) node: Hash,
}

/// Something to be done to contents, as it is handed to the writer.
pub(crate) struct Task {
    /// Of the entry that records it. By it is known that a task whose answer was lost is done.
    id: String,
    pub(crate) at: i64,
    principal: String,
    step: Step,
}

/// What is to be done. All but the first may be done twice.
pub(crate) enum Step {
    /// Records that a person is erased, and marks the keys of all nodes.
    Begin(String),
    /// Forgets a page of what an erased person had by then. Comes to how much that was.
    Forget { person: String, until: i64 },
    /// Nothing of it is left.
    End { person: String, until: i64 },
    /// The file of this key is there no more.
    Destroyed(String),
    /// Deletes a page of what is over its time. Comes to how much that was.
    Expire,
    /// Marks old keys of this node for which nothing is left.
    Retire(Hash),
}

impl Task {
    pub(crate) fn new(step: Step, principal: &str) -> Result<Self, LedgerError> {
        let id = format!("contents-{}", hex(&random::<16>()?));
        Ok(Self { id, at: now_us(), principal: principal.to_owned(), step })
    }

    /// Whether rows go, of which a log may still have something.
    pub(crate) fn deletes(&self) -> bool {
        matches!(self.step, Step::Forget { .. } | Step::Expire)
    }

    fn record(&self, body: &Value) -> Entry {
        let (id, principal) = (self.id.clone(), self.principal.clone());
        Entry { kind: Kind::Audit, id, at: self.at, principal, body: body.to_string() }
    }
}

/// Seals a content and writes it down. Inside `Ok`, why it is not kept; an error means that
/// nothing of the transaction counts.
pub(crate) async fn keep(
    rows: &mut Rows<'_>,
    keeper: &Arc<Keeper>,
    content: &Content,
) -> Result<Result<(), LedgerError>, LedgerError> {
    let now = now_us();
    let found = rows.content_key(&content.person, &keeper.node, now - KEY_US).await?;
    // Files and a cipher over megabytes would hold up whatever else runs on this thread.
    let (own, plain, name) = (Arc::clone(keeper), content.clone(), found.clone());
    let sealing = tokio::task::spawn_blocking(move || seal(&own.keys, name, &plain)).await;
    let sealing = sealing.map_err(|_| {
        let reason = "what seals contents has ended".to_owned();
        LedgerError::Unwritable { reason }
    })?;
    let Sealed { key, bytes } = match sealing {
        Ok(sealed) => sealed,
        Err(error) => return Ok(Err(error)),
    };
    if found.as_ref() != Some(&key) {
        // Whoever removed its file wanted it dark.
        if let Some(gone) = &found {
            rows.delete_content_key(gone).await?;
        }
        rows.insert_content_key(&key, &content.person, &keeper.node, now).await?;
    }
    rows.insert_content(content, &key, &bytes).await.map(Ok)
}

/// A content that was sealed.
struct Sealed {
    /// The name of the key that did it.
    key: String,
    bytes: Vec<u8>,
}

/// Seals with the key `name`, or with a new one where there is none of that name any more.
fn seal(
    keys: &ContentKeys,
    name: Option<String>,
    content: &Content,
) -> Result<Sealed, LedgerError> {
    let known = match name {
        Some(name) => keys.get(&name)?.map(|key| (name, key)),
        None => None,
    };
    let (name, key) = known.map_or_else(|| keys.make(), Ok)?;
    Ok(Sealed { key: name, bytes: key.seal(content)? })
}

/// Does one task behind `head`. Inside `Ok`, what it came to or why it was refused; an error means
/// that nothing of the transaction counts.
pub(crate) async fn perform(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    task: &Task,
) -> Result<Result<i64, LedgerError>, LedgerError> {
    // Whose answer was lost: whoever asks again is told that there was something.
    if let Some(seq) = rows.place_of(Kind::Audit.name(), &task.id).await? {
        return Ok(Ok(seq));
    }
    match &task.step {
        Step::Begin(person) => begin(rows, head, task, person).await,
        Step::Forget { person, until } => forget(rows, head, task, (person, *until)).await.map(Ok),
        Step::End { person, until } => rows.end_erasing(person, *until).await.map(|()| Ok(0)),
        Step::Destroyed(name) => {
            if rows.delete_content_key(name).await? == 0 {
                return Ok(Ok(0));
            }
            let body = json!({"act": "content-key.destroy", "key": name});
            append(rows, head, &task.record(&body)).await
        }
        Step::Expire => {
            let n = rows.delete_expired(task.at).await?;
            if n > 0 {
                let body = json!({"act": "contents.expire", "contents": n});
                if let Err(refused) = append(rows, head, &task.record(&body)).await? {
                    return Ok(Err(refused));
                }
            }
            Ok(Ok(n))
        }
        Step::Retire(node) => {
            rows.retire_content_keys(node, task.at - KEY_US_MAX, task.at).await.map(|()| Ok(0))
        }
    }
}

async fn begin(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    task: &Task,
    person: &str,
) -> Result<Result<i64, LedgerError>, LedgerError> {
    let n_contents = rows.n_contents_of(person).await?;
    let n_usage = rows.n_usage_of(person).await?;
    let n_keys = rows.mark_content_keys(person, task.at).await?;
    if n_contents == 0 && n_usage == 0 && n_keys == 0 {
        let id = person.to_owned();
        return Ok(Err(LedgerError::NotFound { kind: "person", id }));
    }
    rows.begin_erasing(person, task.at, &task.principal).await?;
    let body = json!({
        "act": "person.erase",
        "person": person,
        "contents": n_contents,
        "usage": n_usage,
        "content_keys": n_keys,
    });
    append(rows, head, &task.record(&body)).await
}

/// Forgets what is sealed with keys that are not in use any more, the name in rows of usage, and
/// what receipts of both say: who has one and guesses the words could see by its hashes whether the
/// guess is right.
async fn forget(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    task: &Task,
    (person, until): (&str, i64),
) -> Result<i64, LedgerError> {
    let mut n = 0;
    for id in rows.dark_contents_of(person, PAGE_ROWS).await? {
        rows.delete_content(&id).await?;
        forget_receipt(rows, head, task, id).await?;
        n += 1;
    }
    // What was asked since the erasure began is of afterwards.
    for row in rows.usage_of_person(person, until, (i64::MIN, PAGE_ROWS)).await? {
        rows.forget_person_of(row.seq).await?;
        forget_receipt(rows, head, task, row.usage.receipt).await?;
        n += 1;
    }
    Ok(n)
}

/// Erases what a receipt says; one that is not there says nothing.
async fn forget_receipt(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    task: &Task,
    id: String,
) -> Result<(), LedgerError> {
    let erase = Erase { kind: Kind::Receipt, id, principal: task.principal.clone() };
    crate::writer::erase(rows, head, &erase).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_is_told() {
        let content = Content {
            id: "a".to_owned(),
            person: "zoe".to_owned(),
            at: 1,
            until: 1,
            body: "{}".to_owned(),
        };
        content.check().unwrap();
        let check = |changed: Content, expected: &str| {
            let told = changed.check().unwrap_err().to_string();
            assert!(told.contains(expected) && told.len() < 400, "{told}");
        };
        check(Content { id: String::new(), ..content.clone() }, "id \"\": expected a name");
        check(Content { id: "a\n".to_owned(), ..content.clone() }, "no control characters");
        check(Content { person: "a b".to_owned(), ..content.clone() }, "person \"a b\": expected");
        check(Content { until: 0, ..content.clone() }, "time \"1 to 0\": expected");
        check(Content { at: -1, ..content.clone() }, "time \"-1 to 1\": expected");
        check(Content { body: "{".to_owned(), ..content.clone() }, "expected a JSON text");
        let large = format!("\"{}\"", "x".repeat(CONTENT_BYTES_MAX));
        check(Content { body: large, ..content }, "expected at most 8 MiB");
    }
}
