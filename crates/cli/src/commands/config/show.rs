//! `freehold config show`: what is in effect, and why.

use clap::{ArgMatches, Args as _, Command, FromArgMatches as _};
use serde_json::{Map, Value, json};

use crate::commands::Subcommand;
use crate::commands::serve::Serve;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings::upstreams::{self, Told};
use crate::settings::{Flags, Origin, Settings};
use crate::terminal;

/// Print each setting as `freehold serve` would have it
///
/// Takes the flags of `freehold serve`. What is printed can be saved as a file of settings.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  freehold config show --origin
  freehold config show --origin --listen 127.0.0.1:8000
  freehold config show --json --config /etc/freehold.toml")]
pub(crate) struct Show {
    /// Say where each value comes from: flag, environment variable, file and line, or default
    #[arg(long)]
    origin: bool,
    /// Print one JSON object, with values and origins
    #[arg(long)]
    json: bool,
    /// Of the server.
    #[arg(skip)]
    flags: Flags,
}

impl Subcommand for Show {
    fn augment(command: Command) -> Command {
        Self::augment_args(Serve::augment(command))
    }

    fn start(matches: &ArgMatches, context: &Context) -> anyhow::Result<()> {
        let flags = Settings::of::<Serve>().flags(matches);
        Self { flags, ..Self::from_arg_matches(matches)? }.run(context)
    }

    fn run(self, context: &Context) -> anyhow::Result<()> {
        let resolved = Settings::of::<Serve>().resolve(&self.flags, &context.home());
        let resolved =
            resolved.map_err(|problems| Failure::new(Exit::Usage, problems.join("\n       ")))?;
        if self.json {
            let entry = |value: &crate::settings::Value| {
                let origin = match value.origin() {
                    Origin::Default => "default",
                    Origin::File(_) => "file",
                    Origin::Variable(_) => "environment",
                    Origin::Flag => "flag",
                };
                let place = match value.origin() {
                    Origin::File(place) => json!(place.to_string()),
                    Origin::Variable(name) => json!(name),
                    Origin::Default | Origin::Flag => Value::Null,
                };
                let entry = json!({"value": value.to_json(), "origin": origin, "place": place});
                (value.name().to_owned(), entry)
            };
            let mut entries: Map<String, Value> = resolved.values().iter().map(entry).collect();
            let of = |told: &Told| {
                let place = told.place.to_string();
                let value = upstreams::to_json(&told.upstream);
                let entry = json!({"value": value, "origin": "file", "place": place});
                (told.upstream.name.clone(), entry)
            };
            let told: Map<String, Value> = resolved.upstreams().iter().map(of).collect();
            entries.insert("upstream".to_owned(), told.into());
            return terminal::print_json(&entries.into());
        }
        let lines = resolved.values().iter().map(|value| match self.origin {
            true => format!("{:<40} # {}\n", value.to_toml(), value.origin()),
            false => format!("{}\n", value.to_toml()),
        });
        let tables = resolved.upstreams().iter().map(|told| {
            let place = if self.origin { format!("# {}\n", told.place) } else { String::new() };
            format!("\n{place}{}", upstreams::to_toml(&told.upstream))
        });
        terminal::print(&lines.chain(tables).collect::<String>())
    }
}
