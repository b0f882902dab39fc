//! Spans of requests as OTLP has them in JSON: ids in hexadecimal, integers of 64 bits as strings,
//! enumerations as numbers (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>).
//!
//! Written by hand: it is four objects deep, and the official packages would be dozens. Attributes
//! are those of the conventions for HTTP and for generative models
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>), with routes as declared,
//! names of served models, words of the program and numbers; nothing that a client wrote.

use super::context::{Context, span_id};
use crate::VERSION;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// OTLP's numbers of the kinds of a span, and of a status that is an error.
const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const ERROR: u8 = 2;

/// What is told of a request.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) context: Context,
    pub(crate) route: String,
    /// `None`: it did not come by HTTP.
    pub(crate) method: Option<&'static str>,
    /// Of the server.
    pub(crate) address: Option<SocketAddr>,
    /// Of the response's head, where one was sent.
    pub(crate) status: Option<u16>,
    /// What was wrong, in one word, and whether it was our fault.
    pub(crate) error: Option<&'static str>,
    pub(crate) is_fault: bool,
    /// The served model's name; empty: none was found.
    pub(crate) model: String,
    pub(crate) n_prompt: u64,
    pub(crate) n_reused: u64,
    pub(crate) n_generated: u64,
    /// How its answers ended.
    pub(crate) finish_reasons: Vec<&'static str>,
    pub(crate) end: SystemTime,
    pub(crate) duration: Duration,
    /// From its beginning; `None`: no token came.
    pub(crate) first_token: Option<Duration>,
    /// How long it waited for a step, how long its prompt took, and its answer from the first token
    /// on; zero where it is not known.
    pub(crate) queue: Duration,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

impl Told {
    /// The spans within it: name, and beginning and end as times since its own.
    fn parts(&self) -> Vec<(&'static str, Duration, Duration)> {
        let Some(first) = self.first_token else { return Vec::new() };
        let first = first.min(self.duration);
        let prompt = first.saturating_sub(self.prefill);
        let end = (first + self.decode).min(self.duration);
        let parts = [
            ("queue", prompt.saturating_sub(self.queue), prompt),
            ("prompt", prompt, first),
            ("decode", first, end),
        ];
        parts.into_iter().filter(|(_, begin, end)| begin < end).collect()
    }

    /// How many spans it has.
    pub(super) fn n_spans(&self) -> u64 {
        1 + self.parts().len() as u64
    }

    fn spans(&self) -> Vec<Span<'_>> {
        let Context { trace, parent, .. } = &self.context;
        let begin = self.end.checked_sub(self.duration).unwrap_or(UNIX_EPOCH);
        let own = span_id();
        let span = |id, parent, name, from, to| Span {
            trace_id: trace,
            span_id: id,
            parent_span_id: parent,
            name,
            kind: INTERNAL,
            start_time_unix_nano: nanoseconds(begin + from),
            end_time_unix_nano: nanoseconds(begin + to),
            attributes: Vec::new(),
            status: Status { code: None },
        };
        let name = match self.method {
            Some(method) => format!("{method} {}", self.route),
            None => self.route.clone(),
        };
        let parent = parent.clone().unwrap_or_default();
        let whole = Span {
            kind: if self.method.is_some() { SERVER } else { INTERNAL },
            attributes: self.attributes(),
            status: Status { code: self.is_fault.then_some(ERROR) },
            ..span(own.clone(), parent, name, Duration::ZERO, self.duration)
        };
        let part = |(name, from, to): (&str, _, _)| {
            span(span_id(), own.clone(), name.to_owned(), from, to)
        };
        [whole].into_iter().chain(self.parts().into_iter().map(part)).collect()
    }

    fn attributes(&self) -> Vec<Attribute> {
        let text = |key, text: &str| Some(Attribute { key, value: AnyValue::text(text) });
        let number = |key, number: u64| {
            Some(Attribute { key, value: AnyValue::Integer(number.to_string()) })
        };
        let model = Some(&self.model).filter(|model| !model.is_empty());
        let has_tokens = model.is_some() && self.n_prompt > 0;
        let of_tokens = |key, n| has_tokens.then(|| number(key, n)).flatten();
        let reasons = self.finish_reasons.iter().map(|reason| AnyValue::text(reason)).collect();
        let reasons = Attribute {
            key: "gen_ai.response.finish_reasons",
            value: AnyValue::List(Values { values: reasons }),
        };
        let all = [
            self.method.and_then(|method| text("http.request.method", method)),
            self.method.and_then(|_| text("http.route", &self.route)),
            self.status.and_then(|status| number("http.response.status_code", status.into())),
            self.address.and_then(|at| text("server.address", &at.ip().to_string())),
            self.address.and_then(|at| number("server.port", at.port().into())),
            self.error.and_then(|error| text("error.type", error)),
            operation(&self.route).and_then(|word| text("gen_ai.operation.name", word)),
            operation(&self.route).and_then(|_| text("gen_ai.provider.name", "freehold")),
            model.and_then(|model| text("gen_ai.request.model", model)),
            model.and_then(|model| text("gen_ai.response.model", model)),
            of_tokens("gen_ai.usage.input_tokens", self.n_prompt),
            of_tokens("gen_ai.usage.cache_read.input_tokens", self.n_reused),
            of_tokens("gen_ai.usage.output_tokens", self.n_generated),
            (!self.finish_reasons.is_empty()).then_some(reasons),
        ];
        all.into_iter().flatten().collect()
    }

    #[cfg(test)]
    pub(super) fn of_tests() -> Self {
        let ms = Duration::from_millis;
        Self {
            context: Context {
                trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
                parent: Some("00f067aa0ba902b7".to_owned()),
                is_sampled: true,
            },
            route: "/v1/chat/completions".to_owned(),
            method: Some("POST"),
            address: Some(([127, 0, 0, 1], 11500).into()),
            status: Some(200),
            error: None,
            is_fault: false,
            model: "m".to_owned(),
            n_prompt: 9,
            n_reused: 4,
            n_generated: 5,
            finish_reasons: vec!["stop"],
            end: UNIX_EPOCH + Duration::from_secs(1000),
            duration: ms(100),
            first_token: Some(ms(60)),
            queue: ms(20),
            prefill: ms(30),
            decode: ms(39),
        }
    }
}

