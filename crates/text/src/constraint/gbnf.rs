//! Grammars as llama.cpp writes them (GBNF; its `grammars/README.md`): literals, classes of
//! characters, `.`, groups, `|`, `*`, `+`, `?`, `{m,n}` and comments; an answer is a text of the
//! rule `root`. Tokens (`<…>`) are refused.

mod chars;
mod lark;
mod parse;

use super::{ConstraintError, LARK_BYTES_MAX};

/// Whether a grammar is in this notation: no other has this sign for a definition.
pub(super) fn is_gbnf(grammar: &str) -> bool {
    grammar.contains("::=")
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
