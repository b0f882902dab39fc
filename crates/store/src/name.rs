//! Names that become folders and files: checked once, so that no path can leave the store.
//!
//! The rules are those of the strictest system we may run on (Windows), so that a store can be
//! copied from one machine to another.

use std::fmt;

use crate::error::StoreError;

/// Longest publisher or model name, in bytes: two of them make a folder name (limit 255).
const NAME_BYTES_MAX: usize = 96;

/// Longest file name, in bytes; leaves room for the endings that staging appends.
const FILE_NAME_BYTES_MAX: usize = 200;

/// Most parts of a split model. The largest published ones have about 200.
const N_PARTS_MAX: u32 = 1024;

/// Device names that Windows reserves, with any ending.
const RESERVED: [&str; 10] =
    ["con", "prn", "aux", "nul", "com1", "com2", "com3", "lpt1", "lpt2", "lpt3"];

/// A model's full name, `publisher/name`. Holding one proves that both parts are safe as folders.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName {
    publisher: String,
    name: String,
}

impl ModelName {
    /// Checks both parts.
    ///
    /// # Errors
    /// [`StoreError::InvalidName`] naming the part and the rule.
    pub fn new(publisher: &str, name: &str) -> Result<Self, StoreError> {
        check_word("publisher name", publisher)?;
        check_word("model name", name)?;
        Ok(Self { publisher: publisher.to_owned(), name: name.to_owned() })
    }

    /// Who published the model.
    pub fn publisher(&self) -> &str {
        &self.publisher
    }

    /// The name without the publisher.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// One flat word for lock files and staging folders.
    pub(crate) fn flat(&self) -> String {
        format!("{}--{}", self.publisher, self.name)
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.name)
    }
}

/// Checks a publisher or model name.
pub(crate) fn check_word(what: &'static str, word: &str) -> Result<(), StoreError> {
    let refuse = |expected: &str| Err(invalid(what, word, expected));
    if word.is_empty() || word.len() > NAME_BYTES_MAX {
        return refuse("expected 1 to 96 characters");
    }
    if !word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        return refuse("expected only letters, digits, '.', '_' and '-'");
    }
    if !word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return refuse("expected it to start with a letter, a digit or '_'");
    }
    if word.ends_with('.') || word.contains("..") || word.contains("--") {
        return refuse("expected no '.' at the end, no '..' and no '--'");
    }
    if is_reserved(word) {
        return refuse("expected no name that Windows reserves for a device");
    }
    Ok(())
}

/// Checks the name of a model file: one path component that ends in `.gguf`.
pub(crate) fn check_file_name(file_name: &str) -> Result<(), StoreError> {
    let refuse = |expected: &str| Err(invalid("file name", file_name, expected));
    if file_name.len() > FILE_NAME_BYTES_MAX {
        return refuse("expected at most 200 bytes");
    }
    let is_bad = |c: char| c.is_control() || "/\\:*?\"<>|".contains(c);
    if file_name.contains(is_bad) || file_name.starts_with(['.', ' ', '-']) {
        return refuse("expected a plain file name");
    }
    match file_name.strip_suffix(".gguf") {
        Some(stem) if !stem.is_empty() && !is_reserved(file_name) => Ok(()),
        _ => refuse("expected it to end in .gguf"),
    }
}

/// Checks a relative path with `/` between its parts, inside an archive or a repository.
pub(crate) fn check_inner_path(path: &str) -> Result<(), StoreError> {
    let is_bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
    let is_bad_char = |c: char| c.is_control() || "\\:*?\"<>|#".contains(c);
    if path.len() > 1024 || path.contains(is_bad_char) || path.split('/').any(is_bad_part) {
        let expected = "expected a relative path of plain names with '/' between them";
        return Err(invalid("path", path, expected));
    }
    Ok(())
}

/// A model name made from a file's name: lower case, without ending and part numbers.
pub(crate) fn name_of_file(file_name: &str) -> Result<String, StoreError> {
    let stem = file_name.strip_suffix(".gguf").unwrap_or(file_name);
    let stem = split_numbers(file_name).map_or(stem, |split| &stem[..split.stem_bytes]);
    let mut name = String::with_capacity(stem.len());
    for c in stem.chars() {
        let plain = c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        match if plain { c.to_ascii_lowercase() } else { '-' } {
            // Two of either would be refused, and a name has no use for them.
            c @ ('-' | '.') if name.ends_with(c) => {}
            c => name.push(c),
        }
    }
    name.truncate(NAME_BYTES_MAX);
    let name = name.trim_matches(['-', '.']).to_owned();
    check_word("model name", &name)?;
    Ok(name)
}

