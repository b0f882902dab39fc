//! What a bundle says of itself, and what it may say.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{CASES, CONFIG, LOCK, TEXT_BYTES_MAX, TEXTS_BYTES_MAX};
use crate::hash::Sha256;
use crate::installed::Licence;
use crate::name::{ModelName, check_file_name};
use crate::signature::PublicKey;
use crate::staging::FILE_BYTES_MAX;

/// The version of this layout; a later one is refused rather than misread.
pub(super) const FORMAT: u32 = 1;

/// Entries in one bundle: a thousand files of models, and as many cases.
const N_ENTRIES_MAX: usize = 4096;

/// Longest line of text in an index, in characters.
const LINE_CHARS_MAX: usize = 4096;

/// Where the files of models lie.
const MODELS: &str = "models/";

/// What a bundle says of itself: its first entry, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleIndex {
    pub(super) format: u32,
    /// Who made it.
    pub signer: Signer,
    /// The models in it.
    pub models: Vec<BundledModel>,
    /// All that follows, in order.
    pub entries: Vec<BundleEntry>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

/// Who made a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// What it calls itself.
    pub name: String,
    /// Its key.
    pub public_key: PublicKey,
}

/// A model in a bundle, as its manifest says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundledModel {
    /// Who published it.
    pub publisher: String,
    /// What it is called.
    pub name: String,
    /// Where it came from; of a file of some machine its name alone.
    pub source: String,
    /// The commit or version it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its licence.
    pub licence: Licence,
    /// The key of its publisher whose signature was verified where the bundle was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<String>,
}

/// One file in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleEntry {
    /// Its path in the bundle, with `/` between folders.
    pub path: String,
    /// Its length in bytes.
    pub size: u64,
    /// Of all its bytes.
    pub sha256: Sha256,
}

impl BundledModel {
    pub(super) fn full_name(&self) -> Result<ModelName, String> {
        ModelName::new(&self.publisher, &self.name).map_err(|error| error.to_string())
    }

    /// Where its files lie in the bundle.
    pub(super) fn folder(&self) -> String {
        format!("{MODELS}{}/{}/", self.publisher, self.name)
    }
}

impl BundleIndex {
    /// Reads an index and checks all that can be checked without its entries.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        index.check().map(|()| index)
    }

    /// The files of a model, by their place among the entries.
    pub(super) fn files_of<'a>(
        &'a self,
        model: &BundledModel,
    ) -> impl Iterator<Item = (usize, &'a BundleEntry)> + use<'a> {
        let folder = model.folder();
        let entries = self.entries.iter().enumerate();
        entries.filter(move |(_, entry)| entry.path.starts_with(&folder))
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format {}, expected {FORMAT}", self.format));
        }
        if self.entries.len() > N_ENTRIES_MAX {
            return Err(format!(
                "{} entries, expected at most {N_ENTRIES_MAX}",
                self.entries.len()
            ));
        }
        check_line("signer", &self.signer.name)?;
        self.left_out.iter().try_for_each(|line| check_line("left_out", line))?;
        let mut paths = BTreeSet::new();
        for entry in &self.entries {
            self.check_entry(entry)?;
            // On some systems two names that differ in case are one file.
            if !paths.insert(entry.path.to_ascii_lowercase()) {
                return Err(format!("{:?}: it stands there twice, expected once", entry.path));
            }
        }
        let texts = self.entries.iter().filter(|entry| !entry.path.starts_with(MODELS));
        let n_bytes: u64 = texts.map(|entry| entry.size).sum();
        if n_bytes > TEXTS_BYTES_MAX {
            return Err(format!("{n_bytes} bytes of texts, expected at most {TEXTS_BYTES_MAX}"));
        }
        let mut names = BTreeSet::new();
        for model in &self.models {
            let name = model.full_name()?;
            if !names.insert(name.to_string().to_ascii_lowercase()) {
                return Err(format!("{name}: it stands there twice, expected once"));
            }
            if self.files_of(model).next().is_none() {
                return Err(format!("{name}: it has no files, expected at least one"));
            }
            check_line("source", &model.source)?;
            check_line("revision", model.revision.as_deref().unwrap_or_default())?;
            check_line("signed_by", model.signed_by.as_deref().unwrap_or_default())?;
            let Licence { id, url, notice, accepted } = &model.licence;
            for line in [Some(id), url.as_ref(), notice.as_ref(), accepted.as_ref()] {
                check_line("licence", line.map_or("", String::as_str))?;
            }
        }
        Ok(())
    }

    /// Only what has a place is let in.
    fn check_entry(&self, entry: &BundleEntry) -> Result<(), String> {
        let path = entry.path.as_str();
        let refuse = |expected: &str| Err(format!("{path:?}: {expected}"));
        let size_max = if let Some(inner) = path.strip_prefix(MODELS) {
            let is_of = |model: &BundledModel| {
                path.strip_prefix(&model.folder()).is_some_and(|name| check_file_name(name).is_ok())
            };
            if inner.split('/').count() != 3 || !self.models.iter().any(is_of) {
                return refuse("expected a .gguf file of one of its models");
            }
            FILE_BYTES_MAX
        } else if path == LOCK || path == CONFIG {
            TEXT_BYTES_MAX
        } else if let Some(name) = path.strip_prefix(CASES) {
            check_case_name(name)?;
            TEXT_BYTES_MAX
        } else {
            return refuse("expected a model's file, freehold.lock, freehold.toml or a case");
        };
        if entry.size > size_max {
            return Err(format!("{path:?}: {} bytes, expected at most {size_max}", entry.size));
        }
        Ok(())
    }
}

