//! `freehold rm`: remove models.

use crate::commands::Subcommand;
use crate::context::Context;
use crate::numbers;

/// Remove models
///
/// Deletes the files that `pull` fetched; an adopted file is forgotten and stays where it is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold rm smollm2-135m")]
pub(crate) struct Remove {
    /// Installed names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Subcommand for Remove {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        for name in &self.names {
            let removed = store.remove(name)?;
            let freed = numbers::bytes(removed.n_bytes);
            context.note(&format!("{} removed, {freed} freed", removed.name));
            for path in &removed.kept {
                context.note(&format!("{} was adopted and stays", path.display()));
            }
        }
        Ok(())
    }
}
