//! Who must have signed a model before it gets its place, by keys that the owner knows.
//!
//! A key says by its form what it signs: one of [minisign's](crate::minisign) `FILE.minisig` beside
//! each file, any other [`model.sig`](crate::model_signing) beside them, or in a registry the
//! [manifest](crate::cosign). Keys stand in the owner's
//! lock, or come with the first pull, from which `freehold lock` takes them over.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::cosign::{self, Attached};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::lockfile::LockFile;
use crate::minisign::{self, MinisignKey};
use crate::model_signing::{self, ModelKey};
use crate::progress::Progress;

/// Longest signature. One of minisign's has four lines; `model.sig` has some 200 bytes for each
/// file of a model.
pub(crate) const SIGNATURE_BYTES_MAX: u64 = 4 << 20;

/// Longest file with a public key.
const KEY_BYTES_MAX: u64 = 16 << 10;

/// A publisher's public key, as minisign or a PEM file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct PublisherKey {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Minisign(MinisignKey),
    Model(ModelKey),
}

/// The text is no public key of a kind that is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a public key: minisign's of 56 characters, or the base64 of a PEM file of Ed25519, \
     P-256 or P-384"
)]
pub struct ParsePublisherKeyError;

impl PublisherKey {
    /// The key that `text` is, or that stands in the file of this name.
    ///
    /// # Errors
    /// [`StoreError::BadRecord`] where it is no key, [`StoreError::Io`].
    pub fn find(text: &str) -> Result<Self, StoreError> {
        if let Ok(key) = text.parse() {
            return Ok(key);
        }
        let path = Path::new(text);
        let file = File::open(path).map_err(StoreError::io(path, "opening the public key"))?;
        let mut found = String::new();
        file.take(KEY_BYTES_MAX)
            .read_to_string(&mut found)
            .map_err(StoreError::io(path, "reading the public key"))?;
        found.parse().map_err(|error: ParsePublisherKeyError| StoreError::BadRecord {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

impl FromStr for PublisherKey {
    type Err = ParsePublisherKeyError;

    /// Reads a key with or without the lines that minisign and PEM write around it.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_key = |line: &&str| !line.starts_with("untrusted") && !line.starts_with("-----");
        let text: String = text.lines().map(str::trim).filter(is_key).collect();
        let minisign = || text.parse().ok().map(Kind::Minisign);
        let kind = minisign().or_else(|| ModelKey::parse(&text).map(Kind::Model));
        Ok(Self { kind: kind.ok_or(ParsePublisherKeyError)?, text })
    }
}

impl fmt::Display for PublisherKey {
    /// On one line, as a lock has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What the owner wants of a model that comes in.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Refuse a model whose licence or whose signature this lock does not allow; with the path of
    /// the lock.
    pub lock: Option<(PathBuf, LockFile)>,
    /// Refuse a model that this key did not sign.
    pub signed_by: Option<PublisherKey>,
}

/// Keys of which one must have signed a model.
#[derive(Debug)]
pub(crate) struct Wanted {
    keys: Vec<PublisherKey>,
    /// Whose keys they are, for errors.
    whose: String,
}

/// A file that must be signed.
pub(crate) struct Signed<'a> {
    /// What it is called where it comes from.
    pub(crate) name: &'a str,
    /// Where its bytes are.
    pub(crate) path: &'a Path,
    pub(crate) sha256: Sha256,
}

impl Terms {
    /// Refuses a licence that the lock does not allow for the model `name`.
    pub(crate) fn check_licence(&self, name: &str, licence: &str) -> Result<(), StoreError> {
        match &self.lock {
            Some((path, lock)) => lock.check_licence(name, licence, path),
            None => Ok(()),
        }
    }

    /// Who must have signed the model `name`; `None` where nobody must.
    pub(crate) fn wanted(&self, name: &str) -> Result<Option<Wanted>, StoreError> {
        let listed = match &self.lock {
            Some((path, lock)) => lock.signers_of(name, path)?.map(|keys| (path, keys)),
            None => None,
        };
        let (keys, whose) = match (listed, &self.signed_by) {
            (None, None) => return Ok(None),
            (None, Some(key)) => (vec![key.clone()], "the key that was given".to_owned()),
            (Some((path, mut keys)), own) => {
                // What was given besides the lock narrows it and never widens it.
                keys.retain(|key| own.as_ref().is_none_or(|own| own == key));
                (keys, format!("a key that {} names", path.display()))
            }
        };
        Ok(Some(Wanted { keys, whose }))
    }
}

impl Wanted {
    /// Whether a model that is here was signed by one of the keys when it came.
    pub(crate) fn is_met_by(&self, signed_by: Option<&str>) -> bool {
        self.keys.iter().any(|key| Some(key.text.as_str()) == signed_by)
    }

    /// Which of the keys signed all `files`; `beside` has the text of a file that lies where they
    /// come from, `None` where there is none.
    ///
    /// # Errors
    /// [`StoreError::NotSigned`]; what `beside` says.
    pub(crate) fn check(
        &self,
        files: &[Signed<'_>],
        beside: &mut dyn FnMut(&str) -> Result<Option<String>, StoreError>,
        progress: &dyn Progress,
    ) -> Result<&PublisherKey, StoreError> {
        let mut problems = Vec::new();
        let minisign = |key: &PublisherKey| match &key.kind {
            Kind::Minisign(key) => Some(*key),
            Kind::Model(_) => None,
        };
        let keys: Vec<MinisignKey> = self.keys.iter().filter_map(minisign).collect();
        if !keys.is_empty() {
            match by_minisign(&keys, files, beside, progress)? {
                Ok(idx) => return Ok(self.key(&Kind::Minisign(keys[idx]))),
                Err(problem) => problems.push(problem),
            }
        }
        let keys = self.model_keys();
        if !keys.is_empty() {
            let hashes: Vec<_> = files.iter().map(|file| (file.name, file.sha256)).collect();
            let checked = match beside(model_signing::FILE)? {
                Some(text) => model_signing::verify(&text, &hashes, &keys),
                None => Err("there is none beside the model".to_owned()),
            };
            match checked {
                Ok(idx) => return Ok(self.key(&Kind::Model(keys[idx].clone()))),
                Err(problem) => problems.push((model_signing::FILE.to_owned(), problem)),
            }
        }
        let mut problems = problems.into_iter();
        let none = || (files.first().map_or("", |of| of.name).to_owned(), "no key may".to_owned());
        let (mut place, mut problem) = problems.next().unwrap_or_else(none);
        for (other, more) in problems {
            place = format!("{place}, {other}");
            problem = format!("{problem}; {more}");
        }
        Err(StoreError::NotSigned { place, problem, whose: self.whose.clone() })
    }

    /// Which of the keys signed the manifest with this digest, by the signatures that the registry
    /// has of it; `place` is where it lies.
    ///
    /// # Errors
    /// [`StoreError::NotSigned`].
    pub(crate) fn check_attached(
        &self,
        place: &str,
        digest: &str,
        attached: &[Attached],
    ) -> Result<&PublisherKey, StoreError> {
        let keys = self.model_keys();
        let mut problem = match (keys.is_empty(), attached.is_empty()) {
            (true, _) => "a registry has signatures of keys in PEM only, not minisign's".to_owned(),
            (_, true) => format!("there is no signature of {digest} in the registry"),
            _ => String::new(),
        };
        if !keys.is_empty() {
            for one in attached {
                match cosign::verify(one, digest, &keys) {
                    Ok(idx) => return Ok(self.key(&Kind::Model(keys[idx].clone()))),
                    Err(why) => problem = why,
                }
            }
        }
        Err(StoreError::NotSigned { place: place.to_owned(), problem, whose: self.whose.clone() })
    }

    /// The keys that are no minisign's.
    fn model_keys(&self) -> Vec<ModelKey> {
        let model = |key: &PublisherKey| match &key.kind {
            Kind::Minisign(_) => None,
            Kind::Model(key) => Some(key.clone()),
        };
        self.keys.iter().filter_map(model).collect()
    }

    /// The key of this kind, which is one of them.
    fn key(&self, kind: &Kind) -> &PublisherKey {
        self.keys.iter().find(|key| key.kind == *kind).expect("it was taken from them")
    }
}

/// Which key signed each of the files; else the place of a signature, and what is wrong with it.
fn by_minisign(
    keys: &[MinisignKey],
    files: &[Signed<'_>],
    beside: &mut dyn FnMut(&str) -> Result<Option<String>, StoreError>,
    progress: &dyn Progress,
) -> Result<Result<usize, (String, String)>, StoreError> {
    let mut by = 0;
    for file in files {
        let place = format!("{}{}", file.name, minisign::ENDING);
        let checked = match beside(&place)? {
            Some(text) => minisign::verify(&text, file.path, keys, progress)?,
            None => Err("there is none beside the model".to_owned()),
        };
        match checked {
            Ok(idx) => by = idx,
            Err(problem) => return Ok(Err((place, problem))),
        }
    }
    Ok(Ok(by))
}

/// The text of the file `name` in `folder`; `None` where there is none.
pub(crate) fn text_in(folder: &Path, name: &str) -> Result<Option<String>, StoreError> {
    let path = folder.join(name);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(StoreError::io(&path, "opening"))?,
    };
    let mut bytes = Vec::new();
    let read = file.take(SIGNATURE_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(StoreError::io(&path, "reading"))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const MINISIGN: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const PEM: &str = include_str!("../tests/model_signing/key.pub");

    #[test]
    fn keys_are_read_with_and_without_what_stands_around_them() {
        let bare: PublisherKey = MINISIGN.parse().unwrap();
        let file = format!("untrusted comment: minisign public key E7620F1842B4E81F\n{MINISIGN}\n");
        assert_eq!(file.parse(), Ok(bare.clone()));
        assert_eq!(bare.to_string(), MINISIGN);
        let pem: PublisherKey = PEM.parse().unwrap();
        assert!(pem.to_string().starts_with("MFkwEwYHKoZI") && !pem.to_string().contains('\n'));
        assert_eq!(pem.to_string().parse(), Ok(pem.clone()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub");
        std::fs::write(&path, PEM).unwrap();
        assert_eq!(PublisherKey::find(path.to_str().unwrap()).unwrap(), pem);
        std::fs::write(&path, "key").unwrap();
        let told = PublisherKey::find(path.to_str().unwrap()).unwrap_err().to_string();
        assert!(told.contains("key.pub: expected a public key"), "{told}");
        assert!(PublisherKey::find("no such key").is_err());
    }

    #[test]
    fn a_key_that_is_given_narrows_what_a_lock_names() {
        let [one, two] = [MINISIGN, PEM].map(|text| text.parse::<PublisherKey>().unwrap());
        let signers = BTreeMap::from([("*".to_owned(), vec![one.to_string()])]);
        let lock = Some(("freehold.lock".into(), LockFile { signers, ..LockFile::default() }));
        let wanted = |lock: &Option<(PathBuf, LockFile)>, signed_by: Option<&PublisherKey>| {
            let terms = Terms { lock: lock.clone(), signed_by: signed_by.cloned() };
            terms.wanted("m").unwrap().map(|wanted| wanted.keys)
        };
        assert_eq!(wanted(&None, None), None);
        assert_eq!(wanted(&None, Some(&two)), Some(vec![two.clone()]));
        assert_eq!(wanted(&lock, None), Some(vec![one.clone()]));
        assert_eq!(wanted(&lock, Some(&one)), Some(vec![one]));
        assert_eq!(wanted(&lock, Some(&two)), Some(Vec::new()));
        let terms = Terms { lock, signed_by: Some(two) };
        let wanted = terms.wanted("m").unwrap().unwrap();
        let nothing = &mut |_: &str| Ok(None);
        let error = wanted.check(&[], nothing, &crate::progress::Silent).unwrap_err().to_string();
        assert!(error.contains("no key may") && error.contains("freehold.lock"), "{error}");
    }
}
