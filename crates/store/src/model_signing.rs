//! Signatures of the OpenSSF's model signing (<https://github.com/sigstore/model-transparency>,
//! version 1.0): whether a file is one that a publisher whose key the owner knows has signed.
//!
//! `model.sig` lists all files of a model with their hashes. It is a bundle of sigstore's (JSON,
//! version 0.3) around a DSSE envelope around an in-toto statement, here with a plain public key:
//! who signed by certificate or by a login is to be asked at authorities of the network, which this
//! program does not do.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde::Deserialize;

use crate::hash::{Hasher, Sha256};

/// The signature's file, beside those of the model.
pub(crate) const FILE: &str = "model.sig";

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const PAYLOAD: &str = "application/vnd.in-toto+json";
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// Digits by which a key is told.
const N_DIGITS_TOLD: usize = 16;

/// How public keys of the kinds that are read begin as a `SubjectPublicKeyInfo` (RFC 5280; RFC 8410
/// for Ed25519, RFC 5480 for the curves, whose points are not compressed), and the length of what
/// follows.
static KINDS: [(&[u8], usize, &dyn VerificationAlgorithm); 3] = [
    (b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", 32, &ED25519),
    (
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
          \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00",
        65,
        &ECDSA_P256_SHA256_ASN1,
    ),
    (
        b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
          \x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00",
        97,
        &ECDSA_P384_SHA384_ASN1,
    ),
];

/// A publisher's public key.
#[derive(Clone)]
pub(crate) struct ModelKey {
    algorithm: &'static dyn VerificationAlgorithm,
    public: Vec<u8>,
    /// SHA-256 of the key as PEM, which is what a bundle calls it by.
    hint: Sha256,
}

impl ModelKey {
    /// Reads the base64 between the lines of a PEM file, without breaks.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = BASE64_STANDARD.decode(text.trim_end()).ok()?;
        let kind = KINDS.iter().find(|(head, n_bytes, _)| {
            bytes.starts_with(head) && bytes.len() == head.len() + n_bytes
        });
        let (head, _, algorithm) = kind?;
        let mut hasher = Hasher::default();
        hasher.update(b"-----BEGIN PUBLIC KEY-----\n");
        for line in text.trim_end().as_bytes().chunks(64) {
            hasher.update(line);
            hasher.update(b"\n");
        }
        hasher.update(b"-----END PUBLIC KEY-----\n");
        let public = bytes[head.len()..].to_vec();
        Some(Self { algorithm: *algorithm, public, hint: hasher.finish() })
    }

    /// Whether `signature` is of `message`, by the holder of this key.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm, &self.public).verify(message, signature).is_ok()
    }
}

impl PartialEq for ModelKey {
    fn eq(&self, other: &Self) -> bool {
        self.hint == other.hint
    }
}

impl fmt::Display for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hint.to_string()[..N_DIGITS_TOLD])
    }
}

impl fmt::Debug for ModelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    #[serde(default)]
    public_key: Option<Hint>,
}

#[derive(Deserialize)]
struct Hint {
    #[serde(default)]
    hint: Option<String>,
}

/// An envelope of DSSE's (<https://github.com/secure-systems-lab/dsse>, version 1.0).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
struct Signature {
    sig: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    ty: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: Digest,
}

