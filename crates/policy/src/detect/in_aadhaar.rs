//! India's Aadhaar number.

use super::candidate::{Candidate, Found, MAYBE, UNLIKELY};
use super::{Group, Kind};
use crate::checksum::verhoeff;

/// Twelve digits, the first 2 to 9, the last Verhoeff's check digit, often in groups of four
/// (UIDAI, "A UID Numbering Scheme", 2010).
pub(super) const IN_AADHAAR: Kind = Kind {
    name: "in_aadhaar",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)[2-9][0-9]{3}[ -][0-9]{4}[ -][0-9]{4}(?-u:\b)",
        r"(?-u:\b)[2-9][0-9]{11}(?-u:\b)",
    ],
    words: &["aadhaar", "aadhar", "adhaar", "uid", "uidai", "आधार"],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let is_digit = |c: char| c.is_ascii_digit();
    // More groups of four are a card, or a table.
    let is_in_row = candidate.before().trim_end_matches([' ', '-']).ends_with(is_digit)
        || candidate.after().trim_start_matches([' ', '-']).starts_with(is_digit);
    if is_in_row || !verhoeff(&candidate.digits()) || !candidate.is_alone() {
        return None;
    }
    let is_bare = candidate.as_str().len() == 12;
    candidate.or_sure(if is_bare { UNLIKELY } else { MAYBE })
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_check_digit_decides() {
        check("2341 2341 2346", &["in_aadhaar:2341 2341 2346"]);
        check("Aadhaar 234123412346", &["in_aadhaar:234123412346"]);
        check("2341 2341 2347", &[]);
        check("1234 1234 1234", &[]);
        check("2341 2341 2346 1", &[]);
    }
}
