//! Holds the rules of the house that neither the compiler nor clippy holds: floors, sizes, words.
//!
//! It reads the tree as text. Each rule collects everything that breaks it, so that one run shows
//! all. If a rule is wrong, change it here and in CONTRIBUTING.md, in the commit that needs it.
#![allow(clippy::unwrap_used)] // helpers of tests too: a tree that cannot be read fails the test

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

/// The floor of each crate; a crate uses only crates of lower floors, its tests also neighbours.
const FLOORS: [(&str, u32); 15] = [
    ("kernels", 0),
    ("gguf", 0),
    ("model", 1),
    ("text", 1),
    ("store", 1),
    ("gate", 1),
    ("ledger", 1),
    ("meter", 1),
    ("egress", 1),
    ("broker", 1),
    ("meter", 1),
    ("policy", 1),
    ("engine", 2),
    ("server", 3),
    ("cli", 4),
];

/// Crates for tests, which no crate ships: only dev-dependencies may name them.
const TEST_ONLY: [&str; 1] = ["testkit"];
/// Above the store, through which it fetches what a store imports.
const TEST_ONLY_FLOOR: u32 = 2;

/// What the lowest floor may use of others: needs on the level of the C library.
const FOUNDATION_MAY_USE: [&str; 4] = ["libc", "memmap2", "rustix", "thiserror"];

/// Async and HTTP servers live from this floor up.
const ASYNC_FLOOR: u32 = 3;
const ASYNC: [&str; 5] = ["axum", "hyper", "tokio", "tokio-rustls", "tower"];
/// A database and other servers are waited for, on the runtime of whoever asks.
const ASYNC_BELOW: [&str; 2] = ["ledger", "broker"];

/// The only crate that opens connections of its own.
const NETWORK_CRATE: &str = "store";

/// Crates that may contain `unsafe` blocks: vector instructions, the mapping of files, and the
/// system calls of the sandbox, and of whoever tries to get out of it.
const UNSAFE_CRATES: [&str; 3] = ["kernels", "gguf", "egress"];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;
const LOCKED_PACKAGES_MAX: usize = 395;
/// Of what others embed, itself and the crates below it counted.
const ENGINE_PACKAGES_MAX: usize = 60;

/// From this length on a literal is data, such as a body as it stands on the wire, and may make
/// its line as long as it is: the formatter cannot break it either.
const DATA_LITERAL_CHARS: usize = 50;

/// Licences that ask no more than to be named. A crate passes if one of its choices stands here.
const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[track_caller]
fn none_found(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}; {} found:\n  {}", found.len(), found.join("\n  "));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(path: &Path) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder_names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// Every Rust file of the project with its text; build outputs and corpora left out.
fn rust_files() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "corpus" && name != "artifacts" {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for folder in ["crates", "fuzz"] {
        walk(&root().join(folder), &mut paths);
    }
    assert!(paths.len() > 50, "{} Rust files found: wrong folder", paths.len());
    paths.sort();
    let shown = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    paths.iter().map(|path| (shown(path), read(path))).collect()
}

fn is_test_file(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("tests.rs")
}

/// `(kind, name)` of each dependency in a manifest, whatever its target.
fn dependencies(manifest: &Table) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    let targets = manifest.get("target").and_then(Value::as_table);
    let targets = targets.into_iter().flat_map(|targets| targets.values());
    for place in targets.filter_map(Value::as_table).chain([manifest]) {
        for kind in ["dependencies", "build-dependencies", "dev-dependencies"] {
            let names = place.get(kind).and_then(Value::as_table);
            let names = names.into_iter().flat_map(|names| names.keys());
            found.extend(names.map(|name| (kind, name.clone())));
        }
    }
    found
}

fn floor(name: &str) -> Option<u32> {
    FLOORS.iter().find(|(crate_name, _)| *crate_name == name).map(|(_, floor)| *floor)
}

