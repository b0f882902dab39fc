//! `freehold licences`: what everything that is used comes under, models and compiled-in crates.

mod spdx;

use store::Installed;

use crate::commands::Subcommand;
use crate::commands::list::table;
use crate::context::Context;
use crate::terminal;

/// All packages of `Cargo.lock`, as `UPDATE=1` on `tests/it/licences.rs` writes them.
const CRATES: &str = include_str!("licences/crates.tsv");

/// What comes with a crate and is another's.
const WITHIN: [(&str, &str); 1] =
    [("libsqlite3-sys", "with SQLite, which is in the public domain")];

/// Show the licences of everything that is used: installed models, and the crates in this program
///
/// By their SPDX ids, where they have one; "unknown" where nobody states a licence.
#[derive(Debug, clap::Args)]
#[command(alias = "licenses")]
#[command(after_help = "\
Examples:
  freehold licences
  freehold licences --json > freehold.spdx.json      an SPDX 2.3 document")]
pub(crate) struct Licences {
    /// Print an SPDX 2.3 document
    #[arg(long)]
    json: bool,
}

/// A crate that is compiled in.
struct Crate {
    name: &'static str,
    version: &'static str,
    /// An SPDX expression.
    licence: &'static str,
    /// Of its package, in hexadecimal digits.
    sha256: &'static str,
}

impl Subcommand for Licences {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        // What cannot be read would be missing from a list of everything.
        let models: Vec<Installed> =
            context.store()?.list()?.into_iter().collect::<Result<_, _>>()?;
        let crates: Vec<Crate> = crates().collect();
        if self.json {
            return terminal::print_json(&spdx::document(&models, &crates, &store::now()));
        }
        terminal::print(&to_text(&models, &crates))
    }
}

/// The crates that are compiled into this program.
fn crates() -> impl Iterator<Item = Crate> {
    CRATES.lines().skip(1).filter_map(|line| {
        let mut cells = line.split('\t');
        let mut cell = || cells.next();
        let (name, version, licence, place, sha256) = (cell()?, cell()?, cell()?, cell()?, cell()?);
        let is_in = place == "linux" || (place == "elsewhere" && !cfg!(target_os = "linux"));
        is_in.then_some(Crate { name, version, licence, sha256 })
    })
}

fn to_text(models: &[Installed], crates: &[Crate]) -> String {
    let (name, licence) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_LICENSE"));
    let mut text = format!("freehold {name}: {licence}\n");
    if !models.is_empty() {
        text.push_str("\nmodels\n");
        let row = |model: &Installed| {
            let url = model.licence.url.clone().unwrap_or_else(|| model.source.clone());
            [model.full_name(), spdx::named(&model.licence.id).to_owned(), url]
        };
        let rows: Vec<_> = models.iter().map(row).collect();
        text.push_str(&table(&rows));
        for model in models {
            if let Some(notice) = &model.licence.notice {
                text.push_str(&format!("{}: {notice}\n", model.full_name()));
            }
        }
    }
    text.push_str("\ncrates compiled in\n");
    let row = |of: &Crate| {
        let within = WITHIN.iter().find(|(name, _)| *name == of.name);
        let licence = within.map_or_else(
            || of.licence.to_owned(),
            |(_, within)| format!("{} ({within})", of.licence),
        );
        [of.name.to_owned(), of.version.to_owned(), licence]
    };
    text.push_str(&table(&crates.iter().map(row).collect::<Vec<_>>()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_what_this_program_is_made_of_and_not_its_tools() {
        let crates: Vec<Crate> = crates().collect();
        let has = |name: &str| crates.iter().any(|of| of.name == name);
        assert!(has("ring") && has("libsqlite3-sys") && has("axum"));
        assert!(!has("tempfile") && !has("proptest"));
        assert!(crates.iter().all(|of| of.sha256.len() == 64 && !of.licence.contains('/')));
        let text = to_text(&[], &crates);
        assert!(text.contains("(with SQLite, which is in the public domain)\n"), "{text}");
    }
}