/// A plain name of a file of cases.
pub(super) fn check_case_name(name: &str) -> Result<(), String> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"._- ".contains(&b);
    let has_ending = name.ends_with(".toml") || name.ends_with(".jsonl");
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if has_ending && starts_well && name.len() <= 200 && name.bytes().all(is_plain) {
        return Ok(());
    }
    Err(format!("{CASES}{name}: expected a plain name that ends in .toml or .jsonl"))
}

fn check_line(what: &str, line: &str) -> Result<(), String> {
    if line.chars().count() <= LINE_CHARS_MAX && !line.contains(char::is_control) {
        return Ok(());
    }
    Err(format!("{what}: expected one line of at most {LINE_CHARS_MAX} characters"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn entry(path: &str) -> Value {
        json!({ "path": path, "size": 3, "sha256": SHA256 })
    }

    fn index(entries: &[&str]) -> Value {
        json!({
            "format": 1,
            "signer": { "name": "office", "public_key": SHA256 },
            "models": [{
                "publisher": "p", "name": "m", "source": "file m.gguf",
                "licence": { "id": "mit" },
            }],
            "entries": entries.iter().map(|path| entry(path)).collect::<Vec<_>>(),
            "left_out": [],
        })
    }

    fn check(value: &Value) -> Result<BundleIndex, String> {
        BundleIndex::parse(value.to_string().as_bytes())
    }

    #[test]
    fn an_index_is_read() {
        let read = check(&index(&["freehold.lock", "cases/a.toml", "models/p/m/m.gguf"])).unwrap();
        assert_eq!(read.files_of(&read.models[0]).next().unwrap().0, 2);
    }

    #[test]
    fn what_has_no_place_is_refused_by_its_name() {
        let good = "models/p/m/m.gguf";
        for bad in [
            "../m.gguf",
            "/etc/passwd",
            "models/p/m/../m.gguf",
            "models/p/m/x/m.gguf",
            "models/p/n/m.gguf",
            "models/p/m/.gguf",
            "models/p/m/manifest.toml",
            "cases/../x.toml",
            "cases/.x.toml",
            "cases/x.sh",
            "cases\\x.toml",
            "node.key",
            "",
            "models/p/m/M.GGUF",
        ] {
            let error = check(&index(&[good, bad])).unwrap_err();
            assert!(error.contains("expected"), "{bad}: {error}");
        }
        assert!(check(&index(&[good, good])).unwrap_err().contains("twice"));
        assert!(
            check(&index(&["cases/a.toml", "cases/A.toml", good])).unwrap_err().contains("twice")
        );
        assert!(check(&index(&["freehold.lock"])).unwrap_err().contains("no files"));
        let mut huge = index(&[good]);
        huge["entries"][0]["size"] = json!(1_u64 << 50);
        assert!(check(&huge).unwrap_err().contains("at most"));
        let cases: Vec<String> = (0..17).map(|idx| format!("cases/{idx}.toml")).collect();
        let mut texts = index(&[good]);
        for case in &cases {
            let mut entry = entry(case);
            entry["size"] = json!(TEXT_BYTES_MAX);
            texts["entries"].as_array_mut().unwrap().push(entry);
        }
        assert!(check(&texts).unwrap_err().contains("bytes of texts"));
        let mut name = index(&[good]);
        name["models"][0]["name"] = json!("../m");
        assert!(check(&name).is_err());
        let mut later = index(&[good]);
        later["format"] = json!(2);
        assert!(check(&later).unwrap_err().contains("expected 1"));
    }
}
