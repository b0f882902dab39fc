//! `freehold bench`: how fast a model runs here, and how near to what the machine can do.
//!
//! Goes to the model directly, past tokenizer and engine, with the engine's chunks and its greedy
//! choice, so that it works for every file whose tensors can be run. Ids, and the keys and values
//! that `--depth` puts before the first token, are pseudo-random: speed does not depend on them.

use std::time::Instant;

use engine::{Machine, PREFILL_CHUNK};
use kernels::{KvFormat, KvPool, KvShape, PAGE_LEN, Query};
use model::{LogitsFor, Model, Plan, Scratch, Slice};
use serde_json::{Value, json};

use crate::commands::Subcommand;
use crate::commands::debug::logits;
use crate::commands::run::warn_of_threads;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::kv_format;
use crate::locate::{self, Chosen, Missing};
use crate::network::give_up_network;
use crate::numbers::{bytes, grouped};
use crate::terminal;

/// Larger than any cache that one guest has to itself, small enough for most machines.
const READ_BUFFER_BYTES: u64 = 1 << 30;
/// Most repeats: more tell nothing new.
const MAX_REPEATS: u16 = 1000;

/// Measure how fast a model runs on this machine
///
/// Prefill: the prompt's tokens from an empty context, logits for the last one. Decode: one token
/// after the other, each the likeliest. Medians of the repeats. Then the machine's own limits.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold bench
  freehold bench model.gguf --prefill 2048 --decode 128 --depth 2048
  freehold bench smollm2-135m --prefill 0 --batch 16 --json")]
pub(crate) struct Bench {
    /// Installed or catalogue name, or a GGUF file (default: the catalogue's default model)
    #[arg(value_name = "MODEL")]
    model: Option<String>,
    /// Tokens of the prompt; 0 leaves prefill out
    #[arg(long, value_name = "N", default_value_t = 512)]
    prefill: u32,
    /// Tokens to generate in each sequence; 0 leaves decode out
    #[arg(long, value_name = "N", default_value_t = 128)]
    decode: u32,
    /// Positions in the context before the first generated token
    #[arg(long, value_name = "N", default_value_t = 0)]
    depth: u32,
    /// Sequences that generate together
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_SEQUENCES as i64))]
    batch: u16,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, short, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    /// Measurements of each kind, of which the median counts
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_REPEATS)))]
    repeat: u16,
    /// How keys and values of past positions are stored: q8 takes little more than half of f16
    #[arg(long, value_name = "FORMAT", default_value = KvFormat::F16.name(),
          value_parser = kv_format::parser())]
    kv: KvFormat,
    /// Leave out the machine's limits, which take some seconds to measure
    #[arg(long)]
    no_limits: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Subcommand for Bench {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let inherited = egress::open_sockets();
        warn_of_threads(context, self.threads);
        let name = self.model.as_deref().unwrap_or_else(|| locate::default_model());
        let chosen = locate::model(context, name, Missing::Fetch)?;
        give_up_network(context, &inherited);
        let machine = Machine::look();
        self.check(&plan(&chosen)?, &machine)?;
        let began = Instant::now();
        let model = logits::load(&chosen, self.threads)?;
        let load_s = began.elapsed().as_secs_f64();
        let report = Report {
            load_s,
            prefill: (self.prefill > 0).then(|| prefill(&model, &self)),
            decode: (self.decode > 0).then(|| {
                let mut sequences = Sequences::new(&model, &self);
                Speed::of(self.repeat.into(), || sequences.decode(self.decode))
            }),
            // Before the machine is measured, which takes memory of its own.
            peak_rss_bytes: engine::peak_rss_bytes(),
            limits: (!self.no_limits).then(|| Limits::measure(&model, &machine)),
            machine,
            name: chosen.name,
            args: &self,
            model: &model,
        };
        if self.json {
            return terminal::print_json(&report.to_json());
        }
        terminal::print(&report.to_text())
    }
}

/// What the model will take, before anything is allocated.
fn plan(chosen: &Chosen) -> anyhow::Result<Plan> {
    let file = gguf::Gguf::open(&chosen.path).map_err(|error| chosen.blame(error))?;
    Model::plan(&file).map_err(|error| chosen.blame(error))
}

impl Bench {
    /// Positions of each sequence that decodes.
    fn n_decode_positions(&self) -> u64 {
        if self.decode == 0 { 0 } else { u64::from(self.depth) + u64::from(self.decode) }
    }

    fn kv_shape(&self, model: &Model) -> KvShape {
        KvShape { format: self.kv, ..model.kv_shape() }
    }

