//! What is exported can be checked where there is no ledger.

use std::sync::LazyLock;

use freehold_ledger::{Kind, LedgerError, Reader, Verified, check_export};
use proptest::prelude::*;

use crate::site::Site;

on_both!(an_export_is_checked_without_the_ledger, an_export_of_one_kind_tells_nothing_of_others);

async fn export(site: &Site, since: i64, kind: Option<Kind>) -> Vec<String> {
    let reader = Reader::open(&site.url).await.unwrap();
    let mut lines = Vec::new();
    let write = |line: &str| {
        lines.push(line.to_owned());
        Ok::<(), LedgerError>(())
    };
    reader.export(since, kind, write).await.unwrap();
    lines
}

fn check(lines: &[String], trusted: &[[u8; 32]]) -> Result<Verified, LedgerError> {
    check_export(lines.join("\n").as_bytes(), trusted, &[])
}

async fn filled(site: &Site) {
    site.with_rows(8).await;
    let ledger = site.open().await;
    ledger.erase_body(Kind::Receipt, "e4", "owner").await.unwrap();
    ledger.close().await.unwrap();
}

async fn an_export_is_checked_without_the_ledger(site: &Site) {
    filled(site).await;
    let trusted = [site.key.public()];
    let lines = export(site, 1, None).await;
    assert_eq!(check(&lines, &trusted).unwrap(), site.verify().await);
    let part = export(site, 4, None).await;
    let found = check(&part, &trusted).unwrap();
    assert!(found.is_intact() && found.n_rows == 6 && found.n_erased == 1, "{found:?}");
    assert!(check(&part, &[[7; 32]]).unwrap().first_bad.is_some(), "nobody signed it");

    let bad = |change: &dyn Fn(&mut Vec<String>)| {
        let mut changed = lines.clone();
        change(&mut changed);
        match check(&changed, &trusted) {
            Ok(found) => found.first_bad.expect("a change was not found").reason,
            Err(error) => error.to_string(),
        }
    };
    // Lines 0 and 1 are the beginning and row 1, line 2 its head, line 5 row 4, which was erased.
    assert!(bad(&|lines| drop(lines.remove(3))).contains("row 3 is the next"));
    assert!(bad(&|lines| lines[3] = lines[3].replace("größer", "kleiner")).contains("its body"));
    assert!(bad(&|lines| lines[3] = lines[3].replace("Zoë", "Eve")).contains("what it says"));
    let by_another = |lines: &mut Vec<String>| {
        lines[5] = lines[5].replace("\"erased_by\":9", "\"erased_by\":8");
    };
    assert!(bad(&by_another).contains("row 8 records no erasure of it"));
    let without = |lines: &mut Vec<String>| {
        lines[5] = lines[5].replace("\"erased_by\":9,", "");
    };
    assert!(bad(&without).contains("no erasure of it is recorded"));
    assert!(bad(&|lines| drop(lines.pop())).contains("ends before the export does"));
    assert!(bad(&|lines| lines.push("{}".to_owned())).starts_with("line 15 of the export"));
    assert!(bad(&|lines| drop(lines.remove(0))).contains("expected the first line"));
    assert!(
        bad(&|lines| lines[1] = lines[1].replace("\"seq\":1", "\"seq\":1.5")).contains("line 2")
    );
    assert!(
        bad(&|lines| lines[1] = lines[1].replace("\"hash\":\"", "\"hash\":\"0")).contains("digits")
    );
    assert!(bad(&|lines| lines[1] = "x".repeat(9 << 20)).contains("longer than"));
    assert!(bad(&|lines| lines[0] = lines[0].replace(":1,", ":9,")).contains("format 9"));
}

async fn an_export_of_one_kind_tells_nothing_of_others(site: &Site) {
    filled(site).await;
    let lines = export(site, 1, Some(Kind::Audit)).await;
    let text = lines.join("\n");
    assert!(text.contains("\"id\":\"e3\"") && !text.contains("\"id\":\"e2\""), "{text}");
    assert!(text.contains("\"id\":\"receipt:e4\""), "erasures are always told: {text}");
    let found = check(&lines, &[site.key.public()]).unwrap();
    assert!(found.is_intact() && found.n_rows == 9 && found.signed == Some(9), "{found:?}");
    let idx = lines.iter().position(|line| line.contains("left_out")).unwrap();
    for hash in ["content", "previous", "hash"] {
        let mut changed = lines.clone();
        let digit = changed[idx].find(&format!("\"{hash}\":\"")).unwrap() + hash.len() + 4;
        let other = if changed[idx].as_bytes()[digit] == b'0' { "1" } else { "0" };
        changed[idx].replace_range(digit..=digit, other);
        let bad = check(&changed, &[site.key.public()]).unwrap().first_bad.unwrap();
        assert!(bad.seq == 2 && bad.reason.contains("what it says"), "{hash}: {bad:?}");
    }
}

/// The lines of a ledger of eight rows and an erasure, and the key that signed them.
static SAMPLE: LazyLock<(Vec<u8>, [u8; 32])> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let site = Site::sqlite();
        filled(&site).await;
        (export(&site, 1, None).await.join("\n").into_bytes(), site.key.public())
    })
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Lines that anything happened to are refused, or found bad, or their rows are what they were.
    #[test]
    fn a_damaged_export_is_told(
        places in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..6),
    ) {
        let (before, key) = &*SAMPLE;
        let original = check_export(&before[..], &[*key], &[]).unwrap();
        let mut bytes = before.clone();
        for (place, byte) in places {
            bytes[(place * before.len() as f64) as usize] = byte;
        }
        if let Ok(found) = check_export(&bytes[..], &[*key], &[])
            && found.is_intact()
        {
            prop_assert_eq!(found.head, original.head);
        }
    }
}
