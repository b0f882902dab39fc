//! The built-in catalogue: models that were really pulled and verified, with their hashes.

use crate::error::StoreError;
use crate::hash::Sha256;
use crate::installed::Licence;
use crate::source::Source;

/// The models this program knows by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    default: String,
    entries: Vec<Entry>,
}

/// One model of the catalogue.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name to pull it by.
    pub name: String,
    /// Who published it.
    pub publisher: String,
    /// For people.
    pub title: String,
    /// What it was trained to do.
    pub kind: ModelKind,
    /// Where it is fetched.
    pub source: Source,
    /// The file's name in the store.
    pub file: String,
    /// Its length in bytes.
    pub n_bytes: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// How many bytes travel.
    pub download_bytes: u64,
    /// Its licence.
    pub licence: Licence,
    /// True when the licence must be accepted before the first pull.
    pub must_accept: bool,
}

/// What a model was trained to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Answers in a conversation.
    Chat,
    /// Continues text.
    Base,
}

impl Catalogue {
    /// The catalogue built into this program.
    pub fn builtin() -> &'static Self {
        todo!()
    }

    /// The name of the model used when none is named.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// All entries, in the catalogue's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Looks up `name` or `publisher/name`.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`] listing the names that are known.
    pub fn get(&self, name: &str) -> Result<&Entry, StoreError> {
        let _ = name;
        todo!()
    }
}
