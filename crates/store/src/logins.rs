//! Logins of registries: given in the environment, or kept by docker and podman in their files.
//!
//! A login belongs to one host, by the name and port that it is given for, and is shown to that
//! host alone. Programs that keep logins for docker (`credsStore`, `credHelpers`) are not run.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::Url;
use serde::Deserialize;

use crate::error::StoreError;
use crate::progress::Progress;
use crate::settings::Settings;

/// Longest file with logins.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Longest user name, password or token, in bytes; those that registries make have some hundred.
const WORD_BYTES_MAX: usize = 16 << 10;

/// Hosts of docker's own registry: the second is what its file has, the last gives tokens.
const DOCKER_HOSTS: [&str; 4] =
    ["docker.io", "index.docker.io", "registry-1.docker.io", "auth.docker.io"];

/// Who somebody is at a registry.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// Name, and port where it is not that of https.
    pub(crate) host: String,
    pub(crate) user: String,
    pub(crate) password: String,
}

/// The text is no login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected USER:PASSWORD@HOST")]
pub struct ParseRegistryLoginError;

impl FromStr for RegistryLogin {
    type Err = ParseRegistryLoginError;

    /// Reads `USER:PASSWORD@HOST[:PORT]`; a password may have `:` and `@`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (words, host) = text.rsplit_once('@').ok_or(ParseRegistryLoginError)?;
        let is_host = |b: u8| b.is_ascii_alphanumeric() || b".-:[]".contains(&b);
        if host.is_empty() || !host.bytes().all(is_host) {
            return Err(ParseRegistryLoginError);
        }
        Self::of(host, words).ok_or(ParseRegistryLoginError)
    }
}

impl fmt::Debug for RegistryLogin {
    /// Leaves the password out: settings end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:(not shown)@{}", self.user, self.host)
    }
}

impl RegistryLogin {
    /// The login at `host` of `USER:PASSWORD`.
    fn of(host: &str, words: &str) -> Option<Self> {
        let (user, password) = words.split_once(':')?;
        Self::new(host, user, password)
    }

    fn new(host: &str, user: &str, password: &str) -> Option<Self> {
        let is_good = |word: &str| {
            !word.is_empty() && word.len() <= WORD_BYTES_MAX && !word.contains(char::is_control)
        };
        let [host, user, password] = [host, user, password].map(str::to_owned);
        let is_one = is_good(&user) && is_good(&password);
        is_one.then_some(Self { host: host.to_ascii_lowercase(), user, password })
    }
}

/// The file of docker's (`config.json`) or podman's (`auth.json`), of which only this is read.
#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(rename = "credsStore", default)]
    store: Option<String>,
    #[serde(rename = "credHelpers", default)]
    helpers: BTreeMap<String, String>,
}

#[derive(Deserialize, Default)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// The host of an address as logins name it.
pub(crate) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}"));
    format!("{host}{}", port.unwrap_or_default()).to_ascii_lowercase()
}

/// The login at `host`: of the settings, else of the first file that has one.
///
/// # Errors
/// [`StoreError::BadRecord`] where a file is none of docker's, [`StoreError::Io`].
pub(crate) fn find(
    settings: &Settings,
    host: &str,
    progress: &dyn Progress,
) -> Result<Option<RegistryLogin>, StoreError> {
    let is_docker = |of: &str| DOCKER_HOSTS.contains(&of);
    let is_same = |of: &str| of == host || (is_docker(of) && is_docker(host));
    if let Some(login) = settings.registry_login.as_ref().filter(|login| is_same(&login.host)) {
        return Ok(Some(login.clone()));
    }
    for path in &settings.login_files {
        let Some(config) = read(path)? else { continue };
        let is_of = |key: &str| is_same(&key_host(key));
        let Some((_, auth)) = config.auths.iter().find(|(key, _)| is_of(key)) else {
            let helper = config.helpers.iter().find(|(key, _)| is_of(key));
            if let Some((_, helper)) = helper {
                progress.note(&kept_by(path, host, helper));
            }
            continue;
        };
        match login_of(host, auth) {
            Some(login) => return Ok(Some(login)),
            None => progress.note(&match &config.store {
                Some(helper) => kept_by(path, host, helper),
                None => format!(
                    "{}: {host} has no user and password there, expected them in \"auth\"",
                    path.display()
                ),
            }),
        }
    }
    Ok(None)
}

