//! A model in an OCI registry, Ollama's among them (OCI distribution specification 1.1).
//!
//! A manifest names its layers by digest; the one that is GGUF is the model, its digest the hash
//! that the download is held to. A registry that wants a token says where one is given (`401` with
//! `WWW-Authenticate: Bearer`, Docker's token authentication), to anybody or for a login; others
//! want the login itself (`Basic`). A login goes to the host that it is of, a token to the registry
//! alone, and neither to the storage that blobs are redirected to.

use std::collections::BTreeMap;

use reqwest::header::{ACCEPT, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{Client, Follow, Secret, patiently, read_body, show};
use super::transfer::{Download, download};
use super::{Fetched, Held, Job, ModelSource};
use crate::cosign::{self, Attached};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::latest::Latest;
use crate::logins::{self, host_of};
use crate::name::{check_file_name, part_names};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::source::{Source, is_loopback, oci_name, parse_url, registry_url};
use crate::staging::{FILE_BYTES_MAX, StagedFile};

/// Longest manifest; registries refuse longer ones (the specification asks for 4 MiB at least).
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Longest answer with a token.
const TOKEN_BYTES_MAX: u64 = 1 << 20;

/// The forms of manifests that are understood.
const MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// What an artifact's tool calls the file that a layer was made of.
const TITLE: &str = "org.opencontainers.image.title";

/// What to do where a registry refuses somebody without a login.
const NEEDS_LOGIN: &str = "nobody gets it without a login, expected a public model, or a login at \
     the host that gives tokens: FREEHOLD_REGISTRY_LOGIN=USER:PASSWORD@HOST, or docker's";
/// What to do where it refuses a login.
const OTHER_LOGIN: &str = "the login there is not accepted, or may not read it";

const MODEL: &str = "application/vnd.ollama.image.model";
const ADAPTER: &str = "application/vnd.ollama.image.adapter";

pub(super) struct OciSource<'a> {
    pub(super) host: &'a str,
    pub(super) repo: &'a str,
    pub(super) reference: &'a str,
    pub(super) sha256: Option<Sha256>,
}

/// A manifest, or an index of several.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Clone, Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl ModelSource for OciSource<'_> {
    fn needs_network(&self) -> bool {
        true
    }

    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError> {
        let asks = Asks { settings: job.settings, progress: job.progress };
        let base = self.base()?;
        let mut client = self.client(asks, &base)?;
        let (wanted, digest) = self.described(&client, asks, &base)?;
        let total = wanted.iter().filter_map(|one| one.n_bytes).fold(0, u64::saturating_add);
        let here = job.staging.n_bytes_here();
        let what = format!("{} file(s) of {total} bytes, {here} of them here,", wanted.len());
        job.staging.ask_space(total.saturating_sub(here), &what)?;
        let files = wanted.iter().map(|one| self.download(&mut client, job, &base, one));
        Ok(Fetched { files: files.collect::<Result<_, _>>()?, revision: Some(digest) })
    }

    /// By the digests that its tag names now.
    fn latest(&self, held: &Held<'_>) -> Result<Latest, StoreError> {
        if digest_of(self.reference).is_some() {
            return Ok(Latest::Fixed);
        }
        let asks = Asks { settings: held.settings, progress: held.progress };
        let base = self.base()?;
        // The hash that was pinned is that of what is here.
        let unpinned = OciSource { sha256: None, ..*self };
        let (wanted, digest) = unpinned.described(&unpinned.client(asks, &base)?, asks, &base)?;
        let held = held.files.iter().map(|file| file.sha256);
        if wanted.iter().map(|one| one.sha256).eq(held) {
            return Ok(Latest::Same);
        }
        let [host, repo, reference] = [self.host, self.repo, self.reference].map(str::to_owned);
        let source = Source::Oci { host, repo, reference, sha256: None };
        Ok(Latest::Newer { what: format!("manifest {digest}"), source: Some(source) })
    }

    /// Those of cosign's that stand under the tag of the manifest, or of the index.
    fn attached(
        &self,
        job: &Job<'_>,
        fetched: &Fetched,
    ) -> Result<Option<Vec<Attached>>, StoreError> {
        let asks = Asks { settings: job.settings, progress: job.progress };
        let base = self.base()?;
        let client = self.client(asks, &base)?;
        let tag = cosign::tag(fetched.revision.as_deref().unwrap_or_default());
        let layers = match self.manifest(&client, asks, &base, &tag) {
            Ok((manifest, _)) => manifest.layers,
            Err(StoreError::NotAtSource { .. }) => return Ok(Some(Vec::new())),
            Err(error) => return Err(error),
        };
        let signature =
            |layer: &Descriptor| layer.annotations.as_ref()?.get(cosign::SIGNATURE).cloned();
        let signed = layers.iter().filter(|layer| layer.media_type == cosign::PAYLOAD);
        let signed = signed.filter_map(|layer| Some((layer, signature(layer)?)));
        let mut all = Vec::new();
        for (layer, signature) in signed.take(cosign::N_SIGNATURES_MAX) {
            let payload = self.small_blob(&client, asks, &base, layer)?;
            all.push(Attached { payload, signature });
        }
        Ok(Some(all))
    }
}

