//! `freehold config check`: everything that is wrong with a file of settings.

use std::io;
use std::path::PathBuf;

use crate::commands::Subcommand;
use crate::commands::serve::Serve;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings::{self, Flags, Settings};
use crate::terminal::{self, Colour, paint};

/// Say everything that is wrong with a file of settings
///
/// Also checks what the environment says, the certificate and its key, and whether the named models
/// are here; warns of variables that look like settings and are none. Ends with 1 where something
/// is wrong.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  freehold config check
  freehold config check /etc/freehold.toml && systemctl reload freehold")]
pub(crate) struct Check {
    /// The file (default: the one that `freehold serve` would read)
    file: Option<PathBuf>,
}

impl Subcommand for Check {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        for line in settings::unknown_variables(&Settings::of::<Serve>()) {
            let label = paint("warning:", Colour::Yellow, &io::stderr());
            terminal::say(&format!("{label} {line}"));
        }
        let flags = Flags::default().with_file(self.file);
        let (file, problems) = match Serve::resolve(&flags, context) {
            Ok(serve) => (serve.file(), serve.deeper_problems(context)),
            Err(problems) => (None, problems),
        };
        for problem in &problems {
            let label = paint("error:", Colour::Red, &io::stderr());
            terminal::say(&format!("{label} {problem}"));
        }
        if !problems.is_empty() {
            return Err(Failure::silent(Exit::Failed).into());
        }
        let what = file.map_or_else(|| "no file".to_owned(), |file| file.display().to_string());
        context.note(&format!("{what}: nothing is wrong"));
        Ok(())
    }
}
