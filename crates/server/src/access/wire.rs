//! Keys and projects on the wire: `/admin/keys`, `/admin/projects`.

use super::{Caching, Defaults, KEEP_DAYS_MAX, Plan, Problem, Role, Scopes};
use crate::dialects::Paths;
use crate::dialects::declared::{Field, Unknown};
use crate::dialects::fields::{Fields, missing, short, wrong};
use crate::errors::BadRequest;
use ledger::{Key, Project, Which};
use policy::Label;
use serde_json::{Value, json};

/// Longest time for which the secret before is taken, and that a key has from its making: of
/// numbers beyond it nobody means what they say.
const OVERLAP_MAX_S: i64 = 30 * 24 * 3600;
const LIFE_MAX_S: i64 = 100 * 366 * 24 * 3600;
const US: i64 = 1_000_000;

const LIST: &str = r#"{"type":"array","items":{"type":"string"}}"#;
const ROLES: &[&str] = &["owner", "operator", "auditor", "user"];
const LABELS: &[&str] = &["public", "internal", "private"];

/// Parameters of the query of the list.
pub(crate) const KEYS_QUERY: &[Field] =
    &[Field::honoured("all").words(&["true", "false"]).note("with those that were revoked")];

/// What a new key is to be.
pub(crate) const KEY_FIELDS: &[Field] = &[
    Field::honoured("name").text().note("no other key has it that is not revoked"),
    Field::honoured("project").text().note("one that was made before"),
    Field::honoured("person").text().note("whose words its requests are"),
    Field::honoured("models")
        .shape(LIST)
        .good(r#"["support","smol*"]"#)
        .note("models and aliases that it may ask for; absent: all"),
    Field::honoured("routes")
        .shape(LIST)
        .good(r#"["/v1/*"]"#)
        .note("paths of routes that it may use; absent: all but what only the owner may"),
    Field::honoured("admin").flag().note("it may do what only the owner may"),
    Field::honoured("role").words(ROLES).note("in the place of `routes` and `admin`"),
    Field::honoured("labels").words(LABELS).note("the least sensitive that it may claim"),
    Field::honoured("label").words(LABELS).note("that of its requests; absent: `private`"),
    Field::honoured("lenient").flag().note("as if each request had `x-freehold-lenient: true`"),
    Field::honoured("cache")
        .words(&["shared", "key", "off"])
        .note("with whom it shares the prefix cache; absent: `key`"),
    Field::honoured("keep")
        .integer(1, KEEP_DAYS_MAX as i64)
        .note("days for which contents are kept; absent: they are not"),
    Field::honoured("record").flag().note("its requests may become cases for the gate"),
    Field::honoured("expires_in").integer(1, LIFE_MAX_S).note("seconds; absent: it stays"),
];

/// How a key gets another secret.
pub(crate) const ROTATE_FIELDS: &[Field] = &[Field::honoured("overlap")
    .integer(0, OVERLAP_MAX_S)
    .note("seconds for which the secret before is taken too; absent: 0")];

/// What a new project is to be.
pub(crate) const PROJECT_FIELDS: &[Field] = &[
    Field::honoured("name").text(),
    Field::honoured("keep")
        .integer(1, KEEP_DAYS_MAX as i64)
        .note("days for which contents are kept where a key of it does not say"),
];

/// Reads what a new key is to be, at this time in microseconds since 1970.
pub(crate) fn read_key(
    body: &[u8],
    unknown: Unknown,
    now: i64,
) -> Result<(Plan, Paths), BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.treat(KEY_FIELDS)?;
    let name = fields.text("name")?.ok_or_else(|| missing("name", "a name"))?;
    let (project, person) = (fields.text("project")?, fields.text("person")?);
    let models = texts(&mut fields, "models")?;
    let routes = texts(&mut fields, "routes")?;
    let admin = fields.flag("admin")?.unwrap_or_default();
    let role = word(&mut fields, "role", Role::NAMES)?;
    let labels = word(&mut fields, "labels", Label::NAMES)?;
    let label = word(&mut fields, "label", Label::NAMES)?.unwrap_or_default();
    let lenient = fields.flag("lenient")?.unwrap_or_default();
    let cache = word(&mut fields, "cache", Caching::NAMES)?.unwrap_or_default();
    let keep = fields.integer("keep", 1..=i64::from(KEEP_DAYS_MAX))?;
    let record = fields.flag("record")?.unwrap_or_default();
    let expires_in = fields.integer("expires_in", 1..=LIFE_MAX_S)?;
    let ignored = fields.finish(unknown)?;
    let plan = Plan {
        name,
        project,
        person,
        scopes: Scopes { models, routes, admin, role, labels: labels.unwrap_or(label) },
        defaults: Defaults {
            lenient,
            cache,
            keep: keep.and_then(|days| u32::try_from(days).ok()),
            label,
            record,
        },
        expires: expires_in.map(|seconds| now.saturating_add(seconds * US)),
    };
    match plan.check(now) {
        Ok(()) => Ok((plan, ignored)),
        Err(Problem { field, message }) => Err(BadRequest::field(field, &message)),
    }
}

/// Reads until when the secret before is taken too.
pub(crate) fn read_rotation(
    body: &[u8],
    unknown: Unknown,
    now: i64,
) -> Result<(i64, Paths), BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.treat(ROTATE_FIELDS)?;
    let overlap = fields.integer("overlap", 0..=OVERLAP_MAX_S)?.unwrap_or_default();
    Ok((now.saturating_add(overlap * US), fields.finish(unknown)?))
}