/// How a registry is asked.
#[derive(Clone, Copy)]
struct Asks<'a> {
    settings: &'a Settings,
    progress: &'a dyn Progress,
}

impl OciSource<'_> {
    fn base(&self) -> Result<Url, StoreError> {
        parse_url(&registry_url(self.host))
            .map_err(|expected| StoreError::InvalidSource { value: self.host.to_owned(), expected })
    }

    /// The files of the model, and the digest of what the reference names: of an index its own,
    /// which is the same on every platform.
    fn described(
        &self,
        client: &Client,
        asks: Asks<'_>,
        base: &Url,
    ) -> Result<(Vec<Download>, String), StoreError> {
        let (mut manifest, digest) = self.manifest(client, asks, base, self.reference)?;
        if !manifest.manifests.is_empty() {
            let chosen = choose(&manifest.manifests).map_err(|reason| self.bad(reason))?;
            (manifest, _) = self.manifest(client, asks, base, &chosen)?;
        }
        Ok((self.wanted(base, &manifest.layers)?, digest))
    }

    fn url(&self, base: &Url, kind: &str, reference: &str) -> Result<Url, StoreError> {
        let path = format!("v2/{}/{kind}/{reference}", self.repo);
        base.join(&path).map_err(|error| self.bad(error.to_string()))
    }

    fn bad(&self, reason: impl Into<String>) -> StoreError {
        let place = format!("{}/{}:{}", self.host, self.repo, self.reference);
        StoreError::Network { place, reason: reason.into() }
    }

    /// A client that may read the repository: with a token or a login, where the registry wants
    /// one.
    fn client(&self, asks: Asks<'_>, base: &Url) -> Result<Client, StoreError> {
        let Asks { settings, progress } = asks;
        let client = Client::new(settings, base, None)?.with_hint(NEEDS_LOGIN);
        let url = self.url(base, "manifests", self.reference)?;
        let challenges =
            patiently(settings, &url, progress, || client.challenges(&url, &[accept()]))?;
        if challenges.is_empty() {
            return Ok(client);
        }
        if let Some(fields) = challenges.iter().find_map(|of| bearer_fields(of)) {
            let (token, hint) = self.token(asks, base, &fields)?;
            return Ok(Client::new(settings, base, Some(Secret::Token(&token)))?.with_hint(hint));
        }
        if !challenges.iter().any(|of| scheme(of).eq_ignore_ascii_case("basic")) {
            let schemes: Vec<&str> = challenges.iter().map(|of| scheme(of)).collect();
            return Err(self.bad(format!(
                "it wants a login of the kind {}, expected Bearer with a realm, or Basic",
                schemes.join(", ")
            )));
        }
        match logins::find(settings, &host_of(base), progress)? {
            Some(login) => {
                Ok(Client::new(settings, base, Some(Secret::Login(&login)))?.with_hint(OTHER_LOGIN))
            }
            None => {
                let (place, hint) = (show(&url), NEEDS_LOGIN.to_owned());
                Err(StoreError::AccessDenied { place, status: 401, hint })
            }
        }
    }

    /// Asks for a token where the fields of a challenge say, with the login of that host, where
    /// there is one: a registry must not be able to have its login sent elsewhere. Returns it with
    /// what to do where it is refused.
    fn token(
        &self,
        asks: Asks<'_>,
        base: &Url,
        fields: &BTreeMap<String, String>,
    ) -> Result<(String, &'static str), StoreError> {
        let field = |name: &str| fields.get(name).map(String::as_str);
        let mut realm = parse_url(field("realm").unwrap_or_default()).map_err(|expected| {
            self.bad(format!("it sends us elsewhere for a token: {expected}"))
        })?;
        // Another host must not be able to make us talk to services of this machine.
        if is_loopback(&realm) && !is_loopback(base) {
            return Err(self.bad("it sends us to this machine itself for a token"));
        }
        let scope = format!("repository:{}:pull", self.repo);
        realm.query_pairs_mut().append_pair("scope", field("scope").unwrap_or(&scope));
        if let Some(service) = field("service") {
            realm.query_pairs_mut().append_pair("service", service);
        }
        let login = logins::find(asks.settings, &host_of(&realm), asks.progress)?;
        let hint = if login.is_some() { OTHER_LOGIN } else { NEEDS_LOGIN };
        let secret = login.as_ref().map(Secret::Login);
        let client = Client::new(asks.settings, &realm, secret)?.with_hint(hint);
        let body = patiently(asks.settings, &realm, asks.progress, || {
            let response = client.send(&Method::GET, &realm, &[], Follow::SameOrigin)?;
            read_body(response, TOKEN_BYTES_MAX)
        })?;
        let token: Token = parse(&body).map_err(|reason| self.bad(reason))?;
        let token = token.token.or(token.access_token).unwrap_or_default();
        match !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok((token, hint)),
            false => Err(self.bad("it gives no token, expected one of plain characters")),
        }
    }

    /// A manifest and its digest, by which it is held where the reference is one.
    fn manifest(
        &self,
        client: &Client,
        asks: Asks<'_>,
        base: &Url,
        reference: &str,
    ) -> Result<(Manifest, String), StoreError> {
        let url = self.url(base, "manifests", reference)?;
        let body = patiently(asks.settings, &url, asks.progress, || {
            let response = client.send(&Method::GET, &url, &[accept()], Follow::All)?;
            read_body(response, MANIFEST_BYTES_MAX)
        })?;
        let found = Sha256::of(&body);
        if let Some(expected) = digest_of(reference).filter(|expected| *expected != found) {
            return Err(StoreError::HashMismatch { path: show(&url).into(), expected, found });
        }
        let manifest = parse(&body).map_err(|reason| self.bad(format!("manifest: {reason}")))?;
        Ok((manifest, format!("sha256:{found}")))
    }

    /// The bytes of a layer that has few.
    fn small_blob(
        &self,
        client: &Client,
        asks: Asks<'_>,
        base: &Url,
        layer: &Descriptor,
    ) -> Result<Vec<u8>, StoreError> {
        let expected = digest_of(&layer.digest)
            .ok_or_else(|| self.bad(format!("digest {:?}, expected sha256:HEX", layer.digest)))?;
        let url = self.url(base, "blobs", &layer.digest)?;
        let body = patiently(asks.settings, &url, asks.progress, || {
            let response = client.send(&Method::GET, &url, &[], Follow::All)?;
            read_body(response, cosign::PAYLOAD_BYTES_MAX)
        })?;
        let found = Sha256::of(&body);
        match found == expected {
            true => Ok(body),
            false => Err(StoreError::HashMismatch { path: show(&url).into(), expected, found }),
        }
    }

    /// The layers that are the model.
    fn wanted(&self, base: &Url, layers: &[Descriptor]) -> Result<Vec<Download>, StoreError> {
        if layers.iter().any(|layer| layer.media_type == ADAPTER) {
            return Err(self.bad("it has an adapter, without which it would answer otherwise"));
        }
        let mut models: Vec<(String, &Descriptor)> = Vec::new();
        for layer in layers.iter().filter(|layer| is_model(layer)) {
            models.push((self.file_name_of(layer)?, layer));
        }
        models.sort_by(|(one, _), (other, _)| one.cmp(other));
        let names: Vec<String> = models.iter().map(|(name, _)| name.clone()).collect();
        let Some(first) = names.first() else {
            return Err(self.bad("it has no layer that is a model in GGUF, expected one"));
        };
        if part_names(first)? != names {
            let names = names.join(", ");
            return Err(self.bad(format!("it has the models {names}: expected one, or its parts")));
        }
        if self.sha256.is_some() && models.len() > 1 {
            return Err(StoreError::InvalidSource {
                value: format!("{}/{}", self.host, self.repo),
                expected: "expected no #sha256 on a split model, whose parts have one each"
                    .to_owned(),
            });
        }
        let download = |(file_name, layer): (String, &Descriptor)| {
            let promised = digest_of(&layer.digest).ok_or_else(|| {
                self.bad(format!("digest {:?}, expected sha256:HEX", layer.digest))
            })?;
            let url = self.url(base, "blobs", &layer.digest)?;
            if let Some(expected) = self.sha256.filter(|expected| *expected != promised) {
                let (path, found) = (show(&url).into(), promised);
                return Err(StoreError::HashMismatch { path, expected, found });
            }
            if layer.size > FILE_BYTES_MAX {
                let size = layer.size;
                return Err(self.bad(format!("{size} bytes, expected at most {FILE_BYTES_MAX}")));
            }
            let (what, n_bytes) = (show(&url), Some(layer.size));
            Ok(Download { what, file_name, url, n_bytes, sha256: promised })
        };
        models.into_iter().map(download).collect()
    }

    /// What a layer's file is to be called: its title, else what the model is called.
    fn file_name_of(&self, layer: &Descriptor) -> Result<String, StoreError> {
        let title = title(layer).map(|title| title.rsplit('/').next().unwrap_or(title));
        if let Some(title) = title.filter(|title| check_file_name(title).is_ok()) {
            return Ok(title.to_owned());
        }
        let (_, name) = oci_name(self.host, self.repo, self.reference)?;
        Ok(format!("{name}.gguf"))
    }

    /// Downloads a file, with another token when the one at hand has lost its force: they last some
    /// minutes, a large model takes hours. One that brings no byte further is the last.
    fn download(
        &self,
        client: &mut Client,
        job: &Job<'_>,
        base: &Url,
        wanted: &Download,
    ) -> Result<StagedFile, StoreError> {
        let mut n_bytes_before = None;
        loop {
            let done = download(client, job, wanted);
            let n_bytes = Some(job.staging.n_bytes_here());
            match done {
                Err(StoreError::AccessDenied { status: 401, .. }) if n_bytes_before != n_bytes => {
                    n_bytes_before = n_bytes;
                    let asks = Asks { settings: job.settings, progress: job.progress };
                    *client = self.client(asks, base)?;
                }
                done => return done,
            }
        }
    }
}

