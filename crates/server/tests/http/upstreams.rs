//! Requests that other servers answer: a second Freehold, and servers that behave as vendors do
//! when something is wrong. The broker is the real one, over real sockets.

mod counted;
mod failing;
mod private;
mod redacted;
mod scripted;
mod second;
mod unfit;

use super::client::{Response, request};
use super::receipts::Books;
use super::{MODEL, Running, engine, only_model, run};
use broker::{Departure, Departures, Later, Setup, Started, Upstream as Reached, UpstreamKind};
use freehold_server::access::{Defaults, Plan, Scopes};
use freehold_server::{Alias, Config, Elsewhere, Limits, Upstream};
use ledger::{Act, Kind, Ledger};
use policy::{Label, Rules};
use serde_json::{Value, json};
use std::sync::Arc;

/// Where the broker looks for departures.
struct Own(Ledger);

impl Departures for Own {
    fn find<'a>(&'a self, id: &'a str) -> Later<'a, Result<Option<Departure>, String>> {
        Box::pin(async move {
            let found =
                self.0.find(Kind::Departure, id).await.map_err(|error| error.to_string())?;
            Ok(found.map(|found| Departure { seq: found.seq, body: found.entry.body }))
        })
    }
}

/// A server with rules, a ledger, a broker and keys.
struct House {
    running: Running,
    books: Books,
    folder: tempfile::TempDir,
    /// The secrets of keys, by their names.
    keys: Vec<(String, String)>,
}

/// The name of the upstream.
const VENDOR: &str = "vendor";

/// A rule that sends what is public or internal.
fn rule(outcome: &str, more: &str) -> String {
    format!(
        "upstreams = [\"{VENDOR}\"]\n[[rule]]\nname = \"out\"\nlabel = [\"public\", \"internal\"]\n\
         outcome = \"{outcome}\"\nupstream = \"{VENDOR}\"\n{more}\n"
    )
}

impl House {
    /// One whose upstream is at `url`. It has keys `public`, `internal`, `private` and `owner`.
    fn open(kind: UpstreamKind, url: &str, rules: &str) -> Self {
        Self::open_with(kind, url, rules, |_| {})
    }

    fn open_with(
        kind: UpstreamKind,
        url: &str,
        rules: &str,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let books = Books::open(folder.path());
        let ledger = books.receipts.ledger().clone();
        let reached = Reached {
            retries: 0,
            failures_to_open: 1000,
            ..Reached::new(VENDOR, kind, vec![url.to_owned()])
        };
        let setup = Setup { upstreams: vec![reached], ledger: String::new() };
        let started = Started::thread(&setup, Arc::new(Own(ledger.clone()))).unwrap();
        let (broker, _ending) = books.runtime.block_on(async { started.attach().unwrap() });
        let labels = Label::NAMES.iter().map(|(name, label)| (*name, *label, false));
        let mut keys = Vec::new();
        for (name, label, admin) in labels.chain([("owner", Label::Private, true)]) {
            let plan = Plan {
                name: name.to_owned(),
                scopes: Scopes { admin, labels: Label::Public, ..Scopes::default() },
                defaults: Defaults { label, ..Defaults::default() },
                ..Plan::default()
            };
            plan.check(0).unwrap();
            let (key, secret) = plan.draw(0).unwrap();
            let act = ledger.act(Act::CreateKey(Box::new(key)), "test");
            books.runtime.block_on(act).unwrap();
            keys.push((name.to_owned(), secret.shown().to_owned()));
        }
        let (fleet, model) = only_model(engine(), "");
        let mut config = Config::new(fleet, vec![model]);
        config.limits = Limits { keep_responses: None, ..Limits::default() };
        config.receipts = Some(books.receipts.clone());
        config.broker = Some(broker);
        config.elsewhere = Elsewhere {
            rules: Rules::parse("policy.toml", rules).unwrap(),
            upstreams: vec![Upstream {
                name: VENDOR.to_owned(),
                kind,
                model: Some(MODEL.to_owned()),
            }],
            prices: Some(Arc::new(Price)),
        };
        config.aliases =
            vec![Alias { name: "large".to_owned(), model: format!("{VENDOR}/{MODEL}") }];
        config.elsewhere.check().unwrap();
        change(&mut config);
        Self { running: run(config), books, folder, keys }
    }

    fn key(&self, name: &str) -> &str {
        &self.keys.iter().find(|(of, _)| of == name).unwrap().1
    }

    /// Asks with the key of this name, and further headers.
    fn ask(&self, path: &str, key: &str, more: &str, body: &Value) -> Response {
        let key = self.key(key);
        let head = format!(
            "POST {path}\nContent-Type: application/json\nAuthorization: Bearer {key}{more}"
        );
        request(self.running.address, &head, body.to_string().as_bytes())
    }

    fn get(&self, path: &str, key: &str) -> Value {
        let head = format!("GET {path}\nAuthorization: Bearer {}", self.key(key));
        let response = request(self.running.address, &head, b"");
        assert_eq!(response.status, 200, "{path}: {}", response.body);
        response.json()
    }

    /// A chat of a public key.
    fn chat(&self, more: Value) -> Response {
        self.ask("/v1/chat/completions", "public", "", &chat_body(more))
    }

    /// The departures, newest first.
    fn departures(&self) -> Vec<Value> {
        self.get("/admin/departures", "owner")["departures"].as_array().unwrap().clone()
    }
}

/// So much for a token of a prompt, and ten times for one of an answer.
struct Price;

impl freehold_server::Costs for Price {
    fn cost(&self, of: &freehold_server::Priced<'_>, _at_us: i64) -> Option<(i64, String)> {
        let n = of.n_prompt + 10 * of.n_answer;
        (of.upstream == VENDOR).then(|| (n as i64, "EUR".to_owned()))
    }
}

fn chat_body(more: Value) -> Value {
    let mut body = json!({
        "model": "any",
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "temperature": 0,
        "max_tokens": 12,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The text of a chat's answer, however it came; what broke a stream off stands behind it.
fn text(response: &Response) -> String {
    if !response.headers["content-type"].starts_with("text/event-stream") {
        let message = &response.json()["choices"][0]["message"];
        return message["content"].as_str().unwrap_or_default().to_owned();
    }
    let events = response.events();
    let chunk = |event: &&str| {
        let event: Value = serde_json::from_str(event).unwrap();
        let content = event["choices"][0]["delta"]["content"].as_str().map(str::to_owned);
        let error = event["error"]["message"].as_str().map(|error| format!("[{error}]"));
        content.or(error).unwrap_or_default()
    };
    events.iter().filter(|event| **event != "[DONE]").map(chunk).collect()
}
