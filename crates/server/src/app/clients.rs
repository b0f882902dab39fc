//! Who sends a request: how clients are told apart, and with whom one shares the prefix cache.

use super::own::check_own;
use crate::batches::Batches;
use crate::cases::Cases;
use crate::receipts::Receipts;
use axum::http::{HeaderMap, header};
use engine::{CacheScope, PrefixStore};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Where a connection came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// The key in `Authorization` or `x-api-key`. Clients that must have one are told to say "none":
/// that and nothing at all are no keys.
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).map(|value| {
        let value = value.as_bytes().trim_ascii();
        // The scheme's name has no case. The same key is the same client in either header.
        match value.split_at_checked(b"Bearer".len()) {
            Some((scheme, key))
                if scheme.eq_ignore_ascii_case(b"Bearer")
                    && key.first().is_none_or(u8::is_ascii_whitespace) =>
            {
                key.trim_ascii()
            }
            _ => value,
        }
    });
    let api_key = headers.get("x-api-key").map(|value| value.as_bytes().trim_ascii());
    let is_key = |key: &&[u8]| !key.is_empty() && !key.eq_ignore_ascii_case(b"none");
    [bearer, api_key].into_iter().flatten().find(is_key)
}

/// Makes the numbers by which clients are told apart, so that nobody can search for another's.
pub(super) enum Numbers {
    /// By a key that is random and gone with the process.
    Process(RandomState),
    /// By the secret of the folder where clients have files, so that these are theirs after a
    /// restart.
    Folder(Batches),
    /// By the node's key, so that receipts are theirs after a restart.
    Node(Receipts),
}

impl Numbers {
    pub(super) fn new(batches: Option<&Batches>, receipts: Option<&Receipts>) -> Self {
        match (batches, receipts) {
            (Some(batches), _) => Self::Folder(batches.clone()),
            (None, Some(receipts)) => Self::Node(receipts.clone()),
            (None, None) => Self::Process(RandomState::new()),
        }
    }

    /// The number of whoever sent this: of the key where there is one, else of the address. Keys
    /// are not checked, they only tell clients apart.
    pub(super) fn of(&self, headers: &HeaderMap, peer: Option<Peer>) -> u64 {
        let name = match key(headers) {
            Some(key) => [b"key:", key].concat(),
            None => {
                let address = peer.map(|Peer(address)| address.to_canonical().to_string());
                format!("peer:{}", address.unwrap_or_default()).into_bytes()
            }
        };
        match self {
            Self::Process(hasher) => hasher.hash_one(name),
            Self::Folder(batches) => batches.number(&name),
            Self::Node(receipts) => receipts.number(&name),
        }
    }
}

/// Whether it came from this machine.
pub(super) fn is_loopback(peer: Option<Peer>) -> bool {
    peer.is_some_and(|Peer(address)| address.to_canonical().is_loopback())
}

/// Whether who sent this has consented to it being kept as a case: by its key, or without one as a
/// program on this machine.
pub(super) fn is_recorded(cases: Option<&Cases>, headers: &HeaderMap, peer: Option<Peer>) -> bool {
    let is_own = || check_own(peer, headers, "requests are kept").is_ok();
    cases.is_some_and(|cases| cases.may_keep(key(headers), is_own()))
}

/// With whom the request of `principal` shares the prefix cache. This machine stays this machine
/// after a restart, and there a key tells one user from another. From elsewhere nothing does: keys
/// are not checked, and an address may be somebody else's by then.
pub(super) fn cache_scope(
    store: Option<&PrefixStore>,
    headers: &HeaderMap,
    peer: Option<Peer>,
    principal: u64,
) -> CacheScope {
    match store.filter(|_| is_loopback(peer)) {
        Some(store) => store.scope(&[b"loopback:", key(headers).unwrap_or_default()].concat()),
        None => CacheScope::Key(principal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn clients_are_told_apart_by_key_then_by_address() {
        let numbers = Numbers::new(None, None);
        let api_key = header::HeaderName::from_static("x-api-key");
        let numbered = |keys: &[(&header::HeaderName, &'static str)], address: &str| {
            let key = |(name, key): &(&header::HeaderName, &'static str)| {
                ((*name).clone(), HeaderValue::from_static(key))
            };
            let headers = HeaderMap::from_iter(keys.iter().map(key));
            numbers.of(&headers, Some(Peer(address.parse().unwrap())))
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
                cache_scope(Some(&store), &headers, Some(Peer(address.parse().unwrap())), principal)
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
        assert_eq!(cache_scope(None, &HeaderMap::new(), None, 7), CacheScope::Key(7));
    }

    #[test]
    fn with_a_folder_for_their_files_clients_are_the_same_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let number = |key: &'static str, path: &str| {
            let batches = Batches::open(&folder.path().join(path), 0, |_| {}).unwrap();
            let headers =
                HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_static(key))]);
            Numbers::new(Some(&batches), None).of(&headers, None)
        };
        assert_eq!(number("Bearer a", "one"), number("Bearer a", "one"));
        assert_ne!(number("Bearer a", "one"), number("Bearer b", "one"));
        assert_ne!(number("Bearer a", "one"), number("Bearer a", "other"));
    }
}
