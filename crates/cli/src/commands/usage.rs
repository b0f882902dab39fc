//! `freehold usage`: what requests took, and what renting would have cost instead.

mod compare;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ledger::{Reader, UsageBy};
use meter::{Chart, Date, Series, amount};
use serde_json::Value;
use server::usage::{USUAL_DAYS, UsageAsk, UsageReport};

use crate::commands::Subcommand;
use crate::commands::ledger::LedgerArgs;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::ledger::wait;
use crate::numbers::grouped;
use crate::terminal;
use compare::CompareArgs;

/// Show what requests took: tokens, energy, money, by day or model or key
///
/// Of each day in UTC. With --prices, what the same traffic would have cost at the prices that a
/// file lists, against what owning costs, and from when on owning has paid (docs/usage.md).
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold usage
  freehold usage --by model,key --since 2026-01-01 --csv > usage.csv
  freehold usage --plot usage.svg
  freehold usage --prices prices.toml
  freehold usage --prices prices.toml --rent example-vendor/large --plot paid.svg")]
pub(crate) struct Usage {
    /// What sums are told apart by, at most four: day, key, project, person, alias, model, route,
    /// label, upstream, outcome
    #[arg(long, value_name = "NAME,…", value_parser = by, default_value = "day",
          conflicts_with = "prices")]
    by: By,
    /// The first day, such as 2026-01-31, or so many days back, such as 90d (default: 30d; with
    /// --prices the day on which the machine was bought)
    #[arg(long, value_name = "DAY", value_parser = day, conflicts_with = "prices")]
    since: Option<Date>,
    /// The last day (default: today)
    #[arg(long, value_name = "DAY", value_parser = day)]
    until: Option<Date>,
    /// Tell how long requests took, too
    #[arg(long, conflicts_with = "prices")]
    times: bool,
    #[command(flatten)]
    compare: CompareArgs,
    /// Print lines of values with commas between them
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write a chart of it to this SVG file; of sums, by day and at most one more
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    ledger: LedgerArgs,
}

/// What sums are told apart by.
#[derive(Debug, Clone)]
struct By(Vec<UsageBy>);

/// How a result is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Table,
    Csv,
    Json,
}

impl Subcommand for Usage {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let place = self.ledger.place(context)?;
        let form = match (self.csv, self.json) {
            (true, _) => Form::Csv,
            (_, true) => Form::Json,
            _ => Form::Table,
        };
        let today = today();
        let until = self.until.unwrap_or(today);
        let reader = async || Reader::open(&place).await;
        if let Some(comparing) = self.compare.read()? {
            let days = wait(async { comparing.days(&reader().await?, until).await })?;
            return comparing.tell(context, &days, (until, form), self.plot.as_deref());
        }
        let since = self.since.unwrap_or_else(|| until.plus(-USUAL_DAYS));
        if until < since {
            let message = format!("--until {until}: expected {since} or later");
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let by = self.by.0;
        check_plot(&by, self.plot.as_deref())?;
        let ask = UsageAsk { by: by.clone(), since, until, has_times: self.times };
        let report = wait(async { Ok(ask.of(&reader().await?).await?) })?;
        if let Some(path) = &self.plot {
            write(path, &chart(&report, &by).svg())?;
            context.note(&format!("{}: written", path.display()));
        }
        match form {
            Form::Json => terminal::print_json(&report.to_json()),
            Form::Csv => terminal::print(&report.to_csv()),
            Form::Table if report.sums.is_empty() => {
                context.note(&format!("no requests from {since} to {until}"));
                Ok(())
            }
            Form::Table => terminal::print(&table(&report, by.len())),
        }
    }
}

/// A chart has days along it.
fn check_plot(by: &[UsageBy], plot: Option<&Path>) -> anyhow::Result<()> {
    let can_be_drawn = by.contains(&UsageBy::Day) && by.len() <= 2;
    if plot.is_some() && !can_be_drawn {
        let message = "--plot: expected --by day, or --by day and one more";
        return Err(Failure::new(Exit::Usage, message).into());
    }
    Ok(())
}

