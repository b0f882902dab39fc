//! `freehold record accept`: cases that are asked from now on.

use std::fs;
use std::path::PathBuf;

use anyhow::Context as _;

use super::{ENDING, Pending};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// Take recorded cases among those that `freehold test` asks
///
/// Their files go one folder up, where `freehold test --cases FOLDER` and `freehold upgrade --tests
/// FOLDER` find them. What is expected of the answers you may edit before and after.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold record accept ~/cases 1790000000-0a1b2c3d
  freehold test --cases ~/cases")]
pub(crate) struct Accept {
    /// The folder of `freehold serve --record-cases`
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Names as `freehold record list` shows them
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Subcommand for Accept {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let cases = Pending::named(&self.folder, &self.names)?;
        for case in &cases {
            let text = case.read()?.to_string();
            let place = case.path.display().to_string();
            let read = gate::CaseSet::parse(&[(place, text)]);
            read.map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        }
        for case in &cases {
            let to = self.folder.join(format!("{}{ENDING}", case.name));
            fs::rename(&case.path, &to).with_context(|| to.display().to_string())?;
        }
        context.note(&format!("{} cases are in {} now", cases.len(), self.folder.display()));
        Ok(())
    }
}
