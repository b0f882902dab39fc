//! Ollama's API over real connections with the real default model, and the encoder beside it.

use super::client::{Connection, Response, post, post_head, request};
use super::operate::Log;
use super::{MODEL, Running, chat, content, engine, run};
use engine::{EngineOptions, Fleet, FleetModel, Keep, Task};
use freehold_server::{Alias, Config, Model};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A model that is opened when it is asked for, and one that makes vectors.
const LATER: &str = "later";
const EMBEDDER: &str = "minilm-l6-v2";

fn start() -> Running {
    let fleet = Fleet::new(None);
    let open = Arc::new(|_: &EngineOptions| Ok(engine().into()));
    let options = EngineOptions { n_ctx: Some(128), ..EngineOptions::default() };
    fleet.set(MODEL, FleetModel { open, options: options.clone(), keep: Keep::Pinned });
    fleet.get(MODEL).unwrap();
    let keep = Keep::Idle(Duration::from_secs(600));
    fleet.set(LATER, FleetModel::file(testkit::smollm2(), options, keep));
    let options = EngineOptions::default();
    fleet.set(EMBEDDER, FleetModel::file(testkit::minilm_f16(), options, keep));
    let digest = Some("ab".repeat(32));
    let model = |name: &str, task| Model {
        name: name.to_owned(),
        task,
        digest: digest.clone(),
        lock: None,
    };
    let tasks = [(MODEL, Task::Generate), (LATER, Task::Generate), (EMBEDDER, Task::Embed)];
    let models = tasks.map(|(name, task)| model(name, task)).to_vec();
    let mut config = Config::new(fleet, models);
    config.aliases = vec![Alias { name: "other".to_owned(), model: MODEL.to_owned() }];
    run(config)
}

/// The server that the tests share which close no model.
fn address() -> SocketAddr {
    static SHARED: OnceLock<Running> = OnceLock::new();
    SHARED.get_or_init(start).address
}

fn question(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "options": {"temperature": 0, "num_predict": 12},
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ask(more: Value) -> Response {
    post(address(), "/api/chat", &question(more))
}

/// The lines of a stream.
fn lines(response: &Response) -> Vec<Value> {
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.headers["content-type"], "application/x-ndjson");
    assert!(response.body.ends_with('\n'));
    response.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A whole answer.
fn whole(response: &Response) -> Value {
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(response.headers["content-type"], "application/json");
    response.json()
}

fn check_error(response: &Response, status: u16, message: &str) {
    assert_eq!(response.status, status, "{}", response.body);
    assert_eq!(response.headers["content-type"], "application/json");
    let body = response.json();
    let error = body["error"].as_str().unwrap_or_else(|| panic!("{body}"));
    assert!(error.starts_with(message), "{error}, expected {message}");
}

#[test]
fn clients_find_a_server_whose_api_they_know() {
    for method in ["GET", "HEAD"] {
        for path in ["/", "/api/version", "/api/tags", "/api/ps"] {
            let found = request(address(), &format!("{method} {path}"), b"");
            assert_eq!(found.status, 200, "{method} {path}");
            assert_eq!(found.body.is_empty(), method == "HEAD", "{method} {path}");
        }
    }
    // Some compare, and do not search.
    assert_eq!(request(address(), "GET /", b"").body, "Ollama is running");
    let version = request(address(), "GET /api/version", b"").json();
    let numbers: Vec<u32> =
        version["version"].as_str().unwrap().split('.').map(|n| n.parse().unwrap()).collect();
    assert_eq!(numbers.len(), 3);
    check_error(&request(address(), "GET /api/me", b""), 404, "/api/me: no such path");
    let wrong = request(address(), "GET /api/chat", b"");
    check_error(&wrong, 405, "GET /api/chat: method not allowed");
    assert_eq!(wrong.headers["allow"], "POST");
}

#[test]
fn an_answer_is_what_the_other_families_answer() {
    let answer = whole(&ask(json!({"stream": false})));
    assert_eq!(answer["message"]["content"], content(&chat(json!({})), 0));
    assert_eq!((&answer["model"], &answer["done"]), (&json!(MODEL), &json!(true)));
    let usage = &chat(json!({})).json()["usage"];
    assert_eq!(answer["prompt_eval_count"], usage["prompt_tokens"]);
    assert_eq!(answer["eval_count"], usage["completion_tokens"]);
    for time in ["total_duration", "load_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(answer[time].as_u64().unwrap() > 0, "{time}: {answer}");
    }
    let total = answer["total_duration"].as_u64().unwrap();
    assert!(answer["eval_duration"].as_u64().unwrap() <= total, "{answer}");
    // One turn is the same conversation; so is a further name of the model.
    let prompt = "What is the capital of France?";
    for model in [MODEL, "other", "test/smollm2:latest", "other:latest"] {
        let options = json!({"temperature": 0, "num_predict": 12});
        let body = json!({"model": model, "prompt": prompt, "stream": false, "options": options});
        let generated = whole(&post(address(), "/api/generate", &body));
        assert_eq!(generated["response"], answer["message"]["content"], "{model}");
    }
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let answer = whole(&ask(json!({"stream": false})));
    let stream = lines(&ask(json!({})));
    let said: String =
        stream.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(answer["message"]["content"], said);
    let (last, first) = stream.split_last().unwrap();
    assert!(first.iter().all(|line| line["done"] == false) && first.len() > 2);
    for field in ["done", "done_reason", "prompt_eval_count", "eval_count", "model"] {
        assert_eq!(last[field], answer[field], "{field}");
    }
    let body = json!({"model": MODEL, "prompt": "Once upon a time", "raw": true,
        "options": {"temperature": 0, "num_predict": 5}});
    let raw = lines(&post(address(), "/api/generate", &body));
    let raw: String = raw.iter().map(|line| line["response"].as_str().unwrap()).collect();
    let plain = json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 5});
    let plain = post(super::address(), "/v1/completions", &plain).json();
    assert_eq!(plain["choices"][0]["text"], raw);
}