    fn check(&self, plan: &Plan, machine: &Machine) -> anyhow::Result<()> {
        let (n_ctx, n_decode) = (plan.config.n_ctx_train as u64, self.n_decode_positions());
        let expected = format!("expected at most {n_ctx} (the model's context)");
        if u64::from(self.prefill) > n_ctx {
            let message = format!("--prefill {}: {expected}", self.prefill);
            return Err(Failure::new(Exit::Usage, message).into());
        }
        if n_decode > n_ctx {
            let Self { depth, decode, .. } = self;
            let message =
                format!("--depth {depth} and --decode {decode}: {n_decode} positions, {expected}");
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let n_pages = |n_positions: u64| n_positions.div_ceil(PAGE_LEN as u64);
        let batch = u64::from(self.batch);
        let kv = n_pages(self.prefill.into()).max(batch * n_pages(n_decode))
            * plan.kv_page_bytes(self.kv);
        let n_tokens = PREFILL_CHUNK.max(self.batch.into());
        let needed = plan.weight_bytes + kv + plan.scratch_bytes(n_tokens, self.batch.into());
        match machine.available_memory {
            Some(available) if needed > available.n_bytes => {
                let message = format!(
                    "weights of {}, a kv cache of {} and buffers need {}, but {} are left ({})",
                    bytes(plan.weight_bytes),
                    bytes(kv),
                    bytes(needed),
                    bytes(available.n_bytes),
                    available.limited_by
                );
                Err(Failure::new(Exit::NoRoom, message).into())
            }
            _ => Ok(()),
        }
    }
}

/// Tokens per second of all repeats.
struct Speed {
    /// In rising order; not empty.
    sorted: Vec<f64>,
}

impl Speed {
    fn of(n_repeats: usize, mut measure: impl FnMut() -> f64) -> Self {
        let mut sorted: Vec<f64> = (0..n_repeats).map(|_| measure()).collect();
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    fn min(&self) -> f64 {
        self.sorted[0]
    }

    fn max(&self) -> f64 {
        self.sorted[self.sorted.len() - 1]
    }

    fn median(&self) -> f64 {
        let n = self.sorted.len();
        (self.sorted[(n - 1) / 2] + self.sorted[n / 2]) / 2.0
    }
}

/// Reads a prompt, from an empty context into untouched pages each time.
fn prefill(model: &Model, args: &Bench) -> Speed {
    let n_tokens = args.prefill as usize;
    let mut random = Random::new();
    let tokens: Vec<u32> = (0..n_tokens).map(|_| random.below(model.config().n_vocab)).collect();
    let n_pages = n_tokens.div_ceil(PAGE_LEN);
    let pages: Vec<u32> = (0..).take(n_pages).collect();
    let mut scratch = Scratch::new();
    let mut read = |tokens: &[u32]| {
        let mut kv = KvPool::new(args.kv_shape(model), n_pages);
        let began = Instant::now();
        let mut start_pos = 0;
        for chunk in tokens.chunks(PREFILL_CHUNK) {
            let is_last = start_pos as usize + chunk.len() == tokens.len();
            let logits = if is_last { LogitsFor::Last } else { LogitsFor::None };
            let slice = Slice { tokens: chunk, start_pos, pages: &pages, logits };
            model.forward(&[slice], &mut kv, &mut scratch);
            start_pos += chunk.len() as u32;
        }
        tokens.len() as f64 / began.elapsed().as_secs_f64()
    };
    // The buffers get their size, and the cores their clock.
    read(&tokens[..n_tokens.min(PREFILL_CHUNK)]);
    Speed::of(args.repeat.into(), || read(&tokens))
}

/// Sequences that decode together, each behind a filled context.
struct Sequences<'m> {
    model: &'m Model,
    kv: KvPool,
    scratch: Scratch,
    depth: u32,
    /// The page table of each.
    pages: Vec<Vec<u32>>,
    /// The next token of each.
    tokens: Vec<u32>,
}

impl<'m> Sequences<'m> {
    fn new(model: &'m Model, args: &Bench) -> Self {
        let n_pages = args.n_decode_positions().div_ceil(PAGE_LEN as u64) as usize;
        let mut page_numbers = 0_u32..;
        let pages = (0..args.batch).map(|_| page_numbers.by_ref().take(n_pages).collect());
        let pages: Vec<Vec<u32>> = pages.collect();
        let mut random = Random::new();
        let mut sequences = Self {
            model,
            kv: KvPool::new(args.kv_shape(model), n_pages * pages.len()),
            scratch: Scratch::new(),
            depth: args.depth,
            tokens: pages.iter().map(|_| random.below(model.config().n_vocab)).collect(),
            pages,
        };
        sequences.fill(&mut random);
        sequences.step(args.depth);
        sequences
    }

