//! Files on their way in: partial files that survive kill -9, and complete ones without a name yet.
//!
//! ```text
//! HOME/staging/<publisher>--<name>/parts/<file>.part       what has arrived
//!                                        <file>.part.toml  what it is, written first
//!                                  ready/<file>            complete, synced, hash as promised
//! ```
//!
//! A partial file is continued only when its sidecar names the same content, and then hashed again
//! from its first byte: nothing about it is believed. Whoever uses this holds the model's lock.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{CREATING, StoreError};
use crate::hash::{Hasher, Sha256, hash_reader};
use crate::name::ModelName;
use crate::platform;
use crate::progress::Progress;
use crate::record;

/// Longest single file, in bytes: bounds a server that never stops sending.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 42;

/// Room left for manifests and the system when free space is judged.
const SPARE_BYTES: u64 = 1 << 20;

/// The staging folder of one model.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: PathBuf,
}

/// What a partial file is; kept beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// Where the bytes come from, exactly: an address with its commit, a package with its version.
    pub(crate) what: String,
    /// The promised hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Sha256>,
    /// The promised length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) n_bytes: Option<u64>,
    /// The server's strong validator of the bytes that are here, for `If-Range` (RFC 9110, 13.1.5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etag: Option<String>,
}

/// A complete file that waits for its final name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StagedFile {
    pub(crate) file_name: String,
    pub(crate) path: PathBuf,
    pub(crate) n_bytes: u64,
    pub(crate) sha256: Sha256,
}

impl Staging {
    /// Opens the staging folder of `name`, creating it when needed.
    pub(crate) fn open(home: &Path, name: &ModelName) -> Result<Self, StoreError> {
        let staging = Self { folder: Self::folder_of(home, name) };
        for folder in [staging.parts(), staging.ready()] {
            fs::create_dir_all(&folder)
                .map_err(|error| StoreError::io(&folder, CREATING)(error))?;
        }
        Ok(staging)
    }

    /// Where the staging folder of `name` is or would be.
    pub(crate) fn folder_of(home: &Path, name: &ModelName) -> PathBuf {
        home.join("staging").join(name.flat())
    }

    /// Files under way.
    pub(crate) fn parts(&self) -> PathBuf {
        self.folder.join("parts")
    }

    /// Complete files.
    pub(crate) fn ready(&self) -> PathBuf {
        self.folder.join("ready")
    }

    /// Bytes of files that are here already, partial ones included.
    pub(crate) fn n_bytes_here(&self) -> u64 {
        let folders = [self.parts(), self.ready()];
        let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
        entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum()
    }

    /// Gives everything back to the disk.
    pub(crate) fn discard(self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.folder).map_err(StoreError::io(&self.folder, "removing"))
    }

    /// Forgets what a partial file was, so that the next [`Staging::partial`] begins anew.
    pub(crate) fn forget(&self, file_name: &str) {
        // One that cannot be removed is believed no more than any other: its bytes are hashed.
        let _ = fs::remove_file(self.parts().join(format!("{file_name}.part.toml")));
    }

    /// Opens the partial file for `file_name`: what is there is kept if it is the same content.
    ///
    /// `final_path` may hold a complete file that a killed process had moved already, without the
    /// manifest that would make it a model; it is taken back and judged like any other part.
    pub(crate) fn partial<'p>(
        &self,
        file_name: &str,
        identity: Identity,
        final_path: Option<&Path>,
        progress: &'p dyn Progress,
    ) -> Result<Partial<'p>, StoreError> {
        let path = self.parts().join(format!("{file_name}.part"));
        let sidecar = self.parts().join(format!("{file_name}.part.toml"));
        // An unreadable sidecar identifies nothing, so it is as good as none.
        let known = record::read::<Identity>(&sidecar).ok().flatten();
        let same = known.filter(|known| known.is_same_content(&identity));
        if same.is_some() && !path.exists() {
            for moved in [Some(self.ready().join(file_name)).as_deref(), final_path] {
                if let Some(moved) = moved.filter(|moved| moved.is_file()) {
                    fs::rename(moved, &path).map_err(StoreError::io(moved, "taking back"))?;
                    break;
                }
            }
        }
        let etag = same.as_ref().and_then(|known| known.etag.clone());
        let identity = Identity { etag, ..identity };
        // Before the first byte, so that no bytes ever lie there without saying what they are.
        if same.is_none() {
            let _ = fs::remove_file(&path);
        }
        record::write(&sidecar, &identity)?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(StoreError::io(&path, "opening"))?;
        let ready = self.ready().join(file_name);
        let file_name = file_name.to_owned();
        let hasher = Hasher::default();
        let mut partial = Partial {
            file,
            path,
            sidecar,
            ready,
            file_name,
            identity,
            hasher,
            n_bytes: 0,
            progress,
        };
        partial.rehash()?;
        Ok(partial)
    }

    /// Refuses to begin when `needed_bytes` more do not fit; `what` explains the number.
    pub(crate) fn ask_space(&self, needed_bytes: u64, what: &str) -> Result<(), StoreError> {
        let path = self.parts();
        let Some(free_bytes) = platform::free_bytes(&path) else { return Ok(()) };
        if needed_bytes == 0 || needed_bytes.saturating_add(SPARE_BYTES) <= free_bytes {
            return Ok(());
        }
        let needed_bytes = needed_bytes.saturating_add(SPARE_BYTES);
        let what = format!("{what}, with {SPARE_BYTES} to spare,");
        Err(StoreError::NoSpace { path, what, needed_bytes, free_bytes })
    }
}

