//! `freehold debug logits`: the logits of given ids, as raw numbers.
//!
//! Goes to the model directly, past tokenizer and engine, so that it works for every file whose
//! tensors can be run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use kernels::{Cpu, Isa};
use model::{LogitsFor, Model};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locate::{self, Chosen, Missing};
use crate::one_sequence::OneSequence;

/// Most ids of one run: bounds the kv cache and the file written.
const MAX_TOKENS: usize = 1 << 20;

/// Write the logits of given token ids, fed from position 0
///
/// OUT gets little-endian f32, [n_tokens, n_vocab]. FREEHOLD_ISA chooses the instruction set.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold debug logits model.gguf --tokens 1,2,3 --out logits.f32
  freehold debug logits model.gguf --tokens @ids.txt --out logits.f32 --threads 2 --chunk 7")]
pub(crate) struct Logits {
    /// Installed name or GGUF file
    #[arg(value_name = "MODEL")]
    model: String,
    /// Ids separated by commas or white space; @FILE reads them from a file
    #[arg(long, value_name = "IDS|@FILE")]
    tokens: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    /// Tokens per pass (default: 64)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    chunk: Option<u16>,
}

impl Subcommand for Logits {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let tokens = self.read_tokens()?;
        let chosen = locate::model(context, &self.model, Missing::Fail)?;
        let model = load(&chosen, self.threads)?;
        let n_vocab = model.config().n_vocab;
        if let Some((idx, id)) = tokens.iter().enumerate().find(|(_, id)| **id as usize >= n_vocab)
        {
            let message = format!("--tokens: id {id} at {idx}, expected below {n_vocab} (n_vocab)");
            return Err(Failure::new(Exit::Usage, message).into());
        }
        let place = || self.out.display().to_string();
        let mut out = BufWriter::new(File::create(&self.out).with_context(place)?);
        let mut sequence = OneSequence::new(&model, tokens.len());
        for chunk in tokens.chunks(self.chunk.map_or(64, usize::from)) {
            for logit in sequence.feed(chunk, LogitsFor::All) {
                out.write_all(&logit.to_le_bytes()).with_context(place)?;
            }
        }
        out.flush().with_context(place)?;
        context.note(&format!("{}: f32 [{}, {n_vocab}]", place(), tokens.len()));
        Ok(())
    }
}

impl Logits {
    fn read_tokens(&self) -> anyhow::Result<Vec<u32>> {
        let text = match self.tokens.strip_prefix('@') {
            Some(path) => std::fs::read_to_string(path).with_context(|| path.to_owned())?,
            None => self.tokens.clone(),
        };
        parse_ids(&text)
            .map_err(|problem| Failure::new(Exit::Usage, format!("--tokens: {problem}")).into())
    }
}

/// Loads a model without an engine, with the instruction set of `FREEHOLD_ISA`.
pub(crate) fn load(chosen: &Chosen, threads: Option<u16>) -> anyhow::Result<Model> {
    let file = gguf::Gguf::open(&chosen.path).map_err(|error| chosen.blame(error))?;
    let n_threads = threads.map_or_else(engine::n_cores, usize::from);
    let cpu = Arc::new(Cpu::new(Isa::from_env()?, n_threads));
    Model::load(&file, cpu).map_err(|error| chosen.blame(error))
}

/// Ids separated by commas, white space, or both; brackets around them (JSON) do not matter.
fn parse_ids(text: &str) -> Result<Vec<u32>, String> {
    let text = text.trim();
    let text = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let ids: Vec<u32> = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|word| !word.is_empty())
        .map(|word| word.parse().map_err(|_| format!("{word:?}, expected a token id")))
        .collect::<Result<_, _>>()?;
    match ids.len() {
        0 => Err("no ids, expected at least one".to_owned()),
        n if n > MAX_TOKENS => Err(format!("{n} ids, expected at most {MAX_TOKENS}")),
        _ => Ok(ids),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_in_the_usual_forms() {
        assert_eq!(parse_ids("1,2,3"), Ok(vec![1, 2, 3]));
        assert_eq!(parse_ids(" [1, 2,\n3]\n"), Ok(vec![1, 2, 3]));
        assert_eq!(parse_ids("7"), Ok(vec![7]));
        assert!(parse_ids("").is_err());
        assert!(parse_ids("1,x").unwrap_err().contains("\"x\""));
        assert!(parse_ids("-1").is_err());
    }
}
