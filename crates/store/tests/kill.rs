//! kill -9 at any moment: no half file under a final name, and the next pull goes on.
//!
//! The child is this very program, started again with one test that pulls when it is told to by its
//! environment. The moments are spread over the whole file by a fixed sequence, and every fourth
//! falls among the last renames.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use freehold_store::{PullOptions, Silent, Source, Store};
use support::hub::Hub;
use support::{Home, files_below, model, settings, sha256};

const HOME: &str = "FREEHOLD_TEST_KILL_HOME";
const SOURCE: &str = "FREEHOLD_TEST_KILL_SOURCE";

/// The child's work; alone it does nothing.
#[test]
fn child_pulls_when_told() {
    let (Ok(home), Ok(source)) = (std::env::var(HOME), std::env::var(SOURCE)) else { return };
    let store = Store::with_settings(home.as_ref(), settings()).unwrap();
    store.pull(&Source::parse(&source).unwrap(), &PullOptions::default(), &Silent).unwrap();
}

/// When a child is killed.
#[derive(Debug)]
enum Moment {
    /// Its partial file has grown to this many bytes.
    Grown(u64),
    /// Its partial file is complete and on its way: the moments of renames and of the manifest.
    Moved,
}

impl Moment {
    /// Waits for the moment, or for the end of the child; whether the child is still at work.
    fn wait_for(&self, child: &mut Child, part: &Path) -> bool {
        let mut was_there = false;
        loop {
            let length = std::fs::metadata(part).map(|metadata| metadata.len()).ok();
            let has_come = match (self, length) {
                (Self::Grown(n_bytes), length) => length.is_some_and(|length| length >= *n_bytes),
                (Self::Moved, length) => was_there && length.is_none(),
            };
            was_there |= length.is_some();
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            if has_come {
                return true;
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

#[test]
fn killed_at_any_moment_a_pull_leaves_nothing_half_and_goes_on() {
    const N_KILLS: u64 = 32;
    let content = model(4096, 1);
    let hub = Hub::start(&[("m.gguf", &content)]);
    hub.set(|manners| manners.pause = Duration::from_millis(2));
    let pin = sha256(&content);
    let source = format!("{}/m.gguf#sha256={pin}", hub.storage);
    let home = Home::new(settings());
    let part = home.path().join("staging/127.0.0.1--m/parts/m.gguf.part");
    let placed = home.path().join("models/127.0.0.1/m/m.gguf");
    let mut n_killed_at_work = 0;
    for kill in 0..N_KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_pulls_when_told"])
            .envs([(HOME, home.path().to_str().unwrap()), (SOURCE, &source)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Multiples of the golden ratio, which leave no stretch of the file out.
        let moment = match kill % 4 {
            3 => Moment::Moved,
            _ => Moment::Grown(content.len() as u64 * (kill * 618 % 1000) / 1000),
        };
        n_killed_at_work += u32::from(moment.wait_for(&mut child, &part));
        child.kill().unwrap();
        child.wait().unwrap();
        if placed.exists() {
            assert_eq!(sha256(&std::fs::read(&placed).unwrap()), pin, "half a file is placed");
        }
        for model in home.store.list().unwrap() {
            assert!(home.store.verify(&model.unwrap().name, &Silent).unwrap().is_intact());
            // Done; the remaining kills begin anew.
            home.store.remove("m").unwrap();
        }
    }
    let options = PullOptions::default();
    home.store.pull(&Source::parse(&source).unwrap(), &options, &Silent).unwrap();
    assert_eq!(std::fs::read(&placed).unwrap(), content);
    assert!(files_below(&home.path().join("staging")).is_empty());
    let log = hub.storage_log();
    let n_resumed = log.iter().filter(|request| request.header("range").is_some()).count();
    println!("{n_killed_at_work} of {N_KILLS} were killed at work, {n_resumed} pulls went on");
    assert!(
        n_killed_at_work > 8 && n_resumed > 4,
        "{n_killed_at_work} killed, {n_resumed} resumed"
    );
}
