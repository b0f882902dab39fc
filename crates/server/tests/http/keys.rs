//! Keys over real connections: one check before every route, and what a key may do and gets.

use super::client::{Response, post, request};
use super::operate::Log;
use super::receipts::Books;
use super::{MODEL, Running, engine, only_model, run};
use freehold_server::access::{Defaults, LocalAccess, Plan};
use freehold_server::{Alias, Config, Limits};
use ledger::{Act, Ledger, LedgerError, Reader, Secret};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server with a ledger.
struct House {
    running: Running,
    books: Books,
    folder: tempfile::TempDir,
}

/// The secret of a key.
type Text = String;

impl House {
    /// A server whose ledger has no key.
    fn open(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let books = Books::open(folder.path());
        let (fleet, model) = only_model(engine(), "");
        let mut config = Config::new(fleet, vec![model]);
        config.limits = Limits { keep_responses: None, ..Limits::default() };
        config.aliases = vec![
            Alias { name: "support".to_owned(), model: MODEL.to_owned() },
            Alias { name: "other-*".to_owned(), model: MODEL.to_owned() },
        ];
        config.receipts = Some(books.receipts.clone());
        change(&mut config);
        Self { running: run(config), books, folder }
    }

    fn address(&self) -> SocketAddr {
        self.running.address
    }

    fn ledger(&self) -> &Ledger {
        self.books.receipts.ledger()
    }

    fn act(&self, act: Act) {
        self.books.runtime.block_on(self.ledger().act(act, "test")).unwrap();
    }

    /// Makes a key beside the server, as the command line does.
    fn key(&self, name: &str, change: impl FnOnce(&mut Plan)) -> Text {
        let mut plan = Plan { name: name.to_owned(), ..Plan::default() };
        change(&mut plan);
        plan.check(0).unwrap();
        let (key, secret) = plan.draw(0).unwrap();
        self.act(Act::CreateKey(Box::new(key)));
        secret.shown().to_owned()
    }

