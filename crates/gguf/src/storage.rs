//! The bytes of one part: mapped from a file, or owned.
//!
//! The only `unsafe` of the crate stands here. What the bytes say is not known here.

use std::fs::{self, File};
use std::ops::{Deref, Range};
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

    /// Lets the system take back the memory of these bytes; the next look reads them again.
    pub(crate) fn release(&self, bytes: Range<usize>) {
        let Self::Mapped(map) = self else { return };
        #[cfg(unix)]
        {
            let dont_need = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the mapping is a shared, read-only one of a file, so the advice changes no
            // byte: it drops pages from this process, and whoever reads them next, through
            // references that live now too, finds the file's bytes again.
            let advised =
                unsafe { map.unchecked_advise_range(dont_need, bytes.start, bytes.len()) };
            // Memory is given back later then, when the mapping ends.
            let _ = advised;
        }
        #[cfg(not(unix))]
        let _ = (map, bytes);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_released_reads_the_same_again() {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &bytes).unwrap();
        for storage in [Storage::map(file.path()).unwrap(), Storage::Owned(bytes.clone())] {
            for range in [0..0, 5000..150_000, 0..200_000] {
                assert!(*storage == *bytes);
                storage.release(range);
                assert!(*storage == *bytes);
            }
        }
    }
}
