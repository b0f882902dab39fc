//! What is kept of persons is sealed, goes when its time is over, and is dark once they are erased.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use freehold_ledger::{
    Content, ContentKeys, Entry, Kind, Ledger, LedgerError, NodeKey, Reader, Usage,
};
use serde_json::Value;

use crate::site::{Site, entry, other_key};

on_both!(
    contents_are_sealed_and_read_back,
    what_is_over_its_time_is_deleted_and_recorded,
    keys_are_used_for_a_month_and_go_behind_what_they_sealed,
    a_person_is_erased_and_the_chain_stays,
    a_copy_of_before_is_dark,
    each_node_destroys_its_own_keys,
    everything_of_a_person_is_exported,
    who_is_killed_while_erasing_ends_erased,
);

/// Far ahead of every clock.
const LATER: i64 = 4_000_000_000_000_000;
const SECRET: &str = "Tom Bombadil is a merry fellow";

fn content(n: i64, person: &str) -> Content {
    Content {
        id: format!("a{n}"),
        person: person.to_owned(),
        at: 1_700_000_000_000_000 + n,
        until: LATER,
        body: format!("{{\"n\":{n},\"said\":\"{SECRET}\"}}"),
    }
}

fn folder(site: &Site) -> PathBuf {
    site.home.path().join("content-keys")
}

fn keys(site: &Site) -> ContentKeys {
    ContentKeys::open(&folder(site)).unwrap()
}

fn n_files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

async fn open(site: &Site) -> Ledger {
    Ledger::open_keeping(&site.url, site.key.clone(), keys(site)).await.unwrap()
}

/// Waits for what goes on by itself.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that");
}

/// The bodies of all audits.
async fn audits(ledger: &Ledger) -> Vec<Value> {
    let mut bodies = Vec::new();
    let write = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(body) = line["row"]["body"].as_str() {
            bodies.push(serde_json::from_str(body).unwrap());
        }
        Ok::<(), LedgerError>(())
    };
    ledger.reader().export(1, Some(Kind::Audit), write).await.unwrap();
    bodies
}

async fn contents_are_sealed_and_read_back(site: &Site) {
    let ledger = open(site).await;
    for (n, person) in [(1, "zoe"), (2, "zoe"), (3, "adam")] {
        ledger.keep(content(n, person)).unwrap();
    }
    // As a writer that did not know whether it had been written.
    ledger.keep(content(2, "zoe")).unwrap();
    ledger.flush().await.unwrap();
    let reader = ledger.reader();
    let found = reader.content("a2", &keys(site)).await.unwrap();
    assert_eq!(found, Some(content(2, "zoe")));
    assert_eq!(reader.content("a4", &keys(site)).await.unwrap(), None);
    assert_eq!(reader.content("a\0", &keys(site)).await.unwrap(), None);
    let persons = reader.persons().await.unwrap();
    let told: Vec<_> = persons.iter().map(|one| (&*one.name, one.n_contents)).collect();
    assert_eq!(told, [("adam", 1), ("zoe", 2)]);
    assert_eq!((persons[1].first, persons[1].last), (content(1, "").at, content(2, "").at));
    assert_eq!(n_files(&folder(site)), 2, "one key for each person");

    let elsewhere = ContentKeys::open(&site.home.path().join("other")).unwrap();
    let told = reader.content("a1", &elsewhere).await.unwrap_err();
    assert!(matches!(told, LedgerError::Dark { .. }), "{told}");
    // What was moved to another person is not opened.
    site.sql("UPDATE ledger_contents SET person = 'eve' WHERE id = 'a1'").await;
    let told = reader.content("a1", &keys(site)).await.unwrap_err();
    assert!(matches!(told, LedgerError::Dark { .. }), "{told}");
    for bad in [content(5, "a b"), Content { body: "{".to_owned(), ..content(5, "zoe") }] {
        let told = ledger.keep(bad).unwrap_err();
        assert!(matches!(told, LedgerError::InvalidEntry { .. }), "{told}");
    }
    ledger.close().await.unwrap();
    if !site.is_postgres {
        for file in fs::read_dir(site.home.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = if path.is_dir() { Vec::new() } else { fs::read(&path).unwrap() };
            let has = bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes());
            assert!(!has, "{} has what was said", path.display());
        }
    }

    let ledger = site.open().await;
    let told = ledger.keep(content(6, "zoe")).unwrap_err();
    assert!(matches!(told, LedgerError::NotKept), "{told}");
    let told = ledger.erase_person("zoe", "owner").await.unwrap_err();
    assert!(matches!(told, LedgerError::NotKept), "{told}");
    ledger.close().await.unwrap();
}

