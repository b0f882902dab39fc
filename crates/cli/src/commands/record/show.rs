//! `freehold record show`: one case, whole.

use std::path::PathBuf;

use super::Pending;
use crate::commands::Subcommand;
use crate::context::Context;
use crate::terminal;

/// Show recorded cases, whole
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold record show ~/cases 1790000000-0a1b2c3d")]
pub(crate) struct Show {
    /// The folder of `freehold serve --record-cases`
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Names as `freehold record list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Subcommand for Show {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        for case in Pending::named(&self.folder, &self.names)? {
            // JSON escapes what could steer a terminal.
            terminal::print_json(&case.read()?)?;
        }
        Ok(())
    }
}
