//! A place where a pattern matched, and what stands around it.

use std::ops::Range;

/// It has its form, its check digits and a word that names it, or a form that nothing else has.
pub(super) const SURE: f32 = 0.95;
/// It has a form with check digits that few other things have.
pub(super) const LIKELY: f32 = 0.75;
/// It may as well be something else; above the default bound.
pub(super) const MAYBE: f32 = 0.55;
/// It is more often something else; below the default bound.
pub(super) const UNLIKELY: f32 = 0.3;

/// How far before a candidate its words count, in bytes: half a line.
const BEFORE_BYTES: usize = 48;
/// And behind it.
const AFTER_BYTES: usize = 20;

/// Where a pattern matched.
pub(super) struct Candidate<'a> {
    text: &'a str,
    range: Range<usize>,
    words: &'static [&'static str],
}

/// What a judge makes of a candidate.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) confidence: f32,
}

impl<'a> Candidate<'a> {
    pub(super) fn new(text: &'a str, range: Range<usize>, words: &'static [&'static str]) -> Self {
        Self { text, range, words }
    }

    /// Its first `n_bytes`.
    pub(super) fn shortened(&self, n_bytes: usize) -> Self {
        let Range { start, end } = self.range;
        Self { range: start..end.min(start + n_bytes), ..*self }
    }

    /// The match.
    pub(super) fn as_str(&self) -> &'a str {
        &self.text[self.range.clone()]
    }

    pub(super) fn before(&self) -> &'a str {
        &self.text[..self.range.start]
    }

    pub(super) fn after(&self) -> &'a str {
        &self.text[self.range.end..]
    }

    /// Its digits, 0 to 9.
    pub(super) fn digits(&self) -> Vec<u8> {
        digits(self.as_str())
    }

    /// All of it, so sure.
    pub(super) fn whole(&self, confidence: f32) -> Option<Found> {
        Some(Found { range: self.range.clone(), confidence })
    }

    /// The bytes of it in `range`, so sure.
    pub(super) fn part(&self, range: Range<usize>, confidence: f32) -> Option<Found> {
        let start = self.range.start;
        Some(Found { range: start + range.start..start + range.end, confidence })
    }

    /// Its first `n_bytes`, or as many with what follows, so sure.
    pub(super) fn first(&self, n_bytes: usize, confidence: f32) -> Option<Found> {
        self.part(0..n_bytes, confidence)
    }

    /// All of it: `SURE` beside one of its words, else as given.
    pub(super) fn or_sure(&self, confidence: f32) -> Option<Found> {
        self.whole(if self.has_word() { SURE } else { confidence })
    }

    /// Whether one of its words is near.
    pub(super) fn has_word(&self) -> bool {
        self.is_near(self.words)
    }

    /// Whether one of `words`, in lower case, is near.
    pub(super) fn is_near(&self, words: &[&str]) -> bool {
        let Range { start, end } = self.range;
        let from = self.text.floor_char_boundary(start.saturating_sub(BEFORE_BYTES));
        let to = self.text.floor_char_boundary(self.text.len().min(end + AFTER_BYTES));
        let around = [&self.text[from..start], " ", &self.text[end..to]].concat().to_lowercase();
        let is_end = |c: Option<char>| !c.is_some_and(char::is_alphanumeric);
        words.iter().any(|word| {
            around.match_indices(word).any(|(at, word)| {
                is_end(around[..at].chars().next_back())
                    && is_end(around[at + word.len()..].chars().next())
            })
        })
    }

    /// Whether it is no part of something longer: a word, a number with a fraction, a path.
    pub(super) fn is_alone(&self) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let is_joint = |c: char| matches!(c, '-' | '.' | '/' | ':' | '+' | '\u{2010}'..='\u{2014}');
        let mut before = self.before().chars().rev();
        let is_open = match before.next() {
            Some(c) if is_word(c) => false,
            Some(':') => !before.next().is_some_and(|c| c.is_ascii_digit()),
            Some(c) if is_joint(c) => !before.next().is_some_and(is_word),
            _ => true,
        };
        let mut after = self.after().chars();
        let is_closed = match after.next() {
            Some(c) if is_word(c) => false,
            Some(c) if is_joint(c) => !after.next().is_some_and(is_word),
            _ => true,
        };
        is_open && is_closed
    }
}

/// The digits of `text`, 0 to 9.
pub(super) fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
}

/// The number that these few digits are.
pub(super) fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number, &digit| number * 10 + u32::from(digit))
}

/// Bits that a character of `text` tells (Shannon 1948), from its own characters' frequencies.
pub(super) fn entropy(text: &str) -> f32 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let n = text.len() as f32;
    let bits = |&count: &u32| {
        let part = count as f32 / n;
        -part * part.log2()
    };
    counts.iter().filter(|&&count| count > 0).map(bits).sum()
}
