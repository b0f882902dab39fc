//! Renting against owning: the flags of it, and how it is told.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ledger::{Reader, UsageBy};
use meter::{
    BreakEven, Chart, Comparison, Date, DayUse, Own, Prices, Series, Tokens, amount, compare,
};
use serde_json::{Value, json};
use server::usage::{UsageAsk, csv_line};

use super::{Form, columns, write};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::terminal;

/// Largest file of prices.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The flags of a comparison.
#[derive(Debug, clap::Args)]
pub(super) struct CompareArgs {
    /// File of prices and of what owning costs; docs/prices.toml is an example
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,
    /// Tell each day of the comparison with this model (default: the sums of all that are listed)
    #[arg(long, value_name = "VENDOR/MODEL", requires = "prices")]
    rent: Option<String>,
}

/// What is compared.
pub(super) struct Comparing {
    prices: Prices,
    own: Own,
    /// `None`: all.
    rent: Option<(String, String)>,
}

impl CompareArgs {
    /// Reads what is to be compared, if something is.
    pub(super) fn read(&self) -> anyhow::Result<Option<Comparing>> {
        let Some(path) = &self.prices else { return Ok(None) };
        let file = path.display().to_string();
        let refused = |problem: String| anyhow::Error::from(Failure::new(Exit::Usage, problem));
        let n_bytes = std::fs::metadata(path).with_context(|| file.clone())?.len();
        if n_bytes > FILE_BYTES_MAX {
            return Err(refused(format!(
                "{file}: {n_bytes} bytes, expected at most {FILE_BYTES_MAX}"
            )));
        }
        let text = std::fs::read_to_string(path).with_context(|| file.clone())?;
        let prices = Prices::parse(&file, &text).map_err(|error| refused(error.to_string()))?;
        let own = prices.own().cloned();
        let own = own.ok_or_else(|| refused(format!("{file}: expected a table [own]")))?;
        let rent = match &self.rent {
            None => None,
            Some(text) => {
                let (vendor, model) = text.split_once('/').ok_or_else(|| {
                    refused(format!("--rent {text:?}: expected VENDOR/MODEL of {file}"))
                })?;
                Some((vendor.to_owned(), model.to_owned()))
            }
        };
        Ok(Some(Comparing { prices, own, rent }))
    }
}

