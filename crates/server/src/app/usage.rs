//! What answers the owner who asks what requests took.

use super::{App, Arrival, refuse};
use crate::errors::ServerError;
use crate::receipts::Receipts;
use crate::serve::json_response;
use crate::usage::{Form, UsageReport, read_query};
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderValue, Response, StatusCode, Uri, header};
use meter::Date;
use std::sync::Arc;

pub(crate) async fn usage(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    match report(&app, &arrival, uri.query().unwrap_or_default()).await {
        Ok((report, Form::Json)) => json_response(StatusCode::OK, report.to_json().to_string()),
        Ok((report, Form::Csv)) => {
            let mut response = json_response(StatusCode::OK, report.to_csv());
            let media_type = HeaderValue::from_static("text/csv; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, media_type);
            response
        }
        Err(error) => refuse(&error, &arrival),
    }
}

async fn report(
    app: &App,
    arrival: &Arrival,
    query: &str,
) -> Result<(UsageReport, Form), ServerError> {
    let (ask, form) = read_query(query, Date::of_us(arrival.at_us))?;
    let Some(ledger) = app.receipts.as_ref().map(Receipts::ledger) else {
        let why = "nothing is counted for long: this server has no ledger";
        return Err(ServerError::NotImplemented(why.to_owned()));
    };
    let report = ask.of(ledger.reader()).await.map_err(|error| {
        tracing::error!(%error, "the ledger cannot be read");
        ServerError::LedgerUnavailable("the ledger of this server cannot be read".to_owned())
    })?;
    Ok((report, form))
}
