//! Redaction: what was detected becomes a pseudonym, the same for the same value in a conversation,
//! and an answer's pseudonyms become the values again.
//!
//! A pseudonym is `⟦EMAIL_1⟧`: rare brackets, so that texts hardly have one, and a word that a
//! model can speak of. A text that has one nevertheless, whether it was allotted or not, is no
//! exception: it is replaced itself, as `⟦LITERAL_1⟧`. So each pseudonym in a redacted text is ours
//! and stands for one value, and restoring a redacted text gives the text.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::detect::{Detection, Detector};
use crate::error::PolicyError;

/// What is told of a text's own pseudonyms.
const LITERAL: &str = "literal";
/// The longest that is taken for a pseudonym in a text, in bytes between the brackets: ours are
/// shorter.
const INNER_BYTES_MAX: usize = 64;
const OPEN: char = '⟦';
const CLOSE: char = '⟧';

/// The pseudonyms of one conversation. Whoever has this has the values; it does not print them.
#[derive(Clone, Default)]
pub struct Pseudonyms {
    /// By class and value.
    allotted: BTreeMap<(&'static str, String), String>,
    /// The values by pseudonym.
    values: BTreeMap<String, String>,
    /// How many of a class there are.
    n_allotted: BTreeMap<&'static str, usize>,
}

/// A text without what was detected in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Redacted {
    /// With pseudonyms.
    pub text: String,
    /// How often something of a class was replaced. `literal`: what was written like a pseudonym.
    pub counts: BTreeMap<&'static str, usize>,
    /// What was detected, where it stood.
    pub detections: Vec<Detection>,
}

impl Pseudonyms {
    /// Of a conversation that begins.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what `detector` finds in `text`. The texts of a conversation in their order get the
    /// same pseudonyms each time, so a client that sends all of them again changes nothing.
    ///
    /// # Errors
    /// A text that is too long.
    pub fn redact(&mut self, detector: &Detector, text: &str) -> Result<Redacted, PolicyError> {
        let detections = detector.find(text)?;
        let mut pieces: Vec<(Range<usize>, &'static str)> =
            literals(text).map(|range| (range, LITERAL)).collect();
        pieces.extend(detections.iter().map(|one| (one.range.clone(), one.class.name())));
        pieces.sort_by_key(|(range, _)| range.start);
        let mut redacted = String::with_capacity(text.len());
        let mut counts = BTreeMap::new();
        let mut at = 0;
        for (range, class) in joined(pieces) {
            redacted.push_str(&text[at..range.start]);
            at = range.end;
            redacted.push_str(self.pseudonym(class, &text[range]));
            *counts.entry(class).or_insert(0) += 1;
        }
        redacted.push_str(&text[at..]);
        Ok(Redacted { text: redacted, counts, detections })
    }

    fn pseudonym(&mut self, class: &'static str, value: &str) -> &str {
        self.allotted.entry((class, value.to_owned())).or_insert_with(|| {
            let n = self.n_allotted.entry(class).or_insert(0);
            *n += 1;
            let pseudonym = format!("{OPEN}{}_{n}{CLOSE}", class.to_ascii_uppercase());
            self.values.insert(pseudonym.clone(), value.to_owned());
            pseudonym
        })
    }

    /// What `pseudonym` stands for.
    pub(crate) fn value(&self, pseudonym: &str) -> Option<&str> {
        self.values.get(pseudonym).map(String::as_str)
    }

    /// Whether a pseudonym begins with `text`.
    pub(crate) fn begins(&self, text: &str) -> bool {
        let from = (std::ops::Bound::Included(text), std::ops::Bound::Unbounded);
        self.values.range::<str, _>(from).next().is_some_and(|(next, _)| next.starts_with(text))
    }

    /// Bytes of the longest pseudonym.
    pub fn longest(&self) -> usize {
        self.values.keys().map(String::len).max().unwrap_or(0)
    }
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pseudonyms").field(&self.n_allotted).finish()
    }
}

