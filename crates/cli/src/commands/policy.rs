//! `freehold policy`: rules about where requests may go, and what is detected in texts. The server
//! asks the same rules; these commands try them.

mod check;
mod detect;
mod explain;
mod test;

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use policy::{PolicyError, Rules};

use super::Entry;
use crate::exit::{Exit, Failure};
use crate::settings;

/// What the group is for.
pub(crate) const ABOUT: &str = "Try rules about where requests may go";

/// Its subcommands.
pub(crate) const ALL: &[Entry] = &[
    Entry::of::<check::Check>("check"),
    Entry::of::<explain::Explain>("explain"),
    Entry::of::<test::Test>("test"),
    Entry::of::<detect::Detect>("detect"),
];

/// Largest file that is read in bytes; the rules refuse less.
const FILE_BYTES_MAX: u64 = 16 << 20;

fn read(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let read =
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::InvalidData => Exit::Usage,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("{}: {error}", path.display()))
    })?;
    Ok(text)
}

fn read_rules(path: &Path) -> anyhow::Result<Rules> {
    rules(path, &read(path)?).map_err(usage)
}

/// The rules in a file of rules, or in one of settings, which says other things too.
fn rules(path: &Path, text: &str) -> Result<Rules, PolicyError> {
    let name = path.display().to_string();
    match path.file_name().is_some_and(|name| name == settings::FILE) {
        true => Rules::parse_among(&name, text),
        false => Rules::parse(&name, text),
    }
}

/// Every mistake on a line of its own.
fn usage(error: PolicyError) -> anyhow::Error {
    Failure::new(Exit::Usage, error.to_string().replace('\n', "\n       ")).into()
}
