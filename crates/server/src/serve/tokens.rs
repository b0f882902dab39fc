//! The path of a request about a model's tokens: admit, read, parse, find the model (and open it),
//! answer. No engine computes.

use super::deadline::{self, within};
use super::limited::{Whole, take_whole};
use super::prepare::Notes;
use super::record::{Outcome, Record};
use super::{body, error_response, in_turn, json_response, lenient, opened, with_notes};
use crate::accounts::rates;
use crate::app::{App, Arrival};
use crate::dialects::Family;
use crate::dialects::llama::TokenDialect;
use crate::errors::ServerError;
use crate::models::Served;
use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use engine::Task;
use std::sync::Arc;
use std::time::Instant;

/// Answers one request in the dialect `D`. Errors have OpenAI's shape, which llama-server's have.
pub(crate) async fn serve_tokens<D: TokenDialect>(
    app: Arc<App>,
    arrival: Arrival,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let mut record = Record::new(&app, &arrival);
    let answered = match deadline::of(&headers, arrival.started) {
        Ok(deadline) => {
            let work = Arc::clone(record.work());
            let answer = answer::<D>(&app, &arrival, (&headers, deadline), body, &mut record);
            work.unless_cancelled(within(deadline, answer)).await
        }
        Err(error) => Err(error.into()),
    };
    match answered {
        Ok((notes, body)) => {
            record.end(Outcome::Done);
            with_notes(json_response(StatusCode::OK, body), &notes)
        }
        Err(error) => {
            record.fail(&error);
            error_response(&error, Family::OpenAi, &arrival.id)
        }
    }
}

async fn answer<D: TokenDialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    (headers, deadline): (&HeaderMap, Option<Instant>),
    body: Body,
    record: &mut Record,
) -> Result<(Notes, String), ServerError> {
    // Before the body is read, so that at most `n_requests` bodies are in memory.
    let _seat = app.admit(arrival)?;
    let unknown = lenient::of(headers, &arrival.who)?;
    let body = body::read(app, headers, body).await?;
    let (reading, n_bytes) = (app.clone(), body.len());
    let who = Arc::clone(&arrival.who);
    let (mut request, model, open) = in_turn(app, n_bytes, move || {
        let request = D::parse(&body, unknown)?;
        let model = reading.models.permit(&who, request.model(), Task::Generate)?;
        let open = reading.models.get_open(model.as_deref())?;
        Ok((request, model, open))
    })
    .await?;
    let served: Served = match open {
        Some(served) => served,
        None => opened(app, model).await?,
    };
    record.model(&served.name);
    let of = Whole { asked: request.model(), model: &served.name, n_prompt: 0, deadline };
    let account = take_whole(app, arrival, of).await?;
    let rates = account.as_ref().map_or_else(Vec::new, |account| {
        rates(Family::OpenAi, account.standings(), account.at_us())
    });
    record.taken(account);
    let notes = Notes { ignored: request.take_ignored(), rates, ..Notes::default() };
    let body = in_turn(app, n_bytes, move || Ok(request.body(served.engine.tokenizer())?)).await?;
    Ok((notes, body))
}
