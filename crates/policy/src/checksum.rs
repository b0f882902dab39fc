//! Check digits. Digits are numbers from 0 to 9, the check digit among them.

/// Whether the digits pass Luhn's check (ISO/IEC 7812-1 annex B; Luhn, US patent 2950048).
pub(crate) fn luhn(digits: &[u8]) -> bool {
    let doubled = |digit: u32| if digit > 4 { 2 * digit - 9 } else { 2 * digit };
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, &digit)| if at % 2 == 1 { doubled(digit.into()) } else { digit.into() })
        .sum();
    sum.is_multiple_of(10)
}

/// The rest of the number that the decimal digits are, by 97.
pub(crate) fn mod97(digits: impl IntoIterator<Item = u8>) -> u32 {
    digits.into_iter().fold(0, |rest, digit| (rest * 10 + u32::from(digit)) % 97)
}

/// Whether the digits pass the check MOD 11,10 (ISO/IEC 7064, hybrid system).
pub(crate) fn mod11_10(digits: &[u8]) -> bool {
    let Some((&check, digits)) = digits.split_last() else { return false };
    let product = digits.iter().fold(10, |product, &digit| {
        let sum = (u32::from(digit) + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == u32::from(check)
}

/// The sum of the products of digits and weights.
pub(crate) fn weighted(digits: &[u8], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(&digit, weight)| u32::from(digit) * weight).sum()
}

/// Whether the digits pass Verhoeff's check (Verhoeff 1969, Error Detecting Decimal Codes).
pub(crate) fn verhoeff(digits: &[u8]) -> bool {
    // The powers of its permutation; the eighth is the identity.
    const POWERS: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    // The dihedral group of order 10: 0 to 4 are rotations, 5 to 9 reflections.
    let product = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b - 5) % 5,
        (false, true) => 5 + (a - 5 + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let permuted = digits.iter().rev().zip(POWERS.iter().cycle());
    permuted.fold(0, |sum, (&digit, power)| product(sum, power[usize::from(digit)])) == 0
}

/// Whether there is such a day; `year` where it is known, since one in four has a 29 February.
pub(crate) fn is_date(year: Option<u32>, month: u32, day: u32) -> bool {
    let is_leap = |year: u32| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let n_days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_none_or(is_leap) => 29,
        2 => 28,
        1..=12 => 31,
        _ => return false,
    };
    (1..=n_days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().map(|byte| byte - b'0').collect()
    }

    /// A check of digits finds every single wrong digit.
    #[track_caller]
    fn check(passes: fn(&[u8]) -> bool, right: &str) {
        let right = digits(right);
        assert!(passes(&right), "{right:?}");
        for at in 0..right.len() {
            for digit in (0..10).filter(|&digit| digit != right[at]) {
                let mut wrong = right.clone();
                wrong[at] = digit;
                assert!(!passes(&wrong), "{wrong:?}");
            }
        }
    }

    #[test]
    fn every_wrong_digit_is_found() {
        check(luhn, "4111111111111111");
        check(luhn, "378282246310005");
        check(mod11_10, "86095742719");
        check(mod11_10, "47036892816");
        check(verhoeff, "2363");
        check(verhoeff, "234123412346");
        check(|digits| mod97(digits.iter().copied()) == 1, "370400440532013000131489");
    }

    /// The group's table as Verhoeff prints it, of which the code has the rule.
    #[test]
    fn transpositions_are_found_by_verhoeff() {
        let right = digits("234123412346");
        for at in (1..right.len()).filter(|&at| right[at] != right[at - 1]) {
            let mut wrong = right.clone();
            wrong.swap(at - 1, at);
            assert!(!verhoeff(&wrong), "{wrong:?}");
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert!(is_date(Some(2024), 2, 29) && !is_date(Some(2023), 2, 29));
        assert!(!is_date(Some(1900), 2, 29) && is_date(Some(2000), 2, 29) && is_date(None, 2, 29));
        assert!(is_date(None, 12, 31) && !is_date(None, 4, 31) && !is_date(None, 13, 1));
        assert!(!is_date(None, 1, 0) && !is_date(None, 0, 1));
    }
}
