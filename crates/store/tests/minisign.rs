//! Signatures of minisign's beside models, where the owner's lock wants them.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

mod support;

use std::collections::BTreeMap;

use freehold_store::{ErrorKind, Installed, LockFile, PullOptions, Silent, Source, StoreError};
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use support::hub::Hub;
use support::{Home, files_below, model, settings, sha256};

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encode = |chunk: &[u8]| {
        let word = chunk.iter().fold(0_u32, |word, byte| (word << 8) | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        let digit = |idx: usize| char::from(DIGITS[(word >> (18 - 6 * idx)) as usize & 63]);
        (0..4).map(|idx| if idx > chunk.len() { '=' } else { digit(idx) }).collect::<String>()
    };
    bytes.chunks(3).map(encode).collect()
}

/// A publisher's public key, and its signature of `bytes` in the form that signs them as they are.
fn signed(seed: u8, bytes: &[u8]) -> (String, Vec<u8>) {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let head = [&b"Ed"[..], &[seed; 8]].concat();
    let signature = pair.sign(bytes);
    let comment = "timestamp:1";
    let global = pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
    let body = base64(&[&head[..], signature.as_ref()].concat());
    let global = base64(global.as_ref());
    let text = format!("untrusted comment: x\n{body}\ntrusted comment: {comment}\n{global}\n");
    (base64(&[&head[..], pair.public_key().as_ref()].concat()), text.into_bytes())
}

fn pull(home: &Home, source: &str, key: &str) -> Result<Installed, StoreError> {
    let minisign = BTreeMap::from([("*".to_owned(), vec![key.to_owned()])]);
    let lock = LockFile { minisign, ..LockFile::default() };
    let lock = Some(("freehold.lock".into(), lock));
    let options = PullOptions { lock, ..PullOptions::default() };
    home.store.pull(&Source::parse(source).unwrap(), &options, &Silent)
}

#[test]
fn a_model_is_pulled_only_with_a_signature_of_a_key_that_the_lock_names() {
    let bytes = model(64, 1);
    let (key, signature) = signed(1, &bytes);
    let (stranger, forged) = signed(2, &bytes);
    let hub = Hub::start(&[("m.gguf", &bytes)]);
    let mut settings = settings();
    settings.hub_endpoint.clone_from(&hub.endpoint);
    let home = Home::new(settings);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.gguf");
    std::fs::write(&file, &bytes).unwrap();
    let sources = [
        "hf:owner/repo/m.gguf".to_owned(),
        format!("{}/m.gguf#sha256={}", hub.storage, sha256(&bytes)),
        file.display().to_string(),
    ];
    let put = |text: &[u8]| {
        hub.set(|manners| drop(manners.files.insert("m.gguf.minisig".to_owned(), text.to_vec())));
        std::fs::write(folder.path().join("m.gguf.minisig"), text).unwrap();
    };
    let refused = |words: &str| {
        for source in &sources {
            let error = pull(&home, source, &key).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Verification, "{source}: {error}");
            let told = error.to_string();
            assert!(told.contains(words) && told.contains("m.gguf.minisig"), "{source}: {told}");
            assert!(files_below(&home.path().join("models")).is_empty());
        }
    };
    refused("no signature beside it");
    put(&forged);
    refused("expected 0101010101010101");
    put(&signed(1, b"other").1);
    refused("not what the key 0101010101010101 signed");
    put(b"<html>");
    refused("four lines");
    put(&signature);
    for source in &sources {
        let model = pull(&home, source, &key).unwrap();
        assert_eq!(std::fs::read(model.path()).unwrap(), bytes);
        home.store.remove(&model.full_name()).unwrap();
    }
    put(&forged);
    pull(&home, &sources[1], &stranger).unwrap();
    let error = pull(&home, &sources[2], "RWQ").unwrap_err().to_string();
    assert!(error.contains("[minisign] \"RWQ\""), "{error}");
}
