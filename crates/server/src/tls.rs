//! Certificates: what they are made of, and the handshake of a connection.
//!
//! Where the files lie and who may read them this crate does not know.

use crate::app::App;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What is spoken inside; clients that offer only other protocols are refused.
const ALPN: &[u8] = b"http/1.1";

/// Most certificates of a chain; those in use have three.
const N_CERTIFICATES: usize = 16;

/// A chain of certificates and the key of the first, ready to serve TLS 1.2 and 1.3.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    chain: Vec<CertificateDer<'static>>,
}

/// What is wrong with a certificate or its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// With the text that holds the certificates.
    #[error("{0}")]
    Certificates(String),
    /// With the text that holds the key, or the key does not belong to the certificate.
    #[error("{0}")]
    Key(String),
}

impl Tls {
    /// Reads a chain, the server's own certificate first, and its key, both in PEM.
    ///
    /// # Errors
    /// Which of both is wrong, where, and what was expected. No byte of a key is told.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain = chain(certificates)?;
        let key = private_key(key)?;
        let wrong = |error: rustls::Error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let problem = "it is not the key of the certificate, expected the one that is";
                TlsError::Key(problem.to_owned())
            }
            rustls::Error::InvalidCertificate(error) => {
                let place = "certificate 1";
                TlsError::Certificates(format!("{place}: {error:?}, expected one in X.509 form"))
            }
            error => TlsError::Key(format!("{error}, expected an RSA, ECDSA or Ed25519 key")),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain.clone(), key))
            .map_err(wrong)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), chain })
    }

    /// Agrees with a client on keys; `None` where that fails.
    pub(crate) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        self,
        stream: S,
    ) -> Option<TlsStream<S>> {
        let accepted = TlsAcceptor::from(self.config).accept(stream).await;
        accepted.inspect_err(|error| tracing::debug!(%error, "TLS handshake failed")).ok()
    }

    /// Whether both show clients the same certificates.
    pub fn is_same(&self, other: &Self) -> bool {
        self.chain == other.chain
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("n_certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem: String| Err(TlsError::Certificates(problem));
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let number = chain.len() + 1;
        match certificate {
            Ok(_) if number > N_CERTIFICATES => {
                return wrong(format!("more than {N_CERTIFICATES} certificates, expected a chain"));
            }
            Ok(certificate) => chain.push(certificate),
            Err(error) => return wrong(format!("certificate {number}: {}", pem_problem(&error))),
        }
    }
    if chain.is_empty() {
        let expected = "expected PEM with -----BEGIN CERTIFICATE-----";
        return wrong(format!("no certificate found, {expected}"));
    }
    Ok(chain)
}

fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let is_encrypted = text.windows(b"ENCRYPTED".len()).any(|part| part == b"ENCRYPTED");
    PrivateKeyDer::from_pem_slice(text).map_err(|error| {
        TlsError::Key(match error {
            _ if is_encrypted => {
                "the key is encrypted, expected one without a passphrase".to_owned()
            }
            pem::Error::NoItemsFound => {
                "no private key found, expected PEM with -----BEGIN PRIVATE KEY-----".to_owned()
            }
            error => pem_problem(&error),
        })
    })
}

/// What is wrong with a text in PEM, without a byte of it.
fn pem_problem(error: &pem::Error) -> String {
    let problem = match error {
        pem::Error::MissingSectionEnd { .. } => "it ends before its -----END line",
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line that is none",
        pem::Error::Base64Decode(_) => "what stands between its lines is not base64",
        _ => "it cannot be read",
    };
    format!("{problem}, expected PEM")
}

impl App {
    /// Agrees with a client on keys, in its turn and within the bound on both together. `None`
    /// where that fails: the client's matter, whose connection is closed.
    ///
    /// A client that says nothing holds a turn, not a thread, and no longer than the bound.
    pub(crate) async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        tls: Tls,
        stream: S,
    ) -> Option<TlsStream<S>> {
        let handshake = async {
            let _turn = self.handshakes.acquire().await.ok()?;
            tls.accept(stream).await
        };
        let limit = self.limits.get().handshake_timeout;
        let ended = tokio::time::timeout(limit, handshake).await;
        ended.inspect_err(|_| tracing::debug!("TLS handshake took too long")).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &[u8] = include_bytes!("../tests/http/tls/first.crt");
    const KEY: &[u8] = include_bytes!("../tests/http/tls/first.key");
    const OTHER_KEY: &[u8] = include_bytes!("../tests/http/tls/second.key");

    #[test]
    fn what_is_wrong_is_told_without_a_byte_of_the_key() {
        Tls::from_pem(CERTIFICATE, KEY).unwrap();
        let cut = |text: &'static [u8]| &text[..text.len() / 2];
        let check = |certificate: &[u8], key: &[u8], expected: Result<&str, &str>| {
            let error = Tls::from_pem(certificate, key).unwrap_err();
            let found = match &error {
                TlsError::Certificates(problem) => Ok(&**problem),
                TlsError::Key(problem) => Err(&**problem),
            };
            assert_eq!(found, expected);
        };
        let none = "no certificate found, expected PEM with -----BEGIN CERTIFICATE-----";
        check(b"", KEY, Ok(none));
        check(KEY, KEY, Ok(none));
        check(
            cut(CERTIFICATE),
            KEY,
            Ok("certificate 1: it ends before its -----END line, expected PEM"),
        );
        let two = [CERTIFICATE, cut(CERTIFICATE)].concat();
        check(&two, KEY, Ok("certificate 2: it ends before its -----END line, expected PEM"));
        let many = CERTIFICATE.repeat(N_CERTIFICATES + 1);
        check(&many, KEY, Ok("more than 16 certificates, expected a chain"));
        let none = "no private key found, expected PEM with -----BEGIN PRIVATE KEY-----";
        check(CERTIFICATE, CERTIFICATE, Err(none));
        check(CERTIFICATE, cut(KEY), Err("it ends before its -----END line, expected PEM"));
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED \
                          PRIVATE KEY-----\n";
        check(
            CERTIFICATE,
            encrypted,
            Err("the key is encrypted, expected one without a passphrase"),
        );
        let other = "it is not the key of the certificate, expected the one that is";
        check(CERTIFICATE, OTHER_KEY, Err(other));
    }
}