async fn what_is_over_its_time_is_deleted_and_recorded(site: &Site) {
    let ledger = open(site).await;
    // More than a transaction deletes.
    for n in 1..=301 {
        ledger.keep(content(n, "zoe")).unwrap();
    }
    ledger.flush().await.unwrap();
    assert_eq!(ledger.reader().persons().await.unwrap()[0].n_contents, 301);
    ledger.close().await.unwrap();
    // As if that were long ago: nobody looks while none has it open.
    site.sql("UPDATE ledger_contents SET until_us = at_us WHERE id <> 'a301'").await;

    let ledger = open(site).await;
    until(async || ledger.reader().persons().await.unwrap()[0].n_contents == 1).await;
    ledger.flush().await.unwrap();
    let found = audits(&ledger).await;
    assert!(found.iter().all(|audit| audit["act"] == "contents.expire"), "{found:?}");
    let n: i64 = found.iter().map(|audit| audit["contents"].as_i64().unwrap()).sum();
    assert_eq!((n, found.len()), (300, 3));
    let left = ledger.reader().content("a301", &keys(site)).await.unwrap();
    assert_eq!(left, Some(content(301, "zoe")));
    assert!(ledger.verify().await.unwrap().is_intact());
    ledger.close().await.unwrap();
}

async fn keys_are_used_for_a_month_and_go_behind_what_they_sealed(site: &Site) {
    let ledger = open(site).await;
    ledger.keep(content(1, "zoe")).unwrap();
    ledger.flush().await.unwrap();
    site.sql("UPDATE ledger_content_keys SET made_us = 1").await;
    ledger.keep(content(2, "zoe")).unwrap();
    ledger.flush().await.unwrap();
    assert_eq!(n_files(&folder(site)), 2, "the old key seals nothing more");
    assert!(ledger.reader().content("a1", &keys(site)).await.unwrap().is_some());
    ledger.close().await.unwrap();

    site.sql("UPDATE ledger_contents SET until_us = 2 WHERE id = 'a1'").await;
    let ledger = open(site).await;
    until(async || n_files(&folder(site)) == 1).await;
    until(async || audits(&ledger).await.len() == 2).await;
    assert!(audits(&ledger).await.iter().any(|audit| audit["act"] == "content-key.destroy"));
    assert!(ledger.reader().content("a2", &keys(site)).await.unwrap().is_some());
    // A key whose file is gone is not in use any more.
    for file in fs::read_dir(folder(site)).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    ledger.keep(content(3, "zoe")).unwrap();
    ledger.flush().await.unwrap();
    assert!(ledger.reader().content("a3", &keys(site)).await.unwrap().is_some());
    assert!(ledger.reader().content("a2", &keys(site)).await.is_err());
    ledger.close().await.unwrap();
}

/// A receipt of the answer `n`.
fn receipt(n: i64) -> Entry {
    Entry { kind: Kind::Receipt, id: format!("a{n}"), ..entry(n) }
}

