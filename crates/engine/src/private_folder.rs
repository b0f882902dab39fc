//! A folder of contents that outlast the process and are its user's alone: locked by one process at
//! a time, with a secret that makes names which nobody can guess.

use crate::error::EngineError;
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The file whose bytes make names that nobody can guess without it.
const SECRET: &str = "secret";
pub(crate) const SECRET_LEN: usize = 32;
/// The file that one process at a time has locked.
const LOCK: &str = "lock";

/// Such a folder, which no other process can open as long as this is there.
#[derive(Debug)]
pub struct PrivateFolder {
    path: PathBuf,
    secret: Vec<u8>,
    _lock: File,
}

impl PrivateFolder {
    /// Opens the folder at `path`, and creates it where there is none.
    ///
    /// # Errors
    /// [`EngineError::PrivateFolder`]: it cannot be made or read, it or its secret is not this
    /// user's alone, or another process uses it.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        create_folder(path).map_err(failed(path))?;
        ensure_private(path, &fs::metadata(path).map_err(failed(path))?)?;
        let lock = take_lock(&path.join(LOCK))?;
        let secret = read_secret(&path.join(SECRET))?;
        Ok(Self { path: path.to_owned(), secret, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of whoever is known by `name`: the same after a restart, as long as the folder
    /// is, and not to be guessed without it.
    pub fn number(&self, name: &[u8]) -> u64 {
        let hash = Sha256::new_with_prefix(&self.secret).chain_update(name).finalize();
        let (number, _) = hash.split_first_chunk().expect("the hash has 32 bytes");
        u64::from_le_bytes(*number)
    }

    /// Creates a file, or empties it, that only its owner may read; a link is refused.
    ///
    /// # Errors
    /// The system's.
    pub fn create(path: &Path) -> io::Result<File> {
        create(path)
    }

    /// [`SECRET_LEN`] bytes.
    pub(crate) fn secret(&self) -> &[u8] {
        &self.secret
    }
}

/// Creates a file, or empties it, that only its owner may read.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    options().write(true).create(true).truncate(true).open(path)
}

/// Opens no link, and what it creates only its owner may read.
pub(crate) fn options() -> OpenOptions {
    let mut options = File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    options
}

fn create_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// Refuses what is not this user's alone.
fn ensure_private(path: &Path, metadata: &Metadata) -> Result<(), EngineError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (owner, user) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != user {
            return Err(problem(path, format!("owned by user {owner}, expected {user}")));
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            let expected = mode & 0o700;
            return Err(problem(path, format!("mode {mode:03o}, expected {expected:03o}")));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, metadata);
    Ok(())
}

fn take_lock(path: &Path) -> Result<File, EngineError> {
    let mut options = options();
    let lock = options.write(true).create(true).open(path).map_err(failed(path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(problem(path, "another process uses the folder".to_owned()))
        }
        Err(TryLockError::Error(error)) => Err(failed(path)(error)),
    }
}

/// Reads the folder's secret, and makes one where there is none. The folder is locked.
fn read_secret(path: &Path) -> Result<Vec<u8>, EngineError> {
    let mut options = options();
    let file = match options.read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            write_secret(path).and_then(|()| options.open(path))
        }
        opened => opened,
    };
    let file = file.map_err(failed(path))?;
    let metadata = file.metadata().map_err(failed(path))?;
    ensure_private(path, &metadata)?;
    if metadata.len() != SECRET_LEN as u64 {
        let n_bytes = metadata.len();
        return Err(problem(path, format!("{n_bytes} bytes, expected {SECRET_LEN}")));
    }
    let mut secret = vec![0; SECRET_LEN];
    (&file).read_exact(&mut secret).map_err(failed(path))?;
    Ok(secret)
}

/// Writes a new secret beside its name and gives it the name when it is complete: with half of one
/// the folder could not be opened again.
fn write_secret(path: &Path) -> io::Result<()> {
    let partial = path.with_extension("partial");
    // Whoever made what is there may have let others read it.
    let _ = fs::remove_file(&partial);
    let mut file = create(&partial)?;
    file.write_all(&new_secret())?;
    file.sync_all()?;
    fs::rename(&partial, path)
}

/// Of the system's random source, from which the standard library keys its hash maps.
fn new_secret() -> Vec<u8> {
    let mut hash = Sha256::new();
    for _ in 0..SECRET_LEN {
        hash.update(RandomState::new().build_hasher().finish().to_le_bytes());
    }
    hash.finalize().to_vec()
}

fn problem(path: &Path, problem: String) -> EngineError {
    EngineError::PrivateFolder { path: path.to_owned(), problem }
}

pub(crate) fn failed(path: &Path) -> impl Fn(io::Error) -> EngineError {
    move |error| problem(path, error.to_string())
}

/// A folder that is its owner's alone.
#[cfg(test)]
pub(crate) fn temporary_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    #[cfg(unix)]
    {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(folder.path(), mode).expect("the folder is ours");
    }
    folder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_was_not_finished_is_made_anew() {
        let folder = temporary_folder();
        let partial = folder.path().join("secret.partial");
        fs::write(&partial, "sec").unwrap();
        drop(PrivateFolder::open(folder.path()).unwrap());
        assert!(!partial.exists());
        assert_eq!(fs::read(folder.path().join("secret")).unwrap().len(), SECRET_LEN);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = temporary_folder();
        let precious = folder.path().join("precious");
        fs::write(&precious, [7; SECRET_LEN]).unwrap();
        for name in [SECRET, LOCK] {
            let inside = folder.path().join(format!("folder of {name}"));
            create_folder(&inside).unwrap();
            std::os::unix::fs::symlink(&precious, inside.join(name)).unwrap();
            let error = PrivateFolder::open(&inside).unwrap_err().to_string();
            assert!(error.contains(&inside.join(name).display().to_string()), "{error}");
            assert_eq!(fs::read(&precious).unwrap(), [7; SECRET_LEN]);
        }
    }

    #[test]
    fn a_folder_is_used_by_one_process_at_a_time() {
        let folder = temporary_folder();
        let _folder = PrivateFolder::open(folder.path()).unwrap();
        let error = PrivateFolder::open(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("lock: another process uses the folder"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn folder_and_secret_are_their_owners_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = temporary_folder();
        let inside = folder.path().join("private");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        drop(PrivateFolder::open(&inside).unwrap());
        assert_eq!((mode(&inside), mode(&inside.join("secret"))), (0o700, 0o600));
        let check = |path: &Path, mode: u32, expected: &str| {
            let before = fs::metadata(path).unwrap().permissions();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
            let error = PrivateFolder::open(&inside).unwrap_err().to_string();
            assert_eq!(error, format!("{}: {expected}", path.display()));
            fs::set_permissions(path, before).unwrap();
        };
        check(&inside, 0o755, "mode 755, expected 700");
        check(&inside.join("secret"), 0o640, "mode 640, expected 600");
        fs::write(inside.join("secret"), "short").unwrap();
        let error = PrivateFolder::open(&inside).unwrap_err().to_string();
        assert!(error.ends_with("secret: 5 bytes, expected 32"), "{error}");
    }
}
