//! What is appended is recorded once, in its order, by any number of writers.

use freehold_ledger::{Entry, Kind, Ledger, LedgerError, Reader};

use crate::site::{Site, entry, other_key};

on_both!(
    rows_are_recorded_in_their_order,
    an_id_is_taken_once,
    what_is_out_of_bounds_is_refused,
    the_queue_is_bounded,
    several_writers_make_one_chain,
    a_body_is_erased_and_the_chain_stays,
    the_head_is_signed_at_the_first_row_and_at_the_end,
);

async fn rows_are_recorded_in_their_order(site: &Site) {
    let ledger = site.open().await;
    assert_eq!(ledger.verify().await.unwrap().head, None);
    for n in 1..=600 {
        match n % 100 {
            0 => assert_eq!(ledger.append_durable(entry(n)).await.unwrap(), n),
            _ => ledger.append(entry(n)).unwrap(),
        }
    }
    ledger.flush().await.unwrap();
    let mut previous = [1; 32];
    for n in (1..=600).step_by(7) {
        let found = ledger.find(entry(n).kind, &entry(n).id).await.unwrap().unwrap();
        assert_eq!((found.seq, &found.entry), (n, &entry(n)));
        assert_ne!(found.previous, previous);
        previous = found.hash;
    }
    assert!(ledger.find(Kind::Audit, "e2").await.unwrap().is_none(), "e2 is a receipt");
    let some = ledger.before(Kind::Audit, Some("e5"), 3).await.unwrap();
    let ids: Vec<&str> = some.iter().map(|found| &*found.entry.id).collect();
    assert_eq!(ids, ["e499", "e497", "e495"]);
    let last = ledger.before(Kind::Audit, None, 1).await.unwrap().remove(0);
    assert_eq!(last.entry, entry(99));
    assert!(ledger.before(Kind::Departure, None, 9).await.unwrap().is_empty());
    ledger.close().await.unwrap();

    let ledger = site.open().await;
    assert_eq!(ledger.append_durable(entry(601)).await.unwrap(), 601);
    let found = ledger.verify().await.unwrap();
    assert!(found.is_intact(), "{found:?}");
    assert_eq!((found.n_rows, found.signed, found.head.unwrap().0), (601, Some(601), 601));
    let last = ledger.find(Kind::Audit, "e601").await.unwrap().unwrap();
    assert_eq!(found.head.unwrap().1, last.hash);
    assert!(found.n_heads >= 4, "{} heads for 601 rows and two ends", found.n_heads);
    ledger.close().await.unwrap();
    assert!(matches!(ledger.append(entry(602)), Err(LedgerError::Unwritable { .. })));
    assert!(!ledger.is_healthy());
}

async fn an_id_is_taken_once(site: &Site) {
    let ledger = site.open().await;
    for _ in 0..2 {
        assert_eq!(ledger.append_durable(entry(1)).await.unwrap(), 1);
    }
    let other = Entry { body: "{}".to_owned(), ..entry(1) };
    let told = ledger.append_durable(other.clone()).await.unwrap_err().to_string();
    assert_eq!(told, "row 1 of the ledger is another audit of the id \"e1\"");
    let receipt = Entry { kind: Kind::Receipt, ..other.clone() };
    assert_eq!(ledger.append_durable(receipt).await.unwrap(), 2);

    ledger.append(other).unwrap();
    ledger.append(entry(3)).unwrap();
    assert!(matches!(ledger.flush().await, Err(LedgerError::Taken { seq: 1, .. })));
    ledger.flush().await.unwrap();
    assert!(ledger.is_healthy(), "one entry that is refused is no failure of the ledger");
    let found = ledger.verify().await.unwrap();
    assert!(found.is_intact() && found.n_rows == 3, "{found:?}");
    ledger.close().await.unwrap();
}

async fn what_is_out_of_bounds_is_refused(site: &Site) {
    let ledger = site.open().await;
    let large = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    ledger.append_durable(Entry { body: large.clone(), ..entry(1) }).await.unwrap();
    let longest = Entry { id: "ä".repeat(128), principal: "ö".repeat(128), ..entry(2) };
    ledger.append_durable(longest.clone()).await.unwrap();
    let name = format!("receipt:{}", longest.id);
    assert_eq!(ledger.erase_body(longest.kind, &longest.id, "owner").await.unwrap(), 3);
    assert!(ledger.find(Kind::Erasure, &name).await.unwrap().is_some());
    for bad in [
        Entry { body: format!("{large} "), ..entry(4) },
        Entry { body: "no JSON".to_owned(), ..entry(4) },
        Entry { id: "a\u{0}b".to_owned(), ..entry(4) },
        Entry { at: -1, ..entry(4) },
        Entry { kind: Kind::Erasure, ..entry(4) },
    ] {
        let told = ledger.append(bad.clone()).unwrap_err();
        assert!(matches!(told, LedgerError::InvalidEntry { .. }), "{told}");
        let told = ledger.append_durable(bad).await.unwrap_err();
        assert!(matches!(told, LedgerError::InvalidEntry { .. }), "{told}");
    }
    let told = ledger.erase_body(Kind::Erasure, &name, "owner").await.unwrap_err();
    assert!(matches!(told, LedgerError::InvalidEntry { .. }), "{told}");
    assert_eq!(ledger.verify().await.unwrap().n_rows, 3);
    ledger.close().await.unwrap();
}

