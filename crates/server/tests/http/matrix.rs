//! Every cell of what the server publishes of its fields, proved by a real request.
//!
//! The test knows no field and no route: it reads `/openapi.json` and holds the server to it. So a
//! field that is declared and not read, or the other way round, fails here.

use super::client::{Response, post_head, request};
use super::{MODEL, Running, batches, reasoning, start_with, vectors};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::OnceLock;

/// A template that reads whatever templates read.
const CAPABLE: &str = concat!(
    "{% if tools %}<|im_start|>system\nFor each function call, return a json object with function ",
    "name and arguments within <tool_call></tool_call> tags:\n{{ tools | tojson }}<|im_end|>\n",
    "{% endif %}{% if reasoning_effort is defined %}<|im_start|>system\nReasoning effort: ",
    "{{ reasoning_effort }}<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>",
    "{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n",
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}",
);

/// A server of a model that can do what models can do, but for making vectors.
fn capable() -> SocketAddr {
    static SERVER: OnceLock<Running> = OnceLock::new();
    SERVER.get_or_init(|| start_with(reasoning::reasoning_engine(CAPABLE))).address
}

/// Of every type, so that each field that takes not everything has some that are absurd.
fn values() -> Vec<Value> {
    let list = r#"[7.5, -1e12, "absurd", {"absurd": true}, [[7.5]], true]"#;
    serde_json::from_str(list).unwrap()
}

/// One operation with a body.
struct Operation {
    path: String,
    /// As which its body is sent.
    media_type: String,
    content: Value,
    responses: Value,
    /// Where references of its schemas lead.
    components: Value,
}

/// A file whose lines are no requests: a batch of them is over at once.
fn input_file() -> &'static str {
    static FILE: OnceLock<String> = OnceLock::new();
    FILE.get_or_init(|| batches::sent(vectors::address(), "no request\n"))
}

fn document() -> Value {
    request(vectors::address(), "GET /openapi.json", b"").json()
}

/// Those that change which models there are, or the others. One that is about something of an id,
/// which there must be, has a test of its own.
fn operations(document: &Value, of_changes: bool) -> Vec<Operation> {
    let paths = document["paths"].as_object().unwrap();
    let read = |(path, item): (&String, &Value)| {
        let mut contents = item["post"]["requestBody"]["content"].as_object()?.iter();
        let (media_type, content) = contents.next()?;
        let is_change = item["post"]["responses"]["501"].is_object();
        let is_of_one = path.contains('{');
        (is_change == of_changes && !is_of_one).then(|| Operation {
            path: path.clone(),
            media_type: media_type.clone(),
            content: content.clone(),
            responses: item["post"]["responses"].clone(),
            components: document["components"].clone(),
        })
    };
    paths.iter().filter_map(read).collect()
}

impl Operation {
    /// The example's body, `fields` in it.
    fn body(&self, fields: &[(&str, &Value)]) -> Value {
        let mut body = self.content["example"].clone();
        if body["model"] == "smollm2-135m" {
            body["model"] = MODEL.into();
        }
        if body["input_file_id"].is_string() {
            body["input_file_id"] = input_file().into();
        }
        for (name, value) in fields {
            body[*name] = (*value).clone();
        }
        body
    }

    fn post(&self, address: SocketAddr, body: &Value, header: &str) -> Response {
        let (head, text) = match &*self.media_type {
            "application/json" => (post_head(&self.path), body.to_string()),
            "multipart/form-data" => self.form(body),
            other => panic!("{}: {other}", self.path),
        };
        let response = request(address, &format!("{head}{header}"), text.as_bytes());
        self.check_published(&response, body);
        response
    }

    /// A body as a form: texts as they are, other values as JSON; null and lists of nothing are no
    /// parts.
    fn form(&self, body: &Value) -> (String, String) {
        let is_file = |name: &str| self.content["schema"]["properties"][name]["format"] == "binary";
        let mut parts = Vec::new();
        for (name, value) in body.as_object().unwrap() {
            match value {
                Value::Null => {}
                Value::Array(list) if list.is_empty() => {}
                Value::String(text) if is_file(name) => parts.push((name, Some("a"), text.clone())),
                Value::String(text) => parts.push((name, None, text.clone())),
                other => parts.push((name, None, other.to_string())),
            }
        }
        let parts: Vec<(&str, Option<&str>, &str)> =
            parts.iter().map(|(name, file, text)| (name.as_str(), *file, text.as_str())).collect();
        batches::form(&self.path, &parts)
    }

