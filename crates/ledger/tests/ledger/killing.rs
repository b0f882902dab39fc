//! kill -9 while entries are appended: the chain stays whole, and what was durable is there.
//!
//! The child is this very program, started again with one test that appends when its environment
//! says so, and tells each row that is on disk.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use freehold_ledger::{Ledger, NodeKey};

use crate::site::{Site, entry};

on_both!(killed_at_any_moment_it_keeps_what_was_durable);

const URL: &str = "FREEHOLD_TEST_LEDGER_URL";
const KEY: &str = "FREEHOLD_TEST_LEDGER_KEY";
const FIRST: &str = "FREEHOLD_TEST_LEDGER_FIRST";

/// The child's work; alone it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_appends_when_told() {
    let Ok(url) = std::env::var(URL) else { return };
    let key = NodeKey::load_or_create(std::env::var(KEY).unwrap().as_ref()).unwrap();
    let first: i64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let ledger = Ledger::open(&url, key).await.unwrap();
    // Several at once, so that a transaction has several of them.
    let workers: Vec<_> = (0..4)
        .map(|worker| {
            let ledger = ledger.clone();
            tokio::spawn(async move {
                for n in (first + worker..).step_by(4) {
                    let seq = ledger.append_durable(entry(n)).await.unwrap();
                    println!("durable {n} {seq}");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

fn start(site: &Site, first: i64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killing::child_appends_when_told", "--nocapture"])
        .env(URL, &site.url)
        .env(KEY, site.home.path().join("node.key"))
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn killed_at_any_moment_it_keeps_what_was_durable(site: &Site) {
    let mut durable = Vec::new();
    for kill in 0..8 {
        let mut child = start(site, 1 + kill * 100_000);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut tell = |line: String| {
            // The harness tells things too, and the last line may be half.
            let mut words = line.split_whitespace().skip_while(|word| *word != "durable").skip(1);
            let numbers = (words.next().map(str::parse), words.next().map(str::parse::<i64>));
            let (Some(Ok(n)), Some(Ok(seq))) = numbers else { return };
            durable.push((n, seq));
        };
        for _ in 0..40 + 25 * kill {
            tell(lines.next().expect("the child goes on until it is killed").unwrap());
        }
        child.kill().unwrap();
        let rest: Vec<_> = lines.map_while(Result::ok).collect();
        let n_rest = rest.len();
        // Only whole lines count: what was cut has another number.
        rest.into_iter().take(n_rest.saturating_sub(1)).for_each(&mut tell);
        child.wait().unwrap();
        let found = site.verify().await;
        assert!(found.is_intact(), "{found:?}");
        assert!(found.signed.is_some());
    }
    assert!(durable.len() > 500, "{} rows", durable.len());
    let ledger = site.open().await;
    for (n, seq) in durable {
        let row = ledger.find(entry(n).kind, &entry(n).id).await.unwrap();
        assert_eq!(row.map(|row| (row.seq, row.entry)), Some((seq, entry(n))));
    }
    ledger.close().await.unwrap();
}
