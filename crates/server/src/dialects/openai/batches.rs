//! Batches on the wire: `/v1/batches`.

use super::pages::{Page, check_query};
use super::responses::{METADATA, take_metadata};
use crate::batches::input::Problem;
use crate::batches::record::{Ask, Batch, Endpoint, Status};
use crate::dialects::Paths;
use crate::dialects::declared::{Field, Unknown};
use crate::dialects::fields::{Fields, missing, wrong};
use crate::errors::BadRequest;
use serde_json::{Value, json};

/// What becomes of the fields of a request for a batch.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("input_file_id").text().note("a file whose purpose is `batch`"),
    Field::honoured("endpoint").words(Endpoint::PATHS).note("of all its lines"),
    Field::honoured("completion_window").words(&[WINDOW]),
    Field::honoured("metadata").shape(METADATA).good(r#"{"a":"b"}"#),
    Field::refused("output_expires_after", "files stay until they are deleted"),
];

/// Parameters of the query of the list.
pub(crate) const LIST_QUERY: &[Field] = &[
    Field::honoured("after").text().note("the id of a batch"),
    Field::honoured("limit").integer(1, PAGE_MAX as i64),
];

/// The only time that OpenAI's clients can give a batch.
const WINDOW: &str = "24h";
/// Batches on one page where nobody says, and most of them (OpenAI's).
const PAGE: usize = 20;
const PAGE_MAX: usize = 100;

/// Reads a request for a batch, and the paths of what has no effect.
pub(crate) fn parse(body: &[u8], unknown: Unknown) -> Result<(Ask, Paths), BadRequest> {
    let mut fields = Fields::parse(body)?;
    fields.treat(FIELDS)?;
    let input = fields.text("input_file_id")?;
    let path = fields.text("endpoint")?;
    let window = fields.text("completion_window")?;
    let metadata = take_metadata(&mut fields)?;
    let ignored = fields.finish(unknown)?;
    let input = input.ok_or_else(|| missing("input_file_id", "the id of a file"))?;
    let quoted: Vec<String> = Endpoint::PATHS.iter().map(|path| format!("{path:?}")).collect();
    let expected = format!("one of {}", quoted.join(", "));
    let path = path.ok_or_else(|| missing("endpoint", &expected))?;
    let endpoint = Endpoint::of(&path);
    let endpoint = endpoint.ok_or_else(|| wrong("endpoint", &path.into(), &expected))?;
    match window.as_deref() {
        Some(WINDOW) => Ok((Ask { metadata, ..Ask::new(endpoint, input) }, ignored)),
        None => Err(missing("completion_window", "\"24h\"")),
        Some(other) => Err(wrong("completion_window", &other.into(), "\"24h\"")),
    }
}

/// A status on the wire.
pub(crate) fn word(status: Status) -> &'static str {
    match status {
        Status::Validating => "validating",
        Status::InProgress => "in_progress",
        Status::Finalizing => "finalizing",
        Status::Cancelling => "cancelling",
        Status::Completed => "completed",
        Status::Expired => "expired",
        Status::Cancelled => "cancelled",
        Status::Failed => "failed",
    }
}

fn told(batch: &Batch) -> Value {
    let problem = |problem: &Problem| {
        let Problem { code, message, param, line } = problem;
        json!({"code": code, "message": message, "param": param, "line": line})
    };
    let errors = match &batch.problems[..] {
        [] => Value::Null,
        problems => {
            let data: Vec<Value> = problems.iter().map(problem).collect();
            json!({"object": "list", "data": data})
        }
    };
    let times = &batch.times;
    json!({
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint.path(),
        "errors": errors,
        "input_file_id": batch.input,
        "completion_window": WINDOW,
        "status": word(batch.status),
        "output_file_id": batch.has_output.then_some(&batch.output),
        "error_file_id": batch.has_errors.then_some(&batch.errors),
        "created_at": times.created,
        "in_progress_at": times.in_progress,
        "expires_at": times.expires,
        "finalizing_at": times.finalizing,
        "completed_at": times.completed,
        "failed_at": times.failed,
        "expired_at": times.expired,
        "cancelling_at": times.cancelling,
        "cancelled_at": times.cancelled,
        "request_counts": batch.counts,
        "metadata": batch.metadata,
    })
}

/// A batch's body.
pub(crate) fn body(batch: &Batch) -> String {
    told(batch).to_string()
}

/// The page of a client's batches, the newest first, that `query` asks for.
pub(crate) fn list_body(batches: &[Batch], query: &str) -> Result<String, BadRequest> {
    check_query(query, LIST_QUERY)?;
    Page::read(query, PAGE, PAGE_MAX)?.body(batches, |batch| &batch.id, told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_asked_for_in_full() {
        let check = |change: Value, expected: Result<(), &str>| {
            let mut body = json!({
                "input_file_id": "file-a",
                "endpoint": "/v1/embeddings",
                "completion_window": "24h",
            });
            body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let found = parse(body.to_string().as_bytes(), Unknown::Refused);
            let found = found.map(|(ask, _)| assert_eq!(ask.endpoint, Endpoint::Embeddings));
            assert_eq!(found.map_err(|bad| bad.param.unwrap()), expected.map_err(str::to_owned));
        };
        check(json!({}), Ok(()));
        check(json!({"metadata": {"a": "b"}}), Ok(()));
        for name in ["input_file_id", "endpoint", "completion_window"] {
            check(json!({name: null}), Err(name));
            check(json!({name: 1}), Err(name));
        }
        check(json!({"endpoint": "/v1/messages"}), Err("endpoint"));
        check(json!({"completion_window": "1h"}), Err("completion_window"));
        check(json!({"metadata": {"a": 1}}), Err("metadata.a"));
        check(json!({"output_expires_after": {"seconds": 9}}), Err("output_expires_after"));
    }
}
