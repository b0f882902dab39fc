//! Embeddings and rerank over real connections, with the real encoder beside the chat model.

use super::{MODEL, batches, check_error, engine, run};
use crate::client::{Response, post, request};
use engine::{EngineOptions, Fleet, FleetModel, Keep, Task};
use freehold_server::{Config, Limits, Model};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

const EMBEDDER: &str = "minilm-l6-v2";

/// A server of both kinds of model; the encoder is opened when it is first asked for.
pub(crate) fn address() -> SocketAddr {
    static SHARED: OnceLock<super::Running> = OnceLock::new();
    let start = || {
        let fleet = Fleet::new(None);
        let open = Arc::new(|_: &EngineOptions| Ok(engine().into()));
        let (options, keep) = (EngineOptions::default(), Keep::Pinned);
        fleet.set(MODEL, FleetModel { open, options: options.clone(), keep });
        fleet.set(EMBEDDER, FleetModel::file(testkit::minilm_f16(), options, keep));
        let model =
            |name: &str, task| Model { name: name.to_owned(), task, digest: None, lock: None };
        let models = vec![model(MODEL, Task::Generate), model(EMBEDDER, Task::Embed)];
        let mut config = Config::new(fleet, models);
        config.limits = Limits { n_text_tokens: 2000, ..Limits::default() };
        // It is there as long as the server is, which is to the end of the process.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
        config.batches = Some(batches::open(&folder));
        run(config)
    };
    SHARED.get_or_init(start).address
}

fn embed(body: Value) -> Response {
    post(address(), "/v1/embeddings", &body)
}

fn vector(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn texts_and_token_ids_have_the_same_vectors_in_order() {
    let response = embed(json!({"model": EMBEDDER, "input": ["hello world", "a"]}));
    assert_eq!(response.status, 200, "{}", response.body);
    let body = response.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("list"), &json!(EMBEDDER)));
    assert_eq!(body["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
    let data = body["data"].as_array().unwrap();
    for (index, datum) in data.iter().enumerate() {
        assert_eq!((&datum["object"], &datum["index"]), (&json!("embedding"), &json!(index)));
        let length: f32 = vector(&datum["embedding"]).iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    // No name: the first model that makes vectors, though it is not the first of all.
    let ids = embed(json!({"input": [[101, 7592, 2088, 102], [101, 1037, 102]]})).json();
    assert_eq!(ids["data"], body["data"]);
    let one = embed(json!({"input": [101, 7592, 2088, 102], "dimensions": 384})).json();
    assert_eq!(one["data"], json!([data[0]]));
}

#[test]
fn base64_holds_the_same_vector() {
    let ask = |format: &str| embed(json!({"input": "own it", "encoding_format": format})).json();
    let floats = vector(&ask("float")["data"][0]["embedding"]);
    let base64 = ask("base64")["data"][0]["embedding"].as_str().unwrap().to_owned();
    assert_eq!(base64.len(), (384 * 4_usize).div_ceil(3) * 4);
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits = base64.bytes().map(digit).collect::<Vec<_>>();
    let bytes = bits.chunks(4).flat_map(|four| {
        let group = four.iter().fold(0_u32, |group, digit| group << 6 | u32::from(*digit));
        group.to_be_bytes()[1..].to_vec()
    });
    let bytes: Vec<u8> = bytes.collect();
    let found: Vec<f32> = bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect();
    assert_eq!(found, floats);
}

#[test]
fn nothing_is_cut_unasked() {
    let long = "word ".repeat(600);
    let refused = embed(json!({"input": ["a", long]}));
    check_error(&refused, 400, Some("input[1]"), Some("context_length_exceeded"));
    assert_eq!(refused.json()["error"]["n_prompt_tokens"], 602);
    let cut = embed(json!({"input": ["a", long], "truncate": true})).json();
    assert_eq!(cut["usage"]["prompt_tokens"], 3 + 512);
    let too_much = embed(json!({"input": ["word ".repeat(400), "word ".repeat(400), "a", "b",
        "word ".repeat(400), "word ".repeat(400), "word ".repeat(400)]}));
    check_error(&too_much, 400, Some("input[6]"), Some("invalid_value"));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let check = |body: Value, param: &str, code: &str| {
        check_error(&embed(body), 400, Some(param), Some(code));
    };
    check(json!({"input": "a", "dimensions": 128}), "dimensions", "unsupported_parameter");
    check(json!({"input": "", "model": EMBEDDER}), "input", "invalid_value");
    check(json!({"input": [[101, 102], [101, 40_000, 102]]}), "input[1]", "invalid_value");
    // Ids of another model's tokenizer, all of them within this one's.
    check(json!({"input": [4438, 656, 358]}), "input", "invalid_value");
    check(json!({"input": [[101, 102], [9906]]}), "input[1]", "invalid_value");
    check(json!({"input": "a", "model": MODEL}), "model", "invalid_value");
    let unknown = embed(json!({"input": "a", "model": "other"}));
    check_error(&unknown, 404, Some("model"), Some("model_not_found"));
    let chat = json!({"model": EMBEDDER, "messages": [{"role": "user", "content": "hi"}]});
    let chat = post(address(), "/v1/chat/completions", &chat);
    check_error(&chat, 400, Some("model"), Some("invalid_value"));
    assert!(chat.body.contains("makes embeddings (use /v1/embeddings)"), "{}", chat.body);
    let get = request(address(), "GET /v1/embeddings", b"");
    check_error(&get, 405, None, Some("method_not_allowed"));
}

#[test]
fn the_list_tells_what_a_model_is_for() {
    embed(json!({"input": "open it"}));
    let list = request(address(), "GET /v1/models", b"").json();
    let card = list["data"].as_array().unwrap().iter().find(|card| card["id"] == EMBEDDER);
    let meta = &card.unwrap()["meta"];
    assert_eq!((&meta["chat"], &meta["n_embd"]), (&json!(false), &json!(384)));
    assert_eq!(meta["architecture"], "bert");
}

#[test]
fn documents_come_in_the_order_of_their_nearness() {
    let body = json!({
        "model": EMBEDDER,
        "query": "How do I reset my password?",
        "documents": [
            "Bananas are rich in potassium.",
            {"text": "To change your password, open the settings."},
            "A password protects an account.",
        ],
        "top_n": 2,
        "return_documents": true,
    });
    for path in ["/v1/rerank", "/rerank"] {
        let response = post(address(), path, &body);
        assert_eq!(response.status, 200, "{}", response.body);
        let answer = response.json();
        let results = answer["results"].as_array().unwrap();
        let order: Vec<u64> = results.iter().map(|r| r["index"].as_u64().unwrap()).collect();
        assert_eq!(order, [1, 2], "{answer}");
        assert!(results[0]["relevance_score"].as_f64() > results[1]["relevance_score"].as_f64());
        assert_eq!(results[1]["document"], json!({"text": "A password protects an account."}));
        assert!(answer["usage"]["total_tokens"].as_u64() > Some(20));
    }
    let long = post(address(), "/rerank", &json!({"query": "q", "documents": ["w ".repeat(600)]}));
    check_error(&long, 400, Some("documents[0]"), Some("context_length_exceeded"));
}
