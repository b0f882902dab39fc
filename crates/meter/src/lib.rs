//! What traffic costs: at the dated prices of those who rent models out, and on a machine that is
//! the owner's; and the energy of each request.
//!
//! All but [`Rapl`], which reads counters of the system, is arithmetic over what it is handed:
//! whole numbers, so that sums of parts are the whole. It knows neither requests, databases nor the
//! time.
//!
//! ```
//! use freehold_meter::{Date, Prices, Tokens};
//!
//! let prices = Prices::parse("prices.toml", r#"
//! [[price]]
//! vendor = "example"
//! model = "large"
//! in = 2.50
//! out = 10
//! currency = "EUR"
//! since = 2026-01-01
//! "#)?;
//! let day = Date::new(2026, 3, 1).unwrap();
//! let price = prices.price("example", "large", day).unwrap();
//! let tokens = Tokens { n_prompt: 1_000_000, n_cached: 0, n_answer: 200_000 };
//! assert_eq!(price.cost_micro(tokens), 4_500_000); // 4.50 EUR
//! # Ok::<(), freehold_meter::MeterError>(())
//! ```
#![forbid(unsafe_code)]

mod compare;
mod date;
mod energy;
mod error;
mod money;
mod own;
mod plot;
mod prices;
mod rapl;

pub use compare::{BreakEven, Comparison, DayUse, Point, compare};
pub use date::Date;
pub use energy::{Handle, Shares};
pub use error::MeterError;
pub use money::{Currency, amount};
pub use own::Own;
pub use plot::{Chart, Series};
pub use prices::{Price, Prices, Tokens};
pub use rapl::Rapl;