async fn a_person_is_erased_and_the_chain_stays(site: &Site) {
    let ledger = open(site).await;
    for n in 1..=300 {
        let person = if n % 3 == 0 { "adam" } else { "zoe" };
        ledger.append(receipt(n)).unwrap();
        ledger.keep(content(n, person)).unwrap();
    }
    // Requests whose contents were not kept, and whose receipts are there.
    for n in 301..=305 {
        ledger.append(receipt(n)).unwrap();
        let person = if n == 305 { "adam" } else { "zoe" }.to_owned();
        let (id, receipt) = (format!("r{n}"), format!("a{n}"));
        ledger.record(Usage { id, person, receipt, at_us: n, ..Usage::default() }).unwrap();
    }
    ledger.flush().await.unwrap();
    let erased = ledger.erase_person("zoe", "owner").await.unwrap();
    assert_eq!((erased.n_forgotten, erased.n_keys_elsewhere), (204, 0));
    let rows = ledger.reader().usage_rows(0, 100).await.unwrap();
    let named: Vec<_> = rows.iter().map(|row| &*row.usage.person).collect();
    assert_eq!(named, ["", "", "", "", "adam"]);
    let found = ledger.find(Kind::Receipt, "a304").await.unwrap().unwrap();
    assert_eq!(found.entry.body, "");
    assert_eq!(n_files(&folder(site)), 1, "the key of the other person");
    let persons = ledger.reader().persons().await.unwrap();
    assert_eq!((persons.len(), &*persons[0].name, persons[0].n_contents), (1, "adam", 100));
    assert_eq!(ledger.reader().content("a1", &keys(site)).await.unwrap(), None);
    assert!(ledger.reader().content("a3", &keys(site)).await.unwrap().is_some());
    let body = |found: Option<freehold_ledger::Recorded>| found.unwrap().entry.body;
    assert_eq!(body(ledger.find(Kind::Receipt, "a1").await.unwrap()), "");
    assert_eq!(body(ledger.find(Kind::Receipt, "a3").await.unwrap()), receipt(3).body);
    let found = audits(&ledger).await;
    let act = found.iter().find(|audit| audit["act"] == "person.erase").unwrap();
    assert_eq!((&act["person"], &act["contents"]), (&"zoe".into(), &200.into()));
    assert_eq!(act["usage"], 4);
    let found = ledger.verify().await.unwrap();
    assert!(found.is_intact() && found.n_erased == 204, "{found:?}");
    assert!(erased.record > 300 && erased.record < found.head.unwrap().0);

    let told = ledger.erase_person("zoe", "owner").await.unwrap_err().to_string();
    assert_eq!(told, "the ledger has no person of the id \"zoe\"");
    let told = ledger.erase_person("z e", "owner").await.unwrap_err();
    assert!(matches!(told, LedgerError::InvalidEntry { .. }), "{told}");
    // Who comes again has another key.
    ledger.keep(content(1, "zoe")).unwrap();
    ledger.flush().await.unwrap();
    let again = ledger.reader().content("a1", &keys(site)).await.unwrap();
    assert_eq!(again, Some(content(1, "zoe")));
    ledger.close().await.unwrap();
}

async fn a_copy_of_before_is_dark(site: &Site) {
    let ledger = open(site).await;
    ledger.keep(content(1, "zoe")).unwrap();
    ledger.keep(content(2, "adam")).unwrap();
    ledger.flush().await.unwrap();
    let copy = site.home.path().join("copy.sqlite");
    let copying = format!("VACUUM INTO '{}'", copy.display());
    let copying_rows = "CREATE TABLE copied AS SELECT * FROM ledger_contents; \
                        CREATE TABLE copied_keys AS SELECT * FROM ledger_content_keys";
    site.sql(site.pick(&copying, copying_rows)).await;
    ledger.erase_person("zoe", "owner").await.unwrap();
    ledger.close().await.unwrap();

    let url = if site.is_postgres {
        site.sql(
            "DELETE FROM ledger_contents; DELETE FROM ledger_content_keys; \
             INSERT INTO ledger_contents SELECT * FROM copied; \
             INSERT INTO ledger_content_keys SELECT * FROM copied_keys",
        )
        .await;
        site.url.clone()
    } else {
        copy.to_str().unwrap().to_owned()
    };
    let reader = Reader::open(&url).await.unwrap();
    assert_eq!(reader.persons().await.unwrap().len(), 2, "the rows are there");
    let told = reader.content("a1", &keys(site)).await.unwrap_err();
    assert!(matches!(told, LedgerError::Dark { .. }), "{told}");
    assert_eq!(reader.content("a2", &keys(site)).await.unwrap(), Some(content(2, "adam")));
}

async fn each_node_destroys_its_own_keys(site: &Site) {
    let (other, other_folder) = (other_key(), site.home.path().join("other"));
    let open_other = async || {
        let keys = ContentKeys::open(&other_folder).unwrap();
        Ledger::open_keeping(&site.url, other.clone(), keys).await.unwrap()
    };
    let (ledger, second) = (open(site).await, open_other().await);
    ledger.keep(content(1, "zoe")).unwrap();
    second.keep(content(2, "zoe")).unwrap();
    ledger.flush().await.unwrap();
    second.flush().await.unwrap();
    second.close().await.unwrap();
    let told = ledger.reader().content("a2", &keys(site)).await.unwrap_err();
    assert!(matches!(told, LedgerError::Dark { .. }), "{told}");
    let erased = ledger.erase_person("zoe", "owner").await.unwrap();
    assert_eq!((erased.n_forgotten, erased.n_keys_elsewhere), (2, 1));
    assert_eq!((n_files(&folder(site)), n_files(&other_folder)), (0, 1));
    let second = open_other().await;
    until(async || n_files(&other_folder) == 0).await;
    second.close().await.unwrap();
    assert!(ledger.verify().await.unwrap().is_intact());
    ledger.close().await.unwrap();
}

