//! A file on this machine, copied into the store with all its parts.
//!
//! Who wants no copy adopts the file instead ([`crate::Store::add`]).

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Fetched, Held, Job, ModelSource};
use crate::error::StoreError;
use crate::hash::{CHUNK_BYTES, hash_file};
use crate::latest::Latest;
use crate::name::{check_file_name, part_names};
use crate::platform::Stamp;
use crate::signers::text_in;
use crate::source::Source;
use crate::staging::{Identity, StagedFile};

pub(super) struct FileSource<'a> {
    pub(super) path: &'a Path,
}

impl ModelSource for FileSource<'_> {
    fn needs_network(&self) -> bool {
        false
    }

    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError> {
        let file_name = self.file_name()?;
        let parts = self.parts(file_name)?;
        let mut needed_bytes = 0;
        for (path, _) in &parts {
            let metadata = fs::metadata(path).map_err(StoreError::io(path, "reading"))?;
            needed_bytes += metadata.len();
        }
        let what = format!("a copy of {needed_bytes} bytes");
        job.staging.ask_space(needed_bytes, &what)?;
        job.progress.start(file_name, Some(needed_bytes));
        let copied: Result<Vec<_>, _> =
            parts.iter().map(|(path, file_name)| copy(job, path, file_name)).collect();
        job.progress.finish();
        Ok(Fetched { files: copied?, revision: None })
    }

    fn latest(&self, held: &Held<'_>) -> Result<Latest, StoreError> {
        for ((path, _), file) in self.parts(self.file_name()?)?.iter().zip(held.files) {
            let (_, sha256) = hash_file(path, held.progress)?;
            if sha256 != file.sha256 {
                let source = Some(Source::File(self.path.to_owned()));
                return Ok(Latest::Newer { what: format!("sha256 {sha256}"), source });
            }
        }
        Ok(Latest::Same)
    }

    fn beside(
        &self,
        _job: &Job<'_>,
        _fetched: &Fetched,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        text_in(self.path.parent().unwrap_or(Path::new("")), name)
    }
}

impl FileSource<'_> {
    fn file_name(&self) -> Result<&str, StoreError> {
        let file_name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        check_file_name(file_name).map(|()| file_name)
    }

    /// Where each part lies, and its name.
    fn parts(&self, file_name: &str) -> Result<Vec<(PathBuf, String)>, StoreError> {
        let part = |name: String| (self.path.with_file_name(&name), name);
        Ok(part_names(file_name)?.into_iter().map(part).collect())
    }
}

/// Copies one file; one that changes meanwhile is caught by its stamp.
fn copy(job: &Job<'_>, path: &Path, file_name: &str) -> Result<StagedFile, StoreError> {
    let io = |doing| StoreError::io(path, doing);
    let mut file = File::open(path).map_err(io("opening"))?;
    let stamp = Stamp::of(&file.metadata().map_err(io("reading"))?);
    // No hash is promised here, so what a killed copy left cannot be checked: begin again.
    job.staging.forget(file_name);
    let identity = Identity {
        what: format!("{}, changed at {} ns", path.display(), stamp.mtime_ns),
        sha256: None,
        n_bytes: Some(stamp.n_bytes),
        etag: None,
    };
    let mut partial = job.staging.partial(file_name, identity, None, job.progress)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let n_read = file.read(&mut buffer).map_err(io("reading"))?;
        if n_read == 0 {
            break;
        }
        partial.append(&buffer[..n_read])?;
    }
    if Stamp::of(&file.metadata().map_err(io("reading"))?) != stamp {
        let reason = "the file changed while it was copied, expected it to stay".to_owned();
        return Err(StoreError::NotAtSource { place: path.display().to_string(), reason });
    }
    partial.complete()
}
