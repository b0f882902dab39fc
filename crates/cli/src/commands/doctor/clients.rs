//! `freehold doctor clients`: talks to a running server as the clients do that people have, and
//! says which of them would work.

use serde_json::{Value, json};

use super::habits::{CLIENTS, Client, Setup, Shape, Step};
use super::http::{self, Response};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::terminal::{self, Colour, paint};

/// Longest part of a refusal that is shown, in characters.
const N_REASON_CHARS: usize = 200;

/// Talk to a running server as common clients do, and say which of them would work
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold doctor clients
  freehold doctor clients --url http://127.0.0.1:8000 --model smollm2-135m
  freehold doctor clients --json")]
pub(crate) struct Clients {
    /// Address of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:11500")]
    url: String,
    /// Model to ask for (default: the first that writes text)
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,
    /// Key to send
    #[arg(long, value_name = "KEY", default_value = "none")]
    key: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Subcommand for Clients {
    fn run(self, _context: &Context) -> anyhow::Result<()> {
        let setup = self.setup()?;
        let mut reports = Vec::new();
        for client in CLIENTS {
            let report = Report::of(client, &setup);
            if !self.json {
                terminal::print(&report.to_text(&setup))?;
            }
            reports.push(report);
        }
        let n_works = reports.iter().filter(|report| report.works()).count();
        if self.json {
            let reports: Vec<Value> = reports.iter().map(|report| report.to_json(&setup)).collect();
            terminal::print_json(&json!({"server": setup.base, "clients": reports}))?;
        } else {
            terminal::print(&format!("{n_works} of {} would work\n", reports.len()))?;
        }
        if n_works < reports.len() {
            let message = "some clients would not work with this server as it is";
            return Err(Failure::new(Exit::Failed, message.to_owned()).into());
        }
        Ok(())
    }
}

impl Clients {
    /// Looks which models there are.
    fn setup(&self) -> anyhow::Result<Setup> {
        let rest = self.url.strip_prefix("http://").ok_or_else(|| {
            let message = format!("--url {}: expected http://HOST:PORT", self.url);
            Failure::new(Exit::Usage, message)
        })?;
        let host = rest.trim_end_matches('/').to_owned();
        let bearer = format!("Bearer {}", self.key);
        let headers = [("Authorization", bearer.as_str())];
        let response = http::ask(&host, "GET", "/v1/models", &headers, "")?;
        let list = Step { shape: Shape::Json(&["/data"]), ..Step::get("list", "/v1/models", &[]) };
        if let Err(why) = judge(&list, &response) {
            return Err(Failure::new(Exit::Failed, format!("{}: {why}", self.url)).into());
        }
        let body: Value = serde_json::from_str(&response.body).unwrap_or_default();
        let cards = body["data"].as_array().cloned().unwrap_or_default();
        let names = |does: fn(&Value) -> bool| {
            let names = cards.iter().filter(move |card| does(card)).map(|card| &card["id"]);
            names.filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        // A closed model does not say what it does; its first use will.
        let embeds = |card: &Value| card["meta"]["n_embd"].is_u64();
        let embedder = names(embeds).into_iter().next();
        let model = self
            .model
            .clone()
            .or_else(|| cards.iter().find(|card| !embeds(card))?["id"].as_str().map(str::to_owned));
        let model = model.ok_or_else(|| {
            let message = format!("{}: serves no model that writes text", self.url);
            Failure::new(Exit::Failed, message)
        })?;
        Ok(Setup { base: format!("http://{host}"), host, key: self.key.clone(), model, embedder })
    }
}

/// What came of one client.
struct Report {
    client: &'static Client,
    steps: Vec<(Step, Outcome)>,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Works,
    /// It was not tried, for this reason.
    Skipped(&'static str),
    Fails(String),
}

impl Report {
    fn of(client: &'static Client, setup: &Setup) -> Self {
        let tried = |step: Step| {
            let outcome = try_step(&step, setup);
            (step, outcome)
        };
        Self { client, steps: (client.steps)(setup).into_iter().map(tried).collect() }
    }

