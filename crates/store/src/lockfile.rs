//! `freehold.lock`: what each model is, to the byte, and where each alias points.
//!
//! The owner keeps it in a repository beside the application and reads its changes in a diff, so
//! it is text in a fixed order, one thing a line, without dates or paths of this machine. Whoever
//! merges or edits it may leave it damaged, so it is read as strictly as anything from outside: it
//! is bounded, unknown and repeated keys are refused, and its last line tells one that was cut off.
//!
//! Here is what the file holds. What a model *is* that it is held against, `observed` finds out;
//! what becomes of a model that differs is the caller's matter, who may leave it to [`Lock`].

mod held;
mod history;
mod licences;
mod observed;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::hash::Sha256;
use crate::home::Store;
use crate::installed::Installed;
use crate::record;

pub use held::{Lock, beside, stamps};
pub use history::{History, Left, Move, Planned, Step, Tested, Timeline, Version};
pub use observed::Running;
pub(crate) use observed::source_of;

/// The file's name, where nobody says another.
pub const LOCK_FILE: &str = "freehold.lock";

/// The version of this layout; a later one is refused rather than misread.
const FORMAT: u32 = 1;

/// A model takes about 4 KiB with its template; this is room for a thousand.
const LOCK_BYTES_MAX: u64 = 4 << 20;

/// Longest name, source or other single line, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// Longest template that is kept as text beside its hash. Published ones have up to 20 KiB.
pub(crate) const TEMPLATE_BYTES_MAX: usize = 64 << 10;

const HEAD: &str = "\
# What each model is, to the byte, and where each alias points. Keep it in your repository.
# `freehold lock` writes it, `freehold diff` tells in words what differs, `freehold serve` and `run`
# refuse what is not as it says.

";

/// The last line.
const END: &str = "# end of freehold.lock";

/// A lock file's contents.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LockFile {
    /// The model that each alias stands for. An alias may end in `*`.
    pub aliases: BTreeMap<String, String>,
    /// The licences that models may come under, by the name of a model or alias, or `*`.
    pub licences: BTreeMap<String, Vec<String>>,
    /// The publishers' keys of which one must have signed what comes in, by the same names.
    pub signers: BTreeMap<String, Vec<String>>,
    /// By the name that applications ask for.
    pub models: BTreeMap<String, LockedModel>,
}

/// What a model is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedModel {
    /// Who published it; with its name, how the store calls it.
    #[serde(deserialize_with = "line")]
    pub publisher: String,
    /// `publisher/name` under which the store has its files; absent where that is the publisher
    /// and the name of this entry. An upgrade lies beside what was there before.
    #[serde(default, deserialize_with = "some_line", skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Where it came from, in the syntax of [`crate::Source`]; of a file of some machine `file` and
    /// its name.
    #[serde(deserialize_with = "line")]
    pub source: String,
    /// The commit or version it came from; absent where the source has none.
    #[serde(default, deserialize_with = "some_line", skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Its licence, "unknown" where nobody states one.
    #[serde(deserialize_with = "line")]
    pub licence: String,
    /// `general.architecture` of its file.
    #[serde(deserialize_with = "line")]
    pub architecture: String,
    /// The version of the arithmetic: with another one the same request may give other tokens.
    pub numerics: u32,
    /// SHA-256 of its vocabulary, over the metadata under `tokenizer.` but chat templates; absent
    /// where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer: Option<Sha256>,
    /// Its chat template; absent where it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<LockedTemplate>,
    /// What requests get that do not say.
    #[serde(default, deserialize_with = "keyed", skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, Number>,
    /// In which formats its tensors are, such as `Q4_K x20, Q6_K x10`, by their names, in which
    /// `*` stands for the number of the layer.
    #[serde(deserialize_with = "keyed_lines")]
    pub tensors: BTreeMap<String, String>,
    /// Its files; of a split model all parts, in order.
    #[serde(rename = "file")]
    pub files: Vec<LockedFile>,
}

