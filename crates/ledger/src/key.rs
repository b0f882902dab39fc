//! The key of a node: with it the heads of the chain are signed (Ed25519, RFC 8032).

use std::path::Path;

use crate::LedgerError;

/// An Ed25519 key pair, kept as a file that only its owner may read.
#[derive(Debug, Clone)]
pub struct NodeKey;

impl NodeKey {
    /// Reads the key at `path`, or makes one and writes it there with mode 0600.
    ///
    /// # Errors
    /// A file that cannot be read or written, that others may read, or that holds no key.
    pub fn load_or_create(_path: &Path) -> Result<Self, LedgerError> {
        todo!()
    }

    /// The public key.
    pub fn public(&self) -> [u8; 32] {
        todo!()
    }

    /// The signature of `bytes`.
    pub fn sign(&self, _bytes: &[u8]) -> [u8; 64] {
        todo!()
    }

    /// Whether `signature` is of `bytes`, by the holder of the key pair of `public`.
    pub fn verify(_public: &[u8; 32], _bytes: &[u8], _signature: &[u8; 64]) -> bool {
        todo!()
    }
}
