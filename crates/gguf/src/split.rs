//! Split files: their names, their three keys, and that all parts belong together.
//!
//! Parts are named `STEM-00001-of-00003.gguf`. Each has `split.no` (from 0), `split.count` and
//! `split.tensors.count` (over all parts); the first has all other metadata, each its own tensors.

use std::path::{Path, PathBuf};

use crate::error::{Error, Quoted};
use crate::limits;
use crate::metadata::Metadata;
use crate::read::{self, Directory};
use crate::storage::Storage;

pub(crate) const NO_KEY: &str = "split.no";
pub(crate) const COUNT_KEY: &str = "split.count";
pub(crate) const N_TENSORS_KEY: &str = "split.tensors.count";

/// The file name of a part; `part_idx` counts from 0.
pub fn part_file_name(stem: &str, part_idx: usize, n_parts: usize) -> String {
    format!("{stem}-{:05}-of-{n_parts:05}.gguf", part_idx + 1)
}

/// The stem, the part (from 0) and the number of parts that a file name says, if it is a part's.
pub fn parse_part_file_name(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, n_parts) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, part_no) = rest.rsplit_once('-')?;
    let number = |digits: &str| {
        let plain = digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse::<usize>().ok()).flatten()
    };
    let (part_no, n_parts) = (number(part_no)?, number(n_parts)?);
    (1..=n_parts).contains(&part_no).then(|| (stem, part_no - 1, n_parts))
}

/// What the keys of one part say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SplitKeys {
    pub(crate) part_idx: usize,
    pub(crate) n_parts: usize,
    pub(crate) n_tensors: usize,
}

impl SplitKeys {
    /// `None` for a file that is whole.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Self>, Error> {
        let ask = |key: &str| {
            metadata.u32(key).map_err(|e| match e {
                Error::WrongType { found, expected, .. } => {
                    malformed_key(key, format!("found {found}, expected {expected}"))
                }
                other => other,
            })
        };
        let n_parts = ask(COUNT_KEY)?.unwrap_or(0);
        if n_parts <= 1 {
            return Ok(None);
        }
        if n_parts > limits::MAX_PARTS {
            let max = limits::MAX_PARTS;
            return Err(malformed_key(COUNT_KEY, format!("{n_parts}, expected at most {max}")));
        }
        let require = |key: &str| {
            let problem = || format!("absent, expected in a file of {n_parts} parts");
            ask(key)?.ok_or_else(|| malformed_key(key, problem()))
        };
        let part_idx = require(NO_KEY)?;
        if part_idx >= n_parts {
            let problem = format!("{part_idx}, expected less than the {n_parts} parts");
            return Err(malformed_key(NO_KEY, problem));
        }
        let n_tensors = require(N_TENSORS_KEY)? as usize;
        Ok(Some(Self { part_idx: part_idx as usize, n_parts: n_parts as usize, n_tensors }))
    }
}

fn malformed_key(key: &str, problem: String) -> Error {
    Error::malformed(format!("metadata key {}", Quoted(key)), problem)
}

/// One opened file.
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    pub(crate) storage: Storage,
    pub(crate) directory: Directory,
}

impl Part {
    fn open(path: &Path) -> Result<(Self, Option<SplitKeys>), Error> {
        let storage = Storage::map(path)?;
        let opened = read::read(&storage)
            .and_then(|directory| Ok((SplitKeys::of(&directory.metadata)?, directory)));
        let (keys, directory) = opened.map_err(|e| e.in_file(path))?;
        Ok((Self { path: path.to_owned(), storage, directory }, keys))
    }
}

/// Opens a file, and its siblings where it is one part of several; all parts, in order.
pub(crate) fn open_parts(path: &Path) -> Result<Vec<Part>, Error> {
    let (given, keys) = Part::open(path)?;
    let Some(keys) = keys else { return Ok(vec![given]) };
    let SplitKeys { part_idx, n_parts, .. } = keys;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = match parse_part_file_name(name) {
        Some((stem, idx, n)) if (idx, n) == (part_idx, n_parts) => stem,
        _ => {
            let expected = part_file_name("", part_idx, n_parts);
            let problem = format!(
                "is part {} of {n_parts} but is named {}, expected a name that ends in \
                 \"{expected}\"",
                part_idx + 1,
                Quoted(name)
            );
            return Err(Error::malformed("split file", problem).in_file(path));
        }
    };
    let mut given = Some(given);
    let mut parts = Vec::with_capacity(n_parts);
    for idx in 0..n_parts {
        if idx == part_idx {
            parts.extend(given.take());
            continue;
        }
        let sibling = path.with_file_name(part_file_name(stem, idx, n_parts));
        let (part, found) = Part::open(&sibling)?;
        check_sibling(found, SplitKeys { part_idx: idx, ..keys })
            .map_err(|e| e.in_file(&sibling))?;
        parts.push(part);
    }
    check_tensors(&parts, keys.n_tensors).map_err(|e| e.in_file(path))?;
    Ok(parts)
}

/// A sibling must say of itself what the given part makes us expect.
fn check_sibling(found: Option<SplitKeys>, expected: SplitKeys) -> Result<(), Error> {
    let describe = |keys: SplitKeys| {
        let SplitKeys { part_idx, n_parts, n_tensors } = keys;
        format!("part {} of {n_parts} with {n_tensors} tensors in all", part_idx + 1)
    };
    if found == Some(expected) {
        return Ok(());
    }
    let found = found.map_or("a file that is not split".to_owned(), describe);
    let problem = format!("found {found}, expected {}", describe(expected));
    Err(Error::malformed("split file", problem))
}

/// All parts together have the tensors that were announced.
fn check_tensors(parts: &[Part], n_tensors: usize) -> Result<(), Error> {
    let n_found: usize = parts.iter().map(|part| part.directory.tensors.len()).sum();
    if n_found != n_tensors {
        let problem = format!("{n_tensors}, but the parts have {n_found} tensors together");
        return Err(malformed_key(N_TENSORS_KEY, problem));
    }
    if n_found as u64 > limits::MAX_TENSORS {
        let max = limits::MAX_TENSORS;
        return Err(malformed_key(N_TENSORS_KEY, format!("{n_found}, expected at most {max}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_names_come_back_and_others_are_none() {
        let name = part_file_name("a-b", 1, 3);
        assert_eq!(name, "a-b-00002-of-00003.gguf");
        assert_eq!(parse_part_file_name(&name), Some(("a-b", 1, 3)));
        let others = ["a.gguf", "a-00000-of-00003.gguf", "a-00004-of-00003.gguf", "-of-.gguf"];
        let more = ["a-1-of-3.gguf", "a-00001-of-00003", "a-+0001-of-00003.gguf", ""];
        for other in others.into_iter().chain(more) {
            assert_eq!(parse_part_file_name(other), None, "{other}");
        }
    }
}
