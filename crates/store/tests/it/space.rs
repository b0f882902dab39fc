//! A disk that is too small: refused before, and survived in the middle.
//!
//! Needs to mount a small file system, so it runs for root on Linux and skips elsewhere.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

use std::path::Path;
use std::process::Command;

use crate::support::hub::Hub;
use crate::support::{files_below, model, settings, sha256};
use freehold_store::{ErrorKind, PullOptions, Silent, Source, Store, StoreError};

/// A file system in memory, mounted while this lives.
struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    fn of_size(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = mount(&format!("size={size}"), folder.path());
        if !mounted {
            println!("skipped: mounting a small file system needs root on Linux");
        }
        mounted.then_some(Self { folder })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.folder.path()).status();
    }
}

fn mount(options: &str, folder: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder);
    cfg!(target_os = "linux") && mount.output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_download_that_cannot_fit_is_not_begun() {
    let Some(small) = Mounted::of_size("3m") else { return };
    let content = model(6 * 1024, 1);
    let hub = Hub::start(&[("m.gguf", &content)]);
    let mut settings = settings();
    settings.hub_endpoint.clone_from(&hub.endpoint);
    let store = Store::with_settings(small.folder.path(), settings).unwrap();
    let source = Source::parse("hf:owner/repo/m.gguf").unwrap();
    let error = store.pull(&source, &PullOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    match &error {
        StoreError::NoSpace { needed_bytes, free_bytes, .. } => {
            assert!(*needed_bytes >= content.len() as u64 && *free_bytes <= 3 << 20);
            let short = format!("({} short)", needed_bytes - free_bytes);
            assert!(error.to_string().ends_with(&short), "{error}");
        }
        other => panic!("{other}"),
    }
    assert!(hub.storage_log().is_empty());
}

#[test]
fn a_disk_that_fills_up_keeps_what_it_has_for_the_next_pull() {
    let Some(small) = Mounted::of_size("3m") else { return };
    let content = model(6 * 1024, 1);
    let hub = Hub::start(&[("m.gguf", &content)]);
    // Without a length, nothing can be asked before.
    hub.set(|manners| manners.hides_length = true);
    let source = format!("{}/m.gguf#sha256={}", hub.storage, sha256(&content));
    let source = Source::parse(&source).unwrap();
    let store = Store::with_settings(small.folder.path(), settings()).unwrap();
    let pull = || store.pull(&source, &PullOptions::default(), &Silent);
    let error = pull().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoSpace);
    assert!(error.to_string().contains("no space left on the device after"), "{error}");
    let StoreError::DiskFull { n_bytes_kept, .. } = error else { panic!("{error}") };
    assert!(n_bytes_kept > 2 << 20, "{n_bytes_kept}");
    assert!(files_below(&small.folder.path().join("models")).is_empty());

    assert!(mount("remount,size=32m", small.folder.path()));
    assert_eq!(std::fs::read(pull().unwrap().path()).unwrap(), content);
    let range = format!("bytes={n_bytes_kept}-");
    assert_eq!(hub.storage_log()[1].header("range"), Some(range.as_str()));
}
