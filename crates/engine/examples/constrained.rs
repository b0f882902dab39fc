//! What a constraint costs: tokens per second of an answer under a JSON schema beside the same
//! number of tokens of free text, with speculation and without.
//!
//!     cargo run --release -p freehold-engine --example constrained -- MODEL.gguf [ROUNDS]

use freehold_engine::{
    Done, Engine, EngineOptions, Event, Grammar, Request, Sampling, Speculation,
};
use serde_json::{Map, Value, json};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

/// How much is generated.
#[derive(Debug, Clone, Copy)]
pub struct Amount {
    /// Pairs of answers, one of which warms up.
    pub n_rounds: u64,
    /// Most tokens of each answer, and tokens of the free ones.
    pub n_tokens: u32,
}

const ASK: &str = "Make up an order of three items as JSON, with customer, items and total.";

/// Skeleton, numbers, choices and free strings, as real schemas mix them.
fn schema() -> Value {
    let item = json!({
        "type": "object",
        "properties": {
            "description": {"type": "string", "maxLength": 40},
            "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
            "category": {"enum": ["book", "music", "groceries", "other"]},
        },
        "required": ["description", "quantity", "category"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "customer_name": {"type": "string", "maxLength": 40},
            "customer_email": {"type": "string", "maxLength": 40},
            "items": {"type": "array", "items": item, "minItems": 3, "maxItems": 3},
            "total_in_cents": {"type": "integer", "minimum": 0, "maximum": 100_000},
        },
        "required": ["customer_name", "customer_email", "items", "total_in_cents"],
        "additionalProperties": false,
    })
}

/// The end of an answer alone.
fn done(engine: &Engine, request: Request) -> Result<Done, Box<dyn Error>> {
    let end = engine.generate(request)?.find_map(|event| match event {
        Event::Done(done) => Some(done),
        Event::Prompt { .. } | Event::Text { .. } | Event::Part { .. } => None,
    });
    end.ok_or_else(|| "an answer without an end".into())
}

/// Tokens per second behind the first.
fn speed(all: &[Done]) -> f64 {
    let n_tokens: u32 = all.iter().map(|done| done.n_generated - 1).sum();
    f64::from(n_tokens) / all.iter().map(|done| done.decode.as_secs_f64()).sum::<f64>()
}

/// Writes two lines, one for each kind of speculation.
pub fn run(model: &Path, amount: Amount, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    for speculation in [Speculation::Off, Speculation::PromptLookup] {
        let options = EngineOptions { n_ctx: Some(2048), speculation, ..EngineOptions::default() };
        let engine = Engine::open(model, &options)?;
        let constraint = engine.constraint(&Grammar::JsonSchema(schema()))?;
        let messages = json!([{"role": "user", "content": ASK}]);
        let prompt = engine.chat_prompt(&messages, None, &Map::new())?;
        let (mut free, mut bound) = (Vec::new(), Vec::new());
        // Alternating, so that both see the same minutes of the machine; the first warms up.
        for seed in 0..amount.n_rounds {
            let sampling = Sampling { temperature: 0.7, seed: Some(seed), ..Sampling::default() };
            let max_tokens = Some(amount.n_tokens);
            let prompt = prompt.clone();
            let request = Request { prompt, sampling, max_tokens, ..Request::default() };
            let ask = Request { ignore_eos: true, ..request.clone() };
            free.push(done(&engine, ask)?);
            let constraint = Some(constraint.clone());
            bound.push(done(&engine, Request { constraint, ..request })?);
        }
        let (free, bound) = (&free[1..], &bound[1..]);
        let (n_drafted, n_accepted, n_generated) = bound.iter().fold((0, 0, 0), |sums, done| {
            let (drafted, accepted, generated) = sums;
            let Done { n_drafted, n_accepted, n_generated, .. } = done;
            (drafted + n_drafted, accepted + n_accepted, generated + n_generated)
        });
        writeln!(
            out,
            "{speculation:?}: free {:.1} tokens/s, schema {:.1} tokens/s, ratio {:.3} \
             ({n_generated} tokens, {n_accepted} of {n_drafted} guesses right)",
            speed(free),
            speed(bound),
            speed(bound) / speed(free),
        )?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let model = args.next().ok_or("expected the path of a GGUF file")?;
    let n_rounds = args.next().map_or(Ok(4), |text| text.parse())?;
    run(Path::new(&model), Amount { n_rounds, n_tokens: 200 }, &mut io::stdout())
}
