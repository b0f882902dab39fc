//! Continues a text, token by token, and stops it from outside.
//!
//!     cargo run --release -p freehold-engine --example generate -- MODEL.gguf

use freehold_engine::{Engine, EngineOptions, Event, FinishReason, Request};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

/// Writes at most about 40 characters of a story.
pub fn run(model: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(model, &EngineOptions::default())?;
    let prompt = engine.text_prompt("Once upon a time");
    let request = Request { prompt, max_tokens: Some(200), ..Request::default() };
    let generation = engine.generate(request)?;
    // A handle can go to another thread; here the reader itself has read enough.
    let handle = generation.handle().clone();
    let mut n_chars = 0;
    for event in generation {
        match event {
            // Only where the request asks for calls or names the marks of reasoning.
            Event::Prompt { .. } | Event::Part { .. } => {}
            Event::Text { text, .. } => {
                n_chars += text.chars().count();
                write!(out, "{text}")?;
                if n_chars > 40 {
                    handle.cancel();
                }
            }
            Event::Done(done) if done.reason == FinishReason::Cancelled => {
                writeln!(out, " … (stopped)")?;
            }
            Event::Done(done) => writeln!(out, " ({:?})", done.reason)?,
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("expected the path of a GGUF file")?;
    run(Path::new(&model), &mut io::stdout())
}
