//! The rules of the DeepSeek models, whose expressions list alphabets and scripts.

use super::rules::{OrElse, is_newline, others_of, run, run_after, space_rules};
use crate::tokenizer::class::{is_letter, is_mark, is_punctuation, is_symbol};

/// The letters of scripts that have case, as DeepSeek-LLM's expression lists them: first and
/// last of each range, in order.
const ALPHABETIC: [(u32, u32); 87] = [
    (0x41, 0x5a),
    (0x61, 0x7a),
    (0xb5, 0xb5),
    (0xc0, 0xd6),
    (0xd8, 0xf6),
    (0xf8, 0x1ba),
    (0x1bc, 0x1bf),
    (0x1c4, 0x293),
    (0x295, 0x2af),
    (0x370, 0x373),
    (0x376, 0x376),
    (0x377, 0x377),
    (0x37b, 0x37d),
    (0x37f, 0x37f),
    (0x386, 0x386),
    (0x388, 0x38a),
    (0x38c, 0x38c),
    (0x38e, 0x3a1),
    (0x3a3, 0x3f5),
    (0x3f7, 0x481),
    (0x48a, 0x52f),
    (0x531, 0x556),
    (0x10a0, 0x10c5),
    (0x13a0, 0x13f5),
    (0x13f8, 0x13fd),
    (0x1c90, 0x1cba),
    (0x1cbd, 0x1cbf),
    (0x1d00, 0x1d2b),
    (0x1d6b, 0x1d77),
    (0x1d79, 0x1d9a),
    (0x1e00, 0x1f15),
    (0x1f18, 0x1f1d),
    (0x1f20, 0x1f45),
    (0x1f48, 0x1f4d),
    (0x1f50, 0x1f57),
    (0x1f59, 0x1f59),
    (0x1f5b, 0x1f5b),
    (0x1f5d, 0x1f5d),
    (0x1f5f, 0x1f7d),
    (0x1f80, 0x1fb4),
    (0x1fb6, 0x1fbc),
    (0x1fbe, 0x1fbe),
    (0x1fc2, 0x1fc4),
    (0x1fc6, 0x1fcc),
    (0x1fd0, 0x1fd3),
    (0x1fd6, 0x1fdb),
    (0x1fe0, 0x1fec),
    (0x1ff2, 0x1ff4),
    (0x1ff6, 0x1ffc),
    (0x2102, 0x2102),
    (0x2107, 0x2107),
    (0x210a, 0x2113),
    (0x2115, 0x2115),
    (0x2119, 0x211d),
    (0x2124, 0x2124),
    (0x2126, 0x2126),
    (0x2128, 0x2128),
    (0x212a, 0x212d),
    (0x212f, 0x2134),
    (0x2139, 0x2139),
    (0x213c, 0x213f),
    (0x2145, 0x2149),
    (0x214e, 0x214e),
    (0x2183, 0x2183),
    (0x2184, 0x2184),
    (0x2c00, 0x2c7b),
    (0x2c7e, 0x2ce4),
    (0x2ceb, 0x2cee),
    (0x2cf2, 0x2cf2),
    (0x2cf3, 0x2cf3),
    (0xa640, 0xa66d),
    (0xa680, 0xa69b),
    (0xa722, 0xa76f),
    (0xa771, 0xa787),
    (0xa78b, 0xa78e),
    (0xab70, 0xabbf),
    (0xfb00, 0xfb06),
    (0xfb13, 0xfb17),
    (0xff21, 0xff3a),
    (0xff41, 0xff5a),
    (0x10400, 0x1044f),
    (0x104b0, 0x104d3),
    (0x104d8, 0x104fb),
    (0x10c80, 0x10cb2),
    (0x10cc0, 0x10cf2),
    (0x118a0, 0x118df),
    (0x1e900, 0x1e943),
];

fn is_alphabetic(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    let code = u32::from(c);
    let idx = ALPHABETIC.partition_point(|&(_, last)| last < code);
    ALPHABETIC.get(idx).is_some_and(|&(first, _)| first <= code)
}

/// `\s?[…]+` with the letters of [`ALPHABETIC`].
pub(super) fn alphabetic(text: &str) -> usize {
    run_after(text, char::is_whitespace, is_alphabetic)
}

/// `\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+`
pub(super) fn punctuation(text: &str) -> usize {
    let is_listed = |c| {
        matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟')
            || matches!(c, '\u{3000}'..='。')
    };
    // U+3000 is white space and listed. First of a run the match is the same either way; alone
    // it is a run and not what comes before one.
    run_after(text, |c| c.is_whitespace() && !is_listed(c), is_listed)
}

/// `[一-龥ࠀ-一가-\u{d7ff}]+`
pub(super) fn ideographs(text: &str) -> usize {
    run(text, |c| matches!(c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}'))
}

/// `\s?\p{L}+`
pub(super) fn coder_letters(text: &str) -> usize {
    run_after(text, char::is_whitespace, is_letter)
}

/// `\s?\p{P}+`
pub(super) fn coder_punctuation(text: &str) -> usize {
    run_after(text, char::is_whitespace, is_punctuation)
}

/// `[一-龥\u{3040}-ゟ゠-ヿ]+`
pub(super) fn kana(text: &str) -> usize {
    run(text, |c| matches!(c, '一'..='龥' | '\u{3040}'..='ヿ'))
}

/// ``[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|``
/// ` ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn v3(text: &str) -> usize {
    let is_sign = |c| is_punctuation(c) || is_symbol(c);
    let is_in_word = |c| is_letter(c) || is_mark(c);
    let may_precede = |c| !is_in_word(c) && !is_newline(c) && !is_sign(c);
    let ascii_word = match text.strip_prefix(|c: char| c.is_ascii_punctuation()) {
        Some(rest) => run(rest, |c| c.is_ascii_alphabetic()),
        None => 0,
    };
    if ascii_word > 0 {
        return 1 + ascii_word;
    }
    run_after(text, may_precede, is_in_word)
        .or_else_match(|| others_of(text, is_sign, is_newline))
        .or_else_match(|| space_rules(text))
}