impl Comparing {
    /// What was answered here, by day, since the machine was bought.
    pub(super) async fn days(&self, reader: &Reader, until: Date) -> anyhow::Result<Vec<DayUse>> {
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

    /// Prints the comparison, and draws it where `plot` says so.
    pub(super) fn tell(
        &self,
        context: &Context,
        days: &[DayUse],
        (until, form): (Date, Form),
        plot: Option<&Path>,
    ) -> anyhow::Result<()> {
        let compared = |vendor: &str, model: &str| {
            compare(days, until, &self.own, &self.prices, (vendor, model))
                .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
        };
        if let Some((vendor, model)) = &self.rent {
            let found = compared(vendor, model)?;
            let name = format!("{vendor}/{model}");
            if let Some(path) = plot {
                write(path, &self.chart(&name, &found).svg())?;
                context.note(&format!("{}: written", path.display()));
            }
            self.note(context, &name, &found);
            return match form {
                Form::Json => terminal::print_json(&self.to_json(&name, &found, Days::Told)),
                Form::Csv => terminal::print(&series(&found, csv)),
                Form::Table => terminal::print(&series(&found, |rows| columns(rows, 1))),
            };
        }
        if plot.is_some() {
            let message = "--plot: expected --rent VENDOR/MODEL beside it";
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let mut all = Vec::new();
        for (vendor, model) in self.prices.names() {
            all.push((format!("{vendor}/{model}"), compared(vendor, model)?));
        }
        if form == Form::Json {
            let told = all.iter().map(|(name, found)| self.to_json(name, found, Days::LeftOut));
            return terminal::print_json(&json!({ "compared": told.collect::<Vec<_>>() }));
        }
        let mut rows =
            vec![["RENTED", "RENT", "OWN", "PAID", "OWNING HAS PAID"].map(str::to_owned)];
        for (name, found) in &all {
            self.note(context, name, found);
            let [rent, own, paid] = sums(found).map(amount);
            rows.push([name.clone(), rent, own, paid, self.words(found.break_even)]);
        }
        let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
        terminal::print(&if form == Form::Csv { csv(&rows) } else { columns(&rows, 1) })
    }

    /// What of the traffic is not in the comparison.
    fn note(&self, context: &Context, name: &str, found: &Comparison) {
        if found.n_unpriced > 0 {
            let n = found.n_unpriced;
            context.note(&format!("{name}: {n} days with traffic have no price, and count as 0"));
        }
    }

    fn words(&self, break_even: BreakEven) -> String {
        match break_even {
            BreakEven::Reached(day) => format!("since {day}"),
            BreakEven::Expected(day) => format!("from {day} on, if it goes on so"),
            BreakEven::BeyondLife(day) => format!("not in its life (from {day} on)"),
            BreakEven::Never => "never: renting costs less than the energy".to_owned(),
            BreakEven::Unknown => "unknown".to_owned(),
        }
    }

    fn to_json(&self, name: &str, found: &Comparison, days: Days) -> Value {
        let [rent, own, paid] = sums(found);
        let (word, day) = match found.break_even {
            BreakEven::Reached(day) => ("reached", Some(day)),
            BreakEven::Expected(day) => ("expected", Some(day)),
            BreakEven::BeyondLife(day) => ("beyond-life", Some(day)),
            BreakEven::Never => ("never", None),
            BreakEven::Unknown => ("unknown", None),
        };
        let mut told = json!({
            "rented": name,
            "currency": self.own.currency.to_string(),
            "rent_micro": rent,
            "own_micro": own,
            "paid_micro": paid,
            "break_even": {"is": word, "day": day.map(|day| day.to_string())},
            "days_without_price": found.n_unpriced,
        });
        if days == Days::Told {
            let point = |point: &meter::Point| {
                json!({
                    "day": point.day.to_string(),
                    "rent_micro": point.rent_micro,
                    "own_micro": point.own_micro,
                    "energy_micro": point.energy_micro,
                    "rent_sum_micro": point.rent_sum_micro,
                    "own_sum_micro": point.own_sum_micro,
                    "paid_sum_micro": point.paid_sum_micro,
                })
            };
            told["days"] = found.points.iter().map(point).collect();
        }
        told
    }

    fn chart(&self, name: &str, found: &Comparison) -> Chart {
        let line = |name: &str, of: fn(&meter::Point) -> i64| Series {
            name: name.to_owned(),
            points: found.points.iter().map(|point| (point.day, of(point) as f64 / 1e6)).collect(),
        };
        Chart {
            title: format!("Renting {name} against owning, until each day"),
            unit: self.own.currency.to_string(),
            series: vec![
                line("rent", |point| point.rent_sum_micro),
                line("own, written off", |point| point.own_sum_micro),
                line("paid for owning", |point| point.paid_sum_micro),
            ],
        }
    }
}

/// Whether each day is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Days {
    Told,
    LeftOut,
}

/// What renting would have cost, what owning cost, and what was paid for it, until the last day.
fn sums(found: &Comparison) -> [i64; 3] {
    let last = found.points.last();
    last.map_or([0; 3], |last| [last.rent_sum_micro, last.own_sum_micro, last.paid_sum_micro])
}

/// Each day, as `write` writes rows.
fn series(found: &Comparison, write: impl Fn(&[Vec<String>]) -> String) -> String {
    let head = ["DAY", "RENT", "OWN", "ENERGY", "RENT SUM", "OWN SUM", "PAID SUM"];
    let row = |point: &meter::Point| {
        let rent = point.rent_micro.map_or_else(|| "-".to_owned(), amount);
        let sums = [point.rent_sum_micro, point.own_sum_micro, point.paid_sum_micro].map(amount);
        let mut row = vec![point.day.to_string(), rent];
        row.extend([point.own_micro, point.energy_micro].map(amount));
        row.extend(sums);
        row
    };
    let head = head.map(str::to_owned).to_vec();
    write(&[head].into_iter().chain(found.points.iter().map(row)).collect::<Vec<_>>())
}

fn csv(rows: &[Vec<String>]) -> String {
    rows.iter().map(|row| csv_line(row.iter().map(String::as_str))).collect()
}
