//! How the owner keeps models up over HTTP, with a library that has a little of everything: each
//! change is in the ledger before, and what leaves is too.

use super::client::{post, request};
use super::receipts::Books;
use super::{Running, engine, only_model, run};
use freehold_server::{
    Adoptable, AdoptableModel, Config, Facts, GateReports, Library, LibraryError, LockedSource,
    Model, ModelChanges, Watcher,
};
use ledger::Kind;
use serde_json::{Value, json};
use std::sync::Arc;

/// A library that knows one report, one model to adopt and two locked ones.
struct Known;

impl Library for Known {
    fn facts(&self, _name: &str) -> Option<Arc<Facts>> {
        None
    }

    fn name_of(&self, name: &str) -> Result<String, LibraryError> {
        Ok(name.to_owned())
    }

    fn pull(&self, name: &str, _: &dyn Watcher) -> Result<Model, LibraryError> {
        Err(LibraryError::NotFound(name.to_owned()))
    }

    fn copy(&self, from: &str, _: &str, _: &dyn Watcher) -> Result<Model, LibraryError> {
        Err(LibraryError::NotFound(from.to_owned()))
    }

    fn remove(&self, name: &str) -> Result<(), LibraryError> {
        Err(LibraryError::NotFound(name.to_owned()))
    }

    fn gate_reports(&self) -> Result<GateReports, LibraryError> {
        Ok(GateReports { reports: vec![json!({"id": "1"})], damaged: vec!["2".to_owned()] })
    }

    fn gate_report(&self, id: &str) -> Result<Value, LibraryError> {
        match id {
            "1" => Ok(json!({"summary": {"id": "1"}, "report": {"passed": true}})),
            "2" => Err(LibraryError::Failed("2: it is damaged".to_owned())),
            _ => Err(LibraryError::NotFound("no such report is kept".to_owned())),
        }
    }

    fn adoptable(&self) -> Result<Adoptable, LibraryError> {
        let model = AdoptableModel {
            name: "library/tiny".to_owned(),
            owner: "Ollama".to_owned(),
            word: "ollama".to_owned(),
            n_bytes: 7,
            path: "/models/tiny".to_owned(),
            notes: Vec::new(),
            refused: None,
            is_here: false,
        };
        Ok(Adoptable { models: vec![model], problems: vec!["LM Studio: no".to_owned()] })
    }

    fn adopt(&self, owner: &str, model: &str) -> Result<(String, Model), LibraryError> {
        match (owner, model) {
            ("Ollama", "library/tiny") => {
                let (name, task) = ("tiny".to_owned(), engine::Task::Generate);
                let model = Model { name, task, digest: None, lock: None };
                Ok(("is one file with ours now".to_owned(), model))
            }
            ("Ollama", "library/broken") => Err(LibraryError::Refused("its hash differs".into())),
            _ => Err(LibraryError::NotFound(format!("{model}: {owner} has no such model"))),
        }
    }

    fn locked_sources(&self) -> Result<Vec<LockedSource>, LibraryError> {
        let source = |name: &str, source: &str, is_elsewhere| LockedSource {
            name: name.to_owned(),
            source: source.to_owned(),
            is_elsewhere,
        };
        Ok(vec![
            source("far", "hf:owner/repo/far.gguf", true),
            source("gone", "hf:owner/repo/gone.gguf", true),
            source("near", "file /models/near.gguf", false),
        ])
    }

    fn latest(&self, name: &str) -> Result<Value, LibraryError> {
        let state = if name == "gone" { "not asked" } else { "current" };
        Ok(json!({
            "name": name, "state": state, "source": "s", "revision": null, "now": "the same",
            "upgrade_to": null,
        }))
    }
}

fn config(books: &Books) -> Config {
    let (fleet, mut model) = only_model(engine(), "");
    model.digest = None;
    let mut config = Config::new(fleet, vec![model]);
    config.library = Some(Arc::new(Known));
    config.receipts = Some(books.receipts.clone());
    config.allow_anyone = true;
    config
}

/// A server with a ledger, whose clients may change models.
fn house() -> (tempfile::TempDir, Books, Running) {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let running = run(Config { model_changes: ModelChanges::FromLoopback, ..config(&books) });
    (folder, books, running)
}

/// The acts that are written down, newest first.
fn acts(books: &Books) -> Vec<Value> {
    let entries = books.receipts.ledger().before(Kind::Audit, None, 100);
    let entries = books.runtime.block_on(entries).unwrap();
    let acts = entries.iter().map(|of| serde_json::from_str(&of.entry.body).unwrap());
    acts.filter(|act: &Value| act["act"] == "model adopt").collect()
}

