//! A file of a Hugging Face Hub repository, or of a mirror that behaves like it.
//!
//! The Hub answers `GET /OWNER/REPO/resolve/REVISION/PATH` with a redirect to its storage and names
//! on the way, for files kept in LFS or Xet, the SHA-256 (`X-Linked-Etag`), the length
//! (`X-Linked-Size`) and the commit (`X-Repo-Commit`). The first request asks for these, the
//! downloads then name the commit, so that a branch that moves meanwhile cannot mix two versions.

use reqwest::Url;
use reqwest::blocking::Response;
use reqwest::header::CONTENT_LENGTH;

use super::http::{Client, Follow, Secret, head, named_sha256, show};
use super::transfer::{Download, download, signature};
use super::{Fetched, Held, Job, ModelSource};
use crate::error::StoreError;
use crate::hash::Sha256;
use crate::latest::Latest;
use crate::name::part_names;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::source::{Source, parse_url};
use crate::staging::FILE_BYTES_MAX;

/// The branch that is meant when none is named.
const DEFAULT_REVISION: &str = "main";

pub(super) struct HubSource<'a> {
    /// Always [`Source::Hub`].
    pub(super) source: &'a Source,
}

/// What the Hub says about a file.
struct Description {
    sha256: Option<Sha256>,
    n_bytes: Option<u64>,
    commit: Option<String>,
}

impl ModelSource for HubSource<'_> {
    fn needs_network(&self) -> bool {
        true
    }

    fn fetch(&self, job: &Job<'_>) -> Result<Fetched, StoreError> {
        let Source::Hub { owner, repo, path, revision, sha256 } = self.source else {
            unreachable!("only hub sources are opened as such");
        };
        let (client, endpoint) = client(job.settings)?;
        let (folder, file_name) = path.rsplit_once('/').unwrap_or(("", path));
        let parts = part_names(file_name)?;
        if parts.len() > 1 && sha256.is_some() {
            return Err(StoreError::InvalidSource {
                value: self.source.to_string(),
                expected: "expected no #sha256 on a split model, whose parts have one each"
                    .to_owned(),
            });
        }
        let mut revision = revision.clone().unwrap_or_else(|| DEFAULT_REVISION.to_owned());
        let mut commit = None;
        let mut wanted = Vec::new();
        for file_name in parts {
            let inner = inner_path(folder, &file_name);
            let url = resolve_url(&endpoint, &[owner, repo], &revision, &inner)?;
            let described = describe(&client, &url, job.progress)?;
            let promised = described.sha256;
            if let Some((expected, found)) = sha256.zip(promised).filter(|(a, b)| a != b) {
                return Err(StoreError::HashMismatch { path: show(&url).into(), expected, found });
            }
            let place = show(&url);
            let sha256 = sha256.or(promised).ok_or(StoreError::HashUnknown { place })?;
            if let Some(found) = described.commit {
                revision.clone_from(&found);
                commit = Some(found);
            }
            let url = resolve_url(&endpoint, &[owner, repo], &revision, &inner)?;
            let (what, n_bytes) = (show(&url), described.n_bytes);
            wanted.push(Download { what, file_name, url, n_bytes, sha256 });
        }
        let total: u64 =
            wanted.iter().filter_map(|wanted| wanted.n_bytes).fold(0, u64::saturating_add);
        let here = job.staging.n_bytes_here();
        let what = format!("{} file(s) of {total} bytes, {here} of them here,", wanted.len());
        job.staging.ask_space(total.saturating_sub(here), &what)?;
        let files =
            wanted.iter().map(|wanted| download(&client, job, wanted)).collect::<Result<_, _>>()?;
        Ok(Fetched { files, revision: commit })
    }

    /// By the hashes that its branch or tag has now.
    fn latest(&self, held: &Held<'_>) -> Result<Latest, StoreError> {
        let Source::Hub { owner, repo, path, revision, .. } = self.source else {
            unreachable!("only hub sources are opened as such");
        };
        if revision.as_deref().is_some_and(is_commit) {
            return Ok(Latest::Fixed);
        }
        let (client, endpoint) = client(held.settings)?;
        let branch = revision.as_deref().unwrap_or(DEFAULT_REVISION);
        let (folder, file_name) = path.rsplit_once('/').unwrap_or(("", path));
        for (file_name, file) in part_names(file_name)?.iter().zip(held.files) {
            let inner = inner_path(folder, file_name);
            let url = resolve_url(&endpoint, &[owner, repo], branch, &inner)?;
            let Description { sha256, commit, .. } = describe(&client, &url, held.progress)?;
            let sha256 = sha256.ok_or_else(|| StoreError::HashUnknown { place: show(&url) })?;
            if sha256 != file.sha256 {
                let commit = commit.map(|commit| format!("commit {commit}"));
                let mut source = self.source.clone();
                if let Source::Hub { sha256, .. } = &mut source {
                    *sha256 = None;
                }
                return Ok(Latest::Newer {
                    what: commit.unwrap_or_else(|| format!("sha256 {sha256}")),
                    source: Some(source),
                });
            }
        }
        Ok(Latest::Same)
    }

    fn beside(
        &self,
        job: &Job<'_>,
        fetched: &Fetched,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        let Source::Hub { owner, repo, path, revision, .. } = self.source else {
            unreachable!("only hub sources are opened as such");
        };
        let (client, endpoint) = client(job.settings)?;
        let revision = fetched.revision.as_deref().or(revision.as_deref());
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let inner = inner_path(folder, name);
        let revision = revision.unwrap_or(DEFAULT_REVISION);
        signature(&client, job, &resolve_url(&endpoint, &[owner, repo], revision, &inner)?)
    }
}

