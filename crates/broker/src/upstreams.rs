//! The upstreams as the broker has them: resolved, with their keys, before it locks itself.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use hyper::header::{self, HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

use crate::address::{Address, NotNow};
use crate::budget::Budget;
use crate::choose::Candidate;
use crate::config::{ADDRESSES_MAX, Target, UPSTREAMS_MAX, is_near};
use crate::connections::{Connections, Dial, Tls};
use crate::guarded;
use crate::wire::{Known, Setup};
use crate::{KeySource, Upstream, UpstreamHealth, UpstreamKind};

/// Largest file of a key, and of authorities.
const KEY_BYTES_MAX: u64 = 16 << 10;
const AUTHORITIES_BYTES_MAX: u64 = 4 << 20;

/// An upstream, ready to be asked.
pub(crate) struct Server {
    pub(crate) config: Upstream,
    pub(crate) addresses: Vec<Arc<Address>>,
    /// Why it has fewer addresses than it could.
    pub(crate) problems: Vec<String>,
    /// The header with the key.
    pub(crate) key: Option<(HeaderName, HeaderValue)>,
    budget: Mutex<Budget>,
}

impl Server {
    pub(crate) fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The addresses that may be asked, but for those `tried`, and why others may not.
    pub(crate) fn candidates(&self, tried: &[usize]) -> (Vec<Candidate>, Vec<NotNow>) {
        let (mut candidates, mut not_now) = (Vec::new(), Vec::new());
        for (idx, address) in self.addresses.iter().enumerate() {
            match address.candidate(idx, self.config.max_in_flight) {
                Ok(candidate) if !tried.contains(&idx) => candidates.push(candidate),
                Ok(_) => {}
                Err(why) => not_now.push(why),
            }
        }
        (candidates, not_now)
    }

    pub(crate) fn health(&self) -> UpstreamHealth {
        UpstreamHealth {
            name: self.config.name.clone(),
            kind: self.config.kind,
            addresses: self.addresses.iter().map(|address| address.health()).collect(),
        }
    }

    pub(crate) fn known(&self) -> Known {
        Known {
            name: self.config.name.clone(),
            kind: self.config.kind,
            n_addresses: self.addresses.len(),
            problems: self.problems.clone(),
        }
    }
}

/// The upstreams of a [`Setup`] with what was found out about them, and without a connection yet.
pub struct Prepared {
    upstreams: Vec<Found>,
    ledger: String,
}

/// What was found of one.
struct Found {
    config: Upstream,
    key: Option<(HeaderName, HeaderValue)>,
    addresses: Vec<(String, Target, SocketAddr, Option<Tls>)>,
    problems: Vec<String>,
}

impl Prepared {
    /// Reads keys and certificates, and resolves hosts. A host that cannot be resolved is no error:
    /// the upstream has an address less, and says so.
    ///
    /// # Errors
    /// A setting out of bounds, a key that is not there, certificates that are none: the upstream,
    /// the setting, and what was expected.
    pub fn new(setup: Setup) -> Result<Self, String> {
        if setup.upstreams.len() > UPSTREAMS_MAX {
            let n_upstreams = setup.upstreams.len();
            return Err(format!("{n_upstreams} upstreams, expected {UPSTREAMS_MAX} at most"));
        }
        let mut upstreams: Vec<Found> = Vec::new();
        for config in setup.upstreams {
            let name = config.name.clone();
            if upstreams.iter().any(|found| found.config.name == name) {
                return Err(format!("upstream {name:?}: there are two of this name"));
            }
            let found = Found::new(config);
            upstreams.push(found.map_err(|why| format!("upstream {name:?}: {why}"))?);
        }
        Ok(Self { upstreams, ledger: setup.ledger })
    }

    /// Where the ledger is.
    pub fn ledger(&self) -> &str {
        &self.ledger
    }

