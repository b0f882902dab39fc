//! The small file beside each model that says what it is: `manifest.toml`.
//!
//! A model is installed when its manifest stands; it is written last and removed last. A manifest
//! is as hostile as any file: names are checked again before they become paths.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::hash::Sha256;
use crate::installed::{Installed, InstalledFile, Licence, Origin};
use crate::name::{ModelName, check_file_name};
use crate::record;

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "manifest.toml";

/// The version of this layout; a later one is refused rather than misread.
const FORMAT: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u32,
    publisher: String,
    name: String,
    source: String,
    revision: String,
    adopted: bool,
    date: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origin: Option<Origin>,
    licence: Licence,
    file: Vec<FileRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRecord {
    /// A plain name beside the manifest, or for an adopted model an absolute path.
    path: PathBuf,
    n_bytes: u64,
    sha256: Sha256,
}

/// What stands for a revision that nobody states.
const UNKNOWN: &str = "unknown";

/// Writes the manifest of `model` into `folder`. The caller holds the model's claim.
pub(crate) fn write(folder: &Path, model: &Installed) -> Result<(), StoreError> {
    let file_record = |file: &InstalledFile| {
        let plain = || file.path.file_name().map(PathBuf::from);
        let path = if model.adopted { Some(file.path.clone()) } else { plain() };
        let path = path.filter(|path| path.to_str().is_some());
        let path = path.ok_or_else(|| StoreError::InvalidName {
            what: "path",
            value: file.path.display().to_string(),
            expected: "expected a path in UTF-8, which a manifest can hold".to_owned(),
        })?;
        Ok(FileRecord { path, n_bytes: file.n_bytes, sha256: file.sha256 })
    };
    let manifest = Manifest {
        format: FORMAT,
        publisher: model.publisher.clone(),
        name: model.name.clone(),
        source: model.source.clone(),
        revision: model.revision.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
        adopted: model.adopted,
        date: model.date.clone(),
        signed_by: model.signed_by.clone(),
        origin: model.origin.clone(),
        licence: model.licence.clone(),
        file: model.files.iter().map(file_record).collect::<Result<_, StoreError>>()?,
    };
    let path = folder.join(MANIFEST);
    record::sweep(&path);
    record::write(&path, &manifest)
}

/// Reads the manifest in `folder`, which must be that of `name`; `None` when there is none.
pub(crate) fn read(folder: &Path, name: &ModelName) -> Result<Option<Installed>, StoreError> {
    let path = folder.join(MANIFEST);
    let Some(manifest) = record::read::<Manifest>(&path)? else { return Ok(None) };
    check(manifest, folder, name).map(Some).map_err(|reason| StoreError::BadRecord { path, reason })
}

fn check(manifest: Manifest, folder: &Path, name: &ModelName) -> Result<Installed, String> {
    if manifest.format != FORMAT {
        return Err(format!("format {}, expected {FORMAT}", manifest.format));
    }
    if (manifest.publisher.as_str(), manifest.name.as_str()) != (name.publisher(), name.name()) {
        let (publisher, found) = (manifest.publisher, manifest.name);
        return Err(format!("names {publisher}/{found}, expected {name}"));
    }
    if manifest.file.is_empty() {
        return Err("names no file, expected at least one".to_owned());
    }
    let place = |record: FileRecord| {
        let path = if manifest.adopted {
            record.path.is_absolute().then_some(record.path.clone())
        } else {
            let file_name = record.path.to_str().filter(|name| check_file_name(name).is_ok());
            file_name.map(|file_name| folder.join(file_name))
        };
        let expected = if manifest.adopted { "an absolute path" } else { "a plain .gguf name" };
        let path = path.ok_or_else(|| format!("file {:?}, expected {expected}", record.path))?;
        Ok(InstalledFile { path, n_bytes: record.n_bytes, sha256: record.sha256 })
    };
    Ok(Installed {
        name: manifest.name,
        publisher: manifest.publisher,
        files: manifest.file.into_iter().map(place).collect::<Result<_, String>>()?,
        source: manifest.source,
        revision: Some(manifest.revision).filter(|revision| revision != UNKNOWN),
        licence: manifest.licence,
        adopted: manifest.adopted,
        signed_by: manifest.signed_by,
        origin: manifest.origin,
        date: manifest.date,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIN: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn name() -> ModelName {
        ModelName::new("p", "m").unwrap()
    }

    fn model(folder: &Path) -> Installed {
        let path = folder.join("m.gguf");
        Installed {
            name: "m".to_owned(),
            publisher: "p".to_owned(),
            files: vec![InstalledFile { path, n_bytes: 3, sha256: PIN.parse().unwrap() }],
            source: "hf:o/r/m.gguf".to_owned(),
            revision: None,
            licence: Licence::unknown(),
            adopted: false,
            signed_by: None,
            origin: None,
            date: "2026-01-02T03:04:05Z".to_owned(),
        }
    }

    #[test]
    fn a_manifest_is_read_as_written_and_names_the_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        write(folder.path(), &model).unwrap();
        assert_eq!(read(folder.path(), &name()).unwrap(), Some(model));
        let text = std::fs::read_to_string(folder.path().join(MANIFEST)).unwrap();
        assert!(text.contains("revision = \"unknown\"") && text.contains("id = \"unknown\""));
    }

    #[test]
    fn a_manifest_that_leads_elsewhere_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &model(folder.path())).unwrap();
        let path = folder.path().join(MANIFEST);
        let good = std::fs::read_to_string(&path).unwrap();
        for (from, to, reason) in [
            ("\"m.gguf\"", "\"../m.gguf\"", "plain .gguf name"),
            ("\"m.gguf\"", "\"/etc/m.gguf\"", "plain .gguf name"),
            ("adopted = false", "adopted = true", "absolute path"),
            ("name = \"m\"", "name = \"n\"", "expected p/m"),
            ("format = 1", "format = 2", "expected 1"),
            ("format = 1", "format = 1\nmore = 2", "more"),
            (&PIN[..8], "zz", "64 hexadecimal"),
        ] {
            std::fs::write(&path, good.replace(from, to)).unwrap();
            let error = read(folder.path(), &name()).unwrap_err().to_string();
            assert!(error.contains(reason) && error.contains(MANIFEST), "{to}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_damaged_manifest_is_an_error_or_a_manifest(at in 0usize..400, byte: u8) {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), &model(folder.path())).unwrap();
            let path = folder.path().join(MANIFEST);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            std::fs::write(&path, bytes).unwrap();
            if let Ok(Some(model)) = read(folder.path(), &name()) {
                prop_assert_eq!(model.path().parent(), Some(folder.path()));
            }
        }
    }
}
