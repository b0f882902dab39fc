//! All routes, each with what it declares: the router is made of this list, so there is no route
//! without a declaration, and what is published of them is too.

mod admin;
mod anthropic;
mod batches;
mod llama;
mod models;
mod ollama;
mod openai;
pub(crate) mod openapi;
mod operate;
mod owner;
#[cfg(test)]
mod page;
mod signin;
mod upkeep;
mod vectors;

use crate::app::{self, App};
use crate::dialects::Family;
use crate::dialects::declared::{Field, Unknown};
use axum::routing::{MethodRouter, get};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

/// One route.
pub(crate) struct Route {
    /// In small letters.
    pub(crate) method: &'static str,
    /// Its path as the router has it, and other names of it.
    pub(crate) paths: &'static [&'static str],
    /// With which others it stands on the page.
    pub(crate) group: &'static str,
    /// What it does.
    pub(crate) summary: &'static str,
    /// In whose shape it refuses.
    pub(crate) family: Family,
    /// Who may use it.
    pub(crate) needs: Needs,
    /// Parameters of the query.
    pub(crate) query: &'static [Field],
    /// What it reads, if it reads a body, and as which media type.
    pub(crate) body: Option<Body>,
    pub(crate) media_type: &'static str,
    /// JSON schema of its answer; `None`: plain text, unless it is always streamed.
    pub(crate) answer: Option<&'static str>,
    /// Where it sends a browser instead of answering, in a few words: by 303, with no body.
    pub(crate) sends_to: Option<&'static str>,
    /// Media type of its answer where it is streamed.
    pub(crate) stream: Option<&'static str>,
    /// Statuses of its refusals.
    pub(crate) statuses: &'static [u16],
    /// What answers it.
    pub(crate) handler: fn() -> MethodRouter<Arc<App>>,
}

/// Who may use a route, besides what the scopes of a key say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Anybody, without a key.
    Nothing,
    /// Who has a key.
    Key,
    /// Who has a key whose scopes name the route, and the owner: it tells of all that there is.
    Named,
    /// The owner.
    Admin,
}

/// A body, which is one JSON object or a form.
pub(crate) struct Body {
    /// The fields that the route knows.
    pub(crate) fields: &'static [&'static [Field]],
    /// The names of those that must be there.
    pub(crate) required: &'static [&'static str],
    /// What becomes of others.
    pub(crate) unknown: Unknown,
    /// A body that is accepted, where a model has its name.
    pub(crate) example: &'static str,
}

impl Route {
    /// Whether its answers are generated, and have receipts: a stream of one that reads a body, but
    /// for changes of models, which some servers do not do.
    pub(crate) fn generates(&self) -> bool {
        self.body.is_some() && self.stream.is_some() && !self.statuses.contains(&501)
    }
}

impl Body {
    /// All fields that the route knows.
    pub(crate) fn all_fields(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().copied().flatten()
    }
}

/// The group of this server's own.
const OWN: &str = "This server";

const EVENTS: Option<&str> = Some("text/event-stream");

/// Whoever asks for something to be gone is told so.
const DELETED: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"type":"string"},"deleted":{"const":true}},"required":["id","object","deleted"]}"#;

/// A route that answers a GET request at once.
const READ: Route = Route {
    method: "get",
    paths: &[],
    group: OWN,
    summary: "",
    family: Family::OpenAi,
    needs: Needs::Key,
    query: &[],
    body: None,
    media_type: "application/json",
    answer: None,
    sends_to: None,
    stream: None,
    statuses: &[401, 403],
    handler: || get(app::operate::root),
};

/// A route that answers by computing.
const COMPUTE: Route = Route {
    method: "post",
    statuses: &[400, 401, 403, 404, 408, 413, 415, 429, 500, 503, 504],
    ..READ
};

/// The same, with streams of events, which can be resumed.
const GENERATE: Route = Route {
    stream: EVENTS,
    statuses: &[400, 401, 403, 404, 408, 410, 413, 415, 429, 500, 503, 504],
    ..COMPUTE
};

/// The routes, in the order of the page: those of each family, then this server's own.
const GROUPS: &[&[Route]] = &[
    openai::ROUTES,
    vectors::ROUTES,
    batches::ROUTES,
    anthropic::ROUTES,
    ollama::ROUTES,
    llama::ROUTES,
    models::ROUTES,
    operate::ROUTES,
    admin::ROUTES,
    owner::ROUTES,
    upkeep::ROUTES,
    signin::ROUTES,
];

/// All routes.
pub(crate) fn all() -> impl Iterator<Item = &'static Route> {
    GROUPS.iter().copied().flatten()
}

/// The route that the router has at a path; of several methods there the first.
pub(crate) fn at(path: &str) -> Option<&'static Route> {
    static BY_PATH: LazyLock<HashMap<&str, &Route>> = LazyLock::new(|| {
        let paths = all().flat_map(|route| route.paths.iter().map(move |path| (*path, route)));
        // Backwards, so that the first one stays.
        paths.collect::<Vec<_>>().into_iter().rev().collect()
    });
    BY_PATH.get(path).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_field_is_declared_twice_and_none_is_required_that_is_not_read() {
        for body in all().filter_map(|route| route.body.as_ref()) {
            let mut names = HashSet::new();
            for field in body.all_fields() {
                assert!(names.insert(field.name), "{}", field.name);
            }
            for name in body.required {
                let field = body.all_fields().find(|field| field.name == *name);
                assert!(field.is_some_and(Field::is_read), "{name}");
            }
        }
    }

    /// The check before the router knows the path only.
    #[test]
    fn what_a_route_needs_does_not_depend_on_its_method() {
        for route in all() {
            for path in route.paths {
                let found = at(path).map(|of| (of.needs, of.paths));
                assert_eq!(found, Some((route.needs, route.paths)), "{path}");
            }
        }
        let public: Vec<&str> = all()
            .filter(|route| route.needs == Needs::Nothing)
            .flat_map(|route| route.paths.iter().copied())
            .collect();
        let expected = "/ /health /ready /web/{*id} /login /login/callback /logout /session";
        assert_eq!(public.join(" "), expected);
        let is_admin = |path: &&str| path.starts_with("/admin/");
        let admin = all().filter(|route| route.paths.iter().any(is_admin));
        assert!(admin.into_iter().all(|route| route.needs == Needs::Admin));
    }
}
