//! Poland's personal number (PESEL).

use super::candidate::{Candidate, Found, UNLIKELY, number};
use super::{Group, Kind};
use crate::checksum::{is_date, weighted};

/// Eleven digits: the day of birth, with the century in the month (1800s: 80 more, 2000s: 20 more
/// and so on), four digits, and a check digit with weights 1, 3, 7, 9 (Ministerstwo Cyfryzacji,
/// "Czym jest numer PESEL").
pub(super) const PL_PESEL: Kind = Kind {
    name: "pl_pesel",
    group: Group::Personal,
    patterns: &[r"(?-u:\b)[0-9]{11}(?-u:\b)"],
    words: &["pesel"],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let digits = candidate.digits();
    let sum = weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]);
    let month = number(&digits[2..4]);
    let century = [1900, 2000, 2100, 2200, 1800][month as usize / 20];
    let year = century + number(&digits[..2]);
    let is_day = is_date(Some(year), month % 20, number(&digits[4..6]));
    if !sum.is_multiple_of(10) || !is_day || !candidate.is_alone() {
        return None;
    }
    candidate.or_sure(UNLIKELY)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_day_and_the_check_digit_decide() {
        check("PESEL 44051401359", &["pl_pesel:44051401359"]);
        check("PESEL: 02270803624", &["pl_pesel:02270803624"]);
        check("PESEL 44051401358", &[]);
        check("PESEL 44053401351", &[]);
        check("44051401359", &[]);
    }
}
