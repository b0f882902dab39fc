//! Private keys in PEM blocks.

use super::candidate::{Candidate, Found, SURE};
use super::{Group, Kind};

/// From `-----BEGIN … PRIVATE KEY-----` to the end of the block (RFC 7468 sections 2 and 10,
/// RFC 9580 section 6.2), or of what of it is there; line ends may be written `\n`.
pub(super) const PRIVATE_KEY: Kind = Kind {
    name: "private_key",
    group: Group::Secret,
    patterns: &[r"-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"],
    words: &[],
    judge,
};

/// Most headers of a block, and the longest in bytes: there are two.
const HEADERS_MAX: usize = 8;
const HEADER_BYTES_MAX: usize = 200;
/// Least characters of a key that stand behind its beginning: a text may talk of keys.
const BODY_CHARS_MIN: usize = 32;
/// Longest word that has to be the last to be one of the key: full lines are longer.
const SHORT_CHARS_MAX: usize = 15;
/// How far behind such a word the end is looked for: line ends and an indent.
const LAST_BYTES_MAX: usize = 64;

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let after = candidate.after();
    let mut rest = after;
    let mut n_chars = 0;
    let mut end = 0;
    let mut n_headers = 0;
    loop {
        rest = rest.trim_start();
        while let Some(behind) = rest.strip_prefix("\\n").or_else(|| rest.strip_prefix("\\r")) {
            rest = behind.trim_start();
        }
        let is_end = |c: char| c.is_whitespace() || matches!(c, '\\' | '"' | '\'' | '-');
        let word = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        if let Some(label) = rest.strip_prefix("-----END") {
            let n_bytes = label.find("-----").map_or(0, |at| at + "-----".len());
            end = after.len() - label.len() + n_bytes;
            break;
        }
        let is_base64 =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
        // Headers ("Proc-Type: 4,ENCRYPTED") come before the key.
        let line = &rest[..rest.floor_char_boundary(HEADER_BYTES_MAX)];
        let line = line.find('\n').map(|at| &line[..at]);
        if let Some(line) = line.filter(|line| line.contains(": "))
            && n_chars == 0
            && n_headers < HEADERS_MAX
        {
            n_headers += 1;
            rest = &rest[line.len()..];
            continue;
        }
        let is_fit = word.len() > SHORT_CHARS_MAX || is_last(word, &rest[word.len()..]);
        let is_body = word.bytes().all(is_base64) && is_fit;
        if word.is_empty() || !is_body {
            break;
        }
        n_chars += word.len();
        rest = &rest[word.len()..];
        end = after.len() - rest.len();
    }
    if n_chars < BODY_CHARS_MIN {
        return None;
    }
    candidate.first(candidate.as_str().len() + end, SURE)
}

/// Whether a word ends a key: by its padding, or by the block's end behind it. Both are bounded, so
/// that a block of short words takes no more time than its length.
fn is_last(word: &str, behind: &str) -> bool {
    let near = &behind[..behind.floor_char_boundary(LAST_BYTES_MAX)];
    let is_between = |c: char| c.is_whitespace() || matches!(c, '\\' | 'n' | 'r');
    word.ends_with('=') || near.trim_start_matches(is_between).starts_with("-----END")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::detect::testing::check;
    use crate::detect::{Detector, Settings};

    const LINE: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";

    #[test]
    fn a_block_is_found_to_its_end() {
        for (label, between) in [("", "\n"), ("RSA ", "\n"), ("OPENSSH ", "\\n"), ("EC ", " ")] {
            let begin = format!("-----BEGIN {label}PRIVATE KEY-----");
            let end = format!("-----END {label}PRIVATE KEY-----");
            let key = [begin.as_str(), LINE, LINE, "abc=", &end].join(between);
            check(&format!("Here: {key}, and more"), &[&format!("private_key:{key}")]);
        }
    }

    #[test]
    fn what_is_there_of_it_is_found() {
        let header = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF\n\n";
        let key = format!("-----BEGIN RSA PRIVATE KEY-----\n{header}{LINE}\n{LINE}");
        check(&format!("{key}\n\n(the rest is missing)"), &[&format!("private_key:{key}")]);
        check("Look for -----BEGIN PRIVATE KEY----- in the file.", &[]);
        check("-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSj", &[]);
    }

    /// Letters that may as well be written line ends: what lies behind each must not be looked
    /// through to its end, which takes minutes.
    #[test]
    fn a_long_block_takes_no_more_time_than_its_length() {
        for word in ["nnnnnnnnnnnnnnnn ", "n ", "n", "n= ", "\\n"] {
            let body = word.repeat((1 << 20) / word.len());
            let text = format!("-----BEGIN PRIVATE KEY----- {body}-----END PRIVATE KEY-----");
            let began = Instant::now();
            Detector::new(&Settings::default()).find(&text).unwrap();
            let took = began.elapsed();
            assert!(took < Duration::from_secs(20), "{word:?}: {took:?}");
        }
    }
}
