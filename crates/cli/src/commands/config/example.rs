//! `freehold config example`: a file with every setting in it.

use crate::commands::Subcommand;
use crate::commands::serve::{self, Serve};
use crate::context::Context;
use crate::settings::{self, Settings};
use crate::terminal;

/// Print a file with every setting in it, as it is where nobody says anything
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  freehold config example > freehold.toml")]
pub(crate) struct Example {}

impl Subcommand for Example {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        terminal::print(&text())
    }
}

fn text() -> String {
    settings::example(&Settings::of::<Serve>(), |name| serve::RELOADABLE.contains(&name))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::{Flags, Origin};

    /// The command that renews the page.
    const RENEW: &str = "UPDATE=1 cargo test --package freehold-cli config::example";

    #[test]
    fn the_example_has_every_setting_as_it_is_by_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("freehold.toml");
        std::fs::write(&path, text()).unwrap();
        let settings = Settings::of::<Serve>();
        let flags = Flags::default().with_file(Some(path));
        let resolved = settings.resolve(&flags, folder.path()).unwrap();
        for value in resolved.values() {
            assert!(value.is_default(), "{}", value.name());
            // It stands there, or, where there is no default, a comment shows how it would.
            let comment = format!("\n# {} = ", value.name());
            let is_there = matches!(value.origin(), Origin::File(_));
            assert!(is_there || text().contains(&comment), "{}", value.name());
        }
        assert!(Serve::resolve(&flags, &Context::of_tests()).is_ok());
    }

    #[test]
    fn the_page_is_the_example() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/freehold.toml");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, text()).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap();
        assert_eq!(page, text(), "{} is not current: {RENEW}", path.display());
    }
}
