//! Keys and projects: who may ask. They are rows beside the chain; each change of them is an entry
//! in it, written in the same transaction.
//!
//! What a key may do is JSON, which this crate does not read.

pub(crate) mod rows;
pub(crate) mod secret;

pub use secret::{KEY_FORM, Secret, id_of};

use serde_json::{Value, json};

use crate::chain::Hash;
use crate::entry::{Entry, Kind};
use crate::hex::hex;
use crate::rows::Rows;
use crate::{LedgerError, now_us};

/// Keys that are not revoked, at most: a server has them all in memory.
pub(crate) const N_KEYS_MAX: i64 = 10_000;
/// Projects at most.
pub(crate) const N_PROJECTS_MAX: i64 = 1000;
/// Longest name of a key, a project or a person: they stand in columns of reports.
pub const NAME_CHARS_MAX: usize = 64;
/// Longest JSON of what a key may do.
pub(crate) const RIGHTS_BYTES_MAX: usize = 64 << 10;

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Ten lower-case letters and digits, which are part of the secret's text too.
    pub id: String,
    /// A name that no other key has which is not revoked; see [`check_plain`].
    pub name: String,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// SHA-256 of the secret before, which is taken too until this time.
    pub before: Option<([u8; 32], i64)>,
    /// The project that it belongs to.
    pub project: Option<String>,
    /// Whose words its requests are.
    pub person: Option<String>,
    /// What it may do: a JSON object.
    pub scopes: String,
    /// What its requests get that do not say: a JSON object.
    pub defaults: String,
    /// When it was made, in microseconds since 1970 (UTC).
    pub created: i64,
    /// When it ends by itself.
    pub expires: Option<i64>,
    /// When it was revoked.
    pub revoked: Option<i64>,
}

/// A group of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// When it was made, in microseconds since 1970 (UTC).
    pub created: i64,
    /// Days for which contents of requests with its keys are kept, where a key does not say.
    pub keep: Option<u32>,
}

/// Who may ask.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster {
    /// Moves with each change.
    pub version: i64,
    /// Whether a key was ever made.
    pub has_had_keys: bool,
    /// The keys, by name.
    pub keys: Vec<Key>,
    /// The projects, by name.
    pub projects: Vec<Project>,
}

/// Which keys are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Those that are not revoked.
    Live,
    /// All that ever were.
    All,
}

/// A change of keys and projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// This key is there.
    CreateKey(Box<Key>),
    /// The key of this id or name is taken no more.
    RevokeKey(String),
    /// The key of this id or name has another secret.
    RotateKey {
        /// The id or the name.
        key: String,
        /// SHA-256 of the new secret.
        hash: [u8; 32],
        /// Until when the secret before is taken too, in microseconds since 1970 (UTC).
        until: i64,
    },
    /// A project of this name is there.
    CreateProject {
        /// Its name.
        name: String,
        /// As [`Project::keep`].
        keep: Option<u32>,
    },
    /// The project of this name, which no key may have, is there no more.
    RemoveProject(String),
}

/// A change as it is handed to the writer.
pub(crate) struct Order {
    /// Of the entry that records it. By it is known that a change whose answer was lost is done.
    id: String,
    at: i64,
    principal: String,
    act: Act,
}

impl Order {
    /// The order of `principal`.
    ///
    /// # Errors
    /// What is out of bounds in it.
    pub(crate) fn new(act: Act, principal: String) -> Result<Self, LedgerError> {
        act.check()?;
        let id = format!("access-{}", hex(&secret::random::<16>()?));
        Ok(Self { id, at: now_us(), principal, act })
    }
}

impl Act {
    fn check(&self) -> Result<(), LedgerError> {
        match self {
            Self::CreateKey(key) => key.check(),
            Self::CreateProject { name, .. } => check_plain("project", name),
            // Whatever is not there is not found.
            Self::RevokeKey(_) | Self::RotateKey { .. } | Self::RemoveProject(_) => Ok(()),
        }
    }
}

impl Key {
    fn check(&self) -> Result<(), LedgerError> {
        let invalid = |what, value: &str, expected| {
            let value = value.chars().take(NAME_CHARS_MAX).collect();
            Err(LedgerError::InvalidEntry { what, value, expected })
        };
        if !secret::is_id(&self.id) {
            return invalid("key id", &self.id, "ten lower-case letters and digits");
        }
        check_plain("key name", &self.name)?;
        self.project.iter().try_for_each(|project| check_plain("project", project))?;
        self.person.iter().try_for_each(|person| check_plain("person", person))?;
        for (what, text) in [("scopes", &self.scopes), ("defaults", &self.defaults)] {
            if text.len() > RIGHTS_BYTES_MAX {
                return invalid(what, text, "at most 64 KiB");
            }
            if !matches!(serde_json::from_str(text), Ok(Value::Object(_))) {
                return invalid(what, text, "a JSON object");
            }
        }
        Ok(())
    }

    /// What is recorded of it: all but hashes.
    fn told(&self) -> Value {
        // Checked to be JSON when it was handed over.
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        json!({
            "id": self.id,
            "name": self.name,
            "project": self.project,
            "person": self.person,
            "scopes": read(&self.scopes),
            "defaults": read(&self.defaults),
            "expires": self.expires,
        })
    }
}

