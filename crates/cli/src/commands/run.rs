//! `freehold run`: one answer, or a chat.

use std::io::{self, IsTerminal};

use engine::{Engine, EngineOptions, FinishReason, ModelInfo, Speculation};
use kernels::KvFormat;
use serde_json::{Value, json};

use crate::answer;
use crate::chat::{self, Chat};
use crate::commands::Subcommand;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::interrupt::{Interrupt, Second};
use crate::kv_format;
use crate::locate;
use crate::locked::LockArgs;
use crate::network::give_up_network;
use crate::numbers;
use crate::sampling::SamplingArgs;
use crate::stdin;
use crate::terminal::{self, Colour, paint};

/// Answer a prompt, or chat
///
/// With PROMPT: streams the answer to stdout and ends. A text that is piped in, or a file on stdin,
/// is appended to PROMPT after a blank line; `< /dev/null` keeps a script's own stdin out of it.
/// Without PROMPT: reads it from stdin when stdin is piped, else starts a chat. The default model
/// is fetched once if it is missing.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  freehold run \"Why should I own my tools?\"
  freehold run --model gemma3-270m \"The three primary colours are\"
  freehold run --model ./my.gguf --temperature 0 --max-tokens 64 \"Say hello\"
  cat letter.txt | freehold run --system \"Summarise the text in one sentence.\"
  freehold run --json --seed 7 \"A haiku about rain\"")]
pub(crate) struct Run {
    /// What to ask; piped text is appended; - takes all of it from stdin
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
    #[arg(long, short, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=engine::MAX_THREADS as i64))]
    threads: Option<u16>,
    /// Compute one token at a time: same answer, no guesses checked in advance
    #[arg(long)]
    no_speculation: bool,
    /// Keys and values of past positions: f16, or q8 for half the memory and a little less exact
    #[arg(long, value_name = "FORMAT", default_value = KvFormat::F16.name(),
          value_parser = kv_format::parser())]
    kv: KvFormat,
    /// Print one JSON object instead of streaming
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lock: LockArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
}

impl Subcommand for Run {
    fn run(self, context: &Context) -> anyhow::Result<()> {
        let inherited = egress::open_sockets();
        let prompt = self.read_prompt(context)?;
        warn_of_threads(context, self.threads);
        let name = self.model.as_deref().unwrap_or_else(|| locate::default_model());
        let lock = self.lock.read(context)?;
        let chosen = locate::find_locked(context, name, self.lock.missing(), lock.as_ref())?;
        give_up_network(context, &inherited);
        let options = EngineOptions {
            n_threads: self.threads.map(usize::from),
            n_ctx: self.ctx,
            max_sequences: 1,
            speculation: speculation(self.no_speculation),
            kv_format: self.kv,
            ..EngineOptions::default()
        };
        let engine = chosen.open_engine(context, &options)?;
        say_info(context, &chosen.name, engine.info());
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
    fn read_prompt(&self, context: &Context) -> anyhow::Result<Option<String>> {
        let text = match self.prompt.as_deref() {
            Some("-") => stdin::read_all()?,
            // Only spaces ask nothing, whatever is piped in.
            Some(text) if text.trim().is_empty() => text.to_owned(),
            Some(text) => stdin::append_to(text, context)?,
            None if io::stdin().is_terminal() => {
                if self.json {
                    return Err(Failure::new(Exit::Usage, "--json needs a PROMPT").into());
                }
                return Ok(None);
            }
            None => stdin::read_all()?,
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
        let on_text = |text: &str| if self.json { Ok(()) } else { terminal::print_answer(text) };
        let answer = answer::stream(engine, request, &interrupt, on_text)
            .map_err(|error| answer::with_context_advice(error, engine.info()))?;
        if self.json {
            terminal::print_json(&answer::to_json(name, &answer))?;
        } else {
            terminal::print("\n")?;
        }
        if !self.json {
            answer::say_speed(context, &answer.done);
        }
        answer::say_cut(context, engine.info(), self.sampling.max_tokens(), &answer.done);
        if answer.done.reason == FinishReason::Cancelled {
            answer::say_stopped();
            return Err(Failure::silent(Exit::Interrupted).into());
        }
        Ok(())
    }
}

/// What `--no-speculation` stands for.
pub(crate) fn speculation(no_speculation: bool) -> Speculation {
    if no_speculation { Speculation::Off } else { Speculation::default() }
}

/// Warns of more threads than can run at once: they wait for each other at every step.
pub(crate) fn warn_of_threads(context: &Context, threads: Option<u16>) {
    let n_usable = engine::n_cores();
    if let Some(n_threads) = threads.filter(|&n| usize::from(n) > n_usable) {
        let label = paint("warning:", Colour::Yellow, &io::stderr());
        context.note(&format!(
            "{label} --threads {n_threads}: more than the {n_usable} cores this process may use, \
             which is slower"
        ));
    }
}

/// With `-v`: what runs, on what.
pub(crate) fn say_info(context: &Context, name: &str, info: &ModelInfo) {
    context.detail(&format!(
        "{name}: {}, {} layers, context {} of {}, weights {}, kv cache {} ({}), {} on {} threads, \
         loaded in {} ms",
        info.architecture,
        info.n_layers,
        info.n_ctx,
        info.n_ctx_train,
        numbers::bytes(info.weight_bytes),
        numbers::bytes(info.kv_bytes),
        info.kv_format.name(),
        info.isa.name(),
        info.n_threads,
        info.load_time.as_millis(),
    ));
}
