//! How models come and go over real connections, with a library that takes its time.

use super::client::{Connection, Response, post, post_head, request};
use super::operate::Log;
use super::{MODEL, Running, engine, only_model, run};
use engine::{EngineOptions, Fleet, FleetModel, Keep, Task};
use freehold_server::{Config, Facts, Library, LibraryError, Model, ModelChanges, Watcher, Work};
use serde_json::{Value, json};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

/// A library whose pulls of names that begin with `slow` look up only when they are let go.
struct Slow {
    fleet: Fleet,
    is_open: Mutex<bool>,
    opened: Condvar,
    n_cancelled: Mutex<u32>,
}

impl Slow {
    fn start() -> (Arc<Self>, Running) {
        let (fleet, model) = only_model(engine(), "00");
        let slow = Arc::new(Self {
            fleet: fleet.clone(),
            is_open: Mutex::new(false),
            opened: Condvar::new(),
            n_cancelled: Mutex::new(0),
        });
        let mut config = Config::new(fleet, vec![model]);
        config.library = Some(slow.clone());
        config.model_changes = ModelChanges::FromLoopback;
        config.allow_anyone = true;
        (slow, run(config))
    }

    fn let_go(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    fn take_up(&self, name: &str) -> Model {
        let keep = Keep::Idle(Duration::ZERO);
        let model = FleetModel::file(testkit::minilm_f16(), EngineOptions::default(), keep);
        self.fleet.set(name, model);
        Model { name: name.to_owned(), task: Task::Embed, digest: None, lock: None }
    }
}

impl Library for Slow {
    fn facts(&self, _name: &str) -> Option<Arc<Facts>> {
        None
    }

    fn name_of(&self, name: &str) -> Result<String, LibraryError> {
        match name.contains("nobody") {
            true => Err(LibraryError::NotFound(format!("no model named {name}"))),
            false => Ok(name.to_owned()),
        }
    }

    fn pull(&self, name: &str, watcher: &dyn Watcher) -> Result<Model, LibraryError> {
        watcher.start(&Work { what: "m.gguf".to_owned(), digest: None, total: Some(2) });
        if name.starts_with("slow") {
            let is_open = self.is_open.lock().unwrap();
            drop(self.opened.wait_while(is_open, |is_open| !*is_open).unwrap());
        }
        if watcher.is_cancelled() {
            *self.n_cancelled.lock().unwrap() += 1;
            return Err(LibraryError::Cancelled("cancelled".to_owned()));
        }
        watcher.advance(2);
        Ok(self.take_up(name))
    }

    fn copy(&self, _: &str, to: &str, _: &dyn Watcher) -> Result<Model, LibraryError> {
        Ok(self.take_up(to))
    }

