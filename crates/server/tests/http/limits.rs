//! The owner's limits over real connections with the real default model: what does not fit is
//! refused, waits or goes to another model, and what was taken is written down once.

use super::client::{Connection, Response, post, post_head, request};
use super::{MODEL, Running, engine, only_model, run, vectors};
use engine::{EngineOptions, FleetModel, Keep, Task};
use freehold_server::receipts::{Receipts, SignedReceipt, compare};
use freehold_server::usage::Renting;
use freehold_server::{Config, Costs, Elsewhere, InProcess, Model, Priced};
use ledger::{Ledger, Limit, NodeKey, Per, Then, Usage, What};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Another name of the same weights.
const SMALL: &str = "small";
const EMBEDDER: &str = "minilm-l6-v2";

/// A server with a ledger of its own, and a hand on that ledger.
struct Site {
    runtime: tokio::runtime::Runtime,
    ledger: Ledger,
    server: Running,
    _folder: tempfile::TempDir,
}

impl Site {
    fn start() -> Self {
        Self::with_prices(None)
    }

    fn with_prices(prices: Option<Arc<dyn Costs>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let key = NodeKey::load_or_create(&folder.path().join("node.key")).unwrap();
        let place = folder.path().join("ledger.sqlite").display().to_string();
        let ledger = runtime.block_on(Ledger::open(&place, key.clone())).unwrap();
        let (fleet, model) = only_model(engine(), "");
        let open = Arc::new(move |_: &EngineOptions| Ok(engine().into()));
        let (options, keep) = (EngineOptions::default(), Keep::Pinned);
        fleet.set(SMALL, FleetModel { open, options: options.clone(), keep });
        fleet.set(EMBEDDER, FleetModel::file(testkit::minilm_f16(), options, keep));
        let named =
            |name: &str, task| Model { name: name.to_owned(), task, digest: None, lock: None };
        let models = vec![
            Model { digest: None, ..model },
            named(SMALL, Task::Generate),
            named(EMBEDDER, Task::Embed),
        ];
        let receipts = Some(Receipts::new(ledger.clone(), key));
        let elsewhere = Elsewhere { prices, ..Elsewhere::default() };
        let server = run(Config { receipts, elsewhere, ..Config::new(fleet, models) });
        Self { runtime, ledger, server, _folder: folder }
    }

    fn limit(&self, subject: &str, what: What, amount: u64, then: &str) {
        let per = (what != What::Concurrent).then_some(Per::Month);
        let limit = Limit::new(subject, what, amount, per).unwrap();
        let limit = Limit { then: Then::read(then).unwrap(), ..limit };
        self.runtime.block_on(self.ledger.set_limit(limit, "owner")).unwrap();
    }

    fn ask(&self, path: &str, body: &Value) -> Response {
        post(self.server.address, path, body)
    }

    fn chat(&self, max_tokens: u32) -> Response {
        self.ask("/v1/chat/completions", &chat(json!({"max_tokens": max_tokens})))
    }

