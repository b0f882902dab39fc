//! `freehold bundle`: what one machine exports another imports without a network, whole or not at
//! all, and answers the same.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::binary::{Home, arg, finish};
use crate::support::{files_below, model};

/// A home with a small model, its lock, settings with a secret, and a case; and a bundle of them.
fn exported(n_kib: usize) -> (Home, PathBuf) {
    let home = Home::new();
    let path = home.write("Tiny.gguf", &model(n_kib, 1));
    home.run(&["add", arg(&path), "--name", "tiny"]).ok();
    home.run(&["lock", "tiny", "--alias", "gpt-*=tiny"]).ok();
    home.write("freehold.toml", b"keep-alive = \"5m\" # sk-comment\ntls-key = \"sk-file\"\n");
    fs::create_dir(home.path("gate")).unwrap();
    home.write("gate/a.toml", b"[[case]]\nid = \"x\"\nprompt = \"y\"\nexpect = [\"z\"]\n");
    home.write("gate/notes.txt", b"not a case");
    let bundle = home.path("office.tar");
    let outcome =
        home.run(&["bundle", "export", arg(&bundle), "--cases", "gate", "--signer", "office"]);
    outcome.says(0, "freehold.toml: tls-key: left out");
    (home, bundle)
}

fn import<'a>(bundle: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["bundle", "import", arg(bundle)][..], more].concat()
}

/// No model, and no half of one, has a name in this home.
fn has_nothing(home: &Home) -> bool {
    files_below(&home.path("home/models")).is_empty() && !home.path("freehold.lock").exists()
}