/// What `-00002-of-00003.gguf` at the end of a file name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SplitNumbers {
    /// Length of the name before the numbers.
    pub(crate) stem_bytes: usize,
    /// How many parts there are; 1 or more.
    pub(crate) n_parts: u32,
}

/// Reads the part numbers of a split model's file name.
pub(crate) fn split_numbers(file_name: &str) -> Option<SplitNumbers> {
    let stem = file_name.strip_suffix(".gguf")?;
    let stem_bytes = stem.len().checked_sub("-00001-of-00003".len())?;
    let (part, n_parts) = stem.get(stem_bytes..)?.strip_prefix('-')?.split_once("-of-")?;
    let number = |digits: &str| -> Option<u32> {
        (digits.len() == 5 && digits.bytes().all(|b| b.is_ascii_digit()))
            .then(|| digits.parse().ok())?
    };
    let (part, n_parts) = (number(part)?, number(n_parts)?);
    (part >= 1 && part <= n_parts).then_some(SplitNumbers { stem_bytes, n_parts })
}

/// The names of all parts of a split model, in order; the name alone when it is not split.
pub(crate) fn part_names(file_name: &str) -> Result<Vec<String>, StoreError> {
    let Some(split) = split_numbers(file_name) else { return Ok(vec![file_name.to_owned()]) };
    let n_parts = split.n_parts;
    if n_parts > N_PARTS_MAX {
        return Err(invalid(
            "file name",
            file_name,
            &format!("expected at most {N_PARTS_MAX} parts"),
        ));
    }
    let stem = &file_name[..split.stem_bytes];
    Ok((1..=n_parts).map(|part| format!("{stem}-{part:05}-of-{n_parts:05}.gguf")).collect())
}

fn is_reserved(word: &str) -> bool {
    let base = word.split('.').next().unwrap_or(word);
    RESERVED.iter().any(|reserved| base.eq_ignore_ascii_case(reserved))
}

fn invalid(what: &'static str, value: &str, expected: &str) -> StoreError {
    StoreError::InvalidName { what, value: value.to_owned(), expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_could_leave_the_store_are_refused() {
        for good in ["smollm2-135m", "Qwen2.5_x", "_a", "7b"] {
            check_word("model name", good).unwrap();
        }
        let long = "a".repeat(97);
        for bad in [
            "", ".", "..", "a..b", "a/b", "a\\b", "-a", ".a", "a.", "nul", "Con.x", "é", "a b",
            "a--b", &long,
        ] {
            assert!(check_word("model name", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn file_names_are_one_component_ending_in_gguf() {
        check_file_name("Some Model (1).Q4_K.gguf").unwrap();
        for bad in
            ["", ".gguf", "a.bin", "../a.gguf", "a/b.gguf", "a\0.gguf", "nul.gguf", "-a.gguf"]
        {
            assert!(check_file_name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn inner_paths_stay_inside() {
        check_inner_path("a/b c/d.gguf").unwrap();
        for bad in ["", "/a", "a//b", "a/../b", "..", "a/", "C:/x", "a\\b", "a#b"] {
            assert!(check_inner_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_file_name_gives_a_model_name() {
        for (file, name) in [
            ("SmolLM2-135M-Instruct.Q4_1.gguf", "smollm2-135m-instruct.q4_1"),
            ("Big (v2)-00001-of-00003.gguf", "big-v2"),
            ("a..b--c.gguf", "a.b-c"),
        ] {
            assert_eq!(name_of_file(file).unwrap(), name);
        }
        assert!(name_of_file("….gguf").is_err());
    }

    #[test]
    fn parts_of_a_split_model_are_counted() {
        let parts = part_names("m-00002-of-00003.gguf").unwrap();
        assert_eq!(
            parts,
            ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf", "m-00003-of-00003.gguf"]
        );
        for whole in
            ["m.gguf", "m-00004-of-00003.gguf", "m-0000é-of-00003.gguf", "m-00000-of-00000.gguf"]
        {
            assert_eq!(part_names(whole).unwrap(), [whole]);
        }
        assert!(part_names("m-00001-of-99999.gguf").is_err());
    }
}
