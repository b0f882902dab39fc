//! One answer: submit the request, stream its text, stop it on Ctrl-C, say how fast it was.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::bail;
use engine::{Done, Engine, EngineError, Event, FinishReason, ModelInfo, Request};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{self, Failure};
use crate::interrupt::Interrupt;
use crate::numbers;
use crate::terminal::{self, Colour, paint};

/// How often a silent engine is left to look for Ctrl-C: shorter than a person notices.
const INTERRUPT_POLL: Duration = Duration::from_millis(50);

/// What came back.
pub(crate) struct Answer {
    /// The whole text.
    pub(crate) text: String,
    /// Why it ended and what it cost.
    pub(crate) done: Done,
}

/// Runs `request` and hands each piece of text to `on_text` as it comes. An `on_text` that fails
/// (stdout closed) ends the answer with its error.
///
/// # Errors
/// The engine's refusal, its failure while working, or that of `on_text`.
pub(crate) fn stream(
    engine: &Engine,
    request: Request,
    interrupt: &Interrupt,
    mut on_text: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<Answer> {
    interrupt.clear();
    // Without a bound: what one request can send is bounded by its tokens.
    let (sender, events) = mpsc::channel();
    let handle = engine.submit(request, move |event| {
        // The receiver is gone only when this function failed, and then the request is cancelled.
        let _ = sender.send(event);
    })?;
    let mut text = String::new();
    loop {
        if interrupt.is_pressed() {
            handle.cancel();
        }
        let event = match events.recv_timeout(INTERRUPT_POLL) {
            Ok(event) => event,
            Err(mpsc::RecvTimeoutError::Timeout) => continue,
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the engine ended unexpectedly"),
        };
        match event {
            Event::Text { text: piece, .. } => {
                text.push_str(&piece);
                if let Err(error) = on_text(&piece) {
                    handle.cancel();
                    return Err(error);
                }
            }
            // Nobody asked for other parts.
            Event::Prompt { .. } | Event::Part { .. } => {}
            Event::Done(Done { reason: FinishReason::Failed(why), .. }) => {
                bail!("the answer broke off: {why}")
            }
            Event::Done(done) => return Ok(Answer { text, done }),
        }
    }
}

/// One line of speed on stderr: `132 tokens, 84.1 tokens/s (prompt: 12 tokens, 610.0 tokens/s)`.
pub(crate) fn say_speed(context: &Context, done: &Done) {
    context.note(&format!(
        "{} tokens, {:.1} tokens/s (prompt: {} tokens, {:.1} tokens/s)",
        done.n_generated,
        decode_rate(done),
        done.n_prompt,
        prefill_rate(done),
    ));
    context.detail(&format!(
        "seed {}, {} of {} guesses right, first token after {} ms, ended by {}",
        done.seed,
        done.n_accepted,
        done.n_drafted,
        done.time_to_first_token.as_millis(),
        reason_name(&done.reason),
    ));
}

/// Says why an answer ended before the model was done, where a bound of ours ended it.
pub(crate) fn say_cut(context: &Context, info: &ModelInfo, max_tokens: Option<u32>, done: &Done) {
    if done.reason != FinishReason::Length {
        return;
    }
    if max_tokens.is_some_and(|max_tokens| done.n_generated >= max_tokens) {
        context.note(&format!("answer cut after {} tokens (--max-tokens)", done.n_generated));
    } else {
        let ModelInfo { n_ctx, n_ctx_train, .. } = info;
        context.note(&format!(
            "answer cut: the context of {n_ctx} tokens is full (--ctx, at most {n_ctx_train})"
        ));
    }
}

/// Says that Ctrl-C ended the answer, not the model.
pub(crate) fn say_stopped() {
    terminal::say(&paint("(stopped)", Colour::Dim, &io::stderr()));
}

/// `error`; where the prompt did not fit into the context, with what makes it larger.
pub(crate) fn with_context_advice(error: anyhow::Error, info: &ModelInfo) -> anyhow::Error {
    if !matches!(error.downcast_ref(), Some(EngineError::ContextOverflow { .. })) {
        return error;
    }
    let ModelInfo { n_ctx, n_ctx_train, .. } = info;
    let advice = if n_ctx < n_ctx_train {
        format!("--ctx sets it, for this model up to {n_ctx_train}")
    } else {
        "this model takes no more".to_owned()
    };
    Failure::new(exit::code_of(&error), format!("{error}; {advice}")).into()
}

/// The answer as scripts read it.
pub(crate) fn to_json(model: &str, answer: &Answer) -> Value {
    let done = &answer.done;
    json!({
        "model": model,
        "text": answer.text,
        "finish_reason": reason_name(&done.reason),
        "n_prompt": done.n_prompt,
        "n_generated": done.n_generated,
        "n_drafted": done.n_drafted,
        "n_accepted": done.n_accepted,
        "seed": done.seed,
        "ttft_ms": done.time_to_first_token.as_secs_f64() * 1e3,
        "prefill_tokens_per_s": prefill_rate(done),
        "decode_tokens_per_s": decode_rate(done),
    })
}

/// The first token comes out of the prefill, so the decode time covers one token less.
fn decode_rate(done: &Done) -> f64 {
    numbers::rate(done.n_generated.saturating_sub(1), done.decode.as_secs_f64())
}

fn prefill_rate(done: &Done) -> f64 {
    numbers::rate(done.n_prompt, done.prefill.as_secs_f64())
}

fn reason_name(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::StopString(_) => "stop_string",
        FinishReason::Length => "length",
        FinishReason::Cancelled => "cancelled",
        _ => "failed",
    }
}
