//! Receipts over real connections with the real default model: whatever is asked, in whatever
//! company, the same request gives the same receipt again.

use super::client::{Connection, Response, post, post_head, request};
use super::shares::{self, NEW};
use super::{MODEL, Running, batches, only_model, reasoning, run};
use engine::{Engine, EngineOptions, Fleet};
use freehold_server::receipts::{Receipt, Receipts, SignedReceipt, compare};
use freehold_server::{Alias, Config, InProcess, Limits, Model, Share, Shares};
use ledger::{Kind, Ledger, NodeKey, Reader};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const HEADER: &str = "x-freehold-receipt";
/// Threads that ask.
const N_CLIENTS: u64 = 8;

/// A ledger, and the thread on which it writes.
pub(super) struct Books {
    pub(super) runtime: tokio::runtime::Runtime,
    pub(super) receipts: Receipts,
}

impl Books {
    pub(super) fn open(folder: &Path) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let key = NodeKey::load_or_create(&folder.join("node.key")).unwrap();
        let place = folder.join("ledger.sqlite").display().to_string();
        let ledger = runtime.block_on(Ledger::open(&place, key.clone())).unwrap();
        Self { runtime, receipts: Receipts::new(ledger, key) }
    }
}

fn engine_with(options: EngineOptions) -> Engine {
    let options = EngineOptions { n_ctx: Some(512), is_hashed: true, ..options };
    Engine::open(&testkit::smollm2(), &options).unwrap()
}

/// A server of `engine` that writes receipts to a ledger.
fn start(engine: Engine, books: &Books) -> Running {
    let (fleet, mut model) = only_model(engine, "");
    model.digest = None;
    let limits = Limits { keep_responses: None, ..Limits::default() };
    let receipts = Some(books.receipts.clone());
    run(Config { limits, receipts, ..Config::new(fleet, vec![model]) })
}

/// A server that most of these tests share.
fn address() -> SocketAddr {
    static SHARED: OnceLock<(tempfile::TempDir, Books, Running)> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let books = Books::open(folder.path());
        let running = start(super::engine(), &books);
        (folder, books, running)
    });
    shared.2.address
}

/// The id of a receipt that is there, for any key.
pub(super) fn one_kept() -> (SocketAddr, String) {
    let body = json!({"prompt": "One, two,", "max_tokens": 1});
    (address(), ask(address(), "/v1/completions", &body).headers[HEADER].clone())
}

fn ask(address: SocketAddr, path: &str, body: &Value) -> Response {
    let response = post(address, path, body);
    assert_eq!(response.status, 200, "{path} {body}: {}", response.body);
    response
}

fn get(address: SocketAddr, id: &str) -> Response {
    request(address, &format!("GET /v1/receipts/{id}\nAuthorization: Bearer any-key"), b"")
}

fn signed(address: SocketAddr, id: &str) -> SignedReceipt {
    let response = get(address, id);
    assert_eq!(response.status, 200, "{id}: {}", response.body);
    SignedReceipt::read(&response.body).unwrap()
}

/// A server in this process that asks again.
fn again_with(engine: Engine) -> InProcess {
    let (fleet, mut model) = only_model(engine, "");
    model.digest = None;
    let limits = Limits { keep_responses: Some(Duration::from_secs(60)), ..Limits::default() };
    InProcess::new(Config { limits, ..Config::new(fleet, vec![model]) }).unwrap()
}

/// Asks all of them at once, and holds the receipts together.
fn check_again(server: &InProcess, asked: &[(Value, Receipt)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for some in asked.chunks(N_CLIENTS as usize) {
            let again = some.iter().map(|(body, receipt)| {
                let body = body.to_string().into_bytes();
                async move { (body.clone(), receipt, server.again(receipt, body).await) }
            });
            let mut set = Vec::from_iter(again.map(Box::pin));
            for (body, receipt, again) in all(&mut set).await {
                let body = String::from_utf8(body).unwrap();
                let again = again.unwrap_or_else(|error| panic!("{error}: {body}"));
                let found = compare(receipt, &again);
                assert!(found.is_empty(), "{body}: {found:?}");
            }
        }
    });
}

