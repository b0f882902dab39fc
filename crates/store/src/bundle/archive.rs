//! The bytes of a bundle: headers that follow from the index, and a reader that wants just those.
//!
//! A tar's header is 512 bytes (POSIX.1-1988); what does not fit in it, long paths and lengths from
//! 8 GiB on, stands in a header before it (pax, POSIX.1-2001).

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::index::{BundleEntry, BundleIndex};
use crate::error::StoreError;
use crate::hash::{CHUNK_BYTES, Hasher, Sha256};
use crate::progress::Progress;
use crate::signature::Signature;

/// The unit of a tar.
const BLOCK_BYTES: usize = 512;

/// Names of the entries before all others.
pub(super) const INDEX: &str = "index.json";
pub(super) const SIGNATURE: &str = "index.json.sig";

/// Longest index: that of as many entries as there may be.
const INDEX_BYTES_MAX: u64 = 16 << 20;

/// A signature in hexadecimal digits, with a line end.
const SIGNATURE_BYTES: u64 = 129;

/// Longest path and length that a plain header holds.
const PATH_BYTES_MAX: usize = 100;
const SIZE_MAX: u64 = (1 << 33) - 1;

/// What is signed begins with this, so that no other signature of the key can stand for it.
const SIGNED: &[u8] = b"freehold-bundle-1\n";

/// The bytes that a signature of an index is of.
pub(super) fn signed_bytes(index: &[u8]) -> Vec<u8> {
    [SIGNED, index].concat()
}

/// All headers of an entry.
pub(super) fn headers(path: &str, size: u64) -> Vec<u8> {
    let mut records = String::new();
    if path.len() > PATH_BYTES_MAX {
        records += &pax_record("path", path);
    }
    if size > SIZE_MAX {
        records += &pax_record("size", &size.to_string());
    }
    let short = &path.as_bytes()[..path.len().min(PATH_BYTES_MAX)];
    let mut bytes = Vec::new();
    if !records.is_empty() {
        bytes.extend(header(b"pax", records.len() as u64, b'x'));
        bytes.extend(records.as_bytes());
        bytes.extend(std::iter::repeat_n(0, padding(records.len() as u64)));
    }
    bytes.extend(header(short, if size > SIZE_MAX { 0 } else { size }, b'0'));
    bytes
}

/// `LENGTH KEY=VALUE`, where the length counts its own digits.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut n_bytes = rest.len();
    while rest.len() + n_bytes.to_string().len() != n_bytes {
        n_bytes = rest.len() + n_bytes.to_string().len();
    }
    format!("{n_bytes}{rest}")
}

