//! Keys of contents, a file each in a folder of their own, and what is sealed with them
//! (AES-256-GCM, NIST SP 800-38D).
//!
//! The database never has them, so a copy of it says nothing once the file is destroyed. Each is
//! read anew when it is needed: what another process destroyed is not used here any more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use super::Content;
use crate::LedgerError;
use crate::access::secret::random;
use crate::hex::{from_hex, hex};
use crate::key::{open_to_others, owner_only, sync_folder_of};

/// The first word of a key's file.
const FORM: &str = "freehold-content-key-1";
/// What is longer is something else.
const FILE_BYTES_MAX: u64 = 1024;
/// The first byte of what is sealed, for the form of the rest: the nonce, and what it is sealed to,
/// with the tag behind it.
const SEALED_FORM: u8 = 1;

/// A folder of content keys, which only its owner can look into.
#[derive(Debug, Clone)]
pub struct ContentKeys {
    folder: PathBuf,
}

/// A key that was read.
pub(crate) struct ContentKey(LessSafeKey);

impl ContentKeys {
    /// The keys in `folder`, which is made where there is none.
    ///
    /// # Errors
    /// [`LedgerError::ContentKey`] for a folder that cannot be made, or that others can look into.
    pub fn open(folder: &Path) -> Result<Self, LedgerError> {
        let folder = std::path::absolute(folder).map_err(|error| told(folder, &error))?;
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).map_err(|error| told(&folder, &error))?;
        let metadata = fs::metadata(&folder).map_err(|error| told(&folder, &error))?;
        if let Some(mode) = open_to_others(&metadata) {
            let reason = format!("mode {mode:03o} lets others look into it, expected 700");
            return Err(refused(&folder, reason));
        }
        Ok(Self { folder })
    }

    /// Makes a key, and returns it with its name when it is on disk.
    pub(crate) fn make(&self) -> Result<(String, ContentKey), LedgerError> {
        let (name, secret) = (hex(&random::<16>()?), random::<32>()?);
        let path = self.path(&name);
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            owner_only(&mut options);
            let mut file = options.open(&path)?;
            file.write_all(format!("{FORM} {}\n", hex(&secret)).as_bytes())?;
            file.sync_all()?;
            sync_folder_of(&path)
        };
        write().map_err(|error| told(&path, &error))?;
        Ok((name, ContentKey::of(&secret)))
    }

    /// The key of this name; `None` where it was destroyed, or is another node's.
    pub(crate) fn get(&self, name: &str) -> Result<Option<ContentKey>, LedgerError> {
        // Names come from the database, where anything may stand.
        if from_hex::<16>(name).is_none() {
            return Ok(None);
        }
        let path = self.path(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(told(&path, &error)),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| told(&path, &error))?;
        // Overwritten, and the machine stopped before the file went.
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let expected = || refused(&path, format!("expected {FORM:?} and a number"));
        let text = std::str::from_utf8(&bytes).map_err(|_| expected())?;
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [FORM, secret] = words[..] else { return Err(expected()) };
        let secret: [u8; 32] = from_hex(secret).ok_or_else(expected)?;
        Ok(Some(ContentKey::of(&secret)))
    }

    /// Overwrites a key and removes its file; one that is not there is destroyed already.
    pub(crate) fn destroy(&self, name: &str) -> Result<(), LedgerError> {
        if from_hex::<16>(name).is_none() {
            return Ok(());
        }
        let path = self.path(name);
        let overwrite = || {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            let n_bytes = file.metadata()?.len().min(FILE_BYTES_MAX);
            file.write_all(&vec![0; usize::try_from(n_bytes).unwrap_or(0)])?;
            file.sync_all()
        };
        let destroyed = overwrite().and_then(|()| fs::remove_file(&path));
        match destroyed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(told(&path, &error)),
            _ => sync_folder_of(&path).map_err(|error| told(&path, &error)),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.key"))
    }
}

impl ContentKey {
    fn of(secret: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, secret).expect("AES-256 has keys of 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Seals what a content says, together with what stands beside it in the database: a row whose
    /// person or time was changed cannot be opened. Nonces are random; a key is used for 30 days of
    /// one person's contents, far below the 2^32 of SP 800-38D, section 8.3.
    pub(crate) fn seal(&self, content: &Content) -> Result<Vec<u8>, LedgerError> {
        let nonce = random::<NONCE_LEN>()?;
        let mut body = content.body.as_bytes().to_vec();
        let sealed = self.0.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(beside(content)),
            &mut body,
        );
        sealed.expect("a body of a few MiB is within the cipher's bound");
        Ok([&[SEALED_FORM], &nonce[..], &body[..]].concat())
    }

    /// What was sealed, of which `content` has all but the body; `None` where it was changed.
    pub(crate) fn open(&self, content: Content, sealed: &[u8]) -> Option<Content> {
        let (&SEALED_FORM, rest) = sealed.split_first()? else { return None };
        let (nonce, body) = rest.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut body = body.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(beside(&content)), &mut body).ok()?;
        let body = String::from_utf8(opened.to_vec()).ok()?;
        Some(Content { body, ..content })
    }
}

