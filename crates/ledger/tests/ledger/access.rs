//! Keys and projects: what is changed is recorded, once, and what cannot be changes nothing.

use freehold_ledger::{Act, Key, Kind, Ledger, LedgerError, Reader, Roster, Secret, Which};

use crate::site::{Site, other_key};

on_both!(
    keys_are_made_rotated_and_revoked,
    projects_are_groups_of_keys,
    what_cannot_be_is_refused_and_changes_nothing,
    changes_of_several_servers_are_all_there,
    secrets_are_in_no_row_and_in_no_export,
);

/// A key of this name, and its secret.
fn key(name: &str) -> (Key, Secret) {
    let id = Secret::draw_id().unwrap();
    let secret = Secret::draw(&id).unwrap();
    let key = Key {
        id,
        name: name.to_owned(),
        hash: secret.hash(),
        before: None,
        project: None,
        person: None,
        scopes: r#"{"models":["a"]}"#.to_owned(),
        defaults: r#"{"cache":"off"}"#.to_owned(),
        created: 5,
        expires: None,
        revoked: None,
    };
    (key, secret)
}

fn creation(key: &Key) -> Act {
    Act::CreateKey(Box::new(key.clone()))
}

async fn roster(ledger: &Ledger) -> Roster {
    ledger.reader().roster(Which::Live).await.unwrap()
}

