//! `freehold add`: adopt a GGUF file where it lies.

use std::path::PathBuf;

use crate::commands::Subcommand;
use crate::commands::list::{callable, to_json};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked::SignedArgs;
use crate::progress::Shown;
use crate::terminal;

/// Adopt an existing GGUF file in place, without copying it
///
/// The file is checked and hashed once; from then on a change of it is noticed. Of a split model
/// give any part. `freehold rm` forgets an adopted file and does not delete it. A ./freehold.lock
/// with [licences] says which licences are allowed, one with [signers] who must have signed it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold add ~/models/my-model.Q4_K_M.gguf
  freehold add big-00001-of-00003.gguf --name big")]
pub(crate) struct Add {
    /// The file
    file: PathBuf,
    /// Call it this (default: follows from the file's name)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    signed: SignedArgs,
    /// Print what was added as JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Add {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        if !self.file.is_file() {
            let message = format!("{}: no such file, expected a GGUF file", self.file.display());
            return Err(Failure::new(Exit::NotFound, message).into());
        }
        let progress = Shown::new(context);
        let store = context.store()?;
        let installed =
            store.add(&self.file, self.name.as_deref(), &self.signed.terms()?, &progress)?;
        if self.json {
            return terminal::print_json(&to_json(&installed));
        }
        let models: Vec<_> = store.list()?.into_iter().flatten().collect();
        let name = callable(&installed, &models);
        terminal::print_line(&name)?;
        context.note(&format!(
            "{} stays at {}; `freehold run --model {name}` uses it",
            installed.full_name(),
            installed.path().display(),
        ));
        Ok(())
    }
}
