//! `freehold debug tokenize`: texts to token ids, one JSON object per line.

use std::io::{self, BufRead, Read};

use serde::Deserialize;
use text::{Special, Tokenizer};

use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locate::{self, Missing};
use crate::terminal;

/// Longest line read: far more than any test case.
const MAX_LINE_BYTES: u64 = 64 << 20;

/// Encode texts: {"text": …} per line in, {"ids": […]} per line out
///
/// Works on files that hold a vocabulary only. No BOS or EOS is added unless --bos asks for it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  echo '{\"text\": \"Hello world\"}' | freehold debug tokenize smollm2-135m
  freehold debug tokenize vocab.gguf --bos --special < cases.jsonl")]
pub(crate) struct Tokenize {
    /// Installed name or GGUF file
    #[arg(value_name = "MODEL")]
    model: String,
    /// Begin with the BOS token where the model adds one
    #[arg(long)]
    bos: bool,
    /// Let special tokens written in the text stand for themselves
    #[arg(long)]
    special: bool,
}

#[derive(Deserialize)]
struct Case {
    text: String,
}

impl Subcommand for Tokenize {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let chosen = locate::model(context, &self.model, Missing::Fail)?;
        let file = gguf::Gguf::open(&chosen.path).map_err(|error| chosen.blame(error))?;
        let tokenizer =
            Tokenizer::from_gguf(file.metadata()).map_err(|error| chosen.blame(error))?;
        let special = if self.special { Special::Parse } else { Special::Plain };
        let bos = tokenizer.bos().filter(|_| self.bos && tokenizer.adds_bos());
        let mut stdin = io::stdin().lock();
        let mut line = String::new();
        for line_idx in 1_u64.. {
            line.clear();
            let place = || format!("stdin, line {line_idx}");
            let n_read = (&mut stdin)
                .take(MAX_LINE_BYTES)
                .read_line(&mut line)
                .map_err(|error| Failure::new(Exit::Usage, format!("{}: {error}", place())))?;
            if n_read == 0 {
                break;
            }
            if line.trim().is_empty() {
                continue;
            }
            let case: Case = serde_json::from_str(&line).map_err(|error| {
                let message = format!("{}: {error}, expected {{\"text\": …}}", place());
                Failure::new(Exit::Usage, message)
            })?;
            let ids: Vec<u32> =
                bos.into_iter().chain(tokenizer.encode(&case.text, special)).collect();
            terminal::print_line(&serde_json::json!({ "ids": ids }).to_string())?;
        }
        Ok(())
    }
}
