//! The rules of GPT-2 and of the tiktoken family.
//!
//! Each function quotes the expression that defines it and returns the length of its match at
//! the start of the text, 0 for none. Alternatives are tried in order, as a regular expression
//! does; where one would backtrack, a comment says why this need not.

use crate::tokenizer::class::{
    is_letter, is_lower_like, is_mark, is_number, is_punctuation, is_upper_like,
};

/// The length of the longest prefix of characters of a class.
pub(super) fn run(text: &str, is_in_class: impl Fn(char) -> bool) -> usize {
    text.find(|c| !is_in_class(c)).unwrap_or(text.len())
}

/// `\s?` or ` ?` before a run: the length of both, 0 if there is no run. What may come before
/// is in no run's class, so doing without it never helps.
pub(super) fn run_after(
    text: &str,
    may_precede: impl Fn(char) -> bool,
    is_in_class: impl Fn(char) -> bool,
) -> usize {
    let first = text.chars().next().filter(|&c| may_precede(c)).map_or(0, char::len_utf8);
    match run(&text[first..], is_in_class) {
        0 => 0,
        n_run => first + n_run,
    }
}

pub(super) fn is_newline(c: char) -> bool {
    matches!(c, '\r' | '\n')
}

fn is_space(c: char) -> bool {
    c == ' '
}

/// `[^\s\p{L}\p{N}]`
fn is_other(c: char) -> bool {
    !(c.is_whitespace() || is_letter(c) || is_number(c))
}

/// `[\r\n]`
pub(super) fn newline(text: &str) -> usize {
    usize::from(text.starts_with(is_newline))
}

/// `\p{N}`
pub(super) fn digit(text: &str) -> usize {
    digits(text, 1)
}

/// `\p{N}{1,3}`
pub(super) fn three_digits(text: &str) -> usize {
    digits(text, 3)
}

/// `\p{N}+`
pub(super) fn number(text: &str) -> usize {
    run(text, is_number)
}

/// `[0-9][0-9][0-9]`
pub(super) fn ascii_three_digits(text: &str) -> usize {
    let digits = text.as_bytes().get(..3);
    if digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_digit)) { 3 } else { 0 }
}

