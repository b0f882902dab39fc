//! What a new key is to be, checked before it is made.

use super::{Defaults, Scopes};
use crate::dialects::fields::short;
use crate::routes;
use ledger::{Key, LedgerError, Secret, check_plain};

/// Longest time that contents may be kept: a hundred years.
pub const KEEP_DAYS_MAX: u32 = 36_500;
/// Models or routes that a key's scopes name, at most, and the characters of one.
const N_NAMES_MAX: usize = 256;
const N_NAME_CHARS: usize = 200;

/// What a new key is to be.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Its name; no other key has it that is not revoked.
    pub name: String,
    /// The project that it belongs to.
    pub project: Option<String>,
    /// Whose words its requests are.
    pub person: Option<String>,
    /// What it may do.
    pub scopes: Scopes,
    /// What its requests get that do not say.
    pub defaults: Defaults,
    /// When it ends by itself, in microseconds since 1970 (UTC).
    pub expires: Option<i64>,
}

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The part that is: `name`, `models` and so on.
    pub field: &'static str,
    /// Value and expectation.
    pub message: String,
}

impl Plan {
    /// Finds what is wrong with it at this time, in microseconds since 1970 (UTC).
    ///
    /// # Errors
    /// The first thing that is.
    pub fn check(&self, now: i64) -> Result<(), Problem> {
        let problem = |field, message: String| Err(Problem { field, message });
        plain("name", &self.name)?;
        self.project.iter().try_for_each(|project| plain("project", project))?;
        self.person.iter().try_for_each(|person| plain("person", person))?;
        let is_any = |_: &str| true;
        names("models", self.scopes.models.as_deref(), is_any, "the name of a model or an alias")?;
        let is_route = |pattern: &str| {
            routes::all().any(|route| route.paths.iter().any(|path| super::fits(pattern, path)))
        };
        names("routes", self.scopes.routes.as_deref(), is_route, "the path of a route")?;
        let Scopes { routes, admin, role, labels: least, .. } = &self.scopes;
        if let Some(role) = role
            && (routes.is_some() || *admin)
        {
            let message = format!(
                "{}: a role says which routes the key may use, expected it alone",
                role.name()
            );
            return problem("role", message);
        }
        let (label, least) = (self.defaults.label, *least);
        if label < least {
            return problem("label", format!("{label}: the key may claim {least} at most"));
        }
        if let Some(days) = self.defaults.keep
            && !(1..=KEEP_DAYS_MAX).contains(&days)
        {
            return problem("keep", format!("{days}: expected 1 to {KEEP_DAYS_MAX} days"));
        }
        match self.expires {
            Some(expires) if expires <= now => {
                problem("expires", "it is over already, expected a time to come".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// The key that this becomes, and its secret.
    ///
    /// # Errors
    /// [`LedgerError::NoRandom`].
    pub fn draw(&self, now: i64) -> Result<(Key, Secret), LedgerError> {
        let id = Secret::draw_id()?;
        let secret = Secret::draw(&id)?;
        let json = "names, numbers and words are JSON";
        let key = Key {
            id,
            name: self.name.clone(),
            hash: secret.hash(),
            before: None,
            project: self.project.clone(),
            person: self.person.clone(),
            scopes: serde_json::to_string(&self.scopes).expect(json),
            defaults: serde_json::to_string(&self.defaults).expect(json),
            created: now,
            expires: self.expires,
            revoked: None,
        };
        Ok((key, secret))
    }
}

/// A name that the ledger takes.
fn plain(field: &'static str, name: &str) -> Result<(), Problem> {
    match check_plain(field, name) {
        Err(LedgerError::InvalidEntry { value, expected, .. }) => {
            Err(Problem { field, message: format!("{value:?}: expected {expected}") })
        }
        Err(other) => Err(Problem { field, message: other.to_string() }),
        Ok(()) => Ok(()),
    }
}

/// Names with `*` at their end at most, all of which are good.
fn names(
    field: &'static str,
    names: Option<&[String]>,
    is_good: impl Fn(&str) -> bool,
    expected: &str,
) -> Result<(), Problem> {
    let names = names.unwrap_or_default();
    if names.len() > N_NAMES_MAX {
        let message = format!("{} names: expected at most {N_NAMES_MAX}", names.len());
        return Err(Problem { field, message });
    }
    let is_bad = |name: &&String| {
        let begin = name.strip_suffix('*').unwrap_or(name);
        let is_long = name.chars().nth(N_NAME_CHARS).is_some();
        name.is_empty() || is_long || begin.contains(['*', '\0']) || !is_good(name)
    };
    match names.iter().find(is_bad) {
        None => Ok(()),
        Some(name) => {
            let message =
                format!("{:?}: expected {expected}, or how some begin and \"*\"", short(name));
            Err(Problem { field, message })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Caching, Role};
    use policy::Label;

    #[track_caller]
    fn check(change: impl FnOnce(&mut Plan), expected: Result<(), (&str, &str)>) {
        let mut plan = Plan { name: "ci".to_owned(), ..Plan::default() };
        change(&mut plan);
        match (plan.check(1000), expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err((field, message))) => {
                assert_eq!(found.field, field);
                assert!(found.message.starts_with(message), "{found:?}");
            }
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn what_is_wrong_with_a_plan_is_told() {
        let list = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
        check(|_| {}, Ok(()));
        check(|plan| plan.name = "a b".to_owned(), Err(("name", "\"a b\": expected 1 to 64")));
        check(|plan| plan.project = Some(String::new()), Err(("project", "\"\": expected")));
        check(|plan| plan.person = Some("a/b".to_owned()), Err(("person", "\"a/b\"")));
        check(|plan| plan.scopes.models = list(&["a/b", "c*"]), Ok(()));
        check(|plan| plan.scopes.models = list(&["a*b"]), Err(("models", "\"a*b\": expected")));
        check(|plan| plan.scopes.models = list(&[""]), Err(("models", "\"\"")));
        check(|plan| plan.scopes.models = list(&["x"; 257]), Err(("models", "257 names")));
        check(|plan| plan.scopes.routes = list(&["/v1/*", "/metrics", "/api/chat"]), Ok(()));
        check(|plan| plan.scopes.routes = list(&["/v2/*"]), Err(("routes", "\"/v2/*\"")));
        check(|plan| plan.scopes.routes = list(&["v1"]), Err(("routes", "\"v1\"")));
        check(|plan| plan.scopes.role = Some(Role::Auditor), Ok(()));
        let both = |plan: &mut Plan| {
            (plan.scopes.role, plan.scopes.admin) = (Some(Role::User), true);
        };
        check(both, Err(("role", "user: a role says which routes")));
        check(|plan| plan.defaults.label = Label::Public, Err(("label", "public: the key may")));
        check(|plan| plan.scopes.labels = Label::Public, Ok(()));
        check(|plan| plan.defaults.keep = Some(0), Err(("keep", "0: expected 1 to")));
        check(|plan| plan.defaults.cache = Caching::Shared, Ok(()));
        check(|plan| plan.expires = Some(1001), Ok(()));
        check(|plan| plan.expires = Some(1000), Err(("expires", "it is over already")));
    }

    #[test]
    fn a_plan_becomes_a_key_that_the_ledger_takes() {
        let plan = Plan { name: "ci".to_owned(), expires: Some(9), ..Plan::default() };
        let (key, secret) = plan.draw(5).unwrap();
        assert_eq!((key.created, key.expires, key.hash), (5, Some(9), secret.hash()));
        assert_eq!(serde_json::from_str::<Scopes>(&key.scopes).unwrap(), plan.scopes);
        assert_eq!(serde_json::from_str::<Defaults>(&key.defaults).unwrap(), plan.defaults);
    }
}
