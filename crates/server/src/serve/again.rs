//! A request asked once more, and its answer held to the receipt of the first.

use super::record::{Outcome, Record};
use super::{Answered, Notes, answer, body, gather, json_response, lenient, with_notes};
use crate::app::{App, Arrival};
use crate::dialects::anthropic::Messages;
use crate::dialects::declared::Field;
use crate::dialects::fields::{Fields, missing};
use crate::dialects::openai::chat::Chat;
use crate::dialects::openai::completions::Completions;
use crate::dialects::openai::responses::Responses;
use crate::dialects::{Dialect, Paths, ollama};
use crate::errors::{BadRequest, ServerError};
use crate::receipts::{AskedRequest, Difference, Receipt, SignedReceipt, compare, no_receipt};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;
use std::sync::Arc;

/// What becomes of the fields of `/v1/receipts/{id}/verify`.
pub(crate) const VERIFY_FIELDS: &[Field] =
    &[Field::honoured("request").text().note("the body of the request, as it was sent")];

/// Asks the request of the client's receipt `id` once more and says in what the answer differs,
/// as JSON, beside what had no effect.
///
/// # Errors
/// No such receipt; what keeps the request from being answered now.
pub(crate) async fn verify(
    app: &Arc<App>,
    arrival: &Arrival,
    id: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<(String, Paths), ServerError> {
    // Given back before the request is asked, which has one of its own.
    let seat = app.admit(arrival)?;
    let body = body::read(app, headers, body).await?;
    let mut fields = Fields::parse(&body)?;
    let mut ignored: Paths = fields.treat(VERIFY_FIELDS)?.into_iter().collect();
    let request = fields.text("request")?.ok_or_else(|| missing("request", "a string"))?;
    ignored.append(fields.finish(lenient::of(headers, &arrival.who)?)?);
    let Some(receipts) = &app.receipts else {
        return Err(no_receipt(id, "none are kept, the server was started with --ledger none"));
    };
    let text = receipts.find(arrival.principal, id).await?;
    let signed = SignedReceipt::read(&text)
        .map_err(|error| ServerError::Failed(format!("receipt {id}: {error}")))?;
    let expected = &signed.receipt;
    if let Some(there) = expected.route.as_ref().and_then(|route| route.there.as_ref()) {
        let upstream = &there.upstream;
        return Err(ServerError::Conflict(format!(
            "receipt {id:?}: upstream {upstream:?} answered; only what was answered here can be \
             asked once more and verified"
        )));
    }
    let request = request.into_bytes();
    let asked = AskedRequest::new(&expected.request.route, &request);
    if asked != expected.request {
        let problem = "not the request of this receipt: its hash is another";
        return Err(BadRequest::field("request", problem).into());
    }
    drop(seat);
    let found = again(app, arrival, expected, request).await?;
    let differences = compare(expected, &found);
    let differences: Vec<String> = differences.iter().map(Difference::to_string).collect();
    let n_tokens: u64 = expected.choices.iter().map(|choice| choice.n_tokens).sum();
    let body = json!({
        "id": id,
        "equal": differences.is_empty(),
        "n_tokens": n_tokens,
        "node": signed.node,
        "differences": differences,
    });
    Ok((body.to_string(), ignored))
}

/// The response that says what came of it.
pub(crate) fn verified(body: String, ignored: Paths) -> Response<Body> {
    let notes = Notes { ignored, ..Notes::default() };
    with_notes(json_response(StatusCode::OK, body), &notes)
}

/// Asks the request of a receipt once more, for whoever `asks`, with the receipt's seeds and at its
/// time, and makes the receipt of that answer. It is answered here, whatever the rules say.
///
/// # Errors
/// As over HTTP; a receipt of no route here that generates.
pub(super) async fn again(
    app: &Arc<App>,
    asks: &Arrival,
    receipt: &Receipt,
    body: Vec<u8>,
) -> Result<Receipt, ServerError> {
    let mut arrival = Arrival::of_receipt(receipt)?;
    (arrival.principal, arrival.cache) = (asks.principal, asks.cache);
    arrival.who = Arc::clone(&asks.who);
    match &*receipt.request.route {
        "/v1/chat/completions" => answer_again::<Chat>(app, &arrival, receipt, body).await,
        "/v1/completions" => answer_again::<Completions>(app, &arrival, receipt, body).await,
        "/v1/responses" => answer_again::<Responses>(app, &arrival, receipt, body).await,
        "/v1/messages" => answer_again::<Messages>(app, &arrival, receipt, body).await,
        "/api/chat" => answer_again::<ollama::Chat>(app, &arrival, receipt, body).await,
        "/api/generate" => answer_again::<ollama::Generate>(app, &arrival, receipt, body).await,
        other => Err(ServerError::NoSuchPath { path: other.to_owned() }),
    }
}

async fn answer_again<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    receipt: &Receipt,
    body: Vec<u8>,
) -> Result<Receipt, ServerError> {
    let mut record = Record::unlogged(app, arrival);
    // What was refused has no receipt, so fields that are not known were let through then too.
    let lenient = HeaderName::from_static(lenient::HEADER);
    let headers = HeaderMap::from_iter([(lenient, HeaderValue::from_static("true"))]);
    let body = Body::from(body);
    let answered = match answer::<D>(app.clone(), arrival, &headers, body, &mut record).await {
        Ok((_, Answered::Stream(mut start))) => {
            gather(app, &mut start.source, &mut record).await.map(|_| ())
        }
        answered => answered.map(|_| ()),
    };
    if let Err(error) = answered {
        record.fail(&error);
        return Err(error);
    }
    let draft = record.take_draft();
    record.end(Outcome::Done);
    let nothing = || BadRequest::field("body", "nothing is generated for it").into();
    draft.map(|draft| draft.finish_as(receipt)).ok_or_else(nothing)
}
