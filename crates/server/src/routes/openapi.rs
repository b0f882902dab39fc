//! What is published of the routes: an OpenAPI 3.1 document (spec.openapis.org/oas/v3.1.0).
//!
//! Each field has, beside its schema, what becomes of it in `x-freehold`; the test that sends a
//! real request for each goes by nothing else than this document.

use super::{Body, EVENTS, Route, all};
use crate::VERSION;
use crate::dialects::Family;
use crate::dialects::declared::{Field, Kind, NO_END, POSITIVE, Treatment, Unknown, literal};
use crate::serve::{ADAPTED, IGNORED, RECEIPT, UNUSED, deadline, lenient, resume, route};
use axum::http::StatusCode;
use serde_json::{Map, Value, json};

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in all() {
        for (name_idx, path) in route.paths.iter().enumerate() {
            let item = paths.entry(plain(path)).or_insert_with(|| json!({}));
            item[route.method] = operation(route, path, name_idx);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Freehold",
            "version": VERSION,
            "description": "A parameter is honoured, or refused with an error that names it, or a \
                            header of the response says what became of it. `null` is the same as \
                            absent everywhere. `x-freehold` says of each field which it is.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {
                "OpenAiError": literal(OPENAI_ERROR),
                "AnthropicError": literal(ANTHROPIC_ERROR),
                "OllamaError": literal(OLLAMA_ERROR),
            },
            "headers": headers(),
            "parameters": parameters(),
        },
    })
}

/// Headers of responses.
fn headers() -> Value {
    json!({
        (UNUSED): header("what of the conversation the model's template left out"),
        (ADAPTED): header("in what the request was brought into another form"),
        (IGNORED): header("the fields that had no effect"),
        (RECEIPT): header("the id of the answer's receipt, where the server keeps some"),
        (route::ROUTE): header("`here` or `there`: who answered, where there are rules"),
        (route::UPSTREAM): header("the upstream that answered"),
        (route::RULE): header("the rule that decided who answers"),
        (route::REDACTED): header("what was replaced before the request left"),
        (route::FALLBACK): header("why who was asked first did not answer"),
        (resume::RESUMABLE): header("seconds for which the stream can be resumed"),
        "Retry-After": header("seconds after which the same request may be answered"),
    })
}

/// Headers of requests.
fn parameters() -> Value {
    json!({
        (deadline::HEADER): {
            "name": deadline::HEADER,
            "in": "header",
            "description": "Milliseconds from the request's arrival to its end.",
            "schema": {
                "type": "integer",
                "minimum": deadline::RANGE_MS.start(),
                "maximum": deadline::RANGE_MS.end(),
            },
        },
        (resume::LAST_EVENT_ID): {
            "name": resume::LAST_EVENT_ID,
            "in": "header",
            "description": "The id of the last event that came of a stream which can be \
                            resumed: the rest of it is the answer. A POST is the same as \
                            before.",
            "schema": {"type": "string"},
        },
        (lenient::HEADER): {
            "name": lenient::HEADER,
            "in": "header",
            "description": "With \"true\", fields that the route does not know are told in \
                            x-freehold-ignored where they would be refused.",
            "schema": {"enum": ["true", "false"]},
        },
        (route::LABEL): {
            "name": route::LABEL,
            "in": "header",
            "description": "How sensitive the request is, where it is more so than what \
                            its key sends; one that is less changes nothing.",
            "schema": {"enum": ["public", "internal", "private"]},
        },
    })
}

/// Where an upstream gives no answer.
const BAD_GATEWAY: u16 = 502;
/// Of OpenAI's family, and of what belongs to none.
const OPENAI_ERROR: &str = r#"{"type":"object","properties":{"error":{"type":"object","properties":{"message":{"type":"string"},"type":{"type":"string"},"param":{"type":["string","null"]},"code":{"type":["string","null"]},"n_prompt_tokens":{"type":"integer"},"n_ctx":{"type":"integer"}},"required":["message","type","param","code"]}},"required":["error"]}"#;
const ANTHROPIC_ERROR: &str = r#"{"type":"object","properties":{"type":{"const":"error"},"error":{"type":"object","properties":{"type":{"type":"string"},"message":{"type":"string"}},"required":["type","message"]},"request_id":{"type":"string"}},"required":["type","error","request_id"]}"#;