async fn keys_are_made_rotated_and_revoked(site: &Site) {
    let ledger = site.open().await;
    assert_eq!(roster(&ledger).await, Roster::default());
    let (mut one, _) = key("one");
    one.person = Some("zoe@example.com".to_owned());
    one.expires = Some(7);
    let (two, _) = key("two");
    assert_eq!(ledger.act(creation(&two), "owner").await.unwrap(), 1);
    assert_eq!(ledger.act(creation(&one), "owner").await.unwrap(), 2);
    let found = roster(&ledger).await;
    assert_eq!((found.version, &found.keys), (2, &vec![one.clone(), two.clone()]));
    assert_eq!(ledger.reader().roster_version().await.unwrap(), 2);

    let hash = Secret::draw(&one.id).unwrap().hash();
    let act = Act::RotateKey { key: "one".to_owned(), hash, until: 99 };
    assert_eq!(ledger.act(act, "owner").await.unwrap(), 3);
    let found = roster(&ledger).await;
    assert_eq!(found.keys[0], Key { hash, before: Some((one.hash, 99)), ..one.clone() });

    assert_eq!(ledger.act(Act::RevokeKey(one.id.clone()), "two").await.unwrap(), 4);
    let found = roster(&ledger).await;
    assert_eq!((found.version, found.has_had_keys), (4, true));
    assert_eq!(found.keys, vec![two]);
    let all = ledger.reader().roster(Which::All).await.unwrap();
    assert!(all.keys.len() == 2 && all.keys[0].revoked.is_some(), "{all:?}");
    // The name is free again.
    ledger.act(creation(&key("one").0), "owner").await.unwrap();
    ledger.close().await.unwrap();

    let recorded = records(site).await;
    let acts = ["key.create", "key.create", "key.rotate", "key.revoke", "key.create"];
    assert_eq!(recorded.len(), acts.len(), "{recorded:?}");
    for (record, act) in recorded.iter().zip(acts) {
        assert!(record.contains(act), "{record}");
    }
    assert!(recorded[1].contains(&one.id) && recorded[1].contains("zoe@example.com"));
    assert!(recorded[3].contains(r#""principal":"two""#), "{}", recorded[3]);
    assert!(site.verify().await.is_intact());
}

/// The lines of the export that are rows.
async fn records(site: &Site) -> Vec<String> {
    let (reader, mut lines) = (Reader::open(&site.url).await.unwrap(), Vec::new());
    let write = |line: &str| {
        lines.push(line.to_owned());
        Ok::<_, LedgerError>(())
    };
    reader.export(1, Some(Kind::Audit), write).await.unwrap();
    lines.retain(|line| line.contains(r#""kind":"audit""#) && line.contains("principal"));
    lines
}

fn project(name: &str, keep: Option<u32>) -> Act {
    Act::CreateProject { name: name.to_owned(), keep }
}

async fn projects_are_groups_of_keys(site: &Site) {
    let ledger = site.open().await;
    let (mut one, _) = key("one");
    one.project = Some("shop".to_owned());
    let told = ledger.act(creation(&one), "owner").await.unwrap_err();
    assert!(matches!(told, LedgerError::NotFound { kind: "project", .. }), "{told}");
    ledger.act(project("shop", Some(7)), "owner").await.unwrap();
    ledger.act(project("till", None), "owner").await.unwrap();
    ledger.act(creation(&one), "owner").await.unwrap();
    let found = roster(&ledger).await;
    let told = found.projects.iter().map(|of| (&*of.name, of.keep)).collect::<Vec<_>>();
    assert_eq!(told, [("shop", Some(7)), ("till", None)]);
    ledger.act(Act::RemoveProject("till".to_owned()), "owner").await.unwrap();
    assert_eq!(found.keys[0].project.as_deref(), Some("shop"));
    let told = ledger.act(Act::RemoveProject("shop".to_owned()), "owner").await.unwrap_err();
    assert!(told.to_string().contains("project \"shop\": it has keys"), "{told}");
    ledger.act(Act::RevokeKey("one".to_owned()), "owner").await.unwrap();
    ledger.act(Act::RemoveProject("shop".to_owned()), "owner").await.unwrap();
    assert!(roster(&ledger).await.projects.is_empty());
    ledger.close().await.unwrap();
}

async fn what_cannot_be_is_refused_and_changes_nothing(site: &Site) {
    let ledger = site.open().await;
    let (one, _) = key("one");
    ledger.act(creation(&one), "owner").await.unwrap();
    ledger.act(project("shop", None), "owner").await.unwrap();
    let before = roster(&ledger).await;
    let named = |name: &str| creation(&key(name).0);
    let with = |change: fn(&mut Key)| {
        let (mut key, _) = key("two");
        change(&mut key);
        creation(&key)
    };
    let hash = [0; 32];
    for (act, expected) in [
        (named("one"), "key \"one\": there is one of this name"),
        (named(&one.id), "there is one of this name"),
        (creation(&Key { name: "new".to_owned(), ..one.clone() }), "there is one of this name"),
        (named("a b"), "key name \"a b\": expected 1 to 64 letters"),
        (with(|key| key.id = "short".to_owned()), "key id \"short\": expected ten"),
        (with(|key| key.person = Some("a/b".to_owned())), "person \"a/b\": expected"),
        (with(|key| key.scopes = "[]".to_owned()), "scopes \"[]\": expected a JSON object"),
        (with(|key| key.defaults = "{".to_owned()), "defaults \"{\": expected a JSON object"),
        (with(|key| key.scopes = format!("{{}}{}", " ".repeat(65_536))), "at most 64 KiB"),
        (Act::RevokeKey("two".to_owned()), "the ledger has no key of the id \"two\""),
        (Act::RevokeKey("a\0".to_owned()), "has no key"),
        (Act::RotateKey { key: "two".to_owned(), hash, until: 0 }, "has no key"),
        (project("shop", None), "project \"shop\": there is one"),
        (project("a b", None), "project \"a b\": expected"),
        (Act::RemoveProject("none".to_owned()), "has no project of the id \"none\""),
        (Act::RemoveProject("a\0".to_owned()), "has no project"),
    ] {
        let told = ledger.act(act.clone(), "owner").await.unwrap_err().to_string();
        assert!(told.contains(expected), "{act:?}: {told}");
    }
    assert!(ledger.act(named("two"), "a\nb").await.is_err());
    assert_eq!(roster(&ledger).await, before);
    assert!(ledger.is_healthy());
    let found = ledger.verify().await.unwrap();
    assert!(found.is_intact() && found.n_rows == 2, "{found:?}");
    ledger.close().await.unwrap();
    let told = ledger.act(named("two"), "owner").await.unwrap_err();
    assert!(matches!(told, LedgerError::Unwritable { .. }), "{told}");
}

async fn changes_of_several_servers_are_all_there(site: &Site) {
    const N_EACH: usize = 20;
    let (one, other) = (site.open().await, Ledger::open(&site.url, other_key()).await.unwrap());
    let mut at_work = Vec::new();
    for (idx, ledger) in [&one, &other].into_iter().enumerate() {
        for n in 0..N_EACH {
            let ledger = ledger.clone();
            at_work.push(tokio::spawn(async move {
                ledger.act(creation(&key(&format!("k{idx}-{n}")).0), "owner").await.unwrap();
                // One of the two wins.
                ledger.act(creation(&key(&format!("same-{n}")).0), "owner").await.is_ok()
            }));
        }
    }
    let mut n_won = 0;
    for work in at_work {
        n_won += usize::from(work.await.unwrap());
    }
    assert_eq!(n_won, N_EACH);
    let found = roster(&one).await;
    assert_eq!(found, roster(&other).await);
    assert_eq!((found.keys.len(), found.version), (3 * N_EACH, 3 * N_EACH as i64));
    one.close().await.unwrap();
    other.close().await.unwrap();
}

async fn secrets_are_in_no_row_and_in_no_export(site: &Site) {
    let ledger = site.open().await;
    let (one, secret) = key("one");
    ledger.act(creation(&one), "owner").await.unwrap();
    let next = Secret::draw(&one.id).unwrap();
    let act = Act::RotateKey { key: one.id.clone(), hash: next.hash(), until: i64::MAX };
    ledger.act(act, "owner").await.unwrap();
    ledger.close().await.unwrap();
    let mut all = records(site).await.join("\n").into_bytes();
    assert!(!all.is_empty());
    if !site.is_postgres {
        for file in std::fs::read_dir(site.home.path()).unwrap() {
            all.extend(std::fs::read(file.unwrap().path()).unwrap());
        }
        let has_name = all.windows(one.id.len()).any(|window| window == one.id.as_bytes());
        assert!(has_name, "the id is there, so what is looked through is what was written");
    }
    for secret in [secret, next] {
        let tail = &secret.shown().as_bytes()[secret.shown().len() - 16..];
        assert!(!all.windows(tail.len()).any(|window| window == tail), "{secret:?}");
    }
}
