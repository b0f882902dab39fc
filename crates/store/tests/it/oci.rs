//! The source of OCI registries against a registry of this test: tokens, redirects to another
//! storage, indexes, and everything that a registry can get wrong.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

use std::collections::HashMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::support::hub::{Request, read_request};
use crate::support::{Home, base64, files_below, model, settings, sha256};
use freehold_store::{
    ErrorKind, Installed, Latest, PublisherKey, PullOptions, Silent, Source, StoreError, Terms,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

const GGUF: &str = "application/vnd.ollama.image.model";

/// What the registry has and how it behaves.
#[derive(Default)]
struct State {
    /// By tag or digest.
    manifests: HashMap<String, Vec<u8>>,
    /// By digest.
    blobs: HashMap<String, Vec<u8>>,
    /// Wants a token, and gives one that counts for so many requests.
    uses_of_token: Option<u32>,
    n_tokens: u32,
    n_uses: u32,
    /// Gives tokens only to whom this header proves.
    login: Option<String>,
    /// Wants that header itself, and gives no tokens.
    is_basic: bool,
    /// Where it says that tokens are given, instead of at itself.
    realm: Option<String>,
    /// Blobs are in the storage.
    redirects: bool,
    /// The storage ends its next answer after so many bytes.
    cut: Option<usize>,
    log: Vec<Request>,
}

struct Registry {
    host: String,
    storage: String,
    state: Arc<Mutex<State>>,
}

impl Registry {
    fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let storage = listen("storage", &state, answer_storage);
        let to_storage = storage.clone();
        let host = listen("hub", &state, move |request, host, state| {
            answer_registry(request, host, &to_storage, state)
        });
        Self { host, storage, state }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// Puts a blob and returns its layer.
    fn layer(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", sha256(bytes));
        self.set(|state| drop(state.blobs.insert(digest.clone(), bytes.to_vec())));
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// Puts a manifest under `tag` and under its digest, which it returns.
    fn manifest(&self, tag: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        let digest = format!("sha256:{}", sha256(&bytes));
        self.set(|state| {
            state.manifests.insert(tag.to_owned(), bytes.clone());
            state.manifests.insert(digest.clone(), bytes);
        });
        digest
    }

    /// Puts a model as Ollama's registry has it.
    fn model(&self, tag: &str, bytes: &[u8]) -> String {
        let layers = [
            self.layer(GGUF, bytes),
            self.layer("application/vnd.ollama.image.template", b"{{ .Prompt }}"),
        ];
        self.manifest(tag, &json!({ "schemaVersion": 2, "layers": layers }))
    }

    fn pull(&self, home: &Home, reference: &str) -> Result<Installed, StoreError> {
        self.pull_with(home, reference, &PullOptions::default())
    }

    fn pull_with(
        &self,
        home: &Home,
        reference: &str,
        options: &PullOptions,
    ) -> Result<Installed, StoreError> {
        let source = Source::parse(&format!("oci://{}/{reference}", self.host)).unwrap();
        home.store.pull(&source, options, &Silent)
    }

    /// Puts texts and their signatures where cosign has those of the manifest with this digest.
    fn sign(&self, digest: &str, signed: &[(String, String)]) {
        let layer = |(text, signature): &(String, String)| {
            let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
            let mut layer = self.layer(kind, text.as_bytes());
            layer["annotations"] = json!({ "dev.cosignproject.cosign/signature": signature });
            layer
        };
        let layers: Vec<Value> = signed.iter().map(layer).collect();
        let tag = format!("{}.sig", digest.replace(':', "-"));
        self.manifest(&tag, &json!({ "schemaVersion": 2, "layers": layers }));
    }

    fn log(&self, at: &str) -> Vec<Request> {
        let log = self.state.lock().unwrap().log.clone();
        log.into_iter().filter(|request| request.at == at).collect()
    }
}

type Answer = (u16, Vec<(&'static str, String)>, Vec<u8>);

fn listen(
    at: &'static str,
    state: &Arc<Mutex<State>>,
    answer: impl Fn(&Request, &str, &mut State) -> Answer + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let (own, state) = (host.clone(), Arc::clone(state));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let Some(request) = read_request(at, &stream) else { continue };
            let (answer, cut) = {
                let mut state = state.lock().unwrap();
                state.log.push(request.clone());
                let answer = answer(&request, &own, &mut state);
                let is_body = at == "storage" && answer.0 < 300;
                (answer, if is_body { state.cut.take() } else { None })
            };
            // A client that went away is no failure of the registry's.
            let _ = send(&mut stream, answer, cut);
        }
    });
    host
}

fn send(out: &mut TcpStream, answer: Answer, cut: Option<usize>) -> std::io::Result<()> {
    let (status, headers, body) = answer;
    let mut head = format!("HTTP/1.1 {status} x\r\nConnection: close\r\nRetry-After: 0\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    write!(out, "{head}Content-Length: {}\r\n\r\n", body.len())?;
    out.write_all(&body[..cut.unwrap_or(body.len()).min(body.len())])
}

fn answer_registry(request: &Request, host: &str, storage: &str, state: &mut State) -> Answer {
    let path = request.path.split('?').next().unwrap();
    if path == "/token" {
        return token(request, state);
    }
    if state.is_basic {
        if request.header("authorization") != state.login.as_deref() {
            return (401, vec![("WWW-Authenticate", "Basic realm=\"x\"".to_owned())], Vec::new());
        }
    } else if let Some(n_uses_max) = state.uses_of_token {
        let expected = format!("Bearer secret-{}", state.n_tokens);
        let is_right = request.header("authorization") == Some(expected.as_str());
        if state.n_tokens == 0 || !is_right || state.n_uses >= n_uses_max {
            let realm = state.realm.clone().unwrap_or_else(|| format!("http://{host}/token"));
            let scope = "repository:library/tiny:pull";
            let challenge = format!(r#"Bearer realm="{realm}",service="registry",scope="{scope}""#);
            return (401, vec![("WWW-Authenticate", challenge)], Vec::new());
        }
        state.n_uses += 1;
    }
    let Some(rest) = path.strip_prefix("/v2/library/tiny/") else {
        return (404, Vec::new(), Vec::new());
    };
    if let Some(reference) = rest.strip_prefix("manifests/") {
        assert!(request.header("accept").unwrap().contains("manifest.list.v2+json"));
        return match state.manifests.get(reference) {
            Some(bytes) => (200, Vec::new(), bytes.clone()),
            None => (404, Vec::new(), Vec::new()),
        };
    }
    if state.redirects {
        let location = format!("http://{storage}/{rest}?signature=x");
        return (307, vec![("Location", location)], Vec::new());
    }
    blob(request, rest, state)
}

fn token(request: &Request, state: &mut State) -> Answer {
    assert!(request.path.contains("scope=repository%3Alibrary%2Ftiny%3Apull"));
    assert!(request.path.contains("service=registry"));
    if state.login.is_some() && request.header("authorization") != state.login.as_deref() {
        return (401, Vec::new(), Vec::new());
    }
    state.n_tokens += 1;
    state.n_uses = 0;
    let token = json!({ "access_token": format!("secret-{}", state.n_tokens) });
    (200, Vec::new(), token.to_string().into_bytes())
}

fn answer_storage(request: &Request, _host: &str, state: &mut State) -> Answer {
    if request.path.starts_with("/token") {
        return token(request, state);
    }
    let path = request.path.split('?').next().unwrap().to_owned();
    blob(request, path.trim_start_matches('/'), state)
}

fn blob(request: &Request, path: &str, state: &State) -> Answer {
    let Some(bytes) = state.blobs.get(path.trim_start_matches("blobs/")) else {
        return (404, Vec::new(), Vec::new());
    };
    let start = request
        .header("range")
        .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    match start {
        Some(start) => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            (206, vec![("Content-Range", range)], bytes[start..].to_vec())
        }
        None => (200, Vec::new(), bytes.clone()),
    }
}

#[test]
fn a_model_is_pulled_by_tag_and_by_digest_and_verified() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    let bytes = model(256, 1);
    let digest = registry.model("1b", &bytes);
    let pulled = registry.pull(&home, "library/tiny:1b").unwrap();
    assert_eq!(pulled.full_name(), "library/tiny-1b");
    assert_eq!(pulled.revision.as_deref(), Some(digest.as_str()));
    assert_eq!(pulled.files[0].path.file_name().unwrap(), "tiny-1b.gguf");
    assert_eq!(std::fs::read(pulled.path()).unwrap(), bytes);
    let by_digest = registry.pull(&home, &format!("library/tiny@{digest}")).unwrap();
    assert_eq!(by_digest.full_name(), "library/tiny");
    let pinned = format!("library/tiny:1b#sha256={}", sha256(b"other"));
    let other = Home::new(settings());
    let error = registry.pull(&other, &pinned).unwrap_err();
    assert!(matches!(error, StoreError::HashMismatch { .. }), "{error}");
}

#[test]
fn a_token_is_fetched_goes_to_the_registry_alone_and_is_renewed() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    let bytes = model(512, 1);
    registry.model("latest", &bytes);
    // The manifest and one blob; what is cut off needs another token.
    registry.set(|state| {
        (state.uses_of_token, state.redirects, state.cut) = (Some(2), true, Some(200_000));
    });
    let pulled = registry.pull(&home, "library/tiny").unwrap();
    assert_eq!(std::fs::read(pulled.path()).unwrap(), bytes);
    let stored = registry.log("storage");
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|request| request.header("authorization").is_none()));
    let range = stored[1].header("range").unwrap();
    assert_eq!(range, "bytes=200000-");
    let tokens = registry.log("hub");
    let tokens = tokens.iter().filter(|request| request.path.starts_with("/token"));
    assert_eq!(tokens.count(), 2);
    for path in files_below(home.path()) {
        let bytes = std::fs::read(&path).unwrap();
        let has_token = bytes.windows(7).any(|window| window == b"secret-");
        assert!(!has_token, "a token is in {}", path.display());
    }
}

