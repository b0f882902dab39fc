//! Italy's tax code (codice fiscale) of persons.

use super::candidate::{Candidate, Found, SURE};
use super::{Group, Kind};

/// Letters of the names, year, month and day of birth (women: and 40), place, and a check letter;
/// where two persons would have the same, digits become letters (Decreto ministeriale 23 dicembre
/// 1976, articles 2 to 7).
pub(super) const IT_CODICE_FISCALE: Kind = Kind {
    name: "it_codice_fiscale",
    group: Group::Personal,
    patterns: &[
        r"(?i-u)\b[A-Z]{6}[0-9LMNP-V]{2}[A-EHLMPRST][0-9LMNP-V]{2}[A-Z][0-9LMNP-V]{3}[A-Z]\b",
    ],
    words: &[],
    judge,
};

/// What a character counts at the first place, the third and so on, from 0 and A.
const ODD: [u32; 26] =
    [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let text = candidate.as_str().to_ascii_uppercase();
    let place = |byte: u8| u32::from(if byte.is_ascii_digit() { byte - b'0' } else { byte - b'A' });
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        // Which letter stands for which digit.
        _ => b"LMNPQRSTUV".iter().position(|&letter| letter == byte).map(|at| at as u8),
    };
    let bytes = text.as_bytes();
    let day = digit(bytes[9])? * 10 + digit(bytes[10])?;
    let (&check, first) = bytes.split_last()?;
    let sum: u32 = first
        .iter()
        .enumerate()
        .map(|(at, &byte)| match at % 2 {
            0 => ODD[place(byte) as usize],
            _ => place(byte),
        })
        .sum();
    let is_right = matches!(day, 1..=31 | 41..=71) && sum % 26 == place(check);
    if is_right && candidate.is_alone() { candidate.whole(SURE) } else { None }
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_check_letter_decides() {
        check("RSSMRA85T10A562S", &["it_codice_fiscale:RSSMRA85T10A562S"]);
        check("rssmra85t10a562s", &["it_codice_fiscale:rssmra85t10a562s"]);
        check("RSSMRA85T10A562T", &[]);
        check("RSSMRA85T00A562S", &[]);
    }
}
