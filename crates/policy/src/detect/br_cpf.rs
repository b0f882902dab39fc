//! Brazil's taxpayer number (CPF).

use super::candidate::{Candidate, Found, SURE, UNLIKELY};
use super::{Group, Kind};
use crate::checksum::weighted;

/// Nine digits and two check digits modulo 11, printed as 123.456.789-09; never the same digit
/// eleven times (Receita Federal, Instrução Normativa on the CPF).
pub(super) const BR_CPF: Kind = Kind {
    name: "br_cpf",
    group: Group::Personal,
    patterns: &[
        r"(?-u:\b)[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}(?-u:\b)",
        r"(?-u:\b)[0-9]{11}(?-u:\b)",
    ],
    words: &["cpf"],
    judge,
};

fn judge(candidate: &Candidate<'_>) -> Option<Found> {
    const WEIGHTS: [u32; 10] = [11, 10, 9, 8, 7, 6, 5, 4, 3, 2];
    let digits = candidate.digits();
    let check = |first: &[u8], weights: &[u32]| match weighted(first, weights) % 11 {
        0 | 1 => 0,
        rest => 11 - rest,
    };
    let is_right = check(&digits[..9], &WEIGHTS[1..]) == u32::from(digits[9])
        && check(&digits[..10], &WEIGHTS) == u32::from(digits[10]);
    let is_same = digits.iter().all(|digit| *digit == digits[0]);
    if !is_right || is_same || !candidate.is_alone() {
        return None;
    }
    let is_printed = candidate.as_str().contains('.');
    candidate.or_sure(if is_printed { SURE } else { UNLIKELY })
}

#[cfg(test)]
mod tests {
    use crate::detect::testing::check;

    #[test]
    fn the_check_digits_decide() {
        check("123.456.789-09", &["br_cpf:123.456.789-09"]);
        check("CPF 52998224725", &["br_cpf:52998224725"]);
        check("123.456.789-08", &[]);
        check("111.111.111-11", &[]);
        check("52998224725", &[]);
    }
}
