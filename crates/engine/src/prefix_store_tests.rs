//! The folder: what is kept, what goes first, what is refused.

use super::*;
use crate::private_folder::temporary_folder;
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
    let page = vec![7; origin().shape.page_bytes()];
    let slot = Slots::new(1).try_take().unwrap();
    (key, Save { key, parent: None, header, page, slot })
}

fn save(store: &PrefixStore, scope: u64) {
    store.save(page_of(store, scope).1);
}

/// Which of the scopes' pages come back.
fn loaded(store: &PrefixStore, scopes: std::ops::Range<u64>) -> Vec<u64> {
    let comes = |&scope: &u64| {
        let start = store.start(&origin(), CacheScope::Lasting(scope)).unwrap();
        let scope = CacheScope::Lasting(scope);
        store.load(&origin(), scope, start, vec![1; PAGE_LEN], &Slots::new(1)).iter().count() == 1
    };
    scopes.filter(comes).collect()
}

#[test]
fn what_was_used_last_stays_within_the_budget() {
    let folder = temporary_folder();
    let (store, _) = open(folder.path(), 3);
    (0..3).for_each(|scope| save(&store, scope));
    drop(store);
    let (store, _) = open(folder.path(), 3);
    assert_eq!(store.n_bytes(), 3 * origin().file_len());
    // Use counts also after a restart.
    store.touch(vec![page_of(&store, 0).0]);
    drop(store);
    let (store, _) = open(folder.path(), 3);
    save(&store, 3);
    drop(store);
    let (store, warnings) = open(folder.path(), 3);
    assert_eq!(loaded(&store, 0..4), [0, 2, 3]);
    store.touch(vec![page_of(&store, 0).0]);
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
fn a_page_is_kept_only_behind_the_one_before_it() {
    let folder = temporary_folder();
    let (store, _) = open(folder.path(), 9);
    let behind = |scope, parent| {
        let (key, save) = page_of(&store, scope);
        store.save(Save { parent: Some(parent), ..save });
        key
    };
    let absent = page_of(&store, 0).0;
    let orphan = behind(1, absent);
    save(&store, 0);
    let child = behind(2, absent);
    behind(3, orphan);
    drop(store);
    let (store, _) = open(folder.path(), 9);
    assert!(store.has(child) && !store.has(orphan));
    assert_eq!(store.n_bytes(), 2 * origin().file_len());
}

#[test]
fn a_full_disk_loses_what_was_used_least_recently() {
    let folder = temporary_folder();
    let (store, _) = open(folder.path(), 9);
    (0..3).for_each(|scope| save(&store, scope));
    drop(store);
    let (store, _) = open(folder.path(), 9);
    let files = &store.inner.files;
    let fails = |n_times| {
        let mut n_tries = 0;
        files.retry_with_room(|| {
            n_tries += 1;
            match n_tries <= n_times {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        })
    };
    assert!(fails(0).is_ok());
    assert_eq!(store.n_bytes(), 3 * origin().file_len());
    assert!(fails(1).is_ok());
    assert_eq!(loaded(&store, 0..3), [1, 2]);
    // It does not go on until nothing is left.
    assert!(fails(9).is_err());
    assert_eq!(loaded(&store, 0..3), [2]);
    let other = files.retry_with_room(|| Err(io::ErrorKind::PermissionDenied.into()));
    assert!(other.is_err());
    assert_eq!(loaded(&store, 0..3), [2]);
}

#[test]
fn who_takes_no_pages_keeps_nobody_else_waiting() {
    let folder = temporary_folder();
    let (store, _) = open(folder.path(), 9);
    let scope = CacheScope::Lasting(1);
    let start = store.start(&origin(), scope).unwrap();
    let mut before = start;
    for _ in 0..5 {
        let key = before.next(&[1; PAGE_LEN]);
        let header = origin().header(scope, before, &[1; PAGE_LEN]);
        store.save(Save { key, header, ..page_of(&store, 1).1 });
        before = key;
    }
    drop(store);
    let (store, _) = open(folder.path(), 9);
    let slots = Slots::new(2);
    let load = |slots: &Slots| store.load(&origin(), scope, start, vec![1; 5 * PAGE_LEN], slots);
    let slow = load(&slots);
    let patience = Duration::from_secs(60);
    let first = slow.recv_timeout(patience).unwrap();
    // Another engine has its own slots, and gets all.
    let other = load(&Slots::new(1));
    for _ in 0..5 {
        other.recv_timeout(patience).unwrap();
    }
    assert!(other.recv_timeout(patience).is_err());
    // No more than fits was read for the slow one, whose rest comes now.
    let second: Vec<Loaded> = slow.try_iter().collect();
    assert!(second.len() <= 1);
    drop((first, second));
    assert!(slow.iter().count() >= 3);
    // One that goes away gives its slots back.
    drop(load(&slots));
    assert_eq!(load(&slots).iter().count(), 5);
}

#[test]
fn bad_files_are_told_by_name_and_reason_and_go() {
    let folder = temporary_folder();
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
    let folder = temporary_folder();
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
    let [a, b] = [temporary_folder(), temporary_folder()];
    let scope = |folder: &Path, name: &[u8]| open(folder, 1).0.scope(name);
    let own = scope(a.path(), b"one");
    assert!(matches!(own, CacheScope::Lasting(_)));
    assert_eq!(scope(a.path(), b"one"), own);
    assert_ne!(scope(a.path(), b"two"), own);
    assert_ne!(scope(b.path(), b"one"), own);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let folder = temporary_folder();
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