    /// Every address that a request may go to, once.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let all = self.upstreams.iter().flat_map(|found| &found.addresses);
        let mut addresses: Vec<SocketAddr> = all.map(|(_, _, socket, _)| *socket).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    pub(crate) fn servers(self, dial: &Arc<dyn Dial>) -> Vec<Arc<Server>> {
        let server = |found: Found| {
            let address =
                |(url, target, socket, tls): (String, Target, SocketAddr, Option<Tls>)| {
                    let connections = Connections::new(socket, tls, Arc::clone(dial));
                    Address::new(&found.config, &url, target, connections, socket)
                };
            let addresses = found.addresses.into_iter().map(address).collect();
            let budget = Mutex::new(Budget::new(found.config.retry_percent));
            let (key, problems) = (found.key, found.problems);
            Arc::new(Server { config: found.config, addresses, problems, key, budget })
        };
        self.upstreams.into_iter().map(server).collect()
    }
}

impl Found {
    fn new(config: Upstream) -> Result<Self, String> {
        config.check().map_err(|error| error.to_string())?;
        let key = config.key.as_ref().map(|source| key_header(source, &config)).transpose()?;
        let (mut addresses, mut problems) = (Vec::new(), Vec::new());
        let mut tls = None;
        for url in &config.urls {
            let target = Target::parse(url, config.kind).map_err(|error| error.to_string())?;
            let name = if target.is_tls {
                let name = ServerName::try_from(target.host.clone());
                let name = name.map_err(|_| format!("url: {url:?}: no certificate has this host"));
                let client = match &tls {
                    Some(client) => Arc::clone(client),
                    None => Arc::clone(tls.insert(client_config(config.ca_file.as_deref())?)),
                };
                Some((client, name?))
            } else {
                None
            };
            match resolve(&target) {
                Ok(sockets) => {
                    let far = sockets.iter().find(|socket| !is_near(socket.ip()));
                    if let (false, false, Some(far)) = (target.is_tls, config.allow_plain, far) {
                        return Err(format!(
                            "url: {url:?}: {} is neither this machine's nor private, expected \
                             https, or allow-plain = true",
                            far.ip()
                        ));
                    }
                    let of = |socket| (url.clone(), target.clone(), socket, name.clone());
                    addresses.extend(sockets.into_iter().map(of));
                }
                Err(why) => problems.push(format!("{url}: {why}")),
            }
        }
        Ok(Self { config, key, addresses, problems })
    }
}

fn resolve(target: &Target) -> Result<Vec<SocketAddr>, String> {
    let found = (target.host.as_str(), target.port).to_socket_addrs();
    let mut sockets: Vec<SocketAddr> = Vec::new();
    for socket in found.map_err(|error| error.to_string())? {
        if !sockets.contains(&socket) && sockets.len() < ADDRESSES_MAX {
            sockets.push(socket);
        }
    }
    if sockets.is_empty() { Err("its name has no address".to_owned()) } else { Ok(sockets) }
}

