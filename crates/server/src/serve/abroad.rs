//! The answer of an upstream, followed as it comes. Dropping it gives the answer up, and writes
//! down how it ended.

use super::aside;
use super::route::BYTES_OF_TOKEN;
use crate::departures::Left;
use crate::dialects::{Choice, Spent, Step, Usage};
use crate::errors::ServerError;
use crate::upstream::{Answer, Counts, Restoring, Shape, failure, unfit, wrong};
use broker::Body;
use engine::Part;
use std::time::{Duration, Instant};

pub(super) struct Abroad {
    /// Its name.
    pub(super) upstream: String,
    pub(super) body: Body,
    pub(super) answer: Answer,
    /// What was replaced, where something was.
    pub(super) restoring: Option<Restoring>,
    /// What it is held to.
    pub(super) shape: Option<Shape>,
    pub(super) n_choices: usize,
    /// When the request came.
    pub(super) started: Instant,
    pub(super) left: Left,
    /// What was waited for and not followed yet.
    pub(super) waiting: Vec<Step>,
    /// When the first of it came.
    pub(super) first: Option<Duration>,
    /// Tokens of the prompt, as they were estimated, and bytes of the answer so far.
    pub(super) n_prompt: u64,
    pub(super) n_heard: u64,
}

impl Abroad {
    /// A place for each choice.
    pub(super) fn empty_choices(&self) -> Vec<Choice> {
        vec![Choice::empty(); self.n_choices]
    }

    /// Whether all of it has come and was taken.
    pub(super) fn is_done(&self) -> bool {
        self.answer.is_over() && self.waiting.is_empty()
    }

    /// Tokens as the upstream counts them so far.
    pub(super) fn usage(&self) -> Usage {
        self.usage_of(self.answer.counts())
    }

    /// Tokens as they are accounted for.
    pub(super) fn counted(&self) -> Usage {
        self.usage_of(self.estimate())
    }

    /// What the upstream counts, and where it has not (yet) said that, at least what was sent and
    /// heard: it asks for that too, however the answer ends.
    pub(super) fn estimate(&self) -> Counts {
        let counts = self.answer.counts();
        let is_told = counts.n_generated > 0 && self.answer.is_over();
        let n_heard = self.n_heard.div_ceil(BYTES_OF_TOKEN);
        Counts {
            n_prompt: if counts.n_prompt > 0 { counts.n_prompt } else { self.n_prompt },
            n_generated: match is_told {
                true => counts.n_generated,
                false => counts.n_generated.max(n_heard),
            },
            ..counts
        }
    }

    /// Whether the upstream has counted all of it.
    fn is_told(&self) -> bool {
        let counts = self.answer.counts();
        counts.n_prompt > 0 && counts.n_generated > 0 && self.answer.is_over()
    }

    /// Notes how many tokens its end tells.
    fn note_counts(&mut self) {
        let (counts, is_estimate) = (self.estimate(), !self.is_told());
        (self.left.end().counts, self.left.end().is_estimate) = (counts, is_estimate);
    }

    fn usage_of(&self, counts: Counts) -> Usage {
        let total = self.started.elapsed();
        let prefill = self.first.unwrap_or(total);
        let decode = total.saturating_sub(prefill);
        let spent = Spent { total, prefill, decode, ..Spent::default() };
        Usage { spent, ..counts.into() }
    }

    /// Waits for the first thing to happen; [`Abroad::steps`] gives it next.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn begin(&mut self) -> Result<(), ServerError> {
        while self.waiting.is_empty() && !self.answer.is_over() {
            self.waiting = self.steps().await?;
        }
        Ok(())
    }

    /// Waits for something to happen. Losing this future loses nothing.
    ///
    /// # Errors
    /// What broke it off; nothing comes behind it.
    pub(super) async fn steps(&mut self) -> Result<Vec<Step>, ServerError> {
        if !self.waiting.is_empty() || self.answer.is_over() {
            return Ok(std::mem::take(&mut self.waiting));
        }
        let chunk = self.body.chunk().await;
        let steps = match chunk {
            Some(Ok(bytes)) => self.answer.push(&bytes),
            None => self.answer.end(),
            Some(Err(error)) => {
                tracing::warn!(id = self.left.id(), %error, "an upstream's answer broke off");
                let error = failure(&self.upstream, &error, |text| self.restored(text));
                self.left.end().outcome = Some(error.word());
                return Err(error);
            }
        };
        self.note_counts();
        let steps = steps.map_err(|problem| {
            let class = problem.class();
            tracing::warn!(id = self.left.id(), problem = class, "an upstream's answer is none");
            let said = self.answer.error().map(|said| self.restored(said));
            self.left.end().outcome = Some("malformed");
            wrong(&self.upstream, &problem, said.as_deref())
        })?;
        if self.answer.is_over() {
            self.left.end().outcome = Some("done");
        }
        self.n_heard += steps.iter().map(n_bytes).sum::<u64>();
        self.note_counts();
        if !steps.is_empty() {
            self.first.get_or_insert(self.started.elapsed());
        }
        let steps = match &mut self.restoring {
            Some(restoring) => restoring.steps(steps),
            None => steps,
        };
        self.check(&steps)?;
        Ok(steps)
    }

    /// Holds what came to what was asked for.
    fn check(&mut self, steps: &[Step]) -> Result<(), ServerError> {
        let Some(shape) = &mut self.shape else { return Ok(()) };
        let heard = match steps.iter().any(Shape::is_due) {
            true => aside(|| shape.hear(steps)),
            false => shape.hear(steps),
        };
        heard.map_err(|problem| {
            tracing::warn!(id = self.left.id(), "an upstream's answer is not what was asked for");
            self.left.end().outcome = Some("unfit");
            unfit(&self.upstream, &problem)
        })
    }

    fn restored(&self, text: &str) -> String {
        self.restoring.as_ref().map_or_else(|| text.to_owned(), |of| of.text(text))
    }
}

/// Bytes of what came.
fn n_bytes(step: &Step) -> u64 {
    let Step::Part { part, .. } = step else { return 0 };
    match part {
        Part::Text(text)
        | Part::Reasoning(text)
        | Part::CallBegin(text)
        | Part::Arguments(text) => text.len() as u64,
        _ => 0,
    }
}
