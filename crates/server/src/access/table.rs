//! The keys in memory, as the ledger has them: no request asks the database.
//!
//! A number in the ledger moves with each change; it is looked at once a second, so that a key that
//! is revoked anywhere is taken nowhere a second later. Where that cannot be seen for a while,
//! keys are taken no more.

use super::credential::{self, Credential};
use super::{Asker, Defaults, LocalAccess, Other, Scopes, Sessions, Who};
use crate::accounts::now_us;
use crate::app::Peer;
use crate::errors::ServerError;
use crate::reload::Current;
use axum::http::{HeaderMap, Method};
use ledger::{KEY_FORM, Key, Ledger, LedgerError, Roster, Secret, Which, id_of};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two looks at the ledger.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How long a look may take: a database that is gone without a word ends it no sooner.
const LOOK_WAIT: Duration = Duration::from_secs(5);
/// For how long keys are taken that the ledger could not be asked about: a database that starts
/// anew is back by then.
const UNSEEN_MAX: Duration = Duration::from_secs(15);

/// Who may ask.
pub(crate) struct Access {
    ledger: Option<Ledger>,
    local: LocalAccess,
    /// Whether other machines may ask while there is no key.
    is_open_to_others: bool,
    owner: Arc<Who>,
    /// Who has signed in.
    pub(crate) sessions: Sessions,
    table: Current<Table>,
    /// When the table was last known to be as the ledger has it.
    seen: Mutex<Instant>,
}

/// All keys that are not revoked.
#[derive(Default)]
struct Table {
    /// `None`: the ledger was not looked at yet.
    version: Option<i64>,
    /// Whether there ever was one: from then on nobody is let in without.
    has_had_keys: bool,
    keys: HashMap<String, Held>,
}

struct Held {
    hash: [u8; 32],
    before: Option<([u8; 32], i64)>,
    expires: Option<i64>,
    who: Arc<Who>,
}

impl Access {
    pub(crate) fn new(
        ledger: Option<Ledger>,
        local: LocalAccess,
        is_open_to_others: bool,
        sessions: Sessions,
    ) -> Self {
        let (table, seen) = (Current::new(Table::default()), Mutex::new(Instant::now()));
        let owner = Arc::new(Who::owner());
        Self { ledger, local, is_open_to_others, owner, sessions, table, seen }
    }

