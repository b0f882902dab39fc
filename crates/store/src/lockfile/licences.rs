//! Which licences models may come under and who must have signed them, by the owner's word.
//!
//! ```toml
//! [licences]
//! "*" = ["apache-2.0", "mit"]      # all names that have no line of their own
//! "gemma3-270m" = ["gemma"]        # this model
//! "gpt-*" = ["apache-2.0"]         # whatever this alias stands for
//!
//! [signers]
//! "*" = ["RWQ…"]                   # public keys of publishers
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use super::LockFile;
use crate::error::StoreError;
use crate::signers::{ParsePublisherKeyError, PublisherKey};

/// The name whose licences count for all that have no line of their own.
const ALL: &str = "*";

impl LockFile {
    /// Whether the model `name` may come under `licence`: the line of its name must allow it and so
    /// must those of aliases that stand for it; where there is none, the line `*`. Case does not
    /// matter, and without any line everything is allowed. `lock` is for errors.
    ///
    /// # Errors
    /// [`StoreError::LicenceNotAllowed`].
    pub fn check_licence(&self, name: &str, licence: &str, lock: &Path) -> Result<(), StoreError> {
        for (key, allowed) in self.lines_of(name, &self.licences) {
            if !allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(licence)) {
                return Err(StoreError::LicenceNotAllowed {
                    name: name.to_owned(),
                    licence: licence.to_owned(),
                    lock: lock.to_owned(),
                    rule: key.clone(),
                    allowed: allowed.clone(),
                });
            }
        }
        Ok(())
    }

    /// The keys of which one must have signed the files of `name`: those that all its lines have.
    /// `None` where there is no line.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`] where one is no public key.
    pub(crate) fn signers_of(
        &self,
        name: &str,
        lock: &Path,
    ) -> Result<Option<Vec<PublisherKey>>, StoreError> {
        let lines = self.lines_of(name, &self.signers);
        let Some((_, first)) = lines.first() else { return Ok(None) };
        let is_in_all = |key: &&String| lines.iter().all(|(_, keys)| keys.contains(key));
        let parse = |key: &String| {
            key.parse().map_err(|problem: ParsePublisherKeyError| StoreError::BadRecord {
                path: lock.to_owned(),
                reason: format!("[signers] {key:?}: {problem}"),
            })
        };
        first.iter().filter(is_in_all).map(parse).collect::<Result<_, _>>().map(Some)
    }

    /// Whether the model `name`, which is here, was signed by one of those keys when it came in.
    ///
    /// # Errors
    /// [`StoreError::NotSigned`]; [`StoreError::BadRecord`] where a line has no public key.
    pub fn check_signer(
        &self,
        name: &str,
        signed_by: Option<&str>,
        lock: &Path,
    ) -> Result<(), StoreError> {
        let Some(keys) = self.signers_of(name, lock)? else { return Ok(()) };
        if keys.iter().any(|key| Some(key.to_string().as_str()) == signed_by) {
            return Ok(());
        }
        let problem = match signed_by {
            Some(key) => format!("it is signed by {key}"),
            None => "no signature was verified when it came in".to_owned(),
        };
        let (place, whose) = (name.to_owned(), format!("a key that {} names", lock.display()));
        Err(StoreError::NotSigned { place, problem, whose })
    }

    /// Takes over the key of whom the model `name` was signed by when it first came in, so that
    /// from then on it must be that one; `false` where a line says already who it must be.
    pub fn note_signer(&mut self, name: &str, key: &str) -> bool {
        let is_new = self.lines_of(name, &self.signers).is_empty();
        if is_new {
            self.signers.insert(name.to_owned(), vec![key.to_owned()]);
        }
        is_new
    }

    /// The lines of a table that count for the model `name`.
    fn lines_of<'a>(
        &self,
        name: &str,
        table: &'a BTreeMap<String, Vec<String>>,
    ) -> Vec<(&'a String, &'a Vec<String>)> {
        let is_of = |key: &str| key == name || self.aliases.get(key).is_some_and(|of| of == name);
        let mut lines: Vec<_> =
            table.iter().filter(|(key, _)| key.as_str() != ALL && is_of(key)).collect();
        if lines.is_empty() {
            lines.extend(table.get_key_value(ALL));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_signed_first_must_sign_from_then_on() {
        let [one, two] = [
            "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3",
            "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=",
        ];
        let mut lock = LockFile::default();
        let check = |lock: &LockFile, key: Option<&str>| {
            let checked = lock.check_signer("m", key, Path::new("freehold.lock"));
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(&lock, None), Ok(()));
        assert!(lock.note_signer("m", one));
        assert!(!lock.note_signer("m", two));
        assert_eq!(check(&lock, Some(one)), Ok(()));
        assert!(check(&lock, Some(two)).unwrap_err().contains("it is signed by MCow"));
        let told = check(&lock, None).unwrap_err();
        assert!(told.contains("m: no signature was verified"), "{told}");
        lock.signers = BTreeMap::from([("*".to_owned(), vec![two.to_owned()])]);
        assert!(!lock.note_signer("m", two));
        assert_eq!(check(&lock, Some(two)), Ok(()));
        lock.signers = BTreeMap::from([("*".to_owned(), vec!["RWQ".to_owned()])]);
        assert!(check(&lock, Some(one)).unwrap_err().contains("[signers] \"RWQ\""));
    }

    #[test]
    fn the_lines_of_a_name_and_its_aliases_count_and_else_that_of_all() {
        let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let mut lock = LockFile {
            aliases: BTreeMap::from([("gpt-*".to_owned(), "b".to_owned())]),
            ..LockFile::default()
        };
        let check = |lock: &LockFile, name: &str, licence: &str| {
            let checked = lock.check_licence(name, licence, Path::new("freehold.lock"));
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(check(&lock, "a", "unknown"), Ok(()));
        lock.licences = BTreeMap::from([
            ("*".to_owned(), list(&["mit"])),
            ("b".to_owned(), list(&["gemma", "mit"])),
            ("gpt-*".to_owned(), list(&["gemma", "apache-2.0"])),
        ]);
        assert_eq!(check(&lock, "a", "MIT"), Ok(()));
        assert_eq!(check(&lock, "b", "gemma"), Ok(()));
        assert!(check(&lock, "b", "mit").unwrap_err().contains("\"gpt-*\""));
        assert!(check(&lock, "b", "apache-2.0").is_err());
        let error = check(&lock, "a", "unknown").unwrap_err();
        let expected =
            "a comes under the licence \"unknown\", and freehold.lock allows for \"*\" only mit";
        assert_eq!(error, expected);
    }
}
