//! What a lock file is read as, what is refused of it and where, and what differs.

use super::*;
use crate::installed::{Installed, InstalledFile, Licence};
use crate::progress::Silent;
use crate::signers::Terms;
use gguf::write::Writer;
use gguf::{Gguf, TensorType};
use proptest::prelude::*;
use std::path::PathBuf;

const TEMPLATE: &str = "\n{% for m in messages %}\r\n  '''{{ m.content }}'''\\\n{% endfor %}\t";

fn running() -> Running {
    let defaults = [("temperature", Number::from(0.8)), ("top_k", Number::Integer(40))];
    let defaults = defaults.map(|(name, value)| (name.to_owned(), value));
    Running { numerics: 3, defaults: BTreeMap::from(defaults) }
}

/// Metadata and tensors of a small file, and what is changed in them.
fn write(folder: &Path, change: impl FnOnce(&mut Writer<'_>)) -> PathBuf {
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama");
    writer.tensor("blk.0.w", &[1, 32], TensorType::Q8_0, vec![1_u8; 34]);
    writer.tensor("blk.1.w", &[1, 32], TensorType::F32, vec![0_u8; 128]);
    change(&mut writer);
    let path = folder.join("m.gguf");
    fs::write(&path, writer.finish().unwrap()).unwrap();
    path
}

fn with_vocabulary(writer: &mut Writer<'_>) {
    writer.metadata("tokenizer.ggml.model", "gpt2").metadata("tokenizer.ggml.bos_token_id", 1_u32);
    writer.metadata("tokenizer.chat_template", TEMPLATE);
}

fn locked(path: &Path) -> LockedModel {
    let (n_bytes, sha256) = crate::hash::hash_file(path, &Silent).unwrap();
    let installed = Installed {
        name: "m".to_owned(),
        publisher: "p".to_owned(),
        files: vec![InstalledFile { path: path.to_owned(), n_bytes, sha256 }],
        source: "hf:o/r/m.gguf".to_owned(),
        revision: Some("abc".to_owned()),
        licence: Licence::unknown(),
        adopted: false,
        signed_by: None,
        origin: None,
        date: "2026-01-02T03:04:05Z".to_owned(),
    };
    LockedModel::of(&installed, &Gguf::open(path).unwrap(), &running()).unwrap()
}

fn lock() -> LockFile {
    let folder = tempfile::tempdir().unwrap();
    let chat = locked(&write(folder.path(), with_vocabulary));
    let bare = locked(&write(folder.path(), |_| {}));
    LockFile {
        signers: BTreeMap::from([("m.1".to_owned(), vec!["RWQ".to_owned()])]),
        licences: BTreeMap::from([("*".to_owned(), vec!["mit".to_owned(), "gemma".to_owned()])]),
        aliases: BTreeMap::from([("claude-*".to_owned(), "m.1".to_owned())]),
        models: BTreeMap::from([("m.1".to_owned(), chat), ("bare".to_owned(), bare)]),
    }
}

#[test]
fn a_lock_is_read_as_written_and_written_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(LOCK_FILE);
    assert_eq!(LockFile::read(&path).unwrap(), None);
    let lock = lock();
    lock.write(&path).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(LockFile::read(&path).unwrap(), Some(lock.clone()));
    lock.write(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    for line in [
        "[alias]",
        "claude-* = \"m.1\"",
        "[model.\"m.1\"]",
        "numerics = 3",
        "temperature = 0.8",
        "top_k = 40",
        "\"blk.*.w\" = \"F32 x1, Q8_0 x1\"",
        "licence = \"unknown\"",
    ] {
        let is_there = text.lines().any(|found| found.replace("\"claude-*\"", "claude-*") == line);
        assert!(is_there, "{line} is not in\n{text}");
    }
    let here = "a file of the folder that one is in";
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{here}");
}

#[test]
fn what_is_wrong_with_a_lock_is_told_with_its_place() {
    let good = lock().to_text();
    #[track_caller]
    fn check(text: &str, line: usize, words: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_FILE);
        fs::write(&path, text).unwrap();
        let error = LockFile::read(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("{LOCK_FILE}: line {line}, column ")), "{line}: {error}");
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let line_of = |what: &str| good.lines().position(|line| line.starts_with(what)).unwrap() + 1;
    let numerics = line_of("numerics");
    check(&good.replacen("numerics = 3", "numerics = 3\nmore = 1", 1), numerics + 1, &["more"]);
    check(&good.replacen("numerics = 3", "numerics = 3\nnumerics = 3", 1), numerics + 1, &["dup"]);
    check(&good.replacen("numerics = 3", "numerics = -3", 1), numerics, &["-3"]);
    check(&good.replacen("numerics = 3", "numerics = 'x'", 1), numerics, &["expected u32"]);
    let default = line_of("temperature");
    check(&good.replacen("= 0.8", "= nan", 1), default, &["a finite number"]);
    let sha256 = line_of("sha256");
    check(&good.replacen("sha256 = \"", "sha256 = \"z", 1), sha256, &["64 hexadecimal digits"]);
    check(&good.replacen("format = 1", "format = 2", 1), line_of("format"), &["expected 1"]);
    let licence = line_of("licence");
    check(&good.replacen("\"unknown\"", "\"a\\u001bb\"", 1), licence, &["one line", "\\u{1b}"]);
    let twice = format!("{good}\n[model.bare]\n");
    check(&twice, good.lines().count() + 2, &["dup"]);
    let cut = good.replace(END, "");
    check(&cut, cut.lines().count() + 1, &["ends before its last line", END]);
    check("", 1, &["format"]);
    check(&" ".repeat(5 << 20), 1, &["at most 4194304 bytes"]);
}

