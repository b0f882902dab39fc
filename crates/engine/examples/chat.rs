//! Answers a question with the model's chat template, reproducibly.
//!
//!     cargo run --release -p freehold-engine --example chat -- MODEL.gguf

use freehold_engine::{Engine, EngineOptions, Event, Request, Sampling};
use serde_json::{Map, json};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

/// Writes the answer, and what it took.
pub fn run(model: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(model, &EngineOptions::default())?;
    let messages = json!([
        {"role": "system", "content": "Answer in one sentence."},
        {"role": "user", "content": "What is the capital of France?"},
    ]);
    let prompt = engine.chat_prompt(&messages, None, &Map::new())?;
    // The same seed gives the same answer, on any machine.
    let sampling = Sampling { temperature: 0.7, top_p: 0.9, seed: Some(1), ..Sampling::default() };
    let request = Request { prompt, sampling, max_tokens: Some(64), ..Request::default() };
    for event in engine.generate(request)? {
        match event {
            // Only where the request asks for calls or names the marks of reasoning.
            Event::Prompt { .. } | Event::Part { .. } => {}
            Event::Text { text, .. } => write!(out, "{text}")?,
            Event::Done(done) => {
                writeln!(out, "\n{} tokens, {:?}", done.n_generated, done.reason)?;
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("expected the path of a GGUF file")?;
    run(Path::new(&model), &mut io::stdout())
}