/// A client of the Hub that the settings name, and its address.
fn client(settings: &Settings) -> Result<(Client, Url), StoreError> {
    let endpoint = parse_url(&settings.hub_endpoint).map_err(|expected| {
        let value = settings.hub_endpoint.clone();
        StoreError::InvalidSetting { name: "HF_ENDPOINT", value, expected }
    })?;
    let token = settings.hub_token.as_deref().map(Secret::Token);
    Ok((Client::new(settings, &endpoint, token)?, endpoint))
}

/// The path of a file in its repository.
fn inner_path(folder: &str, file_name: &str) -> String {
    if folder.is_empty() { file_name.to_owned() } else { format!("{folder}/{file_name}") }
}

/// Whether a revision is a commit, which never moves.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// `ENDPOINT/OWNER/REPO/resolve/REVISION/PATH`, each part escaped; a revision's slashes too.
fn resolve_url(
    endpoint: &Url,
    repo: &[&str],
    revision: &str,
    path: &str,
) -> Result<Url, StoreError> {
    let mut url = endpoint.clone();
    let revision = revision.replace('/', "%2F");
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.pop_if_empty().extend(repo).push("resolve");
        }
        Err(()) => {
            return Err(StoreError::InvalidSetting {
                name: "HF_ENDPOINT",
                value: endpoint.to_string(),
                expected: "expected an https address".to_owned(),
            });
        }
    }
    // The escaped slash must not be escaped again, so the revision goes in as it stands; its
    // characters were checked when the source was read, or are a commit's hexadecimal digits.
    let prefix = format!("{}/{revision}", url.path());
    url.set_path(&prefix);
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.extend(path.split('/'));
    }
    Ok(url)
}

/// Asks what the file is.
fn describe(
    client: &Client,
    url: &Url,
    progress: &dyn Progress,
) -> Result<Description, StoreError> {
    let response = head(client, url, Follow::SameOrigin, progress)?;
    read_description(&response, url)
}

fn read_description(response: &Response, url: &Url) -> Result<Description, StoreError> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok();
    let length = || header(CONTENT_LENGTH.as_str()).filter(|_| response.status().is_success());
    let n_bytes = header("x-linked-size").or_else(length).and_then(|text| text.trim().parse().ok());
    if let Some(found) = n_bytes.filter(|n_bytes| *n_bytes > FILE_BYTES_MAX) {
        let reason = format!("a file of {found} bytes, expected at most {FILE_BYTES_MAX}");
        return Err(StoreError::Network { place: show(url), reason });
    }
    let commit = header("x-repo-commit").filter(|text| is_commit(text)).map(str::to_owned);
    Ok(Description { sha256: named_sha256(response), n_bytes, commit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_escaped_part_by_part() {
        let endpoint = Url::parse("https://hub.example/mirror/").unwrap();
        let url = resolve_url(&endpoint, &["o", "r"], "refs/pr/1", "a b/ü?.gguf").unwrap();
        assert_eq!(
            url.as_str(),
            "https://hub.example/mirror/o/r/resolve/refs%2Fpr%2F1/a%20b/%C3%BC%3F.gguf"
        );
    }
}
