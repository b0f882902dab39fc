//! Hostile files, kept in `attacks/`: each is refused with the message that its line in the list
//! expects. The list also builds the files; after a change to it, write them anew with
//! `FREEHOLD_WRITE_ATTACKS=1 cargo test -p freehold-gguf --test attacks`.

#![allow(clippy::unwrap_used)] // the helpers of tests, as the tests

mod forge;
mod list;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gguf::Gguf;

fn attacks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("attacks")
}

#[test]
fn the_files_are_those_of_the_list() {
    let list = list::all();
    if std::env::var_os("FREEHOLD_WRITE_ATTACKS").is_some() {
        for attack in &list {
            std::fs::write(attacks().join(attack.name), &attack.bytes).unwrap();
        }
    }
    let listed: BTreeSet<String> = list.iter().map(|attack| attack.name.to_owned()).collect();
    assert_eq!(listed.len(), list.len(), "a name stands twice in the list");
    let entries = std::fs::read_dir(attacks()).unwrap().map(|entry| entry.unwrap());
    let found: BTreeSet<String> =
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert_eq!(found, listed);
    for attack in &list {
        let bytes = std::fs::read(attacks().join(attack.name)).unwrap();
        assert!(bytes == attack.bytes, "{} is not as the list builds it", attack.name);
    }
}

#[test]
fn every_attack_is_refused_with_its_message() {
    let mut wrong = Vec::new();
    for list::Attack { name, message, .. } in list::all() {
        let Some(expected) = message else { continue };
        let found = match Gguf::open(&attacks().join(name)) {
            Ok(file) => format!("{file:?}"),
            Err(error) => error.to_string(),
        };
        // Which of several files is wrong must be told, and hostile text be harmless.
        let named = found.contains("attacks/") && !found.contains(char::is_control);
        if !found.contains(expected) || !named {
            wrong.push(format!("{name}\n  found  {found}\n  wanted {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_attack_is_refused_in_memory_too() {
    for list::Attack { name, bytes, message } in list::all() {
        let opened = Gguf::from_bytes(bytes);
        // The helper that is a whole file for itself is the only one that opens.
        let harmless = message.is_none() && name.starts_with("split-sibling-whole");
        assert_eq!(opened.is_ok(), harmless, "{name}: {opened:?}");
    }
}
