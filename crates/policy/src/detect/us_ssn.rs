//! Social security numbers of the United States.

use super::candidate::{Candidate, Found, LIKELY, UNLIKELY, number};
use super::{Group, Kind};

/// Nine digits in groups of 3, 2 and 4. There is no check digit; what is never assigned is told by
/// the Social Security Administration (randomization, June 2011; POMS RM 10201.035).
pub(super) const US_SSN: Kind = Kind {
    name: "us_ssn",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)[0-9]{3}-[0-9]{2}-[0-9]{4}(?-u:\b)",
        r"(?-u:\b)[0-9]{3} [0-9]{2} [0-9]{4}(?-u:\b)",
        r"(?-u:\b)[0-9]{9}(?-u:\b)",
    ],
    words: &["social security", "soc sec", "ssn", "ssns", "taxpayer"],
    judge,
};

/// Printed on sample cards, and used by thousands.
const SAMPLES: &[u32] = &[78_051_120, 219_099_999];

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    let digits = candidate.digits();
    let [area, group, serial] = [number(&digits[..3]), number(&digits[3..5]), number(&digits[5..])];
    let is_assigned = !matches!(area, 0 | 666 | 900..) && group > 0 && serial > 0;
    if !is_assigned || SAMPLES.contains(&number(&digits)) || !candidate.is_alone() {
        return None;
    }
    let is_dashed = candidate.as_str().contains('-');
    candidate.or_sure(if is_dashed { LIKELY } else { UNLIKELY })
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn forms_and_ranges() {
        check("536-22-8145", &["us_ssn:536-22-8145"]);
        check("SSN 536228145", &["us_ssn:536228145"]);
        check("ssn: 536 22 8145", &["us_ssn:536 22 8145"]);
        for text in ["000-22-8145", "666-22-8145", "912-22-8145", "536-00-8145", "536-22-0000"] {
            check(text, &[]);
        }
        check("078-05-1120", &[]);
        check("part 536228145", &[]);
        check("536-22-8145-1", &[]);
    }
}