#[test]
fn reports_of_the_gate_are_listed_and_told() {
    let (_folder, _books, running) = house();
    let get = |path: &str| request(running.address, &format!("GET {path}"), b"");
    let listed = get("/admin/gate/reports").json();
    assert_eq!(listed, json!({"reports": [{"id": "1"}], "damaged": ["2"]}));
    assert_eq!(get("/admin/gate/reports/1").json()["report"]["passed"], true);
    for (id, status) in [("2", 500), ("3", 404), ("..%2f..%2fetc%2fpasswd", 404)] {
        let found = get(&format!("/admin/gate/reports/{id}"));
        assert_eq!(found.status, status, "{id}: {}", found.body);
    }
    let elsewhere = get("/admin/gate/reports/1\nX-Forwarded-For: 10.0.0.1");
    assert_eq!(elsewhere.status, 403, "{}", elsewhere.body);
    // One without a library has none.
    let none = request(super::address(), "GET /admin/gate/reports", b"").json();
    assert_eq!(none, json!({"reports": [], "damaged": []}));
    let none = request(super::address(), "GET /admin/gate/reports/1", b"");
    assert_eq!(none.status, 404, "{}", none.body);
}

#[test]
fn a_model_is_adopted_with_a_record_of_it() {
    let (_folder, books, running) = house();
    let found = request(running.address, "GET /admin/adoptable", b"").json();
    let [model, problem] = [&found["models"][0], &found["problems"][0]];
    assert_eq!((&model["name"], &model["word"]), (&json!("library/tiny"), &json!("ollama")));
    assert_eq!(problem, "LM Studio: no");
    let check = |body: Value, status: u16, words: &str| {
        let found = post(running.address, "/admin/adopt", &body);
        assert_eq!(found.status, status, "{body}: {}", found.body);
        assert!(found.body.contains(words), "{body}: {}", found.body);
    };
    // What cannot be read asks for nothing.
    check(json!({}), 400, "owner: absent: expected the name of a program");
    check(json!({"owner": "Ollama"}), 400, "model: absent");
    check(json!({"owner": 1, "model": "m"}), 400, "owner: 1: expected");
    check(json!({"owner": "Ollama", "model": "m", "path": "/etc"}), 400, "path");
    assert!(acts(&books).is_empty());
    check(json!({"owner": "Ollama", "model": "library/tiny"}), 200, "is one file with ours now");
    let act = json!({"act": "model adopt", "owner": "Ollama", "model": "library/tiny"});
    assert_eq!(acts(&books), [act]);
    check(json!({"owner": "Ollama", "model": "library/broken"}), 400, "its hash differs");
    check(json!({"owner": "Jan", "model": "library/tiny"}), 404, "Jan has no such model");
    assert_eq!(acts(&books).len(), 3);
}

#[test]
fn what_sources_are_asked_leaves_with_a_departure() {
    let (_folder, _books, running) = house();
    let asked = request(running.address, "POST /admin/outdated", b"");
    assert_eq!(asked.status, 200, "{}", asked.body);
    let asked = asked.json();
    let names = asked["models"].as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["far", "gone", "near"]);
    let left = request(running.address, "GET /admin/departures", b"").json();
    let left = left["departures"].as_array().unwrap().clone();
    let mut told: Vec<_> = left
        .iter()
        .map(|of| (of["model"].as_str().unwrap(), of["end"]["outcome"].as_str().unwrap()))
        .collect();
    told.sort_unstable();
    // A file on this machine is asked without leaving it.
    let expected = [("hf:owner/repo/far.gguf", "done"), ("hf:owner/repo/gone.gguf", "failed")];
    assert_eq!(told, expected);
    assert_eq!(
        (&left[0]["upstream"], &left[0]["rule"]),
        (&json!("model source"), &json!("outdated"))
    );
}

#[test]
fn clients_that_may_move_the_lock_adopt_and_ask_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let running = run(Config { model_changes: ModelChanges::OfLock, ..config(&books) });
    let body = json!({"owner": "Ollama", "model": "library/tiny"});
    let adopted = post(running.address, "/admin/adopt", &body);
    assert_eq!((adopted.status, acts(&books).len()), (200, 1), "{}", adopted.body);
    for (line, body) in [("POST /admin/outdated", ""), ("POST /api/pull", r#"{"model": "m"}"#)] {
        let refused = request(running.address, line, body.as_bytes());
        assert_eq!(refused.status, 403, "{line}: {}", refused.body);
        assert!(refused.body.contains("and --allow-model-changes"), "{}", refused.body);
    }
    let status = request(running.address, "GET /admin/status", b"").json();
    assert_eq!((&status["model_changes"], &status["lock_changes"]), (&json!(false), &json!(true)));
}

#[test]
fn clients_that_may_change_nothing_neither_adopt_nor_ask() {
    let folder = tempfile::tempdir().unwrap();
    let books = Books::open(folder.path());
    let running = run(config(&books));
    let body = json!({"owner": "Ollama", "model": "library/tiny"});
    let refused = post(running.address, "/admin/adopt", &body);
    assert_eq!(refused.status, 403, "{}", refused.body);
    assert!(refused.body.contains("--allow-lock-changes"), "{}", refused.body);
    let refused = request(running.address, "POST /admin/outdated", b"");
    assert_eq!(refused.status, 403, "{}", refused.body);
    let left = request(running.address, "GET /admin/departures", b"").json();
    assert!(left["departures"].as_array().unwrap().is_empty() && acts(&books).is_empty());
    // To look, nothing needs to be allowed.
    assert_eq!(request(running.address, "GET /admin/adoptable", b"").status, 200);
}
