//! What an installed model is, as the rest of the program sees it.

use std::path::{Path, PathBuf};

use crate::hash::Sha256;

/// A model that is here, whole: every file was hashed when it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The name it answers to, without the publisher.
    pub name: String,
    /// Who published it; `local` for adopted files.
    pub publisher: String,
    /// Its files; a split model has several, in order. Never empty.
    pub files: Vec<InstalledFile>,
    /// Where it came from, in the syntax of [`crate::Source`].
    pub source: String,
    /// The commit or version it came from; `None` where the source has none.
    pub revision: Option<String>,
    /// Its licence.
    pub licence: Licence,
    /// True when the files lie elsewhere and are not ours: they are never removed.
    pub adopted: bool,
    /// The public key of the publisher whose signature was verified when it came, in one line;
    /// `None` where none was wanted.
    pub signed_by: Option<String>,
    /// The other program whose files they are or were; `None` where they are ours or a person's.
    pub origin: Option<Origin>,
    /// When it was pulled or adopted, as RFC 3339 in UTC.
    pub date: String,
}

impl Installed {
    /// The first (for most models the only) file: what an engine opens.
    pub fn path(&self) -> &Path {
        &self.files[0].path
    }

    /// All files together, in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.n_bytes).sum()
    }

    /// `publisher/name`.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.publisher, self.name)
    }
}

/// Another program that has a model's files too.
///
/// With [`Installed::adopted`] the files are used where that program keeps them; else ours are hard
/// links to them, so that a change of theirs is one of ours, but not their removal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// What the program is called.
    pub owner: String,
    /// Its first file of the model; absolute.
    pub path: PathBuf,
}

/// One file of an installed model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledFile {
    /// Where it is; absolute.
    pub path: PathBuf,
    /// Its length in bytes.
    pub n_bytes: u64,
    /// Its pinned hash.
    pub sha256: Sha256,
}

/// What is known about a model's licence.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licence {
    /// SPDX id or the name its owner gives it; [`Licence::UNKNOWN`] when nobody says.
    pub id: String,
    /// Where its text stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A sentence that its owner asks to be shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<String>,
    /// When it was accepted here (RFC 3339, UTC), for licences that ask for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<String>,
}

impl Licence {
    /// The id of a licence that nobody states.
    pub const UNKNOWN: &'static str = "unknown";

    /// No licence is stated.
    pub fn unknown() -> Self {
        Self { id: Self::UNKNOWN.to_owned(), url: None, notice: None, accepted: None }
    }
}