fn accept() -> (HeaderName, HeaderValue) {
    (ACCEPT, HeaderValue::from_static(MANIFESTS))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn digest_of(reference: &str) -> Option<Sha256> {
    reference.strip_prefix("sha256:")?.parse().ok()
}

fn title(layer: &Descriptor) -> Option<&str> {
    layer.annotations.as_ref()?.get(TITLE).map(String::as_str)
}

/// Ollama's models, Docker's (`application/vnd.docker.ai.gguf.v3`), and files of that ending.
fn is_model(layer: &Descriptor) -> bool {
    layer.media_type == MODEL
        || layer.media_type.contains("gguf")
        || title(layer).is_some_and(|title| title.ends_with(".gguf"))
}

/// The digest of the manifest that is meant for this machine: the only one, the one of its
/// platform, or one that is for all.
fn choose(manifests: &[Descriptor]) -> Result<String, String> {
    // As Go calls them, which the specification asks for.
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let is_ours = |of: &&Descriptor| {
        of.platform.as_ref().is_some_and(|of| of.os == os && of.architecture == architecture)
    };
    let is_for_all = |of: &&Descriptor| of.platform.is_none();
    let only = if manifests.len() == 1 { manifests.first() } else { None };
    let chosen = only
        .or_else(|| manifests.iter().find(is_ours))
        .or_else(|| manifests.iter().find(is_for_all))
        .ok_or_else(|| format!("it has nothing for {os}/{architecture} among its manifests"))?;
    match digest_of(&chosen.digest) {
        Some(_) => Ok(chosen.digest.clone()),
        None => Err(format!("digest {:?}, expected sha256:HEX", chosen.digest)),
    }
}

/// How a challenge wants to be answered.
fn scheme(challenge: &str) -> &str {
    challenge.split(' ').next().unwrap_or(challenge)
}

/// The fields of `Bearer realm="…",service="…",scope="…"`.
fn bearer_fields(challenge: &str) -> Option<BTreeMap<String, String>> {
    let (scheme, mut rest) = challenge.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut fields = BTreeMap::new();
    while let Some((name, behind)) = rest.split_once('=') {
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => behind.split_once(',').unwrap_or((behind, "")),
        };
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        fields.insert(name, value.to_owned());
        rest = behind;
    }
    fields.contains_key("realm").then_some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_taken_apart() {
        let challenge =
            r#"Bearer realm="https://a/t",service="r",scope="repository:x/y:pull,push""#;
        let fields = bearer_fields(challenge).unwrap();
        assert_eq!(fields["realm"], "https://a/t");
        assert_eq!(fields["scope"], "repository:x/y:pull,push");
        assert_eq!(bearer_fields("bearer REALM=https://a, service=r").unwrap()["service"], "r");
        for bad in ["Basic realm=\"x\"", "Bearer", "Bearer service=\"r\"", "Bearer realm=\"x"] {
            assert!(bearer_fields(bad).is_none(), "{bad}");
        }
    }
}