    fn works(&self) -> bool {
        self.steps.iter().all(|(_, outcome)| !matches!(outcome, Outcome::Fails(_)))
    }

    fn to_text(&self, setup: &Setup) -> String {
        let stdout = std::io::stdout();
        let verdict = match self.works() {
            true => paint("works", Colour::Green, &stdout),
            false => paint("would not work", Colour::Red, &stdout),
        };
        let mut text = format!("{}: {verdict}\n", self.client.name);
        for (step, outcome) in &self.steps {
            match outcome {
                Outcome::Works => {}
                Outcome::Skipped(why) => {
                    text.push_str(&format!("  {}: not tried, {why}\n", step.does))
                }
                Outcome::Fails(why) => {
                    text.push_str(&format!("  {}: {why}\n", step.does));
                    if let Some(setting) = &step.setting {
                        text.push_str(&format!("    with this it would: {setting}\n"));
                    }
                }
            }
        }
        for line in (self.client.paste)(setup).lines() {
            text.push_str(&format!("    {line}\n"));
        }
        text
    }

    fn to_json(&self, setup: &Setup) -> Value {
        let step = |(step, outcome): &(Step, Outcome)| {
            let (result, why) = match outcome {
                Outcome::Works => ("works", None),
                Outcome::Skipped(why) => ("skipped", Some((*why).to_owned())),
                Outcome::Fails(why) => ("fails", Some(why.clone())),
            };
            json!({"does": step.does, "result": result, "why": why, "setting": step.setting})
        };
        json!({
            "name": self.client.name,
            "works": self.works(),
            "steps": self.steps.iter().map(step).collect::<Vec<_>>(),
            "paste": (self.client.paste)(setup),
        })
    }
}

fn try_step(step: &Step, setup: &Setup) -> Outcome {
    if step.needs_embedder && setup.embedder.is_none() {
        return Outcome::Skipped("no model here is known to make embeddings");
    }
    let headers: Vec<(&str, &str)> =
        step.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let body = step.body.as_ref().map(Value::to_string).unwrap_or_default();
    match http::ask(&setup.host, step.method, &step.path, &headers, &body) {
        Err(error) => Outcome::Fails(format!("{error:#}")),
        Ok(response) => match judge(step, &response) {
            Ok(()) => Outcome::Works,
            Err(why) => Outcome::Fails(why),
        },
    }
}

/// What of a response is not as the client needs it.
fn judge(step: &Step, response: &Response) -> Result<(), String> {
    if !(200..300).contains(&response.status) {
        let reason: String = message(&response.body).chars().take(N_REASON_CHARS).collect();
        return Err(format!("{} {}: {} {reason}", step.method, step.path, response.status));
    }
    let of_type = |expected: &str| match response.content_type.starts_with(expected) {
        true => Ok(()),
        false => Err(format!("content type {:?}, expected {expected}", response.content_type)),
    };
    let has = |value: &Value, pointer: &str| match value.pointer(pointer) {
        Some(found) if !found.is_null() => Ok(()),
        _ => Err(format!("{} {}: the answer has no {pointer}", step.method, step.path)),
    };
    match &step.shape {
        Shape::Any => Ok(()),
        Shape::Json(pointers) => {
            of_type("application/json")?;
            let value: Value = serde_json::from_str(&response.body).map_err(|e| e.to_string())?;
            pointers.iter().try_for_each(|pointer| has(&value, pointer))
        }
        Shape::Events { first, last } => {
            of_type("text/event-stream")?;
            let lines = || response.body.lines().filter(|line| line.starts_with("data:"));
            let is_like = |line: Option<&str>, part: &str| line.is_some_and(|l| l.contains(part));
            if let Some(error) = lines().find_map(failure) {
                return Err(format!("the stream breaks off: {error}"));
            }
            match (is_like(lines().next(), first), is_like(lines().next_back(), last)) {
                (true, true) => Ok(()),
                (false, _) => Err(format!("the stream does not begin with {first:?}")),
                (_, false) => Err(format!("the stream does not end with {last:?}")),
            }
        }
        Shape::Lines(pointers) => {
            of_type("application/x-ndjson")?;
            let last = response.body.lines().next_back().unwrap_or_default();
            let value: Value = serde_json::from_str(last).map_err(|e| e.to_string())?;
            pointers.iter().try_for_each(|pointer| has(&value, pointer))
        }
    }
}

/// What an event says that tells of an error: the client raises it.
fn failure(line: &str) -> Option<String> {
    let value: Value = serde_json::from_str(line.strip_prefix("data:")?.trim()).ok()?;
    let is_error = |value: &Value| value.get("error").is_some_and(|error| !error.is_null());
    let is_failure = is_error(&value) || value.get("response").is_some_and(is_error);
    is_failure.then(|| message(&value.to_string()).chars().take(N_REASON_CHARS).collect())
}

/// The message of an error in any family's shape.
fn message(body: &str) -> String {
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    let message = ["/error/message", "/response/error/message", "/error", "/message"];
    let found = message.iter().find_map(|pointer| value.pointer(pointer)?.as_str());
    found.unwrap_or(body).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        shape: Shape,
        status: u16,
        content_type: &str,
        body: &str,
        expected: Result<(), &str>,
    ) {
        let step = Step { shape, ..Step::post("asks", "/x", json!({})) };
        let (content_type, body) = (content_type.to_owned(), body.to_owned());
        let found = judge(&step, &Response { status, content_type, body: body.clone() });
        match (&found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(why), Err(part)) => assert!(why.contains(part), "{body}: {why}"),
            _ => panic!("{body}: {found:?}"),
        }
    }