/// `me:secret`
const LOGIN: &str = "Basic bWU6c2VjcmV0";

/// A store whose user is `me` somewhere.
struct LoggedIn {
    home: Home,
    _folder: tempfile::TempDir,
}

/// At `host`, as docker's file or the environment has it.
fn logged_in(host: &str, is_docker: bool) -> LoggedIn {
    let (mut settings, folder) = (settings(), tempfile::tempdir().unwrap());
    if is_docker {
        settings.login_files = vec![folder.path().join("config.json")];
        let auths = json!({ "auths": { host: { "auth": "bWU6c2VjcmV0" } } });
        std::fs::write(&settings.login_files[0], auths.to_string()).unwrap();
    } else {
        settings.registry_login = Some(format!("me:secret@{host}").parse().unwrap());
    }
    LoggedIn { home: Home::new(settings), _folder: folder }
}

/// Who was shown the login.
fn shown(registry: &Registry) -> Vec<String> {
    let log = [registry.log("hub"), registry.log("storage")].concat();
    let has_login = |of: &&Request| of.header("authorization") == Some(LOGIN);
    log.iter().filter(has_login).map(|of| format!("{} {}", of.at, of.path)).collect()
}

#[test]
fn a_login_gets_a_token_and_is_shown_to_nobody_else() {
    for is_docker in [true, false] {
        let registry = Registry::start();
        let bytes = model(64, 1);
        registry.model("latest", &bytes);
        registry.set(|state| {
            (state.uses_of_token, state.redirects) = (Some(9), true);
            state.login = Some(LOGIN.to_owned());
        });
        let error = registry.pull(&Home::new(settings()), "library/tiny").unwrap_err().to_string();
        assert!(error.contains("/token") && error.contains("FREEHOLD_REGISTRY_LOGIN"), "{error}");
        let LoggedIn { home, _folder } = logged_in(&registry.host, is_docker);
        let pulled = registry.pull(&home, "library/tiny").unwrap();
        assert_eq!(std::fs::read(pulled.path()).unwrap(), bytes);
        let shown = shown(&registry);
        assert!(shown.len() == 1 && shown[0].starts_with("hub /token?"), "{shown:?}");
        for path in files_below(home.path()) {
            let bytes = std::fs::read(&path).unwrap();
            let has_secret = bytes.windows(6).any(|window| window == b"secret");
            assert!(!has_secret, "a secret is in {}", path.display());
        }
        registry.set(|state| state.login = Some("Basic other".to_owned()));
        let error = registry.pull(&logged_in(&registry.host, is_docker).home, "library/tiny");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("login there is not accepted"), "{error}");
    }
}