/// The results of futures that are driven together.
async fn all<F: Future + Unpin>(futures: &mut [F]) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(output) = std::pin::Pin::new(future).poll(context)
            {
                *result = Some(output);
            }
        }
        match results.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(results.iter_mut().filter_map(Option::take).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % n
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

const TEXTS: [&str; 6] = [
    "What is the capital of France?",
    "Count: one, two, three,",
    "Write a haiku about rain.",
    "Say yes or no: is the sky blue?",
    "Größe, 你好, and an emoji 🦊: go on.",
    "Repeat: abc abc abc abc abc abc",
];

/// A request of any dialect: the route and the body.
fn random_request(dice: &mut Dice) -> (&'static str, Value) {
    let text = *dice.one(&TEXTS);
    let messages = json!([{"role": "user", "content": text}]);
    let n_tokens = 1 + dice.below(10);
    let temperature = *dice.one(&[0.0, 0.7, 1.3]);
    let stream = dice.below(2) == 0;
    let seed = 1000 + dice.below(1 << 40);
    let has_seed = dice.below(2) == 0;
    let route = *dice.one(&[
        "/v1/chat/completions",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/api/chat",
        "/api/generate",
    ]);
    let mut body = json!({"model": MODEL, "stream": stream});
    match route {
        "/v1/completions" => {
            body["prompt"] = match dice.below(3) {
                0 => json!([text, text]),
                1 => json!([[17, 18, 19], [20, 21]]),
                _ => json!(text),
            };
            body["max_tokens"] = n_tokens.into();
        }
        "/v1/responses" => {
            body["input"] = text.into();
            body["max_output_tokens"] = (n_tokens + 16).into();
        }
        "/v1/messages" => {
            body["messages"] = messages;
            body["max_tokens"] = n_tokens.into();
        }
        "/api/chat" => body["messages"] = messages,
        "/api/generate" => body["prompt"] = text.into(),
        _ => {
            body["messages"] = messages;
            body["max_tokens"] = n_tokens.into();
        }
    }
    if route.starts_with("/api/") {
        body["options"] = json!({"temperature": temperature, "num_predict": n_tokens});
        if has_seed {
            body["options"]["seed"] = seed.into();
        }
        return (route, body);
    }
    let hottest: f64 = if route == "/v1/messages" { 1.0 } else { 2.0 };
    body["temperature"] = hottest.min(temperature).into();
    if route.ends_with("completions") {
        if has_seed {
            body["seed"] = seed.into();
        }
        body["n"] = (1 + dice.below(3)).into();
        if dice.below(3) == 0 {
            body["stop"] = json!(["e", "\n\n"]);
        }
        if dice.below(4) == 0 {
            body["repetition_penalty"] = 1.2.into();
            body["logit_bias"] = json!({"17": -5});
        }
    }
    let tool = json!({"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"]});
    match (route, dice.below(5)) {
        ("/v1/chat/completions", 0) => {
            let function = json!({"name": "weather", "parameters": tool});
            body["tools"] = json!([{"type": "function", "function": function}]);
            body["tool_choice"] = json!(*dice.one(&["auto", "required"]));
            body["max_tokens"] = 40.into();
        }
        ("/v1/chat/completions", 1) => {
            let schema = json!({"name": "place", "schema": tool, "strict": true});
            body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
            body["max_tokens"] = 40.into();
        }
        ("/v1/messages", 0) => {
            body["tools"] = json!([{"name": "weather", "input_schema": tool}]);
            body["max_tokens"] = 40.into();
        }
        _ => {}
    }
    (route, body)
}

