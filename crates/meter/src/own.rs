//! What owning costs: the machine, written off over its life, and what it draws.
//!
//! ```toml
//! [own]
//! currency = "EUR"
//! hardware = 2400.00      # what the machine cost
//! since = 2026-01-15      # bought on this day
//! years = 4               # written off over so many
//! energy = 0.32           # for a kilowatt hour
//! watts-idle = 45         # of the whole machine, at the wall
//! watts-busy = 160        # of the whole machine while it answers
//! ```

use serde::Deserialize;
use toml::value::Datetime;

use crate::Date;
use crate::money::{Currency, micro};
use crate::prices::day;

const DAY_S: u64 = 86_400;
/// Millijoules of a kilowatt hour.
const KWH_MJ: u128 = 3_600_000_000;
/// Days of a year on average.
const YEAR_DAYS: f64 = 365.25;
/// Longest life of a machine.
const YEARS_MAX: f64 = 50.0;
/// Most that a machine draws: a row of racks.
const WATTS_MAX: f64 = 1e6;

/// What owning costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    /// Of the amounts.
    pub currency: Currency,
    /// When the machine was bought.
    pub since: Date,
    /// Over how many days it is written off.
    pub life_days: u32,
    /// What it cost, in millionths of the currency.
    pub hardware_micro: u64,
    /// What a kilowatt hour costs, likewise.
    pub kwh_micro: u64,
    /// What the machine draws while it has nothing to do, in milliwatts.
    pub idle_mw: u64,
    /// And while it answers.
    pub busy_mw: u64,
}

impl Own {
    /// What is written off on a day, in millionths of the currency. Over all days of the machine's
    /// life that is its price, to the millionth.
    pub fn write_off_micro(&self, day: Date) -> i64 {
        let life = u128::from(self.life_days);
        let until = |n_days: i64| -> u128 {
            let n_days = u128::try_from(n_days).unwrap_or(0).min(life);
            u128::from(self.hardware_micro) * n_days / life
        };
        let n_days = day.days_since(self.since);
        i64::try_from(until(n_days + 1) - until(n_days)).unwrap_or(i64::MAX)
    }

    /// What the machine draws on a day on which its requests took `requests_mj`, in millijoules:
    /// that, and what it draws idle for the rest of the day.
    pub fn day_mj(&self, requests_mj: u64) -> u64 {
        let busy_s = requests_mj.checked_div(self.busy_mw).unwrap_or(0).min(DAY_S);
        self.idle_mw.saturating_mul(DAY_S - busy_s).saturating_add(requests_mj)
    }

    /// What so much energy costs, in millionths of the currency.
    pub fn energy_micro(&self, energy_mj: u64) -> i64 {
        let cost = u128::from(energy_mj) * u128::from(self.kwh_micro);
        i64::try_from((cost + KWH_MJ / 2) / KWH_MJ).unwrap_or(i64::MAX)
    }
}

/// The table as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct OwnTable {
    currency: String,
    hardware: f64,
    since: Datetime,
    years: f64,
    energy: f64,
    watts_idle: f64,
    watts_busy: f64,
}

impl OwnTable {
    pub(crate) fn check(self) -> Result<Own, String> {
        let years = self.years;
        if !(years > 0.0 && years <= YEARS_MAX) {
            return Err(format!("years: {years}, expected more than 0 and at most {YEARS_MAX}"));
        }
        let busy_mw = milliwatts("watts-busy", self.watts_busy)?;
        let idle_mw = milliwatts("watts-idle", self.watts_idle)?;
        if busy_mw < idle_mw {
            let expected = format!("expected at least watts-idle, {}", self.watts_idle);
            return Err(format!("watts-busy: {}, {expected}", self.watts_busy));
        }
        Ok(Own {
            currency: Currency::parse(&self.currency)?,
            since: day("since", &self.since)?,
            life_days: ((years * YEAR_DAYS).round() as u32).max(1),
            hardware_micro: micro("hardware", self.hardware)?,
            kwh_micro: micro("energy", self.energy)?,
            idle_mw,
            busy_mw,
        })
    }
}

fn milliwatts(field: &str, watts: f64) -> Result<u64, String> {
    match (0.0..=WATTS_MAX).contains(&watts) {
        true => Ok((watts * 1000.0).round() as u64),
        false => Err(format!("{field}: {watts}, expected watts from 0 to {WATTS_MAX}")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::Prices;
    use proptest::prelude::*;

    pub(crate) const OWN: &str = "[own]\ncurrency = \"EUR\"\nhardware = 1000\nsince = 2026-01-01\n\
                                  years = 2\nenergy = 0.30\nwatts-idle = 40\nwatts-busy = 140\n";

    fn own() -> Own {
        Prices::parse("p", OWN).unwrap().own().unwrap().clone()
    }

    #[test]
    fn a_day_costs_what_the_machine_draws_and_loses() {
        let own = own();
        // 40 W for a day are 0.96 kWh.
        assert_eq!(own.day_mj(0), 3_456_000_000);
        assert_eq!(own.energy_micro(own.day_mj(0)), 288_000);
        // One hour of 140 W, 23 of 40 W: 1.06 kWh.
        assert_eq!(own.day_mj(140_000 * 3600), 3_816_000_000);
        // What requests drew beyond a day of work is believed.
        assert_eq!(own.day_mj(140_000 * DAY_S + 5), 140_000 * DAY_S + 5);
        assert_eq!(own.life_days, 731);
        assert_eq!(own.write_off_micro(own.since.plus(-1)), 0);
        assert_eq!(own.write_off_micro(own.since.plus(731)), 0);
        let free = Own { idle_mw: 0, busy_mw: 0, ..own };
        assert_eq!((free.day_mj(0), free.day_mj(7)), (0, 7));
    }

    #[track_caller]
    fn check(from: &str, to: &str, expected: &str) {
        let told = Prices::parse("p", &OWN.replace(from, to)).unwrap_err().to_string();
        assert!(told.starts_with("p: ") && told.contains(expected), "{told}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        check("years = 2", "years = 0", "[own]: years: 0, expected more than 0");
        check("years = 2", "years = nan", "[own]: years: NaN");
        check("busy = 140", "busy = 39", "watts-busy: 39, expected at least watts-idle, 40");
        check("busy = 140", "busy = 1e7", "watts-busy: 10000000, expected watts from 0 to");
        check("energy = 0.30", "energy = -1", "energy: -1, expected an amount");
        check("energy = 0.30\n", "", "energy");
        check("2026-01-01", "12:00:00", "since: 12:00:00, expected a day");
    }

    proptest! {
        /// The days of its life carry the whole price, none much more than another.
        #[test]
        fn all_of_it_is_written_off(hardware_micro in 0..u64::MAX >> 16, life_days in 1..2000_u32) {
            let own = Own { hardware_micro, life_days, ..own() };
            let days = -3..i64::from(life_days) + 3;
            let days: Vec<i64> = days.map(|n| own.write_off_micro(own.since.plus(n))).collect();
            prop_assert_eq!(days.iter().sum::<i64>(), hardware_micro as i64);
            let in_life = &days[3..days.len() - 3];
            let (least, most) = (in_life.iter().min().unwrap(), in_life.iter().max().unwrap());
            prop_assert!(most - least <= 1);
        }
    }
}
