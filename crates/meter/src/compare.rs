//! Renting against owning, day by day, and the day on which owning has paid.
//!
//! Renting is what the traffic would have cost at the listed prices. Owning is told twice: as what
//! each day costs (energy, and what is written off of the machine), and as what was paid by then
//! (the machine on its first day, and energy), which is what renting has to reach.

use std::collections::BTreeMap;

use crate::{Date, MeterError, Own, Prices, Tokens};

/// Longest comparison: a century.
const N_DAYS_MAX: i64 = 36_600;

/// Days at the end whose mean says how it goes on.
const N_DAYS_TREND: usize = 28;

/// What was used on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DayUse {
    /// The day.
    pub day: Date,
    /// Of all its requests.
    pub tokens: Tokens,
    /// What they took of energy, in millijoules.
    pub energy_mj: u64,
}

/// One day of a comparison; amounts are millionths of the currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The day.
    pub day: Date,
    /// What its traffic would have cost; `None`: no price is listed for that day.
    pub rent_micro: Option<i64>,
    /// What the day cost: energy, and what is written off.
    pub own_micro: i64,
    /// What its energy cost.
    pub energy_micro: i64,
    /// What renting would have cost until the end of the day.
    pub rent_sum_micro: i64,
    /// What owning has cost until then.
    pub own_sum_micro: i64,
    /// What was paid until then: the machine, and energy.
    pub paid_sum_micro: i64,
}

/// When renting would have cost as much as was paid for owning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakEven {
    /// On this day.
    Reached(Date),
    /// On this day, should the traffic of the last days go on.
    Expected(Date),
    /// On this day, when the machine is written off already.
    BeyondLife(Date),
    /// Never, should it go on: renting it costs no more than the energy.
    Never,
    /// There are no days to go by.
    Unknown,
}

/// Renting against owning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// All days from the first one of the machine on.
    pub points: Vec<Point>,
    /// When owning has paid.
    pub break_even: BreakEven,
    /// Days with traffic for which no price is listed: their rent is not counted.
    pub n_unpriced: usize,
    /// Days with traffic before the machine was bought: they are not compared.
    pub n_before: usize,
}

/// Compares what was used with having rented `model` of `vendor`, up to the day `until`.
///
/// # Errors
/// A model that has no price, a price in another currency than the owner's costs, or more days
/// than are compared.
pub fn compare(
    days: &[DayUse],
    until: Date,
    own: &Own,
    prices: &Prices,
    (vendor, model): (&str, &str),
) -> Result<Comparison, MeterError> {
    let names = prices.names();
    if !names.contains(&(vendor, model)) {
        let known: Vec<String> =
            names.iter().take(20).map(|(vendor, model)| format!("{vendor}/{model}")).collect();
        let (vendor, model) = (vendor.to_owned(), model.to_owned());
        return Err(MeterError::NoPrice { vendor, model, known: known.join(", ") });
    }
    let n_days = until.days_since(own.since) + 1;
    if n_days > N_DAYS_MAX {
        return Err(MeterError::TooLong { n_days, n_days_max: N_DAYS_MAX });
    }
    let mut by_day: BTreeMap<Date, DayUse> = BTreeMap::new();
    for used in days {
        let nothing = DayUse { day: used.day, tokens: Tokens::default(), energy_mj: 0 };
        let sum = by_day.entry(used.day).or_insert(nothing);
        sum.tokens = sum.tokens.plus(used.tokens);
        sum.energy_mj = sum.energy_mj.saturating_add(used.energy_mj);
    }
    let n_before = by_day.range(..own.since).count();
    let (mut points, mut n_unpriced) = (Vec::new(), 0);
    let (mut rent_sum, mut own_sum) = (0_i64, 0_i64);
    let mut paid_sum = i64::try_from(own.hardware_micro).unwrap_or(i64::MAX);
    for idx in 0..n_days {
        let day = own.since.plus(idx);
        let used = by_day.get(&day);
        let tokens = used.map_or_else(Tokens::default, |used| used.tokens);
        let price = prices.price(vendor, model, day);
        if let Some(price) = price.filter(|price| price.currency != own.currency) {
            return Err(MeterError::OtherCurrency {
                vendor: vendor.to_owned(),
                model: model.to_owned(),
                found: price.currency.to_string(),
                expected: own.currency.to_string(),
            });
        }
        n_unpriced += usize::from(used.is_some() && price.is_none());
        let rent_micro = price.map(|price| price.cost_micro(tokens));
        let energy_mj = own.day_mj(used.map_or(0, |used| used.energy_mj));
        let energy_micro = own.energy_micro(energy_mj);
        let own_micro = energy_micro.saturating_add(own.write_off_micro(day));
        rent_sum = rent_sum.saturating_add(rent_micro.unwrap_or(0));
        own_sum = own_sum.saturating_add(own_micro);
        paid_sum = paid_sum.saturating_add(energy_micro);
        points.push(Point {
            day,
            rent_micro,
            own_micro,
            energy_micro,
            rent_sum_micro: rent_sum,
            own_sum_micro: own_sum,
            paid_sum_micro: paid_sum,
        });
    }
    let break_even = break_even(&points, own);
    Ok(Comparison { points, break_even, n_unpriced, n_before })
}

