//! Patients' numbers of the National Health Service in England, Wales and the Isle of Man.

use super::candidate::{Candidate, Found, UNLIKELY};
use super::{Group, Kind};
use crate::checksum::weighted;

/// Ten digits, often in groups of 3, 3 and 4; the last is a check modulo 11 (NHS Data Model and
/// Dictionary, "NHS NUMBER").
pub(super) const UK_NHS: Kind = Kind {
    name: "uk_nhs",
    group: Group::Personal,
    patterns: &[r"(?-u:\b)[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}(?-u:\b)"],
    words: &["nhs", "patient", "patients"],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let sum = weighted(&candidate.digits(), &[10, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
    if sum == 0 || !sum.is_multiple_of(11) || !candidate.is_alone() {
        return None;
    }
    candidate.or_sure(UNLIKELY)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_check_digit_and_a_word_decide() {
        check("NHS number 943 476 5919", &["uk_nhs:943 476 5919"]);
        check("NHS no. 9434765919", &["uk_nhs:9434765919"]);
        check("NHS no. 9434765918", &[]);
        check("order 9434765919", &[]);
    }
}
