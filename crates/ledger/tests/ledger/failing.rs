//! A ledger that cannot be written takes nothing and says so, and goes on when it can.

use std::path::Path;
use std::process::Command;

use freehold_ledger::{Entry, Ledger, LedgerError, Reader};
use proptest::prelude::*;

use crate::site::{Site, entry, other_key};

on_both!(what_cannot_be_written_is_told_and_tried_again, what_is_not_there_is_not_made_by_reading);

async fn healthy_again(ledger: &Ledger) {
    for _ in 0..1000 {
        if ledger.is_healthy() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the ledger stays closed");
}

async fn what_cannot_be_written_is_told_and_tried_again(site: &Site) {
    let ledger = site.open().await;
    ledger.append_durable(entry(1)).await.unwrap();
    site.sql("ALTER TABLE ledger_bodies RENAME TO gone").await;
    ledger.append(entry(2)).unwrap();
    let told = ledger.append_durable(entry(3)).await.unwrap_err().to_string();
    assert!(told.contains("ledger_bodies") || told.contains("takes no entries"), "{told}");
    let told = ledger.flush().await.unwrap_err().to_string();
    assert!(told.contains("ledger_bodies"), "{told}");
    assert!(!ledger.is_healthy());
    for refused in [
        ledger.append(entry(4)).unwrap_err(),
        ledger.append_durable(entry(4)).await.unwrap_err(),
        ledger.erase_body(entry(1).kind, "e1", "owner").await.unwrap_err(),
    ] {
        assert!(matches!(refused, LedgerError::Unwritable { .. }), "{refused}");
    }
    site.sql("ALTER TABLE gone RENAME TO ledger_bodies").await;
    healthy_again(&ledger).await;
    // What was taken before is recorded, what was refused is not.
    let found = ledger.verify().await.unwrap();
    assert!(found.is_intact() && found.n_rows == 2, "{found:?}");
    assert!(ledger.find(entry(2).kind, "e2").await.unwrap().is_some());
    assert_eq!(ledger.append_durable(entry(3)).await.unwrap(), 3);
    ledger.close().await.unwrap();
}

async fn what_is_not_there_is_not_made_by_reading(site: &Site) {
    let told = Reader::open(&site.url).await.unwrap_err().to_string();
    assert!(told.contains("there is no ledger here"), "{told}");
    assert!(site.is_postgres || !Path::new(&site.url).exists());
    site.open().await.close().await.unwrap();
    Reader::open(&site.url).await.unwrap();
    site.sql("INSERT INTO ledger_migrations (version, at_us) VALUES (1000, 1)").await;
    for told in [
        Reader::open(&site.url).await.map(drop).unwrap_err().to_string(),
        Ledger::open(&site.url, other_key()).await.map(drop).unwrap_err().to_string(),
    ] {
        assert!(told.contains("a ledger of format 1000, this program knows up to"), "{told}");
    }
}

#[tokio::test]
async fn a_server_that_cuts_connections_is_asked_again() {
    let Some(site) = Site::postgres().await else { return };
    let ledger = site.open().await;
    ledger.append_durable(entry(1)).await.unwrap();
    site.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .await;
    ledger.append(entry(2)).unwrap();
    ledger.flush().await.unwrap();
    assert!(ledger.is_healthy());
    assert_eq!(ledger.append_durable(entry(3)).await.unwrap(), 3);
    assert!(ledger.verify().await.unwrap().is_intact());
    ledger.close().await.unwrap();
    site.tear_down().await;
}

#[tokio::test]
async fn a_server_that_may_not_be_written_is_told() {
    let Some(site) = Site::postgres().await else { return };
    site.with_rows(2).await;
    let name = site.url.rsplit_once('/').unwrap().1;
    let alter = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    site.sql(&alter).await;
    let ledger = site.open().await;
    let told = ledger.append_durable(entry(3)).await.unwrap_err();
    assert!(matches!(told, LedgerError::ReadOnly { .. }), "{told}");
    assert!(ledger.verify().await.unwrap().is_intact() && !ledger.is_healthy());
    assert!(ledger.close().await.is_err());
    site.tear_down().await;

    let secret = "postgres://nobody:secret@127.0.0.1:1/nothing";
    let told = Ledger::open(secret, other_key()).await.unwrap_err().to_string();
    assert!(told.contains("127.0.0.1:1/nothing") && !told.contains("secret"), "{told}");
}

/// SQLite waits five seconds for a lock.
#[tokio::test]
async fn a_file_that_another_process_holds_is_told() {
    let site = Site::sqlite();
    let ledger = site.open().await;
    ledger.append_durable(entry(1)).await.unwrap();
    let mut beside = site.connect().await;
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut beside).await.unwrap();
    let told = ledger.append_durable(entry(2)).await.unwrap_err().to_string();
    assert!(told.contains("ledger.sqlite: the ledger is locked by another process"), "{told}");
    assert!(!ledger.is_healthy());
    assert!(ledger.verify().await.unwrap().is_intact(), "readers do not wait");
    sqlx::raw_sql("ROLLBACK").execute(&mut beside).await.unwrap();
    healthy_again(&ledger).await;
    assert_eq!(ledger.append_durable(entry(2)).await.unwrap(), 2);
    ledger.close().await.unwrap();
}

