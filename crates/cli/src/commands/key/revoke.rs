//! `freehold key revoke`: a key is taken no more.

use ledger::Act;

use super::KeysArgs;
use crate::commands::Subcommand;
use crate::context::Context;

/// Take a key no more
///
/// A running server notices within about a second. The key stays in the list of all, and its name
/// is free again.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold key revoke laptop
  freehold key revoke k3x9q2mw7a")]
pub(crate) struct Revoke {
    /// The name or id of a key
    #[arg(value_name = "NAME|ID")]
    key: String,
    #[command(flatten)]
    keys: KeysArgs,
}

impl Subcommand for Revoke {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let key = self.keys.find(context, &self.key)?;
        self.keys.act(context, Act::RevokeKey(key.id.clone()))?;
        context.note(&format!("key {} ({}) is revoked", key.name, key.id));
        Ok(())
    }
}