#[test]
fn a_login_is_not_sent_to_another_host_that_gives_the_tokens() {
    let registry = Registry::start();
    registry.model("latest", &model(64, 1));
    registry.set(|state| {
        state.uses_of_token = Some(9);
        state.login = Some(LOGIN.to_owned());
        state.realm = Some(format!("http://{}/token", registry.storage));
    });
    let error = registry.pull(&logged_in(&registry.host, true).home, "library/tiny").unwrap_err();
    assert!(matches!(error, StoreError::AccessDenied { status: 401, .. }), "{error}");
    assert_eq!(registry.log("storage").len(), 1, "it was asked, without the login");
    assert_eq!(shown(&registry), Vec::<String>::new());
    // Its own login it is shown.
    registry.pull(&logged_in(&registry.storage, true).home, "library/tiny").unwrap();
    let shown = shown(&registry);
    assert!(shown.len() == 1 && shown[0].starts_with("storage /token?"), "{shown:?}");
}

#[test]
fn a_registry_that_wants_the_login_itself_gets_it_and_its_storage_does_not() {
    let registry = Registry::start();
    registry.model("latest", &model(64, 1));
    registry.set(|state| {
        (state.is_basic, state.redirects) = (true, true);
        state.login = Some(LOGIN.to_owned());
    });
    let error = registry.pull(&Home::new(settings()), "library/tiny").unwrap_err();
    assert!(matches!(error, StoreError::AccessDenied { status: 401, .. }), "{error}");
    registry.pull(&logged_in(&registry.host, false).home, "library/tiny").unwrap();
    let shown = shown(&registry);
    assert!(!shown.is_empty() && shown.iter().all(|of| of.starts_with("hub /v2/")), "{shown:?}");
    assert!(registry.log("storage").iter().all(|of| of.header("authorization").is_none()));
}