/// What stands beside a sealed body, each behind its length.
fn beside(content: &Content) -> Vec<u8> {
    let (at, until) = (content.at.to_be_bytes(), content.until.to_be_bytes());
    let mut bytes = Vec::new();
    for field in [content.id.as_bytes(), content.person.as_bytes(), &at, &until] {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

fn told(path: &Path, error: &io::Error) -> LedgerError {
    refused(path, error.to_string())
}

fn refused(path: &Path, reason: String) -> LedgerError {
    LedgerError::ContentKey { path: path.display().to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content() -> Content {
        Content {
            id: "a1".to_owned(),
            person: "zoe".to_owned(),
            at: 5,
            until: 9,
            body: "{\"said\":\"größer\"}".to_owned(),
        }
    }

    fn keys() -> (tempfile::TempDir, ContentKeys) {
        let home = tempfile::tempdir().unwrap();
        let keys = ContentKeys::open(&home.path().join("new/keys")).unwrap();
        (home, keys)
    }

    #[test]
    fn what_is_sealed_is_opened_by_its_key_and_in_its_place_only() {
        let (_home, keys) = keys();
        let ((name, _), (_, other)) = (keys.make().unwrap(), keys.make().unwrap());
        let key = keys.get(&name).unwrap().unwrap();
        let sealed = key.seal(&content()).unwrap();
        assert_ne!(sealed, key.seal(&content()).unwrap(), "a nonce is used once");
        let bare = Content { body: String::new(), ..content() };
        assert_eq!(key.open(bare.clone(), &sealed), Some(content()));
        assert_eq!(other.open(bare.clone(), &sealed), None);
        for moved in [
            Content { id: "a2".to_owned(), ..bare.clone() },
            Content { person: "eve".to_owned(), ..bare.clone() },
            Content { at: 6, ..bare.clone() },
            Content { until: i64::MAX, ..bare },
        ] {
            assert_eq!(key.open(moved, &sealed), None);
        }
    }

    #[test]
    fn a_key_is_its_owners_until_it_is_destroyed() {
        let (home, keys) = keys();
        let (name, _) = keys.make().unwrap();
        let path = home.path().join(format!("new/keys/{name}.key"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
            fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
            let told = ContentKeys::open(home.path()).unwrap_err().to_string();
            assert!(told.contains("mode 755 lets others look into it"), "{told}");
        }
        // Overwritten by whoever was stopped in the middle.
        let n_bytes = fs::metadata(&path).unwrap().len() as usize;
        let text = fs::read(&path).unwrap();
        fs::write(&path, vec![0; n_bytes]).unwrap();
        assert!(keys.get(&name).unwrap().is_none());
        fs::write(&path, &text).unwrap();
        assert!(keys.get(&name).unwrap().is_some());
        // Another name of the same file shows what it had when it went.
        let link = home.path().join("link");
        fs::hard_link(&path, &link).unwrap();
        keys.destroy(&name).unwrap();
        assert_eq!(fs::read(&link).unwrap(), vec![0; n_bytes]);
        assert!(!path.exists() && keys.get(&name).unwrap().is_none());
        keys.destroy(&name).unwrap();
    }

    #[test]
    fn what_is_no_key_is_told_and_names_lead_nowhere_else() {
        let (home, keys) = keys();
        let name = "ab".repeat(16);
        for text in ["", "freehold-content-key-1 00", "\u{ff}", "freehold-content-key-2"] {
            fs::write(home.path().join(format!("new/keys/{name}.key")), text).unwrap();
            match keys.get(&name) {
                Ok(None) => assert_eq!(text, ""),
                Err(error) => assert!(error.to_string().contains("expected \"freehold-content")),
                Ok(Some(_)) => panic!("{text:?} is no key"),
            }
        }
        fs::write(home.path().join("new/secret.key"), "x").unwrap();
        for name in ["../secret", "", "AB", "/etc/passwd", "\0"] {
            assert!(keys.get(name).unwrap().is_none(), "{name}");
            keys.destroy(name).unwrap();
        }
        assert!(home.path().join("new/secret.key").exists());
    }

    proptest! {
        /// What was changed anywhere, or cut, is not opened.
        #[test]
        fn changes_are_found(
            place in 0..100_usize,
            bit in 0..8_u8,
            cut in prop::option::of(0..60_usize),
        ) {
            let key = ContentKey::of(&[7; 32]);
            let mut sealed = key.seal(&content()).unwrap();
            let place = place % sealed.len();
            match cut {
                Some(cut) => sealed.truncate(cut.min(sealed.len() - 1)),
                None => sealed[place] ^= 1 << bit,
            }
            prop_assert_eq!(key.open(Content { body: String::new(), ..content() }, &sealed), None);
        }
    }
}
