//! The keys with which an issuer signs, as it publishes them (JSON Web Key Sets, RFC 7517).

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// Largest set, and most keys of one: issuers have a few.
pub(super) const SET_BYTES_MAX: usize = 256 << 10;
const KEYS_MAX: usize = 64;
/// Longest name of a key.
const KID_BYTES_MAX: usize = 1024;

/// How a token is signed: with a private key. "none" and keys that both sides have are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(super) const NAMES: [(&str, Self); 3] =
        [("RS256", Self::Rs256), ("ES256", Self::Es256), ("EdDSA", Self::EdDsa)];

    pub(super) fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(of, _)| *of == name).map(|(_, algorithm)| *algorithm)
    }
}

/// The keys that can be used here; others are passed over.
#[derive(Debug, Default)]
pub(super) struct Jwks {
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    kid: Option<String>,
    of: Material,
}

#[derive(Debug)]
enum Material {
    /// Modulus and exponent, big-endian.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// A point of P-256, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Jwks {
    /// Reads a set.
    ///
    /// # Errors
    /// What is wrong with it as a whole. A key that is of no use here is no error.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > SET_BYTES_MAX {
            return Err(format!("{} bytes, expected {SET_BYTES_MAX} at most", bytes.len()));
        }
        let set: Set = serde_json::from_slice(bytes)
            .map_err(|error| format!("no set of keys: {}", place_of(&error)))?;
        if set.keys.len() > KEYS_MAX {
            return Err(format!("{} keys, expected {KEYS_MAX} at most", set.keys.len()));
        }
        Ok(Self { keys: set.keys.into_iter().filter_map(Key::of).collect() })
    }

    /// Whether one of the keys has signed this, the one that is named where one is; `None`: none
    /// of them is of that name and algorithm.
    pub(super) fn verify(
        &self,
        (algorithm, kid): (Algorithm, Option<&str>),
        message: &[u8],
        signature: &[u8],
    ) -> Option<bool> {
        let is_meant = |key: &&Key| {
            key.of.algorithm() == algorithm && (kid.is_none() || key.kid.as_deref() == kid)
        };
        let mut meant = self.keys.iter().filter(is_meant).peekable();
        meant.peek()?;
        Some(meant.any(|key| key.of.has_signed(message, signature)))
    }
}

impl Key {
    /// `None`: one that signs nothing, or as nobody here can verify it.
    fn of(listed: Listed) -> Option<Self> {
        let bytes = |text: Option<&String>| BASE64_URL_SAFE_NO_PAD.decode(text?).ok();
        if listed.purpose.as_deref().is_some_and(|purpose| purpose != "sig")
            || listed.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX)
        {
            return None;
        }
        let of = match (listed.kty.as_str(), listed.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(listed.n.as_ref())?, bytes(listed.e.as_ref())?);
                let zeros = n.iter().take_while(|byte| **byte == 0).count();
                Material::Rsa { n: n[zeros..].to_vec(), e }
            }
            ("EC", Some("P-256")) => {
                let (x, y) = (bytes(listed.x.as_ref())?, bytes(listed.y.as_ref())?);
                (x.len() == 32 && y.len() == 32).then_some(())?;
                Material::P256([&[4], &x[..], &y[..]].concat())
            }
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes(listed.x.as_ref())?),
            _ => return None,
        };
        let named = listed.alg.as_deref().map(Algorithm::of_name);
        if named.is_some_and(|named| named != Some(of.algorithm())) {
            return None;
        }
        Some(Self { kid: listed.kid, of })
    }
}

impl Material {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rsa { .. } => Algorithm::Rs256,
            Self::P256(_) => Algorithm::Es256,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match self {
            Self::Rsa { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Self::Ed25519(point) => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

/// Where JSON is wrong; never what stands there, which may be a token.
pub(super) fn place_of(error: &serde_json::Error) -> String {
    format!("line {}, column {}: expected other JSON", error.line(), error.column())
}
