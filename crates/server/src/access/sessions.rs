//! Sessions of people who have signed in, in memory: a restart ends them all. Of a session's
//! cookie only the hash is kept, as of a key.

use super::table::is_equal;
use super::{Defaults, Role, Scopes, Who};
use crate::gate::is_own_page;
use axum::http::{HeaderMap, Method, header};
use ledger::{LedgerError, Secret, id_of};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most sessions at once: more than people who administer a server.
const SESSIONS_MAX: usize = 10_000;
/// Whether a browser's page of this very origin asks (Fetch Metadata).
const FETCH_SITE: &str = "sec-fetch-site";

/// Those that are open.
#[derive(Default)]
pub(crate) struct Sessions {
    /// What their cookie is called; `None`: nobody signs in here.
    cookie: Option<&'static str>,
    open: Mutex<HashMap<String, Session>>,
}

/// Somebody who has signed in.
#[derive(Clone)]
pub(crate) struct Session {
    hash: [u8; 32],
    pub(crate) who: Arc<Who>,
    pub(crate) role: Role,
    /// In microseconds since 1970.
    pub(crate) begun: i64,
    pub(crate) expires: i64,
}

/// Who is to have one.
pub(crate) struct Person {
    /// By which it stands in lists and records.
    pub(crate) name: String,
    /// The number that stands for it, the same after a restart.
    pub(crate) number: u64,
    pub(crate) role: Role,
}

impl Sessions {
    pub(crate) fn new(cookie: Option<&'static str>) -> Self {
        Self { cookie, open: Mutex::default() }
    }

