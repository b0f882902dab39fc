//! Who sends a request: how clients are told apart, and with whom one shares the prefix cache.

use super::{App, Arrival};
use crate::access::{Asker, Caching, Who, any_credential as key};
use crate::batches::Batches;
use crate::cases::Cases;
use crate::errors::ServerError;
use crate::receipts::Receipts;
use crate::routes::{self, Needs};
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, Method};
use engine::{CacheScope, PrefixStore};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

/// Where a connection came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl App {
    /// A request as it came, and whether whoever sent it may use its route.
    pub(super) fn arrival(
        &self,
        request: &Request,
        peer: Option<Peer>,
    ) -> (Arrival, Result<(), ServerError>) {
        let headers = request.headers();
        let route = request.extensions().get::<MatchedPath>();
        let route = route.and_then(|path| routes::at(path.as_str()));
        let (who, admitted) = match self.access.who(peer, headers, request.method()) {
            Ok(who) => {
                let admitted = who.check_route(route, request.method());
                (who, admitted)
            }
            Err(error) => {
                let who = Arc::new(Who::anyone("it comes without a key".to_owned()));
                // Of routes for everybody nobody is asked who they are.
                let is_open = route.is_some_and(|route| route.needs == Needs::Nothing);
                (who, if is_open { Ok(()) } else { Err(error) })
            }
        };
        let principal = who.number.unwrap_or_else(|| self.numbers.of(&who, headers, peer));
        let cache = cache_scope(self.prefix_store.as_ref(), &who, headers, peer, principal);
        let mut arrival = Arrival::new(request, who, principal, cache);
        arrival.is_recorded = is_recorded(self.cases.as_ref(), headers, &arrival.who);
        (arrival, admitted)
    }

    /// One line of a batch of this client's, which is a request like any other, only that it can
    /// wait, and whether who asked for it may still use the route. It shares the prefix cache with
    /// what its client sends.
    pub(crate) fn line(
        &self,
        id: String,
        route: &'static str,
        (by, client): (&Asker, u64),
    ) -> (Arrival, Result<(), ServerError>) {
        let (who, admitted) = match self.access.who_of(by) {
            Ok(who) => {
                let admitted = who.check_route(routes::at(route), &Method::POST);
                (who, admitted)
            }
            Err(error) => {
                (Arc::new(Who::anyone("who asked for it is gone".to_owned())), Err(error))
            }
        };
        let cache = match who.is_known() {
            true => of_key(self.prefix_store.as_ref(), &who, client),
            false => CacheScope::Key(client),
        };
        (Arrival::of_line(id, route, who, cache, client), admitted)
    }
}

/// Makes the numbers by which clients are told apart, so that nobody can search for another's.
pub(super) enum Numbers {
    /// By a key that is random and gone with the process.
    Process(RandomState),
    /// By the node's key, so that receipts and files are theirs after a restart, whatever else is
    /// switched on by then.
    Node(Receipts),
    /// Where there are no receipts, by the secret of the folder where clients have files.
    Folder(Batches),
}

impl Numbers {
    pub(super) fn new(batches: Option<&Batches>, receipts: Option<&Receipts>) -> Self {
        match (batches, receipts) {
            (_, Some(receipts)) => Self::Node(receipts.clone()),
            (Some(batches), None) => Self::Folder(batches.clone()),
            (None, None) => Self::Process(RandomState::new()),
        }
    }

    /// The number of whoever sent this without one of this server's keys: of whatever stands in a
    /// key's place, which is not checked and only tells clients apart, else of the address. What
    /// anybody may say makes nobody the owner, nor does the address of a proxy on this machine.
    pub(super) fn of(&self, who: &Who, headers: &HeaderMap, peer: Option<Peer>) -> u64 {
        let name = match key(headers) {
            Some(key) => [b"key:", key].concat(),
            None => {
                let address = peer.map(|Peer(address)| address.to_canonical().to_string());
                format!("peer:{}", address.unwrap_or_default()).into_bytes()
            }
        };
        let name = [who.name.as_bytes(), b":", &name].concat();
        match self {
            Self::Process(hasher) => hasher.hash_one(name),
            Self::Folder(batches) => batches.number(&name),
            Self::Node(receipts) => receipts.number(&name),
        }
    }
}

/// Whether it came from this machine.
pub(crate) fn is_loopback(peer: Option<Peer>) -> bool {
    peer.is_some_and(|Peer(address)| address.to_canonical().is_loopback())
}

/// Whether who sent this has consented to it being kept as a case: by what the owner said of the
/// key, by a key that the settings list, or without one as a program on this machine.
fn is_recorded(cases: Option<&Cases>, headers: &HeaderMap, who: &Who) -> bool {
    let is_owner = who.is_admin && !who.is_known();
    let may_keep = |cases: &Cases| cases.may_keep(key(headers), is_owner);
    cases.is_some_and(|cases| who.defaults.record || may_keep(cases))
}

/// With whom a request shares the prefix cache. A key is the same after a restart, as is the owner
/// on this machine, where whatever stands in a key's place tells one user from another. From
/// elsewhere nothing does: an address may be somebody else's by then.
fn cache_scope(
    store: Option<&PrefixStore>,
    who: &Who,
    headers: &HeaderMap,
    peer: Option<Peer>,
    principal: u64,
) -> CacheScope {
    if who.is_known() {
        return of_key(store, who, principal);
    }
    match store.filter(|_| who.is_admin && is_loopback(peer)) {
        Some(store) => store.scope(&[b"loopback:", key(headers).unwrap_or_default()].concat()),
        None => CacheScope::Key(principal),
    }
}