#[test]
fn one_that_is_cut_off_anywhere_is_refused() {
    let good = lock().to_text();
    // The last byte ends the last line.
    for n_bytes in 0..good.len() - 1 {
        assert!(LockFile::parse(&good.as_bytes()[..n_bytes]).is_err(), "cut after {n_bytes}");
    }
}

#[test]
fn differences_are_told_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let old = locked(&write(folder.path(), with_vocabulary));
    let differs = |change: &dyn Fn(&mut LockedModel), expected: &[&str]| {
        let mut new = old.clone();
        change(&mut new);
        let found: Vec<String> = old.differences(&new).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
        assert_eq!(old.digest() == new.digest(), expected.is_empty());
    };
    differs(&|_| {}, &[]);
    differs(&|new| new.numerics = 4, &["numerics: expected 3, found 4"]);
    differs(&|new| new.licence = "MIT".into(), &["licence: expected unknown, found MIT"]);
    differs(&|new| new.revision = None, &["revision: expected abc, found none"]);
    differs(
        &|new| _ = new.defaults.insert("temperature".into(), Number::Float(0.5)),
        &["default temperature: expected 0.8, found 0.5"],
    );
    differs(
        &|new| _ = new.defaults.insert("min_p".into(), Number::Integer(0)),
        &["default min_p: expected none, found 0"],
    );
    differs(
        &|new| _ = new.tensors.insert("blk.*.w".into(), "F16 x2".into()),
        &["tensors blk.*.w: expected F32 x1, Q8_0 x1, found F16 x2"],
    );
    let template = format!("chat template: expected sha256 {}, found none", {
        old.template.as_ref().unwrap().sha256
    });
    differs(&|new| new.template = None, &[&template]);
    let file = format!("file m.gguf: expected {} bytes, found 7 bytes", old.files[0].n_bytes);
    differs(&|new| new.files[0].n_bytes = 7, &[&file]);
    differs(&|new| new.files.clear(), &["number of files: expected 1, found 0"]);
    // A text that is not that of its hash.
    let mut edited = old.clone();
    edited.template.as_mut().unwrap().text = Some("other".to_owned());
    let found = edited.differences(&old);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].item, "text of the chat template in the lock");
}

#[test]
fn what_files_are_called_is_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let old = locked(&write(folder.path(), with_vocabulary));
    let mut renamed = old.clone();
    renamed.files[0].name = "copy.gguf".to_owned();
    assert_eq!(old.differences(&renamed), []);
    // One that another program keeps by its hash is called as its copy would be.
    let named = |name: &str| {
        let path = folder.path().join(name);
        fs::copy(folder.path().join("m.gguf"), &path).unwrap();
        locked(&path).files[0].name.clone()
    };
    assert_eq!(named(&format!("sha256-{}", old.files[0].sha256)), "m.gguf");
    assert_eq!(named("sha256-0.gguf"), "sha256-0.gguf");
}

#[test]
fn of_namesakes_the_one_of_the_entry_is_meant() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(home.path()).unwrap();
    let path = write(home.path(), with_vocabulary);
    let add = |name: &str| store.add(&path, Some(name), &Terms::default(), &Silent).unwrap();
    let mut lock = lock();
    let own = add("p/m.1");
    assert_eq!(lock.resolve(&store, "m.1").unwrap(), own);
    let other = add("q/m.1");
    let all = [own.clone(), other.clone()];
    assert!(matches!(store.resolve("m.1"), Err(StoreError::AmbiguousName { .. })));
    assert_eq!(lock.resolve(&store, "m.1").unwrap(), own);
    assert_eq!((lock.name_among(&own, &all), lock.name_among(&other, &all)), (Some("m.1"), None));
    // Alone it is what the lock's is held against.
    assert_eq!(lock.name_among(&other, &all[1..]), Some("m.1"));
    lock.models.get_mut("m.1").unwrap().installed = Some("q/m.1".to_owned());
    assert_eq!(lock.resolve(&store, "m.1").unwrap(), other);
    assert_eq!((lock.name_among(&own, &all), lock.name_among(&other, &all)), (None, Some("m.1")));
    lock.models.remove("m.1");
    assert!(matches!(lock.resolve(&store, "m.1"), Err(StoreError::AmbiguousName { .. })));
}