async fn the_queue_is_bounded(site: &Site) {
    let ledger = site.open().await;
    let mut beside = site.connect().await;
    let hold =
        site.pick("BEGIN IMMEDIATE", "BEGIN; SELECT pg_advisory_xact_lock(7382914652093245540)");
    sqlx::raw_sql(sqlx::AssertSqlSafe(hold)).execute(&mut beside).await.unwrap();
    // SQLite's lock is waited for for five seconds only: the bound that is reached at once.
    let body = site.pick("1", "2").repeat(if site.is_postgres { 1_000_000 } else { 1 });
    let fill = |n| Entry { body: body.clone(), ..entry(n) };
    let bound = if site.is_postgres { 67 } else { 4096 };
    let n_taken = (1..5000).take_while(|n| ledger.append(fill(*n)).is_ok()).count();
    assert_eq!(n_taken, bound, "64 MiB of entries of 1 MB and a little, or 4096 of them");
    assert_eq!(ledger.is_healthy(), site.is_postgres, "a small entry has room, one more has not");
    let told = ledger.append(fill(5000)).unwrap_err();
    assert!(
        matches!(told, LedgerError::QueueFull { n_entries, .. } if n_entries == bound),
        "{told}"
    );
    sqlx::raw_sql("ROLLBACK").execute(&mut beside).await.unwrap();
    ledger.flush().await.unwrap();
    assert!(ledger.is_healthy());
    assert_eq!(ledger.verify().await.unwrap().n_rows, i64::try_from(bound).unwrap());
    ledger.close().await.unwrap();
}

async fn several_writers_make_one_chain(site: &Site) {
    const N_EACH: i64 = 60;
    let keys = [site.key.clone(), other_key(), other_key()];
    let mut ledgers = Vec::new();
    // All at once, on a place where there is nothing yet.
    let opening: Vec<_> = keys
        .iter()
        .map(|key| {
            let (url, key) = (site.url.clone(), key.clone());
            tokio::spawn(async move { Ledger::open(&url, key).await.unwrap() })
        })
        .collect();
    for opening in opening {
        ledgers.push(opening.await.unwrap());
    }
    let mut writing = Vec::new();
    for (idx, ledger) in ledgers.iter().cloned().enumerate() {
        writing.push(tokio::spawn(async move {
            let mut places = Vec::new();
            for n in 0..N_EACH {
                let entry = Entry { id: format!("{idx}-{n}"), ..entry(n) };
                match n % 3 {
                    0 => ledger.append(entry).unwrap(),
                    _ => places.push(ledger.append_durable(entry).await.unwrap()),
                }
            }
            ledger.close().await.unwrap();
            assert!(places.is_sorted(), "{places:?}");
        }));
    }
    for writing in writing {
        writing.await.unwrap();
    }
    let reader = Reader::open(&site.url).await.unwrap();
    let trusted = keys.clone().map(|key| key.public());
    let found = reader.verify(&trusted, &[]).await.unwrap();
    assert!(found.is_intact() && found.strangers.is_empty(), "{found:?}");
    assert_eq!((found.n_rows, found.signed), (3 * N_EACH, Some(3 * N_EACH)));
    let found = reader.verify(&trusted[..1], &[]).await.unwrap();
    assert!(found.is_intact(), "{found:?}");
    assert_eq!(found.strangers.len(), 2);
}

async fn a_body_is_erased_and_the_chain_stays(site: &Site) {
    let ledger = site.open().await;
    let secret = "Tom Bombadil";
    let body = format!("{{\"said\":\"{secret}\",\"pad\":\"{}\"}}", "x".repeat(20_000));
    let entry_of = |n| Entry { body: body.clone(), ..entry(n) };
    for n in 1..=3 {
        ledger.append_durable(entry_of(n)).await.unwrap();
    }
    for n in 1..=3 {
        let seq = ledger.erase_body(entry(n).kind, &entry(n).id, "owner").await.unwrap();
        assert_eq!(seq, 3 + n);
    }
    assert_eq!(ledger.erase_body(entry(2).kind, "e2", "another").await.unwrap(), 5);
    let told = ledger.erase_body(Kind::Audit, "e2", "owner").await.unwrap_err().to_string();
    assert_eq!(told, "the ledger has no audit of the id \"e2\"");

    let erased = ledger.find(Kind::Receipt, "e2").await.unwrap().unwrap();
    assert_eq!(erased.entry, Entry { body: String::new(), ..entry(2) });
    let record = ledger.find(Kind::Erasure, "receipt:e2").await.unwrap().unwrap();
    assert_eq!((record.seq, record.entry.principal.as_str()), (5, "owner"));
    let found = ledger.verify().await.unwrap();
    assert!(found.is_intact() && found.n_erased == 3 && found.n_rows == 6, "{found:?}");
    ledger.close().await.unwrap();
    drop(ledger);
    if site.is_postgres {
        return;
    }
    for file in std::fs::read_dir(site.home.path()).unwrap() {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let has = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!has, "{} still has what was erased", path.display());
    }
}

async fn the_head_is_signed_at_the_first_row_and_at_the_end(site: &Site) {
    let ledger = site.open().await;
    ledger.append_durable(entry(1)).await.unwrap();
    ledger.append_durable(entry(2)).await.unwrap();
    assert_eq!(ledger.verify().await.unwrap().signed, Some(1));
    // Without being closed, behind the last handle.
    ledger.append(entry(3)).unwrap();
    drop(ledger);
    for _ in 0..500 {
        if site.verify().await.signed == Some(3) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{:?}", site.verify().await);
}