#[test]
fn what_is_exported_is_imported_with_all_that_belongs_to_it_but_secrets() {
    let (home, bundle) = exported(64);
    let whole = fs::read(&bundle).unwrap();
    assert!(!whole.windows(3).any(|window| window == b"sk-"), "a secret is in the bundle");
    let away = home.path("").to_str().unwrap().trim_end_matches('/').to_owned();
    assert!(!whole.windows(away.len()).any(|window| window == away.as_bytes()), "a path of here");
    let other = Home::new();
    let verified = other.run(&["bundle", "verify", arg(&bundle), "--json"]).json();
    assert_eq!(verified["signer"], "office");
    assert_eq!(verified["signer_is_known"], false);
    let paths: Vec<&str> = verified["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["path"].as_str().unwrap())
        .collect();
    let expected =
        ["freehold.lock", "freehold.toml", "cases/a.toml", "models/local/tiny/Tiny.gguf"];
    assert_eq!(paths, expected);
    let outcome = other.run(&import(&bundle, &[]));
    outcome.says(0, "which is believed from now on");
    outcome.says(0, "freehold.toml: tls-key: it was left out of the bundle, set it here");
    assert_eq!(outcome.ok(), "local/tiny\n");
    let read = |home: &Home, path: &str| fs::read_to_string(home.path(path)).unwrap();
    assert_eq!(read(&other, "freehold.lock"), read(&home, "freehold.lock"));
    assert_eq!(read(&other, "freehold.toml"), "keep-alive = \"5m\"\n");
    assert_eq!(read(&other, "cases/a.toml"), read(&home, "gate/a.toml"));
    // The lock holds there, to the byte.
    assert!(other.run(&["verify"]).ok().contains("as locked"));
    assert!(!other.path("home/staging/local--tiny").exists());
    // Again it changes nothing; what is here with other contents is never written over.
    other.run(&import(&bundle, &[])).ok();
    other.write("freehold.toml", b"keep-alive = \"6m\"\n");
    other.run(&import(&bundle, &[])).fails(2, &["freehold.toml", "with other contents"]);
    assert_eq!(read(&other, "freehold.toml"), "keep-alive = \"6m\"\n");
    // A bundle is not written over either.
    home.run(&["bundle", "export", arg(&bundle)]).fails(2, &["office.tar"]);
}

#[test]
fn after_an_upgrade_the_version_goes_along_that_the_lock_says() {
    let (home, _) = exported(4);
    let path = home.write("new.gguf", &model(4, 2));
    home.run(&["upgrade", "tiny", "--from-file", arg(&path), "--force", "--yes"]).ok();
    for names in [&["tiny"][..], &[]] {
        let bundle = home.path(&format!("upgraded-{}.tar", names.len()));
        home.run(&[&["bundle", "export", arg(&bundle)][..], names].concat()).ok();
        let other = Home::new();
        assert_eq!(other.run(&import(&bundle, &[])).ok(), "local/tiny-v2\n");
        assert!(other.run(&["verify"]).ok().contains("as locked"));
    }
}

#[test]
fn others_can_look_in() {
    let (home, bundle) = exported(16);
    let tar = |args: &[&str]| {
        let output = Command::new("tar").args(args).arg(&bundle).output().ok()?;
        output.status.success().then_some(output.stdout)
    };
    let Some(listed) = tar(&["--list", "--file"]) else {
        println!("skipped: no tar is here");
        return;
    };
    let listed = String::from_utf8(listed).unwrap();
    assert!(listed.starts_with("index.json\nindex.json.sig\nfreehold.lock\n"), "{listed}");
    let inside = home.path("inside");
    fs::create_dir(&inside).unwrap();
    let args = ["--extract", "--directory", arg(&inside), "--file"];
    tar(&args).unwrap();
    let extracted = fs::read(inside.join("models/local/tiny/Tiny.gguf")).unwrap();
    assert_eq!(extracted, model(16, 1));
}

#[test]
fn a_signer_is_believed_once_and_another_key_under_its_name_is_not() {
    let (_home, first) = exported(4);
    let (stranger, second) = exported(4);
    let other = Home::new();
    let pinned = "00".repeat(32);
    let outcome = other.run(&import(&first, &["--signer", &pinned]));
    outcome.fails(4, &["office", &pinned]);
    other.run(&import(&first, &["--signer", "12"])).says(2, "64 hexadecimal digits");
    assert!(has_nothing(&other));
    // A bundle that is refused for something else makes its signer no acquaintance.
    let taken = Home::new();
    let path = taken.write("own.gguf", &model(4, 9));
    taken.run(&["add", arg(&path), "--name", "tiny"]).ok();
    assert_ne!(taken.run(&import(&first, &[])).code, Some(0));
    assert!(!taken.path("home/signers.toml").exists());
    other.run(&import(&first, &[])).ok();
    other.run(&["rm", "tiny"]).ok();
    other.run(&import(&second, &[])).fails(4, &["office", "--accept-new-signer"]);
    assert!(!other.path("home/models/local/tiny").exists());
    assert!(other.run(&["bundle", "verify", arg(&second)]).ok().contains("and not with"));
    other.run(&import(&second, &["--accept-new-signer"])).ok();
    // The key of a machine is its own and stays.
    let key = fs::read_to_string(stranger.path("home/node.key")).unwrap();
    let index = stranger.run(&["bundle", "verify", arg(&second), "--json"]).json();
    assert!(key.contains(index["public_key"].as_str().unwrap()));
}

#[test]
fn a_bundle_with_any_byte_changed_or_missing_is_refused_and_leaves_nothing() {
    let (_home, bundle) = exported(4);
    let good = fs::read(&bundle).unwrap();
    let other = Home::new();
    let changed = other.path("changed.tar");
    let refused = |bytes: &[u8], place: &str| {
        fs::write(&changed, bytes).unwrap();
        let verified = other.run(&["bundle", "verify", arg(&changed)]);
        assert_eq!(verified.code, Some(4), "{place}: {}", verified.stderr);
        let imported = other.run(&import(&changed, &[]));
        // What lies behind all entries, an import does not read.
        if place != "byte in the end" {
            assert_eq!(imported.code, Some(4), "{place}: {}", imported.stderr);
            assert!(files_below(&other.path("home/models")).is_empty(), "{place}");
        }
    };
    // Coprime to the size of a block, so that headers, bodies and paddings have their turn.
    for at in (0..good.len() - 1024).step_by(149) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x01;
        refused(&bytes, &format!("byte {at}"));
    }
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() = 1;
    refused(&bytes, "byte in the end");
    let _ = fs::remove_dir_all(other.path("home"));
    for n_bytes in [0, 511, 512, 5000, good.len() - 1024, good.len() - 1] {
        refused(&good[..n_bytes], &format!("{n_bytes} bytes"));
    }
    refused(&[&good[..], &[0; 512]].concat(), "one block more");
}

