//! The generations of one request: submitted together, followed together, cancelled together.

use crate::dialects::{Call, Choice, Prompts, Spent, Step, Usage};
use crate::errors::{BadRequest, ServerError};
use crate::running::Work;
use engine::{Done, Engine, EngineError, Event, FinishReason, Handle, Part, Request, TokenInfo};
use std::sync::Arc;
use std::time::{Duration, Instant};
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
    waiting: Vec<Step>,
    handles: Vec<Handle>,
    /// Keeps the model open.
    _engine: Engine,
    /// Tokens that each choice has delivered; the engine's own count replaces them at its end.
    n_delivered: Vec<u64>,
    n_done: usize,
    n_per_prompt: usize,
    /// Of each prompt, the tokens that are to be scored still: by its first alternative, for all.
    n_unscored: Vec<usize>,
    /// What the other alternatives got before their prompt was told.
    held: Vec<(usize, Event)>,
    /// Of each prompt, what the cache spared: the least of its choices that have ended, for what
    /// one of them computed was computed for all.
    cached: Vec<Option<Cached>>,
    /// Of the prompts, and of the choices that have ended.
    usage: Usage,
    submitted: Instant,
    /// Of the choice that ended first, how long it waited for a step.
    queue: Option<Duration>,
    begun: Begun,
    /// Knows whether somebody had it cancelled.
    work: Option<Arc<Work>>,
}

/// When a request came, and how long its model took to open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    pub(super) at: Instant,
    pub(super) load: Duration,
}

/// What the prefix cache knew of a prompt: tokens that were spared, and that agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cached {
    n_reused: u64,
    n_matched: u64,
}

impl Flight {
    /// Hands all of the call's generations to the engine, or none: those of [`requests`].
    pub(super) fn submit(
        engine: &Engine,
        call: &Call,
        requests: Vec<Request>,
        begun: Begun,
    ) -> Result<Self, ServerError> {
        let (sender, events) = mpsc::unbounded_channel();
        let n_choices = requests.len();
        let firsts = || requests.iter().step_by(call.n_per_prompt);
        let n_prompt = firsts().map(|request| request.prompt.len() as u64).sum();
        let n_unscored = |request: &Request| match request.prompt_logprobs {
            Some(_) => request.prompt.len(),
            None => 0,
        };
        let n_unscored: Vec<usize> = firsts().map(n_unscored).collect();
        let requests = requests.into_iter().enumerate().map(|(choice_idx, request)| {
            let sender = sender.clone();
            // An error means that the flight is gone, and then its generations are cancelled.
            (request, move |event| drop(sender.send((choice_idx, event))))
        });
        let handles = engine.submit_all(requests).map_err(|error| refusal(error, call))?;
        Ok(Self {
            events,
            taken: Vec::new(),
            waiting: Vec::new(),
            handles,
            _engine: engine.clone(),
            n_delivered: vec![0; n_choices],
            n_done: 0,
            n_per_prompt: call.n_per_prompt,
            cached: vec![None; n_unscored.len()],
            n_unscored,
            held: Vec::new(),
            usage: Usage { n_prompt, ..Usage::default() },
            submitted: Instant::now(),
            queue: None,
            begun,
            work: None,
        })
    }

    /// From now on somebody else may cancel it.
    pub(super) fn may_be_cancelled(&mut self, work: &Arc<Work>) {
        work.hold(&self.handles);
        self.work = Some(Arc::clone(work));
    }

    /// A place for each choice.
    pub(super) fn empty_choices(&self) -> Vec<Choice> {
        vec![Choice::empty(); self.n_delivered.len()]
    }

    /// Whether every choice has ended.
    pub(super) fn is_done(&self) -> bool {
        self.n_done == self.n_delivered.len() && self.waiting.is_empty()
    }

    /// Tokens so far; exact once every choice has ended.
    pub(super) fn usage(&self) -> Usage {
        let n_generated = self.usage.n_generated + self.n_delivered.iter().sum::<u64>();
        let cached = || self.cached.iter().flatten();
        let Begun { at, load } = self.begun;
        let spent = Spent { total: at.elapsed(), load, ..self.usage.spent };
        Usage {
            n_generated,
            n_reused: cached().map(|cached| cached.n_reused).sum(),
            n_matched: cached().map(|cached| cached.n_matched).sum(),
            spent,
            ..self.usage
        }
    }

