//! The lines of a batch's input: `{"custom_id", "method", "url", "body"}`, one request each,
//! checked before the first is answered. What is in a body its route reads, as it would from a
//! connection; here it is not taken apart.
//!
//! The codes of problems are OpenAI's.

use super::record::Endpoint;
use crate::dialects::fields::short;
use crate::errors::ServerError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, BufRead, Read};

/// Most requests of a batch (OpenAI's).
pub(crate) const N_REQUESTS: u64 = 50_000;
/// Longest `custom_id`: of all requests together they are in memory while they are compared.
const N_CUSTOM_ID_BYTES: usize = 512;
/// Bytes that a line has beside its body, at most.
pub(super) const N_FRAME_BYTES: usize = 4 << 10;
/// Most problems that are told of one file.
const N_PROBLEMS: usize = 100;

/// What is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Problem {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    /// Counted from 1; `None` where it is no line's.
    pub(crate) line: Option<u64>,
}

impl Problem {
    /// A problem of the whole.
    pub(crate) fn whole(code: &str, message: String) -> Self {
        Self { code: code.to_owned(), message, param: None, line: None }
    }

    fn at(line: u64, code: &str, param: Option<&str>, problem: &str) -> Self {
        let place = param.map(|param| format!("{param}: ")).unwrap_or_default();
        Self {
            code: code.to_owned(),
            message: format!("line {line}: {place}{problem}"),
            param: param.map(str::to_owned),
            line: Some(line),
        }
    }
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Counted from 1.
    pub(crate) number: u64,
    pub(crate) custom_id: String,
    /// JSON.
    pub(crate) body: String,
}

/// A line as it stands, or what is too long to be one.
enum Text {
    Line(Vec<u8>),
    TooLong,
}

/// The lines of a file that have something in them, one after the other.
pub(crate) struct Lines<R> {
    reader: R,
    /// Of the newest line.
    number: u64,
    /// Longest line in bytes.
    n_max: usize,
}

impl<R: BufRead> Lines<R> {
    pub(crate) fn new(reader: R, n_max: usize) -> Self {
        Self { reader, number: 0, n_max }
    }

    fn next_text(&mut self) -> io::Result<Option<(u64, Text)>> {
        loop {
            let mut bytes = Vec::new();
            let n_max = self.n_max as u64 + 1;
            let n_read = self.reader.by_ref().take(n_max).read_until(b'\n', &mut bytes)?;
            if n_read == 0 {
                return Ok(None);
            }
            self.number += 1;
            if bytes.last() != Some(&b'\n') && bytes.len() > self.n_max {
                self.skip_line()?;
                return Ok(Some((self.number, Text::TooLong)));
            }
            if !bytes.trim_ascii().is_empty() {
                return Ok(Some((self.number, Text::Line(bytes))));
            }
        }
    }

    /// Reads up to the end of a line and keeps nothing of it.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let rest = self.reader.fill_buf()?;
            let end = rest.iter().position(|byte| *byte == b'\n');
            let (n_bytes, is_end) = (end.map_or(rest.len(), |end| end + 1), rest.is_empty());
            self.reader.consume(n_bytes);
            if end.is_some() || is_end {
                return Ok(());
            }
        }
    }

    /// The next request behind those that `is_done` says of, if it is one; of a file that was
    /// checked each is.
    pub(crate) fn next_line(
        &mut self,
        endpoint: Endpoint,
        is_done: impl Fn(u64) -> bool,
    ) -> io::Result<Option<Result<Line, Problem>>> {
        loop {
            let Some((number, text)) = self.next_text()? else { return Ok(None) };
            if !is_done(number) {
                return Ok(Some(self.read(number, text, endpoint).map(|(line, _)| line)));
            }
        }
    }

    fn read(
        &self,
        number: u64,
        text: Text,
        endpoint: Endpoint,
    ) -> Result<(Line, Option<String>), Problem> {
        match text {
            Text::Line(bytes) => read(number, &bytes, endpoint),
            Text::TooLong => {
                let problem = format!("longer than {} bytes, expected at most that", self.n_max);
                Err(Problem::at(number, "line_too_long", None, &problem))
            }
        }
    }
}

