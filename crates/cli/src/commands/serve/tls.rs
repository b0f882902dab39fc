//! The files of a certificate and its key: read, and held to who may read them.

use std::path::Path;

use broker::guarded;
use server::{Tls, TlsError};

use super::Serve;

/// Largest file: a chain is a few kilobytes.
pub(super) const N_BYTES_MAX: u64 = 1 << 20;

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
        let chain = guarded::public(certificates, N_BYTES_MAX);
        let chain = chain.map_err(|problem| place("tls-cert", certificates, problem))?;
        let secret = guarded::key(key, N_BYTES_MAX);
        let secret = secret.map_err(|problem| place("tls-key", key, problem))?;
        let tls = Tls::from_pem(&chain, &secret).map_err(|error| match &error {
            TlsError::Certificates(problem) => place("tls-cert", certificates, problem.clone()),
            _ => place("tls-key", key, error.to_string()),
        });
        tls.map(Some)
    }
}
