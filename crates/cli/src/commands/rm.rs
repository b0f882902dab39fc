//! `freehold rm`: remove models.

use std::collections::BTreeSet;

use store::{Store, StoreError};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
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
        // All names first: a misspelt last one must not end a removal half done.
        let found: Result<BTreeSet<String>, _> =
            self.names.iter().map(|name| find(&store, name)).collect();
        for name in found? {
            let removed = store.remove(&name)?;
            let freed = numbers::bytes(removed.n_bytes);
            context.note(&format!("{} removed, {freed} freed", removed.name));
            for path in &removed.kept {
                let fate = if path.exists() { "stays" } else { "is gone already" };
                context.note(&format!("{} was adopted and {fate}", path.display()));
            }
        }
        Ok(())
    }
}

/// The full name that `name` means here.
fn find(store: &Store, name: &str) -> anyhow::Result<String> {
    store.find(name).map_err(|error| match error {
        StoreError::UnknownName { name, .. } => {
            let message = format!("no model named {name:?}: nothing to remove");
            Failure::new(Exit::NotFound, message).into()
        }
        error => error.into(),
    })
}