/// A request and the model that it names.
fn read(number: u64, bytes: &[u8], endpoint: Endpoint) -> Result<(Line, Option<String>), Problem> {
    let wrong = |code: &str, param: &str, problem: &str| {
        Err(Problem::at(number, code, Some(param), problem))
    };
    let not_json = |error: &dyn std::fmt::Display| {
        let problem = format!("expected a JSON object: {error}");
        Problem::at(number, "invalid_json_line", None, &problem)
    };
    let text = std::str::from_utf8(bytes).map_err(|error| not_json(&error))?;
    let mut fields: BTreeMap<String, &RawValue> =
        serde_json::from_str(text).map_err(|error| not_json(&error))?;
    let mut take = |name: &str, expected: &str| match fields.remove(name) {
        Some(value) if value.get() != "null" => Ok(value.get()),
        _ => {
            let problem = format!("absent: expected {expected}");
            Err(Problem::at(number, "missing_required_parameter", Some(name), &problem))
        }
    };
    let custom_id = take("custom_id", "a string that no other line has")?;
    let method = take("method", "\"POST\"")?;
    let url = take("url", "the batch's endpoint")?;
    let body = take("body", "a JSON object")?;
    if let Some(name) = fields.keys().next() {
        let problem = "expected \"custom_id\", \"method\", \"url\" and \"body\" only";
        return wrong("unknown_parameter", &short(name), problem);
    }
    if method != "\"POST\"" {
        let problem = format!("{}: expected \"POST\"", short(method));
        return wrong("invalid_method", "method", &problem);
    }
    let path = serde_json::from_str::<String>(url).unwrap_or_default();
    if path != endpoint.path() {
        let problem =
            format!("{}: expected {:?}, the batch's endpoint", short(url), endpoint.path());
        return wrong("url_mismatch", "url", &problem);
    }
    let custom_id = match serde_json::from_str::<String>(custom_id) {
        Ok(id) if (1..=N_CUSTOM_ID_BYTES).contains(&id.len()) => id,
        _ => {
            let expected = format!("a string of 1 to {N_CUSTOM_ID_BYTES} bytes");
            let problem = format!("{}: expected {expected}", short(custom_id));
            return wrong("invalid_custom_id", "custom_id", &problem);
        }
    };
    let peek: Peek<'_> = match serde_json::from_str(body) {
        Ok(peek) if body.starts_with('{') => peek,
        _ if body.starts_with('[') => {
            return wrong("invalid_body", "body", "expected a JSON object");
        }
        Ok(_) => return wrong("invalid_body", "body", "expected a JSON object"),
        Err(error) => {
            let problem = format!("expected a JSON object: {error}");
            return wrong("invalid_body", "body", &problem);
        }
    };
    for (asked, name) in [(peek.stream, "body.stream"), (peek.background, "body.background")] {
        if asked.is_some_and(|asked| asked.get() == "true") {
            let problem = "true: the answer to a line is one JSON object; leave it out";
            return wrong("unsupported_parameter", name, problem);
        }
    }
    let model = peek.model.and_then(|model| serde_json::from_str(model.get()).ok());
    Ok((Line { number, custom_id, body: body.to_owned() }, model))
}

/// What must be known of a body before its route reads it.
#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    stream: Option<&'a RawValue>,
    #[serde(borrow)]
    background: Option<&'a RawValue>,
}