    /// Writes the keys and values of the first `depth` positions, a page at a time.
    fn fill(&mut self, random: &mut Random) {
        let shape = self.model.kv_shape();
        let row_len = shape.n_kv_heads * shape.head_dim;
        let values: Vec<f32> = (0..PAGE_LEN * row_len).map(|_| random.value()).collect();
        for pages in &self.pages {
            for first in (0..self.depth).step_by(PAGE_LEN) {
                let positions = (first..self.depth).take(PAGE_LEN);
                let rows: Vec<Query<'_>> = positions.map(|pos| Query { pos, pages }).collect();
                let values = &values[..rows.len() * row_len];
                for layer_idx in 0..shape.n_layers {
                    self.model.cpu().kv_write(&mut self.kv, layer_idx, &rows, values, values);
                }
            }
        }
    }

    /// Generates `n_tokens` in each, from `depth` on; returns tokens per second over all.
    fn decode(&mut self, n_tokens: u32) -> f64 {
        let began = Instant::now();
        for pos in (self.depth..).take(n_tokens as usize) {
            self.step(pos);
        }
        let n_generated = n_tokens as usize * self.tokens.len();
        n_generated as f64 / began.elapsed().as_secs_f64()
    }

    /// One token of each, at `pos`.
    fn step(&mut self, pos: u32) {
        let inputs = self.tokens.iter().zip(&self.pages);
        let slices: Vec<Slice<'_>> = inputs
            .map(|(token, pages)| Slice {
                tokens: std::slice::from_ref(token),
                start_pos: pos,
                pages,
                logits: LogitsFor::Last,
            })
            .collect();
        let logits = self.model.forward(&slices, &mut self.kv, &mut self.scratch);
        for (token, row) in
            self.tokens.iter_mut().zip(logits.chunks_exact(self.model.config().n_vocab))
        {
            // Weights may be anything here; what is no number does not change the time.
            *token = engine::greedy(row).unwrap_or(0);
        }
    }
}

/// What the machine can do.
struct Limits {
    read_bytes_per_s: f64,
    products_per_s: f64,
}

impl Limits {
    fn measure(model: &Model, machine: &Machine) -> Self {
        let available = machine.available_memory.map_or(READ_BUFFER_BYTES, |memory| memory.n_bytes);
        let n_bytes = (available / 4).min(READ_BUFFER_BYTES) as usize;
        Self {
            read_bytes_per_s: model.cpu().measure_read(n_bytes),
            products_per_s: model.cpu().measure_products(),
        }
    }
}

/// Everything that was measured.
struct Report<'a> {
    args: &'a Bench,
    model: &'a Model,
    name: String,
    machine: Machine,
    load_s: f64,
    prefill: Option<Speed>,
    decode: Option<Speed>,
    peak_rss_bytes: Option<u64>,
    limits: Option<Limits>,
}

