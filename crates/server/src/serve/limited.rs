//! A request that is ready, and the owner's limits: it is taken, cut to what is left, prepared once
//! more for the model that answers beyond a limit, or refused.

use super::deadline::within;
use super::prepare::{self, Asking, Prepared};
use super::{in_turn, opened};
use crate::accounts::{Account, Ask, Taken, rates};
use crate::app::{App, Arrival};
use crate::dialects::Dialect;
use crate::errors::ServerError;
use crate::models::Served;
use engine::Task;
use std::sync::Arc;
use std::time::Instant;

/// Words for what a limit changed, in the header that lists in what a request was.
pub(crate) const MODEL: &str = "limited-model";
pub(crate) const LENGTH: &str = "limited-length";

/// An answer that is shorter is not worth beginning, where the request does not say how long one
/// may be.
const N_ANSWER_LEAST: u64 = 256;

/// What limits made of a request that is asked once more.
#[derive(Debug, Clone)]
pub(crate) struct Limited {
    /// The words that were told.
    pub(crate) words: Vec<&'static str>,
    /// Most tokens that each answer could have.
    pub(crate) n_most: Option<u32>,
}

impl Limited {
    /// As its receipt has it.
    pub(crate) fn of(adapted: &[String], n_most: Option<u32>) -> Option<Arc<Self>> {
        let is_told = |word: &&str| adapted.iter().any(|told| told == word);
        let words: Vec<_> = [MODEL, LENGTH].into_iter().filter(is_told).collect();
        (!words.is_empty()).then(|| Arc::new(Self { words, n_most }))
    }
}

/// Who is to be taken.
pub(super) struct Taking<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) arrival: &'a Arrival,
    pub(super) asking: &'a Asking,
    pub(super) deadline: Option<Instant>,
    /// Its body, where another model may have to answer.
    pub(super) body: Option<&'a [u8]>,
}

impl Taking<'_> {
    /// Takes a request, where the server keeps accounts. What limits changed of it is in its notes.
    pub(super) async fn take<D: Dialect>(
        &self,
        mut prepared: Box<Prepared<D::Request>>,
    ) -> Result<(Box<Prepared<D::Request>>, Option<Account>), ServerError> {
        if let Some(limited) = &self.arrival.limited {
            for word in &limited.words {
                prepared.notes.adapted.push(*word);
            }
            let n_left = [prepared.n_left, limited.n_most].into_iter().flatten().min();
            prepared.n_left = n_left;
        }
        let Some(accounts) = &self.app.accounts else { return Ok((prepared, None)) };
        let over = || self.app.over.clone();
        let ask = Ask { may_change: self.body.is_some(), ..self.ask::<D>(&prepared) };
        let mut taken = accounts.take(self.arrival, &ask, over()).await?;
        if let Taken::Instead(name) = taken {
            prepared = self.prepare_for::<D>(name).await?;
            let ask = self.ask::<D>(&prepared);
            taken = accounts.take(self.arrival, &ask, over()).await?;
            prepared.notes.adapted.push(MODEL);
        }
        let Taken::Account(account) = taken else {
            unreachable!("no model stands in for one that stands in");
        };
        let n_asked = self.ask::<D>(&prepared).n_answer;
        if account.n_answer() < n_asked {
            let n_choices = n_choices::<D>(&prepared).max(1);
            let n_each = u32::try_from(account.n_answer() / n_choices).unwrap_or(u32::MAX);
            let n_left = [prepared.n_left, Some(n_each)].into_iter().flatten().min();
            prepared.n_left = n_left;
            prepared.notes.adapted.push(LENGTH);
        }
        prepared.notes.rates = rates(D::FAMILY, account.standings(), account.at_us());
        Ok((prepared, Some(*account)))
    }

    /// What a request may take. Answers may be cut where it does not say how long they are.
    fn ask<'p, D: Dialect>(&self, prepared: &'p Prepared<D::Request>) -> Ask<'p> {
        let call = D::call(&prepared.request);
        let n_ctx = prepared.served.engine.info().n_ctx as usize;
        let n_each = |prompt: &Vec<u32>| {
            let n_rest = u32::try_from(n_ctx.saturating_sub(prompt.len())).unwrap_or(u32::MAX);
            let bounds = [call.max_tokens, prepared.n_left, Some(n_rest)];
            u64::from(bounds.into_iter().flatten().min().unwrap_or(n_rest))
        };
        let n_per_prompt = call.n_per_prompt as u64;
        let is_generated = super::is_generated(call.delivery);
        let prompts = if is_generated { &prepared.prompts[..] } else { &[] };
        let n_answer = prompts.iter().map(n_each).sum::<u64>() * n_per_prompt;
        let n_least_each = N_ANSWER_LEAST.max(u64::from(call.min_tokens));
        let n_least = match call.max_tokens {
            Some(_) => n_answer,
            None => n_least_each * n_choices::<D>(prepared),
        };
        Ask {
            asked: call.model.as_deref(),
            model: &prepared.served.name,
            there: None,
            n_prompt: prompts.iter().map(|prompt| prompt.len() as u64).sum(),
            n_answer,
            n_least: n_least.min(n_answer),
            deadline: self.deadline,
            may_change: false,
        }
    }

    /// The same request for another model, which is opened where it is not.
    async fn prepare_for<D: Dialect>(
        &self,
        name: String,
    ) -> Result<Box<Prepared<D::Request>>, ServerError> {
        let work = async {
            let begun = Instant::now();
            let permitted = self.app.models.permit(&self.asking.who, Some(&name), Task::Generate);
            let name = permitted?.unwrap_or(name);
            let served: Served = match self.app.models.get_open(Some(&name))? {
                Some(served) => served,
                None => opened(self.app, Some(name)).await?,
            };
            let load = begun.elapsed();
            let body = self.body.unwrap_or_default().to_vec();
            let (reading, asking) = (self.app.clone(), self.asking.clone());
            let prepared = in_turn(self.app, body.len(), move || {
                let request = prepare::parse::<D>(&reading, &asking, &body)?;
                prepare::prepare::<D>(request, served, asking.now)
            });
            Ok(Box::new(Prepared { load, ..prepared.await? }))
        };
        within(self.deadline, work).await
    }
}