impl Identity {
    fn is_same_content(&self, other: &Self) -> bool {
        self.what == other.what && self.sha256 == other.sha256 && self.n_bytes == other.n_bytes
    }
}

/// A file that is arriving, with the hash of what is there.
pub(crate) struct Partial<'p> {
    file: File,
    path: PathBuf,
    sidecar: PathBuf,
    ready: PathBuf,
    file_name: String,
    identity: Identity,
    hasher: Hasher,
    n_bytes: u64,
    progress: &'p dyn Progress,
}

impl Partial<'_> {
    /// Bytes that stand.
    pub(crate) fn n_bytes(&self) -> u64 {
        self.n_bytes
    }

    /// The promised length, where there is one.
    pub(crate) fn n_bytes_promised(&self) -> Option<u64> {
        self.identity.n_bytes
    }

    /// The validator of the bytes that stand.
    pub(crate) fn etag(&self) -> Option<&str> {
        self.identity.etag.as_deref()
    }

    /// Remembers the validator under which the next bytes come.
    pub(crate) fn set_etag(&mut self, etag: Option<String>) -> Result<(), StoreError> {
        if self.identity.etag == etag {
            return Ok(());
        }
        self.identity.etag = etag;
        record::write(&self.sidecar, &self.identity)
    }

    /// Appends bytes. When the disk is full, what fitted is kept.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let n_bytes = self.n_bytes + bytes.len() as u64;
        let limit = self.identity.n_bytes.unwrap_or(FILE_BYTES_MAX);
        if n_bytes > limit {
            return Err(StoreError::SizeMismatch {
                path: self.place(),
                expected: limit,
                found: n_bytes,
            });
        }
        if let Err(error) = self.file.write_all(bytes) {
            // Part of it may have been written; the next pull hashes what is there.
            if platform::is_disk_full(&error) {
                let n_bytes_kept = self.file.metadata().map_or(self.n_bytes, |m| m.len());
                return Err(StoreError::DiskFull { path: self.path.clone(), n_bytes_kept });
            }
            return Err(StoreError::io(&self.path, "writing")(error));
        }
        self.hasher.update(bytes);
        self.n_bytes = n_bytes;
        self.progress.advance(bytes.len() as u64);
        // Every byte of every source passes here.
        if self.progress.is_cancelled() { Err(StoreError::Cancelled) } else { Ok(()) }
    }

    /// Throws away what is here and begins at the first byte.
    pub(crate) fn restart(&mut self) -> Result<(), StoreError> {
        let restarted = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        restarted.map_err(StoreError::io(&self.path, "emptying"))?;
        self.hasher = Hasher::default();
        self.n_bytes = 0;
        self.set_etag(None)
    }

    /// Syncs the file, holds it against its promises and moves it to the complete ones.
    ///
    /// A file of the promised length with another hash is thrown away: continuing it is no use.
    pub(crate) fn complete(self) -> Result<StagedFile, StoreError> {
        let sha256 = self.hasher.clone().finish();
        if let Some(expected) = self.identity.n_bytes.filter(|expected| *expected != self.n_bytes) {
            return Err(StoreError::SizeMismatch {
                path: self.place(),
                expected,
                found: self.n_bytes,
            });
        }
        if let Some(expected) = self.identity.sha256.filter(|expected| *expected != sha256) {
            let path = self.place();
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(&self.sidecar);
            return Err(StoreError::HashMismatch { path, expected, found: sha256 });
        }
        self.file.sync_all().map_err(|error| self.io("syncing", error))?;
        fs::rename(&self.path, &self.ready).map_err(|error| self.io("renaming", error))?;
        let folder = self.ready.parent().unwrap_or(Path::new("."));
        platform::sync_folder(folder).map_err(|error| self.io("syncing the folder", error))?;
        Ok(StagedFile {
            file_name: self.file_name,
            path: self.ready,
            n_bytes: self.n_bytes,
            sha256,
        })
    }

    /// Hashes what is there again and puts the end of the file under the pen.
    fn rehash(&mut self) -> Result<(), StoreError> {
        let found = self.file.metadata().map_err(StoreError::io(&self.path, "reading"))?.len();
        if found > self.identity.n_bytes.unwrap_or(FILE_BYTES_MAX) {
            return self.restart();
        }
        if found > 0 {
            self.progress.note(&format!("{} is here up to byte {found}", self.file_name));
        }
        let hashed = hash_reader(&mut self.hasher, &mut self.file, self.progress);
        self.n_bytes = hashed.map_err(StoreError::io(&self.path, "reading"))?;
        Ok(())
    }

    /// What a person should see in an error: where the bytes came from.
    fn place(&self) -> PathBuf {
        PathBuf::from(&self.identity.what)
    }

    fn io(&self, doing: &'static str, error: io::Error) -> StoreError {
        if platform::is_disk_full(&error) {
            let n_bytes_kept = self.n_bytes;
            return StoreError::DiskFull { path: self.path.clone(), n_bytes_kept };
        }
        StoreError::io(&self.path, doing)(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;

    fn identity(what: &str, content: &[u8]) -> Identity {
        let mut hasher = Hasher::default();
        hasher.update(content);
        let sha256 = Some(hasher.finish());
        Identity { what: what.to_owned(), sha256, n_bytes: Some(content.len() as u64), etag: None }
    }

    fn staging() -> (tempfile::TempDir, Staging) {
        let home = tempfile::tempdir().unwrap();
        let staging = Staging::open(home.path(), &ModelName::new("p", "m").unwrap()).unwrap();
        (home, staging)
    }

    fn open<'a>(staging: &Staging, identity: &Identity) -> Partial<'a> {
        staging.partial("m.gguf", identity.clone(), None, &Silent).unwrap()
    }

    #[test]
    fn a_part_of_the_same_content_goes_on_and_of_another_is_dropped() {
        let (_home, staging) = staging();
        let whole = identity("a", b"hello world");
        open(&staging, &whole).append(b"hello").unwrap();
        let mut partial = open(&staging, &whole);
        assert_eq!(partial.n_bytes(), 5);
        partial.append(b" world").unwrap();
        let staged = partial.complete().unwrap();
        assert_eq!(fs::read(&staged.path).unwrap(), b"hello world");
        assert_eq!(Some(staged.sha256), whole.sha256);
        // A killed process had come this far: the complete file is found again.
        assert_eq!(open(&staging, &whole).n_bytes(), 11);
        assert_eq!(open(&staging, &identity("b", b"hello world")).n_bytes(), 0);
    }

    #[test]
    fn a_changed_byte_in_a_part_is_found_and_the_part_thrown_away() {
        let (_home, staging) = staging();
        let whole = identity("a", b"hello world");
        open(&staging, &whole).append(b"hellO").unwrap();
        let mut partial = open(&staging, &whole);
        partial.append(b" world").unwrap();
        assert!(matches!(partial.complete(), Err(StoreError::HashMismatch { .. })));
        assert_eq!(open(&staging, &whole).n_bytes(), 0);
    }

    #[test]
    fn a_part_that_is_too_long_starts_over_and_no_more_than_promised_is_taken() {
        let (_home, staging) = staging();
        let whole = identity("a", b"hello");
        let mut partial = open(&staging, &whole);
        assert!(matches!(partial.append(b"hello!"), Err(StoreError::SizeMismatch { .. })));
        drop(partial);
        fs::write(staging.parts().join("m.gguf.part"), b"hello world").unwrap();
        assert_eq!(open(&staging, &whole).n_bytes(), 0);
    }

    #[test]
    fn a_short_file_is_not_complete_and_stays() {
        let (_home, staging) = staging();
        let whole = identity("a", b"hello");
        let mut partial = open(&staging, &whole);
        partial.append(b"he").unwrap();
        assert!(matches!(partial.complete(), Err(StoreError::SizeMismatch { .. })));
        assert_eq!(open(&staging, &whole).n_bytes(), 2);
    }
}
