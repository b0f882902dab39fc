//! What others ask for tokens, and from which day on: a list that the owner keeps in a file.
//!
//! ```toml
//! [[price]]
//! vendor = "example"
//! model = "large"
//! in = 2.50           # for `per` tokens of prompts
//! cached = 0.25       # of which those that the vendor had read before; without it, as `in`
//! out = 10.00         # for `per` tokens of answers
//! per = 1000000       # one million where it is not said
//! currency = "EUR"
//! since = 2026-01-01  # from this day on (UTC), until the next price of the same model
//! ```
//!
//! The table `[own]` beside the prices is read in `own.rs`.

use std::collections::BTreeSet;

use serde::Deserialize;
use toml::value::Datetime;

use crate::money::{Currency, micro};
use crate::own::{Own, OwnTable};
use crate::{Date, MeterError};

/// Largest file: thousands of prices.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Most prices of one file.
const N_PRICES_MAX: usize = 10_000;
/// Longest name of a vendor or a model.
const NAME_BYTES_MAX: usize = 256;
/// Tokens that a price is for where nobody says.
const PER: u64 = 1_000_000;
/// Most tokens that a price can be for.
const PER_MAX: u64 = 1_000_000_000_000;

/// Tokens of requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// Of prompts.
    pub n_prompt: u64,
    /// Of those, the ones that had been read before.
    pub n_cached: u64,
    /// Of answers.
    pub n_answer: u64,
}

impl Tokens {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            n_prompt: self.n_prompt.saturating_add(other.n_prompt),
            n_cached: self.n_cached.saturating_add(other.n_cached),
            n_answer: self.n_answer.saturating_add(other.n_answer),
        }
    }
}

/// What a vendor asks from a day on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Price {
    /// Who rents it out.
    pub vendor: String,
    /// What is rented.
    pub model: String,
    /// The first day.
    pub since: Date,
    /// Of the amounts.
    pub currency: Currency,
    /// For so many tokens, in millionths of the currency.
    prompt_micro: u64,
    cached_micro: u64,
    answer_micro: u64,
    per: u64,
}

impl Price {
    /// What the tokens cost, in millionths of the currency, rounded once.
    pub fn cost_micro(&self, tokens: Tokens) -> i64 {
        let n_cached = tokens.n_cached.min(tokens.n_prompt);
        let parts = [
            (tokens.n_prompt - n_cached, self.prompt_micro),
            (n_cached, self.cached_micro),
            (tokens.n_answer, self.answer_micro),
        ];
        // Each part is below 2^64 * 10^15 < 2^114.
        let sum: u128 = parts.iter().map(|(n, price)| u128::from(*n) * u128::from(*price)).sum();
        let per = u128::from(self.per);
        i64::try_from((sum + per / 2) / per).unwrap_or(i64::MAX)
    }
}

/// All prices that the owner lists, and what owning costs where that is said.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// Sorted by vendor, model and day.
    all: Vec<Price>,
    own: Option<Own>,
}

impl Prices {
    /// Reads the text of the file `file`.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(file: &str, text: &str) -> Result<Self, MeterError> {
        let unreadable = |problem| MeterError::Unreadable { file: file.to_owned(), problem };
        if text.len() > FILE_BYTES_MAX {
            let n_bytes = text.len();
            let problem = format!("{n_bytes} bytes, expected at most {FILE_BYTES_MAX}");
            return Err(unreadable(problem));
        }
        let read: FileTable = toml::from_str(text).map_err(|error| {
            let at = error.span().map(|span| place(text, span.start));
            unreadable(format!("{}{}", at.unwrap_or_default(), error.message()))
        })?;
        let wrong = |table: String, problem| {
            Err(MeterError::Wrong { file: file.to_owned(), table, problem })
        };
        if read.price.len() > N_PRICES_MAX {
            let problem = format!("{} prices, expected at most {N_PRICES_MAX}", read.price.len());
            return Err(unreadable(problem));
        }
        let mut all = Vec::new();
        let mut names = BTreeSet::new();
        for (idx, table) in read.price.into_iter().enumerate() {
            let (vendor, model) = (short(&table.vendor), short(&table.model));
            let name = format!("[[price]] {} ({vendor:?}/{model:?})", idx + 1);
            let price = match table.check() {
                Ok(price) => price,
                Err(problem) => return wrong(name, problem),
            };
            if !names.insert((price.vendor.clone(), price.model.clone(), price.since)) {
                return wrong(name, format!("since: {} has a price already", price.since));
            }
            all.push(price);
        }
        all.sort_by(|one, other| {
            let key = |price: &Price| (price.vendor.clone(), price.model.clone(), price.since);
            key(one).cmp(&key(other))
        });
        let own = match read.own.map(OwnTable::check).transpose() {
            Ok(own) => own,
            Err(problem) => return wrong("[own]".to_owned(), problem),
        };
        Ok(Self { all, own })
    }

    /// What owning costs, where the file says so.
    pub fn own(&self) -> Option<&Own> {
        self.own.as_ref()
    }

    /// The price of a model on a day; `None` where none is listed for that day.
    pub fn price(&self, vendor: &str, model: &str, day: Date) -> Option<&Price> {
        let of_it = self.all.iter().filter(|price| price.vendor == vendor && price.model == model);
        of_it.take_while(|price| price.since <= day).last()
    }

    /// The vendors and models that have prices, each once, in the order of their names.
    pub fn names(&self) -> Vec<(&str, &str)> {
        let mut names: Vec<(&str, &str)> =
            self.all.iter().map(|price| (&*price.vendor, &*price.model)).collect();
        names.dedup();
        names
    }
}