#[test]
fn crates_use_only_lower_floors() {
    let mut broken = Vec::new();
    for name in folder_names(&root().join("crates")) {
        let manifest = table(&root().join("crates").join(&name).join("Cargo.toml"));
        let is_test_only = TEST_ONLY.contains(&name.as_str());
        let Some(own_floor) = floor(&name).or(is_test_only.then_some(TEST_ONLY_FLOOR)) else {
            broken.push(format!("crates/{name}: stands on no floor"));
            continue;
        };
        for (kind, used) in dependencies(&manifest) {
            let is_dev = kind == "dev-dependencies";
            if TEST_ONLY.contains(&used.as_str()) && !is_dev {
                broken.push(format!("crates/{name}: {kind} {used}, which is for tests only"));
            }
            // A test may hold a crate beside a neighbour, such as a model beside its tokenizer.
            let highest = if is_dev { own_floor + 1 } else { own_floor };
            if floor(&used).is_some_and(|used_floor| used_floor >= highest) {
                broken.push(format!("crates/{name} (floor {own_floor}): {kind} {used}"));
            }
            if is_dev || is_test_only || floor(&used).is_some() {
                continue;
            }
            if own_floor == 0 && !FOUNDATION_MAY_USE.contains(&used.as_str()) {
                broken.push(format!("crates/{name} (floor 0): {kind} {used}"));
            }
            let may_wait = own_floor >= ASYNC_FLOOR || ASYNC_BELOW.contains(&name.as_str());
            if !may_wait && ASYNC.contains(&used.as_str()) {
                broken.push(format!("crates/{name} (floor {own_floor}): async {used}"));
            }
            if used == "reqwest" && name != NETWORK_CRATE {
                broken.push(format!("crates/{name}: {used}, which only {NETWORK_CRATE} uses"));
            }
        }
    }
    none_found("a crate uses only what its floor allows", &broken);
}

#[test]
fn manifests_inherit_from_the_workspace() {
    let mut broken = Vec::new();
    for name in folder_names(&root().join("crates")) {
        let manifest = table(&root().join("crates").join(&name).join("Cargo.toml"));
        let is_inherited = |value: Option<&Value>| {
            let table = value.and_then(Value::as_table);
            table.and_then(|table| table.get("workspace")).and_then(Value::as_bool) == Some(true)
        };
        if !is_inherited(manifest.get("lints")) {
            broken.push(format!("crates/{name}: [lints] workspace = true"));
        }
        let package = manifest["package"].as_table().unwrap();
        for key in ["version", "edition", "rust-version", "license", "publish"] {
            if !is_inherited(package.get(key)) {
                broken.push(format!("crates/{name}: {key}.workspace = true"));
            }
        }
        if package["name"].as_str() != Some(&format!("freehold-{name}")) {
            broken.push(format!("crates/{name}: package name freehold-{name}"));
        }
        for (kind, used) in dependencies(&manifest) {
            let entry = manifest.get(kind).and_then(|kind| kind.get(used.as_str()));
            if entry.is_some() && !is_inherited(entry) {
                broken.push(format!("crates/{name}: {kind} {used}.workspace = true"));
            }
        }
    }
    none_found("versions, lints and dependencies stand once, in the root manifest", &broken);
}

#[test]
fn files_say_what_they_hold() {
    let opens = |text: &str| text.lines().next().is_some_and(|line| line.starts_with("//! "));
    let broken: Vec<String> =
        rust_files().into_iter().filter(|(_, text)| !opens(text)).map(|(path, _)| path).collect();
    none_found("every Rust file opens with `//!`", &broken);
}

#[test]
fn files_functions_and_lines_are_short() {
    let mut broken = Vec::new();
    for (path, text) in rust_files() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            broken.push(format!("{path}: {} lines, at most {FILE_LINES_MAX}", lines.len()));
        }
        for (idx, line) in lines.iter().enumerate() {
            let n_columns = line.chars().count();
            if n_columns > LINE_COLUMNS_MAX && !holds_data(line) {
                let place = format!("{path}:{}", idx + 1);
                broken.push(format!("{place}: {n_columns} columns, at most {LINE_COLUMNS_MAX}"));
            }
            // A long table in a test is one idea; elsewhere a long function holds several.
            let n_lines = function_lines(&lines[idx..]).unwrap_or(0);
            if n_lines > FUNCTION_LINES_MAX && !is_test_file(&path) {
                let place = format!("{path}:{}", idx + 1);
                broken.push(format!("{place}: {n_lines} lines, at most {FUNCTION_LINES_MAX}"));
            }
        }
    }
    none_found("one idea per file, functions that fit a screen", &broken);
}

