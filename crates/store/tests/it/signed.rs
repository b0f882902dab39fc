//! Signatures beside models, where the owner wants them: of minisign and of OpenSSF model signing,
//! on the way in by every door.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::hub::Hub;
use crate::support::wheels::{build_wheel_of, has_pip, only};
use crate::support::{Home, base64, files_below, model, settings, sha256};
use freehold_store::{
    ErrorKind, Found, Installed, LockFile, PublisherKey, PullOptions, Sha256, Silent, Source,
    StoreError, Terms,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};

/// Signs the bytes of a model.
type Sign = Box<dyn Fn(&[u8]) -> String>;

/// A publisher with a key, and how it signs.
struct Publisher {
    key: String,
    /// The file of a signature of `m.gguf`.
    file: &'static str,
    sign: Sign,
}

/// Signs files as they are.
fn minisign(seed: u8) -> Publisher {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let head = [&b"Ed"[..], &[seed; 8]].concat();
    let key = base64(&[&head[..], pair.public_key().as_ref()].concat());
    let sign = move |bytes: &[u8]| {
        let (signature, comment) = (pair.sign(bytes), "timestamp:1");
        let global = pair.sign(&[signature.as_ref(), comment.as_bytes()].concat());
        let body = base64(&[&head[..], signature.as_ref()].concat());
        let global = base64(global.as_ref());
        format!("untrusted comment: x\n{body}\ntrusted comment: {comment}\n{global}\n")
    };
    Publisher { key, file: "m.gguf.minisig", sign: Box::new(sign) }
}

/// Signs a list of two files, of which `m.gguf` is one.
fn bundle(bytes: &[u8], sign: impl Fn(&[u8]) -> Vec<u8>) -> String {
    let hashes = [sha256(b"card"), sha256(bytes)];
    let root = sha256(&hashes.iter().flat_map(|of| *of.as_bytes()).collect::<Vec<u8>>());
    let resource = |(name, digest): (&str, Sha256)| -> Value {
        json!({ "name": name, "algorithm": "sha256", "digest": digest })
    };
    let resources: Vec<_> = ["README.md", "m.gguf"].into_iter().zip(hashes).map(resource).collect();
    let payload = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "model", "digest": { "sha256": root } }],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": { "serialization": { "method": "files" }, "resources": resources },
    });
    let (payload, ty) = (payload.to_string(), "application/vnd.in-toto+json");
    let signature =
        sign(format!("DSSEv1 {} {ty} {} {payload}", ty.len(), payload.len()).as_bytes());
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": { "publicKey": { "hint": "x" }, "tlogEntries": [] },
        "dsseEnvelope": {
            "payload": base64(payload.as_bytes()),
            "payloadType": ty,
            "signatures": [{ "sig": base64(&signature), "keyid": "" }],
        },
    })
    .to_string()
}

fn ed25519() -> Publisher {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let head = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
    let key = base64(&[&head[..], pair.public_key().as_ref()].concat());
    let sign = move |bytes: &[u8]| bundle(bytes, |message| pair.sign(message).as_ref().to_vec());
    Publisher { key, file: "model.sig", sign: Box::new(sign) }
}

fn p256() -> Publisher {
    let random = SystemRandom::new();
    let kind = &ECDSA_P256_SHA256_ASN1_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap();
    let head = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
                 \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
    let key = base64(&[&head[..], pair.public_key().as_ref()].concat());
    let sign = move |bytes: &[u8]| {
        bundle(bytes, |message| pair.sign(&random, message).unwrap().as_ref().to_vec())
    };
    Publisher { key, file: "model.sig", sign: Box::new(sign) }
}

/// A store, and a model that lies in a folder, in a repository of a Hub and at an address.
struct World {
    home: Home,
    hub: Hub,
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let bytes = model(64, 1);
        let hub = Hub::start(&[("m.gguf", &bytes)]);
        let mut settings = settings();
        settings.hub_endpoint.clone_from(&hub.endpoint);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("m.gguf"), &bytes).unwrap();
        Self { home: Home::new(settings), hub, folder, bytes }
    }

    /// Where the model is pulled from.
    fn sources(&self) -> [String; 3] {
        [
            "hf:owner/repo/m.gguf".to_owned(),
            format!("{}/m.gguf#sha256={}", self.hub.storage, sha256(&self.bytes)),
            self.file().display().to_string(),
        ]
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("m.gguf")
    }

    /// Puts a signature beside the model, wherever it lies.
    fn put(&self, file: &str, text: &str) {
        self.hub.set(|manners| drop(manners.files.insert(file.to_owned(), text.into())));
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    fn pull(&self, source: &str, terms: &Terms) -> Result<Installed, StoreError> {
        let options = PullOptions { terms: terms.clone(), ..PullOptions::default() };
        self.home.store.pull(&Source::parse(source).unwrap(), &options, &Silent)
    }

    /// The model by every door, each time anew.
    fn take_in(&self, terms: &Terms) -> Vec<Result<Installed, StoreError>> {
        let store = &self.home.store;
        let mut taken = Vec::new();
        let mut note = |found: Result<Installed, StoreError>| {
            if let Ok(model) = &found {
                assert_eq!(fs::read(model.path()).unwrap(), self.bytes);
                store.remove(&model.full_name()).unwrap();
            }
            assert!(files_below(&self.home.path().join("models")).is_empty());
            taken.push(found);
        };
        self.sources().iter().for_each(|source| note(self.pull(source, terms)));
        note(store.add(&self.file(), None, terms, &Silent));
        let found = Found::in_folder(self.folder.path()).unwrap();
        note(store.adopt(&found[0], terms, &Silent));
        taken
    }

    fn check_refused(&self, terms: &Terms, file: &str, words: &str) {
        for taken in self.take_in(terms) {
            let error = taken.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
            let told = error.to_string();
            assert!(told.contains(words) && told.contains(file), "{words}: {told}");
        }
    }

    fn check_taken(&self, terms: &Terms, key: Option<&str>) {
        for taken in self.take_in(terms) {
            assert_eq!(taken.unwrap().signed_by.as_deref(), key);
        }
    }
}

