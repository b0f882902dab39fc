//! Reads facts out of texts, several at once, as JSON of a fixed shape.
//!
//!     cargo run --release -p freehold-engine --example schema -- MODEL.gguf

use freehold_engine::{Engine, EngineOptions, Event, Grammar, Request};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

const TEXTS: [&str; 3] =
    ["Ada is 36 and lives in London.", "Grace, 85, moved to Arlington.", "Paris suits Marie, 66."];

/// Writes one JSON object for each text.
pub fn run(model: &Path, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let engine = Engine::open(model, &EngineOptions::default())?;
    // Compiled once; whatever the model would like to say, the answers have this shape.
    let constraint = engine.constraint(&Grammar::JsonSchema(json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "city": {"enum": ["London", "Arlington", "Paris"]},
        },
        "required": ["name", "age", "city"],
        "additionalProperties": false,
    })))?;
    let generate = |text: &&str| {
        let ask = format!("Give name, age and city as JSON: {text}");
        let messages = json!([{"role": "user", "content": ask}]);
        let prompt = engine.chat_prompt(&messages, None, &Map::new())?;
        engine.generate(Request {
            prompt,
            constraint: Some(constraint.clone()),
            max_tokens: Some(100),
            ..Request::default()
        })
    };
    // All of them run at once; each gets the very tokens that it would get alone.
    let running = TEXTS.iter().map(generate).collect::<Result<Vec<_>, _>>()?;
    for generation in running {
        let text = |event| match event {
            Event::Text { text, .. } => text,
            Event::Prompt { .. } | Event::Part { .. } | Event::Done(_) => String::new(),
        };
        let answer: String = generation.map(text).collect();
        let value: Value = serde_json::from_str(&answer)?;
        writeln!(out, "{value}")?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("expected the path of a GGUF file")?;
    run(Path::new(&model), &mut io::stdout())
}
