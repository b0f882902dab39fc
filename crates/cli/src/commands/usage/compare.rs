//! Renting against owning: the flags of it, and how it is told.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ledger::Reader;
use meter::{BreakEven, Chart, Comparison, Date, DayUse, Prices, Series, amount};
use serde_json::json;
use server::usage::{Compared, Days, Renting, csv_line};

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
    renting: Renting,
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
        let renting = Renting::new(prices);
        let renting = renting.ok_or_else(|| refused(format!("{file}: expected a table [own]")))?;
        let rent = match &self.rent {
            None => None,
            Some(text) => {
                let (vendor, model) = text.split_once('/').ok_or_else(|| {
                    refused(format!("--rent {text:?}: expected VENDOR/MODEL of {file}"))
                })?;
                Some((vendor.to_owned(), model.to_owned()))
            }
        };
        Ok(Some(Comparing { renting, rent }))
    }
}

impl Comparing {
    /// What was answered here, by day, since the machine was bought.
    pub(super) async fn days(&self, reader: &Reader, until: Date) -> anyhow::Result<Vec<DayUse>> {
        Ok(self.renting.days(reader, until).await?)
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
            let compared = self.renting.compare(days, until, (vendor, model));
            compared.map_err(|error| Failure::new(Exit::Usage, error.to_string()))
        };
        if let Some((vendor, model)) = &self.rent {
            let compared = compared(vendor, model)?;
            if let Some(path) = plot {
                write(path, &chart(&compared).svg())?;
                context.note(&format!("{}: written", path.display()));
            }
            note(context, &compared);
            return match form {
                Form::Json => terminal::print_json(&compared.to_json(Days::Told)),
                Form::Csv => terminal::print(&series(&compared.found, csv)),
                Form::Table => terminal::print(&series(&compared.found, |rows| columns(rows, 1))),
            };
        }
        if plot.is_some() {
            let message = "--plot: expected --rent VENDOR/MODEL beside it";
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let mut all = Vec::new();
        for (vendor, model) in self.renting.names() {
            match self.renting.compare(days, until, (vendor, model)) {
                Ok(compared) => all.push(compared),
                Err(error) => context.note(&format!("{vendor}/{model}: left out: {error}")),
            }
        }
        if form == Form::Json {
            let told = all.iter().map(|compared| compared.to_json(Days::LeftOut));
            return terminal::print_json(&json!({ "compared": told.collect::<Vec<_>>() }));
        }
        let mut rows =
            vec![["RENTED", "RENT", "OWN", "PAID", "OWNING HAS PAID"].map(str::to_owned)];
        for compared in &all {
            note(context, compared);
            let [rent, own, paid] = compared.sums().map(amount);
            let even = words(compared.found.break_even);
            rows.push([compared.rented.clone(), rent, own, paid, even]);
        }
        let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
        terminal::print(&if form == Form::Csv { csv(&rows) } else { columns(&rows, 1) })
    }
}

/// What of the traffic is not in the comparison.
fn note(context: &Context, Compared { rented, found, .. }: &Compared) {
    if found.n_unpriced > 0 {
        let n = found.n_unpriced;
        context.note(&format!("{rented}: {n} days with traffic have no price, and count as 0"));
    }
}

fn words(break_even: BreakEven) -> String {
    match break_even {
        BreakEven::Reached(day) => format!("since {day}"),
        BreakEven::Expected(day) => format!("from {day} on, if it goes on so"),
        BreakEven::BeyondLife(day) => format!("not in its life (from {day} on)"),
        BreakEven::Never => "never: renting costs less than the energy".to_owned(),
        BreakEven::Unknown => "unknown".to_owned(),
    }
}

fn chart(Compared { rented, currency, found }: &Compared) -> Chart {
    let line = |name: &str, of: fn(&meter::Point) -> i64| Series {
        name: name.to_owned(),
        points: found.points.iter().map(|point| (point.day, of(point) as f64 / 1e6)).collect(),
    };
    Chart {
        title: format!("Renting {rented} against owning, until each day"),
        unit: currency.to_string(),
        series: vec![
            line("rent", |point| point.rent_sum_micro),
            line("own, written off", |point| point.own_sum_micro),
            line("paid for owning", |point| point.paid_sum_micro),
        ],
    }
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
