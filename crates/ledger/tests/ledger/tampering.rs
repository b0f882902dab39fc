//! Whatever is changed in the database is found, at the first row that is not as it was written.

use freehold_ledger::{Ledger, LedgerError, Reader, read_heads};

use crate::site::{Site, entry, other_key};

on_both!(
    every_change_is_found,
    a_chain_that_another_wrote_is_found,
    an_older_ledger_is_found_by_heads_that_were_kept,
    a_writer_goes_on_only_behind_what_it_knows,
);

const DIFFERS: &str = "what it says is not what its hash is of";

async fn check(site: &Site, change: &str, seq: i64, reason: &str) {
    site.with_rows(6).await;
    let found = site.verify().await;
    assert!(found.is_intact() && found.n_rows == 6 && found.signed == Some(6), "{found:?}");
    site.sql(change).await;
    let bad = site.verify().await.first_bad;
    let bad = bad.unwrap_or_else(|| panic!("not found: {change}"));
    assert!(bad.seq == seq && bad.reason.contains(reason), "{change}: {bad:?}");
}

async fn every_change_is_found(site: &Site) {
    for (change, seq, reason) in [
        ("UPDATE ledger_entries SET kind = 'audit', id = 'x' WHERE seq = 4", 4, DIFFERS),
        ("UPDATE ledger_entries SET principal = 'mallory' WHERE seq = 4", 4, DIFFERS),
        ("UPDATE ledger_entries SET at_us = at_us + 1 WHERE seq = 4", 4, DIFFERS),
        ("UPDATE ledger_entries SET hash = previous WHERE seq = 4", 4, DIFFERS),
        ("UPDATE ledger_entries SET previous = hash WHERE seq = 4", 4, DIFFERS),
        ("UPDATE ledger_entries SET body_hash = hash WHERE seq = 4", 4, DIFFERS),
        (
            "UPDATE ledger_bodies SET body = (SELECT body FROM ledger_bodies WHERE seq = 2) \
             WHERE seq = 4",
            4,
            "its body is not the one that was recorded",
        ),
        ("DELETE FROM ledger_bodies WHERE seq = 4", 4, "no erasure of it is recorded"),
        ("DELETE FROM ledger_entries WHERE seq = 3", 3, "it is missing: row 4 is the next"),
        ("DELETE FROM ledger_entries WHERE seq = 1", 1, "it is missing: row 2 is the next"),
        ("DELETE FROM ledger_entries WHERE seq > 4", 5, "the chain was signed up to row 6"),
        ("DELETE FROM ledger_entries", 1, "the chain was signed up to row 1"),
        (
            "UPDATE ledger_entries SET seq = 99 WHERE seq = 3; \
             UPDATE ledger_entries SET seq = 3 WHERE seq = 4; \
             UPDATE ledger_entries SET seq = 4 WHERE seq = 99",
            3,
            DIFFERS,
        ),
        ("UPDATE ledger_entries SET seq = -5 WHERE seq = 1", -5, "where row 1 was expected"),
        (
            "UPDATE ledger_entries SET seq = 9223372036854775807 WHERE seq = 6",
            6,
            "row 9223372036854775807 is the next",
        ),
        ("UPDATE ledger_heads SET at_us = at_us + 1 WHERE seq = 6", 6, "signature"),
        ("UPDATE ledger_heads SET seq = 3 WHERE seq = 6", 3, "signature"),
        ("UPDATE ledger_heads SET seq = 600 WHERE seq = 6", 600, "signature"),
        ("UPDATE ledger_heads SET seq = -6 WHERE seq = 6", -6, "does not stand behind it"),
        ("DELETE FROM ledger_heads", 6, "no trusted key has signed it or a row before it"),
    ] {
        check(site, change, seq, reason).await;
    }
    for (sqlite, postgres, seq, reason) in [
        (
            "UPDATE ledger_bodies SET body = zeroblob(3000000) WHERE seq = 4",
            "UPDATE ledger_bodies SET body = decode(repeat('00', 3000000), 'hex') WHERE seq = 4",
            4,
            "larger than any that is recorded",
        ),
        (
            "UPDATE ledger_entries SET principal = hex(zeroblob(3000000)) WHERE seq = 4",
            "UPDATE ledger_entries SET principal = repeat('0', 6000000) WHERE seq = 4",
            4,
            DIFFERS,
        ),
        (
            "UPDATE ledger_entries SET hash = x'0011' WHERE seq = 4",
            "UPDATE ledger_entries SET hash = '\\x0011' WHERE seq = 4",
            4,
            "it cannot be read",
        ),
        (
            "UPDATE ledger_heads SET signature = x'0011' WHERE seq = 6",
            "UPDATE ledger_heads SET signature = '\\x0011' WHERE seq = 6",
            6,
            "cannot be read",
        ),
    ] {
        check(site, site.pick(sqlite, postgres), seq, reason).await;
    }
}

