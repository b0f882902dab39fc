//! `freehold list`: the models that are here.

use serde_json::{Value, json};
use store::{Catalogue, Installed};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit;
use crate::numbers;
use crate::terminal;

/// List the installed models
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold list
  freehold list --all            and what `freehold pull NAME` can fetch
  freehold list --json")]
pub(crate) struct List {
    /// Also list the catalogue
    #[arg(long, short)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for List {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        let (mut models, mut broken) = (Vec::new(), Vec::new());
        for entry in store.list()? {
            match entry {
                Ok(model) => models.push(model),
                Err(error) => broken.push(anyhow::Error::new(error)),
            }
        }
        if self.json {
            terminal::print_json(&self.to_json(&models))?;
        } else {
            self.print(context, &models)?;
        }
        // The readable ones were listed; the first unreadable one decides how this ends.
        let mut broken = broken.into_iter();
        let first = broken.next();
        broken.for_each(|error| exit::report(&error));
        first.map_or(Ok(()), Err)
    }
}

impl List {
    fn to_json(&self, models: &[Installed]) -> Value {
        let installed: Vec<Value> = models.iter().map(to_json).collect();
        if !self.all {
            return Value::from(installed);
        }
        let catalogue: Vec<Value> = Catalogue::builtin()
            .entries()
            .iter()
            .map(|entry| {
                json!({
                    "name": entry.name,
                    "title": entry.title,
                    "bytes": entry.n_bytes,
                    "sha256": entry.sha256.to_string(),
                    "licence": entry.licence.id,
                    "must_accept_licence": entry.must_accept,
                })
            })
            .collect();
        json!({ "installed": installed, "catalogue": catalogue })
    }

    fn print(&self, context: &Context, models: &[Installed]) -> anyhow::Result<()> {
        if models.is_empty() {
            context.note("no models here yet; `freehold list --all` shows what can be pulled");
        }
        let mut rows: Vec<[String; 4]> = models
            .iter()
            .map(|model| {
                let is_adopted = model.adopted || model.origin.is_some();
                let place = if is_adopted { "adopted" } else { "pulled" };
                [
                    callable(model, models),
                    numbers::bytes(model.n_bytes()),
                    model.licence.id.clone(),
                    // The hash that a source pins is in `show` and `--json`; here it only is long.
                    format!("{place} from {}", model.source.split('#').next().unwrap_or_default()),
                ]
            })
            .collect();
        if self.all {
            let is_here = |name: &str| models.iter().any(|model| model.name == name);
            let missing = Catalogue::builtin().entries().iter().filter(|e| !is_here(&e.name));
            rows.extend(missing.map(|entry| {
                [
                    entry.name.clone(),
                    numbers::bytes(entry.n_bytes),
                    entry.licence.id.clone(),
                    format!("not here yet: {}", entry.title),
                ]
            }));
        }
        if rows.is_empty() {
            return Ok(());
        }
        let header = ["NAME", "SIZE", "LICENCE", "FROM"].map(str::to_owned);
        terminal::print(&table(&[vec![header], rows].concat()))
    }
}

/// The shortest name that means `model` among `models`: `publisher/name` where `name` is not its
/// alone.
pub(crate) fn callable(model: &Installed, models: &[Installed]) -> String {
    let is_namesake = |other: &&Installed| other.name.eq_ignore_ascii_case(&model.name);
    let is_unique = models.iter().filter(is_namesake).count() <= 1;
    if is_unique { model.name.clone() } else { model.full_name() }
}

/// A model as scripts read it.
pub(crate) fn to_json(model: &Installed) -> Value {
    let files: Vec<Value> = model
        .files
        .iter()
        .map(|file| {
            json!({
                "path": file.path.display().to_string(),
                "bytes": file.n_bytes,
                "sha256": file.sha256.to_string(),
            })
        })
        .collect();
    json!({
        "name": model.name,
        "publisher": model.publisher,
        "source": model.source,
        "revision": model.revision,
        "licence": {
            "id": model.licence.id,
            "url": model.licence.url,
            "accepted": model.licence.accepted,
        },
        "adopted": model.adopted,
        "signed_by": model.signed_by,
        "origin": model.origin.as_ref().map(|origin| {
            json!({ "owner": origin.owner, "path": origin.path.display().to_string() })
        }),
        "date": model.date,
        "files": files,
    })
}

/// Columns as wide as their widest cell, two spaces apart; the last one is not padded.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let (last, padded) = row.split_last().expect("a table has columns");
        for (cell, width) in padded.iter().zip(&widths) {
            text.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "a    bb\nccc  d\n");
    }
}
