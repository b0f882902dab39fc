//! `freehold debug template`: one rendering of a chat template.

use std::io::{self, Read};
use std::path::PathBuf;

use anyhow::Context as _;

use crate::commands::Subcommand;
use crate::context::Context;
use crate::terminal;

/// Longest case read from stdin.
const MAX_CASE_BYTES: u64 = 64 << 20;

/// Render a chat template: one case as JSON on stdin, the exact text on stdout
///
/// A case is {messages, tools, add_generation_prompt, kwargs, bos_token, eos_token, now}. Nothing
/// is added to the rendering, not even a line end. Fails with the reason where rendering fails.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold debug template chat.jinja < case.json")]
pub(crate) struct Template {
    /// The template
    #[arg(value_name = "FILE.jinja")]
    file: PathBuf,
}

impl Subcommand for Template {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        let source =
            std::fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        let mut case = String::new();
        io::stdin()
            .lock()
            .take(MAX_CASE_BYTES)
            .read_to_string(&mut case)
            .context("read the case from stdin")?;
        let rendered =
            text::render_case(&source, &case).with_context(|| self.file.display().to_string())?;
        terminal::print(&rendered)
    }
}
