//! Ollama's native API: generate, chat, embeddings, what is known of models, how they come and go.
//!
//! A stream is lines of JSON, and is what clients get that do not say. A field is honoured, or
//! refused with a 400 that names it; what nobody knows has no effect, as with Ollama itself, and
//! the response lists it in `x-freehold-ignored`. Differences are by intent: a prompt that is too
//! long is refused unless the request says `truncate`, and an answer ends where the context does.

pub(crate) mod changes;
pub(crate) mod chat;
pub(crate) mod embed;
pub(crate) mod generate;
mod messages;
mod models;
mod reply;
mod settings;
#[cfg(test)]
mod tests;
mod tools;

pub(crate) use changes::{
    Change, ChangeRequest, Told, read_copy, read_create, read_delete, read_pull, read_show,
};
pub(crate) use chat::Chat;
pub use embed::VectorsRequest;
pub(crate) use embed::{Embed, Embeddings};
pub(crate) use generate::Generate;
pub(crate) use models::{ps_body, show_body, tags_body};

use crate::dialects::{Call, Paths, Terms};
use crate::errors::{BadRequest, ServerError};
use crate::limits::Limits;
use serde::Serialize;

/// The version of Ollama whose API this is: clients ask for it to know what they may send. The
/// first with log-probabilities, the newest thing here.
pub(crate) const API_VERSION: &str = "0.12.11";

/// A request for a generation that was understood in full.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// What it asks of the model.
    pub call: Call,
    /// What it says of the model.
    pub terms: Terms,
    /// Paths of what has no effect.
    ignored: Paths,
}

/// Reads the body of `POST /api/chat`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_chat(body: &[u8], limits: &Limits) -> Result<GenerationRequest, BadRequest> {
    chat::parse(body, limits)
}

/// Reads the body of `POST /api/generate`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_generate(body: &[u8], limits: &Limits) -> Result<GenerationRequest, BadRequest> {
    generate::parse(body, limits)
}

/// Reads the body of `POST /api/embed`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_embed(body: &[u8], limits: &Limits) -> Result<VectorsRequest, BadRequest> {
    embed::parse_embed(body, limits)
}

/// Reads the body of `POST /api/embeddings`, its older form.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation.
pub fn parse_embeddings(body: &[u8], limits: &Limits) -> Result<VectorsRequest, BadRequest> {
    embed::parse_embeddings(body, limits)
}

/// Reads a body that asks about a model or to change which there are, as `show`, `pull`, `create`,
/// `copy` or `delete`.
///
/// # Errors
/// The first thing that is wrong, by field path, value and expectation, of each.
pub fn check_model_requests(body: &[u8]) -> [Result<(), BadRequest>; 5] {
    [
        read_show(body).map(|_| ()),
        read_pull(body).map(|_| ()),
        read_create(body).map(|_| ()),
        read_copy(body).map(|_| ()),
        read_delete(body).map(|_| ()),
    ]
}

/// The body that says `error`, and the last line of a stream that broke off.
pub(crate) fn error_body(error: &ServerError) -> String {
    #[derive(Serialize)]
    struct Body {
        error: String,
    }
    let error = match error {
        // The wording by which clients offer to pull it.
        ServerError::ModelNotFound { asked, served } => {
            let served = served.join(", ");
            format!("model '{asked}' not found, try pulling it first; served here: {served}")
        }
        other => other.to_string(),
    };
    line(&Body { error })
}

/// One line of a stream, and a whole body, which clients may read as a stream of one line.
fn line(body: &impl Serialize) -> String {
    let mut line =
        serde_json::to_string(body).expect("wire types have string keys and finite numbers");
    line.push('\n');
    line
}
