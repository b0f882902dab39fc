//! Signatures of what leaves for another machine (Ed25519, RFC 8032), and whose are believed.
//!
//! The key of this machine is one line in a file that only its owner may read. A signer is believed
//! from the first time on that it is seen under its name (`HOME/signers.toml`), like a host of ssh.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::error::{CREATING, StoreError};
use crate::platform;
use crate::record;

/// The key's file in the store's home.
pub(crate) const KEY: &str = "node.key";

/// Whose signatures are believed, in the store's home.
const SIGNERS: &str = "signers.toml";

/// The first word of a key's file.
const FORM: &str = "freehold-node-key-1";

/// A key's file is one line; what is longer is something else.
const FILE_BYTES_MAX: u64 = 1024;

/// The half of a key pair that everybody may know; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a public key of 64 hexadecimal digits")]
pub struct ParsePublicKeyError;

/// A signature; written as 128 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signature([u8; 64]);

/// The key pair of this machine.
pub(crate) struct SigningKey(Ed25519KeyPair);

impl PublicKey {
    /// Whether `signature` is of `bytes`, by the holder of this key.
    pub(crate) fn verifies(&self, bytes: &[u8], signature: &Signature) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(bytes, &signature.0).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes_of(text).map(Self).ok_or(ParsePublicKeyError)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Signature {
    type Err = ParsePublicKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes_of(text).map(Self).ok_or(ParsePublicKeyError)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl SigningKey {
    /// Reads the key of the store at `home`, or makes one and writes it there with mode 0600.
    pub(crate) fn load_or_create(home: &Path) -> Result<Self, StoreError> {
        let path = home.join(KEY);
        if let Some(key) = Self::load(&path)? {
            return Ok(key);
        }
        fs::create_dir_all(home).map_err(StoreError::io(home, CREATING))?;
        let mut seed = [0; 32];
        let no_random = |_| StoreError::io(&path, "making")(io::Error::other("no random bytes"));
        SystemRandom::new().fill(&mut seed).map_err(no_random)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|error| bad(&path, error))?;
        let line = format!("{FORM} {} {}\n", hex(&seed), hex(pair.public_key().as_ref()));
        // Whole under a name of its own first. A link, unlike a rename, does not replace the key
        // that another process made meanwhile.
        let part = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&part);
        let written = write_new(&part, line.as_bytes()).and_then(|()| fs::hard_link(&part, &path));
        let _ = fs::remove_file(&part);
        match written {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::io(&path, "writing")(error));
            }
            _ => platform::sync_folder(home).map_err(StoreError::io(home, "syncing"))?,
        }
        Self::load(&path)?.ok_or_else(|| bad(&path, "it vanished when it had been made"))
    }

    fn load(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io(path, "opening")(error)),
        };
        let metadata = file.metadata().map_err(StoreError::io(path, "reading"))?;
        if platform::is_open_to_others(&metadata) {
            return Err(bad(path, "others may read it, expected mode 600"));
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(StoreError::io(path, "reading"))?;
        let key = parse(&text).ok_or_else(|| bad(path, format!("expected {FORM:?} and a key")));
        key.map(Some)
    }

    /// The public half.
    pub(crate) fn public(&self) -> PublicKey {
        let bytes = self.0.public_key().as_ref().try_into();
        PublicKey(bytes.expect("RFC 8032: a public key has 32 bytes"))
    }

    /// The signature of `bytes`.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Signature {
        let signature = self.0.sign(bytes);
        Signature(signature.as_ref().try_into().expect("RFC 8032: a signature has 64 bytes"))
    }
}

/// The public half stands in the file too, so that a digit that went wrong makes no other key.
fn parse(text: &str) -> Option<SigningKey> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [FORM, seed, public] = words[..] else { return None };
    let (seed, public) = (bytes_of::<32>(seed)?, bytes_of::<32>(public)?);
    Ed25519KeyPair::from_seed_and_public_key(&seed, &public).ok().map(SigningKey)
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn bad(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::BadRecord { path: path.to_owned(), reason: reason.to_string() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes_of<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        // Two hexadecimal digits are below 256.
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(bytes)
}

/// How a signer that is new, or another than before, is judged.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The only key that is believed.
    pub signer: Option<PublicKey>,
    /// Believe another key under a name that had one.
    pub accept_new_signer: bool,
}

