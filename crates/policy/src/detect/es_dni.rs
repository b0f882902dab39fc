//! Spain's identity numbers: DNI of citizens, NIE of foreigners.

use super::candidate::{Candidate, Found, LIKELY, number};
use super::{Group, Kind};

/// Eight digits and a letter, which is the rest by 23; of an NIE the first is X, Y or Z, which
/// count as 0, 1 and 2 (Ministerio del Interior, "Cálculo del dígito de control del NIF/NIE").
pub(super) const ES_DNI: Kind = Kind {
    name: "es_dni",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)[0-9]{8}[- ]?[A-Z](?-u:\b)",
        r"(?-u:\b)[XYZ][- ]?[0-9]{7}[- ]?[A-Z](?-u:\b)",
    ],
    words: &["dni", "documento", "identidad", "nie", "nif"],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    const LETTERS: &[u8] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    let text = candidate.as_str();
    let first = match text.as_bytes()[0] {
        letter @ b'X'..=b'Z' => u32::from(letter - b'X') * 10_000_000,
        _ => 0,
    };
    let rest = (first + number(&candidate.digits())) % 23;
    let is_right = text.as_bytes().last() == Some(&LETTERS[rest as usize]);
    if is_right && candidate.is_alone() { candidate.or_sure(LIKELY) } else { None }
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_letter_decides() {
        check("12345678Z", &["es_dni:12345678Z"]);
        check("DNI 12345678-Z", &["es_dni:12345678-Z"]);
        check("X1234567L", &["es_dni:X1234567L"]);
        check("12345678A", &[]);
        check("X1234567M", &[]);
        check("A12345678Z", &[]);
    }
}