/// A name as a message quotes it.
fn short(name: &str) -> String {
    name.chars().take(60).collect()
}

/// Line and column of a byte, for people.
fn place(text: &str, at: usize) -> String {
    let before = &text[..text.floor_char_boundary(at)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    format!("line {line}, column {column}: ")
}

/// The file as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    #[serde(default)]
    price: Vec<PriceTable>,
    own: Option<OwnTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PriceTable {
    vendor: String,
    model: String,
    r#in: f64,
    cached: Option<f64>,
    out: f64,
    per: Option<u64>,
    currency: String,
    since: Datetime,
}

impl PriceTable {
    fn check(self) -> Result<Price, String> {
        for (field, name) in [("vendor", &self.vendor), ("model", &self.model)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                return Err(format!("{field}: expected a name of 1 to {NAME_BYTES_MAX} bytes"));
            }
        }
        let per = self.per.unwrap_or(PER);
        if !(1..=PER_MAX).contains(&per) {
            return Err(format!("per: {per}, expected 1 to {PER_MAX} tokens"));
        }
        Ok(Price {
            since: day("since", &self.since)?,
            currency: Currency::parse(&self.currency)?,
            prompt_micro: micro("in", self.r#in)?,
            cached_micro: micro("cached", self.cached.unwrap_or(self.r#in))?,
            answer_micro: micro("out", self.out)?,
            per,
            vendor: self.vendor,
            model: self.model,
        })
    }
}

/// The day that a field of a file has.
///
/// # Errors
/// What was expected.
pub(crate) fn day(field: &str, found: &Datetime) -> Result<Date, String> {
    let expected = || format!("{field}: {found}, expected a day such as 2026-01-31");
    let date = match (found.date, found.time, found.offset) {
        (Some(date), None, None) => date,
        _ => return Err(expected()),
    };
    let (year, month, day) = (date.year.into(), date.month.into(), date.day.into());
    Date::new(year, month, day).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PRICE: &str = "[[price]]\nvendor = \"v\"\nmodel = \"m\"\nin = 2\ncached = 0.5\n\
                         out = 8.5\n\
                         currency = \"EUR\"\nsince = 2026-01-01\n";

    fn one() -> Price {
        let prices = Prices::parse("p", PRICE).unwrap();
        prices.price("v", "m", Date::new(2026, 1, 1).unwrap()).unwrap().clone()
    }

    fn tokens(n_prompt: u64, n_cached: u64, n_answer: u64) -> Tokens {
        Tokens { n_prompt, n_cached, n_answer }
    }

    #[test]
    fn tokens_cost_what_the_list_says() {
        let price = one();
        assert_eq!(price.cost_micro(tokens(1_000_000, 0, 0)), 2_000_000);
        assert_eq!(price.cost_micro(tokens(1_000_000, 1_000_000, 0)), 500_000);
        assert_eq!(price.cost_micro(tokens(600_000, 200_000, 100_000)), 1_750_000);
        // A single token costs millionths of the currency.
        assert_eq!(price.cost_micro(tokens(1, 0, 1)), 11);
        // More cached than read is no discount on the rest.
        assert_eq!(price.cost_micro(tokens(10, 1_000_000, 0)), 5);
        assert_eq!(price.cost_micro(tokens(u64::MAX, 0, u64::MAX)), i64::MAX);
        let text = PRICE.replace("cached = 0.5\n", "per = 1000\n");
        let prices = Prices::parse("p", &text).unwrap();
        let price = prices.price("v", "m", Date::new(2026, 5, 1).unwrap()).unwrap();
        assert_eq!(price.cost_micro(tokens(500, 500, 0)), 1_000_000);
    }

    #[test]
    fn a_price_holds_until_the_next_one() {
        let later = PRICE.replace("2026-01-01", "2026-03-01").replace("in = 2", "in = 1");
        // In whatever order they stand.
        let prices = Prices::parse("p", &format!("{later}{PRICE}")).unwrap();
        let on = |month, day| {
            let day = Date::new(2026, month, day).unwrap();
            prices.price("v", "m", day).map(|price| price.prompt_micro)
        };
        assert_eq!(on(2, 28), Some(2_000_000));
        assert_eq!(on(3, 1), Some(1_000_000));
        assert_eq!(prices.price("v", "m", Date::new(2025, 12, 31).unwrap()), None);
        assert_eq!(prices.price("v", "other", Date::new(2026, 5, 1).unwrap()), None);
        assert_eq!(prices.names(), [("v", "m")]);
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let told = Prices::parse("prices.toml", text).unwrap_err().to_string();
        assert!(told.starts_with("prices.toml: ") && told.contains(expected), "{told}");
        assert!(told.len() < 1000, "{told}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(Prices::parse("p", "").unwrap().names().is_empty());
        check("[[price]", "line 1");
        check(&PRICE.replace("in = 2", "im = 2"), "line 4");
        check(&PRICE.replace("out = 8.5\n", ""), "out");
        check(&PRICE.replace("8.5", "\"8.5\""), "line 6, column 7");
        let named = "[[price]] 1 (\"v\"/\"m\"): ";
        check(&PRICE.replace("8.5", "-1"), &format!("{named}out: -1, expected an amount"));
        check(&PRICE.replace("8.5", "nan"), &format!("{named}out: NaN"));
        check(&PRICE.replace("EUR", "Euro"), &format!("{named}currency: \"Euro\""));
        let noon = PRICE.replace("2026-01-01", "2026-01-01T12:00:00");
        check(&noon, "since: 2026-01-01T12:00:00, expected a day such as");
        check(&PRICE.replace("\"m\"", "\"\""), "model: expected a name of 1 to 256 bytes");
        check(&PRICE.replace("\"m\"", &format!("{:?}", "m".repeat(5000))), "expected a name of");
        check(&format!("{PRICE}per = 0"), "per: 0, expected 1 to");
        check(&format!("{PRICE}{PRICE}"), "[[price]] 2 (\"v\"/\"m\"): since: 2026-01-01 has a");
        check(&" ".repeat(FILE_BYTES_MAX + 1), "expected at most 1048576");
        check(&format!("{PRICE}[rent]\n"), "unknown field `rent`");
    }

    proptest! {
        /// What is read together costs what it costs apart, but for rounding, and never less than
        /// a part of it.
        #[test]
        fn costs_add_up(
            one_is in (0..u64::MAX >> 24, 0..u64::MAX >> 24, 0..u64::MAX >> 24),
            other_is in (0..u64::MAX >> 24, 0..u64::MAX >> 24, 0..u64::MAX >> 24),
        ) {
            let price = one();
            let of = |(n_prompt, n_cached, n_answer): (u64, u64, u64)| {
                tokens(n_prompt, n_cached.min(n_prompt), n_answer)
            };
            let (a, b) = (of(one_is), of(other_is));
            let (apart, both) =
                (price.cost_micro(a) + price.cost_micro(b), price.cost_micro(a.plus(b)));
            prop_assert!((apart - both).abs() <= 1, "{apart} {both}");
            prop_assert!(both >= price.cost_micro(a));
        }

        /// Any text is read or refused.
        #[test]
        fn no_text_does_more_than_fail(
            places in prop::collection::vec((0..PRICE.len(), any::<u8>()), 0..8),
        ) {
            let mut bytes = PRICE.as_bytes().to_vec();
            for (place, byte) in places {
                bytes[place] = byte;
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(prices) = Prices::parse("p", &text) {
                for (vendor, model) in prices.names() {
                    let last = Date::new(9999, 12, 31).unwrap();
                    let price = prices.price(vendor, model, last).unwrap();
                    prop_assert!(price.cost_micro(tokens(1000, 10, 1000)) >= 0);
                }
            }
        }
    }
}