#[test]
fn a_registry_that_gives_no_token_that_counts_is_given_up() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    registry.model("latest", &model(4, 1));
    registry.set(|state| state.uses_of_token = Some(0));
    let error = registry.pull(&home, "library/tiny").unwrap_err();
    assert!(matches!(error, StoreError::AccessDenied { status: 401, .. }), "{error}");
    assert!(error.to_string().contains("expected a public model"), "{error}");
    registry.set(|state| state.realm = Some("ftp://host/token".to_owned()));
    let error = registry.pull(&home, "library/tiny").unwrap_err();
    assert!(error.to_string().contains("it sends us elsewhere for a token"), "{error}");
}

#[test]
fn a_blob_or_manifest_of_another_hash_is_refused() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    let bytes = model(64, 1);
    let digest = registry.model("latest", &bytes);
    let mut changed = bytes.clone();
    *changed.last_mut().unwrap() ^= 1;
    let blob = format!("sha256:{}", sha256(&bytes));
    registry.set(|state| drop(state.blobs.insert(blob, changed)));
    let error = registry.pull(&home, "library/tiny").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
    registry.set(|state| drop(state.manifests.insert(digest.clone(), b"{}".to_vec())));
    let error = registry.pull(&home, &format!("library/tiny@{digest}")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
    assert!(files_below(&home.path().join("models")).is_empty());
}

#[test]
fn of_an_index_the_manifest_for_this_machine_is_taken() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    let bytes = model(16, 1);
    let wrong = registry.model("wrong", &model(16, 2));
    let right = registry.model("right", &bytes);
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let entry = |digest: &str, os: &str, architecture: &str| {
        let platform = json!({ "os": os, "architecture": architecture });
        json!({ "mediaType": "x", "digest": digest, "size": 1, "platform": platform })
    };
    let ours = entry(&right, os, architecture);
    let others = entry(&wrong, "plan9", architecture);
    let index = registry.manifest("latest", &json!({ "manifests": [others, ours] }));
    let pulled = registry.pull(&home, "library/tiny").unwrap();
    assert_eq!(std::fs::read(pulled.path()).unwrap(), bytes);
    // A lock that another platform wrote says the same.
    assert_eq!(pulled.revision, Some(index));
    registry.manifest("none", &json!({ "manifests": [others, others] }));
    let error = registry.pull(&home, "library/tiny:none").unwrap_err().to_string();
    assert!(error.contains(&format!("nothing for {os}/{architecture}")), "{error}");
}

#[test]
fn a_tag_that_moved_is_newer_and_a_digest_stays() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    let first = registry.model("1b", &model(64, 1));
    let pulled = registry.pull(&home, "library/tiny:1b").unwrap();
    let latest = |model: &Installed| home.store.latest(model, &Silent).unwrap();
    let source = format!("oci://{}/library/tiny:1b", registry.host);
    let newer = |digest: &str| Latest::Newer {
        what: format!("manifest {digest}"),
        source: Some(Source::parse(&source).unwrap()),
    };
    assert_eq!(latest(&pulled), Latest::Same);
    let second = registry.model("1b", &model(64, 2));
    assert_eq!(latest(&pulled), newer(&second));
    // A pin is of the old bytes.
    let pin = pulled.files[0].sha256;
    let pinned = Installed { source: format!("{source}#sha256={pin}"), ..pulled.clone() };
    assert_eq!(latest(&pinned), newer(&second));
    let index_of = |digest: &str| {
        registry.manifest("1b", &json!({ "manifests": [{ "digest": digest, "size": 1 }] }))
    };
    let index = index_of(&second);
    assert_eq!(latest(&pulled), newer(&index));
    index_of(&first);
    assert_eq!(latest(&pulled), Latest::Same);
    let by_digest = registry.pull(&home, &format!("library/tiny@{first}")).unwrap();
    let n_asked = registry.log("hub").len();
    assert_eq!(latest(&by_digest), Latest::Fixed);
    assert_eq!(registry.log("hub").len(), n_asked, "a digest needs no question");
}