    /// What requests took, once nothing is at work any more.
    fn rows(&self) -> Vec<Usage> {
        self.runtime.block_on(async {
            let begun = Instant::now();
            while self.ledger.standings().await.unwrap().iter().any(|of| of.reserved > 0) {
                assert!(begun.elapsed() < Duration::from_secs(60), "something stays at work");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.ledger.flush().await.unwrap();
            let reader = self.ledger.reader();
            let now_us = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros());
            assert_eq!(reader.check_counters(now_us.unwrap()).await.unwrap(), None);
            let rows = reader.usage_rows(0, 1000).await.unwrap();
            rows.into_iter().map(|row| row.usage).collect()
        })
    }
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "Count from one to a hundred."}],
        "temperature": 0,
        "ignore_eos": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn what_does_not_fit_is_refused_in_each_family_and_told_when_to_come_again() {
    let site = Site::start();
    let free = site.chat(4);
    assert!(!free.headers.keys().any(|name| name.contains("ratelimit")), "{:?}", free.headers);
    let n_prompt = free.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    let n_each = n_prompt + 4;
    // One was taken before, and one more fits.
    site.limit("all", What::Tokens, 2 * n_each + 1, "refuse");
    site.limit("all", What::Requests, 100, "refuse");
    let second = site.chat(4);
    assert_eq!(second.status, 200, "{}", second.body);
    let left = |response: &Response, name: &str| response.headers[name].parse::<u64>().unwrap();
    assert_eq!(left(&second, "x-ratelimit-limit-tokens"), 2 * n_each + 1);
    assert_eq!(left(&second, "x-ratelimit-remaining-tokens"), 1);
    assert_eq!(left(&second, "x-ratelimit-remaining-requests"), 98);
    let third = site.chat(4);
    assert_eq!(third.status, 429, "{}", third.body);
    let error = &third.json()["error"];
    assert_eq!(
        (&error["type"], &error["code"]),
        (&json!("rate_limit_error"), &json!("rate_limit_exceeded"))
    );
    let message = error["message"].as_str().unwrap();
    let expected =
        format!("limit \"all tokens/month\": of {} {} are used", 2 * n_each + 1, 2 * n_each);
    assert!(message.starts_with(&expected) && message.contains("it is renewed at"), "{message}");
    assert!(left(&third, "retry-after") > 0);
    assert_eq!(left(&third, "x-ratelimit-remaining-tokens"), 1);
    let body = json!({"model": MODEL, "max_tokens": 4, "messages": chat(json!({}))["messages"]});
    let anthropic = site.ask("/v1/messages", &body);
    assert_eq!(anthropic.status, 429, "{}", anthropic.body);
    assert_eq!(anthropic.json()["error"]["type"], "rate_limit_error");
    assert_eq!(left(&anthropic, "anthropic-ratelimit-tokens-remaining"), 1);
    assert!(anthropic.headers["anthropic-ratelimit-tokens-reset"].ends_with("01T00:00:00Z"));
    let ollama = site.ask("/api/chat", &json!({"model": MODEL, "messages": body["messages"]}));
    assert_eq!(ollama.status, 503, "{}", ollama.body);
    // Never so much.
    let never = site.chat(400);
    assert_eq!((never.status, &*never.headers["x-should-retry"]), (429, "false"));
    assert!(!never.headers.contains_key("retry-after"));
    let rows = site.rows();
    let found: Vec<_> =
        rows.iter().map(|row| (row.n_prompt, row.n_answer, &*row.outcome)).collect();
    assert_eq!(found, [(n_prompt, 4, "done"); 2]);
    assert!(
        rows.iter().all(|row| row.receipt.starts_with("chatcmpl-") && row.total_us > row.first_us)
    );
}

#[test]
fn however_an_answer_ends_it_counts_what_it_took() {
    let site = Site::start();
    site.limit("all", What::Tokens, 100_000, "refuse");
    // One that goes away in the middle.
    let body = chat(json!({"stream": true, "max_tokens": 400}));
    let head = post_head("/v1/chat/completions");
    let mut stream = Connection::send(site.server.address, &head, body.to_string().as_bytes());
    while !stream.line().contains("content") {}
    drop(stream);
    let rows = site.rows();
    assert_eq!((rows.len(), &*rows[0].outcome), (1, "disconnected"));
    assert!(rows[0].n_answer < 400, "{rows:?}");
    // One that is read to its end, and one with several answers.
    let whole = site.ask("/v1/chat/completions", &chat(json!({"stream": true, "max_tokens": 5})));
    assert_eq!(whole.status, 200);
    let several = site.ask("/v1/chat/completions", &chat(json!({"n": 3, "max_tokens": 2})));
    assert_eq!(several.status, 200);
    // What is refused before it begins took nothing.
    assert_eq!(site.ask("/v1/chat/completions", &chat(json!({"max_tokens": "x"}))).status, 400);
    assert_eq!(
        site.ask("/v1/chat/completions", &chat(json!({"logit_bias": {"9999999": 1}}))).status,
        400
    );
    let vectors = site.ask("/v1/embeddings", &json!({"model": EMBEDDER, "input": ["a b", "c"]}));
    assert_eq!(vectors.status, 200, "{}", vectors.body);
    let n_text = vectors.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    let tokens = site.ask("/tokenize", &json!({"model": MODEL, "content": "Hi"}));
    assert_eq!(tokens.status, 200, "{}", tokens.body);
    let rows = site.rows();
    let found: Vec<_> = rows[1..].iter().map(|row| (&*row.route, row.n_answer)).collect();
    let chat = "/v1/chat/completions";
    assert_eq!(found, [(chat, 5), (chat, 6), ("/v1/embeddings", 0), ("/tokenize", 0)]);
    assert_eq!((rows[3].n_prompt, &*rows[3].model), (n_text, EMBEDDER));
    assert_eq!((rows[4].n_prompt, &*rows[4].key), (0, "owner"));
    let metrics = request(site.server.address, "GET /metrics", b"").body;
    let used = rows.iter().map(|row| row.n_prompt + row.n_answer).sum::<u64>();
    let line = format!("freehold_limit_used{{limit=\"all tokens/month\"}} {used}\n");
    assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
}