#[derive(Deserialize)]
struct Digest {
    sha256: Sha256,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Serialization {
    method: String,
}

/// A file of the model. Its hash says which; its name is the publisher's.
#[derive(Deserialize)]
struct Resource {
    algorithm: String,
    digest: Sha256,
}

/// Which of `keys` signed all `files`, by name and hash, as its index; else why none did. `text` is
/// what stands in [`FILE`].
pub(crate) fn verify(
    text: &str,
    files: &[(&str, Sha256)],
    keys: &[ModelKey],
) -> Result<usize, String> {
    let bundle: Bundle = serde_json::from_str(text)
        .map_err(|error| format!("expected a bundle with a signature of a model: {error}"))?;
    expect("mediaType", &bundle.media_type, BUNDLE)?;
    let Envelope { payload, payload_type, signatures } = &bundle.dsse_envelope;
    expect("payloadType", payload_type, PAYLOAD)?;
    let [Signature { sig }] = signatures.as_slice() else {
        return Err(format!("{} signatures, expected one", signatures.len()));
    };
    let bytes = |what: &str, text: &str| {
        let decoded = BASE64_STANDARD.decode(text.trim_end());
        decoded.map_err(|_| format!("{what}: expected base64"))
    };
    let (payload, signature) = (bytes("payload", payload)?, bytes("sig", sig)?);
    let message = encoded(&payload);
    let key_idx = keys.iter().position(|key| key.verifies(&message, &signature));
    let key_idx = key_idx.ok_or_else(|| {
        let known = keys.iter().map(ModelKey::to_string).collect::<Vec<_>>().join(" or ");
        match bundle.verification_material.public_key.and_then(|key| key.hint) {
            Some(hint) if !keys.iter().any(|key| key.hint.to_string() == hint) => {
                let hint: String = hint.chars().take(N_DIGITS_TOLD).collect();
                format!("signed with the key {hint:?}, expected {known}")
            }
            _ => format!("it is not what the key {known} signed"),
        }
    })?;
    let listed = listed(&payload)?;
    match files.iter().find(|(_, sha256)| !listed.contains(sha256)) {
        None => Ok(key_idx),
        Some((name, sha256)) => {
            Err(format!("it lists no file of {name}'s bytes, expected one with sha256 {sha256}"))
        }
    }
}

/// What is signed of a payload (DSSE 1.0, PAE).
fn encoded(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// The hashes of the files that a statement, whose signature counts, is about.
fn listed(payload: &[u8]) -> Result<Vec<Sha256>, String> {
    let statement: Statement = serde_json::from_slice(payload)
        .map_err(|error| format!("expected a statement about a model: {error}"))?;
    expect("_type", &statement.ty, STATEMENT)?;
    expect("predicateType", &statement.predicate_type, PREDICATE)?;
    expect("method", &statement.predicate.serialization.method, "files")?;
    let [subject] = statement.subject.as_slice() else {
        return Err(format!("{} subjects, expected one", statement.subject.len()));
    };
    let mut hasher = Hasher::default();
    for resource in &statement.predicate.resources {
        expect("algorithm", &resource.algorithm, "sha256")?;
        hasher.update(resource.digest.as_bytes());
    }
    let found = hasher.finish();
    if found != subject.digest.sha256 {
        let expected = subject.digest.sha256;
        return Err(format!("its files hash to {found} together, expected {expected}"));
    }
    Ok(statement.predicate.resources.into_iter().map(|resource| resource.digest).collect())
}

fn expect(what: &str, found: &str, expected: &str) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let found: String = found.chars().take(100).collect();
    Err(format!("{what} {found:?}, expected {expected:?}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of a folder with `README.md` and `m.gguf`, made by `model_signing sign key` (1.1.1).
    const SIGNED: &str = include_str!("../tests/model_signing/model.sig");
    const KEY: &str = include_str!("../tests/model_signing/key.pub");

    /// Of `hello model`.
    const OF_MODEL: &str = "2b2eb6f423932d62cafb015658d50a64d33e96e66fc9ec182172df817971e6f4";

    fn key() -> ModelKey {
        let lines = KEY.lines().filter(|line| !line.starts_with("-----"));
        ModelKey::parse(&lines.collect::<String>()).unwrap()
    }

    fn check(text: &str, keys: &[ModelKey]) -> Result<usize, String> {
        verify(text, &[("m.gguf", OF_MODEL.parse().unwrap())], keys)
    }

    #[test]
    fn a_signature_of_the_reference_implementation_counts() {
        assert_eq!(check(SIGNED, &[key()]), Ok(0));
        let other: Sha256 = "0".repeat(64).parse().unwrap();
        let told = verify(SIGNED, &[("n.gguf", other)], &[key()]).unwrap_err();
        assert!(told.contains("no file of n.gguf's bytes"), "{told}");
        assert_eq!(key().to_string(), "805bf0ae5639346f");
    }

    #[test]
    fn what_is_no_signature_of_the_key_is_refused_in_words() {
        let stranger = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
        let stranger = ModelKey::parse(stranger).unwrap();
        let told = check(SIGNED, std::slice::from_ref(&stranger)).unwrap_err();
        let expected = format!("signed with the key \"805bf0ae5639346f\", expected {stranger}");
        assert_eq!(told, expected);
        assert_eq!(check(SIGNED, &[stranger, key()]), Ok(1));
        for (from, to, words) in [
            ("bundle.v0.3+json", "bundle.v0.9+json", "mediaType"),
            ("in-toto+json", "in-toto+xml", "payloadType"),
            ("\"sig\":\"ME", "\"sig\":\"MF", "not what the key 805bf0ae5639346f signed"),
            ("\"payload\":\"ewog", "\"payload\":\"ewoK", "not what the key"),
            ("\"payload\":\"ewog", "\"payload\":\"e_og", "base64"),
            ("\"signatures\":[", "\"signatures\":[{\"sig\":\"\"},", "2 signatures"),
            ("dsseEnvelope", "messageSignature", "dsseEnvelope"),
        ] {
            let text = SIGNED.replacen(from, to, 1);
            assert_ne!(text, SIGNED, "{from}");
            let told = check(&text, &[key()]).unwrap_err();
            assert!(told.contains(words), "{to}: {told}");
        }
    }

    #[test]
    fn a_statement_that_is_not_of_files_and_their_hashes_is_refused() {
        let bundle: Bundle = serde_json::from_str(SIGNED).unwrap();
        let payload = BASE64_STANDARD.decode(&bundle.dsse_envelope.payload).unwrap();
        let payload = String::from_utf8(payload).unwrap();
        assert_eq!(listed(payload.as_bytes()).unwrap().len(), 2);
        for (from, to, words) in [
            ("Statement/v1", "Statement/v9", "_type"),
            ("signature/v1.0", "signature/v9.0", "predicateType"),
            ("\"files\"", "\"shards\"", "method \"shards\""),
            ("\"sha256\"\n", "\"blake2b\"\n", "algorithm \"blake2b\""),
            ("2b2eb6f4", "2b2eb6f5", "together"),
            ("2b2eb6f4", "zz2eb6f4", "64 hexadecimal digits"),
        ] {
            let changed = payload.replacen(from, to, 1);
            assert_ne!(changed, payload, "{from}");
            let told = listed(changed.as_bytes()).unwrap_err();
            assert!(told.contains(words), "{to}: {told}");
        }
    }

    #[test]
    fn keys_of_three_kinds_are_read() {
        let p384 = "MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAE";
        let p384 = format!("{p384}{}", "A".repeat(128));
        for good in ["MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=", &p384] {
            assert!(ModelKey::parse(good).is_some(), "{good}");
        }
        for bad in ["", "RWQ", "MCowBQYDK2VwAyEA", &p384[4..], &format!("{p384}AAAA")] {
            assert!(ModelKey::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_makes_another_statement_count(at in 0usize..4000, byte: u8) {
            let mut bytes = SIGNED.as_bytes().to_vec();
            let at = at % bytes.len();
            bytes[at] = byte;
            let Ok(text) = std::str::from_utf8(&bytes) else { return Ok(()) };
            // Of a text that still counts, what is signed is the same.
            if check(text, &[key()]).is_ok() {
                let of = |text: &str| {
                    let bundle: Bundle = serde_json::from_str(text).unwrap();
                    BASE64_STANDARD.decode(&bundle.dsse_envelope.payload).unwrap()
                };
                prop_assert_eq!(of(text), of(SIGNED));
            }
        }
    }
}