/// With whom the requests of a key share it, as the owner said.
fn of_key(store: Option<&PrefixStore>, who: &Who, number: u64) -> CacheScope {
    match (who.defaults.cache, store) {
        (Caching::Shared, _) => CacheScope::Shared,
        (Caching::Off, _) => CacheScope::Off,
        (Caching::Key, Some(store)) => store.scope(format!("key:{number:016x}").as_bytes()),
        (Caching::Key, None) => CacheScope::Key(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderValue, header};

    #[test]
    fn clients_are_told_apart_by_key_then_by_address() {
        let numbers = Numbers::new(None, None);
        let api_key = header::HeaderName::from_static("x-api-key");
        let numbered = |keys: &[(&header::HeaderName, &'static str)], address: &str| {
            let key = |(name, key): &(&header::HeaderName, &'static str)| {
                ((*name).clone(), HeaderValue::from_static(key))
            };
            let headers = HeaderMap::from_iter(keys.iter().map(key));
            let peer = Some(Peer(address.parse().unwrap()));
            let number = numbers.of(&Who::owner(), &headers, peer);
            let anyone = Who::anyone(String::new());
            assert_ne!(numbers.of(&anyone, &headers, peer), number, "{headers:?} {peer:?}");
            number
        };
        let number = |key: Option<&'static str>, address: &str| match key {
            Some(key) => numbered(&[(&header::AUTHORIZATION, key)], address),
            None => numbered(&[], address),
        };
        let by_api_key = numbered(&[(&api_key, "a")], "10.0.0.1");
        assert_eq!(by_api_key, number(Some("bearer a"), "10.0.0.2"));
        assert_ne!(by_api_key, number(None, "10.0.0.1"));
        let both = [(&header::AUTHORIZATION, "Bearer a"), (&api_key, "b")];
        assert_eq!(by_api_key, numbered(&both, "10.0.0.1"));
        assert_eq!(number(Some("Bearer a"), "10.0.0.1"), number(Some("Bearer a"), "10.0.0.2"));
        assert_ne!(number(Some("Bearer a"), "10.0.0.1"), number(Some("Bearer b"), "10.0.0.1"));
        assert_ne!(number(None, "10.0.0.1"), number(None, "10.0.0.2"));
        assert_eq!(number(None, "10.0.0.1"), number(None, "::ffff:10.0.0.1"));
        for empty in ["", " ", "Bearer", "bearer ", "Bearer  "] {
            assert_eq!(number(Some(empty), "10.0.0.1"), number(None, "10.0.0.1"), "{empty:?}");
            let both = [(&header::AUTHORIZATION, empty), (&api_key, "a")];
            assert_eq!(numbered(&both, "10.0.0.1"), by_api_key, "{empty:?}");
        }
        assert_eq!(numbered(&[(&api_key, "")], "10.0.0.1"), number(None, "10.0.0.1"));
        // A key that begins like the scheme.
        assert_ne!(number(Some("Bearers"), "10.0.0.1"), number(Some("s"), "10.0.0.1"));
        assert_eq!(number(Some("Bearer none"), "10.0.0.1"), number(None, "10.0.0.1"));
    }

    #[test]
    fn only_this_machine_means_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let api_key = header::HeaderName::from_static("x-api-key");
        // Each time as after a restart: with a store opened anew, and another number.
        let scope =
            |name: &header::HeaderName, key: &'static str, address: &str, principal: u64| {
                let store = PrefixStore::open(&folder.path().join("cache"), 0, |_| {}).unwrap();
                let headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static(key))]);
                let peer = Some(Peer(address.parse().unwrap()));
                cache_scope(Some(&store), &Who::owner(), &headers, peer, principal)
            };
        let bearer = header::AUTHORIZATION;
        let own = scope(&bearer, "Bearer a", "127.0.0.1", 1);
        assert!(matches!(own, CacheScope::Lasting(_)));
        assert_eq!(scope(&api_key, "a", "::1", 2), own);
        assert_ne!(scope(&bearer, "Bearer b", "127.0.0.1", 1), own);
        // The key that the server's own advice says is no key, nor is an empty one.
        let local = scope(&header::ACCEPT, "*/*", "127.0.0.1", 1);
        assert!(matches!(local, CacheScope::Lasting(_)) && local != own);
        for none in ["Bearer none", "bearer NONE", "Bearer ", "Bearer", ""] {
            assert_eq!(scope(&bearer, none, "::ffff:127.0.0.1", 2), local, "{none:?}");
        }
        // Anybody elsewhere can say the same key.
        assert_eq!(scope(&bearer, "Bearer a", "10.0.0.1", 7), CacheScope::Key(7));
        assert_eq!(scope(&header::ACCEPT, "*/*", "10.0.0.1", 7), CacheScope::Key(7));
        let none = HeaderMap::new();
        // What a proxy on this machine hands on may be anybody's.
        let store = PrefixStore::open(&folder.path().join("cache"), 0, |_| {}).unwrap();
        let (anyone, here) = (Who::anyone(String::new()), "127.0.0.1".parse().ok().map(Peer));
        let found = cache_scope(Some(&store), &anyone, &none, here, 7);
        assert_eq!(found, CacheScope::Key(7));
        assert_eq!(cache_scope(None, &Who::owner(), &none, None, 7), CacheScope::Key(7));
    }

    #[test]
    fn with_a_folder_for_their_files_clients_are_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let number = |key: &'static str, path: &str| {
            let batches = Batches::open(&folder.path().join(path), 0, |_| {}).unwrap();
            let headers =
                HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(key))]);
            Numbers::new(Some(&batches), None).of(&Who::owner(), &headers, None)
        };
        assert_eq!(number("Bearer a", "one"), number("Bearer a", "one"));
        assert_ne!(number("Bearer a", "one"), number("Bearer b", "one"));
        assert_ne!(number("Bearer a", "one"), number("Bearer a", "other"));
    }
}
