//! WordPiece: a text is cleaned and cut into words, and each word into the longest tokens that
//! make it up, from the left (Devlin et al. 2018; the rules are those of BERT's tokenizer).
//!
//! Converters write a token that begins a word with U+2581 before it and one that goes on
//! without BERT's `##`.

use gguf::Metadata;
use unicode_normalization::UnicodeNormalization;

use super::class::{is_accent, is_invisible, is_punctuation};
use super::error::TokenizerError;
use super::vocab::{Kind, SPACE_SIGN, Vocab};

/// A longer word is unknown, as in BERT's tokenizer.
const N_WORD_CHARS_MAX: usize = 100;

/// What this kind of tokenizer needs beside the vocabulary.
pub(super) struct WordPiece {
    unknown: Option<u32>,
    lowercases: bool,
    strips_accents: bool,
}

impl WordPiece {
    /// Reads the unknown token and how texts are cleaned.
    pub(super) fn new(metadata: &Metadata, vocab: &Vocab) -> Result<Self, TokenizerError> {
        let unknown = super::token_id(metadata, "tokenizer.ggml.unknown_token_id", vocab.len())?;
        // Most files do not say it, but a vocabulary with capitals was not made from lower case.
        let has_capitals = vocab.ids().any(|id| {
            let text = vocab.text(id);
            vocab.kind(id) == Some(Kind::Normal)
                && !text.starts_with('[')
                && text.bytes().any(|byte| byte.is_ascii_uppercase())
        });
        let lowercases = metadata.bool("tokenizer.ggml.normalizer.lowercase")?;
        let lowercases = lowercases.unwrap_or(!has_capitals);
        let strips_accents = metadata.bool("tokenizer.ggml.normalizer.strip_accents")?;
        let strips_accents = strips_accents.unwrap_or(lowercases);
        Ok(Self { unknown, lowercases, strips_accents })
    }

    /// Appends the tokens of `text`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let cleaned = self.clean(text);
        let mut buffer = String::new();
        for word in cleaned.split(char::is_whitespace) {
            let mut rest = word;
            while let Some(first) = rest.chars().next() {
                let len = match rest.find(is_separator) {
                    Some(0) => first.len_utf8(),
                    Some(border) => border,
                    None => rest.len(),
                };
                buffer.clear();
                buffer.push(SPACE_SIGN);
                buffer.push_str(&rest[..len]);
                self.encode_word(vocab, &buffer, ids);
                rest = &rest[len..];
            }
        }
    }

    /// Drops what has no shape, makes all white space a space, sets ideographs apart and folds
    /// accents and case.
    fn clean(&self, text: &str) -> String {
        let mut cleaned = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                '\t' | '\n' | '\r' => cleaned.push(' '),
                // Some white space is a control character, and goes.
                _ if c == '\u{fffd}' || is_invisible(c) => {}
                _ if c.is_whitespace() => cleaned.push(' '),
                _ if is_ideograph(c) => cleaned.extend([' ', c, ' ']),
                _ => cleaned.push(c),
            }
        }
        if self.strips_accents {
            cleaned = cleaned.nfd().filter(|&c| !is_accent(c)).collect();
        }
        if self.lowercases {
            // Not `str::to_lowercase`, which looks at a sigma's neighbours.
            cleaned = cleaned.chars().flat_map(char::to_lowercase).collect();
        }
        cleaned
    }

    /// Appends the tokens of a word that has U+2581 before it; the unknown token if a part of
    /// it is none.
    fn encode_word(&self, vocab: &Vocab, word: &str, ids: &mut Vec<u32>) {
        let n_before = ids.len();
        let mut rest = word;
        // The space sign is one character more.
        if rest.chars().take(N_WORD_CHARS_MAX + 2).count() > N_WORD_CHARS_MAX + 1 {
            rest = "";
        }
        while !rest.is_empty() {
            // The space sign alone is no beginning of a word.
            let is_first = rest.len() == word.len();
            let shortest = if is_first { SPACE_SIGN.len_utf8() } else { 0 };
            let longest = rest.char_indices().rev().find_map(|(last, c)| {
                let end = last + c.len_utf8();
                Some((end, vocab.find_mergeable(&rest[..end])?))
            });
            let Some((end, id)) = longest.filter(|&(end, _)| end > shortest) else {
                ids.truncate(n_before);
                break;
            };
            ids.push(id);
            rest = &rest[end..];
        }
        if ids.len() == n_before {
            ids.extend(self.unknown);
        }
    }
}

/// Whether a character is a word of its own.
fn is_separator(c: char) -> bool {
    c.is_ascii_punctuation() || is_punctuation(c)
}

/// The CJK ideographs of BERT's tokenizer: words without spaces between them.
fn is_ideograph(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff
            | 0x3400..=0x4dbf
            | 0x20000..=0x2a6df
            | 0x2a700..=0x2b73f
            | 0x2b740..=0x2b81f
            | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff
            | 0x2f800..=0x2fa1f
    )
}
