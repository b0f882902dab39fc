//! `freehold key` and `freehold project` through the real binary, beside a server that runs.
// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

use crate::binary::{Home, arg};
use crate::server::Server;

/// A server on a model that it opens when it is asked for.
fn start(home: &Home, flags: &[&str]) -> Server {
    Server::start(home, &[&["one", "--on-demand"], flags].concat())
}

#[test]
fn keys_are_managed_beside_a_server_that_runs() {
    let home = Home::new();
    home.run(&["add", arg(&testkit::smollm2()), "--name", "one"]).ok();
    assert_eq!(home.run(&["key", "list", "--json"]).json()["keys"], serde_json::json!([]));
    let server = start(&home, &[]);
    assert_eq!((server.status(None), server.status(Some("any-key"))), (200, 200));

    home.run(&["project", "create", "shop"]).ok();
    let create =
        ["key", "create", "till", "--project", "shop", "--model", "one", "--expires", "30d"];
    let made = home.run(&create);
    assert!(made.stderr.contains("its secret is not shown again"), "{}", made.stderr);
    let first = made.ok().trim().to_owned();
    assert!(first.starts_with("fh_") && first.len() == 57, "{first}");
    server.wait_for(Some(&first), 200);
    server.wait_for(None, 401);
    let listed = home.run(&["key", "list"]).ok();
    for word in ["till", "shop", "valid for 29d", "models one; all routes"] {
        assert!(listed.contains(word), "{word}: {listed}");
    }
    assert!(!listed.contains(&first[14..]), "{listed}");
    assert!(home.run(&["project", "list"]).ok().contains("shop  1"));
    home.run(&["project", "remove", "shop"]).fails(2, &["project \"shop\": it has keys"]);

    let second = home.run(&["key", "rotate", "till", "--json"]).json();
    let second = second["secret"].as_str().unwrap().to_owned();
    assert_eq!(first[..14], second[..14], "the same id");
    server.wait_for(Some(&second), 200);
    server.wait_for(Some(&first), 401);
    home.run(&["key", "revoke", &first[3..13]]).ok();
    server.wait_for(Some(&second), 401);
    assert_eq!(server.status(None), 401, "the last key that goes opens nothing");
    assert!(home.run(&["key", "list", "--all"]).ok().contains("revoked"));
    home.run(&["project", "remove", "shop"]).ok();

    let open = start(&home, &["--local-access", "open"]);
    assert_eq!((open.status(None), open.status(Some(&first))), (200, 401));
    home.run(&["ledger", "verify"]).ok();
    let export = home.run(&["ledger", "export", "--kind", "audit"]).ok();
    assert!(export.contains("key.revoke") && export.contains("project.remove"), "{export}");
    for secret in [first, second] {
        assert!(!export.contains(&secret[14..]), "a secret is in the export");
    }
}

#[test]
fn what_cannot_be_is_told_with_its_flag() {
    let home = Home::new();
    let fails = |args: &[&str], code: i32, words: &[&str]| {
        home.run(&[&["key"], args].concat()).fails(code, words);
    };
    fails(&["create", "a b"], 2, &["NAME: \"a b\": expected 1 to 64 letters"]);
    fails(&["create", "a", "--route", "/v2/*"], 2, &["--route: \"/v2/*\": expected the path"]);
    fails(&["create", "a", "--model", "x*y"], 2, &["--model: \"x*y\""]);
    fails(&["create", "a", "--label", "secret"], 2, &["expected one of public"]);
    fails(&["create", "a", "--expires", "soon"], 2, &["expected a time such as 12h"]);
    fails(&["create", "a", "--project", "none"], 3, &["no project", "\"none\""]);
    fails(&["create", "a", "--ledger", "none"], 2, &["expected a ledger"]);
    home.run(&["key", "create", "a"]).ok();
    fails(&["create", "a"], 2, &["key \"a\": there is one of this name"]);
    fails(&["revoke", "b"], 3, &["key \"b\"", "a"]);
    fails(&["rotate", "b"], 3, &["key \"b\""]);
    let serve = ["serve", "one", "--local-access", "key", "--ledger", "none"];
    home.run(&serve).fails(2, &["--local-access: keys are kept in the ledger"]);
}

#[test]
fn the_ledger_of_the_settings_is_the_one_that_is_used() {
    let home = Home::new();
    home.write("freehold.toml", b"ledger = \"elsewhere.sqlite\"\n");
    home.run(&["key", "create", "a"]).ok();
    assert!(home.path("elsewhere.sqlite").is_file() && !home.path("home/ledger.sqlite").exists());
    assert!(home.run(&["key", "list"]).ok().contains("valid"));
    let other = home.path("other.sqlite");
    assert_eq!(home.run(&["key", "list", "--ledger", arg(&other)]).ok(), "");
}
