//! Streams that are resumed: where the client says that it was, and the rest from there on.
//!
//! A client says so in `Last-Event-ID` (the HTML standard, section 9.2, "Server-sent events"), with
//! its request repeated or at the stream's own address, or in a query. Nothing is computed anew.

use super::record::Record;
use super::{body, error_response, stream_response, tell_receipt};
use crate::app::{App, Arrival};
use crate::dialects::Dialect;
use crate::dialects::declared::Field;
use crate::dialects::fields::{short, wrong};
use crate::errors::{BadRequest, ServerError};
use crate::streams::{Asked, Place};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response};
use std::sync::Arc;

/// The header with the id of the last event that came: the stream's, a colon, and a number.
pub(crate) const LAST_EVENT_ID: &str = "last-event-id";
/// The header that says for how many seconds a stream can be resumed.
pub(crate) const RESUMABLE: &str = "x-freehold-resumable";
const STARTING_AFTER: &str = "starting_after";

/// Parameters of the query of a stream.
pub(crate) const STREAM_QUERY: &[Field] = &[Field::honoured(STARTING_AFTER)
    .count(0)
    .note("the number of the last event that came; without it: `Last-Event-ID`, else all events")];

/// Parameters of the query of a kept response. Others, such as `include`, ask for nothing that is
/// not there.
pub(crate) const RESPONSE_QUERY: &[Field] = &[
    Field::honoured("stream").flag().note("`true` only with `--resume-streams`, for as long"),
    Field::honoured(STARTING_AFTER)
        .count(0)
        .note("beside `stream=true`: the number of the last event that came"),
];

/// What a header says of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EventId<'a> {
    /// `None`: it is a number alone.
    stream: Option<&'a str>,
    number: usize,
}

fn event_id(headers: &HeaderMap) -> Result<Option<EventId<'_>>, BadRequest> {
    let mut values = headers.get_all(LAST_EVENT_ID).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let (stream, number) = match text.rsplit_once(':') {
        Some((stream, number)) => (Some(stream), number),
        None => (None, text),
    };
    match plain_number(number).filter(|_| values.next().is_none()) {
        Some(number) => Ok(Some(EventId { stream, number })),
        None => {
            let shown = String::from_utf8_lossy(value.as_bytes());
            let expected = "the id of an event, which ends in a colon and its number";
            Err(wrong(LAST_EVENT_ID, &(*shown).into(), expected))
        }
    }
}

/// A number of digits alone: `parse` would take a sign too.
fn plain_number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The place behind which a repeated request is to be gone on with.
fn of_repeated(headers: &HeaderMap) -> Result<Place, BadRequest> {
    match event_id(headers)? {
        Some(EventId { stream: Some(id), number }) => {
            Ok(Place { id: id.to_owned(), after: Some(number), param: LAST_EVENT_ID })
        }
        found => {
            let number = found.map(|id| id.number);
            let expected = "the id of an event: that of its stream, a colon, and its number";
            Err(wrong(LAST_EVENT_ID, &number.into(), expected))
        }
    }
}

/// The place in the stream `id` that its address is asked for with.
pub(crate) fn of_address(id: &str, query: &str, headers: &HeaderMap) -> Result<Place, BadRequest> {
    let place = |after, param| Place { id: id.to_owned(), after, param };
    let by_query = starting_after(query)?;
    let Some(EventId { stream, number }) = event_id(headers)? else {
        return Ok(place(by_query, STARTING_AFTER));
    };
    if let Some(stream) = stream.filter(|stream| *stream != id) {
        let expected = format!("an event of the stream {:?}", short(id));
        return Err(wrong(LAST_EVENT_ID, &stream.into(), &expected));
    }
    if by_query.is_some_and(|by_query| by_query != number) {
        let expected = format!("{number}, as {LAST_EVENT_ID} says");
        return Err(wrong(STARTING_AFTER, &by_query.into(), &expected));
    }
    Ok(place(Some(number), LAST_EVENT_ID))
}

/// Whether the stream of a kept response is asked for.
pub(crate) fn asks_for_stream(query: &str) -> Result<bool, BadRequest> {
    let is_stream = match parameter(query, "stream")? {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => return Err(wrong("stream", &other.into(), "true or false")),
    };
    match starting_after(query)? {
        Some(after) if !is_stream => {
            Err(wrong(STARTING_AFTER, &after.into(), "\"stream\": true beside it"))
        }
        _ => Ok(is_stream),
    }
}

fn starting_after(query: &str) -> Result<Option<usize>, BadRequest> {
    let Some(value) = parameter(query, STARTING_AFTER)? else { return Ok(None) };
    let expected = "an integer from 0, the number of an event";
    let wrong = || wrong(STARTING_AFTER, &value.into(), expected);
    plain_number(value).map(Some).ok_or_else(wrong)
}

