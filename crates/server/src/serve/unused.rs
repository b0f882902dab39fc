//! What of a conversation the model's template leaves out. A template that does not know a field
//! says nothing about it; whether it used one shows when the conversation is rendered without it.
//!
//! What was done or found out (calls and their results) may not be lost: that is refused. A name or
//! a former train of thought, which clients send back of themselves, may; the response says so.

use crate::dialects::Paths;
use crate::errors::{BadRequest, ServerError};
use axum::http::HeaderValue;
use serde_json::Value;

/// Longest list of fields in the header, in bytes; of more only the number is told.
const N_LIST_BYTES: usize = 512;

/// A field to look after.
struct Probe {
    field: &'static str,
    /// Only in messages of this role.
    role: Option<&'static str>,
    may_be_lost: bool,
}

const PROBES: &[Probe] = &[
    Probe { field: "tool_calls", role: None, may_be_lost: false },
    Probe { field: "content", role: Some("tool"), may_be_lost: false },
    Probe { field: "reasoning_content", role: None, may_be_lost: true },
    Probe { field: "name", role: None, may_be_lost: true },
];

/// Compares `prompt`, which `messages` were rendered to, with what they are without each field: one
/// more rendering for each kind of field that is there. `place` is the client's path of a message's
/// field.
///
/// # Errors
/// A field that may not be lost has no effect.
pub(super) fn find(
    messages: &Value,
    prompt: &[u32],
    render: impl Fn(&Value) -> Result<Vec<u32>, ServerError>,
    place: impl Fn(usize, &str) -> String,
) -> Result<Paths, ServerError> {
    let mut unused = Paths::default();
    for probe in PROBES {
        let mut without = messages.clone();
        let mut paths = Paths::default();
        for (message_idx, message) in without.as_array_mut().into_iter().flatten().enumerate() {
            if probe.remove_from(message) {
                paths.push(place(message_idx, probe.field));
            }
        }
        // A template that refuses the messages without the field has looked at it.
        if paths.n_all() == 0 || render(&without).map_or(true, |other| other != prompt) {
            continue;
        }
        if !probe.may_be_lost {
            let why = "this model's chat template does not use it, so the model would not see it";
            return Err(BadRequest::unsupported(&paths.kept()[0], why).into());
        }
        unused.append(paths);
    }
    Ok(unused)
}

impl Probe {
    /// Takes the field out of a message that says something in it.
    fn remove_from(&self, message: &mut Value) -> bool {
        if self.role.is_some_and(|role| message["role"] != role) {
            return false;
        }
        let Some(message) = message.as_object_mut() else { return false };
        match message.get_mut(self.field) {
            None => false,
            Some(Value::String(text)) if text.is_empty() => false,
            // Content stays a string, which templates rely on.
            Some(value) if self.field == "content" => {
                *value = "".into();
                true
            }
            Some(_) => message.remove(self.field).is_some(),
        }
    }
}

/// Paths of fields as one header, cut where they are many; `None` where there are none. What of
/// the client's names cannot stand in a header is escaped. The first is named in any case, by its
/// beginning where it is long.
pub(super) fn list(paths: &Paths) -> Option<HeaderValue> {
    let mut list = String::new();
    let mut n_told = 0;
    for path in paths.kept() {
        let mut path = path.escape_default().to_string();
        if n_told == 0 && path.len() > N_LIST_BYTES {
            path.truncate(N_LIST_BYTES);
            path.push_str("...");
        } else if list.len() + path.len() > N_LIST_BYTES {
            break;
        }
        if n_told > 0 {
            list.push_str(", ");
        }
        list.push_str(&path);
        n_told += 1;
    }
    if n_told < paths.n_all() {
        list.push_str(&format!(", and {} more", paths.n_all() - n_told));
    }
    let header = || HeaderValue::from_str(&list).expect("escaped text is visible ASCII");
    (!list.is_empty()).then(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A template that uses exactly these fields.
    fn check(used: &[&str], messages: Value, expected: Result<&[&str], &str>) {
        let render = |messages: &Value| -> Result<Vec<u32>, ServerError> {
            let field = |message: &Value, field: &str| format!("{field}={};", message[field]);
            let text: String = messages
                .as_array()
                .into_iter()
                .flatten()
                .flat_map(|message| used.iter().map(move |name| field(message, name)))
                .collect();
            Ok(text.chars().map(u32::from).collect())
        };
        let place = |message_idx, field: &str| format!("messages[{message_idx}].{field}");
        let found = find(&messages, &render(&messages).unwrap(), render, place);
        let found = found.map_err(|error| match error {
            ServerError::BadRequest(bad) => bad.param.unwrap(),
            other => panic!("{other}"),
        });
        let expected = expected
            .map(|paths| paths.iter().map(|path| (*path).to_owned()).collect::<Paths>())
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{messages}");
    }

    #[test]
    fn what_is_lost_is_refused_or_told() {
        let messages = json!([
            {"role": "user", "name": "ann", "content": "a"},
            {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [1]},
            {"role": "tool", "tool_call_id": "1", "content": "r"},
        ]);
        let all = ["role", "content", "name", "reasoning_content", "tool_calls"];
        check(&all, messages.clone(), Ok(&[]));
        check(
            &["content", "tool_calls"],
            messages.clone(),
            Ok(&["messages[1].reasoning_content", "messages[0].name"]),
        );
        check(&["content"], messages.clone(), Err("messages[1].tool_calls"));
        check(&["tool_calls"], messages, Err("messages[2].content"));
    }

    #[test]
    fn the_header_is_bounded() {
        assert_eq!(list(&Paths::default()), None);
        let header = |n| list(&(0..n).map(|i| format!("messages[{i}].name")).collect()).unwrap();
        assert_eq!(header(2), "messages[0].name, messages[1].name");
        let many = header(10_000);
        assert!(many.len() < N_LIST_BYTES + 64, "{many:?}");
        let n_named = many.to_str().unwrap().matches("name").count();
        assert!(many.to_str().unwrap().ends_with(&format!(", and {} more", 10_000 - n_named)));
        let strange = ["a\n\u{e9}".to_owned(), "x".repeat(600)];
        let [short, long] = strange.clone();
        assert_eq!(list(&strange.into_iter().collect()).unwrap(), "a\\n\\u{e9}, and 1 more");
        let shortened = list(&[long, short].into_iter().collect()).unwrap();
        assert_eq!(shortened, format!("{}..., and 1 more", "x".repeat(N_LIST_BYTES)));
    }
}