    /// The answer is one of those that are published.
    fn check_published(&self, response: &Response, body: &Value) {
        let published = &self.responses[response.status.to_string()]["content"];
        let context = || format!("{} {body}: {} {}", self.path, response.status, response.body);
        let content = &published[&response.headers["content-type"]];
        assert!(content.is_object(), "{}", context());
        if response.headers["content-type"] == "application/json" {
            let mut schema = content["schema"].clone();
            schema["components"] = self.components.clone();
            assert!(is_valid(&schema, &response.json()), "{}", context());
        }
    }

    /// A field with a value, beside what it needs beside it.
    fn ask(&self, address: SocketAddr, name: &str, value: &Value) -> Response {
        let property = &self.content["schema"]["properties"][name];
        let mut body = self.body(&[]);
        for (name, value) in property["x-freehold-beside"].as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        body[name] = match name {
            "model" if value.is_string() => body["model"].clone(),
            _ => value.clone(),
        };
        self.post(address, &body, "")
    }

    fn check_refused(&self, name: &str, value: &Value) {
        let response = self.ask(vectors::address(), name, value);
        let context = format!("{} {name}: {value}: {}", self.path, response.body);
        assert_eq!(response.status, 400, "{context}");
        assert!(is_at(&place(&response), name), "{context}");
    }

    /// The response to a request that is answered.
    fn accepted(&self, address: SocketAddr, name: &str, value: &Value) -> Response {
        let response = self.ask(address, name, value);
        assert_eq!(response.status, 200, "{} {name}: {value}: {}", self.path, response.body);
        response
    }

    /// What is said of a field that is read.
    fn check_read(&self, name: &str, property: &Value) {
        let plain = vectors::address();
        let absurd: Vec<Value> =
            values().into_iter().filter(|value| !is_valid(property, value)).collect();
        absurd.iter().for_each(|value| self.check_refused(name, value));
        if absurd.is_empty() {
            // Whoever declares no values must refuse one of each kind all the same.
            let is_refused = |value: &Value| is_at(&place(&self.ask(plain, name, value)), name);
            assert!(values().iter().any(is_refused), "{} {name}: takes everything", self.path);
        }
        let Some(good) = property["examples"].get(0) else { return };
        let is_adapted = property["x-freehold"] == "adapted";
        let by_model = property["x-freehold-by-model"] == true;
        if by_model && self.ask(plain, name, good).status != 200 {
            self.check_refused(name, good);
        } else {
            let response = self.accepted(plain, name, good);
            let is_told = is_ignored(&response, name)
                || response.headers.contains_key("x-freehold-adapted") && is_adapted;
            assert_eq!(is_told, is_adapted, "{} {name}: {:?}", self.path, response.headers);
        }
        if (is_adapted || by_model) && self.body(&[])["model"] == MODEL {
            let response = self.accepted(capable(), name, good);
            assert!(!is_ignored(&response, name), "{} {name}", self.path);
        }
    }

    fn check_field(&self, name: &str, property: &Value) {
        let plain = vectors::address();
        match property["x-freehold"].as_str().unwrap() {
            "honoured" | "adapted" => self.check_read(name, property),
            "tolerated" => {
                for value in [json!("absurd"), json!({"absurd": [7.5]})] {
                    assert!(!is_ignored(&self.accepted(plain, name, &value), name), "{name}");
                }
            }
            "ignored" => {
                assert!(is_ignored(&self.accepted(plain, name, &json!("absurd")), name), "{name}");
            }
            "refused" => {
                values().iter().for_each(|value| self.check_refused(name, value));
                for nothing in property["enum"].as_array().unwrap() {
                    self.accepted(plain, name, nothing);
                }
            }
            other => panic!("{} {name}: {other}", self.path),
        }
    }

    /// What is said of all fields together, and of those that are not there.
    fn check_whole(&self) {
        let plain = vectors::address();
        let schema = &self.content["schema"];
        let required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        required.iter().for_each(|name| self.check_refused(name, &Value::Null));
        let names = schema["properties"].as_object().unwrap().keys();
        let absent: Vec<_> = names.filter(|name| !required.contains(&name.as_str())).collect();
        // Without these an answer would be long.
        let is_kept = |name: &str| ["model", "max_tokens", "options"].contains(&name);
        let mut body = self.body(&[]);
        for name in absent.into_iter().filter(|name| !is_kept(name)) {
            body[name] = Value::Null;
        }
        body["no_such_field"] = Value::Null;
        let response = self.post(plain, &body, "");
        assert_eq!(response.status, 200, "{}: {}", self.path, response.body);
        assert!(!response.headers.contains_key("x-freehold-ignored"), "{}", self.path);

        let unknown = self.body(&[("no_such_field", &json!(1))]);
        let is_strict = schema["additionalProperties"] != true;
        let response = self.post(plain, &unknown, "");
        match is_strict {
            true => {
                assert_eq!(response.status, 400, "{}", self.path);
                assert_eq!(place(&response), "no_such_field", "{}", self.path);
            }
            false => assert!(is_ignored(&response, "no_such_field"), "{}", self.path),
        }
        let response = self.post(plain, &unknown, "\nX-Freehold-Lenient: true");
        assert_eq!(response.status, 200, "{}: {}", self.path, response.body);
        assert!(is_ignored(&response, "no_such_field"), "{}", self.path);
        let response = self.post(plain, &unknown, "\nX-Freehold-Lenient: yes");
        assert_eq!((response.status, &*place(&response)), (400, "x-freehold-lenient"));
    }
}

