//! `freehold debug perplexity`: how surprised a model is by a text.
//!
//! The text is cut into windows of `--ctx` tokens. Each window is a sequence of its own that
//! starts with BOS (in place of its first token) where the model adds one; its second half is
//! scored, so that every scored token has at least half a window before it. This is the measure
//! that llama.cpp's `perplexity` tool prints, and figures can be compared with it.

use std::path::PathBuf;

use anyhow::Context as _;
use model::LogitsFor;
use serde_json::json;
use text::{Special, Tokenizer};

use crate::commands::Subcommand;
use crate::commands::debug::logits;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locate::{self, Missing};
use crate::one_sequence::OneSequence;
use crate::terminal;

/// Tokens per pass: bounds the logits held at once, `[64, n_vocab]`.
const N_BATCH: usize = 64;

/// Measure perplexity on a text
///
/// Windows of --ctx tokens, each starting with BOS where the model adds one, scored on its second
/// half.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold debug perplexity smollm2-135m text.txt
  freehold debug perplexity model.gguf text.txt --ctx 512 --chunks 4 --json")]
pub(crate) struct Perplexity {
    /// Installed name or GGUF file
    #[arg(value_name = "MODEL")]
    model: String,
    /// The text
    #[arg(value_name = "TEXT")]
    file: PathBuf,
    /// Tokens per window
    #[arg(long, value_name = "N", default_value = "512",
          value_parser = clap::value_parser!(u32).range(4..=1 << 20))]
    ctx: u32,
    /// Windows to score (default: all)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    chunks: Option<u32>,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Subcommand for Perplexity {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let text =
            std::fs::read_to_string(&self.file).with_context(|| self.file.display().to_string())?;
        let chosen = locate::model(context, &self.model, Missing::Fail)?;
        let file = gguf::Gguf::open(&chosen.path).map_err(|error| chosen.blame(error))?;
        let tokenizer =
            Tokenizer::from_gguf(file.metadata()).map_err(|error| chosen.blame(error))?;
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let tokens: Vec<u32> =
            bos.into_iter().chain(tokenizer.encode(&text, Special::Plain)).collect();
        let n_ctx = self.ctx as usize;
        let n_windows = (tokens.len() / n_ctx).min(self.chunks.map_or(usize::MAX, |n| n as usize));
        if n_windows == 0 {
            let message = format!(
                "{}: {} tokens, expected at least one window of {n_ctx}",
                self.file.display(),
                tokens.len()
            );
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let model = logits::load(&chosen, self.threads)?;
        let n_vocab = model.config().n_vocab;
        if let Some(id) = tokens.iter().find(|id| **id as usize >= n_vocab) {
            let message = format!("token id {id} of the vocabulary, expected below {n_vocab}");
            return Err(Failure::new(Exit::BadModel, message).into());
        }
        let mut sequence = OneSequence::new(&model, n_ctx);
        let mut total = Score::default();
        for (window_idx, window) in tokens.chunks_exact(n_ctx).take(n_windows).enumerate() {
            let mut window = window.to_vec();
            if let Some(bos) = bos {
                window[0] = bos;
            }
            sequence.restart();
            total.add(&score_window(&mut sequence, &window, n_vocab));
            context.note(&format!("[{}/{n_windows}] {:.4}", window_idx + 1, total.perplexity()));
        }
        if self.json {
            return terminal::print_json(&json!({
                "model": chosen.name,
                "n_ctx": n_ctx,
                "n_chunks": n_windows,
                "n_scored": total.n_tokens,
                "perplexity": total.perplexity(),
            }));
        }
        terminal::print_line(&format!(
            "perplexity {:.4} ({n_windows} windows of {n_ctx} tokens, {} scored)",
            total.perplexity(),
            total.n_tokens
        ))
    }
}

/// Negative log-likelihoods added up.
#[derive(Debug, Default)]
struct Score {
    nats: f64,
    n_tokens: usize,
}

impl Score {
    fn add(&mut self, other: &Score) {
        self.nats += other.nats;
        self.n_tokens += other.n_tokens;
    }

    fn perplexity(&self) -> f64 {
        (self.nats / self.n_tokens as f64).exp()
    }
}

/// Scores the second half of `window`: the row at each of its positions but the last predicts the
/// token after it.
fn score_window(sequence: &mut OneSequence<'_>, window: &[u32], n_vocab: usize) -> Score {
    let first = window.len() / 2;
    for chunk in window[..first].chunks(N_BATCH) {
        sequence.feed(chunk, LogitsFor::None);
    }
    let mut score = Score::default();
    let mut pos = first;
    for chunk in window[first..window.len() - 1].chunks(N_BATCH) {
        let logits = sequence.feed(chunk, LogitsFor::All);
        for row in logits.chunks_exact(n_vocab) {
            pos += 1;
            score.nats += surprise(row, window[pos] as usize);
            score.n_tokens += 1;
        }
    }
    score
}

/// Negative log-probability of `id` in nats, from one row of logits.
fn surprise(row: &[f32], id: usize) -> f64 {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|logit| f64::from(logit - max).exp()).sum();
    sum.ln() - f64::from(row[id] - max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surprise_is_the_negative_log_softmax() {
        let even = surprise(&[3.0; 8], 5);
        assert!((even - 8_f64.ln()).abs() < 1e-12);
        let row = [1.0, 2.0, 1000.0];
        assert!(surprise(&row, 2).abs() < 1e-12);
        assert!((surprise(&row, 1) - 998.0).abs() < 1e-9);
    }

    #[test]
    fn perplexity_of_even_odds_is_their_number() {
        let score = Score { nats: 10.0 * 4_f64.ln(), n_tokens: 10 };
        assert!((score.perplexity() - 4.0).abs() < 1e-12);
    }
}
