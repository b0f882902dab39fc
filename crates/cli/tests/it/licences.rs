//! `freehold licences`, and the list of crates that it has against `Cargo.lock` and what cargo says
//! of each. `UPDATE=1` writes the list anew.
#![allow(clippy::unwrap_used)] // helpers of tests too: a tree that cannot be read fails the test

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::binary::{Home, arg};
use gguf::TensorType;
use gguf::write::Writer;
use serde_json::Value;

const HEADER: &str = "name\tversion\tlicence\tin\tsha256";

/// A package's name and version.
type Key = (String, String);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn list_path() -> PathBuf {
    root().join("crates/cli/src/commands/licences/crates.tsv")
}

/// What the list says of each package: licence, where it is compiled in, and its hash.
fn listed() -> BTreeMap<Key, [String; 3]> {
    let text = fs::read_to_string(list_path()).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(HEADER));
    let row = |line: &str| {
        let cells: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let [name, version, licence, place, sha256] = cells.try_into().unwrap();
        ((name, version), [licence, place, sha256])
    };
    lines.map(row).collect()
}

/// The packages of `Cargo.lock` that are not ours, with their hashes.
fn locked() -> BTreeMap<Key, String> {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    let text =
        |of: &toml::Value, key: &str| of.get(key).and_then(|of| of.as_str()).map(str::to_owned);
    let package = |of: &toml::Value| {
        let sha256 = text(of, "checksum")?;
        Some(((text(of, "name")?, text(of, "version")?), sha256))
    };
    lock["package"].as_array().unwrap().iter().filter_map(package).collect()
}

fn metadata(platform: Option<&str>) -> Value {
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version=1", "--locked"]).current_dir(root());
    command.args(platform.iter().flat_map(|platform| ["--filter-platform", platform]));
    let output = command.output().expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn key(package: &Value) -> Key {
    let text = |name: &str| package[name].as_str().unwrap().to_owned();
    (text("name"), text("version"))
}

/// The licences of all packages; `/` is the old `OR`.
fn licences(metadata: &Value) -> BTreeMap<Key, String> {
    let licence = |of: &Value| {
        let licence = of["license"].as_str().unwrap_or("NOASSERTION");
        licence.replace(" / ", " OR ").replace('/', " OR ")
    };
    metadata["packages"].as_array().unwrap().iter().map(|of| (key(of), licence(of))).collect()
}

/// What the program is made of: what it, and what that, uses other than to build or to test.
fn compiled_in(metadata: &Value) -> BTreeSet<Key> {
    let packages = metadata["packages"].as_array().unwrap();
    let packages: BTreeMap<&str, &Value> =
        packages.iter().map(|of| (of["id"].as_str().unwrap(), of)).collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let nodes: BTreeMap<&str, &Value> =
        nodes.iter().map(|of| (of["id"].as_str().unwrap(), of)).collect();
    let root = packages.iter().find(|(_, of)| of["name"] == "freehold-cli").unwrap().0;
    let (mut seen, mut open) = (BTreeSet::new(), vec![*root]);
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        for used in nodes[id]["deps"].as_array().unwrap() {
            if used["dep_kinds"].as_array().unwrap().iter().any(|of| of["kind"].is_null()) {
                open.push(used["pkg"].as_str().unwrap());
            }
        }
    }
    seen.into_iter().map(|id| key(packages[id])).collect()
}

fn write_list() {
    let all = metadata(None);
    let licences = licences(&all);
    let anywhere = compiled_in(&all);
    let platforms = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];
    let linux: Vec<_> = platforms.iter().map(|of| compiled_in(&metadata(Some(of)))).collect();
    let mut text = format!("{HEADER}\n");
    for (key, sha256) in locked() {
        let place = if linux.iter().any(|of| of.contains(&key)) {
            "linux"
        } else if anywhere.contains(&key) {
            "elsewhere"
        } else {
            "tools"
        };
        let (licence, (name, version)) = (&licences[&key], &key);
        text += &format!("{name}\t{version}\t{licence}\t{place}\t{sha256}\n");
    }
    fs::write(list_path(), text).unwrap();
}

#[test]
fn the_list_has_every_package_of_the_lock_file_with_its_licence() {
    if std::env::var_os("UPDATE").is_some() {
        write_list();
    }
    let (listed, locked) = (listed(), locked());
    assert!(locked.len() > 300, "{}", locked.len());
    let anew = "UPDATE=1 on this test writes the list anew";
    let sums: BTreeMap<_, _> = listed.iter().map(|(key, [_, _, sum])| (key, sum)).collect();
    let missing: Vec<_> = locked.iter().filter(|(key, sum)| sums.get(key) != Some(sum)).collect();
    assert!(missing.is_empty(), "not in the list: {missing:?}; {anew}");
    let extra: Vec<_> = listed.keys().filter(|key| !locked.contains_key(*key)).collect();
    assert!(extra.is_empty(), "not in Cargo.lock: {extra:?}; {anew}");
    // Without a platform, cargo would fetch what only other systems need.
    let metadata = metadata(Some("x86_64-unknown-linux-gnu"));
    for (key, licence) in licences(&metadata) {
        let said = listed.get(&key).map(|[said, ..]| said);
        assert!(said.is_none_or(|said| *said == licence), "{key:?}: {licence}; {anew}");
    }
    for key in compiled_in(&metadata).iter().filter(|key| locked.contains_key(*key)) {
        assert_eq!(listed[key][1], "linux", "{key:?}; {anew}");
    }
}

#[test]
fn models_and_crates_are_told_with_their_licences() {
    let home = Home::new();
    let model = |name: &str, licence: Option<&str>| {
        let mut writer = Writer::new();
        writer.metadata("general.architecture", "llama");
        if let Some(licence) = licence {
            writer.metadata("general.license", licence);
        }
        writer.tensor("w", &[2, 32], TensorType::Q8_0, vec![0_u8; 2 * 34]);
        let path = home.write(name, &writer.finish().unwrap());
        home.run(&["add", arg(&path)]).ok();
    };
    model("one.gguf", Some("apache-2.0"));
    model("two.gguf", None);
    let text = home.run(&["licences"]).ok();
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!((line("local/one"), line("local/two")), ("Apache-2.0".into(), "unknown".into()));
    let ring = listed().into_iter().find(|((name, _), _)| name == "ring").unwrap();
    let ((_, version), [licence, _, sha256]) = ring;
    assert!(text.contains(&licence), "{text}");
    let document = home.run(&["licenses", "--json"]).json();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    let packages = document["packages"].as_array().unwrap();
    let find = |name: &str| packages.iter().find(|of| of["name"] == name).unwrap();
    assert_eq!(find("freehold")["licenseDeclared"], "Apache-2.0");
    assert_eq!(find("local/one")["licenseDeclared"], "Apache-2.0");
    assert_eq!(find("local/two")["licenseDeclared"], "NOASSERTION");
    assert_eq!(find("ring")["versionInfo"], version);
    assert_eq!(find("ring")["checksums"][0]["checksumValue"], sha256);
    let created = document["creationInfo"]["created"].as_str().unwrap();
    assert!(created.ends_with('Z') && created.len() == 20, "{created}");
}
