//! What answers the owner who has the configuration read anew.

use super::{App, Arrival, refuse};
use crate::errors::{BadRequest, ServerError};
use crate::serve::json_response;
use axum::body::{Body, HttpBody};
use axum::extract::{Extension, State};
use axum::http::{Response, StatusCode};
use std::sync::Arc;

pub(crate) async fn reload(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    body: Body,
) -> Response<Body> {
    let has_body = !body.is_end_stream();
    let done = async {
        if has_body {
            let message = "body: expected none, the configuration has a place of its own";
            let code = Some("invalid_value");
            let bad = BadRequest { param: None, message: message.to_owned(), code };
            return Err(ServerError::from(bad));
        }
        app.reload().await
    };
    match done.await {
        Ok(report) => {
            let body = serde_json::to_string(&report).expect("lists of names are JSON");
            json_response(StatusCode::OK, body)
        }
        Err(error) => refuse(&error, &arrival),
    }
}