fn header(path: &[u8], size: u64, kind: u8) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path);
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    // The checksum counts its own field as blanks.
    put(148, b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// Zeros behind `n_bytes` up to a whole block.
pub(super) fn padding(n_bytes: u64) -> usize {
    // Below 512.
    ((BLOCK_BYTES as u64 - n_bytes % BLOCK_BYTES as u64) % BLOCK_BYTES as u64) as usize
}

/// The end of a tar.
pub(super) const END: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// A bundle whose index was read, checked and found to be its signer's.
pub(super) struct Archive<R> {
    reader: R,
    path: PathBuf,
    index: BundleIndex,
    /// Where the headers of each entry begin, and where the last one ends.
    starts: Vec<u64>,
}

impl<R: Read + Seek> Archive<R> {
    /// Reads the index and proves that its signer made it. `path` is for errors.
    pub(super) fn open(mut reader: R, path: &Path) -> Result<Self, StoreError> {
        let bad = |place: &str, problem: String| StoreError::BadBundle {
            path: path.to_owned(),
            place: place.to_owned(),
            problem,
        };
        let not_ours = || "this is no bundle: expected a tar that begins with an index".to_owned();
        let mut first = [0; BLOCK_BYTES];
        let read = reader.read_exact(&mut first);
        let size =
            read.ok().and_then(|()| size_of(&first)).ok_or_else(|| bad(INDEX, not_ours()))?;
        if first[..] != headers(INDEX, size)[..] {
            return Err(bad(INDEX, not_ours()));
        }
        if size > INDEX_BYTES_MAX {
            let problem = format!("{size} bytes, expected at most {INDEX_BYTES_MAX}");
            return Err(bad(INDEX, problem));
        }
        let bytes = read_whole(&mut reader, size).map_err(|problem| bad(INDEX, problem))?;
        let mut second = [0; BLOCK_BYTES];
        reader.read_exact(&mut second).map_err(|error| bad(SIGNATURE, cut(&error)))?;
        if second[..] != headers(SIGNATURE, SIGNATURE_BYTES)[..] {
            return Err(bad(SIGNATURE, "expected the signature of the index".to_owned()));
        }
        let signature = read_whole(&mut reader, SIGNATURE_BYTES);
        let signature = signature.map_err(|problem| bad(SIGNATURE, problem))?;
        let signature = std::str::from_utf8(&signature).ok().and_then(|text| {
            let digits = text.strip_suffix('\n')?;
            digits.parse::<Signature>().ok()
        });
        let index = BundleIndex::parse(&bytes).map_err(|problem| bad(INDEX, problem))?;
        let public = index.signer.public_key;
        if !signature.is_some_and(|signature| public.verifies(&signed_bytes(&bytes), &signature)) {
            let problem = "it is not the signature of the index by the key that the index names";
            return Err(bad(SIGNATURE, problem.to_owned()));
        }
        let mut at = (2 * BLOCK_BYTES + padding(size) + padding(SIGNATURE_BYTES)) as u64;
        at += size + SIGNATURE_BYTES;
        let mut starts = vec![at];
        for entry in &index.entries {
            at += headers(&entry.path, entry.size).len() as u64;
            at += entry.size + padding(entry.size) as u64;
            starts.push(at);
        }
        Ok(Self { reader, path: path.to_owned(), index, starts })
    }

    pub(super) fn index(&self) -> &BundleIndex {
        &self.index
    }

    /// Refuses a file that is longer or shorter than its index says, before anything of it is read.
    pub(super) fn check_length(&mut self) -> Result<(), StoreError> {
        let end = self.reader.seek(SeekFrom::End(0)).map_err(StoreError::io(&self.path, "reading"));
        let (found, expected) = (end?, self.n_bytes());
        if found == expected {
            return Ok(());
        }
        let problem = format!("{found} bytes, expected {expected}: it was cut off or changed");
        Err(self.bad("the file", problem))
    }

    fn n_bytes(&self) -> u64 {
        self.starts.last().copied().unwrap_or_default() + END.len() as u64
    }

    /// Hands the bytes of an entry to `sink`, without its first `n_skipped`.
    pub(super) fn read(
        &mut self,
        entry_idx: usize,
        n_skipped: u64,
        sink: &mut dyn FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let BundleEntry { path, size, .. } = self.index.entries[entry_idx].clone();
        let seek = self.reader.seek(SeekFrom::Start(self.starts[entry_idx]));
        seek.map_err(StoreError::io(&self.path, "reading"))?;
        let expected = headers(&path, size);
        let mut found = vec![0; expected.len()];
        self.reader.read_exact(&mut found).map_err(|error| self.bad(&path, cut(&error)))?;
        if found != expected {
            let problem = "its header is not the one that follows from the index".to_owned();
            return Err(self.bad(&path, problem));
        }
        let n_skipped = n_skipped.min(size);
        let skip = self.reader.seek(SeekFrom::Current(n_skipped.cast_signed()));
        skip.map_err(StoreError::io(&self.path, "reading"))?;
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut n_left = size - n_skipped;
        while n_left > 0 {
            // At most a chunk.
            let n_wanted = n_left.min(CHUNK_BYTES as u64) as usize;
            let chunk = &mut buffer[..n_wanted];
            self.reader.read_exact(chunk).map_err(|error| self.bad(&path, cut(&error)))?;
            sink(chunk)?;
            n_left -= n_wanted as u64;
        }
        let mut pad = vec![0; padding(size)];
        self.reader.read_exact(&mut pad).map_err(|error| self.bad(&path, cut(&error)))?;
        if pad.iter().any(|byte| *byte != 0) {
            return Err(self.bad(&path, "bytes behind its end, expected zeros".to_owned()));
        }
        Ok(())
    }

    /// Reads an entry and holds it against its hash; `sink` sees its bytes before that is known.
    pub(super) fn verify(
        &mut self,
        entry_idx: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), StoreError> {
        let BundleEntry { path, sha256: expected, .. } = self.index.entries[entry_idx].clone();
        let mut hasher = Hasher::default();
        self.read(entry_idx, 0, &mut |bytes| {
            hasher.update(bytes);
            sink(bytes);
            Ok(())
        })?;
        match hasher.finish() {
            found if found == expected => Ok(()),
            found => Err(self.bad(&path, mismatch(found, expected))),
        }
    }

    /// Reads all of it and holds every byte against the index.
    pub(super) fn verify_all(&mut self, progress: &dyn Progress) -> Result<(), StoreError> {
        self.check_length()?;
        for entry_idx in 0..self.index.entries.len() {
            let BundleEntry { path, size, .. } = self.index.entries[entry_idx].clone();
            progress.start(&format!("verifying {path}"), Some(size));
            let verified =
                self.verify(entry_idx, &mut |bytes| progress.advance(bytes.len() as u64));
            progress.finish();
            verified?;
        }
        let end = self.starts.last().copied().unwrap_or_default();
        let seek = self.reader.seek(SeekFrom::Start(end));
        seek.map_err(StoreError::io(&self.path, "reading"))?;
        let mut found = END;
        self.reader.read_exact(&mut found).map_err(|error| self.bad("the end", cut(&error)))?;
        if found == END { Ok(()) } else { Err(self.bad("the end", "expected zeros".to_owned())) }
    }

    /// What is wrong with this bundle.
    pub(super) fn bad(&self, place: &str, problem: String) -> StoreError {
        StoreError::BadBundle { path: self.path.clone(), place: place.to_owned(), problem }
    }
}

fn mismatch(found: Sha256, expected: Sha256) -> String {
    format!("sha256 is {found}, expected {expected}")
}

fn cut(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the file ends here, expected more".to_owned(),
        _ => error.to_string(),
    }
}

