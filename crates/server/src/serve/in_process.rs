//! The path of a request for this process: no socket, and the answer as it is instead of as bytes.
//!
//! Whoever tests a model by prompts goes the way that applications go, so that what is honoured,
//! adapted or refused for those is so here.

use super::{Answered, again, answer};
use crate::app::{App, Arrival};
use crate::dialects::openai::chat::Chat;
use crate::dialects::openai::completions::Completions;
use crate::dialects::{Dialect, Paths};
use crate::errors::{BadRequest, ServerError};
use crate::receipts::Receipt;
use crate::serve::record::{Outcome, Record};
use crate::{Config, dialects};
use axum::body::Body;
use axum::http::HeaderMap;
use engine::FinishReason;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A server without a socket. Its methods want a tokio runtime with time enabled.
pub struct InProcess {
    app: Arc<App>,
    /// Of a server that goes down, which this one never does.
    _signals: [watch::Sender<bool>; 2],
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Its text.
    pub text: String,
    /// The train of thought before it.
    pub reasoning: String,
    /// Calls of tools.
    pub calls: Vec<ToldCall>,
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub n_prompt: u64,
    /// Tokens sampled, those of the train of thought included.
    pub n_generated: u64,
    /// From the first step that worked on the prompt to the first token: without the queue.
    pub prefill: Duration,
    /// From the first token to the end.
    pub decode: Duration,
    /// What a client would be told in the headers `x-freehold-adapted`, `-ignored` and `-unused`.
    pub notes: Vec<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldCall {
    /// The tool.
    pub name: String,
    /// JSON.
    pub arguments: String,
    /// Whether it came to its end.
    pub is_complete: bool,
}

impl InProcess {
    /// Serves `config` to this process.
    ///
    /// # Errors
    /// [`ServerError::Config`] when the configuration cannot be served.
    pub fn new(config: Config) -> Result<Self, ServerError> {
        let (over, over_seen) = watch::channel(false);
        let (draining, draining_seen) = watch::channel(false);
        let app = Arc::new(App::new(config, over_seen, draining_seen)?);
        Ok(Self { app, _signals: [over, draining] })
    }

    /// Answers a body of `POST /v1/chat/completions`, of one alternative and not streamed.
    ///
    /// # Errors
    /// As over HTTP.
    pub async fn chat(&self, body: String) -> Result<Told, ServerError> {
        self.ask::<Chat>(body).await
    }

    /// As [`InProcess::chat`], of `POST /v1/completions`.
    ///
    /// # Errors
    /// As there.
    pub async fn complete(&self, body: String) -> Result<Told, ServerError> {
        self.ask::<Completions>(body).await
    }

    /// Asks the request of a receipt once more, with its seeds and at its time, and makes the
    /// receipt of that answer. `body` is the request's; a choice that was cut off is cut there.
    ///
    /// # Errors
    /// As over HTTP; a receipt of no route here that generates.
    pub async fn again(&self, receipt: &Receipt, body: Vec<u8>) -> Result<Receipt, ServerError> {
        again::again(&self.app, &Arrival::in_process(), receipt, body).await
    }

    async fn ask<D: Dialect>(&self, body: String) -> Result<Told, ServerError> {
        let arrival = Arrival::in_process();
        let mut record = Record::unlogged(&self.app, &arrival);
        let (app, headers) = (self.app.clone(), HeaderMap::new());
        let answered = answer::<D>(app, &arrival, &headers, Body::from(body), &mut record).await;
        let (notes, answered) = match answered {
            Ok(answered) => answered,
            Err(error) => {
                record.fail(&error);
                return Err(error);
            }
        };
        let Answered::Whole(whole) = answered else {
            return Err(BadRequest::unsupported("stream", "this answer is read as a whole").into());
        };
        record.end(Outcome::Done);
        let usage = whole.usage;
        let mut choices = whole.choices;
        let Some(choice) = choices.pop().filter(|_| choices.is_empty()) else {
            return Err(BadRequest::unsupported("n", "one answer is read").into());
        };
        if let FinishReason::Failed(why) = choice.reason {
            return Err(ServerError::Failed(why));
        }
        let call = |call: dialects::ToolCall| ToldCall {
            name: call.name,
            arguments: call.arguments,
            is_complete: call.is_complete,
        };
        let listed = |what: &str, paths: &Paths| -> Vec<String> {
            paths.kept().iter().map(|path| format!("{what}: {path}")).collect()
        };
        let adapted = notes.adapted.iter().map(|what| format!("adapted: {what}")).collect();
        let notes = [adapted, listed("ignored", &notes.ignored), listed("unused", &notes.unused)];
        Ok(Told {
            text: choice.text,
            reasoning: choice.reasoning,
            calls: choice.calls.into_iter().map(call).collect(),
            reason: choice.reason,
            n_prompt: usage.n_prompt,
            n_generated: usage.n_generated,
            prefill: usage.spent.prefill,
            decode: usage.spent.decode,
            notes: notes.concat(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::receipts::tests::receipt;
    use crate::routes;

    #[tokio::test]
    async fn whatever_generates_can_be_asked_again() {
        let model = crate::Model {
            name: "m".to_owned(),
            task: engine::Task::Generate,
            digest: None,
            lock: None,
        };
        let config = Config::new(engine::Fleet::new(None), vec![model]);
        let server = InProcess::new(config).unwrap();
        let mut n_generating = 0;
        for route in routes::all() {
            for path in route.paths {
                let mut receipt = receipt();
                (*path).clone_into(&mut receipt.request.route);
                let found = server.again(&receipt, b"{".to_vec()).await;
                let is_known = !matches!(found, Err(ServerError::NoSuchPath { .. }));
                let is_post = route.method == "post";
                // The same path may have other methods.
                if is_post {
                    assert_eq!(is_known, route.generates(), "{path}");
                    n_generating += usize::from(is_known);
                }
            }
        }
        assert_eq!(n_generating, 6);
    }
}