/// What is known of a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acquaintance {
    /// It was believed before under this name.
    Known,
    /// Its name was never seen.
    New,
    /// The name had another key.
    Changed(PublicKey),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signers {
    #[serde(default)]
    signer: BTreeMap<String, PublicKey>,
}

/// What the store at `home` knows of the signer `name`.
pub(crate) fn acquaintance(
    home: &Path,
    name: &str,
    public: PublicKey,
) -> Result<Acquaintance, StoreError> {
    let signers = record::read::<Signers>(&home.join(SIGNERS))?.unwrap_or_default();
    Ok(match signers.signer.get(name) {
        None => Acquaintance::New,
        Some(known) if *known == public => Acquaintance::Known,
        Some(known) => Acquaintance::Changed(*known),
    })
}

/// Believes the signer `name` or refuses it; [`remember`] keeps it for the next time.
pub(crate) fn believe(
    home: &Path,
    name: &str,
    public: PublicKey,
    trust: &Trust,
) -> Result<Acquaintance, StoreError> {
    let known = acquaintance(home, name, public)?;
    let expected = match (trust.signer, known) {
        (Some(pinned), _) if pinned != public => Some(pinned),
        (None, Acquaintance::Changed(before)) if !trust.accept_new_signer => Some(before),
        _ => None,
    };
    if let Some(expected) = expected {
        let (name, found) = (name.to_owned(), public);
        return Err(StoreError::OtherSigner { name, expected, found });
    }
    Ok(known)
}

/// Remembers the signer `name`, who was believed.
pub(crate) fn remember(home: &Path, name: &str, public: PublicKey) -> Result<(), StoreError> {
    let path = home.join(SIGNERS);
    let mut signers = record::read::<Signers>(&path)?.unwrap_or_default();
    signers.signer.insert(name.to_owned(), public);
    record::write(&path, &signers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_signs_and_is_its_owners_alone() {
        let home = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(home.path()).unwrap();
        let again = SigningKey::load_or_create(home.path()).unwrap();
        assert_eq!(key.public(), again.public());
        let signature = key.sign(b"index");
        assert!(key.public().verifies(b"index", &signature));
        assert!(!key.public().verifies(b"other", &signature));
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        let path = home.path().join(KEY);
        fs::write(&path, format!("{FORM} {} {}", hex(&[1; 32]), hex(&[2; 32]))).unwrap();
        assert!(SigningKey::load_or_create(home.path()).is_err(), "a digit went wrong");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            let error = SigningKey::load_or_create(home.path()).err().unwrap().to_string();
            assert!(error.contains("expected mode 600"), "{error}");
        }
    }

    #[test]
    fn a_signer_is_believed_from_its_first_time_on_and_no_other_under_its_name() {
        let home = tempfile::tempdir().unwrap();
        let [one, two] = [PublicKey([1; 32]), PublicKey([2; 32])];
        let believe = |public, trust: &Trust| believe(home.path(), "office", public, trust);
        let check = |public, trust: &Trust| {
            let known = believe(public, trust)?;
            remember(home.path(), "office", public).map(|()| known)
        };
        let open = Trust::default();
        let pinned = Trust { signer: Some(one), ..Trust::default() };
        assert!(check(two, &pinned).is_err());
        // Being judged alone leaves nothing.
        assert_eq!(believe(two, &open).unwrap(), Acquaintance::New);
        assert_eq!(check(one, &open).unwrap(), Acquaintance::New);
        assert_eq!(check(one, &open).unwrap(), Acquaintance::Known);
        assert!(matches!(check(two, &open), Err(StoreError::OtherSigner { .. })));
        let accepting = Trust { accept_new_signer: true, ..Trust::default() };
        assert_eq!(check(two, &accepting).unwrap(), Acquaintance::Changed(one));
        assert_eq!(check(two, &open).unwrap(), Acquaintance::Known);
    }
}