    /// Waits until a request with this key has this status: a change made beside the server holds
    /// there in about a second.
    fn wait_for(&self, key: &str, status: u16) {
        let begun = Instant::now();
        while self.get("/v1/models", key).status != status {
            assert!(begun.elapsed() < Duration::from_secs(5), "not {status} after 5 s");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until keys are asked for, and this is one of them: before that any is taken.
    fn wait_for_key(&self, key: &str) {
        self.wait_for("", 401);
        self.wait_for(key, 200);
    }

    fn get(&self, path: &str, key: &str) -> Response {
        request(self.address(), &format!("GET {path}{}", bearer(key)), b"")
    }

    fn send(&self, head: &str, key: &str, body: &Value) -> Response {
        let head = format!("{head}\nContent-Type: application/json{}", bearer(key));
        request(self.address(), &head, body.to_string().as_bytes())
    }

    fn complete(&self, key: &str, more: &Value) -> Response {
        let mut body = json!({"prompt": "One, two,", "max_tokens": 1, "temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.send("POST /v1/completions", key, &body)
    }
}

fn bearer(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("\nAuthorization: Bearer {key}") }
}

fn admin(plan: &mut Plan) {
    plan.scopes.admin = true;
}

fn list(texts: &[&str]) -> Option<Vec<String>> {
    Some(texts.iter().map(|&text| text.to_owned()).collect())
}

/// Every method and path that is published, with something in place of each parameter.
fn routes(house: &House, key: &str) -> Vec<(String, String)> {
    let document = house.get("/openapi.json", key).json();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let parts = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
            let path = parts.collect::<Vec<_>>().join("/");
            routes.push((method.to_uppercase(), path));
        }
    }
    assert!(routes.len() > 50, "{routes:?}");
    routes
}

const PUBLIC: [&str; 7] =
    ["/", "/health", "/ready", "/login", "/login/callback", "/logout", "/session"];

/// A refusal has the shape of its family.
fn check_shape(method: &str, path: &str, response: &Response) {
    assert_eq!(response.headers["www-authenticate"], "Bearer realm=\"freehold\"", "{path}");
    if method == "HEAD" {
        return;
    }
    let body = response.json();
    if path.starts_with("/v1/messages") {
        assert_eq!(body["error"]["type"], "authentication_error", "{path}: {body}");
        assert_eq!(body["type"], "error", "{path}: {body}");
    } else if path.starts_with("/api/") {
        assert!(body["error"].is_string(), "{path}: {body}");
    } else {
        assert_eq!(body["error"]["code"], "invalid_api_key", "{path}: {body}");
    }
}

#[test]
fn every_route_asks_every_form_of_credential_the_same() {
    let origins = vec!["https://chat.example".to_owned()];
    let house = House::open(|config| config.allowed_origins = origins);
    let owner = house.key("owner-key", admin);
    let plain = house.key("plain", |_| {});
    let scoped = house.key("scoped", |plan| plan.scopes.routes = list(&["/v1/receipts/*"]));
    let expired = house.key("expired", |plan| plan.expires = Some(1));
    let revoked = house.key("revoked", |_| {});
    house.act(Act::RevokeKey("revoked".to_owned()));
    house.wait_for_key(&owner);
    house.wait_for_key(&plain);
    house.wait_for(&scoped, 403);
    house.wait_for(&revoked, 401);
    let unknown = Secret::draw(&Secret::draw_id().unwrap()).unwrap().shown().to_owned();
    let bearer = |key: &str| format!("\nAuthorization: Bearer {key}");
    let refused = [
        ("none", String::new(), ""),
        ("empty", bearer(""), ""),
        ("none by name", bearer("none"), ""),
        ("any", bearer("any-key"), ""),
        ("cut", bearer(&plain[..plain.len() - 1]), ""),
        ("unknown", bearer(&unknown), ""),
        ("revoked", bearer(&revoked), ""),
        ("expired", bearer(&expired), ""),
        ("basic", format!("\nAuthorization: Basic {plain}"), ""),
        ("two", format!("{}\nX-Api-Key: {owner}", bearer(&plain)), ""),
        ("twice", format!("{}{}", bearer(&plain), bearer(&owner)), ""),
        ("good and bad", format!("{}\nX-Api-Key: any-key", bearer(&plain)), ""),
        ("in the query", String::new(), "?key="),
        ("in the query by another name", String::new(), "?api_key="),
    ];
    let known = [
        bearer(&owner),
        format!("\nX-Api-Key: {owner}"),
        format!("{}\nX-Api-Key: {owner}", bearer(&owner)),
        format!("\nAuthorization: Bearer none\nX-Api-Key: {owner}"),
        format!("\nauthorization: bearer  {owner} "),
    ];
    let ask = |method: &str, path: &str, query: &str, headers: &str| {
        let query = if query.is_empty() { String::new() } else { format!("{query}{owner}") };
        request(house.address(), &format!("{method} {path}{query}{headers}"), b"")
    };
    for (method, path) in routes(&house, &owner) {
        let is_public = PUBLIC.contains(&&*path) || path.starts_with("/web/");
        for (form, headers, query) in &refused {
            let response = ask(&method, &path, query, headers);
            let context = format!("{method} {path} {form}: {}", response.body);
            assert_eq!(response.status == 401, !is_public, "{context}");
            assert!(!response.body.contains(&plain[20..]), "{context}");
            if !is_public {
                check_shape(&method, &path, &response);
            }
        }
        for headers in &known {
            let response = ask(&method, &path, "", headers);
            assert_ne!(response.status, 401, "{method} {path}: {}", response.body);
            assert!(!response.body.contains("may use these routes"), "{}", response.body);
        }
        let by_scope = ask(&method, &path, "", &bearer(&scoped));
        let is_in_scope = is_public || path.starts_with("/v1/receipts/");
        assert!(is_in_scope || by_scope.status == 403, "{method} {path}: {}", by_scope.status);
        let is_for_owner = path.starts_with("/admin/") || path == "/metrics";
        let by_plain = ask(&method, &path, "", &bearer(&plain));
        assert!(!is_for_owner || by_plain.status == 403, "{method} {path}: {}", by_plain.status);
    }
    for (headers, status) in [(String::new(), 401), (bearer(&plain), 404)] {
        assert_eq!(ask("GET", "/no/such/path", "", &headers).status, status);
    }
    // A browser asks beforehand without a key.
    let preflight = "\nOrigin: https://chat.example\nAccess-Control-Request-Method: POST";
    assert_eq!(ask("OPTIONS", "/v1/chat/completions", "", preflight).status, 204);
}

#[test]
fn keys_are_made_rotated_and_revoked_while_the_server_runs() {
    let house = House::open(|_| {});
    let fake = house.complete("any-key", &json!({}));
    assert_eq!(fake.status, 200, "while there is no key any is taken: {}", fake.body);
    let made = house.send("POST /admin/keys", "", &json!({"name": "owner-key", "admin": true}));
    assert_eq!(made.status, 200, "{}", made.body);
    let owner = made.json()["secret"].as_str().unwrap().to_owned();
    // At once, and for everybody.
    assert_eq!(house.complete("any-key", &json!({})).status, 401);
    assert_eq!(house.complete("", &json!({})).status, 401);
    assert_eq!(house.complete(&owner, &json!({})).status, 200);

    let body = json!({"name": "ci", "person": "zoe@example.com", "expires_in": 1000});
    let made = house.send("POST /admin/keys", &owner, &body).json();
    let first = made["secret"].as_str().unwrap().to_owned();
    let listed = house.get("/admin/keys", &owner);
    let keys = listed.json()["keys"].clone();
    assert_eq!((&keys[0]["name"], &keys[0]["person"]), (&json!("ci"), &json!("zoe@example.com")));
    assert!(keys[0]["expires_at"].is_i64() && keys[1]["scopes"]["admin"] == true, "{keys}");
    assert!(!listed.body.contains("secret") && !listed.body.contains("fh_"), "{}", listed.body);

    let receipt = house.complete(&first, &json!({})).headers["x-freehold-receipt"].clone();
    let rotated = house.send("POST /admin/keys/ci/rotate", &owner, &json!({"overlap": 2}));
    let second = rotated.json()["secret"].as_str().unwrap().to_owned();
    assert_eq!(rotated.json()["id"], made["id"]);
    assert_eq!(house.get("/v1/models", &first).status, 200, "both are taken for a while");
    // The key is the same one, and what was its stays so.
    assert_eq!(house.get(&format!("/v1/receipts/{receipt}"), &second).status, 200);
    assert_eq!(house.get(&format!("/v1/receipts/{receipt}"), &owner).status, 404);
    house.wait_for(&first, 401);
    assert_eq!(house.get("/v1/models", &second).status, 200);

    let id = made["id"].as_str().unwrap();
    let revoked = house.send(&format!("DELETE /admin/keys/{id}"), &owner, &json!({}));
    assert_eq!(revoked.status, 200, "{}", revoked.body);
    assert_eq!(house.get("/v1/models", &second).status, 401);
    let all = house.get("/admin/keys?all=true", &owner).json();
    assert!(all["keys"][0]["revoked_at"].is_i64(), "{all}");

    // Beside the server, in the ledger, too.
    let beside = house.key("beside", |_| {});
    house.wait_for(&beside, 200);
    house.act(Act::RevokeKey("beside".to_owned()));
    house.wait_for(&beside, 401);
    // The last key that goes opens nothing.
    house.act(Act::RevokeKey("owner-key".to_owned()));
    house.wait_for(&owner, 401);
    assert_eq!(house.get("/v1/models", "").status, 401);
}

#[test]
fn what_cannot_be_administered_is_told() {
    let house = House::open(|_| {});
    let owner = house.key("owner-key", admin);
    house.wait_for_key(&owner);
    let check = |head: &str, body: Value, status: u16, said: &str| {
        let response = house.send(head, &owner, &body);
        assert_eq!(response.status, status, "{head} {body}: {}", response.body);
        assert!(response.body.contains(said), "{head} {body}: {}", response.body);
    };
    let keys = "POST /admin/keys";
    check(keys, json!({}), 400, "name: absent");
    check(keys, json!({"name": "a b"}), 400, "expected 1 to 64 letters");
    check(keys, json!({"name": "owner-key"}), 409, "there is one of this name");
    check(keys, json!({"name": "a", "project": "none"}), 404, "no project");
    check(keys, json!({"name": "a", "routes": ["/v2/*"]}), 400, "the path of a route");
    check(keys, json!({"name": "a", "secret": "mine"}), 400, "secret: this server does not know");
    check("POST /admin/keys/none/rotate", json!({}), 404, "no key");
    check("POST /admin/keys/owner-key/rotate", json!({"overlap": -1}), 400, "overlap");
    check("DELETE /admin/keys/none", json!({}), 404, "no key");
    check("POST /admin/projects", json!({"name": "shop"}), 200, "shop");
    check("POST /admin/projects", json!({"name": "shop"}), 409, "there is one");
    check(keys, json!({"name": "till", "project": "shop"}), 200, "fh_");
    check("DELETE /admin/projects/shop", json!({}), 409, "it has keys");
    check("DELETE /admin/keys/till", json!({}), 200, "till");
    check("DELETE /admin/projects/shop", json!({}), 200, "shop");
    check("DELETE /admin/projects/shop", json!({}), 404, "no project");
    check("GET /admin/projects", json!({}), 200, "\"projects\":[]");
    let lenient = format!("{keys}\nX-Freehold-Lenient: true");
    let response = house.send(&lenient, &owner, &json!({"name": "b", "colour": "red"}));
    assert_eq!(response.headers["x-freehold-ignored"], "colour", "{}", response.body);
    // Who did it is recorded.
    let mut lines = String::new();
    house.books.runtime.block_on(house.ledger().flush()).unwrap();
    let path = house.folder.path().join("ledger.sqlite").display().to_string();
    house.books.runtime.block_on(async {
        let reader = Reader::open(&path).await.unwrap();
        let write = |line: &str| {
            lines.push_str(line);
            Ok::<_, LedgerError>(())
        };
        reader.export(1, None, write).await.unwrap();
    });
    assert!(lines.contains("project.remove") && lines.contains("key:owner-key:"), "{lines}");
}

#[test]
fn a_key_sees_and_gets_its_models_only() {
    let house = House::open(|_| {});
    let all = house.key("all", |_| {});
    let by_alias = house.key("by-alias", |plan| plan.scopes.models = list(&["support"]));
    let by_beginning = house.key("by-beginning", |plan| plan.scopes.models = list(&["other-*"]));
    let none = house.key("none", |plan| plan.scopes.models = list(&["gpt-*"]));
    house.wait_for_key(&none);
    let names = |key: &str| -> Vec<String> {
        let list = house.get("/v1/models", key).json()["data"].clone();
        let names = list.as_array().unwrap().iter().map(|card| card["id"].as_str().unwrap());
        let names: Vec<String> = names.map(str::to_owned).collect();
        let tags = house.get("/api/tags", key).json()["models"].clone();
        let tags = tags.as_array().unwrap().iter().map(|of| of["name"].as_str().unwrap());
        assert_eq!(tags.map(str::to_owned).collect::<Vec<_>>(), names);
        names
    };
    assert_eq!(names(&all), [MODEL, "support"]);
    assert_eq!(names(&by_alias), ["support"]);
    assert!(names(&by_beginning).is_empty() && names(&none).is_empty());

    let check = |key: &str, model: Value, status: u16| {
        let response = house.complete(key, &json!({"model": model}));
        assert_eq!(response.status, status, "{model}: {}", response.body);
        if status == 403 {
            assert!(response.body.contains("may use these models"), "{}", response.body);
            let is_told = model != MODEL && response.body.contains(MODEL);
            assert!(!is_told, "{}", response.body);
        }
    };
    check(&all, json!(MODEL), 200);
    check(&all, json!("nothing"), 404);
    check(&by_alias, json!("support"), 200);
    check(&by_alias, json!("support:latest"), 200);
    check(&by_alias, Value::Null, 200);
    for other in [MODEL, "other-1", "nothing"] {
        check(&by_alias, json!(other), 403);
        check(&none, json!(other), 403);
        let head = format!("/v1/models/{other}");
        assert_eq!(house.get(&head, &by_alias).status, 403, "{other}");
        let shown = house.send("POST /api/show", &by_alias, &json!({"model": other}));
        assert_eq!(shown.status, 403, "{other}: {}", shown.body);
        let tokens = json!({"content": "a", "model": other});
        assert_eq!(house.send("POST /tokenize", &by_alias, &tokens).status, 403, "{other}");
    }
    check(&by_beginning, json!("other-1"), 200);
    assert_eq!(house.get("/v1/models/support", &by_alias).status, 200);
    let nothing = house.complete(&none, &json!({}));
    assert_eq!(nothing.status, 400, "{}", nothing.body);
    assert!(!nothing.body.contains(MODEL), "{}", nothing.body);
}

#[test]
fn requests_get_what_their_key_says() {
    let house = House::open(|_| {});
    let strict = house.key("strict", |_| {});
    let with = |name: &str, defaults: Value| {
        let defaults: Defaults = serde_json::from_value(defaults).unwrap();
        house.key(name, |plan| plan.defaults = defaults)
    };
    let lenient = with("lenient", json!({"lenient": true}));
    let [shared, too] = ["shared", "too"].map(|name| with(name, json!({"cache": "shared"})));
    let off = with("off", json!({"cache": "off"}));
    house.wait_for_key(&off);
    let unknown = json!({"colour": "red"});
    assert_eq!(house.complete(&strict, &unknown).status, 400);
    assert_eq!(house.complete(&lenient, &unknown).headers["x-freehold-ignored"], "colour");

    // A prompt of more than a page, so that there is something to find.
    let n_cached = |key: &str, first: &str| {
        let prompt = format!("{first} {}", "and so on, ".repeat(40));
        let body = house.complete(key, &json!({"prompt": prompt})).json();
        body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
    };
    assert_eq!(n_cached(&strict, "A"), 0);
    assert!(n_cached(&strict, "A") > 0);
    assert_eq!(n_cached(&lenient, "A"), 0, "another key's");
    assert_eq!(n_cached(&shared, "B"), 0);
    assert!(n_cached(&too, "B") > 0);
    for _ in 0..2 {
        assert_eq!(n_cached(&off, "B"), 0);
    }
}

#[test]
fn programs_on_this_machine_are_let_in_as_the_owner_says() {
    let ask = |house: &House, headers: &str| {
        request(house.address(), &format!("GET /admin/keys{headers}"), b"").status
    };
    let bad = "\nAuthorization: Bearer any-key";
    let proxied = "\nX-Forwarded-For: 10.0.0.1";
    let open = House::open(|config| config.local_access = LocalAccess::Open);
    let wrong = Secret::draw(&Secret::draw_id().unwrap()).unwrap();
    let key = open.key("one", |_| {});
    open.wait_for(wrong.shown(), 401);
    let wrong = bearer(wrong.shown());
    assert_eq!((ask(&open, ""), ask(&open, bad)), (200, 200));
    // Who brings a key means to be that key.
    assert_eq!((ask(&open, &wrong), ask(&open, &bearer(&key))), (401, 403));
    for header in [proxied, "\nVia: 1.1 proxy", "\nForwarded: for=10.0.0.1"] {
        assert_eq!(ask(&open, header), 401, "{header}");
    }
    let closed = House::open(|config| config.local_access = LocalAccess::Key);
    assert_eq!((ask(&closed, ""), ask(&closed, bad)), (401, 401));
    let auto = House::open(|_| {});
    assert_eq!((ask(&auto, ""), ask(&auto, bad), ask(&auto, proxied)), (200, 200, 401));
    // What a proxy on this machine hands on is let in as other machines are.
    let anyone = House::open(|config| config.allow_anyone = true);
    assert_eq!((ask(&anyone, ""), ask(&anyone, proxied)), (200, 403));
    let models = |more: &str| request(anyone.address(), &format!("GET /v1/models{more}"), b"");
    assert_eq!(models(proxied).status, 200);
    // It has nothing of the owner's, whatever it says.
    let asked = json!({"prompt": "One, two,", "max_tokens": 1});
    for said in ["", bad] {
        let head = format!("POST /v1/completions\nContent-Type: application/json{said}");
        let response = request(anyone.address(), &head, asked.to_string().as_bytes());
        let path = format!("/v1/receipts/{}", response.headers["x-freehold-receipt"]);
        let see =
            |more: &str| request(anyone.address(), &format!("GET {path}{said}{more}"), b"").status;
        assert_eq!((see(""), see(proxied)), (200, 404), "{said}");
    }
}

#[test]
fn no_secret_is_in_a_log_a_number_or_the_ledger() {
    let log = Log::start();
    let house = House::open(|_| {});
    let made = house.send("POST /admin/keys", "", &json!({"name": "root-4821", "admin": true}));
    let mut secrets = vec![made.json()["secret"].as_str().unwrap().to_owned()];
    let owner = secrets[0].clone();
    for name in ["a-4821", "b-4821"] {
        let made = house.send("POST /admin/keys", &owner, &json!({"name": name}));
        secrets.push(made.json()["secret"].as_str().unwrap().to_owned());
    }
    let rotated = house.send("POST /admin/keys/a-4821/rotate", &owner, &json!({}));
    secrets.push(rotated.json()["secret"].as_str().unwrap().to_owned());
    let mut told = String::new();
    for secret in secrets.clone() {
        let asked = [
            house.complete(&secret, &json!({})),
            house.complete(&secret, &json!({"colour": 1})),
            house.get("/no/such/path", &secret),
            house.get("/admin/keys", &secret),
            request(house.address(), &format!("GET /v1/models?key={secret}"), b""),
            request(house.address(), &format!("GET /v1/models\nX-Api-Key: {secret}x"), b""),
            post(house.address(), "/v1/completions", &json!({"prompt": secret})),
        ];
        told.extend(asked.iter().map(|response| response.body.as_str()));
    }
    house.send("DELETE /admin/keys/b-4821", &owner, &json!({}));
    let mut seen = log.text();
    assert!(seen.contains("outcome=\"done\"") && seen.contains("refused"), "{seen}");
    seen.push_str(&house.get("/metrics", &owner).body);
    seen.push_str(&told);
    house.books.runtime.block_on(house.books.receipts.close()).unwrap();
    let mut seen = seen.into_bytes();
    let files: Vec<PathBuf> = std::fs::read_dir(house.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    for file in files {
        seen.extend(std::fs::read(file).unwrap());
    }
    let has = |text: &str| seen.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(has("root-4821"), "the names are there, so the right things are looked through");
    for secret in &secrets {
        assert!(!has(&secret[14..]), "a secret is written down");
        assert!(!has(&secret[30..]), "a part of a secret is written down");
    }
}
