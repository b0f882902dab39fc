//! The subcommands as data: one file each, one line each in [`ALL`].

mod add;
mod adopt;
mod bench;
mod broker;
mod bundle;
mod completions;
mod config;
mod debug;
mod departures;
mod diff;
mod doctor;
mod egress;
mod embed;
mod gc;
mod key;
mod ledger;
mod licences;
mod limit;
mod list;
mod lock;
mod openapi;
mod outdated;
mod person;
mod policy;
mod project;
mod pull;
mod receipt;
mod record;
mod rm;
mod rollback;
mod run;
pub(crate) mod serve;
mod show;
mod test;
mod upgrade;
mod usage;
mod verify;
mod why;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::context::Context;
use crate::exit;

/// Every subcommand, in the order in which the help lists them.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<run::Run>("run"),
    Entry::of::<serve::Serve>("serve"),
    Entry::group("config", config::ABOUT, config::ALL),
    Entry::of::<embed::Embed>("embed"),
    Entry::of::<pull::Pull>("pull"),
    Entry::of::<add::Add>("add"),
    Entry::of::<adopt::Adopt>("adopt"),
    Entry::of::<list::List>("list"),
    Entry::of::<show::Show>("show"),
    Entry::of::<rm::Remove>("rm"),
    Entry::of::<gc::Collect>("gc"),
    Entry::of::<verify::Verify>("verify"),
    Entry::group("bundle", bundle::ABOUT, bundle::ALL),
    Entry::of::<lock::LockModels>("lock"),
    Entry::of::<diff::Diff>("diff"),
    Entry::of::<why::Why>("why"),
    Entry::of::<outdated::Outdated>("outdated"),
    Entry::of::<upgrade::Upgrade>("upgrade"),
    Entry::of::<rollback::Rollback>("rollback"),
    Entry::group("key", key::ABOUT, key::ALL),
    Entry::group("project", project::ABOUT, project::ALL),
    Entry::of::<licences::Licences>("licences"),
    Entry::group("limit", limit::ABOUT, limit::ALL),
    Entry::group("ledger", ledger::ABOUT, ledger::ALL),
    Entry::of::<departures::List>("departures"),
    Entry::group("receipt", receipt::ABOUT, receipt::ALL),
    Entry::of::<usage::Usage>("usage"),
    Entry::group("person", person::ABOUT, person::ALL),
    Entry::of::<doctor::Doctor>("doctor"),
    Entry::group("egress", egress::ABOUT, egress::ALL),
    Entry::of::<bench::Bench>("bench"),
    Entry::of::<test::Test>("test"),
    Entry::group("record", record::ABOUT, record::ALL),
    Entry::group("policy", policy::ABOUT, policy::ALL),
    Entry::of::<openapi::Openapi>("openapi"),
    Entry::of::<completions::Completions>("completions"),
    Entry::group("debug", debug::ABOUT, debug::ALL),
    Entry::of::<broker::Broker>("broker"),
];

/// What a subcommand is: its arguments, and what it does with them.
pub(crate) trait Subcommand: clap::Args {
    /// Adds its arguments to a command.
    fn augment(command: Command) -> Command {
        Self::augment_args(command)
    }

    /// Reads what was parsed, and runs.
    fn start(matches: &ArgMatches, context: &Context) -> anyhow::Result<()> {
        Self::from_arg_matches(matches)?.run(context)
    }

    /// Does the work; the error's kind decides the exit code.
    fn run(self, context: &Context) -> anyhow::Result<()>;
}

/// One line of a list of subcommands.
pub(crate) struct Entry {
    name: &'static str,
    kind: Kind,
}

enum Kind {
    /// Adds the arguments to a command, and runs it on what was parsed.
    Leaf {
        augment: fn(Command) -> Command,
        run: fn(&ArgMatches, &Context) -> anyhow::Result<()>,
    },
    Group {
        about: &'static str,
        entries: &'static [Entry],
    },
}

impl Entry {
    /// The entry of the subcommand `S` under `name`.
    pub(crate) const fn of<S: Subcommand>(name: &'static str) -> Self {
        Self { name, kind: Kind::Leaf { augment: S::augment, run: S::start } }
    }

    const fn group(name: &'static str, about: &'static str, entries: &'static [Entry]) -> Self {
        Self { name, kind: Kind::Group { about, entries } }
    }

    fn command(&self) -> Command {
        let command = Command::new(self.name);
        match &self.kind {
            // `--temperature -1` is a value out of range, not an unknown flag `-1`.
            Kind::Leaf { augment, .. } => augment(command).mut_args(|arg| {
                let takes_values = arg.get_action().takes_values();
                if takes_values { arg.allow_negative_numbers(true) } else { arg }
            }),
            Kind::Group { about, entries } => with_entries(command.about(*about), entries),
        }
    }
}

fn with_entries(command: Command, entries: &[Entry]) -> Command {
    command
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(entries.iter().map(Entry::command))
}

const EXAMPLES: &str = "\
Examples:
  freehold run \"Why should I own my tools?\"   answer once
  freehold run                                chat
  freehold serve                              an OpenAI-compatible server on this machine
  freehold doctor                             what this machine can do

Models are kept under the data directory (see `freehold doctor`); FREEHOLD_HOME moves it.
`freehold --help` also lists the exit codes.";

/// The whole command line.
pub(crate) fn root() -> Command {
    let root = Command::new("freehold")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Own your AI: run open models on your own machine")
        .after_help(EXAMPLES)
        .after_long_help(format!("{EXAMPLES}\n\n{}", exit::table()))
        .arg(
            Arg::new("quiet")
                .long("quiet")
                .short('q')
                .global(true)
                .action(ArgAction::SetTrue)
                .conflicts_with("verbose")
                .help("Print results and errors only"),
        )
        .arg(
            Arg::new("verbose")
                .long("verbose")
                .short('v')
                .global(true)
                .action(ArgAction::Count)
                .help("Say more on stderr (-vv: still more)"),
        );
    with_entries(root, ALL)
}

/// Runs the entry that `matches` names.
pub(crate) fn dispatch(
    entries: &[Entry],
    matches: &ArgMatches,
    context: &Context,
) -> anyhow::Result<()> {
    let (name, matches) = matches.subcommand().expect("clap requires a subcommand");
    let entry = entries.iter().find(|entry| entry.name == name).expect("clap knows only entries");
    match &entry.kind {
        Kind::Leaf { run, .. } => run(matches, context),
        Kind::Group { entries, .. } => dispatch(entries, matches, context),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        root().debug_assert();
    }

    #[test]
    fn every_leaf_says_what_it_does_and_shows_an_example() {
        let groups = [
            bundle::ALL,
            config::ALL,
            debug::ALL,
            egress::ALL,
            ledger::ALL,
            limit::ALL,
            person::ALL,
            policy::ALL,
            receipt::ALL,
            record::ALL,
        ];
        for entry in ALL.iter().chain(groups.into_iter().flatten()) {
            let command = entry.command();
            assert!(command.get_about().is_some(), "{}: no about", entry.name);
            if matches!(entry.kind, Kind::Leaf { .. }) {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("freehold "), "{}: no example", entry.name);
            }
        }
    }
}