const OLLAMA_ERROR: &str =
    r#"{"type":"object","properties":{"error":{"type":"string"}},"required":["error"]}"#;

fn header(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "string"}})
}

/// A path of the router as OpenAPI writes it.
fn plain(path: &str) -> String {
    path.replace("{*", "{")
}

fn operation(route: &Route, path: &str, name_idx: usize) -> Value {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id = [route.method].into_iter().chain(words).collect::<Vec<_>>().join("_");
    let mut parameters: Vec<Value> = path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| name.trim_start_matches('*'))
        .map(|name| {
            json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
        })
        .collect();
    parameters.extend(route.query.iter().map(|field| {
        let schema = bare_schema(field);
        json!({"name": field.name, "in": "query", "description": field.note, "schema": schema})
    }));
    let mut operation = json!({
        "operationId": id,
        "tags": [route.group],
        "summary": route.summary,
        "responses": responses(route),
    });
    if let Some(body) = &route.body {
        for name in [deadline::HEADER, lenient::HEADER] {
            parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
        }
        if route.generates() {
            let name = route::LABEL;
            parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
        }
        let content = json!({"schema": body_schema(body), "example": literal(body.example)});
        operation["requestBody"] =
            json!({"required": true, "content": {route.media_type: content}});
    }
    if route.stream == EVENTS {
        let name = resume::LAST_EVENT_ID;
        parameters.push(json!({"$ref": format!("#/components/parameters/{name}")}));
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if name_idx > 0 {
        operation["description"] = format!("The same as {}.", route.paths[0]).into();
    }
    operation
}

fn responses(route: &Route) -> Value {
    let (status, answered) = match route.sends_to {
        Some(place) => (StatusCode::SEE_OTHER, sent(place)),
        None => (StatusCode::OK, answered(route)),
    };
    let mut responses = Map::from_iter([(status.as_str().to_owned(), answered)]);
    // An upstream may have been asked.
    let of_upstreams = route.generates().then_some(&BAD_GATEWAY);
    for status in route.statuses.iter().chain(of_upstreams) {
        responses.insert(status.to_string(), refusal(route, *status));
    }
    // While the models are being opened at the start.
    let loading = StatusCode::SERVICE_UNAVAILABLE.as_u16().to_string();
    responses.entry(loading).or_insert_with(|| refusal(route, 503));
    responses.into()
}

/// A redirection to `place`.
fn sent(place: &str) -> Value {
    let schema = json!({"type": "string", "format": "uri-reference"});
    let location = json!({"description": place, "required": true, "schema": schema});
    json!({"description": format!("sends to {place}"), "headers": {"Location": location}})
}

fn answered(route: &Route) -> Value {
    let mut content = Map::new();
    match (route.answer, route.stream) {
        (Some(schema), _) => {
            content.insert("application/json".to_owned(), json!({"schema": literal(schema)}));
        }
        (None, None) => {
            content.insert("text/plain".to_owned(), json!({"schema": {"type": "string"}}));
        }
        (None, Some(_)) => {}
    }
    if let Some(media_type) = route.stream {
        // Of 3.1 nothing says whether a schema is of the whole stream or of each event.
        let schema = json!({"description": "one event after the other, as they come"});
        content.insert(media_type.to_owned(), json!({"schema": schema}));
    }
    let mut answered = json!({"description": "the answer", "content": content});
    let mut headers = Vec::new();
    if route.body.is_some() {
        headers.extend([UNUSED, ADAPTED, IGNORED]);
    }
    if route.generates() {
        headers.extend([
            RECEIPT,
            route::ROUTE,
            route::UPSTREAM,
            route::RULE,
            route::REDACTED,
            route::FALLBACK,
        ]);
    }
    if route.stream == EVENTS {
        headers.push(resume::RESUMABLE);
    }
    if !headers.is_empty() {
        let reference = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
        let headers = headers.into_iter().map(|name| (name.to_owned(), reference(name)));
        answered["headers"] = headers.collect::<Map<_, _>>().into();
    }
    answered
}

