//! Signatures of cosign's (`specs/SIGNATURE_SPEC.md` of <https://github.com/sigstore/cosign>,
//! "simple signing"): whether a manifest of a registry is one that a publisher whose key the owner
//! knows has signed.
//!
//! What is signed is a short text that names the manifest by its digest, and that all its layers
//! by theirs. Who signed by certificate or by a login is to be asked at authorities of the network,
//! which this program does not do.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;

use crate::model_signing::ModelKey;

/// The media type of a layer that is a text that is signed.
pub(crate) const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// The annotation of that layer that has the signature, as base64.
pub(crate) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// Longest such text; cosign's have some 250 bytes, and what the publisher adds.
pub(crate) const PAYLOAD_BYTES_MAX: u64 = 64 << 10;

/// Most signatures of one manifest that are looked at: each costs a request.
pub(crate) const N_SIGNATURES_MAX: usize = 16;

const KIND: &str = "cosign container image signature";

/// A signature as a registry has it.
#[derive(Debug, Clone)]
pub(crate) struct Attached {
    /// What is signed.
    pub(crate) payload: Vec<u8>,
    /// Base64.
    pub(crate) signature: String,
}

/// The tag under which a registry has the signatures of the manifest with this digest,
/// `sha256:HEX`.
pub(crate) fn tag(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

/// The publisher's `identity` is beside these: what it calls the repository, which may be a mirror.
#[derive(Deserialize)]
struct Critical {
    #[serde(rename = "type")]
    kind: String,
    image: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// Which of `keys` signed the manifest with this digest, as its index; else why none did.
pub(crate) fn verify(
    attached: &Attached,
    digest: &str,
    keys: &[ModelKey],
) -> Result<usize, String> {
    let signature = BASE64_STANDARD.decode(attached.signature.trim());
    let signature = signature.map_err(|_| "a signature that is no base64")?;
    let key_idx = keys.iter().position(|key| key.verifies(&attached.payload, &signature));
    let key_idx = key_idx.ok_or_else(|| {
        let known = keys.iter().map(ModelKey::to_string).collect::<Vec<_>>().join(" or ");
        format!("it is not what the key {known} signed")
    })?;
    let payload: Payload = serde_json::from_slice(&attached.payload)
        .map_err(|error| format!("expected a text that names a manifest: {error}"))?;
    let Critical { kind, image } = payload.critical;
    for (what, found, expected) in
        [("type", &*kind, KIND), ("docker-manifest-digest", &*image.digest, digest)]
    {
        if found != expected {
            let found: String = found.chars().take(100).collect();
            return Err(format!("{what} {found:?}, expected {expected:?}"));
        }
    }
    Ok(key_idx)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ring::rand::SystemRandom;
    use ring::signature::{Ed25519KeyPair, KeyPair as _};

    const DIGEST: &str = "sha256:2b2eb6f423932d62cafb015658d50a64d33e96e66fc9ec182172df817971e6f4";

    fn payload(kind: &str, digest: &str) -> String {
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"r/m"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"{kind}"}},"optional":null}}"#
        )
    }

    fn pair() -> (Ed25519KeyPair, ModelKey) {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let head = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
        let key = BASE64_STANDARD.encode([&head[..], pair.public_key().as_ref()].concat());
        (pair, ModelKey::parse(&key).unwrap())
    }

    #[test]
    fn a_signature_counts_for_the_manifest_that_it_names() {
        let ((pair, key), (_, other)) = (pair(), pair());
        let signed = |payload: &str| Attached {
            payload: payload.as_bytes().to_vec(),
            signature: BASE64_STANDARD.encode(pair.sign(payload.as_bytes()).as_ref()),
        };
        let good = signed(&payload(KIND, DIGEST));
        assert_eq!(verify(&good, DIGEST, &[other.clone(), key.clone()]), Ok(1));
        let keys = [key];
        for (attached, words) in [
            (signed(&payload(KIND, &DIGEST.replace("2b2e", "2b2f"))), "docker-manifest-digest"),
            (signed(&payload("atomic container signature", DIGEST)), "type \"atomic"),
            (signed("{}"), "expected a text that names a manifest"),
            (Attached { signature: "*".to_owned(), ..good.clone() }, "no base64"),
            (Attached { payload: b"{}".to_vec(), ..good.clone() }, "not what the key"),
        ] {
            let told = verify(&attached, DIGEST, &keys).unwrap_err();
            assert!(told.contains(words), "{told}");
        }
        let told = verify(&good, DIGEST, &[other]).unwrap_err();
        assert!(told.contains("not what the key"), "{told}");
    }

    proptest! {
        #[test]
        fn no_text_harms(payload in ".{0,40}", signature in ".{0,40}") {
            let attached = Attached { payload: payload.into_bytes(), signature };
            let (_, key) = pair();
            prop_assert!(verify(&attached, DIGEST, &[key]).is_err());
        }
    }
}
