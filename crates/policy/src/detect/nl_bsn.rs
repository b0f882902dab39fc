//! The Netherlands' citizen service number (burgerservicenummer, BSN).

use super::candidate::{Candidate, Found, UNLIKELY};
use super::{Group, Kind};
use crate::checksum::weighted;

/// Nine digits that pass the "11-proef": the sum with weights 9 to 2 less the last digit is a
/// multiple of 11 (Rijksdienst voor Identiteitsgegevens, Logisch Ontwerp BSN). One number in
/// eleven does, so a word must be near.
pub(super) const NL_BSN: Kind = Kind {
    name: "nl_bsn",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)[0-9]{9}(?-u:\b)",
        r"(?-u:\b)[0-9]{4}[. ][0-9]{2}[. ][0-9]{3}(?-u:\b)",
        r"(?-u:\b)[0-9]{3}[. ][0-9]{3}[. ][0-9]{3}(?-u:\b)",
    ],
    words: &["bsn", "burgerservicenummer", "citizen service number", "sofi", "sofinummer"],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let digits = candidate.digits();
    let (&last, first) = digits.split_last()?;
    let sum = weighted(first, &[9, 8, 7, 6, 5, 4, 3, 2]);
    if sum == 0 || sum % 11 != u32::from(last) || !candidate.is_alone() {
        return None;
    }
    candidate.or_sure(UNLIKELY)
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_check_and_a_word_decide() {
        check("BSN 111222333", &["nl_bsn:111222333"]);
        check("burgerservicenummer: 1234.56.782", &["nl_bsn:1234.56.782"]);
        check("BSN 111222334", &[]);
        check("order 111222333", &[]);
    }
}