fn refusal(route: &Route, status: u16) -> Value {
    let error = |family: Family| match family {
        Family::OpenAi => json!({"$ref": "#/components/schemas/OpenAiError"}),
        Family::Anthropic => json!({"$ref": "#/components/schemas/AnthropicError"}),
        Family::Ollama => json!({"$ref": "#/components/schemas/OllamaError"}),
    };
    let schema = match (&route.body, route.answer) {
        (Some(_), _) => error(route.family),
        // The header that tells the family may stand in any request.
        (None, answer) => {
            let own = answer.filter(|_| status == 503).map(literal);
            let families = [error(route.family), error(Family::Anthropic)];
            json!({"anyOf": families.into_iter().chain(own).collect::<Vec<_>>()})
        }
    };
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut refusal = json!({
        "description": reason.unwrap_or(if status == 529 { "Overloaded" } else { "refused" }),
        "content": {"application/json": {"schema": schema}},
    });
    if matches!(status, 429 | 503 | 529) {
        let reference = json!({"$ref": "#/components/headers/Retry-After"});
        refusal["headers"] = json!({"Retry-After": reference});
    }
    refusal
}

fn body_schema(body: &Body) -> Value {
    let property = |field: &Field| {
        let is_required = body.required.contains(&field.name);
        (field.name.to_owned(), property(field, is_required))
    };
    let properties: Map<String, Value> = body.all_fields().map(property).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": body.required,
        "additionalProperties": match body.unknown {
            // Null is absent here too.
            Unknown::Refused => json!({"type": "null"}),
            Unknown::Ignored => json!(true),
        },
    })
}

/// A field's schema, and what becomes of it.
fn property(field: &Field, is_required: bool) -> Value {
    let (word, mut schema) = match field.treatment {
        Treatment::Honoured => ("honoured", bare_schema(field)),
        Treatment::Adapted => ("adapted", bare_schema(field)),
        Treatment::Tolerated => ("tolerated", json!({})),
        Treatment::Ignored => ("ignored", json!({})),
        Treatment::Refused(why) => {
            ("refused", json!({"enum": [null, false, "", []], "description": why}))
        }
    };
    if field.is_read() && !is_required {
        or_null(&mut schema);
    }
    if !field.note.is_empty() {
        schema["description"] = field.note.into();
    }
    if let Some(example) = field.example().filter(|_| field.is_read()) {
        schema["examples"] = json!([example]);
    }
    schema["x-freehold"] = word.into();
    if field.is_by_model {
        schema["x-freehold-by-model"] = true.into();
    }
    if let Some(beside) = field.beside {
        schema["x-freehold-beside"] = literal(beside);
    }
    schema
}

/// The schema of a field's values, without null.
fn bare_schema(field: &Field) -> Value {
    match field.kind {
        Kind::Any => json!({}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Text => json!({"type": "string"}),
        Kind::Words(words) => json!({"enum": words}),
        Kind::Number(least, most) if least == POSITIVE => {
            json!({"type": "number", "exclusiveMinimum": 0, "maximum": most})
        }
        Kind::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
        Kind::Integer(least, NO_END) => json!({"type": "integer", "minimum": least}),
        Kind::Integer(least, most) => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Kind::Shape(schema) => literal(schema),
    }
}

/// Lets a schema allow null too.
fn or_null(schema: &mut Value) {
    if let Some(kind) = schema.get("type").filter(|kind| kind.is_string()) {
        let kind = kind.clone();
        schema["type"] = json!([kind, "null"]);
    } else if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    } else if let Some(either) = schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        either.push(json!({"type": "null"}));
    } else if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.push("null".into());
    }
}

#[cfg(test)]
mod tests;