/// The end of the pseudonym that `text` begins with, be it allotted or not.
pub(crate) fn pseudonym_end(text: &str) -> Option<usize> {
    let inner = text.strip_prefix(OPEN)?;
    let is_inner = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let n_bytes = inner.find(|c| !is_inner(c))?;
    let is_one = (1..=INNER_BYTES_MAX).contains(&n_bytes) && inner[n_bytes..].starts_with(CLOSE);
    is_one.then_some(OPEN.len_utf8() + n_bytes + CLOSE.len_utf8())
}

/// What in `text` is written like a pseudonym.
fn literals(text: &str) -> impl Iterator<Item = Range<usize>> {
    text.match_indices(OPEN).filter_map(|(at, _)| {
        let n_bytes = pseudonym_end(&text[at..])?;
        Some(at..at + n_bytes)
    })
}

/// Pieces in order, those that overlap as one, of the class that is no literal.
fn joined(pieces: Vec<(Range<usize>, &'static str)>) -> Vec<(Range<usize>, &'static str)> {
    let mut joined: Vec<(Range<usize>, &'static str)> = Vec::with_capacity(pieces.len());
    for (range, class) in pieces {
        match joined.last_mut() {
            Some((last, last_class)) if range.start < last.end => {
                last.end = last.end.max(range.end);
                if *last_class == LITERAL {
                    *last_class = class;
                }
            }
            _ => joined.push((range, class)),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Settings;
    use crate::restore::{Escape, Restorer};

    fn redact(pseudonyms: &mut Pseudonyms, text: &str) -> Redacted {
        pseudonyms.redact(&Detector::new(&Settings::default()), text).unwrap()
    }

    #[track_caller]
    fn check(text: &str, expected: &str, counts: &[(&'static str, usize)]) {
        let mut pseudonyms = Pseudonyms::new();
        let redacted = redact(&mut pseudonyms, text);
        assert_eq!(redacted.text, expected);
        assert_eq!(redacted.counts, counts.iter().copied().collect());
        let mut restorer = Restorer::new(&pseudonyms, Escape::None);
        let restored = restorer.push(&redacted.text) + &restorer.finish();
        assert_eq!(restored, text);
    }

    #[test]
    fn what_is_detected_becomes_a_pseudonym() {
        check(
            "Ask a@x.org or b@x.org, not a@x.org.",
            "Ask ⟦EMAIL_1⟧ or ⟦EMAIL_2⟧, not ⟦EMAIL_1⟧.",
            &[("email", 3)],
        );
        check("nothing", "nothing", &[]);
    }

    #[test]
    fn a_conversation_keeps_its_pseudonyms() {
        let mut pseudonyms = Pseudonyms::new();
        redact(&mut pseudonyms, "a@x.org");
        let second = redact(&mut pseudonyms, "b@x.org wrote to a@x.org");
        assert_eq!(second.text, "⟦EMAIL_2⟧ wrote to ⟦EMAIL_1⟧");
        let debug = format!("{pseudonyms:?}");
        assert_eq!(debug, "Pseudonyms({\"email\": 2})");
    }

    #[test]
    fn a_pseudonym_in_a_text_stands_for_itself() {
        check("⟦EMAIL_1⟧ is a@x.org", "⟦LITERAL_1⟧ is ⟦EMAIL_1⟧", &[("email", 1), ("literal", 1)]);
        check("⟦LITERAL_1⟧⟦⟦X⟧⟧ ⟦x⟧", "⟦LITERAL_1⟧⟦⟦LITERAL_2⟧⟧ ⟦x⟧", &[("literal", 2)]);
        check("⟦EMAIL_a@x.org⟧", "⟦⟦EMAIL_1⟧⟧", &[("email", 1)]);
        // One that comes when the pseudonym has been allotted already.
        let mut pseudonyms = Pseudonyms::new();
        redact(&mut pseudonyms, "a@x.org");
        let second = redact(&mut pseudonyms, "say ⟦EMAIL_1⟧");
        assert_eq!(second.text, "say ⟦LITERAL_1⟧");
    }

    #[test]
    fn ours_are_short_enough_to_be_seen() {
        for class in crate::detect::Class::all() {
            let inner = format!("{}_{}", class.name(), usize::MAX);
            assert!(inner.len() <= INNER_BYTES_MAX, "{inner}");
        }
    }
}
