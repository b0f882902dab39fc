//! `freehold bundle import`: take a bundle in.

use std::path::PathBuf;

use store::{ImportOptions, PublicKey, Trust};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::progress::Shown;
use crate::terminal;

/// Install the models of a bundle, and write its lock, settings and cases
///
/// Needs no network. Whose bundle it is comes first: a signer is believed from the first time on
/// that its name is seen, and no other key under that name. Every byte is verified before anything
/// gets its name; an import that was cut off goes on where it stopped. Files that are here with
/// other contents are never written over.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold bundle import office.tar
  freehold bundle import office.tar --into app --signer 3d40…")]
pub(crate) struct Import {
    /// The bundle
    file: PathBuf,
    /// Where its lock, settings and cases go
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    into: PathBuf,
    /// Believe this public key only
    #[arg(long, value_name = "HEX")]
    signer: Option<PublicKey>,
    /// Believe another key under a name that had one
    #[arg(long, conflicts_with = "signer")]
    accept_new_signer: bool,
}

impl Subcommand for Import {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let trust = Trust { signer: self.signer, accept_new_signer: self.accept_new_signer };
        let options = ImportOptions { trust, folder: self.into };
        let imported = context.store()?.import(&self.file, &options, &Shown::new(context))?;
        for model in &imported.models {
            terminal::print_line(&model.full_name())?;
        }
        for path in &imported.files {
            context.note(&format!("{} is here", path.display()));
        }
        for left in &imported.index.left_out {
            context.note(&format!("{left}: it was left out of the bundle, set it here"));
        }
        Ok(())
    }
}
