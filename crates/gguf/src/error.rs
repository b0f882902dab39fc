//! The one error of this crate. Each message names the place, the value and what was expected.
//!
//! A name inside a file is hostile text of up to 64 KiB, so messages quote names escaped and cut.

use std::fmt;
use std::path::{Path, PathBuf};

/// Why a GGUF file could not be read, asked or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system refused to open, map or write a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: "open", "map" or "write".
        action: &'static str,
        /// What the system answered.
        source: std::io::Error,
    },
    /// Something inside the file breaks the format, or a named bound of this reader.
    #[error("{}{place}: {problem}", Prefix(file))]
    Malformed {
        /// The file, where the bytes came from one.
        file: Option<PathBuf>,
        /// The structure that is wrong, as `tensor "blk.0.attn_q.weight"`.
        place: String,
        /// What was found and what was expected.
        problem: String,
    },
    /// A tensor is stored in a format this crate has no block size for.
    #[error("{}tensor {}: unknown tensor type {id}, expected one that ggml defines, of 0 to {max}",
        Prefix(file), Quoted(tensor), max = crate::TensorType::MAX_ID)]
    UnknownTensorType {
        /// The file, where the bytes came from one.
        file: Option<PathBuf>,
        /// The tensor.
        tensor: String,
        /// The type id in the file.
        id: u32,
    },
    /// A key that the caller requires is not in the file.
    #[error("metadata key {}: absent, expected {expected}", Quoted(key))]
    MissingKey {
        /// The key.
        key: String,
        /// The type that was asked for.
        expected: &'static str,
    },
    /// A key holds another type, or a number that does not fit the type asked for.
    #[error("metadata key {}: found {found}, expected {expected}", Quoted(key))]
    WrongType {
        /// The key.
        key: String,
        /// Type (and value, for a number that does not fit) in the file.
        found: String,
        /// The type that was asked for.
        expected: &'static str,
    },
    /// The output did not take the bytes of a file.
    #[error("cannot write: {source}")]
    Write {
        /// What the output answered.
        source: std::io::Error,
    },
    /// The writer was given something that no valid file can hold.
    #[error("{place}: {problem}")]
    Unwritable {
        /// The key or tensor.
        place: String,
        /// What was given and what was expected.
        problem: String,
    },
}

impl Error {
    /// A [`Error::Malformed`] that does not know its file yet.
    pub(crate) fn malformed(place: impl fmt::Display, problem: impl fmt::Display) -> Self {
        Self::Malformed { file: None, place: place.to_string(), problem: problem.to_string() }
    }

    /// The same error, naming the file where the variant has room for it.
    pub(crate) fn in_file(mut self, path: &Path) -> Self {
        if let Self::Malformed { file, .. } | Self::UnknownTensorType { file, .. } = &mut self {
            file.get_or_insert_with(|| path.to_owned());
        }
        self
    }
}

/// Shows the file that a message begins with, where there is one.
struct Prefix<'a>(&'a Option<PathBuf>);

impl fmt::Display for Prefix<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(path) => write!(f, "{}: ", path.display()),
            None => Ok(()),
        }
    }
}

/// Shows hostile text in quotes: escaped, and cut after [`Quoted::MAX_CHARS`].
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl Quoted<'_> {
    /// Long enough for each real name, short enough for one line of a terminal.
    const MAX_CHARS: usize = 80;
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(Self::MAX_CHARS) {
            None => write!(f, "{:?}", self.0),
            Some((cut, _)) => write!(f, "{:?}… ({} bytes)", &self.0[..cut], self.0.len()),
        }
    }
}
