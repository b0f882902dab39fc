//! `freehold rm`: remove models.

use std::collections::BTreeSet;
use std::path::PathBuf;

use store::{Store, StoreError};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locked;
use crate::numbers;

/// Remove models
///
/// Deletes the files that `pull` fetched; an adopted file is forgotten and stays where it is. A
/// version that `freehold rollback` would go back to, or that the lock moved to last, is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold rm smollm2-135m")]
pub(crate) struct Remove {
    /// Installed names
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// The lock whose history needs models (default: ./freehold.lock, where there is one)
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Remove it even where that history needs it
    #[arg(long)]
    force: bool,
}

impl Subcommand for Remove {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let store = context.store()?;
        // All names first: a misspelt last one must not end a removal half done.
        let found: Result<BTreeSet<String>, _> =
            self.names.iter().map(|name| find(&store, name)).collect();
        let found = found?;
        if !self.force
            && let Some((path, lock)) = locked::read(self.lock.as_deref())?
        {
            let needed = locked::needed(&path, &lock)?;
            if let Some((name, of)) = found.iter().find_map(|name| Some((name, needed.get(name)?)))
            {
                let message = format!("{name}: {of}; --force removes it all the same");
                return Err(Failure::new(Exit::Usage, message).into());
            }
        }
        for name in found {
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