fn break_even(points: &[Point], own: &Own) -> BreakEven {
    let Some(last) = points.last() else { return BreakEven::Unknown };
    let is_reached = |point: &&Point| point.rent_sum_micro >= point.paid_sum_micro;
    if let Some(point) = points.iter().find(is_reached) {
        return BreakEven::Reached(point.day);
    }
    let trend = &points[points.len().saturating_sub(N_DAYS_TREND)..];
    let gain =
        |point: &Point| i128::from(point.rent_micro.unwrap_or(0)) - i128::from(point.energy_micro);
    let gains: i128 = trend.iter().map(gain).sum();
    if gains <= 0 {
        return BreakEven::Never;
    }
    let gap = i128::from(last.paid_sum_micro) - i128::from(last.rent_sum_micro);
    // The gap over the mean gain of a day, a day begun counts.
    let n_trend = i128::try_from(trend.len()).unwrap_or(1);
    let n_days = i64::try_from((gap * n_trend + gains - 1) / gains).unwrap_or(i64::MAX);
    let day = last.day.plus(n_days);
    match day.days_since(own.since) < i64::from(own.life_days) {
        true => BreakEven::Expected(day),
        false => BreakEven::BeyondLife(day),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::own::tests::OWN;
    use proptest::prelude::*;

    const PRICE: &str = "[[price]]\nvendor = \"v\"\nmodel = \"m\"\nin = 2\nout = 8\n\
                         currency = \"EUR\"\nsince = 2026-01-01\n";

    fn prices() -> Prices {
        Prices::parse("p", &format!("{PRICE}{OWN}")).unwrap()
    }

    fn used(n_day: i64, n_prompt: u64, n_answer: u64) -> DayUse {
        let day = prices().own().unwrap().since.plus(n_day);
        DayUse {
            day,
            tokens: Tokens { n_prompt, n_cached: 0, n_answer },
            energy_mj: 140_000 * 3600,
        }
    }

    fn compared(days: &[DayUse], n_days: i64) -> Comparison {
        let prices = prices();
        let own = prices.own().unwrap();
        compare(days, own.since.plus(n_days - 1), own, &prices, ("v", "m")).unwrap()
    }

    /// 4 million tokens in, 1 million out: 16.00 a day, less 0.318 for energy.
    fn busy(n_days: i64) -> Vec<DayUse> {
        (0..n_days).map(|n| used(n, 4_000_000, 1_000_000)).collect()
    }

    #[test]
    fn each_day_is_told_both_ways() {
        let found = compared(&busy(2), 3);
        let first = found.points[0];
        assert_eq!((first.rent_micro, first.energy_micro), (Some(16_000_000), 318_000));
        // 1000 over 731 days.
        assert_eq!(first.own_micro, 318_000 + 1_367_989);
        assert_eq!(first.paid_sum_micro, 1_000_318_000);
        let last = found.points[2];
        assert_eq!((last.rent_micro, last.energy_micro), (Some(0), 288_000));
        assert_eq!((last.rent_sum_micro, last.paid_sum_micro), (32_000_000, 1_000_924_000));
        assert_eq!((found.points.len(), found.n_unpriced, found.n_before), (3, 0, 0));
    }

    #[test]
    fn owning_pays_on_the_day_that_renting_reaches_what_was_paid() {
        let own = prices().own().unwrap().clone();
        // 1000 / (16.00 - 0.318) = 63.8: the 64th day.
        assert_eq!(compared(&busy(100), 100).break_even, BreakEven::Reached(own.since.plus(63)));
        assert_eq!(compared(&busy(30), 30).break_even, BreakEven::Expected(own.since.plus(63)));
        // A twentieth of it: 0.80 less the energy a day, some 2075 days.
        let few: Vec<DayUse> = (0..30).map(|n| used(n, 200_000, 50_000)).collect();
        let found = compared(&few, 30).break_even;
        assert_eq!(found, BreakEven::BeyondLife(own.since.plus(2074)));
        // The machine draws more than renting costs.
        let less: Vec<DayUse> = (0..30).map(|n| used(n, 100_000, 10_000)).collect();
        assert_eq!(compared(&less, 30).break_even, BreakEven::Never);
        assert_eq!(compared(&[], 30).break_even, BreakEven::Never);
        assert_eq!(compared(&[], 0).break_even, BreakEven::Unknown);
        // What comes of late counts, not what was: 100 idle days, then 30 busy ones.
        let late: Vec<DayUse> = (100..130).map(|n| used(n, 4_000_000, 1_000_000)).collect();
        assert!(matches!(compared(&late, 130).break_even, BreakEven::Expected(_)));
    }

    #[test]
    fn what_cannot_be_compared_is_told() {
        let prices = prices();
        let own = prices.own().unwrap();
        let told = |own: &Own, until: Date, name| {
            compare(&[], until, own, &prices, name).unwrap_err().to_string()
        };
        let unknown = told(own, own.since, ("v", "x"));
        assert_eq!(unknown, "no price of v/x is listed, expected one of: v/m");
        let far = told(own, own.since.plus(40_000), ("v", "m"));
        assert_eq!(far, "40001 days are compared, expected at most 36600");
        let other = PRICE.replace("EUR", "USD");
        let other = Prices::parse("p", &format!("{other}{OWN}")).unwrap();
        let found = compare(&[], own.since, own, &other, ("v", "m")).unwrap_err().to_string();
        assert_eq!(found, "v/m is priced in USD, expected EUR as the owner's costs are");
        // Traffic without a price, and traffic before the machine.
        let later = PRICE.replace("2026-01-01", "2026-01-03");
        let later = Prices::parse("p", &format!("{later}{OWN}")).unwrap();
        let days: Vec<DayUse> = (-2..4).map(|n| used(n, 1, 1)).collect();
        let found = compare(&days, own.since.plus(3), own, &later, ("v", "m")).unwrap();
        assert_eq!((found.n_unpriced, found.n_before), (2, 2));
        assert_eq!(found.points[1].rent_micro, None);
    }

    proptest! {
        /// Sums are sums, whatever the order and however a day is cut into parts.
        #[test]
        fn sums_are_of_the_days(
            parts in prop::collection::vec((0..40_i64, 0..1_u64 << 30, 0..1_u64 << 30), 0..60),
        ) {
            let days: Vec<DayUse> = parts.iter().map(|&(day, n, m)| used(day, n, m)).collect();
            let found = compared(&days, 40);
            let reversed: Vec<DayUse> = days.iter().rev().copied().collect();
            prop_assert_eq!(&found, &compared(&reversed, 40));
            let last = found.points.last().unwrap();
            let sum = |of: fn(&Point) -> i64| found.points.iter().map(of).sum::<i64>();
            prop_assert_eq!(last.rent_sum_micro, sum(|point| point.rent_micro.unwrap()));
            prop_assert_eq!(last.own_sum_micro, sum(|point| point.own_micro));
            prop_assert_eq!(last.paid_sum_micro, 1_000_000_000 + sum(|point| point.energy_micro));
        }

        /// More traffic never puts off the day on which owning pays.
        #[test]
        fn more_traffic_pays_sooner(n in 1..4_000_000_u64, more in 0..4_000_000_u64) {
            let day = |n| match compared(&(0..30).map(|d| used(d, n, n)).collect::<Vec<_>>(), 30)
                .break_even
            {
                BreakEven::Reached(day) | BreakEven::Expected(day) | BreakEven::BeyondLife(day) => {
                    Some(day)
                }
                BreakEven::Never | BreakEven::Unknown => None,
            };
            let (less, more) = (day(n), day(n + more));
            prop_assert!(less.is_none() || more.is_some_and(|more| Some(more) <= less));
        }
    }
}
