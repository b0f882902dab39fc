//! What answers the owner who asks what requests took.

use super::{App, Arrival, refuse};
use crate::errors::{BadRequest, ServerError};
use crate::receipts::Receipts;
use crate::serve::{blocking, json_response};
use crate::usage::{Asked, Days, Form, Rent, read_query};
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use ledger::{LedgerError, Reader};
use meter::Date;
use serde_json::{Value, json};
use std::sync::Arc;

/// Comparisons with owning in one answer.
const N_COMPARED_MAX: usize = 100;

pub(crate) async fn usage(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    match told(&app, &arrival, uri.query().unwrap_or_default()).await {
        Ok((body, Form::Json)) => json_response(StatusCode::OK, body),
        Ok((body, Form::Csv)) => {
            let mut response = json_response(StatusCode::OK, body);
            let media_type = HeaderValue::from_static("text/csv; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, media_type);
            response
        }
        Err(error) => refuse(&error, &arrival),
    }
}

async fn told(app: &App, arrival: &Arrival, query: &str) -> Result<(String, Form), ServerError> {
    let Asked { ask, rent, form } = read_query(query, Date::of_us(arrival.at_us))?;
    let Some(ledger) = app.receipts.as_ref().map(Receipts::ledger) else {
        let why = "nothing is counted for long: this server has no ledger";
        return Err(ServerError::NotImplemented(why.to_owned()));
    };
    let until = ask.until;
    let report = ask.of(ledger.reader()).await.map_err(|error| unread(&error))?;
    if form == Form::Csv {
        return Ok((report.to_csv(), form));
    }
    let mut told = report.to_json();
    if let Some(rent) = rent {
        let (found, left_out) = compared(app, ledger.reader(), until, rent).await?;
        told["compared"] = found;
        told["left_out"] = left_out.into();
    }
    Ok((told.to_string(), form))
}

/// What renting would have cost, by the prices that this server goes by now, and what of all cannot
/// be compared.
async fn compared(
    app: &App,
    reader: &Reader,
    until: Date,
    rent: Rent,
) -> Result<(Value, Vec<Value>), ServerError> {
    let prices = app.ways.get().elsewhere.prices.clone();
    let Some(renting) = prices.and_then(|prices| prices.renting()) else {
        if rent == Rent::All {
            // Whoever asks for all that there are is told that there are none.
            return Ok((Value::Null, Vec::new()));
        }
        let why = "this server knows no prices with a table [own], expected it to be started with \
                   --prices";
        return Err(BadRequest::unsupported("rent", why).into());
    };
    let days = renting.days(reader, until).await.map_err(|error| unread(&error))?;
    blocking(move || {
        if let Rent::One(vendor, model) = &rent {
            let compared = renting.compare(&days, until, (vendor, model));
            let compared =
                compared.map_err(|error| BadRequest::field("rent", &error.to_string()))?;
            return Ok((vec![compared.to_json(Days::Told)].into(), Vec::new()));
        }
        let (mut found, mut left_out) = (Vec::new(), Vec::new());
        for (vendor, model) in renting.names() {
            let compared = match found.len() < N_COMPARED_MAX {
                true => renting.compare(&days, until, (vendor, model)).map_err(|e| e.to_string()),
                false => Err(format!("more than {N_COMPARED_MAX}; expected to be asked alone")),
            };
            match compared {
                Ok(compared) => found.push(compared.to_json(Days::LeftOut)),
                Err(why) => {
                    left_out.push(json!({"rented": format!("{vendor}/{model}"), "why": why}))
                }
            }
        }
        Ok((found.into(), left_out))
    })
    .await
}

fn unread(error: &LedgerError) -> ServerError {
    tracing::error!(%error, "the ledger cannot be read");
    ServerError::LedgerUnavailable("the ledger of this server cannot be read".to_owned())
}