/// `[\p{P}\$\+<=>\^~\|]+`
pub(super) fn punctuation(text: &str) -> usize {
    run(text, |c| matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|') || is_punctuation(c))
}

fn digits(text: &str, n_max: usize) -> usize {
    text.chars().take(n_max).take_while(|&c| is_number(c)).map(char::len_utf8).sum()
}

/// `\s+(?!\S)|\s+`: all white space of a run but the last, which belongs to the next word.
pub(super) fn spaces(text: &str) -> usize {
    let len = run(text, char::is_whitespace);
    let last = text[..len].chars().next_back().map_or(0, char::len_utf8);
    if len < text.len() && len > last { len - last } else { len }
}

/// `\s*[\r\n]+`: white space up to its last line end.
pub(super) fn lines(text: &str) -> usize {
    let space = &text[..run(text, char::is_whitespace)];
    space.rfind(is_newline).map_or(0, |last| last + 1)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`
fn contraction(text: &str) -> usize {
    let Some(rest) = text.strip_prefix('\'') else { return 0 };
    let endings = ["s", "t", "re", "ve", "m", "ll", "d"];
    endings.iter().find(|ending| rest.starts_with(**ending)).map_or(0, |ending| 1 + ending.len())
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
fn contraction_of_any_case(text: &str) -> usize {
    let Some(rest) = text.strip_prefix('\'') else { return 0 };
    let mut letters = rest.chars();
    // The long s is an s without case.
    let first = letters.next().map(|c| if c == 'ſ' { 's' } else { c.to_ascii_lowercase() });
    let second = letters.next().map(|c| c.to_ascii_lowercase());
    match (first, second) {
        (Some('s'), _) => 1 + rest.chars().next().map_or(0, char::len_utf8),
        (Some('t' | 'm' | 'd'), _) => 2,
        (Some('r' | 'v'), Some('e')) | (Some('l'), Some('l')) => 3,
        _ => 0,
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
pub(super) fn gpt2(text: &str) -> usize {
    let attempts = [
        contraction,
        |text: &str| run_after(text, is_space, is_letter),
        |text: &str| run_after(text, is_space, is_number),
        |text: &str| run_after(text, is_space, is_other),
        spaces,
    ];
    first_match(&attempts, text)
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|`
/// `\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn llama3(text: &str) -> usize {
    let attempts =
        [contraction_of_any_case, |text: &str| word(text, is_letter), three_digits, others];
    first_match(&attempts, text).or_else_match(|| space_rules(text))
}

/// As [`llama3`] with `\p{N}` for the digits.
pub(super) fn qwen2(text: &str) -> usize {
    let attempts = [contraction_of_any_case, |text: &str| word(text, is_letter), digit, others];
    first_match(&attempts, text).or_else_match(|| space_rules(text))
}

/// As [`qwen2`] with `[\p{L}\p{M}]+` for words and `[^\s\p{L}\p{M}\p{N}]+` for the others.
pub(super) fn qwen35(text: &str) -> usize {
    let attempts = [
        contraction_of_any_case,
        |text: &str| word(text, |c| is_letter(c) || is_mark(c)),
        digit,
        |text: &str| others_of(text, |c| is_other(c) && !is_mark(c), is_newline),
    ];
    first_match(&attempts, text).or_else_match(|| space_rules(text))
}

/// `[^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|`
/// `\s*[\r\n]+|\s+(?!\S)|\s+`, where U is `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, L is
/// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` and C is `(?i:'s|'t|'re|'ve|'m|'ll|'d)`.
pub(super) fn o200k(text: &str) -> usize {
    let with_contraction = |text: &str| match capitalised(text) {
        0 => 0,
        len => len + contraction_of_any_case(&text[len..]),
    };
    first_match(&[with_contraction, three_digits, others_and_slashes], text)
        .or_else_match(|| space_rules(text))
}

/// As [`o200k`] without C and with `\p{N}` for the digits.
pub(super) fn tekken(text: &str) -> usize {
    first_match(&[capitalised, digit, others_and_slashes], text).or_else_match(|| space_rules(text))
}

/// `\s*[\r\n]+|\s+(?!\S)|\s+`
pub(super) fn space_rules(text: &str) -> usize {
    lines(text).or_else_match(|| spaces(text))
}

/// `[^\r\n\p{L}\p{N}]?X+`, where no X is `\r`, `\n` or a number.
fn word(text: &str, is_in_word: impl Fn(char) -> bool) -> usize {
    // A first character that is both may precede and belongs: the match is the same.
    let may_precede = |c| !is_in_word(c) && !is_newline(c) && !is_letter(c) && !is_number(c);
    run_after(text, may_precede, &is_in_word)
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*`
fn others(text: &str) -> usize {
    others_of(text, is_other, is_newline)
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n/]*`
fn others_and_slashes(text: &str) -> usize {
    others_of(text, is_other, |c| is_newline(c) || c == '/')
}

pub(super) fn others_of(
    text: &str,
    is_in_class: impl Fn(char) -> bool,
    may_follow: impl Fn(char) -> bool,
) -> usize {
    match run_after(text, is_space, is_in_class) {
        0 => 0,
        len => len + run(&text[len..], may_follow),
    }
}

/// `[^\r\n\p{L}\p{N}]?U*L+|[^\r\n\p{L}\p{N}]?U+L*` of [`o200k`].
fn capitalised(text: &str) -> usize {
    let Some(first) = text.chars().next() else { return 0 };
    let may_precede = !(is_newline(first) || is_letter(first) || is_number(first));
    let prefix = if may_precede { first.len_utf8() } else { 0 };
    // Marks may precede and belong, so both ways are tried, the longer prefix first.
    for rule in [upper_then_lower, upper_run] {
        for start in [prefix, 0] {
            let len = rule(&text[start..]);
            if len > 0 {
                return start + len;
            }
        }
    }
    0
}

/// `U*L+`
fn upper_then_lower(text: &str) -> usize {
    let n_upper = run(text, is_upper_like);
    let n_lower = run(&text[n_upper..], is_lower_like);
    if n_lower > 0 {
        return n_upper + n_lower;
    }
    // U gives back until it ends before a character that L takes as well.
    let shared = text[..n_upper].char_indices().rev().find(|&(_, c)| is_lower_like(c));
    shared.map_or(0, |(at, c)| at + c.len_utf8())
}

/// `U+L*` where `U*L+` failed: then nothing that L takes follows.
fn upper_run(text: &str) -> usize {
    run(text, is_upper_like)
}

fn first_match(attempts: &[fn(&str) -> usize], text: &str) -> usize {
    attempts.iter().map(|attempt| attempt(text)).find(|&len| len > 0).unwrap_or(0)
}

/// "Or else" for lengths, where 0 is no match.
pub(super) trait OrElse {
    /// `self`, or what `otherwise` finds where `self` is no match.
    fn or_else_match(self, otherwise: impl FnOnce() -> usize) -> usize;
}

impl OrElse for usize {
    fn or_else_match(self, otherwise: impl FnOnce() -> usize) -> usize {
        if self > 0 { self } else { otherwise() }
    }
}
