//! What is wrong with a file of the owner's, and where.

use std::fmt;
use std::sync::Arc;

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the owner would name it.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Why cases or recorded answers cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// Something at a line of a file.
    #[error("{place}: {problem}")]
    At {
        /// Where.
        place: Place,
        /// What, and what was expected.
        problem: String,
    },
    /// Of all files together.
    #[error("{0}")]
    Whole(String),
}

impl Place {
    /// That this is wrong here.
    pub(crate) fn wrong(&self, problem: impl Into<String>) -> GateError {
        GateError::At { place: self.clone(), problem: problem.into() }
    }
}

/// `text` as a message quotes it: escaped, and not too long.
pub(crate) fn quoted(text: &str) -> String {
    const N_CHARS: usize = 80;
    match text.char_indices().nth(N_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// `value` as a message shows it.
pub(crate) fn shown(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => quoted(text),
        other => {
            const N_CHARS: usize = 80;
            let text = other.to_string();
            match text.char_indices().nth(N_CHARS) {
                Some((end, _)) => format!("{}…", &text[..end]),
                None => text,
            }
        }
    }
}