/// A chat template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedTemplate {
    /// Of its text.
    pub sha256: Sha256,
    /// The text, so that a change of it can be read; absent where it is longer than 64 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its name, without the folder: for people, since the same bytes may lie under several.
    #[serde(deserialize_with = "line")]
    pub name: String,
    /// Its length in bytes.
    pub n_bytes: u64,
    /// Of all its bytes.
    pub sha256: Sha256,
}

/// A number as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Number {
    /// A whole one.
    Integer(i64),
    /// Any other; finite.
    Float(f64),
}

impl From<f32> for Number {
    /// By way of its shortest text, so that 0.8 does not become 0.800000011920929.
    fn from(value: f32) -> Self {
        Self::Float(value.to_string().parse().unwrap_or(f64::from(value)))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
        }
    }
}

/// One thing in which a model is not what the lock says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What differs, such as `chat template`.
    pub item: String,
    /// What the lock says.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected {}, found {}", self.item, self.expected, self.found)
    }
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    format: u32,
    #[serde(default, deserialize_with = "keyed_lines", skip_serializing_if = "BTreeMap::is_empty")]
    alias: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "keyed_lists", skip_serializing_if = "BTreeMap::is_empty")]
    licences: BTreeMap<String, Vec<String>>,
    #[serde(default, deserialize_with = "keyed_lists", skip_serializing_if = "BTreeMap::is_empty")]
    signers: BTreeMap<String, Vec<String>>,
    #[serde(default, deserialize_with = "keyed", skip_serializing_if = "BTreeMap::is_empty")]
    model: BTreeMap<String, LockedModel>,
}

impl LockFile {
    /// Reads the lock at `path`; `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::BadLock`] with line and column, [`StoreError::Io`].
    pub fn read(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(path, "opening")(error)),
        };
        let mut bytes = Vec::new();
        file.take(LOCK_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(StoreError::io(path, "reading"))?;
        Self::parse(&bytes).map(Some).map_err(|(at, problem)| {
            let (line, column) = position(&bytes, at);
            StoreError::BadLock { path: path.to_owned(), line, column, problem }
        })
    }

    /// Reads a lock; an error is the byte where it goes wrong, and why.
    fn parse(bytes: &[u8]) -> Result<Self, (usize, String)> {
        if bytes.len() as u64 > LOCK_BYTES_MAX {
            return Err((
                0,
                format!("the file is longer, expected at most {LOCK_BYTES_MAX} bytes"),
            ));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| (error.valid_up_to(), "this is no UTF-8, expected text".to_owned()))?;
        let layout: Layout = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            (at, error.message().trim().replace('\n', ", "))
        })?;
        if layout.format != FORMAT {
            let problem = format!("format {}, expected {FORMAT}", layout.format);
            return Err((text.find("format").unwrap_or(0), problem));
        }
        if text.trim_end().lines().next_back() != Some(END) {
            let problem = format!("the file ends before its last line, expected {END:?}");
            return Err((text.len(), problem));
        }
        let Layout { format: _, alias: aliases, licences, signers, model: models } = layout;
        Ok(Self { aliases, licences, signers, models })
    }

    /// What the store calls the model that `name` stands for: `publisher/name` where the lock says
    /// it, else `name` as it stands.
    pub fn installed_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.models.get(name).and_then(|entry| entry.installed.as_deref()).unwrap_or(name)
    }

    /// By which name `installed` goes; `None` where that name stands for another version of it.
    pub fn name_of<'a>(&'a self, installed: &'a Installed) -> Option<&'a str> {
        let full_name = installed.full_name();
        let is_it = |entry: &LockedModel| entry.installed.as_ref() == Some(&full_name);
        if let Some((name, _)) = self.models.iter().find(|(_, entry)| is_it(entry)) {
            return Some(name);
        }
        let namesake = self.models.get(&installed.name);
        let is_another = namesake.is_some_and(|entry| entry.installed.is_some());
        (!is_another).then_some(installed.name.as_str())
    }

    /// As [`LockFile::name_of`] among `all` that are installed: a namesake of another publisher is
    /// not what the name stands for, where the lock's own is here too.
    pub fn name_among<'a>(
        &'a self,
        installed: &'a Installed,
        all: &[Installed],
    ) -> Option<&'a str> {
        let name = self.name_of(installed)?;
        let Some(entry) = self.models.get(name) else { return Some(name) };
        let full_name = entry.full_name(name);
        let is_own = installed.full_name() == full_name;
        (is_own || !all.iter().any(|of| of.full_name() == full_name)).then_some(name)
    }

    /// The installed model that `name` stands for: of namesakes of several publishers the one that
    /// the lock says.
    ///
    /// # Errors
    /// As [`Store::resolve`].
    pub fn resolve(&self, store: &Store, name: &str) -> Result<Installed, StoreError> {
        match (store.resolve(self.installed_name(name)), self.models.get(name)) {
            (Err(StoreError::AmbiguousName { .. }), Some(entry)) => {
                store.resolve(&entry.full_name(name))
            }
            (found, _) => found,
        }
    }

    /// The model that `name` stands for: an entry's own name, else that of the narrowest alias.
    pub fn model_of<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        if self.models.contains_key(name) {
            return Some(name);
        }
        self.aliases.get(name).or_else(|| self.wider(name)).map(String::as_str)
    }

    /// The model that the narrowest of the aliases `NAME*` stands for that `name` begins with.
    pub fn wider(&self, name: &str) -> Option<&String> {
        let covers = |of: &str| of.strip_suffix('*').is_some_and(|begin| name.starts_with(begin));
        let wider = self.aliases.iter().filter(|(of, _)| covers(of));
        wider.max_by_key(|(of, _)| of.len()).map(|(_, model)| model)
    }

    /// Writes the lock to `path`, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::DiskFull`].
    pub fn write(&self, path: &Path) -> Result<(), StoreError> {
        // A link stays one.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        record::sweep_old(&path);
        record::write_text(&path, &self.to_text())
    }

    fn to_text(&self) -> String {
        let Self { aliases: alias, licences, signers, models: model } = self.clone();
        let body = toml::to_string(&Layout { format: FORMAT, alias, licences, signers, model })
            .expect("names, numbers and texts can be written as TOML");
        format!("{HEAD}{body}\n{END}\n")
    }
}