/// What a route does, in the words of the conventions.
fn operation(route: &str) -> Option<&'static str> {
    match route {
        "/v1/chat/completions" | "/v1/responses" | "/v1/messages" | "/api/chat" => Some("chat"),
        "/v1/completions" | "/api/generate" => Some("text_completion"),
        "/v1/embeddings" | "/api/embed" | "/api/embeddings" => Some("embeddings"),
        _ => None,
    }
}

fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

/// The body that tells of these requests.
pub(super) fn body(requests: &[Told]) -> Vec<u8> {
    let text = |key, text| Attribute { key, value: AnyValue::text(text) };
    let attributes = vec![text("service.name", "freehold"), text("service.version", VERSION)];
    let spans = requests.iter().flat_map(Told::spans).collect();
    let scope = Scope { name: "freehold", version: VERSION };
    let request = Request {
        resource_spans: [ResourceSpans {
            resource: Resource { attributes },
            scope_spans: [ScopeSpans { scope, spans }],
        }],
    };
    serde_json::to_vec(&request).expect("it has string keys")
}

/// Of an answer to a body, how many spans it says were refused.
pub(super) fn n_refused(answer: &[u8]) -> u64 {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Answer {
        partial_success: Partial,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Partial {
        /// A string, as all integers of 64 bits; some write a number.
        rejected_spans: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(answer).unwrap_or_default();
    let n = answer.partial_success.rejected_spans;
    n.as_u64().or_else(|| n.as_str()?.parse().ok()).unwrap_or(0)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Span<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Span<'a> {
    trace_id: &'a str,
    span_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    parent_span_id: String,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<Attribute>,
    status: Status,
}

#[derive(Serialize)]
struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
}

#[derive(Serialize)]
struct Attribute {
    key: &'static str,
    value: AnyValue,
}

#[derive(Serialize)]
enum AnyValue {
    #[serde(rename = "stringValue")]
    Text(String),
    /// As text.
    #[serde(rename = "intValue")]
    Integer(String),
    #[serde(rename = "arrayValue")]
    List(Values),
}

#[derive(Serialize)]
struct Values {
    values: Vec<AnyValue>,
}

impl AnyValue {
    fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn spans(told: &Told) -> Vec<Value> {
        let body: Value = serde_json::from_slice(&body(std::slice::from_ref(told))).unwrap();
        let resource = &body["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(resource[0]["key"], "service.name");
        assert_eq!(resource[0]["value"], json!({"stringValue": "freehold"}));
        assert_eq!(resource[1]["value"], json!({"stringValue": VERSION}));
        let spans = &body["resourceSpans"][0]["scopeSpans"][0]["spans"];
        let spans = spans.as_array().unwrap().clone();
        assert_eq!(spans.len() as u64, told.n_spans());
        spans
    }

    /// Name, and beginning and end in milliseconds before the request's end.
    fn times(spans: &[Value]) -> Vec<(String, i64, i64)> {
        let ms = |span: &Value, field: &str| {
            let nanoseconds: i64 = span[field].as_str().unwrap().parse().unwrap();
            1_000_000 - nanoseconds / 1_000_000
        };
        let time = |span: &Value| {
            let name = span["name"].as_str().unwrap().to_owned();
            (name, ms(span, "startTimeUnixNano"), ms(span, "endTimeUnixNano"))
        };
        spans.iter().map(time).collect()
    }

    #[test]
    fn a_request_is_a_span_with_its_parts_below() {
        let spans = spans(&Told::of_tests());
        let expected = [
            ("POST /v1/chat/completions", 100, 0),
            ("queue", 90, 70),
            ("prompt", 70, 40),
            ("decode", 40, 1),
        ];
        assert_eq!(times(&spans), expected.map(|(name, a, b)| (name.to_owned(), a, b)));
        let whole = &spans[0];
        assert_eq!(
            (&whole["parentSpanId"], &whole["kind"]),
            (&json!("00f067aa0ba902b7"), &json!(2))
        );
        for span in &spans {
            assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_eq!(span["spanId"].as_str().unwrap().len(), 16);
        }
        assert!(spans[1..].iter().all(|span| span["parentSpanId"] == whole["spanId"]));
        let text = |text: &str| json!({"stringValue": text});
        let number = |n: &str| json!({"intValue": n});
        let expected = [
            ("http.request.method", text("POST")),
            ("http.route", text("/v1/chat/completions")),
            ("http.response.status_code", number("200")),
            ("server.address", text("127.0.0.1")),
            ("server.port", number("11500")),
            ("gen_ai.operation.name", text("chat")),
            ("gen_ai.provider.name", text("freehold")),
            ("gen_ai.request.model", text("m")),
            ("gen_ai.response.model", text("m")),
            ("gen_ai.usage.input_tokens", number("9")),
            ("gen_ai.usage.cache_read.input_tokens", number("4")),
            ("gen_ai.usage.output_tokens", number("5")),
            ("gen_ai.response.finish_reasons", json!({"arrayValue": {"values": [text("stop")]}})),
        ];
        let expected: Vec<Value> =
            expected.into_iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        assert_eq!(whole["attributes"], json!(expected));
        assert_eq!(whole["status"], json!({}));
    }

    #[test]
    fn what_is_not_known_is_not_told() {
        let told = Told {
            method: None,
            address: None,
            status: None,
            error: Some("overloaded"),
            is_fault: true,
            model: String::new(),
            n_prompt: 0,
            finish_reasons: Vec::new(),
            first_token: None,
            context: Context { parent: None, ..Told::of_tests().context },
            route: "/v1/rerank".to_owned(),
            ..Told::of_tests()
        };
        let [span] = &spans(&told)[..] else { panic!("one span") };
        assert_eq!((&span["name"], &span["kind"]), (&json!("/v1/rerank"), &json!(1)));
        assert!(span.get("parentSpanId").is_none());
        let error = json!({"key": "error.type", "value": {"stringValue": "overloaded"}});
        assert_eq!((&span["attributes"], &span["status"]), (&json!([error]), &json!({"code": 2})));
        // Times that do not fit into each other stay within the request.
        let hour = Duration::from_secs(3600);
        let odd = Told { queue: hour, prefill: hour, decode: hour, ..Told::of_tests() };
        let expected = [("prompt", 100, 40), ("decode", 40, 0)];
        let expected = expected.map(|(name, a, b)| (name.to_owned(), a, b));
        assert_eq!(times(&spans(&odd))[1..], expected);
    }

    #[test]
    fn an_answer_says_what_was_refused() {
        let check = |answer: &str, expected| assert_eq!(n_refused(answer.as_bytes()), expected);
        check("{}", 0);
        check("", 0);
        check(r#"{"partialSuccess":{"rejectedSpans":"3"}}"#, 3);
        check(r#"{"partialSuccess":{"rejectedSpans":3}}"#, 3);
        check(r#"{"partialSuccess":{"rejectedSpans":[]}}"#, 0);
    }
}