#[test]
fn what_holds_no_model_is_refused_in_words() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    let adapter = registry.layer("application/vnd.ollama.image.adapter", b"x");
    let first = registry.layer(GGUF, &model(4, 1));
    let second = registry.layer(GGUF, &model(4, 2));
    let beyond = json!({ "mediaType": GGUF, "digest": "sha256:../../x", "size": 1 });
    let huge = json!({ "mediaType": GGUF, "digest": first["digest"], "size": 1_u64 << 60 });
    for (layers, words) in [
        (vec![], "no layer that is a model"),
        (vec![first.clone(), adapter], "adapter"),
        (vec![first, second], "expected one, or its parts"),
        (vec![beyond], "expected sha256:HEX"),
        (vec![huge], "expected at most"),
    ] {
        registry.manifest("latest", &json!({ "layers": layers }));
        let error = registry.pull(&home, "library/tiny").unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    registry.set(|state| drop(state.manifests.insert("latest".to_owned(), b"<html>".to_vec())));
    assert!(registry.pull(&home, "library/tiny").unwrap_err().to_string().contains("manifest:"));
    let error = registry.pull(&home, "library/tiny:none").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// A publisher with a key as `cosign generate-key-pair` makes one.
struct Publisher(EcdsaKeyPair);

impl Publisher {
    fn new() -> Self {
        let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random).unwrap())
    }

    fn key(&self) -> PublisherKey {
        let head = b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\
                     \x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
        base64(&[&head[..], self.0.public_key().as_ref()].concat()).parse().unwrap()
    }

    /// The text that cosign signs for a manifest with this digest, and the signature.
    fn sign(&self, digest: &str) -> (String, String) {
        let critical = json!({
            "identity": { "docker-reference": "registry/library/tiny" },
            "image": { "docker-manifest-digest": digest },
            "type": "cosign container image signature",
        });
        let text = json!({ "critical": critical, "optional": null }).to_string();
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        (text, base64(signature.as_ref()))
    }
}

#[test]
fn a_model_comes_in_only_with_a_signature_of_its_manifest_by_a_key_that_the_owner_names() {
    let (registry, home) = (Registry::start(), Home::new(settings()));
    let [ours, other] = [Publisher::new(), Publisher::new()];
    let digest = registry.model("1b", &model(64, 1));
    let pull = |reference: &str, key: PublisherKey| {
        let terms = Terms { lock: None, signed_by: Some(key) };
        let options = PullOptions { terms, ..PullOptions::default() };
        registry.pull_with(&home, reference, &options)
    };
    let refused = |words: &str| {
        let error = pull("library/tiny:1b", ours.key()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(&format!("there is no signature of {digest}"));
    registry.sign(&digest, &[]);
    refused("there is no signature");
    registry.sign(&digest, &[other.sign(&digest)]);
    refused("it is not what the key");
    registry.sign(&digest, &[ours.sign(&format!("sha256:{}", sha256(b"another")))]);
    refused("docker-manifest-digest");
    // What the registry gives for the text is another.
    let signed = ours.sign(&digest);
    registry.sign(&digest, std::slice::from_ref(&signed));
    let blob = format!("sha256:{}", sha256(signed.0.as_bytes()));
    registry.set(|state| drop(state.blobs.insert(blob, b"{}".to_vec())));
    refused("sha256");

    registry.sign(&digest, &[other.sign(&digest), signed]);
    let pulled = pull("library/tiny:1b", ours.key()).unwrap();
    assert_eq!(pulled.signed_by, Some(ours.key().to_string()));
    // Of an index its own digest is signed, and names the manifests by theirs.
    let manifests = json!([{ "mediaType": "m", "digest": digest, "size": 1 }]);
    let index = registry.manifest("all", &json!({ "schemaVersion": 2, "manifests": manifests }));
    assert!(pull("library/tiny:all", ours.key()).is_err());
    registry.sign(&index, &[ours.sign(&index)]);
    assert_eq!(pull("library/tiny:all", ours.key()).unwrap().revision, Some(index));
    let minisign = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().unwrap();
    let told = pull("library/tiny:1b", minisign).unwrap_err().to_string();
    assert!(told.contains("not minisign's"), "{told}");
}