/// Whether a line contains a literal so long that it is data.
fn holds_data(line: &str) -> bool {
    let Some(start) = line.find('"') else { return false };
    let end = line.rfind('"').filter(|end| *end > start).unwrap_or(line.len());
    !line.trim_start().starts_with("//") && line[start..end].chars().count() > DATA_LITERAL_CHARS
}

/// Length of the function that begins at the first line, if one does, as the formatter lays it out.
fn function_lines(lines: &[&str]) -> Option<usize> {
    let code = lines.first()?.trim_start();
    let indent = &lines[0][..lines[0].len() - code.len()];
    let mut words = code.split_whitespace().skip_while(|word| {
        word.starts_with("pub")
            || matches!(*word, "const" | "async" | "unsafe" | "extern" | "\"C\"")
    });
    if words.next() != Some("fn") || code.ends_with(';') || code.ends_with('}') {
        return None;
    }
    let close = format!("{indent}}}");
    lines.iter().position(|line| *line == close).map(|last| last + 1)
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["to", "do!("], ["unimple", "mented!("]];
    let words: Vec<String> = words.iter().map(|parts| parts.concat()).collect();
    let mut found = Vec::new();
    for (path, text) in rust_files() {
        for (idx, line) in text.lines().enumerate() {
            found.extend(
                words
                    .iter()
                    .filter(|word| line.contains(word.as_str()))
                    .map(|word| format!("{path}:{}: {word}", idx + 1)),
            );
        }
    }
    none_found("work is done or it is an issue", &found);
}

#[test]
fn unsafe_stands_only_where_it_must() {
    let mut broken = Vec::new();
    for name in folder_names(&root().join("crates")) {
        if UNSAFE_CRATES.contains(&name.as_str()) {
            continue;
        }
        let src = root().join("crates").join(&name).join("src");
        for file in ["lib.rs", "main.rs"].map(|file| src.join(file)) {
            if file.is_file() && !read(&file).contains("#![forbid(unsafe_code)]") {
                broken.push(format!("{}: #![forbid(unsafe_code)]", file.display()));
            }
        }
    }
    // Tests are crates of their own, which that line does not reach.
    let keyword = ["un", "safe "].concat();
    for (path, text) in rust_files() {
        let is_allowed =
            UNSAFE_CRATES.iter().any(|name| path.starts_with(&format!("crates/{name}/")));
        let uses = |line: &&str| {
            let code = line.trim_start();
            let outside_strings = code.split('"').step_by(2);
            !code.starts_with("//")
                && outside_strings.into_iter().any(|part| part.contains(&keyword))
        };
        if !is_allowed && text.lines().any(|line| uses(&line)) {
            broken.push(path);
        }
    }
    none_found("unsafe code stands only in kernels, gguf and egress", &broken);
}

#[test]
fn the_lock_file_stays_small() {
    let lock = table(&root().join("Cargo.lock"));
    let n_packages = lock["package"].as_array().unwrap().len();
    assert!(
        n_packages <= LOCKED_PACKAGES_MAX,
        "{n_packages} packages locked, at most {LOCKED_PACKAGES_MAX}"
    );
}

#[test]
fn the_engine_brings_few_packages_along() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "-p", "freehold-engine", "-e", "normal", "--prefix", "none"])
        .args(["--target", "x86_64-unknown-linux-gnu", "--locked", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    // A line is a name, a version and what else there is to say of the package there.
    let package = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    let packages: BTreeSet<String> = tree.lines().map(package).collect();
    assert!(packages.iter().any(|package| package.starts_with("freehold-kernels ")), "{tree}");
    let n_packages = packages.len();
    assert!(
        n_packages <= ENGINE_PACKAGES_MAX,
        "{n_packages} packages, at most {ENGINE_PACKAGES_MAX}: {packages:?}"
    );
}

#[test]
fn licences_allow_everyone_to_use_it() {
    // Without `--filter-platform`, cargo would fetch what only other systems need.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(root())
        .output()
        .expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut broken = Vec::new();
    for package in metadata["packages"].as_array().unwrap() {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_allowed(licence) {
            broken.push(format!("{} {}: {licence}", package["name"], package["version"]));
        }
    }
    none_found("a dependency has a licence that is not in the list", &broken);
}

/// Whether every `AND` part of an SPDX expression has an allowed choice. `/` is the old `OR`.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace(" / ", " OR ").replace('/', " OR ");
    let expression = expression.replace(['(', ')'], "");
    expression
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|choice| LICENCES.contains(&choice.trim())))
}