/// Tokens of each day, of prompts and answers; where sums are told apart by something else too, of
/// answers.
fn chart(report: &UsageReport, by: &[UsageBy]) -> Chart {
    let day_idx = by.iter().position(|one| *one == UsageBy::Day).unwrap_or(0);
    let other = by.iter().enumerate().find(|(idx, _)| *idx != day_idx);
    let mut series: Vec<Series> = Vec::new();
    let mut add = |name: &str, day: Date, value: u64| {
        let idx = series.iter().position(|series| series.name == name).unwrap_or_else(|| {
            series.push(Series { name: name.to_owned(), points: Vec::new() });
            series.len() - 1
        });
        series[idx].points.push((day, value as f64));
    };
    for sum in &report.sums {
        let day = Date::of_us(sum.of[day_idx].parse().unwrap_or(0));
        match other {
            Some((idx, _)) => add(&sum.of[idx], day, sum.n_answer),
            None => {
                add("of prompts", day, sum.n_prompt);
                add("of answers", day, sum.n_answer);
            }
        }
    }
    let title = match other {
        Some((_, other)) => format!("Tokens of answers a day, by {}", other.name()),
        None => "Tokens a day".to_owned(),
    };
    Chart { title, unit: "tokens".to_owned(), series }
}

/// Columns for people: numbers to the right, energy in watt hours, money in units.
fn table(report: &UsageReport, n_by: usize) -> String {
    let head = report.head().iter().map(|name| title(name)).collect::<Vec<String>>();
    let head_names = report.head();
    let cell = |(column, value): (usize, Value)| match (&*head_names[column], value) {
        ("energy_mj", value) => format!("{:.1}", value.as_f64().unwrap_or(0.0) / 3.6e6),
        ("money_micro", value) => amount(value.as_i64().unwrap_or(i64::MAX)),
        (name, value) if name.ends_with("_us") => {
            format!("{:.0}", value.as_f64().unwrap_or(0.0) / 1000.0)
        }
        (_, Value::String(text)) if text.is_empty() => "-".to_owned(),
        // Names come from clients.
        (_, Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
        (_, value) => grouped(value.as_u64().unwrap_or(0)),
    };
    let rows = report
        .sums
        .iter()
        .map(|sum| report.row(sum).into_iter().enumerate().map(cell).collect::<Vec<String>>());
    columns(&[head].into_iter().chain(rows).collect::<Vec<_>>(), n_by)
}

/// The name of a column, with its unit.
fn title(name: &str) -> String {
    match name {
        "n_requests" => "REQUESTS",
        "n_prompt" => "PROMPT",
        "n_cached" => "CACHED",
        "n_answer" => "ANSWER",
        "energy_mj" => "WH",
        "money_micro" => "MONEY",
        "first_p50_us" => "FIRST MS",
        "first_p95_us" => "FIRST 95%",
        "total_p50_us" => "TOTAL MS",
        "total_p95_us" => "TOTAL 95%",
        other => return other.to_uppercase(),
    }
    .to_owned()
}

/// Columns as wide as their widest cell, two spaces apart; behind the first `n_left` they stand to
/// the right.
fn columns(rows: &[Vec<String>], n_left: usize) -> String {
    let n_columns = rows.first().map_or(0, Vec::len);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let width = |column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..n_columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cell = |(column, cell): (usize, &String)| match column < n_left {
            true => format!("{cell:<0$}", widths[column]),
            false => format!("{cell:>0$}", widths[column]),
        };
        let line = row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Writes a file whole.
fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn today() -> Date {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Date::of_us(i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX))
}

fn by(text: &str) -> Result<By, String> {
    UsageAsk::read_by(text).map(By)
}

fn day(text: &str) -> Result<Date, String> {
    UsageAsk::read_day(text, today())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let rows = [["DAY", "N"], ["2026-11-26", "1,000"], ["x", "7"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(columns(&rows, 1), "DAY             N\n2026-11-26  1,000\nx               7\n");
        assert_eq!(columns(&[], 0), "");
    }
}
