//! Telephone numbers.

use super::candidate::{Candidate, Found, LIKELY, MAYBE, SURE, UNLIKELY, digits};
use super::{Group, Kind};

/// Most digits of a number with its country.
const DIGITS_MAX: usize = 15;

/// International numbers of at most 15 digits (ITU-T E.164), those of the North American plan
/// (NANP: neither area nor exchange begin with 0 or 1), and others by how they are grouped behind
/// a 0, or by words.
pub(super) const PHONE: Kind = Kind {
    name: "phone",
    group: Group::Personal,
    patterns: &[
        r"\+[1-9][0-9]{0,2}[ .\-/]?(?:\(0?[0-9]{1,4}\)[ .\-/]?)?[0-9]{1,14}(?:[ .\-/][0-9]{1,8}){0,6}",
        r"(?-u:\b)00[1-9][0-9]{0,2}[ .\-/](?:\(0\)[ ]?)?[0-9]{1,5}(?:[ .\-/][0-9]{2,8}){1,6}",
        r"(?:\([2-9][0-9]{2}\) ?|(?-u:\b)(?:1[-. ])?[2-9][0-9]{2}[-. ])[2-9][0-9]{2}[-. ][0-9]{4}(?-u:\b)",
        r"(?:\(0[1-9][0-9]{1,4}\) ?|(?-u:\b)0[1-9][0-9]{1,4}[ /\-.])[0-9]{2,8}(?:[ \-./][0-9]{2,5}){0,3}(?-u:\b)",
        r"(?-u:\b)0[1-9](?:[ .\-][0-9]{2}){4}(?-u:\b)",
        r"(?-u:\b)[0-9]{9,12}(?-u:\b)",
    ],
    words: &[
        "call",
        "cell",
        "cellphone",
        "fax",
        "handy",
        "handynummer",
        "mobil",
        "mobile",
        "mobilnummer",
        "móvil",
        "phone",
        "phone number",
        "portable",
        "ring",
        "sms",
        "tel",
        "telefon",
        "telefonnummer",
        "telefoon",
        "telefono",
        "telephone",
        "teléfono",
        "telf",
        "text",
        "tlf",
        "téléphone",
        "whatsapp",
    ],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let text = candidate.as_str();
    let is_international = text.starts_with('+') || text.starts_with("00");
    let text = if is_international { cut(text) } else { text };
    let candidate = &candidate.shortened(text.len());
    let n_digits = digits(text).len();
    let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
    let bounds = if is_international { 8..=DIGITS_MAX + 2 } else { 9..=12 };
    if !bounds.contains(&n_digits) || !candidate.is_alone() || is_other(text) {
        return None;
    }
    // Numbers in a row are a table, not a number in groups.
    let before = candidate.before().trim_end_matches(' ');
    let is_in_row = before.ends_with(|c: char| c.is_ascii_digit());
    let confidence = match text.as_bytes() {
        _ if is_bare => UNLIKELY,
        [b'+', rest @ ..] if n_digits < 10 && rest.iter().all(u8::is_ascii_digit) => UNLIKELY,
        [b'+', ..] => SURE,
        _ if is_in_row => UNLIKELY,
        [b'(', ..] => LIKELY,
        _ => MAYBE,
    };
    let confidence = match candidate.has_word() {
        true if is_bare => LIKELY,
        true => SURE,
        false => confidence,
    };
    candidate.whole(confidence)
}

/// The groups of `text` that a number can have: what follows is something else.
fn cut(text: &str) -> &str {
    // Two zeros stand for the plus.
    let n_max = if text.starts_with('+') { DIGITS_MAX } else { DIGITS_MAX + 2 };
    let mut text = text;
    while digits(text).len() > n_max {
        let Some(at) = text.rfind([' ', '.', '-', '/']) else { break };
        text = &text[..at];
    }
    text
}

/// Whether it is written as days and times are, or as a social security number.
fn is_other(text: &str) -> bool {
    let groups: Vec<usize> = text.split(['-', '.', '/', ' ']).map(str::len).collect();
    let is_year_first = text.starts_with(['1', '2']) && matches!(groups[..], [4, 2, 2, ..]);
    is_year_first || matches!(groups[..], [2, 2, 4, ..] | [3, 2, 4])
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn numbers_are_found() {
        check("+49 30 901820", &["phone:+49 30 901820"]);
        check("Call +1-202-555-0143 now", &["phone:+1-202-555-0143"]);
        check("+49 30 901820 12345678901", &["phone:+49 30 901820"]);
        check("1-202-555-0143", &["phone:1-202-555-0143"]);
        check("+442079460958", &["phone:+442079460958"]);
        check("(202) 555-0143", &["phone:(202) 555-0143"]);
        check("202-555-0143.", &["phone:202-555-0143"]);
        check("Tel. 030/901820", &["phone:030/901820"]);
        check("06 12 34 56 78", &["phone:06 12 34 56 78"]);
        check("my phone: 2025550143", &["phone:2025550143"]);
    }

    #[test]
    fn other_numbers_are_not() {
        for text in [
            "2023-11-05 12:30:45",
            "ISBN 978-0-306-40615-7",
            "order 2025550143",
            "+100 points",
            "@@ -1200,7 +12007,7 @@",
            "112-555-0143",
            "550e8400-e29b-41d4-a716-446655440000",
            "05.11.2023 12:30",
            "+12345678",
        ] {
            check(text, &[]);
        }
    }
}
