//! OpenAI's routes of files and batches.

use super::{Body, DELETED, READ, Route};
use crate::app;
use crate::dialects::declared::Unknown;
use crate::dialects::openai::{batches, files};
use crate::serve::CONTENT_TYPE;
use axum::routing::{delete, get, post};

/// A route about files and batches, which answers 403 where the owner lets nobody have some.
const KEEP: Route =
    Route { group: "OpenAI: files and batches", statuses: &[401, 403, 404, 500], ..READ };

/// All of them.
pub(super) const ROUTES: &[Route] = &[
    Route {
        method: "post",
        paths: &["/v1/files"],
        summary: "Keeps a file of requests, until it is deleted.",
        body: Some(Body {
            fields: &[files::FIELDS],
            required: &["file", "purpose"],
            unknown: Unknown::Refused,
            example: r#"{"file":"{}\n","purpose":"batch"}"#,
        }),
        media_type: "multipart/form-data",
        answer: Some(FILE),
        statuses: &[400, 401, 403, 408, 413, 415, 429, 500, 504],
        handler: || post(app::batches::send),
        ..KEEP
    },
    Route {
        paths: &["/v1/files"],
        summary: "Lists the client's files.",
        query: files::LIST_QUERY,
        answer: Some(FILES),
        statuses: &[400, 401, 403, 500],
        handler: || get(app::batches::list),
        ..KEEP
    },
    Route {
        paths: &["/v1/files/{id}"],
        summary: "Describes a file.",
        answer: Some(FILE),
        handler: || get(app::batches::file),
        ..KEEP
    },
    Route {
        method: "delete",
        paths: &["/v1/files/{id}"],
        summary: "Deletes it, unless a batch still reads it.",
        answer: Some(DELETED),
        statuses: &[401, 403, 404, 409, 500],
        handler: || delete(app::batches::delete),
        ..KEEP
    },
    Route {
        paths: &["/v1/files/{id}/content"],
        summary: "The bytes of a file.",
        stream: Some(CONTENT_TYPE),
        statuses: &[401, 403, 404, 429, 500],
        handler: || get(app::batches::content),
        ..KEEP
    },
    Route {
        method: "post",
        paths: &["/v1/batches"],
        summary: "Has the lines of a file answered, each as a request that lets others go first.",
        body: Some(Body {
            fields: &[batches::FIELDS],
            required: &["input_file_id", "endpoint", "completion_window"],
            unknown: Unknown::Refused,
            example: r#"{"input_file_id":"file-1","endpoint":"/v1/chat/completions","completion_window":"24h"}"#,
        }),
        answer: Some(BATCH),
        statuses: &[400, 401, 403, 408, 413, 415, 429, 500, 504],
        handler: || post(app::batches::create),
        ..KEEP
    },
    Route {
        paths: &["/v1/batches"],
        summary: "Lists the client's batches.",
        query: batches::LIST_QUERY,
        answer: Some(BATCH_LIST),
        statuses: &[400, 401, 403, 500],
        handler: || get(app::batches::list_batches),
        ..KEEP
    },
    Route {
        paths: &["/v1/batches/{id}"],
        summary: "Says how far a batch has come.",
        answer: Some(BATCH),
        handler: || get(app::batches::batch),
        ..KEEP
    },
    Route {
        method: "post",
        paths: &["/v1/batches/{id}/cancel"],
        summary: "Has it go no further; what was answered is kept.",
        answer: Some(BATCH),
        statuses: &[401, 403, 404, 409, 500],
        handler: || post(app::batches::cancel),
        ..KEEP
    },
];

const FILE: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"file"},"bytes":{"type":"integer"},"created_at":{"type":"integer"},"filename":{"type":"string"},"purpose":{"enum":["batch","batch_output"]},"status":{"const":"processed"}},"required":["id","object","bytes","created_at","filename","purpose","status"]}"#;
const FILES: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","required":["id","object","bytes","created_at","filename","purpose","status"]}},"has_more":{"type":"boolean"}},"required":["object","data","has_more"]}"#;
const BATCH: &str = r#"{"type":"object","properties":{"id":{"type":"string"},"object":{"const":"batch"},"endpoint":{"type":"string"},"input_file_id":{"type":"string"},"completion_window":{"const":"24h"},"status":{"enum":["validating","failed","in_progress","finalizing","completed","expired","cancelling","cancelled"]},"output_file_id":{"type":["string","null"]},"error_file_id":{"type":["string","null"]},"created_at":{"type":"integer"},"request_counts":{"type":"object","required":["total","completed","failed"]}},"required":["id","object","endpoint","input_file_id","completion_window","status","created_at","request_counts"]}"#;
const BATCH_LIST: &str = r#"{"type":"object","properties":{"object":{"const":"list"},"data":{"type":"array","items":{"type":"object","required":["id","object","status"]}},"has_more":{"type":"boolean"}},"required":["object","data","has_more"]}"#;