fn locked(keys: &[&str]) -> Terms {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    let signers = BTreeMap::from([("*".to_owned(), keys)]);
    let lock = LockFile { signers, ..LockFile::default() };
    Terms { lock: Some((Path::new("freehold.lock").to_owned(), lock)), signed_by: None }
}

fn given(key: &str) -> Terms {
    Terms { lock: None, signed_by: Some(key.parse::<PublisherKey>().unwrap()) }
}

#[test]
fn a_model_comes_in_only_with_a_signature_of_a_key_that_the_owner_names() {
    for (publisher, garbage) in [
        (minisign(1), "four lines"),
        (ed25519(), "expected a bundle"),
        (p256(), "expected a bundle"),
    ] {
        let world = World::new();
        let Publisher { key, file, sign } = &publisher;
        world.check_taken(&Terms::default(), None);
        for terms in [locked(&[key]), given(key)] {
            let whose = if terms.lock.is_some() { "freehold.lock" } else { "that was given" };
            fs::remove_file(world.folder.path().join(file)).unwrap_or_default();
            world.hub.set(|manners| drop(manners.files.remove(*file)));
            world.check_refused(&terms, file, whose);
            world.check_refused(&terms, file, "none beside the model");
            world.put(file, &sign(b"other"));
            let words = if *file == "model.sig" { "no file of m.gguf" } else { "not what the key" };
            world.check_refused(&terms, file, words);
            world.put(file, "<html>");
            world.check_refused(&terms, file, garbage);
            world.put(file, &sign(&world.bytes));
            world.check_taken(&terms, Some(key));
        }
    }
}

#[test]
fn any_of_the_keys_that_a_lock_names_will_do_and_no_other() {
    let world = World::new();
    let [one, stranger, two] = [minisign(1), minisign(2), p256()];
    world.put(stranger.file, &(stranger.sign)(&world.bytes));
    let lock = locked(&[&one.key, &two.key]);
    world.check_refused(&lock, "m.gguf.minisig, model.sig", "expected 0101010101010101");
    world.put(two.file, &(two.sign)(&world.bytes));
    world.check_taken(&lock, Some(&two.key));
    world.put(one.file, &(one.sign)(&world.bytes));
    world.check_taken(&lock, Some(&one.key));
    let narrowed = Terms { signed_by: given(&two.key).signed_by, ..lock.clone() };
    world.check_taken(&narrowed, Some(&two.key));
    let both = Terms { signed_by: given(&stranger.key).signed_by, ..lock };
    assert!(world.take_in(&both).into_iter().all(|taken| taken.is_err()));
    let told = world.pull(&world.sources()[2], &locked(&["RWQ"])).unwrap_err().to_string();
    assert!(told.contains("[signers] \"RWQ\""), "{told}");
}

#[test]
fn a_model_that_is_here_unsigned_comes_in_again_where_it_must_be_signed() {
    let world = World::new();
    let publisher = ed25519();
    let source = &world.sources()[2];
    assert_eq!(world.pull(source, &Terms::default()).unwrap().signed_by, None);
    let terms = locked(&[&publisher.key]);
    assert!(world.pull(source, &terms).is_err());
    world.put(publisher.file, &(publisher.sign)(&world.bytes));
    let pulled = world.pull(source, &terms).unwrap();
    assert_eq!(pulled.signed_by.as_deref(), Some(publisher.key.as_str()));
    // Its manifest says so from then on.
    let again = world.home.store.resolve("m").unwrap();
    assert_eq!(again, pulled);
    fs::remove_file(world.folder.path().join(publisher.file)).unwrap();
    assert_eq!(world.pull(source, &terms).unwrap(), pulled);
}

#[test]
fn a_signature_in_a_wheel_counts_beside_the_file() {
    if !has_pip() {
        return;
    }
    let (folder, bytes) = (tempfile::tempdir().unwrap(), model(64, 1));
    let home = Home::new(only(folder.path()));
    for (idx, publisher) in [minisign(1), ed25519()].into_iter().enumerate() {
        let version = format!("{}.0", idx + 1);
        let pull = |key: &str| {
            let terms = Terms { lock: None, signed_by: Some(key.parse().unwrap()) };
            let options = PullOptions { terms, refresh: true, ..PullOptions::default() };
            let source = format!("pip:mine=={version}/mine/m.gguf");
            home.store.pull(&Source::parse(&source).unwrap(), &options, &Silent)
        };
        let signature = (publisher.sign)(&bytes);
        let path = format!("mine/{}", publisher.file);
        // Elsewhere in the wheel it is beside something else.
        for (path, is_there) in [(format!("other/{path}"), false), (path, true)] {
            let files = [("mine/m.gguf", &*bytes), (&*path, signature.as_bytes())];
            build_wheel_of(folder.path(), "mine", &version, &files);
            let pulled = pull(&publisher.key);
            assert_eq!(pulled.is_ok(), is_there, "{pulled:?}");
            let kind = pull(&minisign(9).key).unwrap_err().kind();
            assert_eq!(kind, ErrorKind::Verification);
            // The wheel that failed is kept for the next time, and here is another.
            let _ = fs::remove_dir_all(home.path().join("staging"));
        }
        home.store.remove("m").unwrap();
    }
}