#[test]
fn the_hash_of_a_vocabulary_is_that_of_its_entries_alone() {
    let folder = tempfile::tempdir().unwrap();
    let hash = |change: &dyn Fn(&mut Writer<'_>)| {
        let path = write(folder.path(), |writer| change(writer));
        locked(&path).tokenizer
    };
    let base = hash(&with_vocabulary);
    assert!(base.is_some() && hash(&|_| {}).is_none());
    let other_order = hash(&|writer| {
        writer.metadata("tokenizer.ggml.bos_token_id", 1_u32);
        writer.metadata("general.name", "x").metadata("tokenizer.ggml.model", "gpt2");
        writer.metadata("tokenizer.chat_template.tools", "y");
    });
    assert_eq!(other_order, base);
    let other_value = hash(&|writer| {
        writer.metadata("tokenizer.ggml.model", "gpt2");
        writer.metadata("tokenizer.ggml.bos_token_id", 2_u32);
    });
    let other_type = hash(&|writer| {
        writer.metadata("tokenizer.ggml.model", "gpt2");
        writer.metadata("tokenizer.ggml.bos_token_id", 1_i32);
    });
    assert!(other_value != base && other_type != base && other_value != other_type);
}

#[test]
fn every_byte_of_a_file_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), with_vocabulary);
    let entry = locked(&path);
    let files = [path.clone()];
    assert_eq!(entry.check_bytes(&files, &Silent).unwrap(), []);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = entry.check_bytes(&files, &Silent).unwrap();
        assert!(found[0].expected.contains(&entry.files[0].sha256.to_string()), "byte {at}");
    }
    fs::write(&path, &good[1..]).unwrap();
    let found = entry.check_bytes(&files, &Silent).unwrap();
    assert!(found[0].found.starts_with(&format!("{} bytes, sha256 ", good.len() - 1)));
    fs::remove_file(&path).unwrap();
    let error = entry.check_bytes(&files, &Silent).unwrap_err();
    assert!(matches!(error, StoreError::FileMissing { .. }));
}

proptest! {
    #[test]
    fn a_damaged_lock_is_an_error_or_a_lock(at: prop::sample::Index, bytes: Vec<u8>) {
        static GOOD: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| lock().to_text());
        let mut text = GOOD.clone().into_bytes();
        let at = at.index(text.len());
        let end = (at + bytes.len()).min(text.len());
        text.splice(at..end, bytes);
        match LockFile::parse(&text) {
            // What is read can be written, and is then read as the same.
            Ok(lock) => prop_assert_eq!(LockFile::parse(lock.to_text().as_bytes()), Ok(lock)),
            Err((at, problem)) => {
                prop_assert!(at <= text.len() && !problem.is_empty() && !problem.contains('\n'));
                let (line, column) = position(&text, at);
                prop_assert!(line >= 1 && column >= 1);
            }
        }
    }

    #[test]
    fn any_template_and_name_comes_back(
        text in ".{0,40}\\n?[\\s\\S]{0,40}",
        name in "[^\\pC]{1,20}",
    ) {
        let mut lock = lock();
        let mut model = lock.models["bare"].clone();
        let sha256 = observed::hash_of_text(&text);
        model.template = Some(LockedTemplate { sha256, text: Some(text) });
        lock.models.insert(name.clone(), model);
        lock.aliases.insert(name.clone(), name);
        prop_assert_eq!(LockFile::parse(lock.to_text().as_bytes()), Ok(lock));
    }
}

#[test]
fn a_name_stands_for_the_version_that_its_entry_says() {
    let mut lock = lock();
    let installed = |name: &str| Installed {
        name: name.to_owned(),
        publisher: "p".to_owned(),
        files: Vec::new(),
        source: String::new(),
        revision: None,
        licence: Licence::unknown(),
        adopted: false,
        signed_by: None,
        origin: None,
        date: String::new(),
    };
    let (old, new, other) = (installed("m.1"), installed("m.1-v2"), installed("n"));
    assert_eq!((lock.installed_name("m.1"), lock.name_of(&old)), ("m.1", Some("m.1")));
    assert_eq!(lock.models["m.1"].full_name("m.1"), "p/m.1");
    let before = lock.models["m.1"].clone();
    lock.models.get_mut("m.1").unwrap().installed = Some("p/m.1-v2".to_owned());
    assert_eq!(lock.installed_name("m.1"), "p/m.1-v2");
    assert_eq!(lock.models["m.1"].full_name("m.1"), "p/m.1-v2");
    assert_eq!((lock.name_of(&old), lock.name_of(&new)), (None, Some("m.1")));
    assert_eq!((lock.name_of(&other), lock.installed_name("n")), (Some("n"), "n"));
    let differences = before.differences(&lock.models["m.1"]);
    assert_eq!(differences.len(), 1, "{differences:?}");
    assert_eq!((&*differences[0].item, &*differences[0].found), ("installed as", "p/m.1-v2"));
    // The narrowest alias, and what is written is read.
    assert_eq!((lock.model_of("claude-3"), lock.model_of("m.1")), (Some("m.1"), Some("m.1")));
    assert_eq!(lock.model_of("x"), None);
    assert_eq!(LockFile::parse(lock.to_text().as_bytes()).unwrap(), lock);
}