/// The header with the key, which is marked so that nothing prints it.
fn key_header(source: &KeySource, of: &Upstream) -> Result<(HeaderName, HeaderValue), String> {
    let (place, key) = match source {
        KeySource::Env(name) => {
            let key = std::env::var(name);
            let place = format!("key-env: {name:?}");
            (place.clone(), key.map_err(|_| format!("{place}: not set, expected the key in it"))?)
        }
        KeySource::File(path) => {
            let place = format!("key-file: {}", path.display());
            let told = |why: String| format!("{place}: {why}");
            let bytes = guarded::key(path, KEY_BYTES_MAX).map_err(told)?;
            let key = String::from_utf8(bytes).map_err(|_| told("not UTF-8".to_owned()))?;
            (place, key)
        }
    };
    let key = key.trim();
    if key.is_empty() {
        return Err(format!("{place}: empty, expected the key in it"));
    }
    let (name, value) = match of.kind {
        UpstreamKind::OpenAi => (header::AUTHORIZATION, format!("Bearer {key}")),
        UpstreamKind::Anthropic => (HeaderName::from_static("x-api-key"), key.to_owned()),
        UpstreamKind::Oidc => (header::AUTHORIZATION, basic(&of.user, key)),
    };
    let value = HeaderValue::try_from(value);
    let mut value =
        value.map_err(|_| format!("{place}: not one line of text, expected the key alone"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// User and password as OAuth has them in `Authorization` (RFC 6749, section 2.3.1): each as in a
/// form, then together in base64.
fn basic(user: &str, password: &str) -> String {
    let as_in_a_form = |text: &str| -> String {
        let one = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        };
        text.bytes().map(one).collect()
    };
    let both = format!("{}:{}", as_in_a_form(user), as_in_a_form(password));
    format!("Basic {}", BASE64_STANDARD.encode(both))
}

/// Trusts the authorities in a file, else the system's.
fn client_config(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(path) => {
            let told = |why: String| format!("ca-file: {}: {why}", path.display());
            let text = guarded::public(path, AUTHORITIES_BYTES_MAX).map_err(told)?;
            for certificate in CertificateDer::pem_slice_iter(&text) {
                let certificate = certificate.map_err(|error| told(error.to_string()))?;
                roots.add(certificate).map_err(|error| told(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(told("no certificate, expected at least one in PEM".to_owned()));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            let (n_trusted, _) = roots.add_parsable_certificates(found.certs);
            if n_trusted == 0 {
                return Err("this system has no authorities, expected ca-file".to_owned());
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(change: impl FnOnce(&mut Upstream)) -> Setup {
        let urls = vec!["http://127.0.0.1:9".to_owned()];
        let mut upstream = Upstream::new("one", UpstreamKind::OpenAi, urls);
        change(&mut upstream);
        Setup { upstreams: vec![upstream], ledger: String::new() }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Upstream), expected: &str) {
        let told = Prepared::new(setup(change)).map(|_| ()).unwrap_err();
        assert!(told.starts_with("upstream \"one\": ") && told.contains(expected), "{told}");
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let prepared = Prepared::new(setup(|_| {})).unwrap();
        assert_eq!(prepared.addresses(), ["127.0.0.1:9".parse().unwrap()]);
        check(|upstream| upstream.urls = vec!["http://1.1.1.1".to_owned()], "1.1.1.1 is neither");
        let env = |name: &str| Some(KeySource::Env(name.to_owned()));
        check(|upstream| upstream.key = env("FREEHOLD_NO_SUCH_KEY"), "key-env: \"FREEHOLD_NO_SUCH");
        check(|upstream| upstream.retries = 99, "retries: \"99\": expected 0 to 10");
        let missing = std::path::PathBuf::from("/no/such/key");
        check(|upstream| upstream.key = Some(KeySource::File(missing)), "key-file: /no/such/key: ");
    }

    #[test]
    fn a_host_without_an_address_is_no_error() {
        let urls = vec!["http://no-such-host.invalid".to_owned()];
        let prepared = Prepared::new(setup(|upstream| upstream.urls = urls)).unwrap();
        assert!(prepared.addresses().is_empty());
        let dial: Arc<dyn Dial> = Arc::new(crate::Unlocked);
        let known = prepared.servers(&dial)[0].known();
        assert!(known.problems[0].starts_with("http://no-such-host.invalid: "), "{known:?}");
    }

    #[test]
    fn an_issuer_is_told_user_and_password() {
        // The example of RFC 7617, section 2, and what a form would have otherwise.
        assert_eq!(basic("Aladdin", "open"), "Basic QWxhZGRpbjpvcGVu");
        assert_eq!(basic("a", "b"), "Basic YTpi");
        assert_eq!(basic("a:", "b"), "Basic YSUzQTpi");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_is_one_line_that_not_everybody_reads() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let of = Upstream::new("one", UpstreamKind::OpenAi, Vec::new());
            key_header(&KeySource::File(path.clone()), &of)
        };
        let (name, value) = write(" secret-1\n", 0o600).unwrap();
        assert_eq!((name, value.as_bytes()), (header::AUTHORIZATION, &b"Bearer secret-1"[..]));
        assert!(!format!("{value:?}").contains("secret-1"));
        assert!(write("secret-1", 0o644).unwrap_err().contains("mode 0644: everybody"));
        assert!(write("a\nb", 0o600).unwrap_err().contains("not one line"));
        assert!(write("\n", 0o600).unwrap_err().contains("empty"));
        let told = write(&"x".repeat(17 << 10), 0o600).unwrap_err();
        assert!(told.contains("more than 16384 bytes") && told.len() < 300, "{told}");
    }
}
