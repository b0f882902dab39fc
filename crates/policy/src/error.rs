//! What is wrong with a policy, with cases or facts, and where.

use std::fmt;
use std::sync::Arc;

use crate::detect::TEXT_BYTES_MAX;

/// A place in what the owner wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the owner would name it.
    pub file: Arc<str>,
    /// Counted from 1; 0 where it is no file.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}:{}", self.file, self.column),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what was expected.
    pub problem: String,
}

/// Why a policy, cases, facts or a text cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The mistakes in a text of the owner's, at least one: of each rule or case the first.
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
    /// A text is longer than what is looked through.
    #[error("text: {n_bytes} bytes, expected at most {TEXT_BYTES_MAX}")]
    TextTooLong {
        /// Of the text.
        n_bytes: usize,
    },
}

impl From<Problem> for PolicyError {
    fn from(problem: Problem) -> Self {
        Self::Wrong(vec![problem])
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// `text` as a message quotes it: escaped, and not too long.
pub(crate) fn quoted(text: &str) -> String {
    const N_CHARS: usize = 60;
    match text.char_indices().nth(N_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// `words` as a message lists them.
pub(crate) fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// `, did you mean "…"?` where one of `words` is near `found`, else nothing.
pub(crate) fn suggestion<'a>(found: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let n_chars = found.chars().count();
    // A name has that many letters at most; what is longer is not mistyped.
    if n_chars > 40 {
        return String::new();
    }
    let near = words.into_iter().map(|word| (distance(found, word), word)).min();
    match near {
        Some((n, word)) if n <= 1 + n_chars / 4 => format!(", did you mean {}?", quoted(word)),
        _ => String::new(),
    }
}

/// Letters to insert, remove or change (Levenshtein 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested() {
        let words = ["label", "tokens", "upstream"];
        assert_eq!(suggestion("lable", words), ", did you mean \"label\"?");
        assert_eq!(suggestion("token", words), ", did you mean \"tokens\"?");
        assert_eq!(suggestion("colour", words), "");
        assert_eq!(suggestion(&"x".repeat(1 << 20), words), "");
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "ab"), 2);
    }
}