    /// The ledger, where there is one to keep keys in.
    pub(crate) fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// Looks whether keys were changed, and reads them if they were.
    ///
    /// # Errors
    /// What keeps the ledger from being read.
    pub(crate) async fn refresh(&self) -> Result<(), LedgerError> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        let begun = Instant::now();
        let version = ledger.reader().roster_version().await?;
        if self.table.get().version != Some(version) {
            self.table.set(Table::of(ledger.reader().roster(Which::Live).await?));
        }
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        Ok(())
    }

    /// Does so each second, for ever.
    pub(crate) async fn follow(&self) {
        let mut is_told = false;
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            let why = match tokio::time::timeout(LOOK_WAIT, self.refresh()).await {
                Ok(looked) => looked.err().map(|error| error.to_string()),
                Err(_) => Some(format!("no answer within {} s", LOOK_WAIT.as_secs())),
            };
            if let Some(why) = why.as_ref().filter(|_| !is_told) {
                tracing::error!(why, "keys cannot be read from the ledger");
            }
            is_told = why.is_some();
        }
    }

    /// Who sends this.
    ///
    /// # Errors
    /// [`ServerError::Unauthorized`] for nobody; that the ledger cannot be asked.
    pub(crate) fn who(
        &self,
        peer: Option<Peer>,
        headers: &HeaderMap,
        method: &Method,
    ) -> Result<Arc<Who>, ServerError> {
        let table = self.table.get();
        // A key that is sent beside a cookie goes before it, where keys are looked at.
        if (!table.has_had_keys || credential::any(headers).is_none())
            && let Some(who) = self.sessions.of(headers, method, now_us())
        {
            return Ok(who);
        }
        let other = Other::of(peer, headers);
        if !table.has_had_keys && self.local != LocalAccess::Key {
            // Which pages may ask is the gate's to know.
            let is_taken = |other: &Other| self.is_open_to_others || *other == Other::Page;
            return match other {
                None => Ok(Arc::clone(&self.owner)),
                Some(other) if is_taken(&other) => Ok(Arc::new(Who::anyone(other.why()))),
                Some(_) => Err(unauthorized(
                    "expected one of this server's keys, of which there is none yet \
                     (`freehold key create NAME` on its machine makes one)",
                )),
            };
        }
        let credential = credential::of(headers);
        if self.local == LocalAccess::Open
            && other.is_none()
            && !matches!(credential, Credential::One(text) if has_form(text))
        {
            return Ok(Arc::clone(&self.owner));
        }
        let text = match credential {
            Credential::One(text) => text,
            Credential::None => {
                return Err(unauthorized(&format!(
                    "expected a key, `Authorization: Bearer {KEY_FORM}` or `x-api-key: {KEY_FORM}`"
                )));
            }
            Credential::Several => {
                return Err(unauthorized(
                    "expected one key, found different ones in `authorization` and `x-api-key`",
                ));
            }
        };
        self.check_seen()?;
        table.who(text, now_us())
    }

    /// Who somebody is that has asked for something before: it is done later.
    ///
    /// # Errors
    /// [`ServerError::Unauthorized`]: the key is gone, or there was none and one is asked for now;
    /// that the ledger cannot be asked.
    pub(crate) fn who_of(&self, asker: &Asker) -> Result<Arc<Who>, ServerError> {
        let table = self.table.get();
        let is_without_keys = !table.has_had_keys && self.local != LocalAccess::Key;
        match asker {
            Asker::Key(id) => {
                self.check_seen()?;
                let gone = || unauthorized("the key with which this was sent was revoked");
                let held = table.keys.get(id).ok_or_else(gone)?;
                held.check_time(now_us())?;
                Ok(Arc::clone(&held.who))
            }
            Asker::Session(id) => {
                let over = || unauthorized("who has sent this is not signed in any more");
                self.sessions.get(id, now_us()).map(|of| of.who).ok_or_else(over)
            }
            Asker::Owner if is_without_keys || self.local == LocalAccess::Open => {
                Ok(Arc::clone(&self.owner))
            }
            Asker::Anyone if is_without_keys => {
                Ok(Arc::new(Who::anyone("it was sent without a key".to_owned())))
            }
            Asker::Owner | Asker::Anyone => {
                Err(unauthorized("this was sent without a key, and now a key is asked for"))
            }
        }
    }

    fn check_seen(&self) -> Result<(), ServerError> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match self.ledger.is_some() && seen.elapsed() > UNSEEN_MAX {
            false => Ok(()),
            true => Err(ServerError::LedgerUnavailable(
                "the ledger of this server cannot be read, and no key is taken that may have been \
                 revoked"
                    .to_owned(),
            )),
        }
    }
}

impl Table {
    fn of(roster: Roster) -> Self {
        let (version, has_had_keys) = (Some(roster.version), roster.has_had_keys);
        let mut table = Self { version, has_had_keys, ..Self::default() };
        let days: HashMap<String, Option<u32>> =
            roster.projects.into_iter().map(|project| (project.name, project.keep)).collect();
        for key in roster.keys {
            let days = key.project.as_ref().and_then(|project| *days.get(project)?);
            match Held::of(&key, days) {
                Ok(held) => {
                    table.keys.insert(key.id, held);
                }
                // Rights that are not understood are no rights.
                Err(error) => tracing::error!(key = %key.name, %error, "a key is not taken"),
            }
        }
        table
    }

