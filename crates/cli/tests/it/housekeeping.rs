//! `freehold gc` and `freehold adopt` through the real binary.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use crate::binary::{Home, arg};
use crate::support::{files_below, model, sha256};
use serde_json::{Value, json};

const DAY: Duration = Duration::from_secs(86_400);

/// Sets the dates of all files below `folder` so far back.
fn age(folder: &Path, by: Duration) {
    for path in files_below(folder) {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - by).unwrap();
    }
}

/// A home with pulled models of 64, 65, … KiB that were last used 9, 8, … days ago.
fn home_with(names: &[&str]) -> Home {
    let home = Home::new();
    for (idx, name) in names.iter().enumerate() {
        let path = home.write(&format!("{name}.gguf"), &model(64 + idx, idx as u8));
        home.run(&["pull", arg(&path), "--name", name]).ok();
        let folder = home.path("home/models/local").join(name);
        age(&folder, DAY * (9 - idx as u32));
    }
    home
}

fn names(home: &Home) -> Vec<String> {
    let listed = home.run(&["list", "--json"]).json();
    let name = |model: &Value| model["name"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn what_nothing_needs_goes_and_is_told_before() {
    let home = home_with(&["a"]);
    let store = home.path("home");
    let orphan = store.join("models/local/a/old.gguf");
    let own = store.join("models/local/a/notes.txt");
    let half = store.join("models/local/a/manifest.7.new");
    let staged = store.join("staging/x--y/parts");
    fs::create_dir_all(&staged).unwrap();
    fs::write(staged.join("m.gguf.part"), [0; 5000]).unwrap();
    for (path, n_bytes) in [(&orphan, 3000), (&own, 10), (&half, 7)] {
        fs::write(path, vec![0; n_bytes]).unwrap();
    }
    // What is new may be somebody's work at this moment.
    assert_eq!(home.run(&["gc", "--dry-run", "--json"]).json()["garbage"], json!([]));
    age(&store, DAY * 2);
    let found = home.run(&["gc", "--dry-run", "--json"]).json();
    assert_eq!(found["bytes"], 8007);
    let kinds: Vec<_> = found["garbage"].as_array().unwrap().iter().map(|g| &g["kind"]).collect();
    assert_eq!(kinds, ["download", "leftover"]);
    home.run(&["gc"]).fails(2, &["nothing was removed", "--yes"]);
    assert!(orphan.exists() && staged.exists());
    let outcome = home.run(&["gc", "--yes"]);
    outcome.says(0, "7.8 KiB freed");
    assert!(outcome.ok().contains("x/y: a download that was given up 2 days ago"));
    assert!(!orphan.exists() && !half.exists() && !staged.parent().unwrap().exists());
    assert!(own.exists(), "a person's own file stays");
    assert!(home.run(&["verify"]).ok().contains("intact"));
}

#[test]
fn over_a_budget_the_models_go_that_were_used_longest_ago_and_no_lock_names() {
    let home = home_with(&["a", "b", "c", "d"]);
    let other = home.write("other.gguf", &model(64, 9));
    home.run(&["add", arg(&other)]).ok();
    home.run(&["lock", "a", "--file", "kept.lock"]).ok();
    // The hashing for the lock was a use of `a`.
    age(&home.path("home/models/local/a"), DAY * 9);
    let lock = ["--lock", "kept.lock"];
    let gc = |more: &[&str]| home.run(&[&["gc", "--yes", "--budget"][..], more, &lock].concat());
    gc(&["1GiB"]).says(0, "nothing to remove");
    gc(&["140KiB"]).ok();
    assert_eq!(names(&home), ["a", "d", "other"]);
    // What is locked or was used lately stays whatever the budget.
    gc(&["0", "--older-than", "8d"]).says(0, "over the budget");
    assert_eq!(names(&home), ["a", "d", "other"]);
    gc(&["0"]).says(0, "over the budget");
    assert_eq!(names(&home), ["a", "other"]);
    assert!(other.exists());
    assert!(home.run(&["verify"]).code == Some(0));
}

#[test]
fn over_a_budget_what_the_lock_moved_to_stays_and_what_a_rollback_goes_back_to() {
    let home = home_with(&["a", "b"]);
    home.run(&["lock", "a"]).ok();
    for number in 2..4 {
        let path = home.write("new.gguf", &model(64, 10 + number));
        home.run(&["upgrade", "a", "--from-file", arg(&path), "--force", "--yes"]).ok();
    }
    age(&home.path("home/models/local"), DAY * 9);
    home.run(&["gc", "--yes", "--budget", "0"]).ok();
    assert_eq!(names(&home), ["a-v2", "a-v3"]);
    home.run(&["rollback", "a"]).ok();
}

#[test]
fn a_download_at_work_is_left_alone() {
    let home = Home::new();
    let hub = crate::support::hub::Hub::start(&[("m.gguf", &model(2048, 1))]);
    hub.set(|manners| manners.pause = Duration::from_millis(30));
    let content = sha256(&model(2048, 1));
    let source = format!("{}/m.gguf#sha256={content}", hub.storage);
    let mut pull = home.command(&["pull", &source]);
    pull.env_remove("FREEHOLD_OFFLINE").stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = pull.spawn().unwrap();
    let part = home.path("home/staging/127.0.0.1--m/parts/m.gguf.part");
    while !part.exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(1));
    }
    home.run(&["gc", "--yes", "--older-than", "0"]).says(0, "left as it is");
    hub.set(|manners| manners.pause = Duration::ZERO);
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_collection_that_is_killed_leaves_a_valid_store_and_the_next_one_ends_it() {
    let all: Vec<String> = (0..9).map(|idx| format!("m{idx}")).collect();
    let home = home_with(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let gc = ["gc", "--budget", "0", "--older-than", "0", "--yes"];
    for kill in 0..12 {
        let mut command = home.command(&gc);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // About as long as the program takes to start, then on in steps through its work.
        std::thread::sleep(Duration::from_millis(5 + 4 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(home.run(&["verify"]).code, Some(0));
    }
    home.run(&gc).ok();
    home.run(&gc).ok();
    let left = files_below(&home.path("home/models"));
    assert!(left.is_empty(), "{left:?}");
}

/// Everything about a tree that an adoption must not change.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64, u32, Vec<u8>)> {
    let file = |path: PathBuf| {
        let of = fs::symlink_metadata(&path).unwrap();
        let content = fs::read(&path).unwrap();
        (path, (of.ino(), of.mtime(), of.mtime_nsec(), of.mode(), content))
    };
    files_below(folder).into_iter().map(file).collect()
}

/// Writes a file with the folders above it.
fn put(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A home directory in which Ollama, LM Studio and the Hugging Face cache have a model each, and
/// Ollama two that cannot be adopted.
fn others(folder: &Path) {
    let ollama = folder.join(".ollama/models");
    let blob = |bytes: &[u8]| {
        let digest = sha256(bytes).to_string();
        put(&ollama.join("blobs").join(format!("sha256-{digest}")), bytes);
        (format!("sha256:{digest}"), bytes.len())
    };
    let layer = |kind: &str, bytes: &[u8]| {
        let (digest, size) = blob(bytes);
        let media_type = format!("application/vnd.ollama.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    };
    let manifest = |name: &str, layers: Vec<Value>| {
        let path = ollama.join("manifests/registry.ollama.ai/library").join(name);
        put(&path, json!({ "schemaVersion": 2, "layers": layers }).to_string());
    };
    let mut writer = gguf::write::Writer::new();
    writer.metadata("general.architecture", "llama");
    writer.tensor("t", &[1, 32], gguf::TensorType::F32, vec![0; 128]);
    let weights = writer.finish().unwrap();
    let texts = [
        layer("model", &weights),
        layer("template", b"{{ .Prompt }}"),
        layer("params", br#"{"temperature":0.1}"#),
        layer("license", b"Apache License\n  Version 2.0, January 2004"),
    ];
    manifest("tiny/1b", texts.to_vec());
    manifest("tuned/latest", vec![layer("model", &weights), layer("adapter", b"x")]);
    manifest(
        "broken/latest",
        vec![json!({
            "mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x", "size": 1
        })],
    );
    put(&folder.join(".lmstudio/models/maker/repo/Other-Q4.gguf"), model(32, 2));
    put(&folder.join(".lmstudio/models/maker/repo/mmproj-Other.gguf"), model(1, 3));
    let hub = folder.join(".cache/huggingface/hub/models--org--repo");
    let bytes = model(48, 4);
    let digest = sha256(&bytes).to_string();
    put(&hub.join("blobs").join(&digest), bytes);
    put(&hub.join("refs/main"), "c0ffee");
    fs::create_dir_all(hub.join("snapshots/c0ffee/q4")).unwrap();
    let link = hub.join("snapshots/c0ffee/q4/Cached.gguf");
    std::os::unix::fs::symlink(format!("../../../blobs/{digest}"), link).unwrap();
}

/// Runs the binary as a user whose home directory is `folder`.
fn run(home: &Home, folder: &Path, args: &[&str]) -> crate::binary::Outcome {
    let mut command = home.command(args);
    command.env("HOME", folder);
    for name in ["OLLAMA_MODELS", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME"] {
        command.env_remove(name);
    }
    crate::binary::finish(command)
}

#[test]
fn models_of_other_programs_are_listed_adopted_and_left_as_they_are() {
    let home = Home::new();
    let user = home.path("user");
    others(&user);
    let before = snapshot(&user);
    let listed = run(&home, &user, &["adopt", "--list", "--json"]).json();
    let listed = listed.as_array().unwrap();
    let text = |of: &Value| of.as_str().unwrap().to_owned();
    let found: Vec<(String, String, bool)> = listed
        .iter()
        .map(|of| (text(&of["name"]), text(&of["owner"]), of["refused"].is_null()))
        .collect();
    let expected = [
        ("ollama/broken", "Ollama", false),
        ("ollama/tiny-1b", "Ollama", true),
        ("ollama/tuned", "Ollama", false),
        ("maker/other-q4", "LM Studio", true),
        ("maker/mmproj-other", "LM Studio", false),
        ("org/cached", "the Hugging Face cache", true),
    ];
    assert_eq!(
        found,
        expected.map(|(name, owner, good)| (name.to_owned(), owner.to_owned(), good))
    );
    assert!(files_below(&home.path("home")).is_empty());
    let outcome = run(&home, &user, &["adopt"]);
    outcome.says(0, "its template is kept beside it, and has no effect here");
    assert_eq!(outcome.ok(), "ollama/tiny-1b\nmaker/other-q4\norg/cached\n");
    // Again it finds what is here.
    run(&home, &user, &["adopt"]).ok();
    let models = home.run(&["list", "--json"]).json();
    let tiny = &models.as_array().unwrap().iter().find(|of| of["name"] == "tiny-1b").unwrap();
    assert_eq!(tiny["licence"]["id"], "apache-2.0");
    assert_eq!(tiny["source"], "oci://registry.ollama.ai/library/tiny:1b");
    assert_eq!(tiny["origin"]["owner"], "Ollama");
    let cached = &models.as_array().unwrap().iter().find(|of| of["name"] == "cached").unwrap();
    assert_eq!(cached["source"], "hf:org/repo/q4/Cached.gguf@c0ffee");
    // One file under two names, and no byte twice.
    for model in models.as_array().unwrap() {
        let path = Path::new(model["files"][0]["path"].as_str().unwrap());
        assert!(path.starts_with(home.path("home")));
        assert_eq!(fs::metadata(path).unwrap().nlink(), 2);
    }
    let carried = home.path("home/models/ollama/tiny-1b/carried");
    assert_eq!(fs::read_to_string(carried.join("params.json")).unwrap(), r#"{"temperature":0.1}"#);
    assert!(home.run(&["verify"]).code == Some(0));
    home.run(&["gc", "--budget", "0", "--older-than", "0", "--yes"]).says(0, "nothing to remove");
    home.run(&["rm", "tiny-1b", "other-q4", "cached"]).says(0, "0 B freed");
    assert!(files_below(&home.path("home/models")).is_empty());
    assert_eq!(snapshot(&user), before);
}

#[test]
fn a_file_that_the_other_program_changes_or_removes_is_told_with_its_owner() {
    let home = Home::new();
    let user = home.path("user");
    others(&user);
    let theirs = user.join(".lmstudio/models/maker/repo/Other-Q4.gguf");
    run(&home, &user, &["adopt", "lmstudio"]).ok();
    // Removed there, the link keeps it here.
    fs::rename(&theirs, user.join("aside.gguf")).unwrap();
    assert!(home.run(&["verify"]).code == Some(0));
    // Written to in place, it is changed here too.
    let mut bytes = fs::read(user.join("aside.gguf")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(user.join("aside.gguf"), &bytes).unwrap();
    let verified = home.run(&["verify"]);
    let words = format!("it is LM Studio's {}", theirs.display());
    let told = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.code == Some(4) && told.contains(&words), "{told}");
    let loaded = home.run(&["run", "--model", "other-q4", "x"]);
    loaded.fails(4, &[&words, "freehold adopt"]);
}

#[test]
fn what_is_adopted_again_is_never_lost() {
    let home = Home::new();
    let user = home.path("user");
    others(&user);
    run(&home, &user, &["adopt", "lmstudio"]).ok();
    let theirs = user.join(".lmstudio/models/maker/repo/Other-Q4.gguf");
    let ours = home.path("home/models/maker/other-q4/Other-Q4.gguf");
    let good = fs::read(&ours).unwrap();
    // Dates alone say nothing of the bytes, and the one copy left is ours.
    fs::remove_file(&theirs).unwrap();
    put(&theirs, model(32, 9));
    age(&home.path("home/models"), DAY);
    run(&home, &user, &["adopt", "lmstudio"]).ok();
    assert_eq!(fs::read(&ours).unwrap(), good);
    // A copy that is damaged becomes what the other program has now, and nothing else is left.
    fs::write(&ours, b"damaged").unwrap();
    run(&home, &user, &["adopt", "lmstudio"]).ok();
    assert_eq!(fs::read(&ours).unwrap(), model(32, 9));
    let files = files_below(ours.parent().unwrap());
    assert!(!files.iter().any(|path| path.to_string_lossy().ends_with(".new")), "{files:?}");
}

/// Needs to mount a file system, so it runs for root on Linux and skips elsewhere.
#[test]
fn on_another_file_system_files_are_used_where_they_lie() {
    let home = Home::new();
    let folder = home.path("other");
    fs::create_dir(&folder).unwrap();
    let mount = |args: &[&str]| {
        let output = std::process::Command::new(args[0]).args(&args[1..]).arg(&folder).output();
        cfg!(target_os = "linux") && output.is_ok_and(|output| output.status.success())
    };
    if !mount(&["mount", "-t", "tmpfs", "tmpfs"]) {
        println!("skipped: mounting a small file system needs root on Linux");
        return;
    }
    fs::write(folder.join("far.gguf"), model(16, 1)).unwrap();
    let before = snapshot(&folder);
    let adopted = home.run(&["adopt", arg(&folder), "--json"]).json();
    let after = snapshot(&folder);
    let gone = || {
        fs::remove_file(folder.join("far.gguf")).unwrap();
        home.run(&["verify"])
    };
    let told = gone();
    mount(&["umount"]);
    assert_eq!(adopted[0]["adopted"], true);
    assert_eq!(adopted[0]["name"], "far");
    assert_eq!(before, after);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.code == Some(3) && text.contains("missing"), "{text}");
    assert!(text.contains("it is your folder's"), "{text}");
}

#[test]
fn a_licence_that_the_lock_does_not_allow_is_refused_by_its_name() {
    let home = home_with(&["a"]);
    home.run(&["lock", "a"]).ok();
    let lock = home.path("freehold.lock");
    let text = fs::read_to_string(&lock).unwrap();
    let allow = |list: &str| {
        let text = text.replacen("\n[model", &format!("\n[licences]\n{list}\n\n[model"), 1);
        fs::write(&lock, text).unwrap();
    };
    allow("\"*\" = [\"MIT\", \"apache-2.0\"]");
    home.run(&["lock", "a"]).says(0, "says so already");
    allow("\"*\" = [\"mit\"]\n\"a\" = [\"apache-2.0\"]");
    let words = ["a comes under the licence \"mit\"", "allows for \"a\" only apache-2.0"];
    home.run(&["run", "--model", "a", "x"]).fails(2, &words);
    home.run(&["lock", "a"]).fails(2, &words);
    let serve = ["serve", "a", "--listen", "127.0.0.1:0"];
    assert!(home.run(&serve).stderr.contains(words[0]));
    // A pull looks before anything has its name.
    let path = home.write("b.gguf", &model(8, 7));
    allow("\"*\" = [\"apache-2.0\"]");
    home.run(&["pull", arg(&path), "--name", "b"]).fails(2, &["b comes under the licence \"mit\""]);
    assert_eq!(names(&home), ["a"]);
    assert!(!home.path("home/staging/local--b").exists());
    allow("\"b\" = [\"apache-2.0\", \"mit\"]");
    home.run(&["pull", arg(&path), "--name", "b"]).ok();
    // So does a command that fetches what it needs, before it asks anybody.
    allow("\"*\" = [\"gemma\"]");
    let words = ["smollm2-135m comes under the licence", "allows for \"*\" only gemma"];
    home.run(&["run", "--model", "smollm2-135m", "x"]).fails(2, &words);
    home.run(&["embed", "--model", "minilm-l6-v2", "x"]).says(2, "only gemma");
}
