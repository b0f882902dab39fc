//! The example that is shipped, and a comparison whose every amount was computed elsewhere.
#![allow(clippy::unwrap_used)] // a test reports by panics

use std::fmt::Write as _;

use freehold_meter::{BreakEven, Date, DayUse, Prices, Tokens, amount, compare};

/// As `docs/prices.toml` says it.
const PRICES: &str = include_str!("../../../docs/prices.toml");

/// By Python's `decimal` and `datetime`, from the figures of that file and the days below: see
/// `tests/golden.py`.
const EXPECTED: &str = include_str!("golden.txt");

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

/// `(day, n_prompt, n_cached, n_answer, seconds at work)`, two of them on one day.
const DAYS: [(&str, u64, u64, u64, u64); 6] = [
    ("2026-01-31", 1, 1, 1, 1),
    ("2026-06-29", 4_000_000, 1_000_000, 500_000, 3600),
    ("2026-06-30", 1_234_567, 34_567, 89_012, 1234),
    ("2026-06-30", 765_433, 0, 10_988, 366),
    ("2026-07-01", 2_000_000, 34_567, 100_000, 1600),
    ("2026-07-03", 31_000_000, 0, 7_000_001, 86_000),
];

#[test]
fn the_example_compares_as_by_hand() {
    let prices = Prices::parse("docs/prices.toml", PRICES).unwrap();
    let own = prices.own().unwrap();
    let used = |&(text, n_prompt, n_cached, n_answer, n_seconds): &(_, u64, u64, u64, u64)| {
        let tokens = Tokens { n_prompt, n_cached, n_answer };
        DayUse { day: day(text), tokens, energy_mj: n_seconds * own.busy_mw }
    };
    let days: Vec<DayUse> = DAYS.iter().map(used).collect();
    let name = ("example-vendor", "large");
    let found = compare(&days, day("2026-07-03"), own, &prices, name).unwrap();
    let mut told = String::new();
    for point in found.points.iter().filter(|point| point.day >= day("2026-06-28")) {
        let micro = [
            point.rent_micro.unwrap(),
            point.energy_micro,
            point.own_micro,
            point.rent_sum_micro,
            point.own_sum_micro,
            point.paid_sum_micro,
        ];
        let micro = micro.map(|micro| micro.to_string()).join(" ");
        writeln!(told, "{} {micro}", point.day).unwrap();
    }
    assert_eq!(told, EXPECTED);
    assert_eq!((found.n_before, found.n_unpriced), (1, 0));
    assert!(matches!(found.break_even, BreakEven::Expected(_)), "{:?}", found.break_even);
}

#[test]
fn the_example_has_prices_of_several_days() {
    let prices = Prices::parse("docs/prices.toml", PRICES).unwrap();
    let names = [("example-vendor", "large"), ("example-vendor", "small")];
    assert_eq!(prices.names(), names);
    let million = Tokens { n_prompt: 1_000_000, n_cached: 500_000, n_answer: 0 };
    let cost = |model, on: &str| {
        prices
            .price("example-vendor", model, day(on))
            .map(|price| amount(price.cost_micro(million)))
    };
    assert_eq!(cost("large", "2025-12-31"), None);
    assert_eq!(cost("large", "2026-06-30").as_deref(), Some("1.65"));
    assert_eq!(cost("large", "2026-07-01").as_deref(), Some("1.38"));
    assert_eq!(cost("small", "2030-01-01").as_deref(), Some("0.20"));
}