/// Finds what is wrong with a name of a key, a project or a person: they stand in addresses, rules
/// and columns, so they are plain.
///
/// # Errors
/// [`LedgerError::InvalidEntry`].
pub fn check_plain(what: &'static str, name: &str) -> Result<(), LedgerError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-@+".contains(c);
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if begins && name.chars().all(is_plain) && name.len() <= NAME_CHARS_MAX {
        return Ok(());
    }
    let value = name.chars().take(NAME_CHARS_MAX).collect();
    let expected = "1 to 64 letters, digits and . _ - @ +, a letter or digit first";
    Err(LedgerError::InvalidEntry { what, value, expected })
}

/// Makes a change behind `head`, which the entry of it becomes. Inside `Ok`, its row or why it was
/// refused, with nothing changed; an error means that nothing of the transaction counts.
pub(crate) async fn make(
    rows: &mut Rows<'_>,
    head: &mut (i64, Hash),
    order: &Order,
) -> Result<Result<i64, LedgerError>, LedgerError> {
    if let Some(seq) = rows.place_of(Kind::Audit.name(), &order.id).await? {
        return Ok(Ok(seq));
    }
    let told = match perform(rows, order).await? {
        Ok(told) => told,
        Err(refused) => return Ok(Err(refused)),
    };
    rows.move_version().await?;
    let (kind, id, at) = (Kind::Audit, order.id.clone(), order.at);
    let (principal, body) = (order.principal.clone(), told.to_string());
    crate::writer::append(rows, head, &Entry { kind, id, at, principal, body }).await
}

/// Changes the rows, and returns what is recorded of that. All that can be refused is, before
/// anything is changed.
async fn perform(
    rows: &mut Rows<'_>,
    order: &Order,
) -> Result<Result<Value, LedgerError>, LedgerError> {
    match &order.act {
        Act::CreateKey(key) => {
            if let Some(why) = why_not_new(rows, key).await? {
                return Ok(Err(why));
            }
            rows.insert_key(key).await?;
            Ok(Ok(json!({"act": "key.create", "key": key.told()})))
        }
        Act::RevokeKey(name) => {
            let Some(key) = rows.live_key(name).await? else { return Ok(no("key", name)) };
            rows.revoke_key(&key.id, order.at).await?;
            Ok(Ok(json!({"act": "key.revoke", "key": {"id": key.id, "name": key.name}})))
        }
        Act::RotateKey { key: name, hash, until } => {
            let Some(key) = rows.live_key(name).await? else { return Ok(no("key", name)) };
            rows.rotate_key(&key, hash, *until).await?;
            let key = json!({"id": key.id, "name": key.name});
            Ok(Ok(json!({"act": "key.rotate", "key": key, "until": until})))
        }
        Act::CreateProject { name, keep } => {
            let (is_there, n) = rows.project(name).await?;
            if is_there {
                return Ok(refused("project", name, "there is one of this name"));
            }
            if n >= N_PROJECTS_MAX {
                return Ok(refused("project", name, "1000 are there, expected no more"));
            }
            rows.insert_project(name, order.at, *keep).await?;
            Ok(Ok(json!({"act": "project.create", "project": name, "keep": keep})))
        }
        Act::RemoveProject(name) => {
            if !rows.project(name).await?.0 {
                return Ok(no("project", name));
            }
            if rows.n_keys_of(name).await? > 0 {
                let why = "it has keys, expected them to be revoked first";
                return Ok(refused("project", name, why));
            }
            rows.delete_project(name).await?;
            Ok(Ok(json!({"act": "project.remove", "project": name})))
        }
    }
}

/// Why there cannot be such a key.
async fn why_not_new(rows: &mut Rows<'_>, key: &Key) -> Result<Option<LedgerError>, LedgerError> {
    let why = |name: &str, reason| refused::<()>("key", name, reason).err();
    if rows.has_key(&key.id, &key.name).await? {
        return Ok(why(&key.name, "there is one of this name, expected another"));
    }
    if rows.n_live_keys().await? >= N_KEYS_MAX {
        return Ok(why(&key.name, "10000 are not revoked, expected no more"));
    }
    match &key.project {
        Some(project) if !rows.project(project).await?.0 => Ok(no::<()>("project", project).err()),
        _ => Ok(None),
    }
}

fn no<T>(kind: &'static str, name: &str) -> Result<T, LedgerError> {
    let id = name.chars().take(NAME_CHARS_MAX).collect();
    Err(LedgerError::NotFound { kind, id })
}

fn refused<T>(what: &'static str, name: &str, reason: &'static str) -> Result<T, LedgerError> {
    Err(LedgerError::Refused { what, name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, is_good: bool) {
        assert_eq!(check_plain("key name", name).is_ok(), is_good, "{name:?}");
    }

    #[test]
    fn names_are_plain() {
        check("ci", true);
        check("zoe@example.com", true);
        check("2026-11_a.b+c", true);
        check(&"x".repeat(64), true);
        check(&"x".repeat(65), false);
        for bad in ["", "-a", "@a", "a b", "a/b", "a:b", "a*", "ä", "a\n", "a\0", "a\"b"] {
            check(bad, false);
        }
        let told = check_plain("project", "a b").unwrap_err().to_string();
        assert!(told.starts_with("project \"a b\": expected 1 to 64 letters"), "{told}");
    }
}
