//! France's social security number (numéro d'inscription au répertoire, NIR).

use super::candidate::{Candidate, Found, LIKELY, digits, number};
use super::{Group, Kind};
use crate::checksum::mod97;

/// Sex, year and month of birth, department, commune, rank, and a key: 97 less the rest by 97
/// (INSEE, "Numéro de sécurité sociale"). 2A and 2B of Corsica count as 19 and 18.
pub(super) const FR_NIR: Kind = Kind {
    name: "fr_nir",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)[1-478] ?[0-9]{2} ?[0-9]{2} ?[0-9][0-9AB] ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}(?-u:\b)",
    ],
    words: &[
        "assuré",
        "carte vitale",
        "insee",
        "nir",
        "securite sociale",
        "sécu",
        "sécurité sociale",
    ],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let text: String = candidate.as_str().replace(' ', "");
    let digits = digits(&text.replace("2A", "19").replace("2B", "18"));
    if digits.len() != 15 {
        return None;
    }
    // 20 and above: the month is not known.
    let month = number(&digits[3..5]);
    let is_month = matches!(month, 1..=12 | 20..=42 | 50..=99);
    let key = number(&digits[13..]);
    let rest = mod97(digits[..13].iter().copied());
    if !is_month || number(&digits[5..7]) == 0 || key != 97 - rest || !candidate.is_alone() {
        return None;
    }
    candidate.or_sure(LIKELY)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_key_decides() {
        check("2 55 08 14 168 025 38", &["fr_nir:2 55 08 14 168 025 38"]);
        check("255081416802538", &["fr_nir:255081416802538"]);
        check("2 55 08 14 168 025 39", &[]);
        check("2 55 13 14 168 025 38", &[]);
    }

    #[test]
    fn corsica_has_letters() {
        // 1 85 05 2A 006 084: the key of 1850519006084.
        let key = 97 - crate::checksum::mod97("1850519006084".bytes().map(|byte| byte - b'0'));
        let number = format!("1 85 05 2A 006 084 {key:02}");
        check(&number, &[&format!("fr_nir:{number}")]);
    }
}
