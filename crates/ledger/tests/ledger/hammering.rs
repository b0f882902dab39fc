//! Many clients of two servers hammer one budget, and one of the servers is killed: never a token
//! too much, and in the end all counters are the sums of the rows.
//!
//! The children are this very program, started again, as in `killing`. The budget grows again and
//! again, so that it is reached all the time.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use freehold_ledger::{Ledger, NodeKey, Per, Reader, Reserved, Usage, UsageBy, UsageQuery, What};

use crate::accounts::{AT, limit, usage};
use crate::site::{Site, other_key};

on_both!(one_budget_holds_for_all);

const URL: &str = "FREEHOLD_TEST_LEDGER_HAMMER_URL";
const KEY: &str = "FREEHOLD_TEST_LEDGER_HAMMER_KEY";

/// Clients of each of the two servers.
const N_CLIENTS: u64 = 32;
/// What the budget grows by.
const STEP: u64 = 3000;

/// The child's work; alone it does nothing. It goes on until its input ends, and says then what its
/// clients took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_hammers_when_told() {
    let Ok(url) = std::env::var(URL) else { return };
    let key = NodeKey::load_or_create(std::env::var(KEY).unwrap().as_ref()).unwrap();
    let ledger = Ledger::open(&url, key).await.unwrap();
    ledger.watch().unwrap();
    println!("begun");
    let (is_over, n_tokens) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (0..N_CLIENTS)
        .map(|client| {
            let (ledger, is_over, n_tokens) = (ledger.clone(), is_over.clone(), n_tokens.clone());
            tokio::spawn(async move { hammer(&ledger, client, &is_over, &n_tokens).await })
        })
        .collect();
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()))
        .await
        .unwrap()
        .unwrap();
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    ledger.close().await.unwrap();
    println!("took {}", n_tokens.load(Ordering::Relaxed));
}

/// Asks again and again: some answers are shorter than they might be, some are never begun, and
/// some clients go away while they wait.
async fn hammer(ledger: &Ledger, client: u64, is_over: &AtomicBool, n_tokens: &AtomicU64) {
    let mut random = client.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while !is_over.load(Ordering::Relaxed) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (n_prompt, n_most) = (1 + random % 20, 1 + random / 32 % 100);
        let asked = ledger.reserve(usage("a", n_prompt, n_most), n_most);
        let asked = match random % 16 {
            0 => match tokio::time::timeout(Duration::from_micros(random % 3000), asked).await {
                Ok(asked) => asked,
                Err(_) => continue,
            },
            _ => asked.await,
        };
        match asked.unwrap() {
            Reserved::Reached(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            Reserved::Taken(taken) if random % 16 == 1 => drop(taken),
            Reserved::Taken(taken) => {
                tokio::time::sleep(Duration::from_micros(random % 2000)).await;
                let n_answer = random % (n_most + 1);
                n_tokens.fetch_add(n_prompt + n_answer, Ordering::Relaxed);
                taken.settle(usage("a", n_prompt, n_answer));
            }
        }
    }
}

/// A server; its name tells its node's key.
fn start(site: &Site, name: &str) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "hammering::child_hammers_when_told", "--nocapture"])
        .env(URL, &site.url)
        .env(KEY, site.home.path().join(name))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    // What was read beyond this line is of no interest before the end, where nothing is.
    lines.find(|line| line.as_ref().unwrap().contains("begun")).unwrap().unwrap();
    child
}

/// Has a server end, and returns what it says that its clients took.
fn end(mut child: Child) -> u64 {
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find_map(|line| line.split("took ").nth(1)).unwrap();
    line.trim().parse().unwrap()
}

async fn one_budget_holds_for_all(site: &Site) {
    hammer_for(site, Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute for each database"]
async fn slow_one_budget_holds_for_all_for_a_minute() {
    hammer_for(&Site::sqlite(), Duration::from_secs(60)).await;
    if let Some(site) = Site::postgres().await {
        hammer_for(&site, Duration::from_secs(60)).await;
        site.tear_down().await;
    }
}

async fn hammer_for(site: &Site, length: Duration) {
    let ledger = site.open().await;
    let mut amount = STEP;
    let tokens = |amount| limit("key:a", What::Tokens, amount, Some(Per::Month));
    ledger.set_limit(tokens(amount), "owner").await.unwrap();
    ledger.set_limit(limit("all", What::Concurrent, 40, None), "owner").await.unwrap();
    let servers = [start(site, "one.key"), start(site, "two.key")];
    let [mut one, two] = servers;
    let reader = Reader::open(&site.url).await.unwrap();
    let (begun, mut is_killed, mut n_full) = (Instant::now(), false, 0);
    while begun.elapsed() < length {
        if !is_killed && begun.elapsed() > length / 2 {
            // Where nothing is left nobody has anything at work.
            amount += 40 * STEP;
            ledger.set_limit(tokens(amount), "owner").await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            one.kill().unwrap();
            one.wait().unwrap();
            is_killed = true;
            one = start(site, "one.key");
        }
        for standing in reader.standings(AT).await.unwrap() {
            let (used, reserved) = (standing.used, standing.reserved);
            assert!(used + reserved <= standing.limit.amount, "{used} + {reserved}");
        }
        assert_eq!(reader.check_counters(AT).await.unwrap(), None);
        let left = reader.standings(AT).await.unwrap()[1].left();
        if left < 100 {
            n_full += 1;
            amount += STEP;
            ledger.set_limit(tokens(amount), "owner").await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let n_told = end(one) + end(two);
    let n_lost = settle_the_killed(site).await;
    let total = &reader.usage(&UsageQuery::all()).await.unwrap()[0];
    let n_used = total.n_prompt + total.n_answer;
    assert!(n_full > 2, "the budget was reached {n_full} times only");
    assert!(n_lost > 0, "the killed one had nothing at work");
    assert!(n_told + n_lost <= n_used && n_used <= amount, "{n_told} {n_lost} {n_used} {amount}");
    let standing = &reader.standings(AT).await.unwrap()[1];
    assert_eq!((standing.used, standing.reserved), (n_used, 0));
    assert_eq!(reader.check_counters(AT).await.unwrap(), None);
    assert!(site.verify().await.is_intact());
    let n_requests = total.n_requests as f64 / length.as_secs_f64();
    println!("{n_requests:.0} requests/s, budget reached {n_full} times, {n_lost} tokens lost");
    ledger.close().await.unwrap();
}

/// Waits until what the killed server had reserved is settled, and returns how many tokens that is.
async fn settle_the_killed(site: &Site) -> u64 {
    let ledger = Ledger::open(&site.url, other_key()).await.unwrap();
    ledger.watch().unwrap();
    let begun = Instant::now();
    while ledger.standings().await.unwrap().iter().any(|standing| standing.reserved > 0) {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody settles for it");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ledger.close().await.unwrap();
    let lost = vec![(UsageBy::Outcome, Usage::LOST.to_owned())];
    let reader = Reader::open(&site.url).await.unwrap();
    let sums = reader.usage(&UsageQuery { only: lost, ..UsageQuery::all() }).await.unwrap();
    sums[0].n_prompt + sums[0].n_answer
}