/// PostgreSQL holds its types; SQLite's file can hold anything.
#[tokio::test]
async fn values_of_no_type_are_found_in_a_sqlite_file() {
    let site = Site::sqlite();
    check(&site, "UPDATE ledger_entries SET id = CAST(x'ff61' AS TEXT) WHERE seq = 4", 4, "read")
        .await;
    for value in ["'noon'", "1.5", "NULL", "x'00'", "9e99"] {
        let site = Site::sqlite();
        let change = format!(
            "ALTER TABLE ledger_entries RENAME TO lax; \
             CREATE TABLE ledger_entries \
             (seq, kind, id, at_us, principal, body_hash, previous, hash, UNIQUE (kind, id)); \
             INSERT INTO ledger_entries SELECT * FROM lax; \
             UPDATE ledger_entries SET at_us = {value} WHERE seq = 4"
        );
        check(&site, &change, 4, "it cannot be read").await;
    }
}

/// Everything is valid, and nothing of it is ours.
async fn a_chain_that_another_wrote_is_found(site: &Site) {
    site.with_rows(4).await;
    site.sql("DELETE FROM ledger_entries; DELETE FROM ledger_bodies").await;
    let mallory = Ledger::open(&site.url, other_key()).await.unwrap();
    for n in [4, 3, 2, 1] {
        mallory.append_durable(entry(n)).await.unwrap();
    }
    mallory.close().await.unwrap();
    let bad = site.verify().await.first_bad.unwrap();
    assert!(bad.seq == 1 && bad.reason.contains("signed with another hash"), "{bad:?}");
    let told = Ledger::open(&site.url, site.key.clone()).await.unwrap_err();
    assert!(matches!(told, LedgerError::Altered { seq: 4, .. }), "{told}");

    site.sql("DELETE FROM ledger_heads WHERE n <= 2").await;
    let bad = site.verify().await.first_bad.unwrap();
    assert!(bad.seq == 4 && bad.reason.contains("no trusted key has signed"), "{bad:?}");
}

/// What was cut off together with the heads that were behind it can be known from outside only.
async fn an_older_ledger_is_found_by_heads_that_were_kept(site: &Site) {
    site.with_rows(6).await;
    let reader = Reader::open(&site.url).await.unwrap();
    let mut kept = String::new();
    let write = |line: &str| {
        kept.push_str(line);
        kept.push('\n');
        Ok::<(), LedgerError>(())
    };
    reader.heads(write).await.unwrap();
    let kept = read_heads(kept.as_bytes()).unwrap();
    assert_eq!(kept.iter().map(|head| head.seq).collect::<Vec<_>>(), [1, 6]);
    let trusted = [site.key.public()];
    assert!(reader.verify(&trusted, &kept).await.unwrap().is_intact());

    site.sql("DELETE FROM ledger_entries WHERE seq > 4; DELETE FROM ledger_heads WHERE seq > 4")
        .await;
    assert!(reader.verify(&trusted, &[]).await.unwrap().is_intact());
    let bad = reader.verify(&trusted, &kept).await.unwrap().first_bad.unwrap();
    assert_eq!((bad.seq, bad.reason.contains("signed up to row 6")), (5, true), "{bad:?}");
}

async fn a_writer_goes_on_only_behind_what_it_knows(site: &Site) {
    let ledger = site.open().await;
    for n in 1..=3 {
        ledger.append_durable(entry(n)).await.unwrap();
    }
    site.sql("DELETE FROM ledger_entries WHERE seq = 3").await;
    let told = ledger.append_durable(entry(4)).await.unwrap_err();
    assert!(matches!(told, LedgerError::Altered { seq: 3, .. }), "{told}");
    assert!(!ledger.is_healthy());
    let told = ledger.append(entry(4)).unwrap_err().to_string();
    assert!(told.contains("takes no entries: row 3 of the ledger: it is not as"), "{told}");
    drop(ledger);

    site.with_rows(6).await;
    site.sql("DELETE FROM ledger_entries WHERE seq > 5").await;
    let told = Ledger::open(&site.url, site.key.clone()).await.unwrap_err();
    assert!(matches!(told, LedgerError::Altered { seq: 6, .. }), "{told}");
    // A row that tells what it did not say is not given out.
    site.with_rows(6).await;
    site.sql("UPDATE ledger_entries SET principal = 'mallory' WHERE seq = 4").await;
    let ledger = site.open().await;
    let told = ledger.find(entry(4).kind, "e4").await.unwrap_err();
    assert!(matches!(told, LedgerError::Altered { seq: 4, .. }), "{told}");
    assert!(ledger.find(entry(5).kind, "e5").await.unwrap().is_some());
    ledger.close().await.unwrap();
}