/// The length that a plain header states.
fn size_of(header: &[u8; BLOCK_BYTES]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(&header[124..135]).ok()?, 8).ok()
}

/// An entry of a bounded length, with the zeros behind it.
fn read_whole(reader: &mut impl Read, size: u64) -> Result<Vec<u8>, String> {
    let n_bytes = size + padding(size) as u64;
    let mut bytes = Vec::new();
    reader.take(n_bytes).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if (bytes.len() as u64) < n_bytes {
        return Err("the file ends here, expected more".to_owned());
    }
    // The length is bounded by the caller.
    let pad = bytes.split_off(size as usize);
    if pad.iter().any(|byte| *byte != 0) {
        return Err("bytes behind its end, expected zeros".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_record_counts_itself() {
        assert_eq!(pax_record("path", "a"), "9 path=a\n");
        for n in 1..300 {
            let record = pax_record("path", &"x".repeat(n));
            let stated = record.split(' ').next().unwrap().parse::<usize>().unwrap();
            assert_eq!(stated, record.len());
        }
    }

    #[test]
    fn headers_are_whole_blocks_and_long_paths_and_lengths_have_another() {
        for (path, size, n_blocks) in [
            ("freehold.lock", 0, 1),
            (&"x".repeat(100), SIZE_MAX, 1),
            (&"x".repeat(101), 5, 3),
            ("big", SIZE_MAX + 1, 3),
        ] {
            assert_eq!(headers(path, size).len(), n_blocks * BLOCK_BYTES, "{path} {size}");
        }
    }
}
