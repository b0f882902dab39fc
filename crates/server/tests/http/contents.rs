//! What is asked and answered is kept where the owner says so, by the real default model, and
//! what it took of energy is told.

use super::client::{post, request};
use super::{MODEL, Running, only_model, run};
use freehold_server::receipts::Receipts;
use freehold_server::{Config, Contents, Limits};
use ledger::{Content, ContentKeys, Ledger, NodeKey};
use serde_json::{Value, json};
use std::path::Path;

const RECEIPT: &str = "x-freehold-receipt";

/// A server that keeps contents for so many days, and what it keeps them in.
struct House {
    running: Running,
    runtime: tokio::runtime::Runtime,
    ledger: Ledger,
    keys: ContentKeys,
}

impl House {
    fn new(folder: &Path, days: u32) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
        let key = NodeKey::load_or_create(&folder.join("node.key")).unwrap();
        let keys = ContentKeys::open(&folder.join("content-keys")).unwrap();
        let place = folder.join("ledger.sqlite").display().to_string();
        let ledger = Ledger::open_keeping(&place, key.clone(), keys.clone());
        let ledger = runtime.block_on(ledger).unwrap();
        let (fleet, model) = only_model(super::engine(), "");
        let receipts = Some(Receipts::new(ledger.clone(), key));
        let contents = Some(Contents::new(ledger.clone(), days));
        let limits = Limits::default();
        let config = Config::new(fleet, vec![model]);
        let running = run(Config { limits, receipts, contents, ..config });
        Self { running, runtime, ledger, keys }
    }

    /// Asks, and returns the answer's id and body.
    fn ask(&self, path: &str, body: &Value) -> (String, String) {
        let response = post(self.running.address, path, body);
        assert_eq!(response.status, 200, "{path} {body}: {}", response.body);
        (response.headers[RECEIPT].clone(), response.body)
    }

    fn kept(&self, id: &str) -> Option<Content> {
        self.runtime.block_on(async {
            // What comes behind an answer may come a little later.
            for _ in 0..500 {
                self.ledger.flush().await.unwrap();
                let found = self.ledger.reader().content(id, &self.keys).await.unwrap();
                if found.is_some() {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            None
        })
    }
}

#[test]
fn what_is_asked_and_answered_is_kept_and_goes_with_its_person() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::new(folder.path(), 7);
    let version = request(house.running.address, "GET /version", b"").json();
    assert_eq!(version["keep_contents_days"], 7);
    let messages = json!([{"role": "user", "content": "Name a fruit."}]);
    let body = json!({"model": MODEL, "messages": messages, "max_tokens": 6, "n": 2, "seed": 1});
    let (id, answer) = house.ask("/v1/chat/completions", &body);
    let kept = house.kept(&id).expect("it is kept");
    assert_eq!(kept.until - kept.at, 7 * 86_400_000_000);
    let said: Value = serde_json::from_str(&kept.body).unwrap();
    assert_eq!((&said["route"], &said["model"]), (&"/v1/chat/completions".into(), &MODEL.into()));
    let asked: Value = serde_json::from_str(said["request"].as_str().unwrap()).unwrap();
    assert_eq!(asked, body);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    for choice_idx in 0..2 {
        let choice = &answer["choices"][choice_idx];
        let kept = &said["answers"][choice_idx];
        assert_eq!(kept["text"], choice["message"]["content"]);
        assert_eq!(kept["finish"], choice["finish_reason"]);
    }

    // Streamed, in another family, the same words.
    let one = json!({
        "model": MODEL, "messages": messages, "max_tokens": 6, "stream": true, "temperature": 0,
    });
    let (id, _) = house.ask("/v1/chat/completions", &one);
    let streamed: Value = serde_json::from_str(&house.kept(&id).unwrap().body).unwrap();
    let one = json!({"model": MODEL, "messages": messages, "max_tokens": 6, "temperature": 0});
    let (id, _) = house.ask("/v1/messages", &one);
    let whole: Value = serde_json::from_str(&house.kept(&id).unwrap().body).unwrap();
    assert_eq!(streamed["answers"], whole["answers"]);
    assert!(!whole["answers"][0]["text"].as_str().unwrap().is_empty());

    // What is refused, or has no answer, is not kept.
    let refused = post(house.running.address, "/v1/chat/completions", &json!({"messages": 1}));
    assert_eq!(refused.status, 400);
    post(house.running.address, "/tokenize", &json!({"content": "a"}));
    let persons = || house.runtime.block_on(house.ledger.reader().persons()).unwrap();
    assert_eq!(persons().iter().map(|person| person.n_contents).collect::<Vec<_>>(), [3]);

    let name = &persons()[0].name;
    let erased = house.runtime.block_on(house.ledger.erase_person(name, "owner")).unwrap();
    assert_eq!(erased.n_forgotten, 3);
    let gone = request(house.running.address, &format!("GET /v1/receipts/{id}"), b"");
    assert_eq!(gone.status, 404, "{}", gone.body);
    assert!(house.runtime.block_on(house.ledger.verify()).unwrap().is_intact());
}

#[test]
fn nothing_is_kept_where_nobody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let house = House::new(folder.path(), 0);
    let body = json!({"model": MODEL, "prompt": "One, two,", "max_tokens": 2});
    house.ask("/v1/completions", &body);
    house.runtime.block_on(async {
        house.ledger.flush().await.unwrap();
        assert_eq!(house.ledger.reader().persons().await.unwrap(), []);
    });
}
