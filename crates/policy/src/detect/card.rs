//! Payment cards.

use super::candidate::{Candidate, Found, LIKELY, SURE, number};
use super::{Group, Kind};
use crate::checksum::luhn;

/// Digits that pass Luhn's check (ISO/IEC 7812-1), in a range and of a length that a brand has,
/// together or in the groups that are printed.
pub(super) const CARD: Kind = Kind {
    name: "card",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{1,4}(?:[ -][0-9]{3})?(?-u:\b)",
        r"(?-u:\b)[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -][0-9]{4}(?-u:\b)",
        r"(?-u:\b)3[0-9]{3}[ -][0-9]{6}[ -][0-9]{4,5}(?-u:\b)",
        r"(?-u:\b)[2-6][0-9]{12,18}(?-u:\b)",
    ],
    words: &[
        "amex",
        "american express",
        "bancaire",
        "card",
        "carta",
        "carte",
        "cc",
        "credit",
        "credito",
        "debit",
        "kreditkarte",
        "kartennummer",
        "maestro",
        "mastercard",
        "pan",
        "tarjeta",
        "visa",
    ],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let digits = candidate.digits();
    if !is_of_brand(&digits) || !luhn(&digits) || !candidate.is_alone() {
        return None;
    }
    let is_bare = candidate.as_str().len() == digits.len();
    if is_bare { candidate.or_sure(LIKELY) } else { candidate.whole(SURE) }
}

/// Whether a brand has cards with such a beginning and length: Visa, Mastercard, American Express,
/// Discover, Diners Club, JCB, UnionPay (their published ranges).
fn is_of_brand(digits: &[u8]) -> bool {
    if digits.len() < 13 {
        return false;
    }
    matches!(
        (number(&digits[..4]), digits.len()),
        (4000..=4999, 13 | 16 | 19)
            | (5100..=5599 | 2221..=2720, 16)
            | (3400..=3499 | 3700..=3799, 15)
            | (6011 | 6440..=6599 | 3528..=3589 | 6200..=6299, 16..=19)
            | (3000..=3059 | 3600..=3699 | 3800..=3999, 14)
    )
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn cards_are_found() {
        check("4111 1111 1111 1111", &["card:4111 1111 1111 1111"]);
        check("5500-0000-0000-0004 123", &["card:5500-0000-0000-0004"]);
        check("3782 822463 10005", &["card:3782 822463 10005"]);
        check("378282246310005,", &["card:378282246310005"]);
        check("6011000990139424", &["card:6011000990139424"]);
        check("3566002020360505", &["card:3566002020360505"]);
    }

    #[test]
    fn other_numbers_are_not() {
        check("4111 1111 1111 1112", &[]);
        check("1234 5678 9012 3452", &[]);
        check("order-4111111111111111", &[]);
        check("4111111111111111.5", &[]);
        check("9780306406157", &[]);
    }
}
