//! Upgrades as reviewed acts, through the real binary: `outdated`, `upgrade`, `rollback`.
#![allow(clippy::unwrap_used)] // The helpers of these tests are tests, which the lint cannot see.

use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Home, Outcome, arg};
use crate::server::Server;
use gguf::TensorType;
use gguf::write::Writer;
use serde_json::Value;

/// A small file that is a model but for its weights.
fn small(template: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.metadata("general.architecture", "llama").metadata("general.license", "MIT");
    writer.metadata("tokenizer.ggml.model", "gpt2").metadata("tokenizer.chat_template", template);
    writer.tensor("blk.0.w", &[2, 32], TensorType::Q8_0, vec![7_u8; 68]);
    writer.finish().unwrap()
}

/// A home with the small model, pulled from `m.gguf` as `m`, and locked.
fn locked() -> Home {
    let home = Home::new();
    let path = home.write("m.gguf", &small("{{ one }}"));
    home.run(&["pull", arg(&path), "--name", "m"]).ok();
    home.run(&["lock", "m", "--alias", "claude-*=m"]).ok();
    home
}

/// Moves `m` to a further version, untested.
fn force(home: &Home, template: &str) {
    let path = home.write("new.gguf", &small(template));
    home.run(&["upgrade", "m", "--from-file", arg(&path), "--force", "--yes"]).ok();
}

fn lock_text(home: &Home) -> String {
    std::fs::read_to_string(home.path("freehold.lock")).unwrap()
}

