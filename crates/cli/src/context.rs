//! What every subcommand is given: how much to say, and where models live.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ArgMatches;
use store::Store;

use crate::terminal;

/// How much the program says on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// Progress, notes, warnings.
    Normal,
    /// And what was chosen, and why.
    Verbose,
    /// And what helps us find a bug.
    Debug,
}

/// The global flags of this run.
#[derive(Clone)]
pub(crate) struct Context {
    verbosity: Verbosity,
}

impl Context {
    /// Reads the global flags.
    pub(crate) fn new(matches: &ArgMatches) -> Self {
        let verbosity = match (matches.get_flag("quiet"), matches.get_count("verbose")) {
            (true, _) => Verbosity::Quiet,
            (false, 0) => Verbosity::Normal,
            (false, 1) => Verbosity::Verbose,
            (false, _) => Verbosity::Debug,
        };
        Self { verbosity }
    }

    /// Of a program that says nothing.
    #[cfg(test)]
    pub(crate) fn of_tests() -> Self {
        Self { verbosity: Verbosity::Quiet }
    }

    /// How much to say.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// The directory that holds the models.
    pub(crate) fn home(&self) -> PathBuf {
        Store::default_home()
    }

    /// Opens the store. Only subcommands that need models do.
    pub(crate) fn store(&self) -> anyhow::Result<Store> {
        let home = self.home();
        Store::open(&home).with_context(|| format!("data directory {}", home.display()))
    }

    /// Tells the user something that is not the result; silent with `--quiet`.
    pub(crate) fn note(&self, text: &str) {
        if self.verbosity != Verbosity::Quiet {
            terminal::say(text);
        }
    }

    /// As [`Context::note`], with `-v` only.
    pub(crate) fn detail(&self, text: &str) {
        if matches!(self.verbosity, Verbosity::Verbose | Verbosity::Debug) {
            terminal::say(text);
        }
    }
}