impl LockedModel {
    /// What the store calls it, as the entry of `name`.
    pub fn full_name(&self, name: &str) -> String {
        self.installed.clone().unwrap_or_else(|| format!("{}/{name}", self.publisher))
    }

    /// SHA-256 of what the lock says of this model: one word that changes with any of it.
    pub fn digest(&self) -> Sha256 {
        let text = toml::to_string(self).expect("names, numbers and texts can be written as TOML");
        Sha256::of(text.as_bytes())
    }

    /// In what `found` differs from what the lock says, in words. What files are called is no
    /// difference: a model that was copied has other names than one that is used where it lies.
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut out = Differences(Vec::new());
        let unknown = || "none".to_owned();
        out.line("publisher", &self.publisher, &found.publisher);
        let installed = |of: &Self| of.installed.clone().unwrap_or_else(|| "its name".to_owned());
        out.line("installed as", &installed(self), &installed(found));
        out.line("source", &self.source, &found.source);
        let revision = |of: &Self| of.revision.clone().unwrap_or_else(unknown);
        out.line("revision", &revision(self), &revision(found));
        out.line("licence", &self.licence, &found.licence);
        out.line("architecture", &self.architecture, &found.architecture);
        out.line("numerics", &self.numerics.to_string(), &found.numerics.to_string());
        let template = |of: &Self| of.template.as_ref().map_or_else(unknown, |of| said(&of.sha256));
        out.line("chat template", &template(self), &template(found));
        if let Some(LockedTemplate { sha256, text: Some(text) }) = &self.template
            && *sha256 != observed::hash_of_text(text)
        {
            let of_text = said(&observed::hash_of_text(text));
            out.line("text of the chat template in the lock", &said(sha256), &of_text);
        }
        let tokenizer = |of: &Self| of.tokenizer.as_ref().map_or_else(unknown, said);
        out.line("tokenizer", &tokenizer(self), &tokenizer(found));
        out.map("default", &self.defaults, &found.defaults);
        out.map("tensors", &self.tensors, &found.tensors);
        out.files(&self.files, &found.files);
        out.0
    }
}