fn history(home: &Home) -> Vec<Value> {
    let text = std::fs::read_to_string(home.path("freehold.lock.history")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts that an application which asks for `m` gets this version.
#[track_caller]
fn answers_with(home: &Home, version: &str) {
    // What is as locked gets as far as its weights, of which there are none.
    let outcome = home.run(&["run", "--model", "m", "Hello"]);
    outcome.says(5, "held to freehold.lock");
    assert!(outcome.stderr.contains(&format!("/{version}/")), "{}", outcome.stderr);
    let found = home.run(&["why", "claude-x", "--json"]).json();
    assert_eq!(found["model"], format!("local/{version}"));
    assert_eq!(found["lock"]["state"], "as locked");
    home.run(&["diff"]).says(0, "nothing differs");
    home.run(&["verify"]).ok();
}

#[test]
fn a_worse_model_is_refused_and_an_equal_one_moves_the_lock() {
    let home = Home::new();
    let cases = testkit::workspace_root().join("crates/gate/examples/smollm2/texts.toml");
    home.run(&["add", arg(&testkit::smollm2()), "--name", "m"]).ok();
    home.run(&["lock", "m", "--alias", "claude-*=m"]).ok();
    let before = lock_text(&home);
    let upgrade = |name: &str, n_bits: u32, more: &[&str]| {
        let path = home.path(name);
        crate::repack::repack(&testkit::smollm2(), &path, n_bits, "ffn_down").unwrap();
        let args = ["upgrade", "claude-x", "--from-file", arg(&path), "--tests", arg(&cases)];
        home.run(&[&args[..], &["--yes"], more].concat())
    };
    // Three bits a weight instead of four, in one of seven matrices.
    let refused = upgrade("worse.gguf", 3, &[]);
    assert_eq!(refused.code, Some(9), "{}", refused.stderr);
    let text = String::from_utf8(refused.stdout).unwrap();
    assert!(text.contains("REFUSED: m-v2") && text.contains("cases passed"), "{text}");
    assert!(refused.stderr.contains("`freehold rm local/m-v2` removes it"), "{}", refused.stderr);
    assert_eq!(lock_text(&home), before);
    assert_eq!(history(&home), Vec::<Value>::new());

    // The same weights, in other places of the file.
    upgrade("equal.gguf", 4, &["--max-changed", "0", "--why", "it is smaller"]).ok();
    let after = lock_text(&home);
    assert!(after.contains("installed = \"local/m-v3\""), "{after}");
    let moves = history(&home);
    assert_eq!(
        (moves.len(), &moves[0]["name"], &moves[0]["forced"]),
        (1, &"m".into(), &false.into())
    );
    let gate = &moves[0]["gate"];
    assert_eq!((&gate["passed"], &gate["n_answers_changed"]), (&true.into(), &0.into()));
    assert_eq!(gate["n_passed_old"], gate["n_passed_new"]);
    assert!(gate["n_cases"].as_u64().unwrap() >= 10, "{gate}");
    let why = home.run(&["why", "claude-x"]).ok();
    assert!(why.contains("last move") && why.contains("it is smaller (the gate let it"), "{why}");

    home.run(&["rollback", "claude-x"]).ok();
    assert_eq!(lock_text(&home), before);
    home.run(&["rollback", "m"]).fails(3, &["m: nothing is behind it"]);
    home.run(&["rollback", "m", "--to", "2"]).ok();
    assert_eq!(lock_text(&home), after);
    // Forced, the worse one moves too, and the history says what the gate said.
    let args = ["upgrade", "m", "--to", "m-v2", "--tests", arg(&cases), "--force", "--yes"];
    home.run(&args).ok();
    let last = history(&home).pop().unwrap();
    assert_eq!((&last["forced"], &last["gate"]["passed"]), (&true.into(), &false.into()));
    assert!(last["why"].as_str().unwrap().contains("the gate refused it: "), "{last}");
}

#[test]
fn nothing_is_fetched_or_moved_where_it_could_not_be_decided() {
    let home = locked();
    let before = lock_text(&home);
    let new = home.write("new.gguf", &small("{{ two }}"));
    let upgrade =
        |more: &[&str]| home.run(&[&["upgrade", "m", "--from-file", arg(&new)], more].concat());
    upgrade(&[]).fails(2, &["nobody is here to be asked", "--yes"]);
    upgrade(&["--yes"]).fails(3, &["tests: no such folder of cases", "--force"]);
    upgrade(&["--yes", "--to", "x"]).says(2, "--to");
    home.run(&["upgrade", "n", "--yes"]).fails(3, &["\"n\" is not in freehold.lock"]);
    home.run(&["upgrade", "m", "--yes", "--lock", "no.lock"]).fails(3, &["no.lock"]);
    let bad = home.write("tests.toml", b"[[case]]\nid = 1\n");
    upgrade(&["--yes", "--tests", arg(&bad)]).fails(2, &["tests.toml:1: id: 1"]);
    home.run(&["show", "m-v2"]).fails(3, &["m-v2"]);
    // What is not as locked cannot be held against anything.
    let path = home.path("home/models/local/m/m.gguf");
    std::fs::write(&path, small("{{ six }}")).unwrap();
    let good = home.write(
        "good.toml",
        b"[[case]]\nid = \"a\"\nprompt = \"b\"\nexpect = [{ contains = \"c\" }]\n",
    );
    upgrade(&["--yes", "--tests", arg(&good)]).fails(4, &["m is not as", "chat template"]);
    assert_eq!(lock_text(&home), before);
    assert_eq!(history(&home), Vec::<Value>::new());
}

#[test]
fn the_lock_goes_back_step_by_step_and_forward() {
    let home = locked();
    let first = lock_text(&home);
    answers_with(&home, "m");
    force(&home, "{{ two }}");
    let second = lock_text(&home);
    answers_with(&home, "m-v2");
    home.run(&["lock"]).says(0, "says so already");
    force(&home, "{{ three }}");
    let third = lock_text(&home);
    answers_with(&home, "m-v3");
    // The same bytes once more are no upgrade.
    let again = home.path("new.gguf");
    let args = ["upgrade", "m", "--from-file", arg(&again), "--force", "--yes"];
    home.run(&args).says(0, "nothing to move");
    let list = home.run(&["rollback", "m", "--list"]).ok();
    assert!(list.contains("now   3") && list.contains("back  2"), "{list}");

    for expected in [&second, &first] {
        home.run(&["rollback", "m"]).ok();
        assert_eq!(&lock_text(&home), expected);
    }
    answers_with(&home, "m");
    home.run(&["rollback", "m"]).fails(3, &["nothing is behind it"]);
    home.run(&["rollback", "m", "--to", "1"]).says(0, "at version 1 already");
    home.run(&["rollback", "m", "--to", "4"]).fails(3, &["version 4, expected 1 to 3"]);
    home.run(&["rollback", "m", "--to", "3", "--why", "it was not that"]).ok();
    assert_eq!(lock_text(&home), third);
    answers_with(&home, "m-v3");
    let moves = history(&home);
    let steps: Vec<&Value> = moves.iter().map(|of| &of["step"]).collect();
    assert_eq!(steps, ["upgrade", "upgrade", "rollback", "rollback", "rollback"]);
    assert_eq!(moves[0]["forced"], true);
    assert_eq!(moves[0]["why"], "forced, without the gate");
    assert_eq!(moves[0]["from"]["entry"]["source"], "file m.gguf");
    assert_eq!(moves[4]["why"], "it was not that");
    // Only appended to.
    assert_eq!(moves[0]["to"], moves[1]["from"]["digest"]);
}

#[test]
fn locking_all_leaves_out_versions_that_the_lock_does_not_say() {
    let home = locked();
    let before = lock_text(&home);
    force(&home, "{{ two }}");
    let after = lock_text(&home);
    home.run(&["lock"]).says(0, "freehold.lock says so already");
    assert_eq!(lock_text(&home), after);
    home.run(&["rollback", "m"]).ok();
    let again = home.run(&["lock"]);
    again.says(0, "local/m-v2: left out: it is another version of m");
    assert_eq!(lock_text(&home), before);
    // One that was refused was never in the history.
    let path = home.write("third.gguf", &small("{{ three }}"));
    home.run(&["pull", arg(&path), "--name", "m-v3"]).ok();
    home.run(&["lock"]).says(0, "local/m-v3: left out");
    home.run(&["lock", "m-v3"]).ok();
    assert!(lock_text(&home).contains("[model.m-v3]"), "{}", lock_text(&home));
}

#[test]
fn a_model_of_another_publisher_takes_the_name_and_gives_it_back() {
    let home = locked();
    let before = lock_text(&home);
    let path = home.write("other.gguf", &small("{{ other }}"));
    home.run(&["pull", arg(&path), "--name", "other/m"]).ok();
    home.run(&["lock"]).says(0, "freehold.lock says so already");
    let answered_by = |full_name: &str| {
        assert_eq!(home.run(&["why", "claude-x", "--json"]).json()["model"], full_name);
        home.run(&["lock"]).says(0, "freehold.lock says so already");
        home.run(&["verify"]).ok();
    };
    answered_by("local/m");
    home.run(&["upgrade", "m", "--to", "other/m", "--force", "--yes"]).ok();
    assert!(lock_text(&home).contains("installed = \"other/m\""), "{}", lock_text(&home));
    answered_by("other/m");
    home.run(&["rollback", "m"]).ok();
    assert_eq!(lock_text(&home), before);
    answered_by("local/m");
}

#[cfg(unix)]
#[test]
fn a_client_cannot_remove_what_a_rollback_needs() {
    let home = locked();
    force(&home, "{{ two }}");
    let server = Server::start(&home, &["m", "--on-demand", "--allow-model-changes"]);
    let answer = server.ask("DELETE /api/delete", "", "{\"model\": \"m\"}");
    drop(server);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert!(answer.body.contains("local/m-v2: freehold.lock says that m is this"), "{answer:?}");
    home.run(&["rollback", "m"]).ok();
}

#[test]
fn a_former_version_that_is_not_as_it_was_keeps_the_lock_where_it_is() {
    let home = locked();
    force(&home, "{{ two }}");
    let second = lock_text(&home);
    // Somebody may want it, so it is not removed by accident.
    home.run(&["rm", "m"]).fails(2, &["local/m: `freehold rollback m` goes back to it"]);
    home.run(&["rm", "m-v2"]).fails(2, &["local/m-v2: freehold.lock says that m is this"]);
    let path = home.path("home/models/local/m/m.gguf");
    let good = std::fs::read(&path).unwrap();
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    home.run(&["rollback", "m"]).fails(4, &["m.gguf: sha256 is "]);
    std::fs::write(&path, &good).unwrap();
    let text = std::fs::read_to_string(home.path("freehold.lock.history")).unwrap();
    home.write("freehold.lock.history", text.replacen("gguf", "gguF", 1).as_bytes());
    home.run(&["rollback", "m"]).fails(2, &["freehold.lock.history: line 1, column 1: "]);
    home.run(&["rm", "m"]).fails(2, &["freehold.lock.history: line 1"]);
    home.write("freehold.lock.history", text.as_bytes());
    home.run(&["rm", "m", "--force"]).ok();
    home.run(&["rollback", "m"]).fails(
        3,
        &["local/m is not here any more", "put m.gguf here", "'./m.gguf' --name local/m`"],
    );
    assert_eq!(lock_text(&home), second);
}

#[test]
fn a_licence_that_the_lock_does_not_allow_for_the_name_moves_nothing() {
    let home = locked();
    force(&home, "{{ two }}");
    home.run(&["rollback", "m"]).ok();
    let lines = "\n[licences]\nm = [\"apache-2.0\"]\nm-v3 = [\"mit\"]\n\n[model";
    let strict = lock_text(&home).replacen("\n[model", lines, 1);
    home.write("freehold.lock", strict.as_bytes());
    let path = home.write("new.gguf", &small("{{ three }}"));
    let words = ["comes under the licence", "allows for \"m\" only apache-2.0"];
    for args in [
        &["upgrade", "m", "--from-file", arg(&path), "--force", "--yes"][..],
        &["upgrade", "m", "--to", "m-v2", "--force", "--yes"],
        &["rollback", "m", "--to", "2"],
    ] {
        home.run(args).fails(2, &words);
        assert_eq!(lock_text(&home), strict);
    }
    assert!(!home.path("home/models/local/m-v3").exists());
}

#[test]
fn a_version_that_is_not_here_is_told_with_how_to_get_it() {
    let home = locked();
    force(&home, "{{ two }}");
    home.run(&["rm", "m-v2", "--force"]).ok();
    for args in [&["run", "--model", "m", "Hello"][..], &["serve", "m", "--listen", "127.0.0.1:0"]]
    {
        home.run(args).fails(3, &["the lock says that it is local/m-v2, which is not here"]);
    }
}

/// What a killed upgrade is doing.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Fetching,
    Fetched,
    Written,
}

impl Moment {
    fn has_come(self, home: &Home, n_moves: usize, version: &str) -> bool {
        let folder = home.path("home");
        match self {
            Self::Fetching => folder.join(format!("staging/local--{version}")).exists(),
            Self::Fetched => folder.join(format!("models/local/{version}/manifest.toml")).exists(),
            Self::Written => n_lines(&home.path("freehold.lock.history")) > n_moves,
        }
    }
}

fn n_lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn killed_at_any_moment_the_lock_is_the_old_one_or_the_new_one() {
    const N_KILLS: usize = 12;
    let home = locked();
    let mut n_killed = 0;
    for kill in 0..N_KILLS {
        let moment = [Moment::Fetching, Moment::Fetched, Moment::Written][kill % 3];
        let new = home.write("new.gguf", &small(&format!("{{{{ {kill} }}}}")));
        let (before, n_moves) = (lock_text(&home), n_lines(&home.path("freehold.lock.history")));
        let n_versions = std::fs::read_dir(home.path("home/models/local")).unwrap().count();
        let version = format!("m-v{}", n_versions + 1);
        let args = ["upgrade", "m", "--from-file", arg(&new), "--force", "--yes"];
        let mut child: Child =
            home.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() && !moment.has_come(&home, n_moves, &version) {
            assert!(Instant::now() < deadline, "{moment:?} never came");
            std::thread::sleep(Duration::from_micros(100));
        }
        n_killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let after = lock_text(&home);
        let is_new = after != before;
        // Whole: it is read, and says what is here; the history is read.
        home.run(&["verify"]).ok();
        let list = home.run(&["rollback", "m", "--list"]).ok();
        assert_eq!(list.contains(&version), is_new, "{moment:?}: {list}");
        if is_new {
            home.run(&["rollback", "m"]).ok();
            assert_eq!(lock_text(&home), before);
        } else {
            // Once more, to its end; what was fetched is taken up.
            home.run(&args).ok();
            assert!(lock_text(&home).contains(&version), "{}", lock_text(&home));
        }
    }
    assert!(n_killed > 3, "{n_killed} of {N_KILLS} were killed at work");
}

#[test]
fn sources_are_asked_and_nothing_changes() {
    let home = locked();
    let (before, path) = (lock_text(&home), home.path("m.gguf"));
    let state = |outcome: Outcome, code: i32| {
        assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
        let found: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        (found[0]["state"].as_str().unwrap().to_owned(), found[0]["upgrade_to"].clone())
    };
    let ask = || home.run(&["outdated", "claude-x", "--json"]);
    assert_eq!(state(ask(), 0), ("current".to_owned(), Value::Null));
    assert!(home.run(&["outdated"]).ok().contains("m     current  sha256 "));
    // Where it came from there is another file by now.
    std::fs::write(&path, small("{{ two }}")).unwrap();
    assert_eq!(state(ask(), 4), ("newer".to_owned(), arg(&path).into()));
    assert_eq!(lock_text(&home), before);
    home.run(&["upgrade", "m", "--force", "--yes"]).says(0, "its source has sha256 ");
    answers_with(&home, "m-v2");
    assert_eq!(state(ask(), 0).0, "current");
    home.run(&["upgrade", "m", "--force", "--yes"]).says(0, "nothing newer");
    std::fs::remove_file(&path).unwrap();
    assert_eq!(state(ask(), 7).0, "not asked");
    // One that is only in the lock, from a source that may not be asked here.
    let elsewhere = before.replace("file m.gguf", "hf:o/r/m.gguf").replace("\"local\"", "\"o\"");
    let lock = home.write("other.lock", elsewhere.as_bytes());
    let outcome = home.run(&["outdated", "--lock", arg(&lock)]);
    assert_eq!(outcome.code, Some(7), "{}", outcome.stderr);
    let text = String::from_utf8(outcome.stdout).unwrap();
    assert!(text.contains("not asked") && text.contains("FREEHOLD_OFFLINE"), "{text}");
    home.run(&["outdated", "n"]).fails(3, &["\"n\" is not in freehold.lock"]);
}
