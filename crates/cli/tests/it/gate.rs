//! `freehold test` through the real binary: a worse model is refused with numbers, and the same
//! weights in another file pass.
#![allow(clippy::unwrap_used)] // The helpers of these tests are tests, which the lint cannot see.

use crate::binary::{Home, arg};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The set of the default model's behaviour.
fn cases() -> PathBuf {
    testkit::workspace_root().join("crates/gate/examples/smollm2")
}

/// Its files of short answers, of which three bits a weight lose half.
fn short_cases(home: &Home) -> PathBuf {
    let folder = home.path("short");
    std::fs::create_dir(&folder).unwrap();
    for name in ["chat.toml", "texts.toml"] {
        std::fs::copy(cases().join(name), folder.join(name)).unwrap();
    }
    folder
}

/// The model of these tests with the codes of one matrix a layer rounded to so many bits.
fn repacked(home: &Home, name: &str, n_bits: u32) -> PathBuf {
    let path = home.path(name);
    crate::repack::repack(&testkit::smollm2(), &path, n_bits, "ffn_down").unwrap();
    path
}

fn read_json(home: &Home, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(home.path(name)).unwrap()).unwrap()
}

#[test]
fn a_worse_model_is_refused_and_an_equal_one_passes() {
    let home = Home::new();
    let (all, short, model) = (cases(), short_cases(&home), testkit::smollm2());
    let (answers, report) = (home.path("answers.jsonl"), home.path("report.json"));
    let record = |cases: &Path| {
        let args = ["test", arg(&model), "--cases", arg(cases), "--record", arg(&answers)];
        assert!(home.run(&args).ok().contains("PASSED: smollm2-135m"));
        std::fs::read_to_string(&answers).unwrap().lines().count() - 1
    };
    let n_cases = record(&all);
    assert!(n_cases >= 40, "{n_cases} answers");
    let n_cases = record(&short);
    let test = |model: &str, more: &[&str]| {
        home.run(&[&["test", model, "--cases", arg(&short)], more].concat())
    };

    // Other order of tensors and metadata, other alignment, same weights.
    let equal = repacked(&home, "equal.gguf", 4);
    assert_ne!(std::fs::read(&equal).unwrap(), std::fs::read(&model).unwrap());
    let baseline = ["--baseline", arg(&answers), "--json", arg(&report)];
    let same = test(arg(&equal), &[&baseline[..], &["--max-changed", "0"]].concat()).ok();
    assert!(same.contains(&format!("0 of {n_cases} answers changed")), "{same}");

    // Three bits a weight instead of four, in one of seven matrices.
    let worse = repacked(&home, "worse.gguf", 3);
    let (page, suite) = (home.path("report.html"), home.path("report.xml"));
    let more = ["--html", arg(&page), "--junit", arg(&suite), "--min-pass-rate", "0"];
    let refused = test(arg(&worse), &[&baseline[..], &more].concat());
    assert_eq!(refused.code, Some(9), "{}", refused.stderr);
    let text = String::from_utf8(refused.stdout).unwrap();
    assert!(text.contains("REFUSED: worse") && text.contains("McNemar"), "{text}");
    let found = read_json(&home, "report.json");
    assert!(found["comparison"]["p_worse"].as_f64().unwrap() < 0.01, "{}", found["comparison"]);
    let reasons: Vec<&str> =
        found["reasons"].as_array().unwrap().iter().map(|why| why.as_str().unwrap()).collect();
    assert!(reasons.iter().any(|why| why.contains("cases lost and")), "{reasons:?}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("REFUSED: worse") && page.contains("<svg") && !page.contains("<script"));
    assert!(std::fs::read_to_string(suite).unwrap().contains("<testsuite"));
}

#[test]
fn two_models_are_compared_whatever_the_batch() {
    let home = Home::new();
    let (model, cases) = (testkit::smollm2(), home.write("cases.toml", SAMPLED.as_bytes()));
    let equal = repacked(&home, "equal.gguf", 4);
    let answers = home.path("answers.jsonl");
    let args = ["test", arg(&equal), "--against", arg(&model), "--cases", arg(&cases)];
    let text = home.run(&[&args[..], &["--max-changed", "0"]].concat()).ok();
    assert!(text.contains("0 of 5 answers changed"), "{text}");
    let alone = ["test", arg(&model), "--cases", arg(&cases), "--min-pass-rate", "0"];
    home.run(&[&alone[..], &["--batch", "1", "--record", arg(&answers)]].concat()).ok();
    let more = ["--batch", "5", "--baseline", arg(&answers), "--max-changed", "0"];
    let text = home.run(&[&alone[..], &more].concat()).ok();
    assert!(text.contains("0 of 5 answers changed"), "{text}");
}

/// Several samples of one prompt, a text to continue, and a request that is refused.
const SAMPLED: &str = r#"
[[case]]
id = "sampled"
prompt = "Tell me about rain."
samples = 3
parameters = { temperature = 0.9, max_tokens = 12 }
expect = [{ length = { max_tokens = 12 } }]

[[case]]
id = "text"
text = "One, two, three,"
parameters = { max_tokens = 8 }
expect = [{ contains = "four" }]

[[case]]
id = "refused"
prompt = "Hi"
parameters = { temprature = 1 }
expect = [{ contains = "i" }]
"#;

/// What takes further models: vectors of texts, and a judge. Two answers that are the same are a
/// tie without asking; the judge here is too small to be of use, so of it only the way is tested.
const MEASURED: &str = r#"
[defaults]
parameters = { max_tokens = 24 }

[[case]]
id = "near"
prompt = "What is the capital of France?"
expect = [{ similar = "Paris is the capital of France.", min = 0.6 }]

[[case]]
id = "far"
prompt = "What is the capital of France?"
expect = [{ similar = "A recipe for onion soup", min = 0.6 }]

[[case]]
id = "tie"
prompt = "What is the capital of France?"
expect = [{ judge = "correctness" }]

[[case]]
id = "judged"
prompt = "What is the capital of France?"
expect = [{ judge = "correctness", reference = "I do not know.", at_least = "tie" }]
"#;

#[test]
fn further_models_measure_answers() {
    let home = Home::new();
    let (model, cases) = (testkit::smollm2(), home.write("cases.toml", MEASURED.as_bytes()));
    let (embedder, report) = (testkit::minilm_q8_0(), home.path("report.json"));
    let args = ["test", arg(&model), "--against", arg(&model), "--cases", arg(&cases)];
    let more = ["--embedder", arg(&embedder), "--judge", arg(&model), "--json", arg(&report)];
    home.run(&[&args[..], &more].concat());
    let found = read_json(&home, "report.json");
    let problem = |case_idx: usize, side: &str| {
        let failures = &found["cases"][case_idx][side]["samples"][0]["failures"];
        failures[0]["problem"].as_str().unwrap_or_default().to_owned()
    };
    for side in ["old", "new"] {
        assert_eq!(problem(0, side), "");
        assert!(problem(1, side).starts_with("similarity "), "{}", problem(1, side));
        assert_eq!(problem(2, side), "");
        assert_ne!(problem(3, side), "it was not judged");
    }
}

#[test]
fn a_refused_request_fails_its_case() {
    let home = Home::new();
    let (model, cases) = (testkit::smollm2(), home.write("cases.toml", SAMPLED.as_bytes()));
    let outcome = home.run(&["test", arg(&model), "--cases", arg(&cases)]);
    assert_eq!(outcome.code, Some(9), "{}", outcome.stderr);
    let text = String::from_utf8(outcome.stdout).unwrap();
    assert!(text.contains("2 of 3 cases passed") && text.contains("temprature"), "{text}");
}

#[test]
fn what_cannot_be_tested_is_refused_before_a_model_is_opened() {
    let home = Home::new();
    let fails = |cases: &str, more: &[&str], code: i32, words: &[&str]| {
        let file = home.write("cases.toml", cases.as_bytes());
        let args = ["test", "no-such-model", "--cases", arg(&file)];
        home.run(&[&args[..], more].concat()).fails(code, words);
    };
    fails("[[case]]\nid = 1\n", &[], 2, &["cases.toml:1: id: 1, expected a text"]);
    let judged = "[[case]]\nid = \"a\"\nprompt = \"p\"\nexpect = [{ judge = \"tone\" }]\n";
    fails(judged, &[], 2, &["cases.toml:4: judge: expected a model that judges"]);
    fails(judged, &["--judge", "x"], 2, &["cases.toml:4: judge: expected a reference"]);
    let good = SAMPLED;
    fails(good, &["--html", "no/such/folder.html"], 2, &["no/such/folder.html: expected a file"]);
    fails(good, &["--baseline", "none.jsonl"], 3, &["none.jsonl"]);
    let record = home.write("record.jsonl", b"{}\n");
    fails(good, &["--baseline", arg(&record)], 2, &["record.jsonl:1: no line of a record"]);
    fails(good, &["--max-drop", "2"], 2, &["'2'", "--max-drop", "from 0 to 1"]);
    fails(good, &[], 3, &["no-such-model"]);
    home.run(&["test", "--cases", "nowhere"]).fails(3, &["nowhere: No such file"]);
    std::fs::create_dir(home.path("empty")).unwrap();
    home.run(&["test", "--cases", "empty"]).fails(3, &["empty: 0 files of cases"]);
}
