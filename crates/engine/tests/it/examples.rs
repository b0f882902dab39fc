//! The examples, run on the default model.
#![allow(clippy::unwrap_used)] // The helpers of these tests are tests, which the lint cannot see.
#![allow(dead_code, unreachable_pub)] // Their `main` functions, and what those of others call.

#[path = "../../examples/chat.rs"]
mod chat;
#[path = "../../examples/constrained.rs"]
mod constrained;
#[path = "../../examples/fleet.rs"]
mod fleet;
#[path = "../../examples/generate.rs"]
mod generate;
#[path = "../../examples/locked.rs"]
mod locked;
#[path = "../../examples/schema.rs"]
mod schema;

use freehold_engine::NUMERICS_VERSION;
use gguf::Gguf;
use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use store::{LockFile, LockedModel, Running, Silent, Store, StoreError, Terms};

fn output(run: impl Fn(&Path, &mut Vec<u8>) -> Result<(), Box<dyn Error>>) -> String {
    let mut out = Vec::new();
    run(&testkit::smollm2(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn generate_is_stopped_in_the_middle() {
    let text = output(generate::run);
    assert!(text.len() > 40 && text.ends_with("… (stopped)\n"), "{text}");
}

#[test]
fn chat_answers_and_says_the_same_again() {
    let text = output(chat::run);
    assert!(text.contains("Paris") && text.contains(" tokens, "), "{text}");
    assert_eq!(output(chat::run), text);
}

#[test]
fn schema_gives_json_of_the_shape() {
    let text = output(schema::run);
    let values: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 3, "{text}");
    assert!(values.iter().all(|value| value["age"].is_u64() && value["name"].is_string()));
}

#[test]
fn constrained_measures_both_kinds_of_speculation() {
    let amount = constrained::Amount { n_rounds: 2, n_tokens: 16 };
    let text = output(|model, out| constrained::run(model, amount, out));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("ratio ")), "{text}");
    assert!(lines[0].contains(" 0 of 0 guesses"), "{text}");
}

#[test]
fn fleet_closes_what_is_unused() {
    let text = output(fleet::run);
    assert!(text.ends_with("summaries: closed\nstories: closed\n"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(lines[0], lines[2]);
}

/// What the example says of the model `m`, held to `lock`.
fn said(home: &Path, lock: &LockFile) -> Result<String, StoreError> {
    let path = home.join("freehold.lock");
    lock.write(&path).unwrap();
    let mut out = Vec::new();
    let ran = locked::run(home, &path, "m", &mut out);
    let said = String::from_utf8(out).unwrap();
    ran.map(|()| said).map_err(|error| *error.downcast::<StoreError>().unwrap())
}

#[test]
fn locked_opens_what_the_lock_says_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (home, path) = (folder.path(), folder.path().join("m.gguf"));
    std::fs::copy(testkit::smollm2(), &path).unwrap();
    let store = Store::open(home).unwrap();
    let installed = store.add(&path, Some("m"), &Terms::default(), &Silent).unwrap();
    let running = Running { numerics: NUMERICS_VERSION, defaults: BTreeMap::new() };
    let entry = LockedModel::of(&installed, &Gguf::open(&path).unwrap(), &running).unwrap();
    let good = LockFile {
        models: BTreeMap::from([("m".to_owned(), entry.clone())]),
        ..LockFile::default()
    };
    assert!(!said(home, &good).unwrap().is_empty());
    // Another arithmetic, or a model that is not listed.
    let refused = |lock: &LockFile, expected: &str| {
        let told = said(home, lock).unwrap_err().to_string();
        assert!(told.contains(expected), "{told}");
    };
    let mut other = good.clone();
    other.models.get_mut("m").unwrap().numerics = 9999;
    refused(&other, &format!("numerics: expected 9999, found {NUMERICS_VERSION}"));
    refused(&LockFile::default(), "m is not in ");
    // The last byte of the file.
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found = store::hash_file(&path, &Silent).unwrap().1;
    let expected = entry.files[0].sha256;
    refused(&good, &format!("file m.gguf: expected sha256 {expected}, found sha256 {found}"));
}