/// Checks all lines: each is a request to `endpoint`, no `custom_id` comes twice, and all name the
/// same model, which `check_model` knows. Returns how many there are, or what is wrong.
pub(crate) fn check<R: BufRead>(
    mut lines: Lines<R>,
    endpoint: Endpoint,
    check_model: impl Fn(Option<&str>) -> Result<(), ServerError>,
) -> io::Result<Result<u64, Vec<Problem>>> {
    let (mut n_lines, mut problems) = (0, Vec::new());
    let mut ids = HashSet::new();
    let mut first_model: Option<Option<String>> = None;
    while let Some((number, text)) = lines.next_text()? {
        n_lines += 1;
        if n_lines > N_REQUESTS {
            let message = format!("more than {N_REQUESTS} requests, expected at most that");
            problems.push(Problem::whole("too_many_tasks", message));
        }
        if n_lines > N_REQUESTS || problems.len() >= N_PROBLEMS {
            break;
        }
        let (line, model) = match lines.read(number, text, endpoint) {
            Ok(read) => read,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        if ids.contains(&line.custom_id) {
            let problem = format!("{:?}: an earlier line has it too", short(&line.custom_id));
            let code = "duplicate_custom_id";
            problems.push(Problem::at(number, code, Some("custom_id"), &problem));
        }
        ids.insert(line.custom_id);
        match &first_model {
            None => {
                if let Err(error) = check_model(model.as_deref()) {
                    let code = error.word();
                    problems.push(Problem::at(
                        number,
                        code,
                        Some("body.model"),
                        &error.to_string(),
                    ));
                }
                first_model = Some(model);
            }
            Some(first) if *first != model => {
                let name = |model: &Option<String>| match model {
                    Some(model) => format!("{:?}", short(model)),
                    None => "none".to_owned(),
                };
                let problem = format!("{}: expected {}, as before", name(&model), name(first));
                let code = "model_mismatch";
                problems.push(Problem::at(number, code, Some("body.model"), &problem));
            }
            Some(_) => {}
        }
    }
    if n_lines == 0 {
        let message = "the file has no requests, expected one a line".to_owned();
        problems.push(Problem::whole("empty_file", message));
    }
    Ok(if problems.is_empty() { Ok(n_lines) } else { Err(problems) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(custom_id: &str, body: &str) -> String {
        let path = Endpoint::Chat.path();
        format!(r#"{{"custom_id":"{custom_id}","method":"POST","url":"{path}","body":{body}}}"#)
    }

    /// Code, line and message of a problem.
    type Told<'a> = (&'a str, Option<u64>, &'a str);

    fn check_all(input: &str, expected: Result<u64, &[Told<'_>]>) {
        let check_model = |model: Option<&str>| match model {
            Some("no") => Err(ServerError::NotFound("no such model".to_owned())),
            _ => Ok(()),
        };
        let lines = Lines::new(input.as_bytes(), 200);
        let found = check(lines, Endpoint::Chat, check_model).unwrap();
        let found = found.map_err(|problems| {
            let told =
                |problem: &Problem| (problem.code.clone(), problem.line, problem.message.clone());
            problems.iter().map(told).collect::<Vec<_>>()
        });
        let expected = expected.map_err(|problems| {
            let told = |(code, line, message): &Told<'_>| {
                ((*code).to_owned(), *line, (*message).to_owned())
            };
            problems.iter().map(told).collect::<Vec<_>>()
        });
        assert_eq!(found, expected, "{input:?}");
    }

    #[test]
    fn good_lines_are_counted() {
        let two = format!("{}\n\n \r\n{}", line("a", "{}"), line("b", r#"{"stream":false}"#));
        check_all(&two, Ok(2));
        check_all(&format!("{two}\n"), Ok(2));
    }

    #[test]
    fn problems_name_their_lines() {
        let one = |input: &str, code: &str, message: &str| {
            check_all(input, Err(&[(code, Some(1), message)]));
        };
        let empty = "the file has no requests, expected one a line";
        check_all("", Err(&[("empty_file", None, empty)]));
        check_all("\n\n", Err(&[("empty_file", None, empty)]));
        let missing = "line 1: url: absent: expected the batch's endpoint";
        one(r#"{"custom_id":"a","method":"POST"}"#, "missing_required_parameter", missing);
        let message = "line 1: method: \"GET\": expected \"POST\"";
        one(&line("a", "{}").replace("POST", "GET"), "invalid_method", message);
        let message =
            "line 1: url: \"/v1/x\": expected \"/v1/chat/completions\", the batch's endpoint";
        one(&line("a", "{}").replace(Endpoint::Chat.path(), "/v1/x"), "url_mismatch", message);
        let message = "line 1: custom_id: \"\": expected a string of 1 to 512 bytes";
        one(&line("", "{}"), "invalid_custom_id", message);
        one(&line("a", "[1,2]"), "invalid_body", "line 1: body: expected a JSON object");
        let stream =
            "line 1: body.stream: true: the answer to a line is one JSON object; leave it out";
        one(&line("a", r#"{"stream":true}"#), "unsupported_parameter", stream);
        let background =
            "line 1: body.background: true: the answer to a line is one JSON object; leave it out";
        one(&line("a", r#"{"background":true}"#), "unsupported_parameter", background);
        let message = "line 1: more: expected \"custom_id\", \"method\", \"url\" and \"body\" only";
        one(
            &line("a", "{}").replace("\"method\"", "\"more\":1,\"method\""),
            "unknown_parameter",
            message,
        );
        one(&line("a", r#"{"model":"no"}"#), "not_found", "line 1: body.model: no such model");
        let long = "x".repeat(200);
        let message = "line 1: longer than 200 bytes, expected at most that";
        one(&format!("{}\n{}", line(&long, "{}"), line("b", "{}")), "line_too_long", message);
        let duplicate = "line 2: custom_id: \"a\": an earlier line has it too";
        let mismatch = "line 3: body.model: none: expected \"m\", as before";
        let model = r#"{"model":"m"}"#;
        check_all(
            &[line("a", model), line("a", model), line("b", "{}")].join("\n"),
            Err(&[
                ("duplicate_custom_id", Some(2), duplicate),
                ("model_mismatch", Some(3), mismatch),
            ]),
        );
        let text = "not JSON";
        let lines = Lines::new(text.as_bytes(), 200);
        let found = check(lines, Endpoint::Chat, |_| Ok(())).unwrap().unwrap_err();
        assert_eq!((&*found[0].code, found[0].line), ("invalid_json_line", Some(1)));
    }

    #[test]
    fn lines_and_problems_are_bounded() {
        let bad = "x\n".repeat(1000);
        let found = check(Lines::new(bad.as_bytes(), 200), Endpoint::Chat, |_| Ok(())).unwrap();
        assert_eq!(found.unwrap_err().len(), N_PROBLEMS);
        let n_lines = usize::try_from(N_REQUESTS).unwrap() + 1;
        let many: String = (0..n_lines).map(|n| line(&n.to_string(), "{}") + "\n").collect();
        let found = check(Lines::new(many.as_bytes(), 200), Endpoint::Chat, |_| Ok(())).unwrap();
        assert_eq!(found.unwrap_err()[0].code, "too_many_tasks");
    }
}
