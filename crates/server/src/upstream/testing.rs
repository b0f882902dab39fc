//! For tests: requests of any family brought into an upstream's words, and answers of upstreams
//! read however they are cut.

use super::{Answer, Asked, Counts, Framing};
use crate::dialects::openai::chat::Chat;
use crate::dialects::{Choice, Dialect};
use crate::limits::Limits;
use broker::UpstreamKind;
use serde_json::{Value, json};

/// What an upstream of `kind` is asked for a request of the dialect `D`; in place of it what is
/// wrong, as field and message.
pub(super) fn asked<D: Dialect>(kind: UpstreamKind, request: &Value) -> Value {
    let request = D::parse(request.to_string().as_bytes(), &Limits::default()).unwrap();
    match Asked::new(D::call(&request), kind, "m") {
        Ok(asked) => asked.body,
        Err(bad) => json!([bad.param, bad.message]),
    }
}

/// As [`asked`], of chat completions, with these fields beside a question.
pub(super) fn chat(kind: UpstreamKind, more: &Value) -> Value {
    let mut request = json!({"messages": [{"role": "user", "content": "Hi"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    asked::<Chat>(kind, &request)
}

/// What was read of an answer to a request of chat completions: its alternatives and counts, or
/// what is wrong with it.
fn read(
    kind: UpstreamKind,
    framing: Framing,
    request: &Value,
    pieces: &[&[u8]],
) -> Result<(Vec<Choice>, Counts), String> {
    let request = Chat::parse(request.to_string().as_bytes(), &Limits::default()).unwrap();
    let answer = Answer::new(Chat::call(&request), kind, framing);
    answer.read(pieces).map_err(|wrong| wrong.to_string())
}

/// The same of `text`, which must be read alike wherever it is cut.
#[track_caller]
pub(super) fn heard(
    kind: UpstreamKind,
    framing: Framing,
    request: &Value,
    text: &str,
) -> Result<(Vec<Choice>, Counts), String> {
    let bytes = text.as_bytes();
    let whole = read(kind, framing, request, &[bytes]);
    for cut in 1..bytes.len() {
        let (begin, rest) = bytes.split_at(cut);
        assert_eq!(read(kind, framing, request, &[begin, rest]), whole, "cut at {cut}: {text}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(kind, framing, request, &single), whole, "byte by byte: {text}");
    whole
}

/// Events whose data these are, each with its type as its name where it has one.
pub(super) fn events(data: &[Value]) -> String {
    let event = |data: &Value| match data["type"].as_str() {
        Some(name) => format!("event: {name}\ndata: {data}\n\n"),
        None => format!("data: {data}\n\n"),
    };
    data.iter().map(event).collect()
}