/// What many clients ask at once, with the receipts of the answers.
fn ask_many(address: SocketAddr, n_requests: u64) -> Vec<(Value, Receipt)> {
    let client = |client_idx: u64| {
        let mut dice = Dice(client_idx * 7919 + 1);
        let asked = (0..n_requests / N_CLIENTS).map(|_| {
            let (route, body) = random_request(&mut dice);
            let response = ask(address, route, &body);
            let id = response.headers[HEADER].clone();
            if !response.body.contains(&id) {
                assert!(route.starts_with("/api/"), "{route}: {id}: {}", response.body);
            }
            let receipt = signed(address, &id).receipt;
            assert_eq!((&*receipt.id, &*receipt.request.route), (&*id, route));
            (body, receipt)
        });
        asked.collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..N_CLIENTS).map(|client_idx| scope.spawn(move || client(client_idx))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

#[test]
fn random_requests_are_bit_equal_again_with_other_threads() {
    let asked = ask_many(address(), 24);
    let choices = asked.iter().flat_map(|(_, receipt)| &receipt.choices);
    assert!(choices.map(|choice| choice.n_tokens).sum::<u64>() > 100);
    let options = EngineOptions { n_threads: Some(3), max_sequences: 5, ..Default::default() };
    check_again(&again_with(engine_with(options)), &asked);
    let isa = Some(kernels::Isa::Portable);
    let options = EngineOptions { n_threads: Some(1), isa, ..Default::default() };
    check_again(&again_with(engine_with(options)), &asked[..4]);
}

/// Two hundred, all of them on the portable path, by another process's ledger after a restart.
#[test]
#[ignore = "minutes of computing without vector instructions"]
fn slow_two_hundred_receipts_hold_after_a_restart_and_on_the_portable_path() {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let mut running = start(engine_with(EngineOptions::default()), &books);
    let asked = ask_many(running.address, 200);
    drop(running.shutdown.take());
    running.thread.join().unwrap();
    books.runtime.block_on(books.receipts.close()).unwrap();
    drop(books);

    let books = Books::open(folder.path());
    let options = EngineOptions { n_threads: Some(1), ..EngineOptions::default() };
    let running = start(engine_with(options), &books);
    for (_, receipt) in &asked {
        assert_eq!(signed(running.address, &receipt.id).receipt, *receipt);
    }
    for (n_threads, isa) in [(1, None), (3, None), (2, Some(kernels::Isa::Portable))] {
        let options = EngineOptions { n_threads: Some(n_threads), isa, ..EngineOptions::default() };
        check_again(&again_with(engine_with(options)), &asked);
    }
}

#[test]
fn a_receipt_says_what_was_asked_and_no_contents() {
    let body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "unmistakable", "name": "ann"}],
        "stop": ["unmistakable stop"],
        "max_tokens": 3,
        "temperature": 0.5,
    });
    let response = ask(address(), "/v1/chat/completions", &body);
    let id = response.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(response.headers[HEADER], id);
    let text = get(address(), &id).body;
    assert!(!text.contains("unmistakable") && !text.contains("ann\""), "{text}");
    let receipt = signed(address(), &id).receipt;
    assert_eq!((receipt.parameters.temperature, receipt.parameters.max_tokens), (0.5, Some(3)));
    assert_eq!((receipt.parameters.top_p, receipt.engine.n_ctx), (0.95, 512));
    assert!(receipt.parameters.lists.is_some() && !receipt.parameters.is_constrained);
    assert_eq!(receipt.unused, "messages[0].name");
    let usage = &response.json()["usage"];
    assert_eq!(usage["prompt_tokens"], receipt.prompts[0].n_tokens);
    assert_eq!(usage["completion_tokens"], receipt.choices[0].n_tokens);
    assert_eq!(receipt.choices[0].finish, "length");
    assert_eq!(receipt.model.name, MODEL);
    let digest = receipt.model.digest.unwrap();
    assert_eq!(digest, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53");
}

