//! Roles: few, named, and each a set of routes. Whoever has one, a key or a person who has signed
//! in, has it in the place of routes and of the right of administration.

use crate::routes::{Needs, Route};
use serde::{Deserialize, Serialize};

/// What somebody is to this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// All that there is.
    Owner,
    /// Keeps it running: models, requests at work, the configuration; no keys, no limits.
    Operator,
    /// Reads what was done, and changes nothing; asks no model.
    Auditor,
    /// Asks models.
    User,
}

/// What a role may do.
struct Grant {
    /// Whether every route that needs a key and no other right.
    asks: bool,
    /// Other routes that it may read.
    reads: &'static [&'static str],
    /// Other routes that it may use by every method.
    uses: &'static [&'static str],
}

const OPERATOR: Grant = Grant {
    asks: true,
    reads: &[
        "/admin/status",
        "/admin/models",
        "/admin/config",
        "/admin/running",
        "/admin/departures",
        "/admin/limits",
        "/admin/usage",
        "/admin/usage/rows",
        "/admin/policy",
        "/admin/lock",
        "/admin/gate/reports",
        "/admin/adoptable",
        "/metrics",
    ],
    uses: &[
        "/admin/running/{id}",
        "/admin/adopt",
        "/admin/outdated",
        "/admin/reload",
        "/admin/ledger/verify",
        // Decides about a request that is made up.
        "/admin/policy/explain",
    ],
};

const AUDITOR: Grant = Grant {
    asks: false,
    reads: &[
        "/admin/status",
        "/admin/models",
        "/admin/config",
        "/admin/running",
        "/admin/departures",
        "/admin/keys",
        "/admin/projects",
        "/admin/limits",
        "/admin/usage",
        "/admin/usage/rows",
        "/admin/persons",
        "/admin/sessions",
        "/admin/policy",
        "/admin/lock",
        "/admin/gate/reports",
        "/metrics",
        "/v1/models",
        "/v1/models/{*id}",
        "/version",
        "/openapi.json",
    ],
    // The first reads the whole ledger, the second decides about a request that is made up; neither
    // writes.
    uses: &["/admin/ledger/verify", "/admin/policy/explain"],
};

const USER: Grant = Grant { asks: true, reads: &[], uses: &[] };

impl Role {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] = &[
        ("owner", Self::Owner),
        ("operator", Self::Operator),
        ("auditor", Self::Auditor),
        ("user", Self::User),
    ];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::User => "user",
        }
    }

    /// The role of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(of, _)| *of == name).map(|(_, role)| *role)
    }

    fn grant(self) -> Option<&'static Grant> {
        match self {
            Self::Owner => None,
            Self::Operator => Some(&OPERATOR),
            Self::Auditor => Some(&AUDITOR),
            Self::User => Some(&USER),
        }
    }

    /// Whether it may use a route, only reading or also changing something.
    pub(crate) fn may(self, route: &Route, is_reading: bool) -> bool {
        let Some(grant) = self.grant() else { return true };
        let has = |paths: &[&str]| route.paths.iter().any(|path| paths.contains(path));
        (grant.asks && route.needs == Needs::Key)
            || (is_reading && has(grant.reads))
            || has(grant.uses)
    }

    /// Whether it may change which models there are, where clients may.
    pub(crate) fn changes_models(self) -> bool {
        matches!(self, Self::Owner | Self::Operator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes;

    #[test]
    fn what_a_role_names_is_there() {
        for (name, role) in Role::NAMES {
            assert_eq!((role.name(), Role::of_name(name)), (*name, Some(*role)));
            let grant = role.grant();
            let paths = grant.into_iter().flat_map(|grant| grant.reads.iter().chain(grant.uses));
            for path in paths {
                assert!(routes::at(path).is_some(), "{name}: {path}");
            }
        }
        assert_eq!(Role::of_name("admin"), None);
    }

    /// Of all routes: who may use them.
    #[test]
    fn what_the_owner_alone_may_is_listed() {
        let may =
            |role: Role, route: &Route| role.may(route, ["get", "head"].contains(&route.method));
        let mut own = Vec::new();
        for route in routes::all().filter(|route| route.needs != Needs::Nothing) {
            let (method, path) = (route.method, route.paths[0]);
            assert!(may(Role::Owner, route));
            assert_eq!(may(Role::User, route), route.needs == Needs::Key, "{method} {path}");
            let is_change = !["get", "head"].contains(&method);
            let is_audited = is_change && may(Role::Auditor, route);
            let changes_nothing = ["/admin/ledger/verify", "/admin/policy/explain"].contains(&path);
            assert!(!is_audited || changes_nothing, "{method} {path}");
            if !may(Role::Operator, route) && !may(Role::Auditor, route) {
                own.push(format!("{method} {path}"));
            }
            // Keys are the owner's.
            let is_keys = path.starts_with("/admin/keys") || path.starts_with("/admin/projects");
            assert!(!is_keys || !may(Role::Operator, route), "{method} {path}");
        }
        let expected = [
            "post /admin/keys",
            "delete /admin/keys/{key}",
            "post /admin/keys/{key}/rotate",
            "post /admin/projects",
            "delete /admin/projects/{project}",
            "post /admin/limits",
            "delete /admin/limits/{*id}",
            "get /admin/persons/{person}",
            "delete /admin/persons/{person}",
            "post /admin/lock/{model}",
            "post /admin/lock/{model}/rollback",
            // The owner's prompts are in it.
            "get /admin/gate/reports/{id}",
            "delete /admin/sessions/{id}",
        ];
        assert_eq!(own, expected);
    }
}
