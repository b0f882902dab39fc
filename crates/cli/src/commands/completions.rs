//! `freehold completions`: a completion script for a shell.

use clap_complete::Shell;

use crate::commands::{Subcommand, root};
use crate::context::Context;
use crate::terminal;

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold completions bash > ~/.local/share/bash-completion/completions/freehold
  freehold completions zsh > ~/.zfunc/_freehold
  freehold completions fish > ~/.config/fish/completions/freehold.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Subcommand for Completions {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut root(), "freehold", &mut script);
        terminal::print(&String::from_utf8_lossy(&script))
    }
}
