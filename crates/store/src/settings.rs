//! What the user's environment says about fetching: the hub, its token, offline, patience.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::StoreError;
use crate::logins::RegistryLogin;

/// The Hugging Face Hub's own address.
const HUB_ENDPOINT: &str = "https://huggingface.co";

/// The variable with a login of a registry.
pub(crate) const LOGIN: &str = "FREEHOLD_REGISTRY_LOGIN";

/// How the store reaches the world. [`Settings::from_env`] is what programs use; tests build one.
#[derive(Clone)]
#[non_exhaustive]
pub struct Settings {
    /// Refuse every source that needs the network (`FREEHOLD_OFFLINE=1`).
    pub offline: bool,
    /// The Hub or a mirror of it (`HF_ENDPOINT`), without a slash at the end.
    pub hub_endpoint: String,
    /// Sent to the Hub's own host only (`HF_TOKEN`).
    pub hub_token: Option<String>,
    /// Sent to the registry of its host only (`FREEHOLD_REGISTRY_LOGIN`).
    pub registry_login: Option<RegistryLogin>,
    /// Where logins of other registries are looked for: docker's files, and podman's.
    pub login_files: Vec<PathBuf>,
    /// Further environment for the pip that is run; pip's own variables reach it anyway.
    pub pip_env: Vec<(String, String)>,
    /// Tries in a row that may fail without a byte gained before a download is given up; at most
    /// 3 where no connection could be made at all.
    pub n_tries: u32,
    /// Wait before the second try; doubled each time, at most [`Settings::retry_wait_max`].
    pub retry_wait: Duration,
    /// The longest wait between tries, also when a server asks for more.
    pub retry_wait_max: Duration,
    /// A connection that sends nothing for this long counts as broken.
    pub stall_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            offline: false,
            hub_endpoint: HUB_ENDPOINT.to_owned(),
            hub_token: None,
            registry_login: None,
            login_files: Vec::new(),
            pip_env: Vec::new(),
            // Half a minute of patience in all: long enough for a router to come back.
            n_tries: 6,
            retry_wait: Duration::from_secs(1),
            retry_wait_max: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Reads `FREEHOLD_OFFLINE`, `HF_ENDPOINT`, `HF_TOKEN`, `FREEHOLD_REGISTRY_LOGIN`, and where
    /// docker and podman keep logins.
    ///
    /// # Errors
    /// [`StoreError::InvalidSetting`] naming the variable, its value and what was expected.
    pub fn from_env() -> Result<Self, StoreError> {
        let mut settings = Self::default();
        if let Some(value) = variable("FREEHOLD_OFFLINE") {
            settings.offline = parse_offline(&value)?;
        }
        if let Some(value) = variable("HF_ENDPOINT") {
            settings.hub_endpoint = value.trim_end_matches('/').to_owned();
        }
        settings.hub_token = variable("HF_TOKEN").map(|token| token.trim().to_owned());
        settings.registry_login =
            match variable(LOGIN).map(|login| login.trim().parse::<RegistryLogin>()) {
                None => None,
                Some(Ok(login)) => Some(login),
                Some(Err(error)) => {
                    let (value, expected) = ("(not shown)".to_owned(), error.to_string());
                    return Err(StoreError::InvalidSetting { name: LOGIN, value, expected });
                }
            };
        settings.login_files = login_files();
        Ok(settings)
    }
}

impl fmt::Debug for Settings {
    /// Leaves the token out: settings end up in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("offline", &self.offline)
            .field("hub_endpoint", &self.hub_endpoint)
            .field("hub_token", &self.hub_token.as_ref().map(|_| "(set)"))
            .field("registry_login", &self.registry_login)
            .field("n_tries", &self.n_tries)
            .finish_non_exhaustive()
    }
}

/// Installs the process's TLS implementation (ring). Harmless when one is installed already.
///
/// The store calls it before its first connection; a program with other TLS users calls it first.
pub fn install_tls() {
    // An error means that another provider was installed before, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Where docker and podman keep logins: the file that both are told of, docker's, podman's.
fn login_files() -> Vec<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|of| !of.is_empty()).map(PathBuf::from);
    let home = || std::env::home_dir().map(|home| home.join(".docker"));
    let docker = folder("DOCKER_CONFIG").or_else(home).map(|of| of.join("config.json"));
    let podman = folder("XDG_RUNTIME_DIR").map(|of| of.join("containers/auth.json"));
    [folder("REGISTRY_AUTH_FILE"), docker, podman].into_iter().flatten().collect()
}

/// A set, non-empty environment variable.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn parse_offline(value: &str) -> Result<bool, StoreError> {
    match value.trim() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        // Guessing wrong here would open a connection that the user forbade.
        _ => Err(StoreError::InvalidSetting {
            name: "FREEHOLD_OFFLINE",
            value: value.to_owned(),
            expected: "expected 1 or 0".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offline_is_read_strictly() {
        assert!(parse_offline("1").unwrap() && !parse_offline(" 0 ").unwrap());
        let error = parse_offline("maybe").unwrap_err().to_string();
        assert_eq!(error, "FREEHOLD_OFFLINE=\"maybe\": expected 1 or 0");
    }

    #[test]
    fn the_token_is_not_shown() {
        let settings = Settings {
            hub_token: Some("hf_secret".to_owned()),
            registry_login: Some("me:secret@host".parse().unwrap()),
            ..Settings::default()
        };
        assert!(!format!("{settings:?}").contains("secret"));
    }
}
