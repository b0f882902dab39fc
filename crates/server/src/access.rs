//! Who asks, and what they may: a key, somebody who has signed in, the owner on this machine, or,
//! while there is no key, anybody. One check before the router; what a key may do is in `rights`,
//! what a role may in `roles`, which keys there are in `table`, what a new one is to be in `plan`,
//! who has signed in in `sessions`.

mod credential;
mod plan;
mod rights;
mod roles;
mod sessions;
mod table;
pub(crate) mod wire;

pub(crate) use credential::any as any_credential;
pub use plan::{KEEP_DAYS_MAX, Plan, Problem};
pub(crate) use rights::fits;
pub use rights::{Caching, Defaults, Scopes};
pub use roles::Role;
pub(crate) use sessions::{Person, Session, Sessions, cookie};
pub(crate) use table::{Access, number_of, numbers_of};
pub use wire::{key_to_json, project_to_json};

use crate::app::{Peer, is_loopback};
use crate::errors::ServerError;
use crate::gate::is_own_page;
use crate::routes::{Needs, Route};
use axum::http::{HeaderMap, Method, header};
use serde::{Deserialize, Serialize};

/// Headers of requests that come through a proxy, from any machine.
const OF_OTHERS: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];
/// What more of such headers begins with.
const OF_PROXIES: &str = "x-forwarded-";

/// What programs on this machine may do without a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalAccess {
    /// All, until the first key is made.
    #[default]
    Auto,
    /// All, always.
    Open,
    /// Nothing.
    Key,
}

impl LocalAccess {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] =
        &[("auto", Self::Auto), ("open", Self::Open), ("key", Self::Key)];
}

/// Who has asked for what is done later, as it is written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Asker {
    /// The key of this id.
    Key(String),
    /// Who has signed in, in the session of this id.
    Session(String),
    Owner,
    /// Somebody else without a key.
    #[default]
    Anyone,
}

/// Who asks.
#[derive(Debug)]
pub(crate) struct Who {
    /// The id of the key, where there is one.
    pub(crate) key: Option<String>,
    /// The id of the session, where somebody has signed in.
    pub(crate) session: Option<String>,
    /// The number that stands for it.
    pub(crate) number: Option<u64>,
    /// The key's name; `owner` for a program on this machine, `anyone` for others without a key.
    pub(crate) name: String,
    /// The project that the key belongs to.
    pub(crate) project: Option<String>,
    /// Whose words its requests are.
    pub(crate) person: Option<String>,
    /// Whether it may do what only the owner may.
    pub(crate) is_admin: bool,
    /// Why not.
    why_not: String,
    pub(crate) scopes: Scopes,
    pub(crate) defaults: Defaults,
}

impl Who {
    /// The owner, on this machine or in this process.
    pub(crate) fn owner() -> Self {
        Self {
            key: None,
            session: None,
            number: None,
            name: "owner".to_owned(),
            project: None,
            person: None,
            is_admin: true,
            why_not: String::new(),
            scopes: Scopes::all(),
            defaults: Defaults::default(),
        }
    }

    /// Whoever else sends a request where no key is asked for, and why that is not the owner.
    pub(crate) fn anyone(why_not: String) -> Self {
        let routes = Some(vec!["*".to_owned()]);
        let scopes = Scopes { admin: false, routes, ..Scopes::all() };
        Self { name: "anyone".to_owned(), is_admin: false, why_not, scopes, ..Self::owner() }
    }

    /// Whose words its requests are: where the key names nobody, its own name stands for that.
    pub(crate) fn whose(&self) -> &str {
        self.person.as_deref().unwrap_or(&self.name)
    }

    /// As what they ask for later keeps them.
    pub(crate) fn asker(&self) -> Asker {
        match (&self.key, &self.session) {
            (Some(id), _) => Asker::Key(id.clone()),
            (None, Some(id)) => Asker::Session(id.clone()),
            (None, None) if self.is_admin => Asker::Owner,
            (None, None) => Asker::Anyone,
        }
    }

    /// Whether they have shown who they are, by a key or by signing in.
    pub(crate) fn is_known(&self) -> bool {
        self.key.is_some() || self.session.is_some()
    }

    /// As entries of the ledger name them.
    pub(crate) fn principal(&self) -> String {
        match (&self.key, &self.session) {
            (Some(id), _) => format!("key:{}:{id}", self.name),
            (None, Some(id)) => format!("person:{}:{id}", self.name),
            (None, None) => self.name.clone(),
        }
    }