    fn open_ones(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens one; its id, and the value of its cookie, which is known this once. `None`: there are
    /// as many as there may be.
    ///
    /// # Errors
    /// [`LedgerError::NoRandom`].
    pub(crate) fn open(
        &self,
        person: Person,
        now: i64,
        expires: i64,
    ) -> Result<Option<(String, Secret)>, LedgerError> {
        let id = Secret::draw_id()?;
        let secret = Secret::draw(&id)?;
        let Person { name, number, role } = person;
        let scopes = Scopes { role: Some(role), ..Scopes::default() };
        let who = Who {
            key: None,
            session: Some(id.clone()),
            number: Some(number),
            person: None,
            project: None,
            is_admin: scopes.is_owner(),
            why_not: format!("{name:?} has not the role"),
            name,
            scopes,
            defaults: Defaults::default(),
        };
        let who = Arc::new(who);
        let session = Session { hash: secret.hash(), who, role, begun: now, expires };
        let mut open = self.open_ones();
        open.retain(|_, session| session.expires > now);
        if open.len() >= SESSIONS_MAX {
            return Ok(None);
        }
        open.insert(id.clone(), session);
        Ok(Some((id, secret)))
    }

    /// Whose the cookie of a request is, where that stands for the request: another page's may
    /// come with it too, and of a change the browser says which page asks for it.
    pub(crate) fn of(&self, headers: &HeaderMap, method: &Method, now: i64) -> Option<Arc<Who>> {
        let text = cookie(headers, self.cookie?)?;
        let is_reading = matches!(*method, Method::GET | Method::HEAD);
        let is_ours = match headers.contains_key(header::ORIGIN) {
            true => is_own_page(headers),
            false => is_reading,
        };
        let site = headers.get(FETCH_SITE).map(|site| site.as_bytes());
        if !is_ours || !matches!(site, None | Some(b"same-origin" | b"none")) {
            return None;
        }
        let id = id_of(text)?;
        let hash = Secret::hash_of(text);
        let open = self.open_ones();
        // Whether there is such an id is told by no time.
        let held = open.get(id);
        let is_it = is_equal(&hash, &held.map_or([0; 32], |held| held.hash));
        held.filter(|held| is_it && held.expires > now).map(|held| Arc::clone(&held.who))
    }

    /// The open one of this id.
    pub(crate) fn get(&self, id: &str, now: i64) -> Option<Session> {
        self.open_ones().get(id).filter(|session| session.expires > now).cloned()
    }

    /// All open ones with their ids, in the order of their beginning.
    pub(crate) fn all(&self, now: i64) -> Vec<(String, Session)> {
        let open = self.open_ones();
        let live = open.iter().filter(|(_, session)| session.expires > now);
        let mut all: Vec<_> = live.map(|(id, session)| (id.clone(), session.clone())).collect();
        drop(open);
        all.sort_by_key(|(_, session)| session.begun);
        all
    }

    /// Ends one; whether it was open.
    pub(crate) fn close(&self, id: &str) -> bool {
        self.open_ones().remove(id).is_some()
    }
}

/// The value of a cookie; `None` where there is none, or more than one.
pub(crate) fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| {
        let (of, value) = pair.split_once('=')?;
        (of.trim() == name).then(|| value.trim())
    });
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn headers(all: &[(&'static str, String)]) -> HeaderMap {
        let one = |(name, value): &(&'static str, String)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in all.iter().map(one) {
            headers.append(name, value);
        }
        headers
    }

    fn person() -> Person {
        Person { name: "oidc.zoe".to_owned(), number: 7, role: Role::Operator }
    }

    #[test]
    fn a_session_is_known_by_its_cookie_on_its_own_page_and_for_its_time() {
        let sessions = Sessions::new(Some("freehold"));
        let (id, secret) = sessions.open(person(), 1, 10).unwrap().unwrap();
        let of = format!("a=b; freehold={}; c=d", secret.shown());
        let check = |more: &[(&'static str, &str)], method: Method, now, is_known: bool| {
            let more = more.iter().map(|(name, value)| (*name, (*value).to_owned()));
            let host = ("host", "localhost:1".to_owned());
            let all: Vec<_> = [("cookie", of.clone()), host].into_iter().chain(more).collect();
            let who = sessions.of(&headers(&all), &method, now);
            assert_eq!(who.is_some(), is_known, "{all:?} {method} {now}");
        };
        let (own, other) = (("origin", "http://localhost:1"), ("origin", "http://localhost:2"));
        check(&[], Method::GET, 9, true);
        check(&[], Method::GET, 10, false);
        check(&[own], Method::POST, 9, true);
        check(&[own, ("sec-fetch-site", "same-origin")], Method::DELETE, 9, true);
        // No page, another page, and another one of this very machine.
        check(&[], Method::POST, 9, false);
        check(&[other], Method::POST, 9, false);
        check(&[other], Method::GET, 9, false);
        check(&[("origin", "null")], Method::POST, 9, false);
        check(&[("sec-fetch-site", "same-site")], Method::GET, 9, false);
        check(&[("sec-fetch-site", "cross-site")], Method::GET, 9, false);
        // Two of that name: somebody else has set one.
        check(&[("cookie", "freehold=x")], Method::GET, 9, false);
        assert!(sessions.close(&id) && !sessions.close(&id));
        check(&[], Method::GET, 9, false);
    }

    #[test]
    fn another_secret_is_no_session_and_there_are_so_many_at_most() {
        let sessions = Sessions::new(Some("freehold"));
        let (id, _) = sessions.open(person(), 1, 10).unwrap().unwrap();
        let forged = Secret::draw(&id).unwrap();
        for value in [forged.shown(), "", "fh_a", "x"] {
            let with = headers(&[("cookie", format!("freehold={value}"))]);
            assert!(sessions.of(&with, &Method::GET, 2).is_none(), "{value}");
        }
        for _ in 1..SESSIONS_MAX {
            assert!(sessions.open(person(), 1, 10).unwrap().is_some());
        }
        assert!(sessions.open(person(), 9, 20).unwrap().is_none());
        // Those that are over make room.
        assert!(sessions.open(person(), 10, 20).unwrap().is_some());
        assert_eq!(sessions.all(10).len(), 1);
        assert!(Sessions::new(None).of(&headers(&[]), &Method::GET, 2).is_none());
    }
}