async fn everything_of_a_person_is_exported(site: &Site) {
    let ledger = open(site).await;
    for n in 1..=20 {
        ledger.keep(content(n, "zoe")).unwrap();
    }
    ledger.keep(content(21, "adam")).unwrap();
    for (n, of) in [(7, "a7"), (30, "a30")] {
        ledger.append(receipt(n)).unwrap();
        let (person, receipt) = ("zoe".to_owned(), of.to_owned());
        ledger.record(Usage { person, receipt, n_answer: 5, ..Usage::default() }).unwrap();
    }
    ledger.flush().await.unwrap();
    site.sql("UPDATE ledger_contents SET at_us = at_us + 1 WHERE id = 'a9'").await;
    let mut lines: Vec<Value> = Vec::new();
    let write = |line: &str| {
        lines.push(serde_json::from_str(line).unwrap());
        Ok::<(), LedgerError>(())
    };
    let found = ledger.reader().export_person("zoe", &keys(site), write).await.unwrap();
    assert_eq!((found.n_contents, found.n_dark), (19, 1));
    assert_eq!((found.n_usage, found.n_receipts), (2, 2));
    assert_eq!(lines[0]["person"]["name"], "zoe");
    assert_eq!(lines[1]["content"]["body"]["said"], SECRET);
    assert_eq!((&lines[7]["content"]["id"], &lines[8]["receipt"]["n"]), (&"a7".into(), &7.into()));
    assert_eq!(lines.last().unwrap()["end"]["contents"], 19);
    // The receipt of a content stands behind that, another one behind its row of usage.
    assert_eq!(lines[22]["usage"]["n_answer"], 5);
    assert_eq!(
        (&lines[23]["usage"]["receipt"], &lines[24]["receipt"]["n"]),
        (&"a30".into(), &30.into())
    );
    assert_eq!(lines.len(), 1 + 19 + 1 + 1 + 2 + 1 + 1);
    let mut n_lines = 0;
    let write = |_: &str| {
        n_lines += 1;
        Ok::<(), LedgerError>(())
    };
    ledger.reader().export_person("nobody", &keys(site), write).await.unwrap();
    assert_eq!(n_lines, 2);
    ledger.close().await.unwrap();
}

const URL: &str = "FREEHOLD_TEST_ERASING_URL";
const HOME: &str = "FREEHOLD_TEST_ERASING_HOME";

/// The child's work; alone it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_erases_when_told() {
    let (Ok(url), Ok(home)) = (std::env::var(URL), std::env::var(HOME)) else { return };
    let home = PathBuf::from(home);
    let key = NodeKey::load_or_create(&home.join("node.key")).unwrap();
    let keys = ContentKeys::open(&home.join("content-keys")).unwrap();
    let ledger = Ledger::open_keeping(&url, key, keys).await.unwrap();
    for n in 1..=1500 {
        ledger.keep(content(n, "zoe")).unwrap();
    }
    ledger.flush().await.unwrap();
    ledger.erase_person("zoe", "owner").await.unwrap();
    println!("erased");
}

async fn who_is_killed_while_erasing_ends_erased(site: &Site) {
    drop(keys(site));
    // So that the tables are there to be asked.
    site.open().await.close().await.unwrap();
    let (mut n_in_the_middle, mut n_records) = (0, 0);
    for wait_ms in [0, 2, 5, 20, 60] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "contents::child_erases_when_told", "--nocapture"])
            .env(URL, &site.url)
            .env(HOME, site.home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut beside = site.connect().await;
        let begun = "SELECT count(*) FROM ledger_erasing";
        until(async || {
            let n: i64 = sqlx::query_scalar(begun).fetch_one(&mut beside).await.unwrap_or(0);
            n > 0
        })
        .await;
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
        child.kill().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let was_done = lines.map_while(Result::ok).any(|line| line.contains("erased"));
        child.wait().unwrap();
        drop(beside);
        n_in_the_middle += usize::from(!was_done);

        let ledger = open(site).await;
        assert_eq!(ledger.reader().persons().await.unwrap(), []);
        assert_eq!(n_files(&folder(site)), 0, "a key is left");
        let found = audits(&ledger).await;
        let n = found.iter().filter(|audit| audit["act"] == "person.erase").count();
        n_records += 1;
        assert_eq!(n, n_records, "each erasure is recorded once");
        assert!(ledger.verify().await.unwrap().is_intact());
        ledger.close().await.unwrap();
    }
    assert!(n_in_the_middle > 0, "no child was killed in the middle");
}
