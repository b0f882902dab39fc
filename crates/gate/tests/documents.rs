//! What the documents show can be read: the example of the page, and the set that is tested with.
#![allow(clippy::unwrap_used)] // The helpers of these tests are tests, which the lint cannot see.

use freehold_gate::CaseSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

#[test]
fn the_example_of_the_page_can_be_read() {
    let page = fs::read_to_string(root().join("../../docs/gate.md")).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let set = CaseSet::parse(&[("support.toml".to_owned(), example.to_owned())]).unwrap();
    let ids: Vec<&str> = set.cases.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["opening hours", "order as JSON", "tone"]);
    assert_eq!((set.rule.min_pass_rate, set.cases[1].is_required), (Some(0.9), true));
}

#[test]
fn the_set_of_the_default_model_can_be_read() {
    let folder = root().join("examples/smollm2");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let file = |path: &PathBuf| (path.display().to_string(), fs::read_to_string(path).unwrap());
    let files: Vec<(String, String)> = paths.iter().map(file).collect();
    let set = CaseSet::parse(&files).unwrap();
    assert!(set.cases.len() >= 40, "{} cases", set.cases.len());
    assert_eq!(set.rule.min_pass_rate, Some(0.95));
}
