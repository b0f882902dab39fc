//! `freehold openapi`: what the server's routes take and give, for programs.

use crate::commands::Subcommand;
use crate::context::Context;
use crate::terminal;

/// Print the OpenAPI document of the server's routes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A running server has the same at /openapi.json. docs/compatibility.md says it to people.

Examples:
  freehold openapi > freehold.json")]
pub(crate) struct Openapi {}

impl Subcommand for Openapi {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        terminal::print_json(&server::openapi())
    }
}
