//! Which versions of a package the index has, as the user's own pip lists them
//! (`pip index versions`). Nothing is downloaded.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use super::{PIPS, QUIET, command, keep_end, last_lines};
use crate::error::StoreError;
use crate::latest::Latest;
use crate::source::{PipPart, Source};
use crate::sources::Held;

/// Most that is read of a list; that of a package with a thousand versions has 10 KiB.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// What the index has now of the packages `parts`. `renewed` makes a source of the newest ones.
///
/// # Errors
/// [`StoreError::Pip`]; a version that makes no source.
pub(in crate::sources) fn latest(
    held: &Held<'_>,
    parts: &[PipPart],
    renewed: impl FnOnce(Vec<PipPart>) -> Source,
) -> Result<Latest, StoreError> {
    let (mut newest, mut told) = (Vec::new(), Vec::new());
    for part in parts {
        let list = list(held, &part.package)?;
        let version = newest_of(&list).ok_or_else(|| StoreError::Pip {
            command: format!("pip index versions {}", part.package),
            reason: format!("answered {:?}, expected NAME (VERSION)", first_line(&list)),
        })?;
        let mut part = part.clone();
        if is_newer(version, &part.version, &list) {
            told.push(format!("{} {version}", part.package));
            version.clone_into(&mut part.version);
        }
        newest.push(part);
    }
    if told.is_empty() {
        return Ok(Latest::Same);
    }
    // Read again: a version is somebody else's text.
    let source = Source::parse(&renewed(newest).to_string())?;
    Ok(Latest::Newer { what: told.join(", "), source: Some(source) })
}

/// What pip prints of the versions of `package`.
fn list(held: &Held<'_>, package: &str) -> Result<String, StoreError> {
    // Somewhere where no file of the user's is taken for a part of pip.
    let folder = held.home.ancestors().find(|folder| folder.is_dir());
    let folder = folder.unwrap_or(Path::new("/"));
    let mut refusals = Vec::new();
    for pip in PIPS {
        let name = format!("{} index versions {package}", pip.join(" "));
        let mut command = command(pip, held.settings, folder);
        command.args(["index", "versions", package]).args(QUIET);
        match run(command) {
            Ok(Ok(list)) => return Ok(list),
            Ok(Err(said)) if said.contains("No module named pip") => {
                refusals.push(format!("{name}: {}", last_lines(&said)));
            }
            Ok(Err(said)) => {
                return Err(StoreError::Pip { command: name, reason: last_lines(&said) });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => refusals.push(format!("{name}: {error}")),
        }
    }
    if refusals.is_empty() {
        refusals.push("none of them was found; install Python with pip".to_owned());
    }
    let command = PIPS.map(|pip| pip.join(" ")).join(", ");
    Err(StoreError::Pip { command, reason: refusals.join("; ") })
}

/// What a command printed, or where it failed the end of what it said.
fn run(mut command: Command) -> io::Result<Result<String, String>> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take();
    let (list, said) = thread::scope(|scope| {
        let said = scope.spawn(move || stderr.map(keep_end).unwrap_or_default());
        let mut list = Vec::new();
        // What it cannot print any more ends it, and then this.
        let read = match child.stdout.take() {
            Some(stdout) => stdout.take(LIST_BYTES_MAX).read_to_end(&mut list).map(drop),
            None => Ok(()),
        };
        (read.map(|()| list), said.join().unwrap_or_default())
    });
    let is_success = child.wait()?.success();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(if is_success { Ok(text(list?)) } else { Err(text(said)) })
}

fn first_line(list: &str) -> String {
    list.lines().next().unwrap_or_default().chars().take(80).collect()
}

/// The version in `NAME (VERSION)`, the first line: the newest that is no pre-release.
fn newest_of(list: &str) -> Option<&str> {
    let (_, version) = list.lines().next()?.rsplit_once(" (")?;
    version.trim_end().strip_suffix(')').filter(|version| !version.is_empty())
}

/// Whether `version` comes behind `held`. The list begins with the newest; what it lacks, a
/// pre-release or one that was taken back, goes by its release number (PEP 440).
fn is_newer(version: &str, held: &str, list: &str) -> bool {
    let listed = list.lines().find_map(|line| line.strip_prefix("Available versions: "));
    let mut listed = listed.unwrap_or_default().split(", ").map(str::trim);
    version != held && (listed.any(|one| one == held) || release(version) > release(held))
}

/// `[1, 2]` of `1.2.0rc1`: numbers up to the first part that is not all digits, without zeros at
/// the end.
fn release(version: &str) -> Vec<u64> {
    let mut numbers = Vec::new();
    for part in version.split('.') {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        numbers.extend(part[..digits].parse::<u64>());
        if digits < part.len() {
            break;
        }
    }
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pip_lists_is_read() {
        let list = "m (1.10.0)\nAvailable versions: 1.10.0, 1.9, 1.2rc1\n  INSTALLED: 1.9\n";
        assert_eq!(newest_of(list), Some("1.10.0"));
        assert_eq!((newest_of(""), newest_of("m ()"), newest_of("error")), (None, None, None));
        for (held, expected) in [
            ("1.10.0", false),
            ("1.9", true),
            ("1.2rc1", true),
            // Not listed: a later one that was taken back, an older one, the same number.
            ("2.0a1", false),
            ("1.3", true),
            ("1.10", false),
        ] {
            assert_eq!(is_newer("1.10.0", held, list), expected, "{held}");
        }
    }
}
