//! The files of a certificate and its key: read, and held to who may read them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use server::{Tls, TlsError};

use super::Serve;

/// Largest file: a chain is a few kilobytes.
const N_BYTES_MAX: u64 = 1 << 20;

impl Serve {
    /// The certificate and its key, if the server is to have one.
    ///
    /// # Errors
    /// Which setting and which file is wrong, and what was expected. A key that everybody on this
    /// machine can read is refused: it protects nothing.
    pub(super) fn tls(&self) -> Result<Option<Tls>, String> {
        let (Some(certificates), Some(key)) = (&self.tls_cert, &self.tls_key) else {
            return Ok(None);
        };
        let place = |name: &str, path: &Path, problem: String| {
            format!("{}: {}: {problem}", self.settings.place(name), path.display())
        };
        let chain = read(certificates, |_| Ok(()));
        let chain = chain.map_err(|problem| place("tls-cert", certificates, problem))?;
        let secret = read(key, check_readers);
        let secret = secret.map_err(|problem| place("tls-key", key, problem))?;
        let tls = Tls::from_pem(&chain, &secret).map_err(|error| match &error {
            TlsError::Certificates(problem) => place("tls-cert", certificates, problem.clone()),
            _ => place("tls-key", key, error.to_string()),
        });
        tls.map(Some)
    }
}

/// Reads the very file that `check` has passed.
pub(super) fn read(
    path: &Path,
    check: impl FnOnce(&File) -> Result<(), String>,
) -> Result<Vec<u8>, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    check(&file)?;
    let mut bytes = Vec::new();
    file.take(N_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > N_BYTES_MAX {
        return Err(format!("more than {N_BYTES_MAX} bytes, expected at most that"));
    }
    Ok(bytes)
}

/// The owner may read it, and a group made for that.
#[cfg(unix)]
pub(super) fn check_readers(file: &File) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let mode = metadata.permissions().mode() & 0o777;
    // A pipe or a device is nobody's file.
    if metadata.is_file() && mode & 0o007 != 0 {
        return Err(format!(
            "mode {mode:04o}: everybody on this machine can read the key or change it, expected \
             0600 or 0640 (chmod o= FILE)"
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn check_readers(_file: &File) -> Result<(), String> {
    Ok(())
}