    fn who(&self, text: &[u8], now: i64) -> Result<Arc<Who>, ServerError> {
        let text = std::str::from_utf8(text).ok();
        let Some((text, id)) = text.and_then(|text| Some((text, id_of(text)?))) else {
            let what = format!("the credential is no key of this server: expected {KEY_FORM}");
            return Err(unauthorized(&what));
        };
        let hash = Secret::hash_of(text);
        // Whether there is such an id is told by no time: the hash is compared with something.
        let held = self.keys.get(id);
        let expected = held.map_or([0; 32], |held| held.hash);
        let before = held.and_then(|held| held.before).unwrap_or(([0; 32], 0));
        let is_it = is_equal(&hash, &expected);
        let is_before = is_equal(&hash, &before.0) && now < before.1;
        match held {
            Some(held) if is_it || is_before => {
                held.check_time(now)?;
                Ok(Arc::clone(&held.who))
            }
            _ => Err(unauthorized("this key is not known here: never made, rotated or revoked")),
        }
    }
}

impl Held {
    /// A key whose project has contents kept for so many days.
    fn of(key: &Key, days: Option<u32>) -> Result<Self, serde_json::Error> {
        let scopes: Scopes = serde_json::from_str(&key.scopes)?;
        let mut defaults: Defaults = serde_json::from_str(&key.defaults)?;
        defaults.keep = defaults.keep.or(days);
        let who = Who {
            key: Some(key.id.clone()),
            session: None,
            number: Some(number(&key.id)),
            project: key.project.clone(),
            person: key.person.clone(),
            is_admin: scopes.is_owner(),
            why_not: format!("the key {:?} has not the right", key.name),
            name: key.name.clone(),
            scopes,
            defaults,
        };
        let (hash, before, expires) = (key.hash, key.before, key.expires);
        Ok(Self { hash, before, expires, who: Arc::new(who) })
    }

    fn check_time(&self, now: i64) -> Result<(), ServerError> {
        match self.expires {
            Some(expires) if expires <= now => Err(unauthorized("this key has expired")),
            _ => Ok(()),
        }
    }
}

/// The numbers of the clients whose words are this person's, of revoked keys too.
pub(crate) fn numbers_of(roster: &Roster, person: &str) -> Vec<u64> {
    let whose = |key: &&Key| key.person.as_deref().unwrap_or(&key.name) == person;
    roster.keys.iter().filter(whose).map(|key| number(&key.id)).collect()
}

/// The number by which a key's requests are known, the same on every server and after every
/// restart.
fn number(id: &str) -> u64 {
    number_of("key", id)
}

/// The number of something of this kind.
pub(crate) fn number_of(kind: &str, id: &str) -> u64 {
    let hash = Sha256::new_with_prefix(format!("freehold.{kind}:")).chain_update(id).finalize();
    hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn has_form(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| id_of(text).is_some())
}

/// Compares in the same time wherever they differ.
pub(super) fn is_equal(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |differs, (one, other)| black_box(differs | (one ^ other))) == 0
}

