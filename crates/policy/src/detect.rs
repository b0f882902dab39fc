//! Personal data and secrets in a text. One more kind is one file below with its constant, and a
//! line in [`KINDS`].
//!
//! A kind has patterns, which say where something of it may stand, and a judge, which says how sure
//! that is: by check digits, ranges, and words nearby ("IBAN", "BSN"). Digits that pass a check by
//! chance are many, so few digits need such a word.
//!
//! Bounded: patterns are regular expressions in linear time; where a judge refuses a short match,
//! the search goes on behind its first character, behind a long one at its end. So the time is the
//! length of the text, [`TEXT_BYTES_MAX`] at most, times [`RETRY_BYTES`] at worst.

mod api_key;
mod assigned_secret;
mod br_cpf;
mod candidate;
mod card;
mod de_steuer_id;
mod email;
mod es_dni;
mod fr_nir;
mod iban;
mod in_aadhaar;
mod ip_address;
mod it_codice_fiscale;
mod jwt;
mod name;
mod nl_bsn;
mod phone;
mod pl_pesel;
mod private_key;
mod se_personnummer;
mod settings;
mod uk_nhs;
mod us_ssn;

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use crate::error::{PolicyError, Problem, listed, quoted, suggestion};
use crate::source::Value;
use candidate::{Candidate, Found};
use name::Names;
pub use settings::Settings;

/// Longest text that is looked through, in bytes: a prompt of about a million tokens.
pub const TEXT_BYTES_MAX: usize = 4 << 20;
/// Longest match of a pattern inside which the search goes on after a judge refused it: a query of
/// a URL has parameters behind the one that matched.
const RETRY_BYTES: usize = 256;

/// All kinds. Where two find the same place, the surer one has it, else the first here.
const KINDS: &[&Kind] = &[
    &email::EMAIL,
    &phone::PHONE,
    &iban::IBAN,
    &card::CARD,
    &us_ssn::US_SSN,
    &uk_nhs::UK_NHS,
    &de_steuer_id::DE_STEUER_ID,
    &fr_nir::FR_NIR,
    &es_dni::ES_DNI,
    &it_codice_fiscale::IT_CODICE_FISCALE,
    &nl_bsn::NL_BSN,
    &pl_pesel::PL_PESEL,
    &br_cpf::BR_CPF,
    &se_personnummer::SE_PERSONNUMMER,
    &in_aadhaar::IN_AADHAAR,
    &name::NAME,
    &ip_address::IP_ADDRESS,
    &api_key::API_KEY,
    &assigned_secret::ASSIGNED_SECRET,
    &jwt::JWT,
    &private_key::PRIVATE_KEY,
];

/// A kind of what is detected.
struct Kind {
    name: &'static str,
    group: Group,
    /// Where something of it may stand.
    patterns: &'static [&'static str],
    /// In lower case; near a candidate they make it surer.
    words: &'static [&'static str],
    /// What of a match is one, and how sure that is.
    judge: fn(&Candidate<'_>) -> Option<Found>,
}

/// What classes have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    /// About a person.
    Personal,
    /// Addresses of machines.
    Network,
    /// Whoever has it can use it.
    Secret,
}

impl Group {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] =
        &[("personal", Self::Personal), ("network", Self::Network), ("secret", Self::Secret)];
}

/// What something detected is: the index of its kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(usize);

impl Class {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..KINDS.len()).map(Self)
    }

    /// That of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|class| class.name() == name)
    }

    /// As rules name it.
    pub fn name(self) -> &'static str {
        KINDS[self.0].name
    }

    /// Its group.
    pub fn group(self) -> Group {
        KINDS[self.0].group
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The classes that a word means: a class, or all of a group. `other` words are allowed alone.
pub(crate) fn classes(word: &Value<'_>, other: &[&'static str]) -> Result<Vec<Class>, Problem> {
    classes_named(word, word.text()?, other)
}

/// As [`classes`], of the word `name` that stands at `value`.
pub(crate) fn classes_named(
    value: &Value<'_>,
    name: &str,
    other: &[&'static str],
) -> Result<Vec<Class>, Problem> {
    if let Some(class) = Class::named(name) {
        return Ok(vec![class]);
    }
    if let Some((_, group)) = Group::NAMES.iter().find(|(word, _)| *word == name) {
        return Ok(Class::all().filter(|class| class.group() == *group).collect());
    }
    if other.contains(&name) {
        return Err(value.wrong(format!("{}: expected it alone", quoted(name))));
    }
    let groups = || Group::NAMES.iter().map(|(word, _)| *word);
    let names = || Class::all().map(Class::name).chain(groups()).chain(other.iter().copied());
    let hint = match suggestion(name, names()) {
        hint if hint.is_empty() => format!(", expected one of {}", listed(names())),
        hint => hint,
    };
    Err(value.wrong(format!("{}{hint}", quoted(name))))
}

/// Something detected.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// What it is.
    pub class: Class,
    /// Where it stands, in bytes.
    pub range: Range<usize>,
    /// How sure that is, from 0 to 1. A guess of ours, the same for all of a form, not a measured
    /// probability.
    pub confidence: f32,
}

