//! `freehold bundle verify`: hold every byte of a bundle against its signature.

use std::fs::File;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};
use store::{Acquaintance, BundleIndex};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::numbers;
use crate::progress::Shown;
use crate::terminal;

/// Check every byte of a bundle, and say whose it is
///
/// Changes nothing. Exit code 4 means that it is not what its signer made.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold bundle verify office.tar")]
pub(crate) struct Verify {
    /// The bundle
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Verify {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let file = File::open(&self.file).with_context(|| self.file.display().to_string())?;
        let index = BundleIndex::verify(file, &self.file, &Shown::new(context))?;
        let (is_known, whose) = match context.store()?.acquaintance(&index)? {
            Acquaintance::Known => (true, "which is known here".to_owned()),
            Acquaintance::New => (false, "which was never seen here".to_owned()),
            Acquaintance::Changed(before) => {
                (false, format!("and not with {before}, which is known here"))
            }
        };
        if self.json {
            let entries: Vec<Value> = index
                .entries
                .iter()
                .map(|of| json!({ "path": of.path, "size": of.size, "sha256": of.sha256 }))
                .collect();
            return terminal::print_json(&json!({
                "signer": index.signer.name,
                "public_key": index.signer.public_key,
                "signer_is_known": is_known,
                "entries": entries,
                "left_out": index.left_out,
            }));
        }
        for entry in &index.entries {
            let size = numbers::bytes(entry.size);
            terminal::print_line(&format!("{size:>10}  {}", entry.path))?;
        }
        let (name, key) = (&index.signer.name, index.signer.public_key);
        terminal::print_line(&format!("intact; signed by {name} with {key}, {whose}"))
    }
}
