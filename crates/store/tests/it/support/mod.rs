//! What the tests of the store share: models made on the spot, a listener, a Hub in miniature.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]
#![allow(dead_code, reason = "each test file uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of several test programs has no outside")]

pub mod hub;
pub mod wheels;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use freehold_store::{Progress, Settings, Sha256, Store};
use sha2::Digest as _;

/// A valid GGUF file of about `n_kib` KiB whose content depends on `seed`.
pub fn model(n_kib: usize, seed: u8) -> Vec<u8> {
    let mut writer = gguf::write::Writer::new();
    let mut state = u32::from(seed) + 1;
    let noise: Vec<u8> = (0..n_kib * 1024)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    writer.metadata("general.architecture", "llama").metadata("general.license", "mit").tensor(
        "t",
        &[n_kib, 256],
        gguf::TensorType::F32,
        noise,
    );
    writer.finish().unwrap()
}

pub fn sha256(bytes: &[u8]) -> Sha256 {
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    hex.parse().unwrap()
}

pub fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// Settings that wait milliseconds where a user's wait seconds.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.retry_wait = Duration::from_millis(5);
    settings.retry_wait_max = Duration::from_millis(40);
    settings.stall_timeout = Duration::from_secs(20);
    settings
}

/// A store in a folder that goes away with it.
pub struct Home {
    pub folder: tempfile::TempDir,
    pub store: Store,
}

impl Home {
    pub fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::with_settings(folder.path(), settings).unwrap();
        Self { folder, store }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// All files below a folder.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => files.extend(files_below(&path)),
            path => files.push(path),
        }
    }
    files.sort();
    files
}

/// Remembers what it was told.
#[derive(Default)]
pub struct Heard {
    pub notes: Mutex<Vec<String>>,
    pub n_bytes: Mutex<u64>,
    pub totals: Mutex<Vec<Option<u64>>>,
}

impl Heard {
    pub fn notes(&self) -> String {
        self.notes.lock().unwrap().join("\n")
    }
}

impl Progress for Heard {
    fn start(&self, _what: &str, total: Option<u64>) {
        self.totals.lock().unwrap().push(total);
    }
    fn advance(&self, n_bytes: u64) {
        *self.n_bytes.lock().unwrap() += n_bytes;
    }
    fn finish(&self) {}
    fn note(&self, text: &str) {
        self.notes.lock().unwrap().push(text.to_owned());
    }
}
