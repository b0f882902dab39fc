//! A day of the calendar. The calendar's arithmetic is Howard Hinnant's `days_from_civil` and
//! `civil_from_days` (<https://howardhinnant.github.io/date_algorithms.html>).

use std::fmt;
use std::str::FromStr;

const DAY_US: i64 = 86_400_000_000;

/// Years that are taken: four digits, as files and people write them.
const YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;

/// A day, from midnight to midnight UTC, of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    /// Days since 1970-01-01.
    n_days: i32,
}

impl Date {
    /// The day of these numbers; `None` where there is none, or before 1970.
    pub fn new(year: i32, month: u32, day: u32) -> Option<Self> {
        let n_in_month = n_days_of(year, month)?;
        if !YEARS.contains(&year) || !(1..=n_in_month).contains(&day) {
            return None;
        }
        // The year begins with March, so that the leap day is its last.
        let shifted = if month <= 2 { year - 1 } else { year };
        let era = shifted.div_euclid(400);
        let year_of_era = shifted.rem_euclid(400);
        let month = i32::try_from((month + 9) % 12).ok()?;
        let day_of_year = (153 * month + 2) / 5 + i32::try_from(day).ok()? - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        Some(Self { n_days: era * 146_097 + day_of_era - 719_468 })
    }

    /// The day of a time in microseconds since 1970 (UTC); times beyond all years are their first
    /// or last day.
    pub fn of_us(at_us: i64) -> Self {
        let n_days = i32::try_from(at_us.div_euclid(DAY_US)).unwrap_or(i32::MAX);
        Self { n_days: n_days.clamp(0, LAST) }
    }

    /// Its first moment, in microseconds since 1970 (UTC).
    pub fn start_us(self) -> i64 {
        i64::from(self.n_days) * DAY_US
    }

    /// The day so many days later, at most the last day of all.
    pub fn plus(self, n_days: i64) -> Self {
        let n_days = i64::from(self.n_days).saturating_add(n_days).clamp(0, i64::from(LAST));
        Self { n_days: i32::try_from(n_days).unwrap_or(LAST) }
    }

    /// Days from `other` to this one; negative where this one is earlier.
    pub fn days_since(self, other: Self) -> i64 {
        i64::from(self.n_days) - i64::from(other.n_days)
    }

    /// Year, month and day of the month.
    pub fn parts(self) -> (i32, i32, i32) {
        let shifted = self.n_days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year_of_era + era * 400 + i32::from(month <= 2);
        (year, month, day)
    }
}

/// 9999-12-31.
const LAST: i32 = 2_932_896;

/// Days of a month; `None` where there is no such month.
fn n_days_of(year: i32, month: u32) -> Option<u32> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    Some(match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    })
}

/// As `2026-01-31`.
impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.parts();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

impl FromStr for Date {
    type Err = String;

    /// Reads `2026-01-31`.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("{text:?}: expected a day such as 2026-01-31");
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts[..] else { return Err(expected()) };
        let lengths = [year, month, day].map(str::len);
        let is_digits = |part: &&str| part.bytes().all(|byte| byte.is_ascii_digit());
        if lengths != [4, 2, 2] || ![year, month, day].iter().all(is_digits) {
            return Err(expected());
        }
        let number = |part: &str| part.parse::<u32>().unwrap_or(0);
        let year = i32::try_from(number(year)).unwrap_or(0);
        Self::new(year, number(month), number(day)).ok_or_else(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, n_days: Option<i32>) {
        let found: Option<Date> = text.parse().ok();
        assert_eq!(found.map(|date| date.n_days), n_days, "{text}");
        if let Some(found) = found {
            assert_eq!(found.to_string(), text);
        }
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        // By Python's datetime.date.toordinal.
        check("1970-01-01", Some(0));
        check("2000-02-29", Some(11_016));
        check("2026-11-26", Some(20_783));
        check("2100-03-01", Some(47_541));
        check("9999-12-31", Some(LAST));
        for text in ["", "2026", "2026-2-1", "2026-02-29", "2026-13-01", "2026-00-10", "2026-01-00"]
        {
            check(text, None);
        }
        for text in ["1969-12-31", "2100-02-29", "+026-01-01", "2026-01-01T00", "2026/01/01"] {
            check(text, None);
        }
    }

    #[test]
    fn times_have_their_day() {
        let first: Date = "2026-11-26".parse().unwrap();
        assert_eq!(Date::of_us(first.start_us()), first);
        assert_eq!(Date::of_us(first.start_us() - 1), first.plus(-1));
        assert_eq!(Date::of_us(i64::MIN).n_days, 0);
        assert_eq!(Date::of_us(i64::MAX).to_string(), "9999-12-31");
        assert_eq!(first.plus(i64::MAX).to_string(), "9999-12-31");
        assert_eq!(first.plus(40).days_since(first), 40);
    }

    proptest! {
        /// Each day has one name, and the next day the next one.
        #[test]
        fn names_and_days_agree(n_days in 0..LAST) {
            let date = Date { n_days };
            let (year, month, day) = date.parts();
            prop_assert_eq!(Date::new(year, month as u32, day as u32), Some(date));
            prop_assert_eq!(date.to_string().parse::<Date>(), Ok(date));
            prop_assert!(date.to_string() < date.plus(1).to_string());
        }
    }
}