#[test]
fn what_is_asked_for_is_kept_to_or_told() {
    let schema = json!({
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 20}},
        "required": ["city"],
        "additionalProperties": false,
    });
    let asked = json!({"stream": false, "format": schema, "options": {"temperature": 0}});
    let answer = whole(&ask(asked));
    let said: Value = serde_json::from_str(answer["message"]["content"].as_str().unwrap()).unwrap();
    assert!(said["city"].is_string(), "{answer}");
    let scored = json!({"stream": false, "logprobs": true, "top_logprobs": 2});
    let answer = whole(&ask(scored));
    let scores = answer["logprobs"].as_array().unwrap();
    assert!(scores.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    let said: String = scores.iter().map(|token| token["token"].as_str().unwrap()).collect();
    assert_eq!(answer["message"]["content"], said);
    // The model does not think, and the owner has said that it stays.
    let told = ask(json!({"think": true, "keep_alive": 1800, "x": 1}));
    let ignored = &told.headers["x-freehold-ignored"];
    for field in ["think", "keep_alive", "x"] {
        assert!(ignored.split(", ").any(|told| told == field), "{field}: {ignored}");
    }
    let image = json!([{"role": "user", "content": "What is this?", "images": ["AAAA"]}]);
    check_error(&ask(json!({"messages": image})), 400, "messages[0].images: ");
    let body = json!({"model": MODEL, "prompt": "def f(", "suffix": "return 1"});
    check_error(&post(address(), "/api/generate", &body), 400, "suffix: \"return 1\": ");
    let unknown = ask(json!({"model": "nobody"}));
    check_error(&unknown, 404, "model 'nobody' not found, try pulling it first");
    check_error(&ask(json!({"model": EMBEDDER})), 400, "model: \"minilm-l6-v2\" makes embeddings");
}

#[test]
fn a_context_that_is_asked_for_bounds_prompt_and_answer() {
    let n_prompt = whole(&ask(json!({"stream": false})))["prompt_eval_count"].as_u64().unwrap();
    let with = |n_ctx: u64| {
        let options = json!({"temperature": 0, "num_ctx": n_ctx});
        ask(json!({"stream": false, "options": options}))
    };
    let short = whole(&with(n_prompt + 3));
    assert_eq!((&short["eval_count"], &short["done_reason"]), (&json!(3), &json!("length")));
    let refused = with(n_prompt);
    check_error(
        &refused,
        400,
        &format!("prompt is too long: this model's maximum context length is {n_prompt} tokens"),
    );
    let large = with(100_000);
    assert_eq!(large.headers["x-freehold-ignored"], "options.num_ctx");
    assert_eq!(whole(&large)["done_reason"], "stop");
}

