//! The bytes of one part: mapped from a file, or owned.
//!
//! The only `unsafe` of the crate stands here. What the bytes say is not known here.

use std::fs::{self, File};
use std::ops::Deref;
use std::path::Path;

use crate::error::Error;

/// Bytes that do not move or change length for as long as they live.
pub(crate) enum Storage {
    Mapped(memmap2::Mmap),
    Owned(Vec<u8>),
}

impl Storage {
    /// Maps a regular file, read only.
    pub(crate) fn map(path: &Path) -> Result<Self, Error> {
        let io = |action| move |source| Error::Io { path: path.to_owned(), action, source };
        // Asked before opening, because opening a pipe waits for a writer.
        let about = fs::metadata(path).map_err(io("open"))?;
        if !about.is_file() {
            let found = if about.is_dir() { "found a directory" } else { "found a device or pipe" };
            let problem = format!("{found}, expected a regular file");
            return Err(Error::malformed("file", problem).in_file(path));
        }
        let file = File::open(path).map_err(io("open"))?;
        // SAFETY: the mapping is read only and its length is fixed here. Its bytes are only ever
        // read as `u8`, for which each bit pattern is valid; whatever a decision
        // rests on (names, counts, extents) is copied out at open and not read again. A program
        // that rewrites the file meanwhile can change weights, and one that truncates it ends
        // this process with SIGBUS; the crate's documentation asks owners not to. No language
        // rule can prevent either for a file that others may open.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(io("map"))?;
        Ok(Self::Mapped(map))
    }
}

impl Deref for Storage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
