//! The examples, run on the default model.
#![allow(clippy::unwrap_used)] // The helpers of these tests are tests, which the lint cannot see.
#![allow(dead_code, unreachable_pub)] // Their `main` functions, and what those of others call.

#[path = "../examples/chat.rs"]
mod chat;
#[path = "../examples/constrained.rs"]
mod constrained;
#[path = "../examples/fleet.rs"]
mod fleet;
#[path = "../examples/generate.rs"]
mod generate;
#[path = "../examples/schema.rs"]
mod schema;

use std::error::Error;
use std::path::Path;

fn output(run: impl Fn(&Path, &mut Vec<u8>) -> Result<(), Box<dyn Error>>) -> String {
    let mut out = Vec::new();
    run(&testkit::smollm2(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn generate_is_stopped_in_the_middle() {
    let text = output(generate::run);
    assert!(text.len() > 40 && text.ends_with("… (stopped)\n"), "{text}");
}

#[test]
fn chat_answers_and_says_the_same_again() {
    let text = output(chat::run);
    assert!(text.contains("Paris") && text.contains(" tokens, "), "{text}");
    assert_eq!(output(chat::run), text);
}

#[test]
fn schema_gives_json_of_the_shape() {
    let text = output(schema::run);
    let values: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 3, "{text}");
    assert!(values.iter().all(|value| value["age"].is_u64() && value["name"].is_string()));
}

#[test]
fn constrained_measures_both_kinds_of_speculation() {
    let amount = constrained::Amount { n_rounds: 2, n_tokens: 16 };
    let text = output(|model, out| constrained::run(model, amount, out));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("ratio ")), "{text}");
    assert!(lines[0].contains(" 0 of 0 guesses"), "{text}");
}

#[test]
fn fleet_closes_what_is_unused() {
    let text = output(fleet::run);
    assert!(text.ends_with("summaries: closed\nstories: closed\n"), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(lines[0], lines[2]);
}
