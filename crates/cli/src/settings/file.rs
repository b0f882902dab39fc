//! The file of settings: read whole, checked whole, every problem with its line and column.
//!
//! Values are brought into the form that their flags have; what they mean is for those to say.
//! Nothing of a value stands in a message here: it may be a secret under a wrong name.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ValueHint};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::upstreams::{self, Told};
use super::{CONFIG, MODEL, MODELS, Place, Settings, Shape, name_of, shape, value_name};
use crate::ledger;
use crate::locate;

/// Largest file: thousands of times what all settings take.
const N_BYTES_MAX: u64 = 1 << 20;
/// Most problems that are told.
const N_PROBLEMS_MAX: usize = 64;
/// What values of settings are called that are names or files.
const NAME_OR_FILE: &str = "NAME|FILE";

/// What the file says of one setting.
pub(super) struct Entry {
    pub(super) name: String,
    /// Of its key.
    pub(super) place: Place,
    pub(super) items: Vec<Item>,
}

/// A value, or one of several.
pub(super) struct Item {
    pub(super) text: OsString,
    pub(super) place: Place,
}

/// What the file says.
#[derive(Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) upstreams: Vec<Told>,
    pub(super) problems: Vec<String>,
}

/// Reads what the file at `path` says of `settings`, and all that is wrong with it.
pub(super) fn read(settings: &Settings, path: &Path) -> Found {
    match load(path) {
        Ok(text) => Reader { settings, path, text: &text, problems: Vec::new() }.read(),
        Err(problem) => {
            let problems = vec![format!("{}: {problem}", path.display())];
            Found { problems, ..Found::default() }
        }
    }
}

