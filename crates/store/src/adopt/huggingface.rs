//! The cache of the Hugging Face Hub's clients:
//!
//! ```text
//! HUB/models--OWNER--REPO/refs/main                  the commit that the branch was at
//!                         snapshots/COMMIT/**.gguf   links into blobs
//!                         blobs/SHA256               the files
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Found, OnLinks, Program, folder_of_variable, gguf_files, model_at, user_home};
use crate::error::StoreError;
use crate::home::folders_in;
use crate::source::Source;

const TITLE: &str = "the Hugging Face cache";

pub(super) const PROGRAM: Program = Program { word: "huggingface", title: TITLE, homes, find };

fn homes() -> Vec<PathBuf> {
    let hub = folder_of_variable("HF_HUB_CACHE")
        .or_else(|| folder_of_variable("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| folder_of_variable("XDG_CACHE_HOME").map(|home| home.join("huggingface/hub")))
        .or_else(|| user_home().map(|home| home.join(".cache/huggingface/hub")));
    hub.into_iter().collect()
}

/// Whether a folder is such a cache.
pub(super) fn is_home(folder: &Path) -> bool {
    folders_in(folder).is_ok_and(|names| names.iter().any(|name| repository(name).is_some()))
}

/// `OWNER`, `REPO` of `models--OWNER--REPO`.
fn repository(folder_name: &str) -> Option<(&str, &str)> {
    folder_name.strip_prefix("models--")?.split_once("--")
}

fn find(hub: &Path) -> Result<Vec<Found>, StoreError> {
    let mut found = Vec::new();
    let mut names = folders_in(hub)?;
    names.sort();
    for folder_name in &names {
        if let Some((owner, repo)) = repository(folder_name) {
            find_in_repository(&hub.join(folder_name), owner, repo, &mut found)?;
        }
    }
    Ok(found)
}

/// The files of a repository: of the commit that `main` is at, then those that only others have.
fn find_in_repository(
    folder: &Path,
    owner: &str,
    repo: &str,
    found: &mut Vec<Found>,
) -> Result<(), StoreError> {
    let snapshots = folder.join("snapshots");
    let main = fs::read_to_string(folder.join("refs/main")).unwrap_or_default();
    let mut commits = folders_in(&snapshots)?;
    commits.sort_by_key(|commit| (commit != main.trim(), commit.clone()));
    let mut seen = BTreeSet::new();
    for commit in commits {
        let snapshot = snapshots.join(&commit);
        for path in gguf_files(&snapshot, OnLinks::Follow)? {
            let Ok(inner) = path.strip_prefix(&snapshot) else { continue };
            let inner = inner.to_string_lossy().replace('\\', "/");
            if seen.insert(inner.clone()) {
                found.push(model_of(owner, repo, &commit, &inner, &path));
            }
        }
    }
    Ok(())
}

fn model_of(owner: &str, repo: &str, commit: &str, inner: &str, path: &Path) -> Found {
    let mut model = model_at(TITLE, owner, path);
    for file in &mut model.files {
        // A file in LFS or Xet lies under its hash, another under that of a git object, which is
        // shorter and no hash for us.
        let blob = fs::canonicalize(&file.path).ok();
        let name = blob.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
        file.sha256 = name.and_then(|name| name.parse().ok());
    }
    let source = Source::parse(&format!("hf:{owner}/{repo}/{inner}@{commit}"));
    model.source = source.ok().map(|source| source.to_string());
    model.revision = Some(commit.to_owned());
    model
}