    /// Refuses a route that is not for them, by this method; `None`: there is no such route.
    pub(crate) fn check_route(
        &self,
        route: Option<&Route>,
        method: &Method,
    ) -> Result<(), ServerError> {
        let Some(route) = route else { return Ok(()) };
        let (path, needs) = (route.paths[0], route.needs);
        let is_named = self.scopes.names_route(route.paths);
        let forbidden = |why: String| Err(ServerError::Forbidden(format!("{path}: {why}")));
        if let Some(role) = self.scopes.role {
            let is_reading = matches!(*method, Method::GET | Method::HEAD);
            return match needs == Needs::Nothing || role.may(route, is_reading) {
                true => Ok(()),
                false => forbidden(format!(
                    "{method} is not for the role {:?} of {:?}",
                    role.name(),
                    self.name
                )),
            };
        }
        match (&self.scopes.routes, needs) {
            (_, Needs::Nothing) => Ok(()),
            (Some(routes), _) if !is_named => {
                let routes = routes.join(", ");
                forbidden(format!("the key {:?} may use these routes: {routes}", self.name))
            }
            (_, Needs::Admin) => self.check_admin(path),
            (_, Needs::Named) if !is_named && !self.is_admin => forbidden(format!(
                "expected a key whose routes name it, or an administrator's; {:?} is neither",
                self.name
            )),
            _ => Ok(()),
        }
    }

    /// Refuses whoever may not change which models there are.
    pub(crate) fn check_changes(&self) -> Result<(), ServerError> {
        match self.scopes.role {
            Some(role) if role.changes_models() => Ok(()),
            _ => self.check_admin("models are changed"),
        }
    }

    /// Refuses what only the owner may do; `what` is that.
    fn check_admin(&self, what: &str) -> Result<(), ServerError> {
        let forbidden = || format!("{what}: for the owner only: {}", self.why_not);
        if self.is_admin { Ok(()) } else { Err(ServerError::Forbidden(forbidden())) }
    }
}

/// Who is behind a request without a key that is no program's on this machine.
#[derive(Debug, PartialEq, Eq)]
enum Other {
    /// Another machine that has reached this one itself.
    Machine,
    /// Whoever has this header set: a program that hands requests on, from anywhere.
    Forwarded(String),
    /// A web page in a browser on this machine that is not the server's own.
    Page,
}

impl Other {
    /// Who is behind it; `None`: a program on this machine.
    fn of(peer: Option<Peer>, headers: &HeaderMap) -> Option<Self> {
        if !is_loopback(peer) {
            return Some(Self::Machine);
        }
        let is_of_others = |name: &&str| OF_OTHERS.contains(name) || name.starts_with(OF_PROXIES);
        if let Some(name) = headers.keys().map(|name| name.as_str()).find(is_of_others) {
            return Some(Self::Forwarded(name.to_owned()));
        }
        // The server's own page, which nobody else has changed, is as good as a program here.
        let is_page = headers.contains_key(header::ORIGIN) && !is_own_page(headers);
        is_page.then_some(Self::Page)
    }

    /// Why it is not the owner's.
    fn why(&self) -> String {
        let header = match self {
            Self::Machine => return "it comes from another machine, without a key".to_owned(),
            Self::Forwarded(name) => name,
            Self::Page => "origin",
        };
        format!("{header} says that a web page or another machine is behind this request")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    #[test]
    fn programs_on_this_machine_are_told_from_what_is_behind_them() {
        let check = |peer: &str, header: Option<&'static str>, is_owner: bool| {
            let marked =
                header.map(|name| (HeaderName::from_static(name), HeaderValue::from_static("x")));
            let headers = HeaderMap::from_iter(marked);
            let other = Other::of(peer.parse().ok().map(Peer), &headers);
            assert_eq!(other.is_none(), is_owner, "{peer} {header:?}");
        };
        check("127.0.0.1", None, true);
        check("::ffff:127.0.0.1", None, true);
        check("127.0.0.1", Some("user-agent"), true);
        check("10.0.0.1", None, false);
        check("nowhere", None, false);
        let others = ["x-forwarded-host", "x-forwarded-proto", "origin"];
        for header in OF_OTHERS.into_iter().chain(others) {
            check("127.0.0.1", Some(header), false);
        }
    }

    #[test]
    fn only_the_servers_own_page_is_the_owners() {
        let check = |peer: &str, origin: &'static str, is_owner: bool| {
            let headers = [("host", "localhost:1"), ("origin", origin)];
            let header = |(name, value): (&'static str, &'static str)| {
                (HeaderName::from_static(name), value.parse().unwrap())
            };
            let headers = HeaderMap::from_iter(headers.map(header));
            let other = Other::of(peer.parse().ok().map(Peer), &headers);
            assert_eq!(other.is_none(), is_owner, "{peer} {origin}");
        };
        check("127.0.0.1", "http://localhost:1", true);
        check("10.0.0.1", "http://localhost:1", false);
        for origin in ["http://localhost:2", "http://localhost:1.evil.example", "null", ""] {
            check("127.0.0.1", origin, false);
        }
    }
}