fn said(sha256: &Sha256) -> String {
    format!("sha256 {sha256}")
}

/// Differences in the making.
struct Differences(Vec<Difference>);

impl Differences {
    fn line(&mut self, item: &str, expected: &str, found: &str) {
        if expected != found {
            let (expected, found) = (expected.to_owned(), found.to_owned());
            self.0.push(Difference { item: item.to_owned(), expected, found });
        }
    }

    /// What two maps do not have alike, by key.
    fn map<V: fmt::Display>(
        &mut self,
        item: &str,
        expected: &BTreeMap<String, V>,
        found: &BTreeMap<String, V>,
    ) {
        let value = |of: &BTreeMap<String, V>, key: &str| {
            of.get(key).map_or_else(|| "none".to_owned(), V::to_string)
        };
        let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
        for key in keys {
            self.line(&format!("{item} {key}"), &value(expected, key), &value(found, key));
        }
    }

    fn files(&mut self, expected: &[LockedFile], found: &[LockedFile]) {
        self.line("number of files", &expected.len().to_string(), &found.len().to_string());
        for (expected, found) in expected.iter().zip(found) {
            let item = format!("file {}", expected.name);
            let size = |of: &LockedFile| format!("{} bytes", of.n_bytes);
            self.line(&item, &size(expected), &size(found));
            self.line(&item, &said(&expected.sha256), &said(&found.sha256));
        }
    }
}

/// Line and column of a byte, counted from 1, the column in characters.
fn position(bytes: &[u8], at: usize) -> (usize, usize) {
    let before = &bytes[..at.min(bytes.len())];
    let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |idx| idx + 1);
    let n_lines = before.iter().filter(|&&byte| byte == b'\n').count();
    (n_lines + 1, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

/// One line of text: it is shown to people, and a terminal must not be steered by it.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Line(String);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.len() > LINE_BYTES_MAX || text.contains(char::is_control) {
            let shown: String = text.chars().take(40).collect();
            let problem =
                format!("{shown:?}: expected one line of 1 to {LINE_BYTES_MAX} characters");
            return Err(de::Error::custom(problem));
        }
        Ok(Self(text))
    }
}

fn line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Line::deserialize(deserializer).map(|line| line.0)
}

fn some_line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    line(deserializer).map(Some)
}

/// A table whose keys are lines.
fn keyed<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    let table = BTreeMap::<Line, V>::deserialize(deserializer)?;
    Ok(table.into_iter().map(|(key, value)| (key.0, value)).collect())
}

/// A table whose keys and values are lines.
fn keyed_lines<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, String>, D::Error> {
    let table = keyed::<D, Line>(deserializer)?;
    Ok(table.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// A table whose keys are lines and whose values are lists of lines.
fn keyed_lists<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<String>>, D::Error> {
    let table = keyed::<D, Vec<Line>>(deserializer)?;
    let lines = |list: Vec<Line>| list.into_iter().map(|line| line.0).collect();
    Ok(table.into_iter().map(|(key, list)| (key, lines(list))).collect())
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfNumber;

        impl Visitor<'_> for OfNumber {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a finite number")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
                Ok(Number::Integer(value))
            }

            /// As JSON gives one that is not negative.
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
                let value = i64::try_from(value);
                value.map(Number::Integer).map_err(|_| E::custom("a number above 2^63"))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
                match value.is_finite() {
                    true => Ok(Number::Float(value)),
                    false => Err(E::invalid_value(de::Unexpected::Float(value), &self)),
                }
            }
        }

        deserializer.deserialize_any(OfNumber)
    }
}

#[cfg(test)]
mod tests;