#[test]
fn what_may_wait_is_answered_one_after_the_other() {
    let site = Site::start();
    site.limit("all", What::Concurrent, 1, "queue");
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| site.chat(8))).collect();
        for asked in asking {
            let response = asked.join().unwrap();
            assert_eq!(response.status, 200, "{}", response.body);
        }
    });
    let mut rows = site.rows();
    rows.sort_by_key(|row| row.at_us);
    // None was taken before the one before it had ended, or nearly so: the end is written behind.
    assert_eq!(rows.len(), 4);
    // Who has less time than that is refused at once.
    site.limit("all", What::Requests, 4, "queue");
    let head = format!("{}\nX-Freehold-Deadline-Ms: 5000", post_head("/v1/chat/completions"));
    let body = chat(json!({"max_tokens": 1})).to_string();
    let late = request(site.server.address, &head, body.as_bytes());
    assert_eq!(late.status, 429, "{}", late.body);
    let metrics = request(site.server.address, "GET /metrics", b"").body;
    let queued = "freehold_limit_reached_total{limit=\"all concurrent\",outcome=\"queued\"}";
    assert!(metrics.contains(queued), "{metrics}");
}

#[test]
fn another_model_answers_beyond_a_limit_and_the_receipt_says_so() {
    let site = Site::start();
    site.limit(&format!("model:{MODEL}"), What::Requests, 1, &format!("alias:{SMALL}"));
    let first = site.chat(3);
    assert_eq!(first.json()["model"], MODEL);
    assert!(!first.headers.contains_key("x-freehold-adapted"));
    let second = site.chat(3);
    assert_eq!((second.status, &second.json()["model"]), (200, &json!(SMALL)), "{}", second.body);
    assert_eq!(second.headers["x-freehold-adapted"], "limited-model");
    check_again(&site, &second, &chat(json!({"max_tokens": 3})));
    // And where that has a limit too, there is none.
    site.limit(&format!("model:{SMALL}"), What::Requests, 1, "refuse");
    let third = site.chat(3);
    assert_eq!(third.status, 429, "{}", third.body);
    assert!(third.body.contains("model:small requests/month"), "{}", third.body);
    let rows = site.rows();
    let models: Vec<_> = rows.iter().map(|row| (&*row.alias, &*row.model)).collect();
    assert_eq!(models, [("", MODEL), (MODEL, SMALL)]);
}

#[test]
fn an_answer_is_cut_to_what_is_left_where_it_may_be_any_length() {
    let site = Site::start();
    site.limit("all", What::TokensOut, 300, "refuse");
    let long = site.ask("/v1/chat/completions", &chat(json!({})));
    assert_eq!(long.status, 200, "{}", long.body);
    assert_eq!(long.headers["x-freehold-adapted"], "limited-length");
    assert_eq!(long.json()["usage"]["completion_tokens"], 300);
    assert_eq!(long.json()["choices"][0]["finish_reason"], "length");
    check_again(&site, &long, &chat(json!({})));
    let none = site.ask("/v1/chat/completions", &chat(json!({})));
    assert_eq!(none.status, 429, "{}", none.body);
    assert_eq!(site.rows().len(), 1);
}

/// The same request once more, without any limits, gives the same receipt.
fn check_again(site: &Site, response: &Response, body: &Value) {
    let id = &response.headers["x-freehold-receipt"];
    let head = format!("GET /v1/receipts/{id}\nAuthorization: Bearer any-key");
    let receipt = SignedReceipt::read(&request(site.server.address, &head, b"").body).unwrap();
    let (fleet, model) = only_model(engine(), "");
    let alias = freehold_server::Alias { name: "*".to_owned(), model: MODEL.to_owned() };
    let models = vec![Model { digest: None, ..model }];
    let config = Config { aliases: vec![alias], ..Config::new(fleet, models) };
    let server = InProcess::new(config).unwrap();
    let again = server.again(&receipt.receipt, body.to_string().into_bytes());
    let again = site.runtime.block_on(again).unwrap();
    assert_eq!(compare(&receipt.receipt, &again), []);
}

