//! What answers which models there are.

use super::{App, Arrival, refuse};
use crate::dialects::{Family, anthropic, openai};
use crate::serve::json_response;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{Response, StatusCode, Uri};
use std::sync::Arc;

pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    uri: Uri,
) -> Response<Body> {
    let cards = app.models.cards(&arrival.who);
    match arrival.family {
        Family::OpenAi | Family::Ollama => json_response(StatusCode::OK, openai::list_body(&cards)),
        Family::Anthropic => match anthropic::list_body(&cards, uri.query().unwrap_or_default()) {
            Ok(body) => json_response(StatusCode::OK, body),
            Err(bad) => refuse(&bad.into(), &arrival),
        },
    }
}

pub(crate) async fn one(
    State(app): State<Arc<App>>,
    Extension(arrival): Extension<Arrival>,
    Path(id): Path<String>,
) -> Response<Body> {
    let body = match arrival.family {
        Family::OpenAi | Family::Ollama => openai::model_body,
        Family::Anthropic => anthropic::model_body,
    };
    match app.models.card(&arrival.who, &id) {
        Ok(card) => json_response(StatusCode::OK, body(&card)),
        Err(error) => refuse(&error, &arrival),
    }
}
