//! The answer of an upstream, followed as it comes. Dropping it gives the answer up, and writes
//! down how it ended.

use crate::departures::Left;
use crate::dialects::{Choice, Spent, Step, Usage};
use crate::errors::ServerError;
use crate::upstream::{Answer, Restoring, failure, wrong};
use broker::Body;
use std::time::{Duration, Instant};

pub(super) struct Abroad {
    /// Its name.
    pub(super) upstream: String,
    pub(super) body: Body,
    pub(super) answer: Answer,
    /// What was replaced, where something was.
    pub(super) restoring: Option<Restoring>,
    pub(super) n_choices: usize,
    /// When the request came.
    pub(super) started: Instant,
    pub(super) left: Left,
    /// What was waited for and not followed yet.
    pub(super) waiting: Vec<Step>,
    /// When the first of it came.
    pub(super) first: Option<Duration>,
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
        let total = self.started.elapsed();
        let prefill = self.first.unwrap_or(total);
        let decode = total.saturating_sub(prefill);
        let spent = Spent { total, prefill, decode, ..Spent::default() };
        Usage { spent, ..self.answer.counts().into() }
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
        self.left.end().counts = self.answer.counts();
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
        if !steps.is_empty() {
            self.first.get_or_insert(self.started.elapsed());
        }
        Ok(match &mut self.restoring {
            Some(restoring) => restoring.steps(steps),
            None => steps,
        })
    }

    fn restored(&self, text: &str) -> String {
        self.restoring.as_ref().map_or_else(|| text.to_owned(), |of| of.text(text))
    }
}
