//! Germany's tax identification number (Steuerliche Identifikationsnummer).

use super::candidate::{Candidate, Found, MAYBE, UNLIKELY};
use super::{Group, Kind};
use crate::checksum::mod11_10;

/// Eleven digits, the first not 0, the last a check digit (ISO/IEC 7064 MOD 11,10); of the first
/// ten exactly one digit comes twice or three times, and the others once at most (§ 139b AO;
/// Bundeszentralamt für Steuern, "Aufbau der IdNr").
pub(super) const DE_STEUER_ID: Kind = Kind {
    name: "de_steuer_id",
    group: Group::Personal,
    patterns: &[r"(?-u:\b)[1-9][0-9](?: ?[0-9]{3}){3}(?-u:\b)"],
    words: &[
        "identifikationsnummer",
        "idnr",
        "id-nr",
        "steuer-id",
        "steuer id",
        "steuerid",
        "steueridentifikationsnummer",
        "steuer-identifikationsnummer",
        "steuernummer",
        "tax id",
        "tin",
    ],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let digits = candidate.digits();
    if !has_structure(&digits[..10]) || !mod11_10(&digits) || !candidate.is_alone() {
        return None;
    }
    let is_spaced = candidate.as_str().matches(' ').count() == 3;
    candidate.or_sure(if is_spaced { MAYBE } else { UNLIKELY })
}

fn has_structure(digits: &[u8]) -> bool {
    let mut counts = [0_u8; 10];
    digits.iter().for_each(|&digit| counts[usize::from(digit)] += 1);
    let repeated: Vec<u8> = counts.into_iter().filter(|&count| count > 1).collect();
    matches!(repeated[..], [2 | 3])
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn structure_and_check_digit_decide() {
        check("Steuer-ID 86095742719", &["de_steuer_id:86095742719"]);
        check("47 036 892 816", &["de_steuer_id:47 036 892 816"]);
        check("IdNr. 47036892817", &[]);
        check("86095742719", &[]);
        // No digit twice.
        check("Steuer-ID 12345678903", &[]);
    }
}
