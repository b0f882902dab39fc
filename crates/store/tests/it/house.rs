//! Keeping house: adopting, listing, finding, verifying and removing models.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

use std::fs;
use std::path::Path;

use crate::support::{Home, files_below, model, settings, sha256};
use freehold_store::{
    ErrorKind, FileState, Licence, PullOptions, Silent, Source, StoreError, Terms,
};

fn home() -> Home {
    Home::new(settings())
}

/// Writes a model file outside the store.
fn outside(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn an_adopted_model_stays_where_it_is() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let bytes = model(64, 1);
    let path = outside(folder.path(), "My Model.Q4.gguf", &bytes);
    let added = home.store.add(&path, None, &Terms::default(), &Silent).unwrap();
    assert_eq!(added.full_name(), "local/my-model.q4");
    assert!(added.adopted && added.files[0].sha256 == sha256(&bytes));
    assert_eq!(added.path(), fs::canonicalize(&path).unwrap());
    assert_eq!(home.store.resolve("my-model.q4").unwrap(), added);
    assert_eq!(home.store.resolve("local/my-model.q4").unwrap(), added);
    let stored: u64 =
        files_below(home.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(stored < 4096, "nothing is copied, but {stored} bytes are there");
    let removed = home.store.remove("my-model.q4").unwrap();
    assert_eq!((removed.n_bytes, removed.kept.len()), (0, 1));
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert!(matches!(home.store.resolve("my-model.q4"), Err(StoreError::UnknownName { .. })));
}

#[test]
fn all_parts_of_a_split_model_are_adopted() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let mut writer = gguf::write::Writer::new();
    writer.metadata("general.architecture", "llama");
    for name in ["a", "b"] {
        writer.tensor(name, &[4, 32], gguf::TensorType::F32, vec![7; 4 * 32 * 4]);
    }
    let parts = writer.write_split(folder.path(), "big", 1).unwrap();
    let added = home.store.add(&parts[1], Some("mine"), &Terms::default(), &Silent).unwrap();
    assert_eq!(added.files.len(), 2);
    // A byte of any part counts.
    let mut bytes = fs::read(&parts[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&parts[1], bytes).unwrap();
    let report = home.store.verify("mine", &Silent).unwrap();
    assert_eq!(report.files[0].state, FileState::Intact);
    assert!(matches!(report.files[1].state, FileState::Different(_)));
}

#[test]
fn what_is_no_model_is_not_adopted() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let path = outside(folder.path(), "m.gguf", b"hello");
    let error = home.store.add(&path, None, &Terms::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadModel);
    let error = home
        .store
        .add(&folder.path().join("none.gguf"), None, &Terms::default(), &Silent)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let path = outside(folder.path(), "n.gguf", &model(4, 1));
    for name in ["../n", "a/b/c", "/n", "..", "-n", ""] {
        let error = home.store.add(&path, Some(name), &Terms::default(), &Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{name}");
    }
    assert!(files_below(&home.path().join("models")).is_empty());
}

#[test]
fn a_file_is_copied_by_pull_and_removed_with_the_model() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let bytes = model(64, 1);
    let path = outside(folder.path(), "m.gguf", &bytes);
    let source = Source::File(path.clone());
    let options = PullOptions { name: Some("me/first".to_owned()), ..PullOptions::default() };
    let pulled = home.store.pull(&source, &options, &Silent).unwrap();
    assert_eq!(pulled.path(), home.path().join("models/me/first/m.gguf"));
    assert_eq!(fs::read(pulled.path()).unwrap(), bytes);
    // Somebody's own file in the folder is left alone.
    let note = pulled.path().with_file_name("notes.txt");
    fs::write(&note, "mine").unwrap();
    let removed = home.store.remove("first").unwrap();
    assert_eq!((removed.n_bytes, removed.kept.len()), (bytes.len() as u64, 0));
    assert_eq!(files_below(&home.path().join("models")), [note]);
    assert!(path.is_file());
}

#[test]
fn a_copy_has_the_licence_that_is_stated() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let path = outside(folder.path(), "m.gguf", &model(64, 1));
    let licence = Licence { id: "own".to_owned(), ..Licence::unknown() };
    for (name, stated, expected) in [("a", None, "mit"), ("b", Some(licence), "own")] {
        let options =
            PullOptions { name: Some(name.to_owned()), licence: stated, ..PullOptions::default() };
        let source = Source::File(path.clone());
        assert_eq!(home.store.pull(&source, &options, &Silent).unwrap().licence.id, expected);
    }
}