    /// How long the choice that ended first waited for its first step; `None` until one has.
    pub(super) fn queue(&self) -> Option<Duration> {
        self.queue
    }

    /// Waits for the first thing to happen; [`Flight::steps`] gives it next.
    ///
    /// # Errors
    /// As [`Flight::steps`].
    pub(super) async fn begin(&mut self) -> Result<(), ServerError> {
        while self.waiting.is_empty() {
            self.waiting = self.steps().await?;
        }
        Ok(())
    }

    /// Waits for something to happen. Losing this future loses nothing.
    ///
    /// # Errors
    /// When a generation failed, or the engine's thread is gone.
    pub(super) async fn steps(&mut self) -> Result<Vec<Step>, ServerError> {
        if !self.waiting.is_empty() {
            return Ok(std::mem::take(&mut self.waiting));
        }
        self.events.recv_many(&mut self.taken, N_EVENTS).await;
        if self.taken.is_empty() {
            return Err(ServerError::Failed("the engine has stopped".to_owned()));
        }
        let mut steps = Vec::with_capacity(self.taken.len());
        let mut taken = std::mem::take(&mut self.taken);
        for (choice_idx, event) in taken.drain(..) {
            let prompt_idx = choice_idx / self.n_per_prompt;
            match event {
                Event::Prompt { tokens } => self.follow_prompt(prompt_idx, &tokens, &mut steps)?,
                event if self.is_held(choice_idx) => self.held.push((choice_idx, event)),
                event => steps.push(self.follow(choice_idx, event)?),
            }
        }
        self.taken = taken;
        Ok(steps)
    }

    /// Whether a choice waits for the prompt that its first alternative tells.
    fn is_held(&self, choice_idx: usize) -> bool {
        let is_first = choice_idx.is_multiple_of(self.n_per_prompt);
        !is_first && self.n_unscored[choice_idx / self.n_per_prompt] > 0
    }

    /// Tells tokens of a prompt to all of its alternatives, and behind the last of them what these
    /// had got before.
    fn follow_prompt(
        &mut self,
        prompt_idx: usize,
        tokens: &[TokenInfo],
        steps: &mut Vec<Step>,
    ) -> Result<(), ServerError> {
        let choices = prompt_idx * self.n_per_prompt..(prompt_idx + 1) * self.n_per_prompt;
        let told = choices.clone().map(|choice_idx| (choice_idx, tokens.to_vec()));
        steps.extend(told.map(|(choice_idx, tokens)| Step::Prompt { choice_idx, tokens }));
        let n_unscored = &mut self.n_unscored[prompt_idx];
        *n_unscored = n_unscored.saturating_sub(tokens.len());
        if *n_unscored > 0 {
            return Ok(());
        }
        let (own, others) = std::mem::take(&mut self.held)
            .into_iter()
            .partition::<Vec<_>, _>(|(choice_idx, _)| choices.contains(choice_idx));
        self.held = others;
        for (choice_idx, event) in own {
            steps.push(self.follow(choice_idx, event)?);
        }
        Ok(())
    }

    /// What an event behind the prompt means for its choice.
    fn follow(&mut self, choice_idx: usize, event: Event) -> Result<Step, ServerError> {
        let (part, tokens) = match event {
            Event::Prompt { tokens } => return Ok(Step::Prompt { choice_idx, tokens }),
            Event::Text { text, tokens } => (Part::Text(text), tokens),
            Event::Part { part, tokens } => (part, tokens),
            Event::Done(done) => return self.end(choice_idx, done),
        };
        self.n_delivered[choice_idx] += tokens.len() as u64;
        Ok(Step::Part { choice_idx, part, tokens })
    }