fn is_valid(schema: &Value, value: &Value) -> bool {
    jsonschema::draft202012::is_valid(schema, value)
}

/// The field that a refusal names, in any family's shape; nothing for an answer.
fn place(response: &Response) -> String {
    if response.status == 200 {
        return String::new();
    }
    let body = response.json();
    let error = &body["error"];
    let message = error["message"].as_str().or(error.as_str()).unwrap();
    match error["param"].as_str() {
        Some(param) => param.to_owned(),
        None => message.split(": ").next().unwrap().to_owned(),
    }
}

/// Whether a path leads to the field or into it.
fn is_at(path: &str, name: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether the response tells that the field had no effect.
fn is_ignored(response: &Response, name: &str) -> bool {
    let ignored = response.headers.get("x-freehold-ignored");
    ignored.is_some_and(|list| list.split(", ").any(|path| is_at(path, name)))
}

#[test]
fn every_field_becomes_what_is_published() {
    let document = document();
    for operation in operations(&document, false) {
        operation.check_whole();
        let properties = operation.content["schema"]["properties"].as_object().unwrap();
        for (name, property) in properties {
            operation.check_field(name, property);
        }
    }
}

/// This server has no library of models, and no ledger to keep keys in.
#[test]
fn what_this_server_cannot_change_is_refused_as_published() {
    let operations = operations(&document(), true);
    assert_eq!(operations.len(), 7);
    for operation in operations {
        let response = operation.post(vectors::address(), &operation.body(&[]), "");
        assert_eq!(response.status, 501, "{}: {}", operation.path, response.body);
    }
}

#[test]
fn every_route_without_a_body_is_as_published() {
    let document = document();
    let (keeping, kept_id) = super::responses::one_kept();
    let (resumable, stream_id) = super::resume::one_ended();
    let (booked, receipt_id) = super::receipts::one_kept();
    let batch_id = batches::batch(vectors::address(), input_file());
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(operation) = item.get("get") else { continue };
        let (address, id) = match path.split('/').nth(2).filter(|_| path.contains("{id}")) {
            Some("responses") => (keeping.address(), &*kept_id),
            Some("streams") => (resumable.address, &*stream_id),
            Some("receipts") => (booked, &*receipt_id),
            Some("{id}") if path.starts_with("/web/") => (vectors::address(), "app.js"),
            Some("files") => (vectors::address(), input_file()),
            Some("batches") => (vectors::address(), &*batch_id),
            _ if path.starts_with("/admin/") => (booked, MODEL),
            _ => (vectors::address(), MODEL),
        };
        let head = format!("GET {}", path.replace("{id}", id));
        // Whose file it is; responses and streams are of clients without one.
        let is_keyless = ["/v1/responses/", "/v1/streams/"].iter().any(|of| path.starts_with(of));
        let key = if is_keyless { "" } else { "\nAuthorization: Bearer any-key" };
        let head = format!("{head}{key}");
        let response = request(address, &head, b"");
        // Nothing is kept of persons and reports on these servers, and nobody signs in.
        let is_of_persons = path.starts_with("/admin/persons");
        if is_of_persons || path.starts_with("/login") || path == "/admin/gate/reports/{id}" {
            let expected = if is_of_persons { 501 } else { 404 };
            assert_eq!(response.status, expected, "{path}: {}", response.body);
            continue;
        }
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        let kind = response.headers["content-type"].split(';').next().unwrap().to_owned();
        let published = &operation["responses"]["200"]["content"];
        let content = published.get(&kind).unwrap_or(&published["*/*"]);
        assert!(content.is_object(), "{path}: {kind}");
        if kind == "application/json" {
            assert!(is_valid(&content["schema"], &response.json()), "{path}: {}", response.body);
        }
        let parameters = operation["parameters"].as_array().into_iter().flatten();
        for parameter in parameters.filter(|parameter| parameter["in"] == "query") {
            let name = parameter["name"].as_str().unwrap();
            let line = head.strip_suffix(key).unwrap();
            let head = format!("{line}?{name}=absurd{key}\nAnthropic-Version: 2023-06-01");
            let response = request(address, &head, b"");
            assert_eq!((response.status, &*place(&response)), (400, name), "{}", response.body);
        }
    }
}