#[test]
fn a_flipped_byte_is_found_even_when_the_date_is_set_back() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let path = outside(folder.path(), "m.gguf", &model(64, 1));
    let added = home.store.add(&path, None, &Terms::default(), &Silent).unwrap();
    home.store.ensure_intact(&added, &Silent).unwrap();
    let date = fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[40_000] ^= 0x10;
    fs::write(&path, &bytes).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(date).unwrap();
    assert!(!home.store.quick_check(&added).unwrap());
    let error = home.store.ensure_intact(&added, &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    let message = error.to_string();
    for part in [added.path().to_str().unwrap(), &added.files[0].sha256.to_string()] {
        assert!(message.contains(part), "{message}");
    }
    assert!(message.contains(&sha256(&bytes).to_string()), "{message}");
    let report = home.store.verify("m", &Silent).unwrap();
    assert_eq!(report.files[0].state, FileState::Different(sha256(&bytes)));
    // Adopting again takes the new content.
    home.store.add(&path, None, &Terms::default(), &Silent).unwrap();
    assert!(home.store.verify("m", &Silent).unwrap().is_intact());
}

#[test]
fn a_missing_or_shortened_file_is_said() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let path = outside(folder.path(), "m.gguf", &model(64, 1));
    let added = home.store.add(&path, None, &Terms::default(), &Silent).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
    let error = home.store.ensure_intact(&added, &Silent).unwrap_err();
    assert!(matches!(error, StoreError::SizeMismatch { found: 100, .. }), "{error}");
    fs::remove_file(&path).unwrap();
    let error = home.store.quick_check(&added).unwrap_err();
    assert!(matches!(error, StoreError::FileMissing { .. }), "{error}");
    let report = home.store.verify("m", &Silent).unwrap();
    assert_eq!(report.files[0].state, FileState::Missing);
}

#[test]
fn names_are_taken_ambiguous_or_unknown() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let one = outside(folder.path(), "one.gguf", &model(4, 1));
    let two = outside(folder.path(), "two.gguf", &model(4, 2));
    home.store.add(&one, Some("a/same"), &Terms::default(), &Silent).unwrap();
    let error = home.store.add(&two, Some("a/same"), &Terms::default(), &Silent).unwrap_err();
    assert!(error.to_string().contains("one.gguf"), "{error}");
    home.store.add(&two, Some("b/same"), &Terms::default(), &Silent).unwrap();
    let error = home.store.resolve("same").unwrap_err().to_string();
    assert_eq!(error, "model name \"same\" is ambiguous: it could be a/same or b/same");
    let error = home.store.resolve("smollm2-135m").unwrap_err().to_string();
    assert!(error.ends_with("not here yet; run `freehold pull smollm2-135m`"), "{error}");
    let error = home.store.resolve("gpt-9").unwrap_err().to_string();
    assert!(error.contains("the catalogue has smollm2-135m, gemma3-270m, "), "{error}");
    assert_eq!(home.store.resolve("../../etc").unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn a_broken_manifest_does_not_hide_the_others() {
    let (home, folder) = (home(), tempfile::tempdir().unwrap());
    let path = outside(folder.path(), "m.gguf", &model(4, 1));
    assert!(home.store.list().unwrap().is_empty());
    home.store.add(&path, Some("good"), &Terms::default(), &Silent).unwrap();
    home.store.add(&path, Some("bad"), &Terms::default(), &Silent).unwrap();
    let manifest = home.path().join("models/local/bad/manifest.toml");
    fs::write(&manifest, "format = 1\n\0").unwrap();
    let list = home.store.list().unwrap();
    assert_eq!(list.len(), 2);
    let error = list[0].as_ref().unwrap_err().to_string();
    assert!(error.starts_with(manifest.to_str().unwrap()), "{error}");
    assert_eq!(list[1].as_ref().unwrap().name, "good");
}

#[test]
fn terms_must_be_accepted_once() {
    let mut settings = settings();
    settings.offline = true;
    let home = Home::new(settings);
    let source = Source::parse("gemma3-270m").unwrap();
    let pull = |accept_licence| {
        let options = PullOptions { accept_licence, ..PullOptions::default() };
        home.store.pull(&source, &options, &Silent).unwrap_err()
    };
    match pull(false) {
        StoreError::LicenceNotAccepted { name, licence, url, notice } => {
            assert_eq!((name.as_str(), licence.as_str()), ("gemma3-270m", "Gemma"));
            assert_eq!(url, "https://ai.google.dev/gemma/terms");
            assert!(notice.unwrap().contains("Terms of Use"));
        }
        other => panic!("{other}"),
    }
    assert!(!home.path().join("accepted.toml").exists());
    // Beyond the licence stands the network, which is off here.
    assert!(matches!(pull(true), StoreError::Offline { .. }));
    assert!(matches!(pull(false), StoreError::Offline { .. }), "the acceptance is recorded");
}