    fn remove(&self, name: &str) -> Result<(), LibraryError> {
        self.fleet.remove(name);
        Ok(())
    }
}

/// Tries `act` until it is well.
fn until(act: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !act() {
        assert!(Instant::now() < end, "it does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cancelled_pull_gives_up_its_turn() {
    let (slow, running) = Slow::start();
    let begin = |name: &str| {
        let body = json!({"model": name}).to_string();
        let head = post_head("/api/pull");
        let mut stream = Connection::send(running.address, &head, body.as_bytes());
        while !stream.line().contains("pulling manifest") {}
        stream
    };
    let pull = || -> Response {
        post(running.address, "/api/pull", &json!({"model": "quick", "stream": false}))
    };
    let [one, mut other] = ["slow-1", "slow-2"].map(begin);
    let busy = pull();
    assert_eq!(busy.status, 503, "{}", busy.body);
    assert!(busy.body.contains("other changes of models are at work"), "{}", busy.body);
    assert!(busy.headers.contains_key("retry-after"));
    // Its thread is at work for as long as it likes; the turn is given up with the connection.
    drop(one);
    until(|| pull().status == 200);
    assert!(!*slow.is_open.lock().unwrap());
    slow.let_go();
    let mut last = String::new();
    while !last.contains("success") {
        last = other.line();
        assert!(!last.is_empty() && !last.contains("error"), "{last}");
    }
    until(|| *slow.n_cancelled.lock().unwrap() == 1);
    let tags = request(running.address, "GET /api/tags", b"").json();
    let names: Vec<&Value> =
        tags["models"].as_array().unwrap().iter().map(|model| &model["name"]).collect();
    assert_eq!(names, [MODEL, "quick", "slow-2"]);
}

#[test]
fn every_change_of_models_leaves_a_line_in_the_log() {
    let log = Log::start();
    let (_slow, running) = Slow::start();
    let check = |id: &str, line: &str, body: Value, status: u16, words: &[&[&str]]| {
        let head = format!("{line}\nContent-Type: application/json\nx-request-id: {id}");
        let answer = request(running.address, &head, body.to_string().as_bytes());
        assert_eq!(answer.status, status, "{line}: {}", answer.body);
        // It is written before the client knows.
        let log = log.text();
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("serve::changes") && line.contains(id))
            .collect();
        assert_eq!(lines.len(), words.len(), "{lines:#?}");
        for (line, words) in lines.iter().zip(words) {
            assert!(words.iter().all(|word| line.contains(word)), "{words:?} {line}");
        }
    };
    let begun = "models are being changed";
    let pull = ["what=\"pull\"", "model=new"];
    check(
        "change-1",
        "POST /api/pull",
        json!({"model": "new"}),
        200,
        &[&[begun, pull[0], pull[1], "peer=127.0.0.1"], &["models changed", pull[0], pull[1]]],
    );
    let copy = ["what=\"copy\"", "model=mine"];
    let body = json!({"model": "mine", "from": MODEL});
    let from = format!("from={MODEL}");
    check(
        "change-2",
        "POST /api/create",
        body,
        200,
        &[&[begun, copy[0], copy[1], &from], &["models changed", copy[0], copy[1]]],
    );
    let body = json!({"source": "new", "destination": "mine-too"});
    check(
        "change-3",
        "POST /api/copy",
        body,
        200,
        &[
            &[begun, copy[0], "model=mine-too", "from=new"],
            &["models changed", copy[0], "model=mine-too"],
        ],
    );
    let delete = ["what=\"delete\"", "model=new"];
    check(
        "change-4",
        "DELETE /api/delete",
        json!({"model": "new"}),
        200,
        &[&[begun, delete[0], delete[1]], &["models changed", delete[0], delete[1]]],
    );
    // What is refused too, in one line, and without what an address may hold that is secret.
    let body = json!({"model": "https://nobody/m.gguf?sig=4720\nINFO"});
    let refused = ["models not changed", pull[0], "model=https://nobody/m.gguf INFO", "no model"];
    check("change-5", "POST /api/pull", body, 404, &[&refused]);
    check(
        "change-6",
        "DELETE /api/delete",
        json!({"model": MODEL}),
        403,
        &[&["models not changed", delete[0], "it was named when the server was started"]],
    );
    let head = "POST /api/pull\nX-Forwarded-For: 10.0.0.1";
    check(
        "change-7",
        head,
        json!({"model": "new"}),
        403,
        &[&["models not changed", "status=403", "x-forwarded-for says that a web page"]],
    );
    assert!(!log.text().contains("4720"));
}

#[test]
fn the_lock_is_written_where_models_may_be_changed() {
    let (_slow, running) = Slow::start();
    let check = |path: &str, body: Value, status: u16, words: &str| {
        let found = post(running.address, path, &body);
        assert_eq!(found.status, status, "{path} {body}: {}", found.body);
        assert!(found.body.contains(words), "{path} {body}: {}", found.body);
    };
    let none = "m: this library has no lock";
    check("/admin/lock/m", json!({}), 404, none);
    check("/admin/lock/m", json!({"update": true}), 404, none);
    check("/admin/lock/m", json!({"update": 1}), 400, "update: 1: expected true or false");
    let back = "/admin/lock/m/rollback";
    check(back, json!({"to": 2, "why": "worse"}), 404, none);
    check(back, json!({"to": 0}), 400, "to: 0: expected an integer between 1 and");
    check(back, json!({"too": 1}), 400, "too: this server does not know this parameter");
    let told = request(running.address, "GET /admin/lock", b"").json();
    assert_eq!(told, json!({"file": null, "has_changed": false, "models": [], "changes": []}));
    // Elsewhere there is nothing to change it.
    for path in ["/admin/lock/m", back] {
        assert_eq!(post(super::address(), path, &json!({})).status, 501, "{path}");
    }
    let head = format!("POST {back}\nX-Forwarded-For: 10.0.0.1\nContent-Type: application/json");
    assert_eq!(request(running.address, &head, b"{}").status, 403);
}
