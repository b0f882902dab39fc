//! The owner's files: cases and records in, reports out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use gate::{Candidate, CaseSet, GateError};

use crate::exit::{Exit, Failure};

/// Most files of a set: a folder with more is another one than was meant.
const FILES_MAX: usize = 1000;

/// Reads all cases of a folder, or of one file.
pub(super) fn read_cases(path: &Path) -> anyhow::Result<CaseSet> {
    let paths = if path.is_dir() { case_files(path)? } else { vec![path.to_owned()] };
    let file = |path: &PathBuf| Ok((path.display().to_string(), read(path)?));
    let files: Vec<(String, String)> = paths.iter().map(file).collect::<anyhow::Result<_>>()?;
    CaseSet::parse(&files).map_err(usage)
}

/// The files of cases in `folder`, in the order of their names.
fn case_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if matches!(ending, Some("toml" | "jsonl")) && path.is_file() {
            paths.push(path);
        }
    }
    if paths.is_empty() || paths.len() > FILES_MAX {
        let (n, folder) = (paths.len(), folder.display());
        let message = format!(
            "{folder}: {n} files of cases, expected 1 to {FILES_MAX} that end with .toml or .jsonl"
        );
        let exit = if paths.is_empty() { Exit::NotFound } else { Exit::Usage };
        return Err(Failure::new(exit, message).into());
    }
    paths.sort();
    Ok(paths)
}

/// Reads a record of answers, as far as it has the cases of `set`.
pub(super) fn read_record(path: &Path, set: &CaseSet) -> anyhow::Result<Candidate> {
    gate::read(&path.display().to_string(), &read(path)?, set).map_err(usage)
}

/// That a file can be written there, before hours of work end without one.
pub(super) fn check_output(path: &Path) -> anyhow::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let is_there = folder.is_none_or(Path::is_dir) && !path.is_dir();
    if is_there {
        return Ok(());
    }
    let message = format!("{}: expected a file in a folder that is there", path.display());
    Err(Failure::new(Exit::Usage, message).into())
}

/// Writes a report.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => Exit::NotFound,
            io::ErrorKind::InvalidData => Exit::Usage,
            _ => Exit::Failed,
        };
        Failure::new(exit, format!("{}: {error}", path.display())).into()
    })
}

fn usage(error: GateError) -> anyhow::Error {
    Failure::new(Exit::Usage, error.to_string()).into()
}
