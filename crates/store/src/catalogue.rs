//! The built-in catalogue: models that were really pulled and verified, with their hashes.
//!
//! The list is data (`catalogue.toml`, embedded); a new entry is one table there.

use std::sync::OnceLock;

use crate::error::StoreError;
use crate::hash::Sha256;
use crate::installed::Licence;
use crate::name::{ModelName, check_file_name};
use crate::source::Source;

/// The models this program knows by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    default: String,
    entries: Vec<Entry>,
}

/// One model of the catalogue.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The name to pull it by.
    pub name: String,
    /// Who published it.
    pub publisher: String,
    /// For people.
    pub title: String,
    /// What it was trained to do.
    pub kind: ModelKind,
    /// Where it is fetched, pinned to its hash.
    pub source: Source,
    /// The file's name in the store.
    pub file: String,
    /// Its length in bytes.
    pub n_bytes: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// How many bytes travel, packed.
    pub download_bytes: u64,
    /// Its licence.
    pub licence: Licence,
    /// True when the licence must be accepted before the first pull.
    pub must_accept: bool,
}

/// What a model was trained to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Answers in a conversation.
    Chat,
    /// Continues text.
    Base,
    /// Makes vectors of texts.
    Embedding,
}

impl Catalogue {
    /// The catalogue built into this program.
    pub fn builtin() -> &'static Self {
        static BUILTIN: OnceLock<Catalogue> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            Self::parse(include_str!("../catalogue.toml"))
                .expect("the catalogue built in is the one that its own test reads")
        })
    }

    /// The name of the model used when none is named.
    pub fn default_name(&self) -> &str {
        &self.default
    }

    /// All entries, in the catalogue's order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Looks up `name` or `publisher/name`.
    ///
    /// # Errors
    /// [`StoreError::UnknownName`] listing the names that are known.
    pub fn get(&self, name: &str) -> Result<&Entry, StoreError> {
        self.find(name).ok_or_else(|| StoreError::UnknownName {
            name: name.to_owned(),
            hint: format!("the catalogue has {}", self.names().join(", ")),
        })
    }

    /// As [`Catalogue::get`], without the error. Case does not matter.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let is_meant = |entry: &&Entry| {
            let full_name = format!("{}/{}", entry.publisher, entry.name);
            entry.name.eq_ignore_ascii_case(name) || full_name.eq_ignore_ascii_case(name)
        };
        self.entries.iter().find(is_meant)
    }

    /// The names of all entries.
    pub fn names(&self) -> Vec<&str> {
        self.entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let raw: RawCatalogue = toml::from_str(text).map_err(|error| error.to_string())?;
        let entries = raw.model.into_iter().map(RawEntry::check).collect::<Result<Vec<_>, _>>()?;
        let catalogue = Self { default: raw.default, entries };
        match catalogue.find(&catalogue.default) {
            Some(_) => Ok(catalogue),
            None => Err(format!("default {:?} is no entry", catalogue.default)),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCatalogue {
    default: String,
    model: Vec<RawEntry>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    name: String,
    publisher: String,
    title: String,
    kind: ModelKind,
    source: String,
    file: String,
    n_bytes: u64,
    sha256: Sha256,
    download_bytes: u64,
    licence: RawLicence,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLicence {
    id: String,
    url: String,
    notice: Option<String>,
    #[serde(default)]
    must_accept: bool,
}

impl RawEntry {
    fn check(self) -> Result<Entry, String> {
        ModelName::new(&self.publisher, &self.name).map_err(|error| error.to_string())?;
        check_file_name(&self.file).map_err(|error| error.to_string())?;
        let source = Source::parse(&self.source).map_err(|error| error.to_string())?;
        let RawLicence { id, url, notice, must_accept } = self.licence;
        Ok(Entry {
            name: self.name,
            publisher: self.publisher,
            title: self.title,
            kind: self.kind,
            source: source.pinned(self.sha256),
            file: self.file,
            n_bytes: self.n_bytes,
            sha256: self.sha256,
            download_bytes: self.download_bytes,
            licence: Licence { id, url: Some(url), notice, accepted: None },
            must_accept,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::ImportFormat;
    use crate::source::imported_file_name;

    #[test]
    fn the_built_in_catalogue_reads_and_holds_its_models() {
        let catalogue = Catalogue::builtin();
        let names = ["smollm2-135m", "gemma3-270m", "minilm-l6-v2", "minilm-l6-v2-q8_0"];
        assert_eq!(catalogue.names(), names);
        let chat = catalogue.get(catalogue.default_name()).unwrap();
        assert_eq!((chat.kind, chat.must_accept), (ModelKind::Chat, false));
        let base = catalogue.get("google/gemma3-270m").unwrap();
        assert_eq!((base.kind, base.must_accept), (ModelKind::Base, true));
        let Source::Pip { parts, sha256 } = &base.source else { panic!("{:?}", base.source) };
        assert_eq!((parts.len(), *sha256), (4, Some(base.sha256)));
        for (name, format) in names[2..].iter().zip(ImportFormat::ALL) {
            let entry = catalogue.get(name).unwrap();
            let Source::Import { part, format: found, .. } = &entry.source else {
                panic!("{name}")
            };
            assert_eq!((entry.kind, *found), (ModelKind::Embedding, format));
            assert_eq!(entry.file, imported_file_name(part, format));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = Catalogue::builtin().get("gpt-9").unwrap_err().to_string();
        let expected = "no model named \"gpt-9\": the catalogue has smollm2-135m, gemma3-270m, ";
        assert!(error.starts_with(expected), "{error}");
    }

    #[test]
    fn a_broken_catalogue_is_refused() {
        assert!(Catalogue::parse("default = 'x'\nmodel = []").unwrap_err().contains("no entry"));
        assert!(Catalogue::parse("default = 'x'\nmodel = []\nmore = 1").is_err());
    }
}