/// What a request may take whose answer is no tokens.
pub(super) struct Whole<'a> {
    /// The name that it asked for.
    pub(super) asked: Option<&'a str>,
    pub(super) model: &'a str,
    pub(super) n_prompt: u64,
    pub(super) deadline: Option<Instant>,
}

/// Takes such a request, where the server keeps accounts. No other model can answer it.
///
/// # Errors
/// A ledger that takes nothing now; as [`Accounts::take`](crate::accounts::Accounts::take).
pub(super) async fn take_whole(
    app: &App,
    arrival: &Arrival,
    of: Whole<'_>,
) -> Result<Option<Account>, ServerError> {
    app.check_ledger()?;
    let Some(accounts) = &app.accounts else { return Ok(None) };
    let Whole { asked, model, n_prompt, deadline } = of;
    let (n_answer, n_least, may_change) = (0, 0, false);
    let there = None;
    let ask = Ask { asked, model, there, n_prompt, n_answer, n_least, deadline, may_change };
    match accounts.take(arrival, &ask, app.over.clone()).await? {
        Taken::Account(account) => Ok(Some(*account)),
        Taken::Instead(_) => unreachable!("another model may not answer"),
    }
}

/// Answers that a request asks for.
fn n_choices<D: Dialect>(prepared: &Prepared<D::Request>) -> u64 {
    (prepared.prompts.len() * D::call(&prepared.request).n_per_prompt) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_limits_changed_is_known_by_its_words() {
        let of = |words: &[&str]| {
            let adapted: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
            Limited::of(&adapted, Some(7)).map(|limited| limited.words.clone())
        };
        assert_eq!(of(&["tools-prompt"]), None);
        assert_eq!(of(&["tools-prompt", LENGTH]), Some(vec![LENGTH]));
        assert_eq!(of(&[MODEL, LENGTH]), Some(vec![MODEL, LENGTH]));
    }
}
