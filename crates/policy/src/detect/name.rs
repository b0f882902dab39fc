//! Names that the owner lists.

use std::ops::Range;

use aho_corasick::AhoCorasick;
use unicode_normalization::char::{decompose_canonical, is_combining_mark};

use super::{Group, Kind};

/// Names of the owner's list. They are found by [`Names`], not by patterns.
pub(super) const NAME: Kind =
    Kind { name: "name", group: Group::Personal, patterns: &[], words: &[], judge: |_| None };

/// The owner knows what is a name.
pub(super) const CONFIDENCE: f32 = 1.0;

/// Finds names, where they stand as words (in scripts without spaces anywhere), whatever their
/// case, accents' form or white space (Unicode Standard, D145: caseless matching; UAX 15:
/// canonical decomposition).
#[derive(Debug)]
pub(super) struct Names(AhoCorasick);

impl Names {
    /// `None`: there are none, or they are too many to be looked for.
    pub(super) fn new(names: &[String]) -> Option<Self> {
        let folded: Vec<String> = names.iter().map(|name| Folded::of(name).text).collect();
        let automaton = (!folded.is_empty()).then(|| AhoCorasick::new(&folded));
        automaton.map(|automaton| Self(automaton.expect("the lengths of names are bounded")))
    }

    pub(super) fn find(&self, text: &str) -> Vec<Range<usize>> {
        let folded = Folded::of(text);
        let found = self.0.find_overlapping_iter(&folded.text).filter_map(|found| {
            let is_word = |c: char| c.is_alphanumeric() || c == '_' || is_combining_mark(c);
            let before = folded.text[..found.start()].chars().next_back();
            let after = folded.text[found.end()..].chars().next();
            let name = &folded.text[found.range()];
            let is_joined = |edge: Option<char>, beside: Option<char>| {
                beside.is_some_and(is_word) && !edge.is_some_and(has_no_spaces)
            };
            let mut edges = name.chars();
            let is_begun = !is_joined(edges.next(), before);
            let is_alone = is_begun && !is_joined(edges.next_back(), after);
            is_alone.then(|| folded.place(found.range()))
        });
        found.collect()
    }
}

/// Whether words of its script stand without spaces between them.
fn has_no_spaces(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// A text in one case, decomposed, with single spaces, and where its bytes come from.
struct Folded {
    text: String,
    /// Of each byte, where the character that it comes from begins, and of the end.
    places: Vec<u32>,
}

impl Folded {
    fn of(text: &str) -> Self {
        let mut folded = Self { text: String::with_capacity(text.len()), places: Vec::new() };
        for (at, c) in text.char_indices() {
            if c.is_whitespace() {
                if !folded.text.ends_with(' ') {
                    folded.text.push(' ');
                }
            } else {
                // Upper case first: it makes ß of two letters, and one sigma of two.
                decompose_canonical(c, |c| {
                    folded.text.extend(c.to_uppercase().flat_map(char::to_lowercase));
                });
            }
            folded.places.resize(folded.text.len(), at as u32);
        }
        folded.places.push(text.len() as u32);
        folded
    }

    /// The range of the text that a range of the folded one comes from.
    fn place(&self, range: Range<usize>) -> Range<usize> {
        let start = self.places[range.start] as usize;
        let last = self.places[range.end - 1];
        // The next byte that comes from another character begins it.
        let end = self.places[range.end..].iter().find(|&&place| place > last);
        start..end.map_or(start, |&end| end as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Detector, Settings};

    #[track_caller]
    fn check(name: &str, text: &str, expected: &[&str]) {
        let settings = Settings { names: vec![name.to_owned()], ..Settings::default() };
        let found = Detector::new(&settings).find(text).unwrap();
        let found: Vec<&str> = found.iter().map(|one| &text[one.range.clone()]).collect();
        assert_eq!(found, expected, "{name} in {text}");
    }

    #[test]
    fn a_name_is_found_as_a_word_in_any_form() {
        check("Ada Lovelace", "ADA  lovelace's notes", &["ADA  lovelace"]);
        check("Ada Lovelace", "Ada\nLovelace", &["Ada\nLovelace"]);
        check("Jörg", "Jo\u{308}rg und JÖRG, jörgs", &["Jo\u{308}rg", "JÖRG"]);
        check("Groß", "GROSS, groß", &["GROSS", "groß"]);
        check("Σίσυφος", "ΣΊΣΥΦΟΣ", &["ΣΊΣΥΦΟΣ"]);
        check("Ann", "Anna, Joann, Ann_1, ANN.", &["ANN"]);
        check("Jose", "José, Jose\u{301}, Jose", &["Jose"]);
        check("李小龍", "見李小龍了", &["李小龍"]);
        check("李小龍", "見 李小龍!", &["李小龍"]);
    }
}
