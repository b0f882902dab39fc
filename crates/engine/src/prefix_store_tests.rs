//! The folder: what is kept, what goes first, what is refused.

use super::*;
use kernels::{KvFormat, KvShape};

fn origin() -> Origin {
    let shape = KvShape { n_layers: 1, n_kv_heads: 1, head_dim: 16, format: KvFormat::Q8 };
    Origin { model: [3; 32], shape }
}

/// A store whose warnings are the test's.
fn open(folder: &Path, n_files: u64) -> (PrefixStore, Receiver<String>) {
    let (sender, warnings) = channel();
    let warn = move |line: &str| sender.send(line.to_owned()).unwrap();
    (PrefixStore::open(folder, n_files * origin().file_len(), warn).unwrap(), warnings)
}

/// One page of its own scope.
fn page_of(store: &PrefixStore, scope: u64) -> (PageKey, Save) {
    let scope = CacheScope::Lasting(scope);
    let start = store.start(&origin(), scope).unwrap();
    let (key, header) = (start.next(&[1; PAGE_LEN]), origin().header(scope, start, &[1; PAGE_LEN]));
    (key, Save { key, header, page: vec![7; origin().shape.page_bytes()] })
}

fn save(store: &PrefixStore, scope: u64) {
    store.save(page_of(store, scope).1);
}

/// Which of the scopes' pages come back.
fn loaded(store: &PrefixStore, scopes: std::ops::Range<u64>) -> Vec<u64> {
    let comes = |&scope: &u64| {
        let start = store.start(&origin(), CacheScope::Lasting(scope)).unwrap();
        let scope = CacheScope::Lasting(scope);
        store.load(&origin(), scope, start, vec![1; PAGE_LEN]).iter().count() == 1
    };
    scopes.filter(comes).collect()
}

#[test]
fn what_was_used_last_stays_within_the_budget() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path(), 3);
    (0..3).for_each(|scope| save(&store, scope));
    drop(store);
    let (store, _) = open(folder.path(), 3);
    assert_eq!(store.n_bytes(), 3 * origin().file_len());
    // Reading makes it the last used, also after a restart.
    assert_eq!(loaded(&store, 0..1), [0]);
    drop(store);
    let (store, _) = open(folder.path(), 3);
    save(&store, 3);
    drop(store);
    let (store, warnings) = open(folder.path(), 3);
    assert_eq!(loaded(&store, 0..4), [0, 2, 3]);
    store.touch(page_of(&store, 0).0);
    drop(store);
    // A smaller budget holds at once.
    let (store, _) = open(folder.path(), 1);
    assert_eq!(store.n_bytes(), origin().file_len());
    assert_eq!(loaded(&store, 0..4), [0]);
    drop(store);
    let (store, _) = open(folder.path(), 0);
    save(&store, 5);
    drop(store);
    assert_eq!(loaded(&open(folder.path(), 9).0, 0..6), [0; 0]);
    assert_eq!(warnings.try_iter().count(), 0);
}

#[test]
fn bad_files_are_told_by_name_and_reason_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let (store, warnings) = open(folder.path(), 9);
    (0..4).for_each(|scope| save(&store, scope));
    let path = |scope| folder.path().join(page_of(&store, scope).0.file_name());
    let paths = [0, 1, 2, 3].map(path);
    let bytes = |path: &PathBuf| fs::read(path).unwrap();
    // The queue is empty once the next store has the lock.
    drop(store);
    let (store, _warnings) = open(folder.path(), 9);
    fs::write(&paths[0], &bytes(&paths[0])[..100]).unwrap();
    let mut flipped = bytes(&paths[1]);
    flipped[1000] ^= 4;
    fs::write(&paths[1], flipped).unwrap();
    fs::copy(&paths[3], &paths[2]).unwrap();
    drop(store);
    let (store, told) = open(folder.path(), 9);
    assert_eq!(loaded(&store, 0..4), [3]);
    drop(store);
    let told: Vec<String> = told.try_iter().collect();
    let reasons = ["100 bytes, expected", "the checksum", "scope"];
    assert_eq!(told.len(), reasons.len(), "{told:?}");
    for ((line, path), reason) in told.iter().zip(&paths).zip(reasons) {
        let start = format!("{}: not used, removed: {reason}", path.display());
        assert!(line.starts_with(&start), "{line}");
        assert!(!path.exists());
    }
    assert_eq!(warnings.try_iter().count(), 0);
}

#[test]
fn a_folder_that_vanishes_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("a/b");
    let (store, warnings) = open(&inside, 9);
    fs::remove_dir_all(&inside).unwrap();
    (0..3).for_each(|scope| save(&store, scope));
    drop(store);
    let told: Vec<String> = warnings.try_iter().collect();
    assert!(told.len() == 1 && told[0].contains(": not written: "), "{told:?}");
}

#[test]
fn scopes_last_as_long_as_the_folder() {
    let [a, b] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let scope = |folder: &Path, name: &[u8]| open(folder, 1).0.scope(name);
    let own = scope(a.path(), b"one");
    assert!(matches!(own, CacheScope::Lasting(_)));
    assert_eq!(scope(a.path(), b"one"), own);
    assert_ne!(scope(a.path(), b"two"), own);
    assert_ne!(scope(b.path(), b"one"), own);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = open(folder.path(), 9);
    let key = page_of(&store, 1).0;
    drop(store);
    let partial = folder.path().join(format!("{key}.partial"));
    for path in [folder.path().join("notes.txt"), partial.clone()] {
        fs::write(path, "text").unwrap();
    }
    let (store, _) = open(folder.path(), 0);
    assert_eq!(store.n_bytes(), 0);
    let others = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = others.map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["lock", "notes.txt", "secret"]);
}

#[test]
fn a_folder_is_used_by_one_process_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, _warnings) = open(folder.path(), 1);
    let error = PrefixStore::open(folder.path(), 1, |_| {}).unwrap_err().to_string();
    assert!(error.ends_with("lock: another process uses the folder"), "{error}");
}

#[cfg(unix)]
#[test]
fn others_may_neither_write_the_folder_nor_read_the_secret() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("cache");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    drop(open(&inside, 1));
    assert_eq!((mode(&inside), mode(&inside.join("secret"))), (0o700, 0o600));
    let check = |path: &Path, mode: u32, expected: &str| {
        let before = fs::metadata(path).unwrap().permissions();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let error = PrefixStore::open(&inside, 1, |_| {}).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {expected}", path.display()));
        fs::set_permissions(path, before).unwrap();
    };
    check(&inside, 0o777, "mode 777, expected 755");
    check(&inside.join("secret"), 0o640, "mode 640, expected 600");
    fs::write(inside.join("secret"), "short").unwrap();
    let error = PrefixStore::open(&inside, 1, |_| {}).unwrap_err().to_string();
    assert!(error.ends_with("secret: 5 bytes, expected 32"), "{error}");
}
