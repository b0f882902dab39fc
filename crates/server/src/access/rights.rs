//! What a key may do, and what its requests get where they do not say: its scopes and defaults.
//!
//! The ledger keeps both as JSON and does not know what they mean. What says more than is known
//! here is of a later version and no rights at all: a limit that is overlooked would be none.

use super::Role;
use crate::models::plain_name;
use policy::Label;
use serde::{Deserialize, Serialize};

/// What a key may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scopes {
    /// The models and aliases that it may ask for; with `*` at an end, all that begin so. `None`:
    /// all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// The routes that it may use, by their paths as they are declared; with `*` at an end, all
    /// that begin so. `None`: all that need no other right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<String>>,
    /// Whether it may do what only the owner may.
    #[serde(skip_serializing_if = "is_false")]
    pub admin: bool,
    /// What it is to the server, in the place of routes and that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// The least sensitive label that its requests may have.
    #[serde(with = "label")]
    pub labels: Label,
}

/// What the requests of a key get where they do not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Whether fields that no route knows are told, not refused.
    #[serde(skip_serializing_if = "is_false")]
    pub lenient: bool,
    /// With whom they share the prefix cache.
    pub cache: Caching,
    /// For how many days contents are kept; `None`: they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// How sensitive they are.
    #[serde(with = "label")]
    pub label: Label,
    /// Whether the key's owner has consented to them becoming cases for the gate.
    #[serde(skip_serializing_if = "is_false")]
    pub record: bool,
}

/// With whom the requests of a key share the prefix cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Caching {
    /// With those of all keys that say so: how fast an answer begins tells them of each other's
    /// prompts.
    Shared,
    /// With those of the same key.
    #[default]
    Key,
    /// With none.
    Off,
}

impl Caching {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] =
        &[("shared", Self::Shared), ("key", Self::Key), ("off", Self::Off)];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Key => "key",
            Self::Off => "off",
        }
    }
}

impl Scopes {
    /// All that there is.
    pub(crate) fn all() -> Self {
        Self { admin: true, labels: Label::Public, ..Self::default() }
    }

    /// Whether they are of whoever may do what only the owner may.
    pub(crate) fn is_owner(&self) -> bool {
        self.admin || self.role == Some(Role::Owner)
    }

    /// Whether they name a model of this name, its own or an alias, with or without the tag for
    /// none.
    pub(crate) fn has_model(&self, name: &str) -> bool {
        let has = |pattern: &String| fits(pattern, name) || fits(pattern, plain_name(name));
        self.models.as_ref().is_none_or(|models| models.iter().any(has))
    }

    /// Whether they name a route that has these paths.
    pub(crate) fn names_route(&self, paths: &[&str]) -> bool {
        let has = |pattern: &String| paths.iter().any(|path| fits(pattern, path));
        self.routes.as_ref().is_some_and(|routes| routes.iter().any(has))
    }
}

/// Whether `name` is what `pattern` says: the same, or with `*` at its end, the same beginning.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Labels by their names.
mod label {
    use policy::Label;
    use serde::de::{Error, Unexpected};
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
    pub(super) fn serialize<S: Serializer>(label: &Label, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(label.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Label, D::Error> {
        let text = String::deserialize(from)?;
        let found = Label::NAMES.iter().find(|(name, _)| *name == text);
        let unknown = || Error::invalid_value(Unexpected::Str(&text), &"a label");
        found.map(|(_, label)| *label).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_what_their_text_says_and_nothing_else_is() {
        let scopes = Scopes {
            models: Some(vec!["a*".to_owned()]),
            routes: Some(vec!["/v1/*".to_owned()]),
            admin: true,
            role: Some(Role::Auditor),
            labels: Label::Internal,
        };
        let text = serde_json::to_string(&scopes).unwrap();
        let expected = r#"{"models":["a*"],"routes":["/v1/*"],"admin":true,"role":"auditor","labels":"internal"}"#;
        assert_eq!(text, expected);
        assert_eq!(serde_json::from_str::<Scopes>(&text).unwrap(), scopes);
        assert_eq!(serde_json::from_str::<Scopes>("{}").unwrap(), Scopes::default());
        for wrong in [r#"{"mdoels":[]}"#, r#"{"labels":"secret"}"#, r#"{"role":"king"}"#, "[1]", ""]
        {
            assert!(serde_json::from_str::<Scopes>(wrong).is_err(), "{wrong}");
        }
        let defaults = Defaults { cache: Caching::Off, keep: Some(7), ..Defaults::default() };
        let text = serde_json::to_string(&defaults).unwrap();
        assert_eq!(text, r#"{"cache":"off","keep":7,"label":"private"}"#);
        assert_eq!(serde_json::from_str::<Defaults>(&text).unwrap(), defaults);
        assert!(serde_json::from_str::<Defaults>(r#"{"cache":"all"}"#).is_err());
        assert!(serde_json::from_str::<Defaults>(r#"{"hours":1}"#).is_err());
    }

    #[test]
    fn names_are_whole_or_beginnings() {
        let scopes = |models: &[&str], routes: &[&str]| {
            let list = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
            Scopes { models: list(models), routes: list(routes), ..Scopes::default() }
        };
        let some = scopes(&["a", "b-*"], &["/v1/chat/completions", "/api/*"]);
        for (name, expected) in
            [("a", true), ("a:latest", true), ("ab", false), ("b-1", true), ("b", false)]
        {
            assert_eq!(some.has_model(name), expected, "{name}");
        }
        assert!(some.names_route(&["/x", "/api/chat"]) && !some.names_route(&["/v1/models"]));
        assert!(!scopes(&[], &[]).has_model("a") && !scopes(&[], &[]).names_route(&["/"]));
        assert!(Scopes::default().has_model("a") && !Scopes::default().names_route(&["/"]));
    }
}
