//! SHA-256: the one hash of the store, its hexadecimal form, and hashing a file with progress.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::str::FromStr;

use sha2::Digest as _;

use crate::error::StoreError;
use crate::progress::Progress;

/// Bytes read at a time: large enough that the system calls vanish beside the hashing.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// A SHA-256 digest; written and read as 64 lower-case hexadecimal digits (FIPS 180-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256([u8; 32]);

impl Sha256 {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::default();
        hasher.update(bytes);
        hasher.finish()
    }

    /// The digest's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a sha256 of 64 hexadecimal digits")]
pub struct ParseSha256Error;

impl FromStr for Sha256 {
    type Err = ParseSha256Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(ParseSha256Error);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |d: u8| char::from(d).to_digit(16).ok_or(ParseSha256Error);
            // Two hexadecimal digits are below 256.
            *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

impl serde::Serialize for Sha256 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Sha256 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A hash in the making.
#[derive(Clone, Default)]
pub(crate) struct Hasher(sha2::Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Sha256 {
        Sha256(self.0.finalize().into())
    }
}

/// Feeds everything `reader` has left to `hasher`; returns how many bytes that was.
pub(crate) fn hash_reader(
    hasher: &mut Hasher,
    reader: &mut impl Read,
    progress: &dyn Progress,
) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut n_total = 0;
    loop {
        let n_read = match reader.read(&mut buffer) {
            Ok(0) => return Ok(n_total),
            Ok(n_read) => n_read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..n_read]);
        n_total += n_read as u64;
        progress.advance(n_read as u64);
    }
}

/// Hashes a whole file; returns its length in bytes and its digest.
///
/// # Errors
/// [`StoreError::Io`] when the file cannot be opened or read.
pub fn hash_file(path: &Path, progress: &dyn Progress) -> Result<(u64, Sha256), StoreError> {
    let mut file = File::open(path).map_err(StoreError::io(path, "opening to hash"))?;
    let mut hasher = Hasher::default();
    let n_bytes = hash_reader(&mut hasher, &mut file, progress)
        .map_err(StoreError::io(path, "reading to hash"))?;
    Ok((n_bytes, hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn abc_hashes_as_the_standard_says() {
        assert_eq!(Sha256::of(b"abc").to_string(), OF_ABC);
    }

    #[test]
    fn hexadecimal_form_is_read_back_and_nothing_else_is() {
        let digest: Sha256 = OF_ABC.parse().unwrap();
        assert_eq!(digest.to_string(), OF_ABC);
        assert_eq!(OF_ABC.to_uppercase().parse(), Ok(digest));
        for bad in
            ["", "ba78", &OF_ABC[1..], &format!("{}g", &OF_ABC[1..]), "é".repeat(32).as_str()]
        {
            assert_eq!(bad.parse::<Sha256>(), Err(ParseSha256Error), "{bad}");
        }
    }
}