/// Reads the name of a new project.
pub(crate) fn read_project(
    body: &[u8],
    unknown: Unknown,
) -> Result<((String, Option<u32>), Paths), BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.treat(PROJECT_FIELDS)?;
    let name = fields.text("name")?.ok_or_else(|| missing("name", "a name"))?;
    let keep = fields.integer("keep", 1..=i64::from(KEEP_DAYS_MAX))?;
    let keep = keep.and_then(|days| u32::try_from(days).ok());
    Ok(((name, keep), fields.finish(unknown)?))
}

/// Reads which keys a list is to have.
pub(crate) fn read_list(query: &str) -> Result<Which, BadRequest> {
    let mut which = Which::Live;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        which = match pair.split_once('=').unwrap_or((pair, "")) {
            ("all", "true") => Which::All,
            ("all", "false") => Which::Live,
            ("all", other) => return Err(wrong("all", &other.into(), "\"true\" or \"false\"")),
            (name, _) => {
                let problem = "this server does not know this parameter; leave it out";
                let bad = BadRequest::field(&short(name), problem);
                return Err(BadRequest { code: Some("unknown_parameter"), ..bad });
            }
        };
    }
    Ok(which)
}

fn texts(fields: &mut Fields, name: &str) -> Result<Option<Vec<String>>, BadRequest> {
    let Some(list) = fields.list(name)? else { return Ok(None) };
    let text = |(text_idx, value): (usize, Value)| match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(&format!("{name}[{text_idx}]"), &other, "a string")),
    };
    list.into_iter().enumerate().map(text).collect::<Result<_, _>>().map(Some)
}

fn word<T: Copy>(
    fields: &mut Fields,
    name: &str,
    words: &[(&str, T)],
) -> Result<Option<T>, BadRequest> {
    let Some(text) = fields.text(name)? else { return Ok(None) };
    let found = words.iter().find(|(word, _)| *word == text);
    let expected = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
    let unknown = || wrong(name, &text.as_str().into(), &format!("one of {}", expected()));
    found.map(|(_, value)| Some(*value)).ok_or_else(unknown)
}

/// A key without its secret.
pub fn key_to_json(key: &Key) -> Value {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let seconds = |us: i64| us.div_euclid(US);
    json!({
        "id": key.id,
        "name": key.name,
        "project": key.project,
        "person": key.person,
        "scopes": read(&key.scopes),
        "defaults": read(&key.defaults),
        "created_at": seconds(key.created),
        "expires_at": key.expires.map(seconds),
        "revoked_at": key.revoked.map(seconds),
    })
}

/// A project.
pub fn project_to_json(project: &Project) -> Value {
    let created_at = project.created.div_euclid(US);
    json!({"name": project.name, "created_at": created_at, "keep": project.keep})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, expected: Result<(), &str>) {
        let read = read_key(body.as_bytes(), Unknown::Refused, 0);
        let found = read.map(drop).map_err(|bad| bad.to_string());
        match expected {
            Ok(()) => assert_eq!(found, Ok(()), "{body}"),
            Err(start) => assert!(found.clone().unwrap_err().starts_with(start), "{found:?}"),
        }
    }

    #[test]
    fn plans_are_read_field_by_field() {
        let whole = r#"{"name":"ci","person":"zoe","models":["a","b*"],"routes":["/v1/*"],
            "admin":true,"labels":"public","label":"internal","lenient":true,"cache":"off",
            "keep":7,"record":true,"expires_in":2}"#;
        let (plan, _) = read_key(whole.as_bytes(), Unknown::Refused, 5).unwrap();
        assert_eq!(plan.scopes.models.as_deref(), Some(&["a".to_owned(), "b*".to_owned()][..]));
        assert!(plan.scopes.admin && plan.defaults.lenient && plan.defaults.record);
        assert_eq!((plan.scopes.labels, plan.defaults.label), (Label::Public, Label::Internal));
        assert_eq!((plan.defaults.keep, plan.expires), (Some(7), Some(2_000_005)));
        // What a key's requests are it may claim.
        let (plan, _) = read_key(br#"{"name":"a","label":"public"}"#, Unknown::Refused, 0).unwrap();
        assert_eq!(plan.scopes.labels, Label::Public);
        check("{}", Err("name: absent"));
        check(r#"{"name":"a b"}"#, Err("name: \"a b\": expected 1 to 64"));
        check(r#"{"name":"a","models":["x",1]}"#, Err("models[1]: 1: expected a string"));
        check(r#"{"name":"a","label":"secret"}"#, Err("label: \"secret\": expected one of public"));
        check(
            r#"{"name":"a","label":"public","labels":"internal"}"#,
            Err("label: public: the key"),
        );
        let (plan, _) = read_key(br#"{"name":"a","role":"auditor"}"#, Unknown::Refused, 0).unwrap();
        assert_eq!(plan.scopes.role, Some(Role::Auditor));
        check(r#"{"name":"a","role":"king"}"#, Err("role: \"king\": expected one of owner"));
        check(r#"{"name":"a","role":"user","routes":["/v1/*"]}"#, Err("role: user: a role"));
        check(r#"{"name":"a","keep":0}"#, Err("keep: 0: expected"));
        check(r#"{"name":"a","secret":"x"}"#, Err("secret: this server does not know"));
    }

    #[test]
    fn rotations_and_lists_are_read() {
        let until = |body: &str| read_rotation(body.as_bytes(), Unknown::Refused, 5);
        assert_eq!(until("{}").unwrap().0, 5);
        assert_eq!(until(r#"{"overlap":1}"#).unwrap().0, 1_000_005);
        assert!(until(r#"{"overlap":-1}"#).is_err() && until("").is_err());
        assert_eq!(read_list(""), Ok(Which::Live));
        assert_eq!(read_list("all=true"), Ok(Which::All));
        assert_eq!(read_list("all=x").unwrap_err().param.as_deref(), Some("all"));
        assert_eq!(read_list("limit=1").unwrap_err().param.as_deref(), Some("limit"));
    }
}
