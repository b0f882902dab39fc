//! `freehold record drop`: cases that nobody wants.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use super::Pending;
use crate::commands::Subcommand;
use crate::context::Context;

/// Delete recorded cases that nobody has decided on
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold record drop ~/cases 1790000000-0a1b2c3d
  freehold record drop ~/cases --all")]
pub(crate) struct Discard {
    /// The folder of `freehold serve --record-cases`
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Names as `freehold record list` shows them
    #[arg(required_unless_present = "all", value_name = "NAME")]
    names: Vec<String>,
    /// All of them
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

impl Subcommand for Discard {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let cases = match self.all {
            true => Pending::all(&self.folder)?,
            false => Pending::named(&self.folder, &self.names)?,
        };
        for case in &cases {
            fs::remove_file(&case.path).with_context(|| case.path.display().to_string())?;
        }
        context.note(&format!("{} cases deleted", cases.len()));
        Ok(())
    }
}