fn unauthorized(what: &str) -> ServerError {
    ServerError::Unauthorized(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> (Key, Secret) {
        let id = Secret::draw_id().unwrap();
        let secret = Secret::draw(&id).unwrap();
        let key = Key {
            id,
            name: name.to_owned(),
            hash: secret.hash(),
            before: None,
            project: Some("shop".to_owned()),
            person: None,
            scopes: "{}".to_owned(),
            defaults: r#"{"lenient":true}"#.to_owned(),
            created: 1,
            expires: None,
            revoked: None,
        };
        (key, secret)
    }

    fn table(keys: &[&Key]) -> Table {
        let keys = keys.iter().map(|key| (*key).clone()).collect();
        Table::of(Roster { version: 1, has_had_keys: true, keys, projects: Vec::new() })
    }

    #[track_caller]
    fn check(table: &Table, text: &str, now: i64, expected: Result<&str, &str>) {
        match (table.who(text.as_bytes(), now), expected) {
            (Ok(who), Ok(name)) => assert_eq!(who.name, name),
            (Err(error), Err(why)) => {
                assert!(error.to_string().contains(why), "{error}");
                assert!(!error.to_string().contains(text), "{error}");
                assert_eq!(error.status().as_u16(), 401);
            }
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn a_key_is_known_by_all_of_its_text_and_for_its_time() {
        let (mut one, secret) = key("one");
        let (_, other) = key("other");
        let held = table(&[&one]);
        check(&held, secret.shown(), 1, Ok("one"));
        check(&held, other.shown(), 1, Err("not known here"));
        let forged = Secret::draw(&one.id).unwrap();
        check(&held, forged.shown(), 1, Err("not known here"));
        for malformed in ["any-key", "Basic azpr", "fh_a", &secret.shown()[..40]] {
            check(&held, malformed, 1, Err("expected fh_ID_SECRET"));
        }
        let who = held.who(secret.shown().as_bytes(), 1).unwrap();
        assert!(who.defaults.lenient && !who.is_admin && who.project.as_deref() == Some("shop"));

        one.expires = Some(10);
        let held = table(&[&one]);
        check(&held, secret.shown(), 9, Ok("one"));
        check(&held, secret.shown(), 10, Err("expired"));
        // Only who has the secret is told that.
        check(&held, forged.shown(), 10, Err("not known here"));
    }

    #[test]
    fn the_secret_before_is_taken_for_its_time() {
        let (mut one, before) = key("one");
        let after = Secret::draw(&one.id).unwrap();
        (one.hash, one.before) = (after.hash(), Some((before.hash(), 10)));
        let held = table(&[&one]);
        check(&held, after.shown(), 99, Ok("one"));
        check(&held, before.shown(), 9, Ok("one"));
        check(&held, before.shown(), 10, Err("not known here"));
    }

    #[test]
    fn rights_that_are_not_understood_are_none() {
        let (mut one, secret) = key("one");
        one.scopes = r#"{"of_later":true}"#.to_owned();
        check(&table(&[&one]), secret.shown(), 1, Err("not known here"));
    }

    #[test]
    fn numbers_are_of_the_id_alone() {
        let (one, _) = key("one");
        let who = |table: &Table| Arc::clone(&table.keys[&one.id].who);
        let renamed = Key { name: "new".to_owned(), ..one.clone() };
        assert_eq!(who(&table(&[&one])).number, who(&table(&[&renamed])).number);
        assert_ne!(number("abcdefghi0"), number("abcdefghi1"));
    }

    #[test]
    fn a_project_says_how_long_contents_are_kept_where_its_key_does_not() {
        let ((of_it, _), (mut own, _), (mut other, _)) = (key("one"), key("two"), key("three"));
        own.defaults = r#"{"keep":3}"#.to_owned();
        other.project = None;
        let project = ledger::Project { name: "shop".to_owned(), created: 1, keep: Some(30) };
        let (keys, projects) = (vec![of_it.clone(), own.clone(), other.clone()], vec![project]);
        let table = Table::of(Roster { version: 1, has_had_keys: true, keys, projects });
        let days = [of_it, own, other].map(|key| table.keys[&key.id].who.defaults.keep);
        assert_eq!(days, [Some(30), Some(3), None]);
    }

    #[test]
    fn a_persons_numbers_are_those_of_all_keys_that_name_it() {
        let ((zoe, _), (other, _)) = (key("zoe"), key("other"));
        let person = Some("zoe".to_owned());
        let (mut revoked, _) = key("before");
        (revoked.person, revoked.revoked) = (person, Some(2));
        let (mut lent, _) = key("zoe");
        lent.person = Some("ann".to_owned());
        let expected = [number(&zoe.id), number(&revoked.id)];
        let keys = vec![zoe, other, revoked, lent];
        let roster = Roster { version: 1, has_had_keys: true, keys, projects: Vec::new() };
        assert_eq!(numbers_of(&roster, "zoe"), expected);
        assert!(numbers_of(&roster, "nobody").is_empty());
    }

    /// Who is let in, without a key or with one of this server's.
    fn let_in(access: &Access, peer: &str, key: Option<&str>) -> Result<String, u16> {
        let mut headers = HeaderMap::new();
        if let Some(key) = key {
            headers.insert("x-api-key", key.parse().unwrap());
        }
        let who = access.who(peer.parse().ok().map(Peer), &headers, &Method::GET);
        who.map(|who| who.name.clone()).map_err(|error| error.status().as_u16())
    }

    #[test]
    fn who_is_let_in_without_a_key_is_the_owners_to_say() {
        use LocalAccess::{Auto, Key, Open};
        let (here, elsewhere) = ("127.0.0.1", "10.0.0.1");
        let (key, secret) = key("one");
        let check = |local, is_open_to_others, has_keys: bool, expected: [Result<&str, u16>; 4]| {
            let access = Access::new(None, local, is_open_to_others, Sessions::default());
            if has_keys {
                access.table.set(table(&[&key]));
            }
            let found = [
                let_in(&access, here, None),
                let_in(&access, here, Some("any-key")),
                let_in(&access, elsewhere, None),
                let_in(&access, elsewhere, Some(secret.shown())),
            ];
            let expected = expected.map(|one| one.map(str::to_owned));
            assert_eq!(found, expected, "{local:?} {is_open_to_others} {has_keys}");
        };
        let (owner, anyone, one, no) = (Ok("owner"), Ok("anyone"), Ok("one"), Err(401));
        check(Auto, false, false, [owner, owner, no, no]);
        check(Auto, true, false, [owner, owner, anyone, anyone]);
        check(Auto, true, true, [no, no, no, one]);
        check(Open, false, true, [owner, owner, no, one]);
        check(Key, true, false, [no, no, no, no]);
        check(Key, true, true, [no, no, no, one]);
    }

    #[test]
    fn what_is_done_later_is_for_whom_asked_and_nobody_else() {
        use LocalAccess::{Auto, Open};
        let (mut one, _) = key("one");
        let of_key = Asker::Key(one.id.clone());
        let check = |access: &Access, asker: &Asker, expected: Result<&str, u16>| {
            let found = access.who_of(asker).map(|who| who.name.clone());
            let found = found.map_err(|error| error.status().as_u16());
            assert_eq!(found, expected.map(str::to_owned), "{asker:?} {:?}", access.local);
        };
        for local in [Auto, Open, LocalAccess::Key] {
            let access = Access::new(None, local, false, Sessions::default());
            let no = Err(401);
            let before = |name| if local == LocalAccess::Key { no } else { Ok(name) };
            check(&access, &of_key, no);
            check(&access, &Asker::Owner, before("owner"));
            check(&access, &Asker::Anyone, before("anyone"));
            access.table.set(table(&[&one]));
            check(&access, &of_key, Ok("one"));
            check(&access, &Asker::Owner, if local == Open { Ok("owner") } else { no });
            check(&access, &Asker::Anyone, no);
            // The last key that goes makes nobody the owner.
            access.table.set(table(&[]));
            check(&access, &of_key, no);
        }
        one.expires = Some(1);
        let access = Access::new(None, Auto, false, Sessions::default());
        access.table.set(table(&[&one]));
        assert!(access.who_of(&of_key).unwrap_err().to_string().contains("expired"));
    }

    #[test]
    fn what_a_proxy_hands_on_is_no_less_than_another_machine() {
        let check = |is_open_to_others, header: &'static str, expected: Result<&str, u16>| {
            let access =
                Access::new(None, LocalAccess::Auto, is_open_to_others, Sessions::default());
            let headers =
                HeaderMap::from_iter([(header.parse().unwrap(), "http://x".parse().unwrap())]);
            let who = access.who("127.0.0.1".parse().ok().map(Peer), &headers, &Method::GET);
            let found = who.map(|who| who.name.clone()).map_err(|error| error.status().as_u16());
            assert_eq!(found, expected.map(str::to_owned), "{is_open_to_others} {header}");
        };
        check(false, "x-forwarded-for", Err(401));
        check(false, "via", Err(401));
        check(true, "x-forwarded-for", Ok("anyone"));
        check(false, "origin", Ok("anyone"));
        check(false, "accept", Ok("owner"));
    }
}
