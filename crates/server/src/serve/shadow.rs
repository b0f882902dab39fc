//! Shadows: another model answers a copy of a request, behind the answer and unseen.
//!
//! A copy begins when the client has its answer, has the lowest priority and no place among the
//! requests, and there are few at once. Where the machine has other things to do it is dropped, and
//! counted as that. It opens no model. What comes of it is compared and forgotten: one line of the
//! log and numbers, never any contents.

use super::behind::Asked;
use super::flight::{self, Begun, Flight};
use super::here::{like, sampling};
use super::prepare::{self, Asking};
use super::record::Record;
use super::source::Source;
use super::{blocking, gather};
use crate::app::{App, Arrival};
use crate::dialects::{Choice, Dialect, Usage};
use crate::errors::ServerError;
use crate::metrics::ShadowSeen;
use crate::models::Served;
use crate::shares::Share;
use engine::{CacheScope, Engine, FinishReason, Priority, Request};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Copies at once.
pub(crate) const N_SHADOWS: usize = 2;
/// How long one may take.
const TIME_MAX: Duration = Duration::from_secs(600);
/// Whose requests copies are: of nobody who could be served less for them.
const CLIENT: u64 = u64::MAX;

/// Why a copy has no answer.
enum Lost {
    /// The machine has other things to do, or the model is not open.
    Dropped,
    /// The model does not take the request, or broke off.
    Failed(ServerError),
}

