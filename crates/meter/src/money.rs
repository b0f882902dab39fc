//! Amounts of money: whole millionths of a currency's unit, so that sums are exact.

use std::fmt;

/// Millionths of a unit.
pub(crate) const MICRO: f64 = 1e6;

/// The largest amount that is taken from a file, in units: more is a mistake.
const UNITS_MAX: f64 = 1e9;

/// A currency, as three capital letters (ISO 4217).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Currency([u8; 3]);

impl Currency {
    /// The currency of this name.
    ///
    /// # Errors
    /// What was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            let found: String = text.chars().take(20).collect();
            format!("currency: {found:?}, expected three capital letters")
        };
        let letters: [u8; 3] = text.as_bytes().try_into().map_err(|_| expected())?;
        match letters.iter().all(u8::is_ascii_uppercase) {
            true => Ok(Self(letters)),
            false => Err(expected()),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

/// An amount as people read it: with two digits behind the point, or as many as it takes to see
/// one that is not zero, at most six.
pub fn amount(micro: i64) -> String {
    let (sign, micro) = (if micro < 0 { "-" } else { "" }, micro.unsigned_abs());
    let n_digits = match micro {
        0 | 10_000.. => 2,
        1_000.. => 3,
        100.. => 4,
        10.. => 5,
        _ => 6,
    };
    let step = 10_u64.pow(6 - n_digits);
    // Half of a step is rounded up.
    let rounded = micro.saturating_add(step / 2) / step;
    let unit = 10_u64.pow(n_digits);
    let (units, rest) = (rounded / unit, rounded % unit);
    format!("{sign}{units}.{rest:0width$}", width = n_digits as usize)
}

/// The amount of `field` that a file has, in millionths.
///
/// # Errors
/// What was expected.
pub(crate) fn micro(field: &str, units: f64) -> Result<u64, String> {
    match (0.0..=UNITS_MAX).contains(&units) {
        // At most 10^15, which a double has exactly.
        true => Ok((units * MICRO).round() as u64),
        false => Err(format!("{field}: {units}, expected an amount from 0 to {UNITS_MAX}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_told() {
        for (micro, expected) in [
            (0, "0.00"),
            (1, "0.000001"),
            (-25, "-0.00003"),
            (1_499, "0.001"),
            (9_999, "0.010"),
            (10_000, "0.01"),
            (4_500_000, "4.50"),
            (12_345_678, "12.35"),
            (-1_999_999, "-2.00"),
            (i64::MAX, "9223372036854.78"),
        ] {
            assert_eq!(amount(micro), expected);
        }
        assert_eq!(micro("in", 2.5), Ok(2_500_000));
        assert_eq!(micro("in", 0.000_000_1), Ok(0));
        for bad in [-0.1, f64::NAN, f64::INFINITY, 1e10] {
            let told = micro("in", bad).unwrap_err();
            assert!(told.starts_with("in: ") && told.contains("from 0 to 1000000000"), "{told}");
        }
    }

    #[test]
    fn currencies_have_three_letters() {
        assert_eq!(Currency::parse("EUR").unwrap().to_string(), "EUR");
        for bad in ["", "eur", "EURO", "€", "E1R"] {
            assert!(Currency::parse(bad).is_err(), "{bad}");
        }
    }
}