/// The patterns of each kind.
static PATTERNS: LazyLock<Vec<Vec<Regex>>> = LazyLock::new(|| {
    let compile = |pattern: &&str| Regex::new(pattern).expect("patterns are ours");
    KINDS.iter().map(|kind| kind.patterns.iter().map(compile).collect()).collect()
});

/// Looks through texts.
#[derive(Debug)]
pub struct Detector {
    names: Option<Names>,
    min_confidence: f32,
}

impl Detector {
    /// One with these settings.
    pub fn new(settings: &Settings) -> Self {
        Self { names: Names::new(&settings.names), min_confidence: settings.min_confidence }
    }

    /// What there is in `text`, in its order, nothing twice: where several overlap they are one, of
    /// the class of a secret before others and of the surer before the others.
    ///
    /// # Errors
    /// A text longer than [`TEXT_BYTES_MAX`].
    pub fn find(&self, text: &str) -> Result<Vec<Detection>, PolicyError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PolicyError::TextTooLong { n_bytes: text.len() });
        }
        let mut found = Vec::new();
        for (class, patterns) in Class::all().zip(PATTERNS.iter()) {
            for pattern in patterns {
                self.scan(text, class, pattern, &mut found);
            }
        }
        if let (Some(names), Some(class)) = (&self.names, Class::named(name::NAME.name)) {
            let detection = |range| Detection { class, range, confidence: name::CONFIDENCE };
            found.extend(names.find(text).into_iter().map(detection));
        }
        found.retain(|one| one.confidence >= self.min_confidence);
        Ok(merged(found))
    }

    fn scan(&self, text: &str, class: Class, pattern: &Regex, found: &mut Vec<Detection>) {
        let kind = KINDS[class.0];
        let mut at = 0;
        while let Some(matched) = pattern.find_at(text, at) {
            let candidate = Candidate::new(text, matched.range(), kind.words);
            let judged = (kind.judge)(&candidate);
            at = match judged.filter(|judged| judged.confidence >= self.min_confidence) {
                Some(Found { range, confidence }) => {
                    let next = range.end.max(after(text, matched.start()));
                    found.push(Detection { class, range, confidence });
                    next
                }
                None if matched.len() <= RETRY_BYTES => after(text, matched.start()),
                None => matched.end(),
            };
        }
    }
}

/// Where the character at `at` ends.
fn after(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(1, char::len_utf8)
}

/// In the order of the text, and what overlaps as one.
fn merged(mut found: Vec<Detection>) -> Vec<Detection> {
    found.sort_by_key(|one| (one.range.start, one.class));
    let rank = |one: &Detection| (one.class.group() == Group::Secret, one.confidence);
    let mut merged: Vec<Detection> = Vec::with_capacity(found.len());
    for one in found {
        match merged.last_mut() {
            Some(last) if one.range.start < last.range.end => {
                last.range.end = last.range.end.max(one.range.end);
                if rank(&one) > rank(last) {
                    (last.class, last.confidence) = (one.class, one.confidence);
                }
            }
            _ => merged.push(one),
        }
    }
    merged
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of the kinds have in common.

    use super::*;

    /// What is found in `text` as `class:value`, with the default settings, is this.
    #[track_caller]
    pub(crate) fn check(text: &str, expected: &[&str]) {
        let found = Detector::new(&Settings::default()).find(text).unwrap();
        let found: Vec<String> = found
            .iter()
            .map(|one| format!("{:?}:{}", one.class, &text[one.range.clone()]))
            .collect();
        assert_eq!(found, expected, "{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::testing::check;
    use super::*;

    #[test]
    fn names_of_classes_are_words() {
        let mut names: Vec<&str> = Class::all().map(Class::name).collect();
        names.extend(Group::NAMES.iter().map(|(name, _)| *name));
        let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(names.iter().all(|name| name.chars().all(is_word)));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KINDS.len() + Group::NAMES.len());
    }

    #[test]
    fn what_overlaps_is_one_and_a_secret_first() {
        let class = |name| Class::named(name).unwrap();
        let one = |name, range, confidence| Detection { class: class(name), range, confidence };
        let found = merged(vec![
            one("phone", 5..9, 0.9),
            one("email", 0..6, 0.6),
            one("jwt", 8..12, 0.5),
            one("iban", 12..13, 0.9),
        ]);
        assert_eq!(found, [one("jwt", 0..12, 0.5), one("iban", 12..13, 0.9)]);
    }

    #[test]
    fn a_text_has_a_bound() {
        let detector = Detector::new(&Settings::default());
        let n_bytes = TEXT_BYTES_MAX + 1;
        assert_eq!(detector.find(&"a".repeat(n_bytes)), Err(PolicyError::TextTooLong { n_bytes }));
    }

    #[test]
    fn several_in_one_text() {
        check(
            "Write to ada@example.org, card 4111 1111 1111 1111, IBAN DE89 3704 0044 0532 0130 00.",
            &[
                "email:ada@example.org",
                "card:4111 1111 1111 1111",
                "iban:DE89 3704 0044 0532 0130 00",
            ],
        );
        check("", &[]);
        check("Nothing to see here: 42.", &[]);
    }
}
