//! Renting against owning, by the owner's prices: computed here alone, for `freehold usage` and for
//! a server that was started with prices.

use super::UsageAsk;
use ledger::{LedgerError, Reader, UsageBy};
use meter::{
    BreakEven, Comparison, Currency, Date, DayUse, MeterError, Own, Point, Prices, Tokens, compare,
};
use serde_json::{Value, json};

/// Prices of what could be rented, with what owning costs.
#[derive(Debug, Clone)]
pub struct Renting {
    prices: Prices,
    own: Own,
}

/// What renting one model would have cost, against owning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compared {
    /// Who rents it out, and what, with a slash between them.
    pub rented: String,
    /// Of the amounts.
    pub currency: Currency,
    /// Day by day.
    pub found: Comparison,
}

/// Whether each day is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Days {
    /// It is.
    Told,
    /// The sums are.
    LeftOut,
}

impl Renting {
    /// By these prices; `None`: they do not say what owning costs.
    pub fn new(prices: Prices) -> Option<Self> {
        let own = prices.own().cloned()?;
        Some(Self { prices, own })
    }

    /// The vendors and models that have prices.
    pub fn names(&self) -> Vec<(&str, &str)> {
        self.prices.names()
    }

    /// What was answered here, by day, since the machine was bought.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn days(&self, reader: &Reader, until: Date) -> Result<Vec<DayUse>, LedgerError> {
        let by = vec![UsageBy::Day, UsageBy::Upstream];
        let ask = UsageAsk { by, since: self.own.since, until, has_times: false };
        let report = ask.of(reader).await?;
        // What was answered elsewhere was rented already.
        let here = report.sums.iter().filter(|sum| sum.of[1].is_empty());
        let used = here.map(|sum| DayUse {
            day: Date::of_us(sum.of[0].parse().unwrap_or(0)),
            tokens: Tokens {
                n_prompt: sum.n_prompt,
                n_cached: sum.n_cached,
                n_answer: sum.n_answer,
            },
            energy_mj: sum.energy_mj,
        });
        Ok(used.collect())
    }

    /// Compares what was used with having rented `model` of `vendor`, up to the day `until`.
    ///
    /// # Errors
    /// As [`compare`].
    pub fn compare(
        &self,
        days: &[DayUse],
        until: Date,
        (vendor, model): (&str, &str),
    ) -> Result<Compared, MeterError> {
        let found = compare(days, until, &self.own, &self.prices, (vendor, model))?;
        Ok(Compared { rented: format!("{vendor}/{model}"), currency: self.own.currency, found })
    }
}

impl Compared {
    /// What renting would have cost, what owning cost, and what was paid for it, until the last
    /// day, in millionths of the currency.
    pub fn sums(&self) -> [i64; 3] {
        let last = self.found.points.last();
        last.map_or([0; 3], |last| [last.rent_sum_micro, last.own_sum_micro, last.paid_sum_micro])
    }

    /// All of it.
    pub fn to_json(&self, days: Days) -> Value {
        let [rent, own, paid] = self.sums();
        let (word, day) = match self.found.break_even {
            BreakEven::Reached(day) => ("reached", Some(day)),
            BreakEven::Expected(day) => ("expected", Some(day)),
            BreakEven::BeyondLife(day) => ("beyond-life", Some(day)),
            BreakEven::Never => ("never", None),
            BreakEven::Unknown => ("unknown", None),
        };
        let mut told = json!({
            "rented": self.rented,
            "currency": self.currency.to_string(),
            "rent_micro": rent,
            "own_micro": own,
            "paid_micro": paid,
            "break_even": {"is": word, "day": day.map(|day| day.to_string())},
            "days_without_price": self.found.n_unpriced,
        });
        if days == Days::Told {
            told["days"] = self.found.points.iter().map(point_json).collect();
        }
        told
    }
}

fn point_json(point: &Point) -> Value {
    json!({
        "day": point.day.to_string(),
        "rent_micro": point.rent_micro,
        "own_micro": point.own_micro,
        "energy_micro": point.energy_micro,
        "rent_sum_micro": point.rent_sum_micro,
        "own_sum_micro": point.own_sum_micro,
        "paid_sum_micro": point.paid_sum_micro,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: &str = r#"
        [[price]]
        vendor = "v"
        model = "m"
        in = 2
        out = 8
        currency = "EUR"
        since = 2026-01-01

        [own]
        currency = "EUR"
        hardware = 100.00
        since = 2026-11-01
        years = 1
        energy = 0.30
        watts-idle = 10
        watts-busy = 100
    "#;

    #[test]
    fn a_comparison_is_told_with_its_days_or_without() {
        let renting = Renting::new(Prices::parse("p", PRICES).unwrap()).unwrap();
        assert_eq!(renting.names(), [("v", "m")]);
        let day = |text: &str| text.parse::<Date>().unwrap();
        let tokens = Tokens { n_prompt: 1_000_000, n_cached: 0, n_answer: 1_000_000 };
        let used = DayUse { day: day("2026-11-02"), tokens, energy_mj: 0 };
        let compared = renting.compare(&[used], day("2026-11-03"), ("v", "m")).unwrap();
        let told = compared.to_json(Days::Told);
        assert_eq!((&told["rented"], &told["currency"]), (&json!("v/m"), &json!("EUR")));
        assert_eq!(told["rent_micro"], 10_000_000);
        assert_eq!(told["break_even"]["is"], "expected");
        let days = told["days"].as_array().unwrap();
        assert_eq!(days.len(), 3);
        assert_eq!(days[0]["rent_micro"], 0);
        assert_eq!(days[1]["rent_micro"], 10_000_000);
        assert_eq!(days[2]["paid_sum_micro"], told["paid_micro"]);
        assert!(compared.to_json(Days::LeftOut).get("days").is_none());
        assert!(renting.compare(&[], day("2026-11-03"), ("v", "x")).is_err());
        // Prices alone do not say what owning costs.
        let (prices, _) = PRICES.split_once("[own]").unwrap();
        assert!(Renting::new(Prices::parse("p", prices).unwrap()).is_none());
    }
}
