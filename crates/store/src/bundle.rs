//! Models, a lock, settings and cases in one file, for a machine without a network.
//!
//! ```text
//! index.json           what follows: path, size and sha256 of each entry, in order
//! index.json.sig       the signer's signature of it
//! freehold.lock        texts, as far as there are any
//! freehold.toml
//! cases/FILE
//! models/PUBLISHER/NAME/FILE.gguf
//! ```
//!
//! It is a plain tar (POSIX, pax), so that any other program can look in. What is written and read
//! are its bytes one after the other; no part is held in memory but texts. The reader takes what
//! the writer makes and nothing else: each header must be, byte for byte, the one that follows from
//! the index, so a link, a second entry of a name or a path that leads elsewhere cannot be there.

mod archive;
mod export;
mod import;
mod index;

use std::path::PathBuf;

use crate::installed::Installed;
use crate::signature::Trust;

pub use index::{BundleEntry, BundleIndex, BundledModel, Signer as BundleSigner};

/// Where a bundle keeps what is no model.
const LOCK: &str = "freehold.lock";
const CONFIG: &str = "freehold.toml";
const CASES: &str = "cases/";

/// Longest text in a bundle. A lock of a thousand models is as long.
const TEXT_BYTES_MAX: u64 = 4 << 20;

/// All texts of a bundle together, which an import holds in memory before it writes any.
const TEXTS_BYTES_MAX: u64 = 64 << 20;

/// A text that goes along with models.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleFile {
    /// `freehold.lock`, `freehold.toml`, or `cases/FILE`.
    pub path: String,
    /// Its contents.
    pub text: String,
}

/// What goes into a bundle.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// The models.
    pub models: Vec<Installed>,
    /// The texts.
    pub files: Vec<BundleFile>,
    /// What the signer is called.
    pub signer: String,
    /// What was left out and why, for whoever imports it.
    pub left_out: Vec<String>,
}

/// How a bundle is taken in.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Whose signature is believed.
    pub trust: Trust,
    /// Where the texts go.
    pub folder: PathBuf,
}

/// What an import did.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The models that are here now.
    pub models: Vec<Installed>,
    /// The texts that were written, or were here already.
    pub files: Vec<PathBuf>,
    /// What the bundle says.
    pub index: BundleIndex,
}