fn parameter<'a>(query: &'a str, name: &str) -> Result<Option<&'a str>, BadRequest> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(found, _)| *found == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(BadRequest::field(name, "given twice, expected it once")),
    }
}

/// Answers a request that is repeated behind the events that came. Its body is read, so that the
/// client comes to listen, and must be what it was, so that nobody gets another request's answer.
pub(super) async fn repeated<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    headers: &HeaderMap,
    body: Body,
) -> Response<Body> {
    let answered = async {
        let place = of_repeated(headers)?;
        let asked = Asked { route: arrival.route.clone(), body: body::mark(app, body).await? };
        resumed(app, arrival, &place, Some(&asked))
    };
    answered.await.unwrap_or_else(|error| {
        Record::new(app, arrival).fail(&error);
        error_response(&error, D::FAMILY, &arrival.id)
    })
}

/// The response with the rest of a stream.
pub(crate) fn resumed(
    app: &App,
    arrival: &Arrival,
    place: &Place,
    asked: Option<&Asked>,
) -> Result<Response<Body>, ServerError> {
    let body = app.streams.resume(arrival.principal, place, asked)?;
    app.metrics.resumed();
    tracing::info!(id = %arrival.id, stream = %short(&place.id), "stream resumed");
    let mut response = stream_response("text/event-stream", body);
    tell(app, &mut response);
    tell_receipt(app.receipts.as_ref().map(|_| &*place.id), &mut response);
    Ok(response)
}

/// The head of [`resumed`], for a client that asks for nothing more: whoever reads goes on.
pub(crate) fn looked(
    app: &App,
    arrival: &Arrival,
    place: &Place,
) -> Result<Response<Body>, ServerError> {
    app.streams.look(arrival.principal, place)?;
    let mut response = stream_response("text/event-stream", Body::empty());
    tell(app, &mut response);
    Ok(response)
}

/// Says how long a stream can be resumed.
pub(super) fn tell(app: &App, response: &mut Response<Body>) {
    if let Some(lasts) = app.streams.lasts() {
        response.headers_mut().insert(RESUMABLE, HeaderValue::from(lasts.as_secs()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| {
                (axum::http::HeaderName::from_static(LAST_EVENT_ID), value.parse().unwrap())
            })
            .collect()
    }

    #[test]
    fn a_repeated_request_names_the_event_that_came_last() {
        let check = |values: &[&str], expected: Result<(&str, usize), &str>| {
            let found = of_repeated(&headers(values)).map_err(|bad| bad.message);
            let expected = expected.map(|(id, n)| Place {
                id: id.to_owned(),
                after: Some(n),
                param: LAST_EVENT_ID,
            });
            match (found, expected) {
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => assert_eq!(found, expected.map_err(str::to_owned)),
            }
        };
        check(&["chatcmpl-1:0"], Ok(("chatcmpl-1", 0)));
        check(&[" msg_a:12 "], Ok(("msg_a", 12)));
        check(&["12"], Err("last-event-id: 12: expected the id of an event"));
        for wrong in ["", "a", "a:", "a:-1", "a:+1", "a:1.5", "a:99999999999999999999"] {
            check(&[wrong], Err("expected the id of an event"));
        }
        check(&["a:1", "a:2"], Err("last-event-id: \"a:1\": expected"));
    }

    #[test]
    fn an_address_takes_a_header_or_a_query_that_says_the_same() {
        let check = |query: &str, values: &[&str], expected: Result<Option<usize>, &str>| {
            let found = of_address("s", query, &headers(values));
            let found = found.map(|place| place.after).map_err(|bad| bad.param.unwrap());
            assert_eq!(found, expected.map_err(str::to_owned), "{query} {values:?}");
        };
        check("", &[], Ok(None));
        check("starting_after=3", &[], Ok(Some(3)));
        check("", &["s:4"], Ok(Some(4)));
        check("", &["4"], Ok(Some(4)));
        check("starting_after=4&x=y", &["s:4"], Ok(Some(4)));
        check("starting_after=3", &["s:4"], Err(STARTING_AFTER));
        check("", &["t:4"], Err(LAST_EVENT_ID));
        let twice = "starting_after=3&starting_after=3";
        for query in ["starting_after=", "starting_after=x", "starting_after=-1", twice] {
            check(query, &[], Err(STARTING_AFTER));
        }
    }

    #[test]
    fn a_response_is_streamed_where_that_is_asked_for() {
        let check = |query: &str, expected: Result<bool, &str>| {
            let found = asks_for_stream(query).map_err(|bad| bad.param.unwrap());
            assert_eq!(found, expected.map_err(str::to_owned), "{query}");
        };
        check("", Ok(false));
        check("stream=false", Ok(false));
        check("stream=true&include_obfuscation=false", Ok(true));
        check("stream=true&starting_after=1", Ok(true));
        check("stream=1", Err("stream"));
        check("stream=true&stream=false", Err("stream"));
        check("starting_after=1", Err(STARTING_AFTER));
    }
}
