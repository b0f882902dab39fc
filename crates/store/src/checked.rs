//! What a model's files looked like when every byte of them was last hashed: `verified.toml`.
//!
//! A cache and nothing more: deleting it costs one hashing. Its own date is the model's last use.
//! It promises that a write through this system since then would show, because every write moves
//! the change time, which no program can set back. It promises nothing about a disk that decays, a
//! file system without change times, or somebody who writes to the disk beneath the file system:
//! for those, `verify` reads every byte.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::hash::Sha256;
use crate::installed::InstalledFile;
use crate::platform::Stamp;
use crate::record;

/// The cache's file name.
pub(crate) const VERIFIED: &str = "verified.toml";

/// A change this soon before the hashing could share its time stamp, so it proves nothing (the
/// coarsest file systems count in 2 s).
const RACY_NS: i64 = 2_000_000_000;

/// Notes in the date of the cache in `folder` that the model is used now. A store that cannot be
/// written to, or a model that was never hashed, works without.
pub(crate) fn mark_used(folder: &Path) {
    if let Ok(file) = fs::File::options().append(true).open(folder.join(VERIFIED)) {
        let _ = file.set_modified(SystemTime::now());
    }
}

/// The stamps of a model's files at their last verification.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verified {
    #[serde(default)]
    file: Vec<Seen>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    path: String,
    sha256: Sha256,
    at_ns: i64,
    stamp: Stamp,
}

impl Verified {
    /// Reads the cache in `folder`; one that cannot be read is empty.
    pub(crate) fn read(folder: &Path) -> Self {
        record::read(&folder.join(VERIFIED)).ok().flatten().unwrap_or_default()
    }

    /// Writes the cache. A store that cannot be written to works without.
    pub(crate) fn write(&self, folder: &Path) {
        let path = folder.join(VERIFIED);
        record::sweep(&path);
        let _ = record::write(&path, self);
    }

    /// Whether `file` looks exactly as it did when its hash was last found as pinned.
    pub(crate) fn is_unchanged(&self, file: &InstalledFile) -> bool {
        let Ok(metadata) = fs::metadata(&file.path) else { return false };
        let stamp = Stamp::of(&metadata);
        let path = file.path.to_string_lossy();
        self.file.iter().any(|seen| {
            let changed_ns = stamp.mtime_ns.max(stamp.ctime_ns);
            seen.path == path
                && seen.sha256 == file.sha256
                && seen.stamp == stamp
                && changed_ns.saturating_add(RACY_NS) < seen.at_ns
        })
    }

    /// Remembers that `file` was found as pinned when it looked like `stamp`.
    pub(crate) fn remember(&mut self, file: &InstalledFile, stamp: Stamp) {
        let path = file.path.to_string_lossy().into_owned();
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ns = i64::try_from(since.as_nanos()).unwrap_or(0);
        self.file.retain(|seen| seen.path != path);
        self.file.push(Seen { path, sha256: file.sha256, at_ns, stamp });
    }

    /// Forgets what is known about `file`.
    pub(crate) fn forget(&mut self, file: &InstalledFile) {
        let path = file.path.to_string_lossy();
        self.file.retain(|seen| seen.path != path);
    }
}
