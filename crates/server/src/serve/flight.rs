//! The generations of one request: submitted together, followed together, cancelled together.

use crate::dialects::{Call, Choice, Usage};
use crate::errors::{BadRequest, ServerError};
use engine::{Engine, EngineError, Event, FinishReason, Handle, Part, Request, TokenInfo};
use tokio::sync::mpsc;

/// Most events taken at once; what is ready together is written together.
const N_EVENTS: usize = 64;

/// The generations of one request, choice by choice: those of prompt `i` begin at `i * n`.
pub(super) struct Flight {
    /// Unbounded because the engine's callback must not block; what one request can put in is
    /// bounded all the same, by one event per token of its choices' contexts.
    events: mpsc::UnboundedReceiver<(usize, Event)>,
    /// What was taken out of `events`; kept to keep its room.
    taken: Vec<(usize, Event)>,
    /// What was waited for and not followed yet.
    begun: Vec<Step>,
    handles: Vec<Handle>,
    /// Keeps the model open.
    _engine: Engine,
    /// Tokens that each choice has delivered; the engine's own count replaces them at its end.
    n_delivered: Vec<u64>,
    n_done: usize,
    n_per_prompt: usize,
    /// Of each prompt, what the cache spared: the least of its choices that have ended, for what
    /// one of them computed was computed for all.
    cached: Vec<Option<Cached>>,
    /// Of the prompts, and of the choices that have ended.
    usage: Usage,
}

/// What the prefix cache knew of a prompt: tokens that were spared, and that agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cached {
    n_reused: u64,
    n_matched: u64,
}

/// What happened to one choice.
pub(super) enum Step {
    Prompt { choice_idx: usize, tokens: Vec<TokenInfo> },
    Part { choice_idx: usize, part: Part, tokens: Vec<TokenInfo> },
    Done { choice_idx: usize, reason: FinishReason },
}

impl Flight {
    /// Hands all of the call's generations to the engine, or none. Each is like `like` but for its
    /// prompt; alternatives differ by their seed, which counts up.
    pub(super) fn submit(
        engine: &Engine,
        call: &Call,
        like: &Request,
        prompts: &[Vec<u32>],
    ) -> Result<Self, ServerError> {
        let (sender, events) = mpsc::unbounded_channel();
        let n_choices = prompts.len() * call.n_per_prompt;
        let n_prompt = prompts.iter().map(|prompt| prompt.len() as u64).sum();
        let requests = (0..n_choices).map(|choice_idx| {
            let alternative = (choice_idx % call.n_per_prompt) as u64;
            let prompt = prompts[choice_idx / call.n_per_prompt].clone();
            let mut request = Request { prompt, ..like.clone() };
            let seed = &mut request.sampling.seed;
            *seed = seed.map(|seed| seed.wrapping_add(alternative));
            let sender = sender.clone();
            // An error means that the flight is gone, and then its generations are cancelled.
            (request, move |event| drop(sender.send((choice_idx, event))))
        });
        let handles = engine.submit_all(requests).map_err(|error| refusal(error, call))?;
        Ok(Self {
            events,
            taken: Vec::new(),
            begun: Vec::new(),
            handles,
            _engine: engine.clone(),
            n_delivered: vec![0; n_choices],
            n_done: 0,
            n_per_prompt: call.n_per_prompt,
            cached: vec![None; prompts.len()],
            usage: Usage { n_prompt, ..Usage::default() },
        })
    }

    /// A place for each choice.
    pub(super) fn empty_choices(&self) -> Vec<Choice> {
        vec![Choice::empty(); self.n_delivered.len()]
    }

    /// Whether every choice has ended.
    pub(super) fn is_done(&self) -> bool {
        self.n_done == self.n_delivered.len() && self.begun.is_empty()
    }

    /// Tokens so far; exact once every choice has ended.
    pub(super) fn usage(&self) -> Usage {
        let n_generated = self.usage.n_generated + self.n_delivered.iter().sum::<u64>();
        let cached = || self.cached.iter().flatten();
        Usage {
            n_generated,
            n_reused: cached().map(|cached| cached.n_reused).sum(),
            n_matched: cached().map(|cached| cached.n_matched).sum(),
            ..self.usage
        }
    }

    /// Waits for the first thing to happen; [`Flight::steps`] gives it next.
    ///
    /// # Errors
    /// As [`Flight::steps`].
    pub(super) async fn begin(&mut self) -> Result<(), ServerError> {
        self.begun = self.steps().await?;
        Ok(())
    }

    /// Waits for something to happen. Losing this future loses nothing.
    ///
    /// # Errors
    /// When a generation failed, or the engine's thread is gone.
    pub(super) async fn steps(&mut self) -> Result<Vec<Step>, ServerError> {
        if !self.begun.is_empty() {
            return Ok(std::mem::take(&mut self.begun));
        }
        self.events.recv_many(&mut self.taken, N_EVENTS).await;
        if self.taken.is_empty() {
            return Err(ServerError::Failed("the engine has stopped".to_owned()));
        }
        let mut steps = Vec::with_capacity(self.taken.len());
        for (choice_idx, event) in self.taken.drain(..) {
            match event {
                Event::Prompt { tokens } => steps.push(Step::Prompt { choice_idx, tokens }),
                Event::Text { text, tokens } => {
                    self.n_delivered[choice_idx] += tokens.len() as u64;
                    steps.push(Step::Part { choice_idx, part: Part::Text(text), tokens });
                }
                Event::Part { part, tokens } => {
                    self.n_delivered[choice_idx] += tokens.len() as u64;
                    steps.push(Step::Part { choice_idx, part, tokens });
                }
                Event::Done(done) => {
                    self.n_done += 1;
                    self.n_delivered[choice_idx] = 0;
                    self.usage.n_generated += u64::from(done.n_generated);
                    self.usage.n_reasoning += u64::from(done.n_preamble);
                    let cached = &mut self.cached[choice_idx / self.n_per_prompt];
                    let (n_reused, n_matched) = (done.n_reused.into(), done.n_matched.into());
                    let least = cached.unwrap_or(Cached { n_reused, n_matched });
                    *cached = Some(least.min(Cached { n_reused, n_matched }));
                    match done.reason {
                        FinishReason::Expired => return Err(ServerError::Expired),
                        FinishReason::Failed(reason) => return Err(ServerError::Failed(reason)),
                        // Only this flight cancels, and not while somebody waits for it.
                        FinishReason::Cancelled => return Err(ServerError::ShuttingDown),
                        reason => steps.push(Step::Done { choice_idx, reason }),
                    }
                }
            }
        }
        Ok(steps)
    }
}

impl Drop for Flight {
    /// Whoever drops a flight waits for nothing more; a generation that has ended does not mind.
    fn drop(&mut self) {
        for handle in &self.handles {
            handle.cancel();
        }
    }
}

/// The engine's refusal in the client's words: it names fields of the engine's request.
fn refusal(error: EngineError, call: &Call) -> ServerError {
    match error {
        EngineError::Invalid { field: "prompt", value, expected } => {
            let param = match call.prompts {
                crate::dialects::Prompts::Chat { .. } => "messages",
                crate::dialects::Prompts::Plain(_) => "prompt",
            };
            BadRequest::field(param, &format!("{value}: expected {expected}")).into()
        }
        other => other.into(),
    }
}