#[test]
fn whoever_changes_the_request_is_told_where_the_answer_parts() {
    let body = json!({"prompt": "One, two, three,", "max_tokens": 8, "temperature": 0});
    let id = ask(address(), "/v1/completions", &body).headers[HEADER].clone();
    let receipt = signed(address(), &id).receipt;
    let server = again_with(super::engine());
    let check = |more: Value, expected: &[&str]| {
        let mut other = body.clone();
        other.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let again = runtime.block_on(server.again(&receipt, other.to_string().into_bytes()));
        let found = compare(&receipt, &again.unwrap());
        let fields: Vec<&str> = found.iter().map(|difference| &*difference.field).collect();
        let fields: Vec<&str> =
            fields.into_iter().filter(|field| !field.starts_with("request.")).collect();
        assert_eq!(fields, expected, "{other}");
        found.last().map(ToString::to_string).unwrap_or_default()
    };
    check(json!({}), &[]);
    let shorter = check(json!({"max_tokens": 5}), &["parameters.max_tokens", "choices[0].tokens"]);
    assert!(shorter.ends_with("token 6 is the first that differs"), "{shorter}");
    let prompt = ["prompts[0].sha256", "choices[0].tokens"];
    check(json!({"prompt": "One, two, four,"}), &prompt);
}

#[test]
fn an_answer_that_was_cut_off_has_a_receipt_of_what_came() {
    let body = json!({"prompt": "Once upon a time", "max_tokens": 400, "temperature": 0.9,
        "ignore_eos": true, "stream": true});
    let head = post_head("/v1/completions");
    let mut connection = Connection::send(address(), &head, body.to_string().as_bytes());
    let mut id = String::new();
    let mut n_events = 0;
    while n_events < 4 {
        let line = connection.line();
        if let Some(value) = line.strip_prefix(&format!("{HEADER}: ")) {
            value.trim_end().clone_into(&mut id);
        }
        n_events += usize::from(line.starts_with("data: "));
    }
    drop(connection);
    // It is written once the server has noticed.
    let began = Instant::now();
    while get(address(), &id).status == 404 {
        assert!(began.elapsed().as_secs() < 60, "{id} has no receipt");
        std::thread::yield_now();
    }
    let receipt = signed(address(), &id).receipt;
    let choice = &receipt.choices[0];
    assert_eq!(choice.finish, "disconnected");
    assert!((1..400).contains(&choice.n_tokens), "{choice:?}");
    check_again(&again_with(super::engine()), &[(body, receipt)]);
}

#[test]
fn receipts_are_their_clients() {
    let (address, id) = one_kept();
    assert_eq!(get(address, &id).status, 200);
    let other = request(address, &format!("GET /v1/receipts/{id}\nX-Api-Key: other"), b"");
    assert_eq!(other.status, 404, "{}", other.body);
    assert_eq!(get(address, "chatcmpl-none").status, 404);
    let none = get(super::address(), &id);
    assert!(none.status == 404 && none.body.contains("--ledger none"), "{}", none.body);
    let body = json!({"prompt": "a", "max_tokens": 1});
    let without = ask(super::address(), "/v1/completions", &body);
    assert!(!without.headers.contains_key(HEADER));
    // Nothing is generated, so there is no answer to have a receipt.
    let count = json!({"messages": [{"role": "user", "content": "Hi"}], "model": MODEL});
    let counted = ask(address, "/v1/messages/count_tokens", &count);
    assert!(!counted.headers.contains_key(HEADER));
}

