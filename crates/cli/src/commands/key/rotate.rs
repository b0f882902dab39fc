//! `freehold key rotate`: another secret for the same key.

use std::time::Duration;

use ledger::{Act, Secret};
use server::access::key_to_json;

use super::{KeysArgs, behind, now_us, span};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::terminal;

/// Give a key another secret, and print that, which is never shown again
///
/// Name, id, scopes and all that belongs to the key stay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold key rotate laptop
  freehold key rotate support --overlap 24h")]
pub(crate) struct Rotate {
    /// The name or id of a key
    #[arg(value_name = "NAME|ID")]
    key: String,
    /// For how long the secret before is taken too, such as 24h (default: not any more)
    #[arg(long, value_name = "TIME", value_parser = span)]
    overlap: Option<Duration>,
    #[command(flatten)]
    keys: KeysArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Rotate {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let key = self.keys.find(context, &self.key)?;
        let secret = Secret::draw(&key.id)?;
        let until = behind(now_us(), self.overlap.unwrap_or_default());
        let act = Act::RotateKey { key: key.id.clone(), hash: secret.hash(), until };
        self.keys.act(context, act)?;
        context.note(&format!("key {} ({}): its secret is not shown again", key.name, key.id));
        match self.json {
            true => {
                let mut told = key_to_json(&key);
                told["secret"] = secret.shown().into();
                terminal::print_json(&told)
            }
            false => terminal::print_line(secret.shown()),
        }
    }
}
