//! `freehold policy check`: everything that is wrong with a file of rules.

use std::io;
use std::path::PathBuf;

use policy::PolicyError;

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::terminal::{self, Colour, paint};

/// Say everything that is wrong with a file of rules
///
/// Ends with 1 where something is wrong.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold policy check policy.toml
  freehold policy check freehold.toml        the rules among the settings")]
pub(crate) struct Check {
    /// The rules
    file: PathBuf,
}

impl Subcommand for Check {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let file = self.file.display().to_string();
        match super::rules(&self.file, &super::read(&self.file)?) {
            Ok(rules) => {
                let n = rules.len();
                let rules = if n == 1 { "1 rule".to_owned() } else { format!("{n} rules") };
                context.note(&format!("{file}: {rules}, nothing is wrong"));
                Ok(())
            }
            Err(PolicyError::Wrong(problems)) => {
                for problem in &problems {
                    let label = paint("error:", Colour::Red, &io::stderr());
                    terminal::say(&format!("{label} {problem}"));
                }
                Err(Failure::silent(Exit::Failed).into())
            }
            Err(error) => Err(super::usage(error)),
        }
    }
}