fn mount(options: &str, folder: &Path) -> bool {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(folder);
    cfg!(target_os = "linux") && mount.output().is_ok_and(|output| output.status.success())
}

/// A file system in memory, unmounted in the end.
struct Mounted<'p>(&'p Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_and_one_that_may_only_be_read_are_told() {
    let site = Site::sqlite();
    if !mount("size=1m", site.home.path()) {
        println!("skipped: mounting a small file system needs root on Linux");
        return;
    }
    let _mounted = Mounted(site.home.path());
    let ledger = site.open().await;
    let large = |n| Entry { body: format!("\"{}\"", "x".repeat(100_000)), ..entry(n) };
    let mut n_recorded = 0;
    let told = loop {
        match ledger.append_durable(large(n_recorded + 1)).await {
            Ok(seq) => n_recorded = seq,
            Err(error) => break error,
        }
        assert!(n_recorded < 20, "more than the disk holds");
    };
    assert!(matches!(told, LedgerError::Full { .. }), "{told}");
    assert!(!ledger.is_healthy() && n_recorded > 1);
    assert!(mount("remount,size=16m", site.home.path()));
    healthy_again(&ledger).await;
    assert_eq!(ledger.append_durable(entry(100)).await.unwrap(), n_recorded + 1);
    assert!(ledger.verify().await.unwrap().is_intact());
    ledger.close().await.unwrap();
    drop(ledger);

    assert!(mount("remount,ro", site.home.path()));
    let told = match Ledger::open(&site.url, site.key.clone()).await {
        Ok(ledger) => ledger.append_durable(entry(101)).await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(told.contains("ledger.sqlite"), "{told}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A file that anything happened to is an error or a bad row, or nothing of it mattered.
    #[test]
    fn a_damaged_file_is_told(
        places in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..40),
        cut in prop::option::of(0.0..1.0f64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let site = Site::sqlite();
            site.with_rows(12).await;
            // The pages of the tables; the first has the schema, which is another matter.
            let mut bytes = std::fs::read(&site.url).unwrap();
            let before = bytes.len();
            let at = |place: f64| (place * before as f64) as usize;
            for (place, byte) in places {
                bytes[at(place)] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(at(cut));
            }
            std::fs::write(&site.url, &bytes).unwrap();
            let Ok(reader) = Reader::open(&site.url).await else { return };
            if let Ok(found) = reader.verify(&[site.key.public()], &[]).await
                && found.is_intact()
                && found.n_rows > 0
            {
                assert_eq!(found.n_rows, 12);
            }
            let _ = reader.find(entry(3).kind, "e3").await;
            let _ = reader.export::<LedgerError>(1, None, |_| Ok(())).await;
            if let Ok(ledger) = Ledger::open(&site.url, site.key.clone()).await {
                let _ = ledger.append_durable(entry(13)).await;
                let _ = ledger.close().await;
            }
        });
    }
}