#[test]
fn documents_agree_with_the_tree() {
    let mut broken = Vec::new();
    let readme = read(&root().join("README.md"));
    let architecture = read(&root().join("ARCHITECTURE.md"));
    let changelog = read(&root().join("CHANGELOG.md"));
    let manifest = table(&root().join("Cargo.toml"));
    let package = &manifest["workspace"]["package"];
    let mut says = |page: &str, text: &str, fact: &str| {
        if !text.contains(fact) {
            broken.push(format!("{page}: {fact}"));
        }
    };
    says("CHANGELOG.md", &changelog, &format!("[{}]", package["version"].as_str().unwrap()));
    says("README.md", &readme, package["rust-version"].as_str().unwrap());
    let contributing = read(&root().join("CONTRIBUTING.md"));
    says("CONTRIBUTING.md", &contributing, &format!("At most {LOCKED_PACKAGES_MAX} packages"));
    says("CONTRIBUTING.md", &contributing, &format!("at most {ENGINE_PACKAGES_MAX} on Linux"));
    let catalogue = table(&root().join("crates/store/catalogue.toml"));
    for model in catalogue["model"].as_array().unwrap() {
        says("README.md", &readme, model["name"].as_str().unwrap());
    }
    for name in folder_names(&root().join("crates")) {
        says("ARCHITECTURE.md", &architecture, &format!("`{name}`"));
    }
    let fuzz = read(&root().join("fuzz/Cargo.toml"));
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        says("fuzz/Cargo.toml", &fuzz, &format!("\"fuzz_targets/{file}\""));
    }
    none_found("a page lacks a fact of the tree", &broken);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut pages: Vec<PathBuf> = vec![root().join("fuzz/README.md")];
    for folder in [root(), root().join("docs")] {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let files = entries.map(|entry| entry.unwrap().path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|e| e == "md")));
    }
    for page in pages {
        let text = read(&page);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            let is_here = !target.is_empty() && !target.contains("://");
            if is_here && !page.parent().unwrap().join(target).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    none_found("a link leads nowhere", &broken);
}

#[test]
fn the_rules_can_be_broken() {
    let body = ["    x();"; 3].join("\n");
    for head in ["fn f() {", "pub(crate) const fn f(", "pub async unsafe extern \"C\" fn f() {"] {
        let text = format!("{head}\n{body}\n}}\n");
        assert_eq!(function_lines(&text.lines().collect::<Vec<_>>()), Some(5), "{head}");
    }
    assert_eq!(function_lines(&["fn f();", "}"]), None);
    assert_eq!(function_lines(&["let fn_name = 1;", "}"]), None);
    assert!(holds_data(&format!("    \"{}\",", "x".repeat(51))));
    assert!(!holds_data(&format!("    \"{}\",", "x".repeat(40))));
    assert!(!holds_data(&format!("// \"{}\"", "x".repeat(99))));
    assert!(is_allowed("MIT/Apache-2.0") && is_allowed("(MIT OR GPL-3.0) AND Unicode-3.0"));
    assert!(!is_allowed("GPL-3.0") && !is_allowed("MIT AND GPL-3.0") && !is_allowed("none"));
    let manifest: Table =
        "[dependencies]\na = 1\n[target.'cfg(unix)'.dev-dependencies]\nb = 1".parse().unwrap();
    let found = dependencies(&manifest);
    assert_eq!(found, [("dev-dependencies", "b".to_owned()), ("dependencies", "a".to_owned())]);
}