impl Report<'_> {
    /// Bytes of weights read per generated token: a step reads them once for all its sequences.
    fn weight_bytes_per_token(&self) -> f64 {
        self.model.bytes_per_pass() as f64 / f64::from(self.args.batch)
    }

    /// Bytes of keys and values read per generated token, on average.
    fn kv_bytes_per_token(&self) -> f64 {
        let config = self.model.config();
        let n_seen = f64::from(self.args.depth) + (f64::from(self.args.decode) + 1.0) / 2.0;
        let n_seen_in = |layer_idx| {
            config.window(layer_idx).map_or(n_seen, |window| n_seen.min(f64::from(window)))
        };
        let position_bytes = self.args.kv_shape(self.model).page_bytes() as f64
            / (PAGE_LEN * config.n_layers) as f64;
        (0..config.n_layers).map(n_seen_in).sum::<f64>() * position_bytes
    }

    /// Share of the integer peak that prefill reaches, with one product per weight and token;
    /// narrow models make two.
    fn prefill_share(&self) -> Option<f64> {
        let macs = self.model.config().layer_macs() as f64;
        Some(self.prefill.as_ref()?.median() * macs / self.limits.as_ref()?.products_per_s)
    }

    /// Share of the read bandwidth that decode reaches.
    fn decode_share(&self) -> Option<f64> {
        let n_bytes = self.weight_bytes_per_token() + self.kv_bytes_per_token();
        Some(self.decode.as_ref()?.median() * n_bytes / self.limits.as_ref()?.read_bytes_per_s)
    }

    fn to_json(&self) -> Value {
        let args = self.args;
        let cpu = self.model.cpu();
        let spread = |speed: &Option<Speed>| {
            speed.as_ref().map(|speed| json!({"min": speed.min(), "max": speed.max()}))
        };
        json!({
            "model": self.name,
            "version": env!("CARGO_PKG_VERSION"),
            "numerics": kernels::NUMERICS_VERSION,
            "cpu": self.machine.cpu_name,
            "isa": cpu.isa().name(),
            "threads": cpu.n_threads(),
            "n_prefill": args.prefill,
            "n_decode": args.decode,
            "depth": args.depth,
            "batch": args.batch,
            "repeats": args.repeat,
            "kv": args.kv.name(),
            "prefill_tok_s": self.prefill.as_ref().map(Speed::median),
            "prefill_spread": spread(&self.prefill),
            "decode_tok_s": self.decode.as_ref().map(Speed::median),
            "decode_spread": spread(&self.decode),
            "load_s": self.load_s,
            "peak_rss_bytes": self.peak_rss_bytes,
            "layer_macs_per_token": self.model.config().layer_macs(),
            "weight_bytes_per_token": self.weight_bytes_per_token(),
            "kv_bytes_per_token": self.kv_bytes_per_token(),
            "read_gb_s": self.limits.as_ref().map(|limits| limits.read_bytes_per_s / 1e9),
            "int8_gmac_s": self.limits.as_ref().map(|limits| limits.products_per_s / 1e9),
            "prefill_share": self.prefill_share(),
            "decode_share": self.decode_share(),
        })
    }

    fn to_text(&self) -> String {
        let args = self.args;
        let cpu = self.model.cpu();
        let cpu_name = self.machine.cpu_name.as_deref().unwrap_or("unknown CPU");
        let mut text = format!(
            "{}: {cpu_name}, {}, {} threads; medians of {}\n\n",
            self.name,
            cpu.isa().name(),
            cpu.n_threads(),
            args.repeat
        );
        let mut line = |what: &str, figure: String| text.push_str(&format!("{what:<26}{figure}\n"));
        let share = |share: Option<f64>, of: &str| {
            share.map_or_else(String::new, |share| format!(", {:.0} % of {of}", share * 100.0))
        };
        let speed = |speed: &Speed| {
            format!("{:.1} tokens/s ({:.1} to {:.1})", speed.median(), speed.min(), speed.max())
        };
        if let Some(prefill) = &self.prefill {
            let share = share(self.prefill_share(), "the int8 peak");
            line(&format!("prefill {}", args.prefill), speed(prefill) + &share);
        }
        if let Some(decode) = &self.decode {
            let share = share(self.decode_share(), "the read bandwidth");
            let what = match (args.batch, args.depth) {
                (1, 0) => format!("decode {}", args.decode),
                (1, depth) => format!("decode {} at {depth}", args.decode),
                (batch, depth) => format!("decode {} x {batch} at {depth}", args.decode),
            };
            line(&what, speed(decode) + &share);
        }
        line("load", format!("{:.3} s", self.load_s));
        if let Some(n_bytes) = self.peak_rss_bytes {
            line("peak memory", bytes(n_bytes));
        }
        let (weights, kv) = (self.weight_bytes_per_token(), self.kv_bytes_per_token());
        let read =
            format!("{} of weights, {} of kv cache", bytes(weights as u64), bytes(kv as u64));
        line("read per decoded token", read);
        line(
            "products per token",
            format!("{} in layers", grouped(self.model.config().layer_macs())),
        );
        if let Some(limits) = &self.limits {
            let read = format!("{:.1} GB/s, best of several passes", limits.read_bytes_per_s / 1e9);
            line("machine's read bandwidth", read);
            line("machine's int8 peak", format!("{:.0} GMAC/s", limits.products_per_s / 1e9));
        }
        text
    }
}

/// Numbers that are the same in every run: a linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn new() -> Self {
        Self(0x5EED)
    }

    fn next(&mut self) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// Below `n`, which is below 2^32.
    fn below(&mut self, n: usize) -> u32 {
        ((u64::from(self.next()) * n as u64) >> 32) as u32
    }

    /// Between -1 and 1.
    fn value(&mut self) -> f32 {
        self.next() as i32 as f32 / i32::MAX as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_stands_in_the_middle() {
        let speed = |values: &[f64]| {
            let mut values = values.iter().copied();
            Speed::of(values.len(), || values.next().unwrap())
        };
        assert_eq!(speed(&[3.0, 1.0, 2.0]).median(), 2.0);
        let even = speed(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!((even.min(), even.median(), even.max()), (1.0, 2.5, 4.0));
    }

    #[test]
    fn random_numbers_stay_in_their_bounds() {
        let mut random = Random::new();
        for n in [1, 2, 49_152, 1 << 22] {
            assert!((0..1000).all(|_| (random.below(n) as usize) < n));
        }
        assert!((0..1000).all(|_| random.value().abs() <= 1.0));
    }
}
