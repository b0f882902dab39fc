//! The narrow door to the operating system: free space, a file's identity, durable renames.
//!
//! Each question has a plain fallback, so that the rest of the crate is the same everywhere.

use std::fs::{self, Metadata};
use std::io;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Bytes that a user may still write to the file system that `folder` is on, or will be on;
/// `None` where the system is not asked.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let existing = folder.ancestors().find(|path| path.exists())?;
        let answer = rustix::fs::statvfs(existing).ok()?;
        Some(answer.f_bavail.saturating_mul(answer.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

/// Makes renames and new names in `folder` survive a loss of power.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file, and its file systems journal names themselves.
    if cfg!(unix) { fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Whether others than its owner may read a file or write to it.
pub(crate) fn is_open_to_others(metadata: &Metadata) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        metadata.permissions().mode() & 0o077 != 0
    }
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}

/// Whether an error says that the disk, or the user's share of it, is full.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What a file looks like from outside. Any write changes it; `touch` cannot set `ctime_ns` back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// Length in bytes.
    pub n_bytes: u64,
    /// Last change of the contents, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Last change of contents or record, in nanoseconds since 1970; 0 where there is none.
    pub ctime_ns: i64,
    /// The file's number on its device; 0 where there is none.
    pub inode: u64,
    /// The device; 0 where there is none.
    pub device: u64,
}

impl Stamp {
    /// Reads a stamp off a file's metadata.
    pub fn of(metadata: &Metadata) -> Self {
        let mtime = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let mtime_ns = mtime.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(0));
        let (ctime_ns, inode, device) = identity(metadata);
        Self { n_bytes: metadata.len(), mtime_ns, ctime_ns, inode, device }
    }
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> (i64, u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    let ctime_ns =
        metadata.ctime().saturating_mul(1_000_000_000).saturating_add(metadata.ctime_nsec());
    // TOML's integers are signed; the top bit of a device number identifies nothing here.
    (ctime_ns, metadata.ino() & (u64::MAX >> 1), metadata.dev() & (u64::MAX >> 1))
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> (i64, u64, u64) {
    (0, 0, 0)
}

/// The user's folder for programs' data: `XDG_DATA_HOME`, or what the system has in its place.
pub(crate) fn data_home() -> Option<std::path::PathBuf> {
    let variable = |name| {
        // The XDG base directory specification says to ignore relative paths.
        std::env::var_os(name).map(std::path::PathBuf::from).filter(|path| path.is_absolute())
    };
    if let Some(folder) = variable("XDG_DATA_HOME") {
        return Some(folder);
    }
    if cfg!(windows) {
        return variable("LOCALAPPDATA");
    }
    let below_home =
        if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/share" };
    std::env::home_dir().map(|home| home.join(below_home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_space_of_its_parent() {
        let root = tempfile::tempdir().unwrap();
        let free = free_bytes(&root.path().join("not/yet"));
        assert_eq!(free.is_some(), cfg!(unix));
        assert!(free.is_none_or(|free| free > 0));
    }
}