fn load(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(N_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > N_BYTES_MAX {
        return Err(format!("more than {N_BYTES_MAX} bytes, expected a file of settings"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let n_valid = error.utf8_error().valid_up_to();
        format!("not UTF-8 behind byte {n_valid}, expected TOML")
    })
}

pub(super) struct Reader<'a> {
    settings: &'a Settings,
    path: &'a Path,
    text: &'a str,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn read(mut self) -> Found {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        let mut broken_lines = Vec::new();
        for error in errors.iter().take(N_PROBLEMS_MAX) {
            let place = self.place(&error.span().unwrap_or(0..0));
            broken_lines.push(place.line);
            // Its message only: its display shows the line, with whatever is in it.
            self.problems.push(format!("{place}: {}", error.message().replace('\n', ", ")));
        }
        let (mut entries, mut upstreams) = (Vec::new(), Vec::new());
        for (key, value) in table.get_ref().iter() {
            let place = self.place(&key.span());
            let is_broken = [place.line, self.place(&value.span()).line]
                .iter()
                .any(|line| broken_lines.contains(line));
            if is_broken || self.problems.len() >= N_PROBLEMS_MAX {
                continue;
            }
            if key.get_ref() == upstreams::SECTION {
                upstreams = upstreams::read(&mut self, value);
                continue;
            }
            // The rules are the policy's to read.
            if policy::SECTIONS.contains(&key.get_ref().as_ref()) {
                continue;
            }
            match self.settings.find(key.get_ref()) {
                Some(arg) => entries.extend(self.entry(arg, place, value)),
                None => self.problems.push(format!("{place}: {}", self.unknown(key.get_ref()))),
            }
        }
        Found { entries, upstreams, problems: self.problems }
    }

    /// Keeps what is wrong at a place.
    pub(super) fn problem(&mut self, span: &Range<usize>, problem: &str) {
        let place = self.place(span);
        self.problems.push(format!("{place}: {problem}"));
    }

    /// The folder that paths are seen from.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    fn entry(&mut self, arg: &Arg, place: Place, value: &Spanned<DeValue<'_>>) -> Option<Entry> {
        let name = name_of(arg);
        let is_string = |value: &DeValue<'_>| value.is_str();
        let items = match (shape(arg), value.get_ref()) {
            (Shape::Switch, DeValue::Boolean(is_on)) => {
                let text = is_on.to_string().into();
                vec![Item { text, place: self.place(&value.span()) }]
            }
            (Shape::One, one) if text_of(one).is_some() => vec![self.item(arg, value)?],
            (Shape::List, DeValue::Array(list))
                if list.iter().all(|one| is_string(one.get_ref())) =>
            {
                list.iter().map(|one| self.item(arg, one)).collect::<Option<_>>()?
            }
            (Shape::Table, DeValue::Table(table))
                if table
                    .iter()
                    .all(|(key, one)| is_string(one.get_ref()) && !key.get_ref().contains('=')) =>
            {
                let mut pairs: Vec<_> = table.iter().collect();
                // The first that fits counts.
                pairs.sort_by_key(|(key, _)| key.span().start);
                let pair = |(key, one): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
                    let text = format!("{}={}", key.get_ref(), one.get_ref().as_str()?).into();
                    Some(Item { text, place: self.place(&key.span()) })
                };
                pairs.into_iter().map(pair).collect::<Option<_>>()?
            }
            (shape, other) => {
                let found = other.type_str();
                let expected = match shape {
                    Shape::Switch => "expected true or false",
                    Shape::One => "expected one value",
                    Shape::List => "expected a list of strings",
                    Shape::Table => "expected a table of strings, with no \"=\" in a name",
                };
                let place = self.place(&value.span());
                self.problems.push(format!("{place}: {name}: {found}, {expected}"));
                return None;
            }
        };
        Some(Entry { name, place, items })
    }

    /// A value as its flag would have it, a path in it as seen from here.
    fn item(&self, arg: &Arg, value: &Spanned<DeValue<'_>>) -> Option<Item> {
        let text = text_of(value.get_ref())?;
        let is_path = match arg.get_value_hint() {
            ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath => true,
            _ => match value_name(arg) {
                Some(NAME_OR_FILE) => locate::looks_like_path(&text),
                Some(ledger::PLACE) => ledger::is_path(&text),
                _ => false,
            },
        };
        let text = if is_path { beside(self.folder(), &text).into() } else { text.into() };
        Some(Item { text, place: self.place(&value.span()) })
    }

    pub(super) fn place(&self, span: &Range<usize>) -> Place {
        let before = &self.text[..self.text.floor_char_boundary(span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        Place { path: self.path.to_owned(), line, column }
    }

    /// What there is to say of a key that no setting has.
    fn unknown(&self, key: &str) -> String {
        let shown: String = key.chars().take(40).collect();
        let hint = match key {
            CONFIG => ", which is for the command line".to_owned(),
            MODEL => format!(", did you mean {MODELS:?}?"),
            _ => self
                .suggestion(key)
                .map(|name| format!(", did you mean {name:?}?"))
                .unwrap_or_default(),
        };
        format!("{shown:?}: no setting has this name{hint}")
    }

    /// The setting that clap takes a flag of this name for.
    fn suggestion(&self, key: &str) -> Option<String> {
        let flag = format!("--{}", key.replace('_', "-"));
        if let Some(name) = self.settings.names().find(|name| flag[2..] == **name) {
            return Some(name);
        }
        let command = self.settings.command.clone().no_binary_name(true);
        let error = command.try_get_matches_from([flag]).err()?;
        let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg) else {
            return None;
        };
        match flag.trim_start_matches("--") {
            CONFIG => None,
            MODEL => Some(MODELS.to_owned()),
            name => Some(name.to_owned()),
        }
    }
}

/// `text` as a path of a file in `folder` would be meant.
pub(super) fn beside(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join(text);
    // A name alone would not be taken for a path any more.
    let is_bare = path.components().count() == 1 && path.is_relative();
    if is_bare { Path::new(".").join(path) } else { path }
}

/// A value that is one, as a flag would have it.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .ok()
            .map(|number| number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        _ => None,
    }
}