#[test]
fn a_context_goes_on_with_the_conversation() {
    let ask = |prompt: &str, more: Value| {
        let mut body = json!({"model": MODEL, "prompt": prompt, "stream": false,
            "options": {"temperature": 0, "num_predict": 12}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        post(address(), "/api/generate", &body)
    };
    let count = |answer: &Value, field: &str| answer[field].as_u64().unwrap() as usize;
    let first = whole(&ask("My name is Ada.", json!({})));
    let context = first["context"].as_array().unwrap();
    // The token that ends an answer is counted, and is no part of it.
    let n_end = usize::from(first["done_reason"] == "stop");
    let n_tokens = count(&first, "prompt_eval_count") + count(&first, "eval_count") - n_end;
    assert_eq!(context.len(), n_tokens, "{first}");
    let alone = whole(&ask("What is my name?", json!({})));
    let second = whole(&ask("What is my name?", json!({"context": context})));
    // All of it, the end of the answer, and the next turn.
    let n_prompt = context.len() + 1 + count(&alone, "prompt_eval_count");
    assert_eq!(count(&second, "prompt_eval_count"), n_prompt);
    assert_eq!(second["context"].as_array().unwrap()[..context.len()], context[..]);
    let body = json!({"model": MODEL, "prompt": "My name is Ada.",
        "options": {"temperature": 0, "num_predict": 12}});
    let stream = lines(&post(address(), "/api/generate", &body));
    assert_eq!(stream.last().unwrap()["context"], first["context"]);
    assert!(stream[0]["context"].is_null());
    let refused = |more: Value, why: &str| check_error(&ask("Hi", more), 400, why);
    refused(json!({"context": [1, 4_000_000_000_u32]}), "context: token 1 is 4000000000: expected");
    refused(json!({"context": [1, "a"]}), "context[1]: \"a\": expected a token id");
    refused(json!({"context": [1], "raw": true}), "context: a raw prompt");
    refused(json!({"context": vec![1; 600]}), "prompt is too long: this model's maximum");
    assert!(whole(&ask("Hi", json!({"raw": true})))["context"].is_null());
}

#[test]
fn a_conversation_that_is_too_long_is_refused_or_cut_by_its_turns() {
    let mut messages = vec![json!({"role": "system", "content": "Be brief."})];
    for i in 0..40 {
        let content = format!("Remember the number {i}, the words apple, pear and plum.");
        messages.push(json!({"role": "user", "content": content}));
        messages.push(json!({"role": "assistant", "content": "I will."}));
    }
    messages.push(json!({"role": "user", "content": "Say hello."}));
    let n_messages = messages.len();
    let body = json!({"messages": messages, "stream": false});
    let too_long = "prompt is too long: this model's maximum context length is 512 tokens";
    check_error(&ask(body.clone()), 400, too_long);
    let mut body = body;
    body["truncate"] = json!(true);
    let log = Log::start();
    let cut = ask(body);
    let answer = whole(&cut);
    assert_eq!(cut.headers["x-freehold-adapted"], "truncated-messages");
    assert_eq!(answer["truncated"], true);
    let n_cut = answer["truncated_messages"].as_u64().unwrap();
    assert!(n_cut > 2 && n_cut < n_messages as u64, "{answer}");
    let (words, n) = ("oldest messages left out", format!("n_dropped={n_cut}"));
    let (log, is_told) = (log.text(), |line: &str| line.contains(words) && line.contains(&n));
    assert!(log.lines().any(is_told), "{log}");
    // No more than it takes: one turn is of some 25 tokens.
    assert!(answer["prompt_eval_count"].as_u64().unwrap() > 400, "{answer}");
    let short = ask(json!({"truncate": true, "stream": false}));
    assert!(!short.headers.contains_key("x-freehold-adapted"), "{:?}", short.headers);
    assert!(whole(&short)["truncated"].is_null());
}

#[test]
fn calls_of_tools_have_objects_for_arguments() {
    let tool = json!({"type": "function", "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
        },
    }});
    // So small a model calls a tool where it has seen that done.
    let ask_of =
        |city: &str| json!({"role": "user", "content": format!("What is the weather in {city}?")});
    let mut messages = Vec::new();
    for city in ["Rome", "Oslo"] {
        let call = json!({"function": {"name": "get_weather", "arguments": {"city": city}}});
        messages.push(ask_of(city));
        messages.push(json!({"role": "assistant", "content": "", "tool_calls": [call]}));
    }
    messages.push(ask_of("Paris"));
    let options = json!({"temperature": 0, "num_predict": 60});
    let mut body =
        json!({"messages": messages, "tools": [tool], "stream": false, "options": options});
    let answer = whole(&ask(body.clone()));
    let calls = answer["message"]["tool_calls"].as_array().unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(calls[0]["function"]["name"], "get_weather", "{answer}");
    assert!(calls[0]["function"]["arguments"]["city"].is_string(), "{answer}");
    body["stream"] = json!(true);
    let stream = lines(&ask(body.clone()));
    let streamed: Vec<&Value> = stream
        .iter()
        .flat_map(|line| line["message"]["tool_calls"].as_array().into_iter().flatten())
        .collect();
    assert_eq!(streamed.len(), calls.len());
    assert_eq!(streamed[0]["function"], calls[0]["function"]);
    // What came of it goes on from there.
    let result = json!({"role": "tool", "tool_name": "get_weather", "content": "Sunny."});
    messages.extend([answer["message"].clone(), result]);
    body["messages"] = json!(messages);
    assert!(lines(&ask(body)).last().unwrap()["eval_count"].as_u64().unwrap() > 1);
}

