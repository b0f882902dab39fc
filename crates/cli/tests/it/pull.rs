//! `freehold pull` at its worst, the real binary against a server of this test: killed at any
//! moment, cut off, slowed down, out of room. The store is valid each time, the next pull goes on,
//! and at the end nothing is there but the model.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

// The store's own tests know it by its full name, and their servers serve here too.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Home, finish};
use crate::support::hub::Hub;
use crate::support::{files_below, model, sha256};

const N_KILLS: u64 = 50;

/// What a killed pull may have to fetch again: what it takes from a connection at a time.
const CHUNK_BYTES: usize = 256 << 10;

/// A model on a server, and a home to pull it to.
struct Case {
    home: Home,
    hub: Hub,
    content: Vec<u8>,
    source: String,
}

impl Case {
    fn new(n_kib: usize) -> Self {
        let content = model(n_kib, 1);
        let hub = Hub::start(&[("m.gguf", &content)]);
        let source = format!("{}/m.gguf#sha256={}", hub.storage, sha256(&content));
        Self { home: Home::new(), hub, content, source }
    }

    fn pull(&self) -> Command {
        let mut command = self.home.command(&["pull", &self.source]);
        command.env_remove("FREEHOLD_OFFLINE").stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn store(&self, path: &str) -> PathBuf {
        self.home.path("home").join(path)
    }

    fn part(&self) -> PathBuf {
        self.store("staging/127.0.0.1--m/parts/m.gguf.part")
    }

    /// Whether the model is installed. What has its final name is whole, and all records can be
    /// read.
    fn is_installed(&self) -> bool {
        if let Ok(placed) = fs::read(self.store("models/127.0.0.1/m/m.gguf")) {
            assert!(placed == self.content, "half a file is placed");
        }
        let listed = self.home.run(&["list", "--json"]).json();
        let is_installed = listed.as_array().unwrap().len() == 1;
        if is_installed {
            assert!(self.home.run(&["verify"]).ok().contains("intact"));
        }
        is_installed
    }

    /// Pulls to the end; afterwards the model and its records are all that is there.
    fn check_ends_well(&self) {
        finish(self.pull()).ok();
        assert!(self.is_installed());
        // What a pull left that was killed behind its manifest goes with the next one.
        finish(self.pull()).ok();
        let home = self.home.path("home");
        let left: Vec<String> = files_below(&home)
            .iter()
            .map(|path| path.strip_prefix(&home).unwrap().display().to_string())
            .collect();
        let expected = [
            "locks/127.0.0.1--m.lock",
            "models/127.0.0.1/m/m.gguf",
            "models/127.0.0.1/m/manifest.toml",
            "models/127.0.0.1/m/verified.toml",
        ];
        assert_eq!(left, expected);
        assert!(!self.store("staging/127.0.0.1--m").exists());
    }
}

/// Numbers that look random and are the same in every run (Knuth's MMIX generator).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        let multiplied = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = multiplied.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// When a pull is killed.
#[derive(Debug)]
enum Moment {
    /// So long after its start: while it starts, asks, hashes what is there.
    After(Duration),
    /// Its partial file has grown to this many bytes.
    Grown(u64),
    /// Its partial file is complete and on its way, so long ago: renames, the manifest, the end.
    Moved(Duration),
}

impl Moment {
    /// Waits for the moment, or for the end of the child; whether the child is still at work.
    fn wait_for(&self, child: &mut Child, part: &std::path::Path) -> bool {
        let start = Instant::now();
        let mut was_there = false;
        while child.try_wait().unwrap().is_none() {
            let length = fs::metadata(part).map(|metadata| metadata.len()).ok();
            match (self, length) {
                (Self::After(wait), _) if start.elapsed() >= *wait => return true,
                (Self::Grown(n_bytes), Some(length)) if length >= *n_bytes => return true,
                (Self::Moved(wait), None) if was_there => {
                    std::thread::sleep(*wait);
                    return true;
                }
                _ => {}
            }
            was_there |= length.is_some();
            std::thread::sleep(Duration::from_micros(100));
        }
        false
    }
}

#[test]
fn killed_at_fifty_moments_a_pull_leaves_nothing_half_and_goes_on() {
    let case = Case::new(4096);
    let n_bytes = case.content.len() as u64;
    let mut random = Random(1);
    let (mut n_killed_at_work, mut n_done) = (0, 0);
    for kill in 0..N_KILLS {
        // Slowed down by another measure each time, and now and then cut off besides.
        let pause = Duration::from_micros(random.below(4000));
        let cut = (kill % 8 == 7).then(|| random.below(n_bytes) as usize);
        case.hub.set(|manners| {
            manners.pause = pause;
            manners.cuts = cut.into_iter().collect();
        });
        let moment = match kill % 3 {
            0 => Moment::Grown(random.below(n_bytes)),
            1 => Moment::After(Duration::from_micros(random.below(300_000))),
            _ => Moment::Moved(Duration::from_micros(random.below(3000))),
        };
        let mut child = case.pull().spawn().unwrap();
        n_killed_at_work += u32::from(moment.wait_for(&mut child, &case.part()));
        child.kill().unwrap();
        child.wait().unwrap();
        if case.is_installed() {
            // Done; the remaining kills begin anew.
            case.home.run(&["rm", "m"]).ok();
            n_done += 1;
        }
    }
    case.hub.set(|manners| manners.cuts.clear());
    case.check_ends_well();
    let log = case.hub.storage_log();
    let n_resumed = log.iter().filter(|request| request.header("range").is_some()).count();
    let n_sent = case.hub.manners.lock().unwrap().n_bytes_sent;
    let n_twice = n_sent.saturating_sub(case.content.len() * (n_done + 1));
    println!(
        "{n_killed_at_work} of {N_KILLS} were killed at work, {n_resumed} pulls went on, {n_done} \
         were done, {n_twice} bytes were sent twice"
    );
    assert!(n_killed_at_work > 20 && n_resumed > 5);
    assert!(n_twice <= N_KILLS as usize * CHUNK_BYTES, "{n_twice} bytes were sent twice");
}

/// A limit on the length of files stands in for a full disk where nothing can be mounted; the
/// store's own tests fill a real one.
#[test]
#[cfg(unix)]
fn a_pull_that_may_write_no_more_is_valid_and_goes_on() {
    let case = Case::new(6 * 1024);
    // The shell counts in blocks of 512 or 1024 bytes. Ignored, the signal is an error of the write
    // that passes the limit; otherwise it kills the program there.
    for trap in ["trap '' XFSZ;", ""] {
        let script = format!("{trap} ulimit -f 4000; exec \"$0\" pull \"$1\"");
        let mut limited = Command::new("sh");
        limited.args(["-c", &script, env!("CARGO_BIN_EXE_freehold"), &case.source]);
        limited.current_dir(case.home.path("")).env("FREEHOLD_HOME", case.home.path("home"));
        limited.env_remove("FREEHOLD_OFFLINE");
        let output = limited.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{stderr}");
        if !trap.is_empty() {
            assert!(stderr.contains("m.gguf.part: writing: File too large"), "{stderr}");
        }
        assert!(!case.is_installed());
        let n_kept = fs::metadata(case.part()).unwrap().len();
        assert!(n_kept > 1 << 20, "{n_kept}");
    }
    let n_kept = fs::metadata(case.part()).unwrap().len();
    case.check_ends_well();
    let log = case.hub.storage_log();
    let range = format!("bytes={n_kept}-");
    assert_eq!(log.last().unwrap().header("range"), Some(range.as_str()));
}
