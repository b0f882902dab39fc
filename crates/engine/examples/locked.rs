//! Opens a model as the owner's `freehold.lock` says it is, or not at all, and continues a text.
//!
//!     cargo run --release -p freehold-engine --example locked -- freehold.lock NAME

use freehold_engine::{Engine, EngineOptions, Event, NUMERICS_VERSION, Request};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use store::{Lock, Store};

/// Writes some tokens of the model `name`, which the store in `home` has and `lock` lists.
pub fn run(
    home: &Path,
    lock: &Path,
    name: &str,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let (store, lock) = (Store::open(home)?, Lock::read(lock)?);
    let open = |path: &Path| -> Result<Engine, Box<dyn Error>> {
        Ok(Engine::open(path, &EngineOptions::default())?)
    };
    // Every byte is hashed while it opens; what differs is told: what, what was expected and found.
    let engine = lock.open(&store, name, NUMERICS_VERSION, open)?;
    let prompt = engine.text_prompt("Once upon a time");
    let request = Request { prompt, max_tokens: Some(16), ..Request::default() };
    for event in engine.generate(request)? {
        if let Event::Text { text, .. } = event {
            write!(out, "{text}")?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(lock), Some(name)) = (args.next(), args.next()) else {
        return Err("expected the path of a lock and the name of a model in it".into());
    };
    run(&Store::default_home(), Path::new(&lock), &name, &mut io::stdout())
}