#[test]
fn lines_of_batches_and_streams_that_are_resumed_have_receipts_too() {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let (fleet, mut model) = only_model(super::engine(), "");
    model.digest = None;
    let resume_streams = Some(Duration::from_secs(60));
    let limits = Limits { resume_streams, ..Limits::default() };
    let (receipts, batches) = (Some(books.receipts.clone()), Some(batches::open(folder.path())));
    let config = Config::new(fleet, vec![model]);
    let running = run(Config { limits, receipts, batches, ..config });
    let address = running.address;

    let messages = json!([{"role": "user", "content": "Name a fruit."}]);
    let mut body = json!({"model": MODEL, "messages": messages, "max_tokens": 4});
    let entries = batches::answered(address, &[("a", &body)]);
    let id =
        entries["a"]["response"]["body"]["id"].as_str().unwrap_or_else(|| panic!("{entries:?}"));
    let of_line = (body.clone(), signed(address, id).receipt);

    body["stream"] = true.into();
    let id = ask(address, "/v1/chat/completions", &body).headers[HEADER].clone();
    let head = format!("GET /v1/streams/{id}\nAuthorization: Bearer any-key");
    let resumed = request(address, &head, b"");
    assert_eq!((resumed.status, &resumed.headers[HEADER]), (200, &id));
    let of_stream = (body, signed(address, &id).receipt);
    check_again(&again_with(super::engine()), &[of_line, of_stream]);
}

/// Waits until something is so.
fn wait(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed().as_secs() < 60, "{what} never came");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Two models of the same weights; one alias whose canary answers all, one with a shadow of all.
fn shared_config(fleet: &Fleet, model: Model, engine: Engine) -> Config {
    let second = shares::add(fleet, NEW, engine);
    let alias = |name: &str| Alias { name: name.to_owned(), model: MODEL.to_owned() };
    let share = |text: &str| vec![Share::parse(text).unwrap()];
    let mut config = Config::new(fleet.clone(), vec![model, second]);
    config.aliases = vec![alias("new-support"), alias("support")];
    let (canaries, shadows) = (share("new-support=new:100"), share("support=new:100"));
    config.shares = Shares { canaries, shadows };
    config
}

#[test]
fn a_canary_signs_for_itself_and_the_copy_of_a_shadow_has_no_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    // An engine of its own: a copy is dropped where others wait for one.
    let engine = shares::own_engine(512);
    let (fleet, mut model) = only_model(engine.clone(), "");
    model.digest = None;
    let config = shared_config(&fleet, model.clone(), engine.clone());
    let running = run(Config { receipts: Some(books.receipts.clone()), ..config });
    fleet.get(NEW).unwrap();
    let ask_as = |name: &str| {
        let messages = json!([{"role": "user", "content": "Name a fruit."}]);
        let body =
            json!({"model": name, "messages": messages, "max_tokens": 6, "temperature": 1.2});
        let response = ask(running.address, "/v1/chat/completions", &body);
        let receipt = signed(running.address, &response.headers[HEADER]).receipt;
        assert_eq!(response.json()["model"], receipt.model.name);
        (body, receipt)
    };
    let of_canary = ask_as("new-support");
    assert_eq!(of_canary.1.model.name, NEW);
    let shadowed = ask_as("support");
    assert_eq!(shadowed.1.model.name, MODEL);
    let copied = "outcome=\"equal\"} 1\n";
    wait(copied, || request(running.address, "GET /metrics", b"").body.contains(copied));
    let server = InProcess::new(shared_config(&fleet, model, engine)).unwrap();
    check_again(&server, &[of_canary, shadowed]);
    books.runtime.block_on(books.receipts.close()).unwrap();
    let place = folder.path().join("ledger.sqlite").display().to_string();
    let reader = books.runtime.block_on(Reader::open(&place)).unwrap();
    let found = books.runtime.block_on(reader.verify(&[], &[])).unwrap();
    assert_eq!(found.n_rows, 2, "{found:?}");
}