    #[test]
    fn answers_are_held_to_what_the_client_reads() {
        let json = || Shape::Json(&["/a/0/b", "/c"]);
        check(json(), 200, "application/json", r#"{"a":[{"b":1}],"c":""}"#, Ok(()));
        check(json(), 200, "application/json", r#"{"a":[{"b":null}],"c":1}"#, Err("no /a/0/b"));
        check(json(), 200, "text/html", "<html>", Err("content type"));
        check(json(), 404, "application/json", r#"{"error":{"message":"none"}}"#, Err("404 none"));
        check(json(), 404, "application/json", r#"{"error":"none"}"#, Err("404 none"));
        check(json(), 502, "text/html", "<html>", Err("502 <html>"));
        let events = || Shape::Events { first: "role", last: "[DONE]" };
        let stream = "data: {\"role\":1}\n\n: ping\n\ndata: [DONE]\n\n";
        check(events(), 200, "text/event-stream", stream, Ok(()));
        let broken =
            "data: {\"role\":1}\n\ndata: {\"error\":{\"message\":\"x\"}}\n\ndata: [DONE]\n\n";
        check(events(), 200, "text/event-stream", broken, Err("breaks off: x"));
        check(events(), 200, "text/event-stream", "data: {\"role\":1}\n\n", Err("end with"));
        check(events(), 200, "text/event-stream", "data: [DONE]\n\n", Err("begin with"));
        let lines = || Shape::Lines(&["/done"]);
        check(lines(), 200, "application/x-ndjson", "{\"a\":1}\n{\"done\":true}\n", Ok(()));
        check(lines(), 200, "application/x-ndjson", "{\"a\":1}\n", Err("no /done"));
    }

    #[test]
    fn every_client_has_steps_and_lines_to_paste() {
        let setup = Setup {
            base: "http://host:1".into(),
            host: "host:1".into(),
            key: "sk".into(),
            model: "m".into(),
            embedder: Some("e".into()),
        };
        for client in CLIENTS {
            assert!(!(client.steps)(&setup).is_empty(), "{}", client.name);
            let paste = (client.paste)(&setup);
            assert!(paste.contains("host:1"), "{}: {paste}", client.name);
            for step in (client.steps)(&setup) {
                assert!(step.path.starts_with('/'), "{}", step.path);
            }
        }
    }
}