impl From<ServerError> for Lost {
    fn from(error: ServerError) -> Self {
        Self::Failed(error)
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<(Choice, Usage), Lost>> + Send>>;

/// A copy that waits for the answer's end.
pub(super) struct Shadow {
    app: Arc<App>,
    share: Share,
    /// The request's id.
    id: String,
    /// The model that answers.
    usual: String,
    /// Not begun.
    ask: Answering,
}

impl Shadow {
    /// A copy of a call whose body is `body`, where the alias that it asks for has a shadow and
    /// this is one of its requests. Both then have the same random numbers.
    pub(super) fn of<D: Dialect>(
        app: &Arc<App>,
        asked: &Asked<'_>,
        like: &mut Request,
        body: Vec<u8>,
    ) -> Option<Self> {
        let Asked { arrival, asking, served, call } = *asked;
        let share = app.shadow(arrival.principal, call)?;
        if share.model == served.name {
            return None;
        }
        let seed = *like.sampling.seed.get_or_insert_with(|| RandomState::new().hash_one(0_u8));
        let mut arrival = arrival.clone();
        (arrival.principal, arrival.cache) = (CLIENT, CacheScope::Off);
        arrival.priority = Priority::Batch;
        let id = arrival.id.clone();
        let plan = Plan {
            app: app.clone(),
            arrival,
            asking: asking.clone(),
            model: share.model.clone(),
            usual: served.engine.clone(),
            seed,
            body,
        };
        Some(Self {
            app: app.clone(),
            share,
            id,
            usual: served.name.clone(),
            ask: Box::pin(ask::<D>(plan)),
        })
    }

    /// Has the copy answered, now that the client has its answer, which is `heard`.
    pub(super) fn begin(self, heard: Choice, usage: Usage) {
        let Ok(turn) = self.app.shadowing.clone().try_acquire_owned() else {
            return self.end(&heard, usage, &Err(Lost::Dropped));
        };
        tokio::spawn(self.run(heard, usage, turn));
    }

    async fn run(mut self, heard: Choice, usage: Usage, turn: OwnedSemaphorePermit) {
        let answered = (&mut self.ask).await;
        self.end(&heard, usage, &answered);
        drop(turn);
    }

    /// Compares, counts and writes its line.
    fn end(self, heard: &Choice, usage: Usage, answered: &Result<(Choice, Usage), Lost>) {
        let Self { app, share, id, usual, .. } = self;
        let speed = |usage: &Usage| {
            (usage.n_generated as f64 / usage.spent.decode.as_secs_f64().max(1e-6)).round()
        };
        let mut seen = ShadowSeen { n_usual: usage.n_generated, ..ShadowSeen::default() };
        seen.time_usual = usage.spent.decode;
        let (mut at, mut finish, mut n_per_s) = (None, None, None);
        seen.outcome = match answered {
            Err(Lost::Dropped) => "dropped",
            Err(Lost::Failed(_)) => "failed",
            Ok((choice, copy)) => {
                (seen.n_shadow, seen.time_shadow) = (copy.n_generated, copy.spent.decode);
                finish = Some(word(&choice.reason));
                n_per_s = Some(speed(copy));
                at = differs_at(heard, choice);
                if at.is_none() && word(&heard.reason) == word(&choice.reason) {
                    "equal"
                } else {
                    "differs"
                }
            }
        };
        let error = match answered {
            Err(Lost::Failed(error)) => Some(error.word()),
            _ => None,
        };
        app.metrics.shadow(&share.alias, &share.model, &seen);
        tracing::info!(
            %id,
            alias = %share.alias,
            model = %usual,
            shadow = %share.model,
            outcome = seen.outcome,
            error,
            differs_at_char = at,
            finish = word(&heard.reason),
            shadow_finish = finish,
            n_generated = seen.n_usual,
            shadow_n_generated = seen.n_shadow,
            tokens_per_s = speed(&usage),
            shadow_tokens_per_s = n_per_s,
            "shadow"
        );
    }
}

/// What a copy asks.
struct Plan {
    app: Arc<App>,
    arrival: Arrival,
    asking: Asking,
    model: String,
    /// The engine that answered.
    usual: Engine,
    seed: u64,
    body: Vec<u8>,
}

async fn ask<D: Dialect>(plan: Plan) -> Result<(Choice, Usage), Lost> {
    let Plan { app, arrival, asking, model, usual, seed, body } = plan;
    // Those that somebody waits for are read first.
    let turn = app.preparing.clone().try_acquire_owned().map_err(|_| Lost::Dropped)?;
    let reading = app.clone();
    let prepared = blocking(move || {
        let _turn = turn;
        let Some(served) = reading.models.get_open::<Served>(Some(&model))? else {
            return Ok(None);
        };
        let request = prepare::parse::<D>(&reading, &asking, &body)?;
        prepare::prepare::<D>(request, served, asking.now).map(Some)
    });
    let mut prepared = prepared.await?.ok_or(Lost::Dropped)?;
    let engine = prepared.served.engine.clone();
    let is_busy = |engine: &Engine| engine.stats().n_waiting > 0;
    if is_busy(&engine) || is_busy(&usual) {
        return Err(Lost::Dropped);
    }
    let arrival = arrival.again();
    let mut sampling = sampling(D::call(&prepared.request), &app.default_sampling, &engine);
    sampling.seed = Some(seed);
    let deadline = Some(Instant::now() + TIME_MAX);
    let like = like::<D>(&arrival, deadline, sampling, &mut prepared);
    let begun = Begun { at: arrival.started, load: Duration::ZERO };
    let call = D::call(&prepared.request);
    let requests = flight::requests(&like, &prepared.prompts, &[seed]);
    let mut source = Source::Here(Box::new(Flight::submit(&engine, call, requests, begun)?));
    let mut record = Record::uncounted(&app, &arrival);
    let mut choices = gather(&app, &mut source, &mut record).await?;
    let choice = choices.pop().ok_or(Lost::Dropped)?;
    Ok((choice, source.usage()))
}

/// The first character in which two answers differ, counted from 0 over reasoning, text and calls.
fn differs_at(one: &Choice, other: &Choice) -> Option<u64> {
    let (one, other) = (said(one), said(other));
    let mut others = other.chars();
    let n_same = one.chars().take_while(|c| others.next() == Some(*c)).count();
    let is_same = one == other;
    (!is_same).then_some(n_same as u64)
}

fn said(choice: &Choice) -> String {
    let calls = choice.calls.iter().map(|call| format!("\0{}\0{}", call.name, call.arguments));
    let parts = [choice.reasoning.clone(), "\0".to_owned(), choice.text.clone()];
    parts.into_iter().chain(calls).collect()
}

fn word(reason: &FinishReason) -> &'static str {
    match reason {
        FinishReason::Stop => "stop",
        FinishReason::StopString(_) => "stop_string",
        FinishReason::Length => "length",
        _ => "broken",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::Part;

    #[test]
    fn answers_are_compared_by_characters() {
        let said = |reasoning: &str, text: &str| {
            let mut choice = Choice::empty();
            choice.push(Part::Reasoning(reasoning.to_owned()), Vec::new());
            choice.push(Part::Text(text.to_owned()), Vec::new());
            choice
        };
        let usual = said("", "Größe 5");
        assert_eq!(differs_at(&usual, &usual), None);
        // The mark between reasoning and text counts.
        assert_eq!(differs_at(&usual, &said("", "Größe 6")), Some(7));
        assert_eq!(differs_at(&usual, &said("", "Größe")), Some(6));
        assert_eq!(differs_at(&said("", "Größe"), &usual), Some(6));
        assert_eq!(differs_at(&usual, &said("x", "Größe 5")), Some(0));
        let mut call = usual.clone();
        call.push(Part::CallBegin("f".to_owned()), Vec::new());
        assert_eq!(differs_at(&usual, &call), Some(8));
    }
}
