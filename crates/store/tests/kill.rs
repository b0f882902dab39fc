//! kill -9 at any moment: no half file under a final name, and the next pull goes on.
//!
//! The child is this very program, started again with one test that pulls when it is told to by its
//! environment. The moments are spread over the whole pull by a fixed sequence.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

mod support;

use std::process::{Command, Stdio};
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

#[test]
fn killed_at_any_moment_a_pull_leaves_nothing_half_and_goes_on() {
    const N_KILLS: u64 = 24;
    let content = model(4096, 1);
    let hub = Hub::start(&[("m.gguf", &content)]);
    // Some 65 pieces of 4 ms: a pull takes about a quarter of a second.
    hub.set(|manners| manners.pause = Duration::from_millis(4));
    let pin = sha256(&content);
    let source = format!("{}/m.gguf#sha256={pin}", hub.storage);
    let home = Home::new(settings());
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
        // Multiples of the golden ratio, which leave no stretch of the interval out.
        std::thread::sleep(Duration::from_millis(20 + kill * 618 % 100 * 3));
        let is_at_work = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        n_killed_at_work += u32::from(is_at_work);
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
        n_killed_at_work > 4 && n_resumed > 2,
        "{n_killed_at_work} killed, {n_resumed} resumed"
    );
}