    fn end(&mut self, choice_idx: usize, done: Done) -> Result<Step, ServerError> {
        self.n_done += 1;
        self.n_delivered[choice_idx] = 0;
        // Who never had a token waited until now, or was read and had none to come.
        let waited = match done.n_generated {
            0 => self.submitted.elapsed(),
            _ => done.time_to_first_token,
        };
        self.queue.get_or_insert(waited.saturating_sub(done.prefill));
        self.usage.n_generated += u64::from(done.n_generated);
        self.usage.n_reasoning += u64::from(done.n_preamble);
        let spent = &mut self.usage.spent;
        spent.prefill = spent.prefill.max(done.prefill);
        spent.decode = spent.decode.max(done.decode);
        let cached = &mut self.cached[choice_idx / self.n_per_prompt];
        let (n_reused, n_matched) = (done.n_reused.into(), done.n_matched.into());
        let least = cached.unwrap_or(Cached { n_reused, n_matched });
        *cached = Some(least.min(Cached { n_reused, n_matched }));
        match done.reason {
            FinishReason::Expired => Err(ServerError::Expired),
            FinishReason::Failed(reason) => Err(ServerError::Failed(reason)),
            FinishReason::Cancelled => {
                let is_told = self.work.as_ref().is_some_and(|work| work.is_cancelled());
                // This flight itself does not cancel while somebody waits for it.
                Err(if is_told { ServerError::Cancelled } else { ServerError::ShuttingDown })
            }
            reason => Ok(Step::Done { choice_idx, reason }),
        }
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

/// What each choice asks: as `like`, but for its prompt and its seed. The first alternative of a
/// prompt scores it, for all.
pub(super) fn requests(like: &Request, prompts: &[Vec<u32>], seeds: &[u64]) -> Vec<Request> {
    let n_per_prompt = seeds.len() / prompts.len().max(1);
    let request = |(choice_idx, &seed): (usize, &u64)| {
        let prompt = prompts[choice_idx / n_per_prompt].clone();
        let mut request = Request { prompt, ..like.clone() };
        request.sampling.seed = Some(seed);
        if choice_idx % n_per_prompt > 0 {
            request.prompt_logprobs = None;
        }
        request
    };
    seeds.iter().enumerate().map(request).collect()
}

/// The seeds of all choices: `asked`, which counts up over the alternatives of each prompt; where
/// none is asked for, one that is drawn, which counts up over all of them.
pub(super) fn seeds(asked: Option<u64>, n_prompts: usize, n_per_prompt: usize) -> Vec<u64> {
    let n_choices = 0..n_prompts * n_per_prompt;
    match asked {
        Some(seed) => n_choices.map(|idx| seed.wrapping_add((idx % n_per_prompt) as u64)).collect(),
        None => {
            let drawn = engine::random_seed();
            n_choices.map(|idx| drawn.wrapping_add(idx as u64)).collect()
        }
    }
}

/// The engine's refusal in the client's words: it names fields of the engine's request.
fn refusal(error: EngineError, call: &Call) -> ServerError {
    match error {
        EngineError::Invalid { field: "prompt", value, expected } => {
            let param = match call.prompts {
                Prompts::Chat { .. } => "messages",
                Prompts::Turn { .. } | Prompts::Plain(_) => "prompt",
            };
            BadRequest::field(param, &format!("{value}: expected {expected}")).into()
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_differ_by_seed_and_score_their_prompt_once() {
        let mut like = Request { prompt_logprobs: Some(2), ..Request::default() };
        like.sampling.seed = Some(u64::MAX);
        let prompts = [vec![1], vec![2, 3]];
        let requests = requests(&like, &prompts, &seeds(like.sampling.seed, 2, 2));
        let found: Vec<_> =
            requests.into_iter().map(|r| (r.prompt, r.sampling.seed, r.prompt_logprobs)).collect();
        let expected = [
            (vec![1], Some(u64::MAX), Some(2)),
            (vec![1], Some(0), None),
            (vec![2, 3], Some(u64::MAX), Some(2)),
            (vec![2, 3], Some(0), None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn drawn_seeds_are_all_different() {
        let [one, other] = [seeds(None, 3, 2), seeds(None, 3, 2)];
        let all: std::collections::HashSet<u64> = one.into_iter().chain(other).collect();
        assert_eq!(all.len(), 12);
    }
}
