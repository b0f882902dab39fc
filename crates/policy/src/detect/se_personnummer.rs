//! Sweden's personal and coordination numbers (personnummer, samordningsnummer).

use super::candidate::{Candidate, Found, MAYBE, UNLIKELY, number};
use super::{Group, Kind};
use crate::checksum::{is_date, luhn};

/// The day of birth (of a coordination number 60 more), three digits and Luhn's check digit over
/// the last ten (Skatteverket, SKV 704 and SKV 707).
pub(super) const SE_PERSONNUMMER: Kind = Kind {
    name: "se_personnummer",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}(?-u:\b)",
        r"(?-u:\b)(?:[0-9]{2})?[0-9]{10}(?-u:\b)",
    ],
    words: &["personnr", "personnummer", "pnr", "samordningsnummer"],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let digits = candidate.digits();
    let (century, ten) = digits.split_at(digits.len() - 10);
    let year = number(&ten[..2]) + 100 * number(century);
    let year = (!century.is_empty()).then_some(year);
    if year.is_some_and(|year| !(1850..2100).contains(&year)) {
        return None;
    }
    let [month, day] = [number(&ten[2..4]), number(&ten[4..6])];
    let is_day = is_date(year, month, if day > 60 { day - 60 } else { day });
    if !is_day || !luhn(ten) || !candidate.is_alone() {
        return None;
    }
    let is_bare = candidate.as_str().len() == digits.len();
    candidate.or_sure(if is_bare { UNLIKELY } else { MAYBE })
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_day_and_the_check_digit_decide() {
        check("811228-9874", &["se_personnummer:811228-9874"]);
        check("19811228-9874", &["se_personnummer:19811228-9874"]);
        check("personnummer 198112289874", &["se_personnummer:198112289874"]);
        check("811228-9873", &[]);
        check("811328-9872", &[]);
        check("8112289874", &[]);
    }
}
