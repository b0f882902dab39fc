//! Every GGUF file of the conformance kit opens, and its tensors lie where its size says.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // the helpers of tests, as the tests

use std::path::{Path, PathBuf};

use gguf::Gguf;
use gguf::write::Writer;

/// The conformance kit, or `None` (and a line that says so) where it is absent.
fn kit() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/kit");
    let kit = std::env::var_os("FREEHOLD_KIT").map_or(beside, PathBuf::from);
    if !kit.is_dir() {
        println!("skipped: no conformance kit at {}", kit.display());
        return None;
    }
    Some(kit)
}

/// All `.gguf` files one level below `dir`.
fn ggufs(dir: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let folders = list(dir).into_iter().filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| list(&folder));
    files.filter(|path| path.extension().is_some_and(|e| e == "gguf")).collect()
}

#[test]
fn every_file_of_the_kit_opens() {
    let Some(kit) = kit() else { return };
    let files = ggufs(&kit);
    assert!(files.len() > 20, "found only {} files in {}", files.len(), kit.display());
    for path in files {
        let file = Gguf::open(&path).unwrap_or_else(|e| panic!("{e}"));
        file.metadata().require_str("general.architecture").unwrap();
        assert_eq!(file.files(), std::slice::from_ref(&path));
        assert_eq!(file.n_bytes(), path.metadata().unwrap().len());
        let mut n_touched = 0;
        for tensor in file.tensors() {
            n_touched += file.data(tensor).len();
            assert_eq!(tensor.n_rows() * tensor.n_cols(), tensor.n_elements());
            assert_eq!(file.tensor(&tensor.name), Some(tensor));
        }
        assert!(n_touched as u64 <= file.n_bytes(), "{}", path.display());
        // Nothing is lost: what was read, written again, is the file.
        let mut copy = Writer::new();
        copy.version(file.version());
        for (key, value) in file.metadata().iter() {
            copy.metadata(key, value.clone());
        }
        for tensor in file.tensors() {
            copy.tensor(&tensor.name, &tensor.shape, tensor.ty, file.data(tensor));
        }
        let bytes = copy.finish().unwrap();
        assert!(bytes == std::fs::read(&path).unwrap(), "{}: the copy differs", path.display());
    }
}
