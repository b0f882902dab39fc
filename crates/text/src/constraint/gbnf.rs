//! Grammars as llama.cpp writes them (GBNF; its `grammars/README.md`): literals, classes of
//! characters, `.`, groups, `|`, `*`, `+`, `?`, `{m,n}` and comments; an answer is a text of the
//! rule `root`. Tokens (`<…>`) are refused.

mod chars;
mod lark;
mod parse;

use super::{ConstraintError, LARK_BYTES_MAX};

/// Whether a grammar is in this notation, by its first rule: no other has this sign for a
/// definition, which may stand within a literal of any.
pub(super) fn is_gbnf(grammar: &str) -> bool {
    let mut rest = grammar.trim_ascii_start();
    while let Some(comment) = rest.strip_prefix('#') {
        let n_bytes = comment.find(['\r', '\n']).unwrap_or(comment.len());
        rest = comment[n_bytes..].trim_ascii_start();
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let behind = rest.trim_start_matches(is_name);
    behind.len() < rest.len() && behind.trim_start_matches([' ', '\t']).starts_with("::=")
}

/// The same grammar in Lark's notation.
///
/// # Errors
/// What is wrong, by line and column, or the bound that it is beyond.
pub(super) fn translate(source: &str) -> Result<String, ConstraintError> {
    if source.len() > LARK_BYTES_MAX {
        let (what, found) = ("bytes of the grammar", source.len());
        return Err(ConstraintError::TooLarge { what, found, max: LARK_BYTES_MAX });
    }
    Ok(lark::write(&parse::parse(source)?))
}