#[test]
fn answers_in_the_background_have_receipts_that_say_how_they_ended() {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let (fleet, mut model) = only_model(super::engine(), "");
    model.digest = None;
    let limits = Limits { keep_responses: Some(Duration::from_secs(60)), ..Limits::default() };
    let receipts = Some(books.receipts.clone());
    let mut running = run(Config { limits, receipts, ..Config::new(fleet, vec![model]) });
    let address = running.address;
    let begin = |max_tokens: u32| {
        let body = json!({"model": MODEL, "input": "Tell me a long story.", "background": true,
            "max_output_tokens": max_tokens, "temperature": 1, "seed": 5});
        let response = ask(address, "/v1/responses", &body);
        let id = response.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(response.headers[HEADER], id);
        (body, id)
    };
    let (body, id) = begin(6);
    wait("the receipt", || get(address, &id).status == 200);
    let receipt = signed(address, &id).receipt;
    assert_eq!((receipt.choices[0].n_tokens, &*receipt.choices[0].finish), (6, "length"));
    check_again(&again_with(super::engine()), &[(body, receipt)]);

    let (_, cancelled) = begin(400);
    let cancel = format!("POST /v1/responses/{cancelled}/cancel\nAuthorization: Bearer any-key");
    assert_eq!(request(address, &cancel, b"").status, 200);
    wait("the receipt", || get(address, &cancelled).status == 200);
    assert_eq!(signed(address, &cancelled).receipt.choices[0].finish, "disconnected");

    // What the server itself ends was not left by its client.
    let (_, id) = begin(400);
    drop(running.shutdown.take());
    running.thread.join().unwrap();
    books.runtime.block_on(books.receipts.close()).unwrap();
    let place = folder.path().join("ledger.sqlite").display().to_string();
    let reader = books.runtime.block_on(Reader::open(&place)).unwrap();
    let found = books.runtime.block_on(reader.find(Kind::Receipt, &id)).unwrap();
    let receipt = SignedReceipt::read(&found.unwrap().entry.body).unwrap().receipt;
    assert_eq!(receipt.choices[0].finish, "shutdown");
}

#[test]
fn a_template_that_shows_the_time_shows_that_of_the_receipt() {
    let clock = "{{ strftime_now('%Y-%m-%d %H:%M:%S.%f') }}{{ messages[0].content }}";
    let engine = reasoning::reasoning_engine(clock);
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let running = start(engine.clone(), &books);
    let messages = json!([{"role": "user", "content": "It is"}]);
    let body = json!({"model": MODEL, "messages": messages, "max_tokens": 3});
    let ids =
        [0, 1].map(|_| ask(running.address, "/v1/chat/completions", &body).headers[HEADER].clone());
    let receipts = ids.map(|id| signed(running.address, &id).receipt);
    assert_ne!(receipts[0].prompts, receipts[1].prompts);
    check_again(&again_with(engine), &receipts.map(|receipt| (body.clone(), receipt)));
}

#[test]
fn nothing_is_answered_without_a_receipt() {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let running = start(super::engine(), &books);
    let body = json!({"prompt": "a", "max_tokens": 1, "model": MODEL});
    ask(running.address, "/v1/completions", &body);
    books.runtime.block_on(books.receipts.close()).unwrap();
    for path in ["/v1/completions", "/api/generate"] {
        let refused = post(running.address, path, &body);
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert!(refused.body.contains("ledger"), "{}", refused.body);
        assert!(refused.headers.contains_key("retry-after"));
    }
    // What it took could not be written down either.
    let others = post(running.address, "/tokenize", &json!({"content": "a"}));
    assert_eq!(others.status, 503, "{}", others.body);
}

#[test]
fn receipts_are_found_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let once = |ask_for: Option<&str>| -> String {
        let books = Books::open(folder.path());
        let mut running = start(super::engine(), &books);
        let body = json!({"model": MODEL, "max_tokens": 2,
            "messages": [{"role": "user", "content": "Hi"}]});
        let id = match ask_for {
            Some(id) => signed(running.address, id).receipt.id,
            None => ask(running.address, "/v1/messages", &body).headers[HEADER].clone(),
        };
        drop(running.shutdown.take());
        running.thread.join().unwrap();
        books.runtime.block_on(books.receipts.close()).unwrap();
        id
    };
    let id = once(None);
    assert_eq!(once(Some(&id)), id);
}