#[test]
fn the_owner_sets_limits_over_http() {
    let site = Site::start();
    let address = site.server.address;
    let admin = |head: &str, body: &str| request(address, head, body.as_bytes());
    let set = |body: &str| admin("POST /admin/limits\nContent-Type: application/json", body);
    let body = r#"{"subject":"key:owner","what":"tokens","amount":50,"per":"day","then":"queue"}"#;
    let made = set(body);
    assert_eq!((made.status, &made.json()["replaced"]), (200, &json!(false)), "{}", made.body);
    assert_eq!(set(body).json()["replaced"], true);
    let listed = admin("GET /admin/limits", "").json();
    let found = &listed["limits"][0];
    assert_eq!((&found["id"], &found["left"]), (&json!("key:owner tokens/day"), &json!(50)));
    let wrong = set(r#"{"subject":"key:owner","what":"tokens","amount":50}"#);
    assert_eq!((wrong.status, &wrong.json()["error"]["param"]), (400, &json!("per")));
    let rows = admin("GET /admin/usage/rows", "").json();
    assert_eq!(rows, json!({"rows": [], "next": 0}));
    assert_eq!(site.chat(1).status, 200);
    let rows = admin("GET /admin/usage/rows?after=0&limit=5", "").json();
    assert_eq!(rows["rows"][0]["outcome"], "done", "{rows}");
    let remove = "DELETE /admin/limits/key:owner%20tokens/day";
    assert_eq!(admin(remove, "").status, 200);
    assert_eq!(admin(remove, "").status, 404);
    // Others may not.
    let others = "GET /admin/limits\nForwarded: for=10.0.0.1";
    assert_eq!(admin(others, "").status, 401);
    // A server without a ledger counts nothing.
    let none = post(vectors::address(), "/admin/limits", &json!({}));
    assert_eq!(none.status, 501, "{}", none.body);
}

/// Two for a token of a prompt, eight for one of an answer, in millionths.
const PRICES: &str = r#"
    [[price]]
    vendor = "v"
    model = "a b"
    in = 2
    out = 8
    currency = "EUR"
    since = 2020-01-01

    [own]
    currency = "EUR"
    hardware = 100.00
    since = 2026-01-01
    years = 50
    energy = 0.30
    watts-idle = 10
    watts-busy = 100
"#;

/// Prices of what could be rented, none of which is an upstream here.
struct Listed(Arc<Renting>);

impl Costs for Listed {
    fn cost(&self, _of: &Priced<'_>, _at_us: i64) -> Option<(i64, String)> {
        None
    }

    fn renting(&self) -> Option<Arc<Renting>> {
        Some(Arc::clone(&self.0))
    }
}

#[test]
fn renting_is_compared_with_owning_where_there_are_prices() {
    let renting = Renting::new(meter::Prices::parse("p", PRICES).unwrap()).unwrap();
    let site = Site::with_prices(Some(Arc::new(Listed(Arc::new(renting)))));
    let usage = |site: &Site, query: &str| {
        request(site.server.address, &format!("GET /admin/usage?{query}"), b"")
    };
    let n_prompt = site.chat(4).json()["usage"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(site.rows().len(), 1);
    let rent = 2 * n_prompt + 8 * 4;
    let all = usage(&site, "rent=all").json();
    let [found] = &**all["compared"].as_array().unwrap() else { panic!("{all}") };
    assert_eq!((&found["rented"], &found["rent_micro"]), (&json!("v/a b"), &json!(rent)));
    assert!(found.get("days").is_none() && all["rows"][0]["n_requests"] == 1, "{all}");
    let one = usage(&site, "rent=v%2Fa%20b").json();
    let last = one["compared"][0]["days"].as_array().unwrap().last().unwrap();
    assert_eq!(last["rent_sum_micro"], rent);
    for (query, param) in
        [("rent=v/x", "rent"), ("rent=v", "rent"), ("rent=all&format=csv", "format")]
    {
        let bad = usage(&site, query);
        assert_eq!((bad.status, &bad.json()["error"]["param"]), (400, &json!(param)), "{query}");
    }
    // Nobody asked, and without prices nobody can be told.
    assert!(usage(&site, "").json().get("compared").is_none());
    let site = Site::start();
    assert_eq!(usage(&site, "rent=all").json()["compared"], json!(null));
    let none = usage(&site, "rent=v/x");
    assert_eq!((none.status, &none.json()["error"]["param"]), (400, &json!("rent")));
    assert!(none.body.contains("--prices"), "{}", none.body);
}
