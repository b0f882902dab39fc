//! What is done with an answer once its client has it: another model answers a copy of its request,
//! and the two become a case for the gate. Neither delays it.

use super::prepare::Asking;
use super::shadow::Shadow;
use crate::app::{App, Arrival};
use crate::cases::{CASE_BYTES_MAX, Cases};
use crate::dialects::declared::Unknown;
use crate::dialects::{Call, Choice, Delivery, Dialect, Prompts, Usage};
use crate::models::Served;
use engine::{FinishReason, Part, Request};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What waits for an answer's end, and the answer so far.
pub(super) struct Behind {
    heard: Choice,
    shadow: Option<Shadow>,
    case: Option<(Cases, Map<String, Value>)>,
}

/// A request whose answer somebody waits for.
pub(super) struct Asked<'a> {
    pub(super) arrival: &'a Arrival,
    pub(super) asking: &'a Asking,
    pub(super) served: &'a Served,
    pub(super) call: &'a Call,
}

impl Behind {
    /// Whether the body of a request may be needed at its answer's end. Behind one that is asked
    /// once more there is nothing to do.
    pub(super) fn needs_body(app: &App, arrival: &Arrival) -> bool {
        let is_first = arrival.seeds.is_none();
        is_first && (arrival.is_recorded || !app.shares.get().shadows.is_empty())
    }

    /// What is to be done behind the one answer to a request whose body is `body`. Where that is
    /// compared, both answers have the same random numbers.
    pub(super) fn of<D: Dialect>(
        app: &Arc<App>,
        asked: &Asked<'_>,
        like: &mut Request,
        body: Option<Vec<u8>>,
    ) -> Option<Self> {
        let body = body?;
        let call = asked.call;
        let is_one = match &call.prompts {
            Prompts::Plain(prompts) => prompts.len() == 1,
            Prompts::Chat { .. } | Prompts::Turn { .. } => true,
        };
        let is_answered = matches!(call.delivery, Delivery::Stream | Delivery::Whole);
        if !is_one || call.n_per_prompt > 1 || !is_answered || call.prompt_logprobs.is_some() {
            return None;
        }
        let case = case::<D>(app, asked, &body);
        let shadow = Shadow::of::<D>(app, asked, like, body);
        let is_any = case.is_some() || shadow.is_some();
        is_any.then(|| Self { heard: Choice::empty(), shadow, case })
    }

    /// A piece of the answer came.
    pub(super) fn hear(&mut self, part: &Part) {
        self.heard.push(part.clone(), Vec::new());
    }

    /// The answer has ended.
    pub(super) fn done(&mut self, reason: &FinishReason) {
        self.heard.reason = reason.clone();
    }

    /// The whole answer.
    pub(super) fn hear_all(&mut self, choices: &[Choice]) {
        if let [choice] = choices {
            self.heard = choice.clone();
        }
    }

    /// Begins with it, now that the client has its answer.
    pub(super) fn begin(self, usage: Usage) {
        let Self { heard, shadow, case } = self;
        if let Some((cases, case)) = case {
            let heard = heard.clone();
            tokio::task::spawn_blocking(move || cases.keep(case, &heard));
        }
        if let Some(shadow) = shadow {
            shadow.begin(heard, usage);
        }
    }
}

/// The request as a case, where it may become one. What it does not say of the temperature, which
/// the gate has at 0, is as it was.
fn case<D: Dialect>(
    app: &App,
    asked: &Asked<'_>,
    body: &[u8],
) -> Option<(Cases, Map<String, Value>)> {
    let is_read_alike = matches!(asked.asking.unknown, Unknown::Refused);
    let cases = app.cases.clone().filter(|_| asked.arrival.is_recorded && is_read_alike)?;
    // A canary's answer is not what the alias's model is to be held to, and what is longer than
    // any case is not worth reading.
    let is_canary = app.canary(asked.arrival.principal, asked.call).is_some_and(|(_, is)| is);
    if is_canary || body.len() > CASE_BYTES_MAX {
        return None;
    }
    let mut case = D::case(body)?;
    if let Some(Value::Object(parameters)) = case.get_mut("parameters") {
        // By way of its text, so that 0.8 does not become 0.800000011920929.
        let usual = asked.served.engine.info().recommended.over(&app.default_sampling);
        let usual = usual.temperature.to_string().parse::<f64>();
        let usual = usual.map_or(Value::Null, Value::from);
        parameters.entry("temperature").or_insert(usual);
    }
    Some((cases, case))
}
