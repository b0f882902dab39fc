//! `freehold ledger` on a ledger that was really written, and on one that was changed.

#![allow(clippy::unwrap_used, reason = "test code outside of #[test]")]

use crate::binary::{Home, arg, finish};
use std::time::{SystemTime, UNIX_EPOCH};

use ledger::{Entry, Kind, Ledger, Limit, NodeKey, Per, Reserved, Usage, What, hex};

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Writes four rows and an erasure; returns the node's public key.
fn fill(home: &Home) -> String {
    let key = NodeKey::load_or_create(&home.path("home/node.key")).unwrap();
    let public = hex(&key.public());
    block_on(async {
        let place = home.path("home/ledger.sqlite");
        let ledger = Ledger::open(arg(&place), key).await.unwrap();
        for n in 1..=4 {
            ledger
                .append(Entry {
                    kind: if n % 2 == 0 { Kind::Receipt } else { Kind::Audit },
                    id: format!("row-{n}"),
                    at: n,
                    principal: "owner".to_owned(),
                    body: format!("{{\"n\":{n}}}"),
                })
                .unwrap();
        }
        ledger.erase_body(Kind::Receipt, "row-2", "owner").await.unwrap();
        ledger.close().await.unwrap();
    });
    public
}

fn tamper(home: &Home) {
    // One letter of a principal, where it stands in the file behind id and time.
    let path = home.path("home/ledger.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    let row = b"row-3\x03owner";
    let at = bytes.windows(row.len()).position(|bytes| bytes == row).unwrap();
    bytes[at + row.len() - 1] = b'0';
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_ledger_is_checked_and_exported() {
    let home = Home::new();
    home.run(&["ledger", "verify"]).fails(3, &["ledger.sqlite: there is no ledger here"]);
    let public = fill(&home);
    let text = home.run(&["ledger", "verify"]).ok();
    assert!(text.starts_with("intact: 5 rows up to row 5, "), "{text}");
    assert!(text.contains("signed up to row 5\nbodies erased, as later rows say: 1"), "{text}");
    let found = home.run(&["ledger", "verify", "--json"]).json();
    assert_eq!((&found["intact"], &found["signed"]), (&true.into(), &5.into()), "{found}");

    let export = home.run(&["ledger", "export", "--kind", "audit"]).ok();
    assert!(export.contains("row-3") && !export.contains("\"row-4\""), "{export}");
    let heads = home.run(&["ledger", "heads"]).ok();
    assert!(heads.lines().all(|line| line.contains(&public)), "{heads}");
    let (export, heads) =
        (home.write("export.jsonl", export.as_bytes()), home.write("heads", heads.as_bytes()));

    // Elsewhere: no ledger, no key.
    let elsewhere = Home::new();
    let args = ["ledger", "verify", "--export", arg(&export), "--heads", arg(&heads)];
    let outcome = elsewhere.run(&args);
    assert!(outcome.stderr.contains(&format!("signed by {public}, which is not trusted")));
    assert!(outcome.ok().contains("signed by nobody who is trusted here"));
    let outcome = elsewhere.run(&[&args[..], &["--key", &public]].concat());
    assert!(outcome.ok().contains("signed up to row 5"));
    let other = "0".repeat(64);
    let outcome = elsewhere.run(&[&args[..], &["--key", &other]].concat());
    outcome.says(4, "error: row 5 of the ledger: no trusted key has signed it");
    elsewhere.run(&["ledger", "verify", "--key", "abc"]).says(2, "expected 64 hexadecimal digits");
    elsewhere.run(&["ledger", "export", "--since", "0"]).says(2, "0 is not in 1..");
    let bad = elsewhere.write("bad", b"no export\n");
    let outcome = elsewhere.run(&["ledger", "verify", "--export", arg(&bad)]);
    outcome.fails(4, &["line 1 of the export"]);
    let outcome = elsewhere.run(&["ledger", "verify", "--export", "nowhere"]);
    outcome.fails(3, &["nowhere"]);
    let outcome = elsewhere.run(&["ledger", "verify", "--ledger", "mysql://a:secret@b/c"]);
    outcome.fails(2, &["mysql://b/c", "expected a path"]);
    assert!(!elsewhere.path("home").exists(), "reading made something");
}

#[test]
fn the_ledger_is_looked_for_where_a_server_here_has_it() {
    let home = Home::new();
    fill(&home);
    std::fs::rename(home.path("home/ledger.sqlite"), home.path("own.sqlite")).unwrap();
    let with = |args: &[&str], variable: Option<&str>| {
        let mut command = home.command(args);
        command.envs(variable.map(|value| ("FREEHOLD_LEDGER", value)));
        finish(command)
    };
    let verify = ["ledger", "verify"];
    with(&verify, None).fails(3, &["home/ledger.sqlite: there is no ledger here"]);
    assert!(with(&verify, Some(arg(&home.path("own.sqlite")))).ok().starts_with("intact: 5 rows"));
    home.write("freehold.toml", b"ledger = \"own.sqlite\"\n");
    assert!(with(&verify, None).ok().starts_with("intact: 5 rows"));
    let show = ["receipt", "show", "row-3"];
    with(&show, None).fails(3, &["row-3", "not in the ledger"]);
    // The environment goes before the file, and a flag before both.
    with(&verify, Some("elsewhere.sqlite")).fails(3, &["elsewhere.sqlite: there is no ledger"]);
    with(&show, Some("elsewhere.sqlite")).fails(3, &["elsewhere.sqlite: there is no ledger"]);
    let own = [&verify[..], &["--ledger", "own.sqlite"]].concat();
    assert!(with(&own, Some("elsewhere.sqlite")).ok().starts_with("intact: 5 rows"));
    with(&verify, Some("none")).fails(2, &["expected a ledger (--ledger"]);
    with(&show, Some("none")).fails(3, &["expected a ledger, not none"]);
    home.write("freehold.toml", b"ledgre = \"own.sqlite\"\n");
    with(&verify, None).fails(2, &["freehold.toml:1:1", "ledgre"]);
}

#[test]
fn a_changed_ledger_is_told() {
    let home = Home::new();
    fill(&home);
    tamper(&home);
    let outcome = home.run(&["ledger", "verify"]);
    outcome.fails(4, &["row 3 of the ledger: what it says is not what its hash is of"]);
    let outcome = home.run(&["ledger", "verify", "--json"]);
    assert_eq!(outcome.code, Some(4));
    let found: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(found["first_bad"]["seq"], 3, "{found}");
    let text = home.write("text", b"not a ledger");
    let outcome = home.run(&["ledger", "export", "--ledger", arg(&text)]);
    outcome.fails(2, &["expected a ledger"]);
}

#[test]
fn a_counter_that_is_not_the_sum_of_its_rows_is_told() {
    const DAY_US: i64 = 86_400_000_000;
    let home = Home::new();
    let key = NodeKey::load_or_create(&home.path("home/node.key")).unwrap();
    let path = home.path("home/ledger.sqlite");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let at_us = i64::try_from(now.as_micros()).unwrap();
    block_on(async {
        let ledger = Ledger::open(arg(&path), key).await.unwrap();
        let limit = Limit::new("key:a", What::Tokens, 100, Some(Per::Day)).unwrap();
        ledger.set_limit(limit, "owner").await.unwrap();
        let usage = Usage {
            id: "req".to_owned(),
            at_us,
            key: "a".to_owned(),
            model: "m".to_owned(),
            n_prompt: 20,
            n_answer: 40,
            outcome: "done".to_owned(),
            ..Usage::default()
        };
        match ledger.reserve(usage.clone(), 40).await.unwrap() {
            Reserved::Taken(reservation) => reservation.settle(usage),
            Reserved::Reached(standing) => panic!("{standing:?}"),
        }
        ledger.close().await.unwrap();
    });
    assert!(home.run(&["ledger", "verify"]).ok().starts_with("intact: "));
    assert_eq!(
        home.run(&["ledger", "verify", "--json"]).json()["counters"],
        serde_json::Value::Null
    );
    // What stands behind the limit's name and the beginning of its day: what was used.
    let mut bytes = std::fs::read(&path).unwrap();
    let begin = (at_us - at_us % DAY_US).to_be_bytes();
    let row = [&b"key:a tokens/day"[..], &begin, &[60]].concat();
    // Where it stood before, what was reserved may look the same.
    let starts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&row)).collect();
    assert!(!starts.is_empty());
    starts.iter().for_each(|at| bytes[at + row.len() - 1] = 59);
    std::fs::write(&path, bytes).unwrap();
    let words = "the counter of the limit \"key:a tokens/day\" says 59 used and 0 reserved, and \
                 its rows sum up to 60 and 0";
    home.run(&["ledger", "verify"]).fails(4, &[words]);
    let outcome = home.run(&["ledger", "verify", "--json"]);
    assert_eq!(outcome.code, Some(4));
    let found: serde_json::Value = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!((&found["intact"], &found["counters"]), (&false.into(), &words.into()));
    assert_eq!(found["first_bad"], serde_json::Value::Null);
}
