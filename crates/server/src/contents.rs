//! What was asked and answered, kept where the key of a request says so, or its project, or the
//! owner for all that do not say: sealed in the ledger under the key of whose words they are, until
//! its days are over.
//!
//! Only what a model wrote, with what was asked for it; whatever is refused is not kept. How an
//! answer is kept is nobody's to see in it, and nothing waits for it.

use crate::access::KEEP_DAYS_MAX;
use crate::app::Arrival;
use crate::dialects::{Choice, ToolCall};
use crate::receipts::finish_word;
use engine::{FinishReason, Part};
use ledger::{Content, Ledger};
use serde_json::json;

const DAY_US: i64 = 86_400_000_000;

/// Where contents are kept, and how long those whose key does not say.
#[derive(Debug, Clone)]
pub struct Contents {
    ledger: Ledger,
    days: u32,
}

impl Contents {
    /// Keeps in `ledger`, which was opened for that, for `days` where a key does not say; 0 is not
    /// at all.
    pub fn new(ledger: Ledger, days: u32) -> Self {
        Self { ledger, days }
    }

    /// How long the contents of a request are kept, in days; 0: they are not.
    pub(crate) fn days(&self, arrival: &Arrival) -> u32 {
        arrival.who.defaults.keep.unwrap_or(self.days).min(KEEP_DAYS_MAX)
    }

    /// What is kept of a request whose body is `body`, if it is.
    pub(crate) fn draft(&self, arrival: &Arrival, body: &[u8]) -> Option<Draft> {
        let days = self.days(arrival);
        (days > 0).then(|| Draft {
            ledger: self.ledger.clone(),
            person: arrival.who.whose().to_owned(),
            at: arrival.at_us,
            days,
            route: arrival.route.clone(),
            asked: String::from_utf8_lossy(body).into_owned(),
            answers: Vec::new(),
        })
    }
}

/// What is kept of a request, as far as it has come.
pub(crate) struct Draft {
    ledger: Ledger,
    person: String,
    at: i64,
    days: u32,
    route: String,
    asked: String,
    answers: Vec<Choice>,
}

impl Draft {
    /// A piece of an alternative came.
    pub(crate) fn hear(&mut self, choice_idx: usize, part: &Part) {
        self.answer(choice_idx).push(part.clone(), Vec::new());
    }

    /// An alternative has ended.
    pub(crate) fn end(&mut self, choice_idx: usize, reason: &FinishReason) {
        self.answer(choice_idx).reason = reason.clone();
    }

    fn answer(&mut self, choice_idx: usize) -> &mut Choice {
        if choice_idx >= self.answers.len() {
            self.answers.resize(choice_idx + 1, Choice::empty());
        }
        &mut self.answers[choice_idx]
    }

    /// Hands it to the ledger as the answer `id` of `model`; `cut` is why alternatives ended that
    /// did not come to their end. Where it cannot be kept the log says so: the answer is out.
    pub(crate) fn keep(self, id: &str, model: &str, cut: &str) {
        let Self { ledger, person, at, days, route, asked, answers } = self;
        let answers: Vec<_> = answers.iter().map(|answer| told(answer, cut)).collect();
        let body = json!({"route": route, "model": model, "request": asked, "answers": answers});
        let until = at.saturating_add(i64::from(days) * DAY_US);
        let content = Content { id: id.to_owned(), person, at, until, body: body.to_string() };
        if let Err(error) = ledger.keep(content) {
            tracing::error!(%id, %error, "the contents of an answer were not kept");
        }
    }
}

/// An alternative as it is kept: what is not there is left out.
fn told(answer: &Choice, cut: &str) -> serde_json::Value {
    let finish = finish_word(&answer.reason).unwrap_or(cut);
    let mut told = json!({"text": answer.text, "finish": finish});
    if !answer.reasoning.is_empty() {
        told["reasoning"] = json!(answer.reasoning);
    }
    if !answer.calls.is_empty() {
        let call = |call: &ToolCall| json!({"name": call.name, "arguments": call.arguments});
        told["calls"] = answer.calls.iter().map(call).collect();
    }
    told
}
