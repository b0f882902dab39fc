//! The route of a request.

use crate::condition::patterns::Patterns;
use crate::condition::{Condition, Kind, Seen, Verdict};

/// `route = "name"`, `"beginning*"` or a list of them.
pub(super) const ROUTE: Kind =
    Kind { name: "route", read: |value| Ok(Box::new(Route(Patterns::read(value)?))) };

#[derive(Debug)]
struct Route(Patterns);

impl Condition for Route {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        self.0.verdict(seen.facts.route.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_route_is_held_against_paths() {
        check("route = \"/v1/*\"", "route=/v1/messages", None);
        check("route = \"/v1/*\"", "route=/api/chat", Some("\"/api/chat\", expected \"/v1/*\""));
        check("route = \"/v1/*\"", "", Some("?"));
    }
}
