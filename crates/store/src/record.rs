//! Small TOML files of ours: read with a bound, written so that a crash leaves the old or the new.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CREATING, StoreError};
use crate::platform;

/// A record is a few lines per file; a split model of a thousand parts stays below this.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Within this time a record is written and has its name; it takes milliseconds.
const WRITTEN_WITHIN: Duration = Duration::from_secs(600);

/// Reads a record; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io(path, "opening")(error)),
    };
    let bad = |reason: String| StoreError::BadRecord { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    file.take(RECORD_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(StoreError::io(path, "reading"))?;
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(bad(format!("expected at most {RECORD_BYTES_MAX} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| bad(error.to_string()))?;
    toml::from_str(&text).map(Some).map_err(|error| bad(error.to_string().trim_end().to_owned()))
}

/// Writes a record: a temporary file beside it, synced, renamed over it, the folder synced.
pub(crate) fn write<T: Serialize>(path: &Path, record: &T) -> Result<(), StoreError> {
    let text = toml::to_string(record).map_err(|error| StoreError::BadRecord {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    write_text(path, &text)
}

/// Removes what writers of the record at `path` left that were killed before their rename. Only for
/// records that one process at a time writes, or that may be lost.
pub(crate) fn sweep(path: &Path) {
    sweep_those(path, |_| true);
}

/// As [`sweep`], of records that several processes may write at once: only what was begun long ago
/// is nobody's any more.
pub(crate) fn sweep_old(path: &Path) {
    sweep_those(path, |entry| {
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        age().is_some_and(|age| age > WRITTEN_WITHIN)
    });
}

fn sweep_those(path: &Path, is_left: impl Fn(&fs::DirEntry) -> bool) {
    let (folder, Some(stem)) = (folder_of(path), path.file_stem()) else { return };
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().and_then(stem_of_temporary) == stem.to_str() && is_left(&entry) {
            // What cannot be removed now, the next one tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

/// `manifest` of `manifest.123.new`, which is how [`write_text`] names a record before its rename.
pub(crate) fn stem_of_temporary(file_name: &str) -> Option<&str> {
    let (stem, number) = file_name.strip_suffix(".new")?.rsplit_once('.')?;
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (is_number && !stem.is_empty()).then_some(stem)
}

/// As [`write`], of a text.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), StoreError> {
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(StoreError::io(folder, CREATING))?;
    // The process's number keeps two writers apart; the last rename wins, whole.
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        platform::sync_folder(folder)
    })();
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        if platform::is_disk_full(&error) {
            return StoreError::DiskFull { path: path.to_owned(), n_bytes_kept: 0 };
        }
        StoreError::io(path, "writing")(error)
    })
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_killed_writers_left_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["r.12.new", "r.3.new", "s.12.new", "r.x.new", "r..new", "r.new", "r.toml"];
        for name in names {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        sweep(&folder.path().join("r.toml"));
        let stays = |name: &str| folder.path().join(name).exists();
        assert_eq!(names.map(stays), [false, false, true, true, true, true, true]);
        // What somebody may still be writing stays, where several may.
        let [old, new] = ["s.12.new", "s.13.new"].map(|name| folder.path().join(name));
        fs::write(&new, "x").unwrap();
        let file = File::options().append(true).open(&old).unwrap();
        file.set_modified(SystemTime::now() - 2 * WRITTEN_WITHIN).unwrap();
        sweep_old(&folder.path().join("s.toml"));
        assert!(!old.exists() && new.exists());
    }
}
