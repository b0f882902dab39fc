//! The folder of files and batches, as its files are:
//!
//! ```text
//! FOLDER/files/<id>.jsonl        a file's lines: complete
//!              <id>.json         whose it is and what it is called, written behind them
//!              <id>.jsonl.part   lines on their way in, or of a batch that is not over
//!        batches/<id>.json       a batch: written anew, as a whole, with each change of its state
//! ```
//!
//! A file without its record has no name yet. Everything that changes the disk goes through here,
//! so that a test can have the machine fail at each of these points.

use crate::errors::ServerError;
use engine::PrivateFolder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Largest record: metadata, and the problems of a batch.
const RECORD_BYTES_MAX: u64 = 256 << 10;

/// The folder.
pub(crate) struct Disk {
    folder: PrivateFolder,
    /// Changes until the machine fails.
    #[cfg(test)]
    pub(super) fuse: std::sync::atomic::AtomicUsize,
}

/// What kind of things a record is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    Files,
    Batches,
}

impl Shelf {
    fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Batches => "batches",
        }
    }
}

/// What could not be done with what file; the folder's path is the operator's alone.
pub(super) fn failed(path: &Path, doing: &str) -> impl Fn(io::Error) -> ServerError {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let doing = doing.to_owned();
    move |error| ServerError::Failed(format!("{name}: {doing}: {error}"))
}

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self, engine::EngineError> {
        let folder = PrivateFolder::open(path)?;
        for shelf in [Shelf::Files, Shelf::Batches] {
            let path = folder.path().join(shelf.name());
            let made = fs::create_dir_all(&path);
            made.map_err(|e| engine::EngineError::PrivateFolder { path, problem: e.to_string() })?;
        }
        Ok(Self {
            folder,
            #[cfg(test)]
            fuse: usize::MAX.into(),
        })
    }

    /// See [`PrivateFolder::number`].
    pub(crate) fn number(&self, name: &[u8]) -> u64 {
        self.folder.number(name)
    }

    fn shelf(&self, shelf: Shelf) -> PathBuf {
        self.folder.path().join(shelf.name())
    }

    fn record_path(&self, shelf: Shelf, id: &str) -> PathBuf {
        self.shelf(shelf).join(format!("{id}.json"))
    }

    /// The lines of a file.
    pub(super) fn lines_path(&self, id: &str) -> PathBuf {
        self.shelf(Shelf::Files).join(format!("{id}.jsonl"))
    }

    /// Those that are not complete.
    pub(super) fn part_path(&self, id: &str) -> PathBuf {
        self.shelf(Shelf::Files).join(format!("{id}.jsonl.part"))
    }

    /// Fails where a test wants the machine to.
    #[cfg(test)]
    fn spend(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let spent = self.fuse.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        spent.map(|_| ()).map_err(|_| io::Error::other("the machine has failed"))
    }

    #[cfg(not(test))]
    fn spend(&self) -> io::Result<()> {
        Ok(())
    }

    /// Writes a record: beside its name, and with its name when it is complete.
    pub(super) fn put(
        &self,
        shelf: Shelf,
        id: &str,
        record: &impl Serialize,
    ) -> Result<(), ServerError> {
        let path = self.record_path(shelf, id);
        let text = serde_json::to_vec_pretty(record);
        let text = text.map_err(|e| ServerError::Failed(format!("{id}: not written: {e}")))?;
        let new = path.with_extension("json.new");
        let written = (|| {
            self.spend()?;
            let _ = fs::remove_file(&new);
            let mut file = PrivateFolder::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            self.spend()?;
            fs::rename(&new, &path)?;
            sync(&self.shelf(shelf))
        })();
        written.map_err(failed(&path, "not written"))
    }

    /// Reads all records of a shelf, by id. What is left over of writing is removed; a record that
    /// cannot be read is told, and its files are left as they are.
    pub(super) fn records<T: DeserializeOwned>(
        &self,
        shelf: Shelf,
        warn: &dyn Fn(&str),
    ) -> io::Result<Vec<(String, Option<T>)>> {
        let mut records = Vec::new();
        for entry in fs::read_dir(self.shelf(shelf))? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(".json.new") {
                fs::remove_file(&path)?;
            } else if let Some(id) = name.strip_suffix(".json") {
                let record = read(&path);
                if let Err(problem) = &record {
                    warn(&format!("{}: not used: {problem}", path.display()));
                }
                records.push((id.to_owned(), record.ok()));
            }
        }
        Ok(records)
    }

    /// The ids of the files whose lines are there, complete or not.
    pub(super) fn lines(&self) -> io::Result<Vec<(String, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.shelf(Shelf::Files))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let stem = name.strip_suffix(".part").unwrap_or(name).strip_suffix(".jsonl");
            if let Some(id) = stem {
                found.push((id.to_owned(), path.clone()));
            }
        }
        Ok(found)
    }

    /// Begins a file that has no name yet.
    pub(super) fn create_part(&self, id: &str) -> Result<File, ServerError> {
        let path = self.part_path(id);
        self.spend().and_then(|()| PrivateFolder::create(&path)).map_err(failed(&path, "not begun"))
    }

    /// Appends to a file that has no name yet. A machine that fails leaves half of it.
    pub(super) fn append(
        &self,
        id: &str,
        mut file: &File,
        bytes: &[u8],
    ) -> Result<(), ServerError> {
        let written = match self.spend() {
            Ok(()) => file.write_all(bytes),
            Err(failure) => file.write_all(&bytes[..bytes.len() / 2]).and(Err(failure)),
        };
        written.map_err(failed(&self.part_path(id), "not written"))
    }

    /// Gives a file its name, once everything of it is on the disk.
    pub(super) fn name_part(&self, id: &str) -> Result<(), ServerError> {
        let path = self.part_path(id);
        let named = (|| {
            File::options().append(true).open(&path)?.sync_all()?;
            self.spend()?;
            fs::rename(&path, self.lines_path(id))?;
            sync(&self.shelf(Shelf::Files))
        })();
        named.map_err(failed(&path, "not named"))
    }

    /// Removes a record, if there is one.
    pub(super) fn forget(&self, shelf: Shelf, id: &str) -> Result<(), ServerError> {
        self.remove(&self.record_path(shelf, id))
    }

    /// Removes a file, if there is one.
    pub(super) fn remove(&self, path: &Path) -> Result<(), ServerError> {
        match self.spend().and_then(|()| fs::remove_file(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(path, "not removed")(error))
            }
            _ => Ok(()),
        }
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(RECORD_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > RECORD_BYTES_MAX {
        return Err(format!("expected at most {RECORD_BYTES_MAX} bytes"));
    }
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// Makes the names in a folder survive a loss of power.
fn sync(folder: &Path) -> io::Result<()> {
    // Windows cannot open a folder as a file, and its file systems journal names themselves.
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}
