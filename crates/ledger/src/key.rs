//! The key of a node: with it the heads of the chain are signed (Ed25519, RFC 8032).

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::LedgerError;
use crate::hex::{from_hex, hex};

/// The first word of a key's file.
const FORM: &str = "freehold-node-key-1";

/// A key's file is one line; what is longer is something else.
const FILE_BYTES_MAX: u64 = 1024;

/// An Ed25519 key pair, kept as a file that only its owner may read.
#[derive(Clone)]
pub struct NodeKey {
    pair: Arc<Ed25519KeyPair>,
    public: [u8; 32],
}

impl NodeKey {
    /// Reads the key at `path`, or makes one and writes it there with mode 0600.
    ///
    /// # Errors
    /// [`LedgerError::Key`] for a file that cannot be read or written, that others may read, or
    /// that holds no key.
    pub fn load_or_create(path: &Path) -> Result<Self, LedgerError> {
        if let Some(key) = Self::load(path)? {
            return Ok(key);
        }
        let told = |error: io::Error| refused(path, error.to_string());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(told)?;
        }
        let random = SystemRandom::new();
        let (mut seed, mut suffix) = ([0; 32], [0; 8]);
        let filled = random.fill(&mut seed).and_then(|()| random.fill(&mut suffix));
        filled.map_err(|_| refused(path, "the system gives no random bytes".to_owned()))?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed);
        let pair = pair.map_err(|error| refused(path, error.to_string()))?;
        let text = format!("{FORM} {} {}\n", hex(&seed), hex(pair.public_key().as_ref()));
        // Whole under another name first: who finds the key finds all of it. A link, unlike a
        // rename, does not replace the key that another process made meanwhile.
        let part = path.with_extension(format!("part-{}", hex(&suffix)));
        let written = write_new(&part, text.as_bytes()).and_then(|()| fs::hard_link(&part, path));
        let removed = fs::remove_file(&part);
        match written {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(told(error)),
            _ => {
                removed.and_then(|()| sync_folder_of(path)).map_err(told)?;
                let missing = || refused(path, "it vanished when it had been made".to_owned());
                Self::load(path)?.ok_or_else(missing)
            }
        }
    }

    /// Reads the key at `path`; `None` where there is no file.
    ///
    /// # Errors
    /// As [`load_or_create`](Self::load_or_create).
    pub fn load(path: &Path) -> Result<Option<Self>, LedgerError> {
        let told = |error: io::Error| refused(path, error.to_string());
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(told(error)),
        };
        if !metadata.is_file() {
            return Err(refused(path, "not a file".to_owned()));
        }
        if let Some(mode) = open_to_others(&metadata) {
            let reason = format!("mode {mode:03o} lets others read it, expected 600");
            return Err(refused(path, reason));
        }
        let mut text = String::new();
        let file = File::open(path).map_err(told)?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(told)?;
        let key = parse(&text);
        key.map(Some).ok_or_else(|| refused(path, format!("expected {FORM:?} and two numbers")))
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        self.public
    }

    /// The signature of `bytes`.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let signature = self.pair.sign(bytes);
        signature.as_ref().try_into().expect("RFC 8032: a signature has 64 bytes")
    }

    /// Whether `signature` is of `bytes`, by the holder of the key pair of `public`.
    pub fn verify(public: &[u8; 32], bytes: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, public).verify(bytes, signature).is_ok()
    }
}

/// Without the secret.
impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({})", hex(&self.public))
    }
}

fn refused(path: &Path, reason: String) -> LedgerError {
    LedgerError::Key { path: path.display().to_string(), reason }
}

/// The public half stands in the file too, so that a digit that went wrong makes no other key.
fn parse(text: &str) -> Option<NodeKey> {
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let [FORM, seed, public] = words[..] else { return None };
    let (seed, public) = (from_hex::<32>(seed)?, from_hex::<32>(public)?);
    let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public).ok()?;
    Some(NodeKey { pair: Arc::new(pair), public })
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    owner_only(&mut options);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes a new file's mode 0600, where there are modes.
pub(crate) fn owner_only(options: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    #[cfg(not(unix))]
    let _ = options;
}

/// The mode of what others may read or look into.
#[cfg(unix)]
pub(crate) fn open_to_others(metadata: &fs::Metadata) -> Option<u32> {
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
pub(crate) fn open_to_others(_metadata: &fs::Metadata) -> Option<u32> {
    None
}

/// Makes a new name survive a loss of power.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    // Windows cannot open a folder as a file, and its file systems journal names themselves.
    if cfg!(unix) { File::open(folder.unwrap_or(Path::new(".")))?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_signs() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("new/node.key");
        assert!(NodeKey::load(&path).unwrap().is_none());
        let keys: Vec<NodeKey> = std::thread::scope(|scope| {
            let make = || scope.spawn(|| NodeKey::load_or_create(&path).unwrap());
            let makers: Vec<_> = (0..8).map(|_| make()).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        let key = &keys[0];
        assert!(keys.iter().all(|other| other.public() == key.public()));
        assert_eq!(fs::read_dir(home.path().join("new")).unwrap().count(), 1, "parts are left");
        assert_eq!(open_to_others(&fs::metadata(&path).unwrap()), None);

        let signature = key.sign(b"head");
        assert!(NodeKey::verify(&key.public(), b"head", &signature));
        assert!(!NodeKey::verify(&key.public(), b"tail", &signature));
        let mut other = signature;
        other[3] ^= 1;
        assert!(!NodeKey::verify(&key.public(), b"head", &other));
        assert!(!NodeKey::verify(&[0xff; 32], b"head", &signature));
        let secret = fs::read_to_string(&path).unwrap();
        let secret = secret.split(' ').nth(1).unwrap();
        assert!(!format!("{key:?}").contains(secret));
    }

    #[track_caller]
    fn check(bytes: &[u8], mode: u32, expected: &str) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("node.key");
        fs::write(&path, bytes).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let told = NodeKey::load_or_create(&path).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "a file that is no key was replaced");
    }

    #[test]
    fn what_is_no_key_is_refused_and_kept() {
        let no_key = "expected \"freehold-node-key-1\" and two numbers";
        check(b"", 0o600, no_key);
        check(&[b'x'; 5000], 0o600, no_key);
        check(b"\xff\xfe", 0o600, "UTF-8");
        // A seed whose public key is another one: a digit went wrong.
        let [seed, public] = [hex(&[1; 32]), hex(&[2; 32])];
        check(format!("{FORM} {seed} {public}\n").as_bytes(), 0o600, no_key);
        #[cfg(unix)]
        check(b"anything", 0o640, "mode 640 lets others read it, expected 600");
        let folder = tempfile::tempdir().unwrap();
        let told = NodeKey::load_or_create(folder.path()).unwrap_err().to_string();
        assert!(told.contains("not a file"), "{told}");
    }
}
