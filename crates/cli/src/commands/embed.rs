//! `freehold embed`: vectors of texts, for scripts.

use engine::{EngineError, EngineOptions};

use crate::commands::Subcommand;
use crate::commands::run::{say_info, warn_of_threads};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::locate;
use crate::locked::LockArgs;
use crate::network::give_up_network;
use crate::stdin;
use crate::terminal;

/// The catalogue's encoder.
const DEFAULT_MODEL: &str = "minilm-l6-v2";

/// Print the vectors of texts
///
/// One line for each text: a JSON array of numbers, a vector of length 1, so that the sum of
/// products of two is their cosine. The default model is fetched once if it is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold embed \"Own your tools.\" \"Keep what you work with.\"
  freehold embed --model ./my.gguf < lines.txt > vectors.jsonl")]
pub(crate) struct Embed {
    /// The texts (default: the lines of stdin)
    text: Vec<String>,
    /// Installed or catalogue name, or a GGUF file, of a model that makes embeddings
    #[arg(long, short, value_name = "NAME|FILE", default_value = DEFAULT_MODEL)]
    model: String,
    /// Cut off the end of texts that are longer than the model's context, instead of failing
    #[arg(long)]
    truncate: bool,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, short, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    #[command(flatten)]
    lock: LockArgs,
}

impl Subcommand for Embed {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let inherited = egress::open_sockets();
        let texts = match self.text {
            texts if texts.is_empty() => stdin::read_all()?.lines().map(str::to_owned).collect(),
            texts => texts,
        };
        if let Some(text_idx) = texts.iter().position(String::is_empty) {
            let message = format!("text {text_idx} is empty, expected at least one character");
            return Err(Failure::new(Exit::Usage, message).into());
        }
        warn_of_threads(context, self.threads);
        let lock = self.lock.read(context)?;
        let missing = self.lock.missing();
        let chosen = locate::find_locked(context, &self.model, missing, lock.as_ref())?;
        give_up_network(context, &inherited);
        let n_threads = self.threads.map(usize::from);
        let options = EngineOptions { n_threads, ..EngineOptions::default() };
        let embedder = chosen.open_embedder(context, &options)?;
        say_info(context, &chosen.name, embedder.info());
        let mut tokens: Vec<Vec<u32>> = texts.iter().map(|text| embedder.tokens(text)).collect();
        if self.truncate {
            tokens.iter_mut().for_each(|text| embedder.truncate(text));
        }
        let vectors = embedder.embed(&tokens).map_err(|error| match error {
            EngineError::TextTooLong { .. } => {
                let message = format!("{error}; --truncate cuts longer ones");
                Failure::new(Exit::Usage, message).into()
            }
            error => anyhow::Error::new(error),
        })?;
        for vector in &vectors {
            terminal::print_line(&serde_json::to_string(vector)?)?;
        }
        Ok(())
    }
}
