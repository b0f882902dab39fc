//! Files on the wire: `/v1/files`.

use super::pages::{Page, check_query};
use crate::batches::record::{Purpose, StoredFile};
use crate::dialects::Paths;
use crate::dialects::declared::{Field, Unknown};
use crate::dialects::fields::{Fields, missing, wrong};
use crate::errors::BadRequest;
use serde_json::{Map, Value, json};

/// What becomes of the parts of a form that sends a file.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("file")
        .shape(r#"{"type":"string","format":"binary"}"#)
        .note("a file, with its name"),
    Field::honoured("purpose").words(&["batch"]),
    Field::refused("expires_after", "files stay until they are deleted"),
];

/// Parameters of the query of the list.
pub(crate) const LIST_QUERY: &[Field] = &[
    Field::honoured("after").text().note("the id of a file"),
    Field::honoured("limit").integer(1, PAGE_MAX as i64),
    Field::honoured("order").words(&["asc", "desc"]).note("without it: `desc`"),
    Field::honoured("purpose").words(Purpose::WORDS),
];

/// Files on one page, where nobody says too (OpenAI's).
const PAGE_MAX: usize = 10_000;
/// Longest name of a file that is kept, in characters.
const N_NAME_CHARS: usize = 255;

/// Reads a form whose file is under its own name: the file's name, and what has no effect.
pub(crate) fn read_form(
    form: Map<String, Value>,
    unknown: Unknown,
) -> Result<(String, Paths), BadRequest> {
    let mut fields = Fields::of_form(form);
    fields.treat(FIELDS)?;
    let purpose = fields.text("purpose")?;
    let name = fields.text("file")?;
    let ignored = fields.finish(unknown)?;
    match purpose.as_deref() {
        Some("batch") => {}
        None => return Err(missing("purpose", "\"batch\"")),
        Some(other) => return Err(wrong("purpose", &other.into(), "\"batch\"")),
    }
    let name = name.ok_or_else(|| missing("file", "a file, with its name"))?;
    Ok((name.chars().take(N_NAME_CHARS).collect(), ignored))
}

fn told(file: &StoredFile) -> Value {
    json!({
        "id": file.id,
        "object": "file",
        "bytes": file.n_bytes,
        "created_at": file.created_at,
        "expires_at": null,
        "filename": file.name,
        "purpose": file.purpose.word(),
        "status": "processed",
        "status_details": null,
    })
}

/// A file's body.
pub(crate) fn body(file: &StoredFile) -> String {
    told(file).to_string()
}

/// The page of a client's files, the oldest first, that `query` asks for.
pub(crate) fn list_body(mut files: Vec<StoredFile>, query: &str) -> Result<String, BadRequest> {
    check_query(query, LIST_QUERY)?;
    let page = Page::read(query, PAGE_MAX, PAGE_MAX)?;
    let purpose = query.split('&').find_map(|pair| pair.strip_prefix("purpose="));
    if let Some(purpose) = purpose {
        if !Purpose::WORDS.contains(&purpose) {
            return Err(wrong("purpose", &purpose.into(), "\"batch\" or \"batch_output\""));
        }
        files.retain(|file| file.purpose.word() == purpose);
    }
    if !page.is_ascending {
        files.reverse();
    }
    page.body(&files, |file| &file.id, told)
}

/// The body that says that a file was deleted.
pub(crate) fn deleted_body(id: &str) -> String {
    json!({"id": id, "object": "file", "deleted": true}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_a_file_and_says_what_for() {
        let check = |form: Value, expected: Result<&str, &str>| {
            let Value::Object(map) = form else { panic!("{form}") };
            let found = read_form(map, Unknown::Refused).map(|(name, _)| name);
            let found = found.map_err(|bad| bad.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
        };
        check(json!({"file": "a.jsonl", "purpose": "batch"}), Ok("a.jsonl"));
        let absent = "purpose: absent: expected \"batch\"";
        check(json!({"file": "a.jsonl"}), Err(absent));
        check(json!({"purpose": "batch"}), Err("file: absent: expected a file, with its name"));
        let other = "purpose: \"vision\": expected \"batch\"";
        check(json!({"file": "a.jsonl", "purpose": "vision"}), Err(other));
        let expiry = json!({"file": "a", "purpose": "batch", "expires_after": {"seconds": "9"}});
        check(expiry, Err("expires_after: an object: files stay until they are deleted"));
        let long = "é".repeat(N_NAME_CHARS + 1);
        let cut = "é".repeat(N_NAME_CHARS);
        check(json!({"file": long, "purpose": "batch"}), Ok(&cut));
    }
}
