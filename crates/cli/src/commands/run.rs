//! `freehold run`: one answer, or a chat.

use std::io::{self, IsTerminal, Read};

use anyhow::Context as _;
use engine::{Engine, EngineOptions, FinishReason};
use serde_json::{Value, json};

use crate::answer;
use crate::chat::{self, Chat};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, Second};
use crate::locate::{self, Missing};
use crate::numbers;
use crate::sampling::SamplingArgs;
use crate::terminal;

/// Longest prompt read from stdin: more text than any context holds.
const MAX_STDIN_BYTES: u64 = 16 << 20;

/// Answer a prompt, or chat
///
/// With PROMPT: streams the answer to stdout and ends. Without PROMPT: reads it from stdin when
/// stdin is piped, else starts a chat. The default model is fetched once if it is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold run \"Why should I own my tools?\"
  freehold run --model gemma3-270m \"The three primary colours are\"
  freehold run --model ./my.gguf --temperature 0 --max-tokens 64 \"Say hello\"
  cat letter.txt | freehold run --system \"Summarise the text in one sentence.\"
  freehold run --json --seed 7 \"A haiku about rain\"")]
pub(crate) struct Run {
    /// What to ask; - reads stdin
    prompt: Option<String>,
    /// Installed or catalogue name, or a GGUF file (default: the catalogue's default model)
    #[arg(long, short, value_name = "NAME|FILE")]
    model: Option<String>,
    /// System message of the conversation
    #[arg(long, short, value_name = "TEXT")]
    system: Option<String>,
    /// Positions of the context (default: the model's own, at most 8192)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    ctx: Option<u32>,
    /// Threads that compute (default: the cores this process may use)
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Print one JSON object instead of streaming
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Subcommand for Run {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let prompt = self.read_prompt()?;
        let name = self.model.as_deref().unwrap_or_else(|| locate::default_model());
        let chosen = locate::model(context, name, Missing::Fetch)?;
        let options = EngineOptions {
            n_threads: self.threads.map(usize::from),
            n_ctx: self.ctx,
            max_sequences: 1,
            ..EngineOptions::default()
        };
        let engine = Engine::open(&chosen.path, &options).map_err(|error| chosen.blame(error))?;
        say_info(context, &chosen.name, &engine);
        if engine.template().is_none() {
            context.note(&format!(
                "{} has no chat template: it is a base model and continues your text",
                chosen.name
            ));
            if self.system.is_some() {
                context
                    .note("a base model has no place for a system message: --system is not used");
            }
        }
        match prompt {
            Some(prompt) => self.answer_once(context, &chosen.name, &engine, &prompt),
            None => Chat {
                engine: &engine,
                sampling: &self.sampling,
                system: self.system.clone(),
                interrupt: Interrupt::install(Second::Waits)?,
            }
            .run(context),
        }
    }
}

impl Run {
    /// The prompt; `None` where a chat is wanted.
    fn read_prompt(&self) -> anyhow::Result<Option<String>> {
        let text = match self.prompt.as_deref() {
            Some("-") => read_stdin()?,
            Some(text) => text.to_owned(),
            None if io::stdin().is_terminal() => {
                if self.json {
                    return Err(Failure::new(Exit::Usage, "--json needs a PROMPT").into());
                }
                return Ok(None);
            }
            None => read_stdin()?,
        };
        if text.trim().is_empty() {
            return Err(Failure::new(Exit::Usage, "the prompt is empty, expected text").into());
        }
        Ok(Some(text))
    }

    fn answer_once(
        &self,
        context: &Context,
        name: &str,
        engine: &Engine,
        text: &str,
    ) -> anyhow::Result<()> {
        let interrupt = Interrupt::install(Second::Ends)?;
        let system = self.system.iter().map(|text| json!({"role": "system", "content": text}));
        let user = json!({"role": "user", "content": text});
        let messages: Vec<Value> = system.chain([user]).collect();
        let request = self.sampling.request(chat::prompt(engine, &messages, text)?);
        let answer = if self.json {
            let answer = answer::stream(engine, request, &interrupt, |_| Ok(()))?;
            terminal::print_json(&answer::to_json(name, &answer))?;
            answer
        } else {
            let answer = answer::stream(engine, request, &interrupt, terminal::print_answer)?;
            terminal::print("\n")?;
            answer::say_speed(context, &answer.done);
            answer
        };
        if answer.done.reason == FinishReason::Cancelled {
            return Err(Failure::silent(Exit::Interrupted).into());
        }
        Ok(())
    }
}

fn read_stdin() -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(MAX_STDIN_BYTES + 1)
        .read_to_end(&mut bytes)
        .context("read the prompt from stdin")?;
    if bytes.len() as u64 > MAX_STDIN_BYTES {
        let message = format!(
            "prompt on stdin: longer than {}, expected less",
            numbers::bytes(MAX_STDIN_BYTES)
        );
        return Err(Failure::new(Exit::Usage, message).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("prompt on stdin: byte {at} is not UTF-8, expected UTF-8 text");
        Failure::new(Exit::Usage, message).into()
    })
}

/// With `-v`: what runs, on what.
pub(crate) fn say_info(context: &Context, name: &str, engine: &Engine) {
    let info = engine.info();
    context.detail(&format!(
        "{name}: {}, {} layers, context {} of {}, weights {}, kv cache {}, {} on {} threads, \
         loaded in {} ms",
        info.architecture,
        info.n_layers,
        info.n_ctx,
        info.n_ctx_train,
        numbers::bytes(info.weight_bytes),
        numbers::bytes(info.kv_bytes),
        info.isa.name(),
        info.n_threads,
        info.load_time.as_millis(),
    ));
}