#[test]
fn models_are_opened_and_closed_when_clients_say() {
    let running = start();
    let address = running.address;
    let names = |path: &str| -> Vec<String> {
        let body = request(address, &format!("GET {path}"), b"").json();
        let name = |model: &Value| model["model"].as_str().unwrap().to_owned();
        body["models"].as_array().unwrap().iter().map(name).collect()
    };
    assert_eq!(names("/api/tags"), [MODEL, LATER, EMBEDDER, "other"]);
    assert_eq!(names("/api/ps"), [MODEL, "other"]);
    let load = json!({"model": LATER, "keep_alive": "1h"});
    let loaded = whole(&post(address, "/api/generate", &load));
    assert_eq!((&loaded["done_reason"], &loaded["response"]), (&json!("load"), &json!("")));
    assert!(loaded["load_duration"].as_u64().unwrap() > 1, "{loaded}");
    let ps = request(address, "GET /api/ps", b"").json();
    let later = ps["models"].as_array().unwrap().iter().find(|model| model["name"] == LATER);
    let later = later.unwrap_or_else(|| panic!("{ps}"));
    assert_eq!(later["context_length"], 128);
    assert!(later["size"].as_u64().unwrap() > 50 << 20 && later["size_vram"] == 0, "{later}");
    assert!(later["expires_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(later["details"]["family"], "llama");
    let unload = json!({"model": LATER, "messages": [], "keep_alive": 0});
    let unloaded = whole(&post(address, "/api/chat", &unload));
    assert_eq!(unloaded["done_reason"], "unload");
    let closed_by = Instant::now() + Duration::from_secs(30);
    while names("/api/ps").contains(&LATER.to_owned()) {
        assert!(Instant::now() < closed_by, "it stays open");
        std::thread::sleep(Duration::from_millis(50));
    }
    // It is not opened to be closed.
    whole(&post(address, "/api/chat", &unload));
    assert_eq!(names("/api/ps"), [MODEL, "other"]);
    let embedder = json!({"model": EMBEDDER, "keep_alive": 0});
    assert_eq!(
        whole(&post(address, "/api/generate", &embedder))["done_reason"],
        "unload",
        "as clients close a model of any kind"
    );
    let pinned = json!({"model": MODEL, "keep_alive": 0});
    check_error(&post(address, "/api/generate", &pinned), 403, "test/smollm2: it was named");
}

#[test]
fn what_is_known_of_a_model_is_shown() {
    for field in ["model", "name"] {
        let shown = post(address(), "/api/show", &json!({field: MODEL, "verbose": true}));
        assert_eq!(shown.headers["x-freehold-ignored"], "verbose");
        let shown = whole(&shown);
        assert_eq!(shown["capabilities"], json!(["completion", "tools"]), "{shown}");
        assert!(shown["template"].as_str().unwrap().contains("im_start"));
        assert_eq!(shown["model_info"]["general.architecture"], "llama");
        let parameters = shown["parameters"].as_str().unwrap();
        assert!(parameters.starts_with("num_ctx ") && parameters.contains(" 512\n"), "{shown}");
    }
    let embedder = whole(&post(address(), "/api/show", &json!({"model": EMBEDDER})));
    assert_eq!(embedder["capabilities"], json!(["embedding"]));
    let unknown = post(address(), "/api/show", &json!({"model": "nobody"}));
    check_error(&unknown, 404, "model 'nobody' not found");
    check_error(&post(address(), "/api/show", &json!({})), 400, "model: absent");
    let tags = request(address(), "GET /api/tags", b"").json();
    assert_eq!(tags["models"][0]["digest"], "ab".repeat(32));
}

#[test]
fn texts_have_the_vectors_of_the_other_family() {
    let embed = |path: &str, body: Value| post(address(), path, &body);
    let texts = json!(["hello world", "a"]);
    let body = json!({"model": EMBEDDER, "input": texts, "options": {"num_ctx": 1}});
    let found = embed("/api/embed", body);
    assert_eq!(found.headers["x-freehold-ignored"], "options");
    let found = whole(&found);
    let openai = embed("/v1/embeddings", json!({"model": EMBEDDER, "input": texts})).json();
    let openai: Vec<&Value> =
        openai["data"].as_array().unwrap().iter().map(|datum| &datum["embedding"]).collect();
    assert_eq!(found["embeddings"], json!(openai));
    assert_eq!((&found["model"], &found["prompt_eval_count"]), (&json!(EMBEDDER), &json!(7)));
    assert!(found["total_duration"].as_u64().unwrap() > 0);
    let old = whole(&embed("/api/embeddings", json!({"model": EMBEDDER, "prompt": "a"})));
    assert_eq!(old, json!({"embedding": openai[1]}));
    let none = embed("/api/embeddings", json!({"model": EMBEDDER, "prompt": ""}));
    assert_eq!(whole(&none), json!({"embedding": []}));
    let none = whole(&embed("/api/embed", json!({"model": EMBEDDER})));
    assert_eq!(none["embeddings"], json!([]));
    let long = "word ".repeat(600);
    let refused = embed("/api/embed", json!({"model": EMBEDDER, "input": ["a", long]}));
    check_error(&refused, 400, "input[1]: this model's maximum context length is 512 tokens");
    let body = json!({"model": EMBEDDER, "input": long, "truncate": true});
    assert_eq!(whole(&embed("/api/embed", body))["prompt_eval_count"], 512);
    let wrong = embed("/api/embed", json!({"model": MODEL, "input": "a"}));
    check_error(&wrong, 400, "model: \"test/smollm2\" writes text");
}

#[test]
fn what_changes_models_is_refused_by_name() {
    let body = json!({"model": "smollm2-135m"});
    check_error(&post(address(), "/api/pull", &body), 501, "this server has no library of models");
    check_error(&post(address(), "/api/push", &body), 501, "models are not sent anywhere");
    let blob = format!("/api/blobs/sha256:{}", "0".repeat(64));
    check_error(&post(address(), &blob, &json!({})), 403, "files are not taken over HTTP");
    assert_eq!(request(address(), &format!("HEAD {blob}"), b"").status, 404);
}

#[test]
fn a_client_that_leaves_frees_its_seat() {
    let limits = freehold_server::Limits { n_requests: 1, ..freehold_server::Limits::default() };
    let running = super::start(limits);
    let body = json!({"model": MODEL, "prompt": "Tell me a story.", "stream": true,
        "options": {"num_predict": 400}});
    let head = post_head("/api/generate");
    let mut gone = Connection::send(running.address, &head, body.to_string().as_bytes());
    while !gone.line().starts_with("{\"model\"") {}
    drop(gone);
    let short = json!({"model": MODEL, "prompt": "Hi", "stream": false,
        "options": {"num_predict": 1}});
    let by = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = post(running.address, "/api/generate", &short);
        if answer.status == 200 {
            break;
        }
        // As Ollama says that its queue is full.
        check_error(&answer, 503, "1 requests are at work");
        assert!(answer.headers.contains_key("retry-after"));
        assert!(Instant::now() < by, "the seat stays taken");
        std::thread::sleep(Duration::from_millis(20));
    }
}
