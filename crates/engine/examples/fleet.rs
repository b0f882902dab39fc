//! Several models under one budget of memory: opened when they are asked for.
//!
//!     cargo run --release -p freehold-engine --example fleet -- MODEL.gguf

use freehold_engine::{EngineOptions, Event, Fleet, FleetModel, FleetState, Keep, Request};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

/// Asks two models, and closes what is left unused.
pub fn run(model: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let fleet = Fleet::new(Some(4 << 30));
    let options = EngineOptions { n_ctx: Some(512), ..EngineOptions::default() };
    let keep = Keep::Idle(Duration::ZERO);
    // The same file twice, for want of another.
    for name in ["summaries", "stories"] {
        fleet.set(name, FleetModel::file(model.to_owned(), options.clone(), keep));
    }
    for name in ["summaries", "stories", "summaries"] {
        let engine = fleet.get(name)?.generator().ok_or("expected a model that writes text")?;
        let prompt = engine.text_prompt("In short:");
        let request = Request { prompt, max_tokens: Some(8), ..Request::default() };
        let text = |event| match event {
            Event::Text { text, .. } => text,
            Event::Prompt { .. } | Event::Part { .. } | Event::Done(_) => String::new(),
        };
        let text: String = engine.generate(request)?.map(text).collect();
        writeln!(out, "{name}: {text:?}")?;
    }
    // Whoever embeds a fleet calls this now and then; nobody holds an engine any more.
    fleet.close_idle();
    for status in fleet.status() {
        let is_open = matches!(status.state, FleetState::Open { .. });
        writeln!(out, "{}: {}", status.name, if is_open { "open" } else { "closed" })?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("expected the path of a GGUF file")?;
    run(Path::new(&model), &mut io::stdout())
}