#[test]
fn a_killed_import_goes_on_and_a_killed_export_leaves_no_bundle() {
    let (home, bundle) = exported(24 << 10);
    let other = Home::new();
    let spawn = |home: &Home, args: &[&str]| {
        let mut command = home.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    // Kills it when it has written to `part` more than was there.
    let kill_at_work = |mut child: Child, part: &Path, later: Duration| {
        let n_bytes = || fs::metadata(part).map_or(0, |metadata| metadata.len());
        let (before, deadline) = (n_bytes(), Instant::now() + Duration::from_secs(60));
        while child.try_wait().unwrap().is_none() && n_bytes() <= before {
            assert!(Instant::now() < deadline, "nothing came to {}", part.display());
            std::thread::sleep(Duration::from_micros(100));
        }
        std::thread::sleep(later);
        child.kill().unwrap();
        child.wait().unwrap();
        u32::from(n_bytes() > 0)
    };
    let mut n_parts = 0;
    let part = other.path("home/staging/local--tiny/parts/Tiny.gguf.part");
    for kill in 0..10 {
        let child = spawn(&other, &import(&bundle, &[]));
        n_parts += kill_at_work(child, &part, Duration::from_micros(500 * kill));
        for installed in other.run(&["list", "--json"]).json().as_array().unwrap() {
            assert_eq!(installed["name"], "tiny");
            assert!(other.run(&["verify", "tiny"]).ok().contains("intact"));
            // From the start once more.
            other.run(&["rm", "tiny"]).ok();
        }
    }
    assert!(n_parts > 0, "no kill hit an import at work");
    other.run(&import(&bundle, &[])).ok();
    assert!(other.run(&["verify"]).ok().contains("as locked"));
    assert!(!other.path("home/staging/local--tiny").exists());
    let again = home.path("again.tar");
    let mut n_parts = 0;
    for kill in 0..4 {
        let child = spawn(&home, &["bundle", "export", arg(&again)]);
        let part = home.path(&format!("again.tar.{}.part", child.id()));
        n_parts += kill_at_work(child, &part, Duration::from_micros(500 * kill));
        if again.exists() {
            home.run(&["bundle", "verify", arg(&again)]).ok();
            fs::remove_file(&again).unwrap();
        }
    }
    assert!(n_parts > 0, "no kill hit an export at work");
}

/// The binary without any network; where the system does not permit that, told to use none.
#[cfg(unix)]
fn cut_off(home: &Home, args: &[&str]) -> Command {
    let permitted = Command::new("unshare").args(["-n", "true"]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        println!("a namespace without a network needs root and `unshare`: only told to use none");
        return home.command(args);
    }
    let mut command = Command::new("unshare");
    command.args(["-n", "--", env!("CARGO_BIN_EXE_freehold")]).args(args);
    command.current_dir(home.path("")).env("FREEHOLD_HOME", home.path("home"));
    command.env_remove("FREEHOLD_OFFLINE").stdin(Stdio::null());
    command
}

#[cfg(unix)]
#[test]
fn a_machine_without_a_network_gives_the_same_answers() {
    const ASKED: &str =
        r#"{"prompt": "Why should I own my tools?", "max_tokens": 24, "n": 2, "ignore_eos": true}"#;
    let (home, other) = (Home::new(), Home::new());
    home.run(&["add", arg(&testkit::smollm2()), "--name", "smollm2"]).ok();
    home.run(&["lock", "smollm2"]).ok();
    let asked = [("/v1/completions", ASKED)];
    let ids = crate::receipt::answered_by(&home, "smollm2", &asked, &[]);
    let receipt = home.run(&["receipt", "export", &ids[0]]).ok();
    let bundle = home.path("office.tar");
    home.run(&["bundle", "export", arg(&bundle)]).ok();

    assert_eq!(finish(cut_off(&other, &import(&bundle, &[]))).ok(), "local/smollm2\n");
    other.write("receipt.json", receipt.as_bytes());
    other.write("body.json", ASKED.as_bytes());
    // Tokens, prompts, parameters and what the lock says: bit for bit, and by name what is not.
    let verify = ["receipt", "verify", "receipt.json", "--request", "body.json", "--lock"];
    let verify = [&verify[..], &["freehold.lock", "--threads", "1"]].concat();
    let told = finish(cut_off(&other, &verify)).ok();
    assert!(told.contains("bit-equal, 48 tokens") && told.contains("another machine's"), "{told}");
    let lock = fs::read_to_string(other.path("freehold.lock")).unwrap();
    let entry = serde_json::from_str::<serde_json::Value>(&receipt).unwrap();
    let entry = entry["receipt"]["model"]["lock"].as_str().unwrap().to_owned();
    let why = finish(cut_off(&other, &["why", "smollm2", "--json"])).json();
    assert_eq!(why["lock"]["entry"], entry, "{lock}");
}