fn kept_by(path: &Path, host: &str, helper: &str) -> String {
    let shown: String = helper.chars().filter(|c| !c.is_control()).take(80).collect();
    format!(
        "{}: the login at {host} is kept by the program {shown:?}, which is not run: \
         FREEHOLD_REGISTRY_LOGIN=USER:PASSWORD@{host} gives it",
        path.display()
    )
}

fn login_of(host: &str, auth: &Auth) -> Option<RegistryLogin> {
    if auth.auth.is_empty() {
        return RegistryLogin::new(host, &auth.username, &auth.password);
    }
    let words = String::from_utf8(BASE64_STANDARD.decode(auth.auth.trim_end()).ok()?).ok()?;
    // Docker pads some with zeros.
    RegistryLogin::of(host, words.trim_end_matches('\0'))
}

/// The host that a key of a file stands for: some have a scheme, or a path of an old protocol.
fn key_host(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = ["/v1/", "/v2/", "/"].iter().find_map(|end| key.strip_suffix(end)).unwrap_or(key);
    key.to_ascii_lowercase()
}

fn read(path: &PathBuf) -> Result<Option<Config>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io(path, "opening")(error)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(StoreError::io(path, "reading"))?;
    let bad = |reason: String| StoreError::BadRecord { path: path.clone(), reason };
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(bad(format!("expected at most {FILE_BYTES_MAX} bytes")));
    }
    // Where it goes wrong, but not what stands there.
    let place = |of: serde_json::Error| format!("line {}, column {}", of.line(), of.column());
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| bad(format!("{}: expected logins as docker keeps them", place(error))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::progress::Silent;

    fn login(text: &str) -> RegistryLogin {
        text.parse().unwrap()
    }

    #[test]
    fn a_login_is_read_and_its_password_not_shown() {
        let one = login("me:p:w@x@Registry.example:5000");
        let RegistryLogin { host, user, password } = &one;
        assert_eq!([host, user, password], ["registry.example:5000", "me", "p:w@x"]);
        assert_eq!(format!("{one:?}"), "me:(not shown)@registry.example:5000");
        for bad in ["", "me@host", "me:@host", ":p@host", "me:p", "me:p@", "me:p@a/b", "m\n:p@a"] {
            assert_eq!(bad.parse::<RegistryLogin>(), Err(ParseRegistryLoginError), "{bad:?}");
        }
    }

    /// What is found for `host`, where docker's file is `text`.
    fn found(text: &str, host: &str) -> Result<Option<RegistryLogin>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        let none = folder.path().join("none.json");
        let settings = Settings { login_files: vec![none, path], ..Settings::default() };
        find(&settings, host, &Silent).map_err(|error| error.to_string())
    }

    #[test]
    fn logins_of_docker_are_found_by_their_host_alone() {
        // me:secret
        let text = r#"{
            "auths": {
                "ghcr.io": { "auth": "bWU6c2VjcmV0" },
                "https://index.docker.io/v1/": { "auth": "bWU6c2VjcmV0" },
                "http://localhost:5000/": { "username": "me", "password": "secret" },
                "kept.example": {}
            },
            "credsStore": "desktop",
            "HttpHeaders": { "User-Agent": "x" }
        }"#;
        for host in ["ghcr.io", "registry-1.docker.io", "auth.docker.io", "localhost:5000"] {
            let expected = login(&format!("me:secret@{host}"));
            assert_eq!(found(text, host), Ok(Some(expected)), "{host}");
        }
        for host in ["evil.example", "ghcr.io:444", "x.ghcr.io", "localhost", "kept.example"] {
            assert_eq!(found(text, host), Ok(None), "{host}");
        }
        for bad in ["", "[", r#"{"auths":{"ghcr.io":{"auth":7,"password":"secret"}}}"#] {
            let told = found(bad, "ghcr.io").unwrap_err();
            assert!(told.contains("config.json: line 1") && !told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn a_login_of_the_environment_goes_before_files() {
        let registry_login = Some(login("me:p@a.example"));
        let settings = Settings { registry_login, ..Settings::default() };
        let find = |host: &str| find(&settings, host, &Silent).unwrap();
        assert_eq!(find("a.example"), settings.registry_login);
        assert_eq!(find("b.example"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_a_login_or_none(words: String, host in "[a-z.:]{1,9}") {
            if let Ok(login) = format!("{words}@{host}").parse::<RegistryLogin>() {
                prop_assert_eq!(format!("{}:{}@{}", login.user, login.password, host),
                    format!("{words}@{host}"));
            }
        }
    }
}
