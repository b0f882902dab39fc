//! The path of a request that is answered by vectors: admit, read, parse, find the model (and open
//! it), tokenize, embed, render. In one piece: there is nothing to stream.
//!
//! Embedding computes on a blocking thread, batch by batch; callers take turns there. Whoever stops
//! listening is noticed between two batches.

use super::deadline::{self, within};
use super::limited::{Whole, take_whole};
use super::prepare::Notes;
use super::record::{Outcome, Record};
use super::{blocking, body, error_response, in_turn, json_response, lenient, opened, with_notes};
use crate::accounts::rates;
use crate::app::{App, Arrival};
use crate::dialects::declared::Unknown;
use crate::dialects::{Overlong, Paths, PlainPrompt, Spent, Usage, VectorAnswer, VectorDialect};
use crate::errors::{BadRequest, ServerError};
use crate::limits::Limits;
use crate::listen::told;
use crate::models::ServedEmbedder;
use axum::body::Body;
use axum::http::{HeaderMap, Response, StatusCode};
use engine::{Embedder, EngineError, Task};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What to do for a client that sends token ids of another model.
const SEND_TEXT: &str = "token ids are those of this model's own tokenizer; send the text itself, \
                         as LangChain does with check_embedding_ctx_length=False";

/// Answers one request for vectors in the dialect `D`.
pub(crate) async fn serve_vectors<D: VectorDialect>(
    app: Arc<App>,
    arrival: Arrival,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    let mut record = Record::new(&app, &arrival);
    let answered = match deadline::of(&headers, arrival.started) {
        Ok(deadline) => {
            let asked = Asked { arrival: &arrival, headers: &headers, deadline };
            let work = Arc::clone(record.work());
            let answer = within(deadline, answer::<D>(app, asked, body, &mut record));
            work.unless_cancelled(answer).await
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
            error_response(&error, D::FAMILY, &arrival.id)
        }
    }
}

/// A request that came.
struct Asked<'a> {
    arrival: &'a Arrival,
    headers: &'a HeaderMap,
    deadline: Option<Instant>,
}

async fn answer<D: VectorDialect>(
    app: Arc<App>,
    asked: Asked<'_>,
    body: Body,
    record: &mut Record,
) -> Result<(Notes, String), ServerError> {
    let Asked { arrival, headers, deadline } = asked;
    // Before the body is read, so that at most `n_requests` bodies are in memory.
    let _seat = app.admit(arrival)?;
    // They have no queue of their own; the other seats are for answers.
    let _turn = app.admit_vectors()?;
    let unknown = lenient::of(headers, &arrival.who)?;
    let body = body::read(&app, headers, body).await?;
    let (reading, n_bytes) = (app.clone(), body.len());
    let who = Arc::clone(&arrival.who);
    let (model, body, open) = in_turn(&app, n_bytes, move || {
        let request = parse::<D>(&body, &reading.limits.get(), unknown)?;
        let model = D::ask(&request).model.as_deref();
        let model = reading.models.permit(&who, model, Task::Embed)?;
        let open = reading.models.get_open(model.as_deref())?;
        Ok((model, body, open))
    })
    .await?;
    let begun = Instant::now();
    let served: ServedEmbedder = match open {
        Some(served) => served,
        None => opened(&app, model).await?,
    };
    let spent = Spent { load: begun.elapsed(), ..Spent::default() };
    record.model(&served.name);
    let (limits, embedder) = (app.limits.get(), served.embedder.clone());
    let (mut request, texts) = in_turn(&app, n_bytes, move || {
        let request = parse::<D>(&body, &limits, unknown)?;
        let texts = tokenize::<D>(&request, &embedder, &limits)?;
        Ok((request, texts))
    })
    .await?;
    let n_tokens = texts.iter().map(|text| text.len() as u64).sum();
    let asked = D::ask(&request).model.clone();
    let of = Whole { asked: asked.as_deref(), model: &served.name, n_prompt: n_tokens, deadline };
    let account = take_whole(&app, arrival, of).await?;
    let rates = account
        .as_ref()
        .map_or_else(Vec::new, |account| rates(D::FAMILY, account.standings(), account.at_us()));
    record.taken(account);
    record.usage(Usage { n_prompt: n_tokens, ..Usage::default() });
    record.computing();
    record.computed(n_tokens);
    let ignored = keep_model::<D>(&app, arrival, &mut request, &served.name);
    let notes = Notes { ignored, rates, ..Notes::default() };
    let (started, priority) = (arrival.started, arrival.priority);
    let listening = Listening(Arc::new(AtomicBool::new(true)));
    let is_heard = listening.0.clone();
    let id = arrival.answer_id();
    let work = blocking(move || {
        let go_on = || is_heard.load(Ordering::Relaxed);
        let vectors = served.embedder.embed_while(&texts, priority, go_on)?;
        let spent = Spent { total: started.elapsed(), ..spent };
        let answer = VectorAnswer { id, model: served.name, vectors, n_tokens, spent };
        Ok(D::body(&request, &answer))
    });
    let mut over = app.over.clone();
    tokio::select! {
        biased;
        () = told(&mut over) => Err(ServerError::ShuttingDown),
        body = work => Ok((notes, body?)),
    }
}

/// As `prepare::parse`.
fn parse<D: VectorDialect>(
    body: &[u8],
    limits: &Limits,
    unknown: Unknown,
) -> Result<D::Request, BadRequest> {
    match unknown {
        Unknown::Refused => D::parse(body, limits),
        Unknown::Ignored => D::parse_leniently(body, limits),
    }
}

/// Keeps the model as long as the request says, where that is a client's to say. Returns the paths
/// of what has no effect.
fn keep_model<D: VectorDialect>(
    app: &App,
    arrival: &Arrival,
    request: &mut D::Request,
    name: &str,
) -> Paths {
    let mut ignored = D::take_ignored(request);
    if let Some(keep) = D::terms(request).keep
        && !app.models.keep(name, keep.what, arrival.is_local)
    {
        ignored.extend(keep.param.map(str::to_owned));
    }
    ignored
}

/// The end of it, however it comes, ends the work on another thread too.
struct Listening(Arc<AtomicBool>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// The token ids of all texts, each within the model's context.
fn tokenize<D: VectorDialect>(
    request: &D::Request,
    embedder: &Embedder,
    limits: &Limits,
) -> Result<Vec<Vec<u32>>, ServerError> {
    let ask = D::ask(request);
    let n_embd = embedder.n_embd();
    if let Some(wanted) = ask.n_embd.filter(|wanted| *wanted as usize != n_embd) {
        let why =
            format!("{wanted}: this model's vectors have {n_embd} and were not made to be cut");
        return Err(BadRequest::unsupported("dimensions", &why).into());
    }
    let (mut n_tokens, mut n_cut) = (0, 0);
    let mut texts = Vec::with_capacity(ask.texts.len());
    for (text_idx, text) in ask.texts.iter().enumerate() {
        let mut tokens = match text {
            PlainPrompt::Text(text) => embedder.tokens(text),
            PlainPrompt::Middle { .. } => {
                unreachable!("no route that makes vectors reads what is to be filled in")
            }
            PlainPrompt::Tokens(tokens) => {
                check_frame(embedder, tokens, || D::place(request, text_idx))?;
                tokens.clone()
            }
        };
        if ask.overlong == Overlong::Truncate {
            let n_whole = tokens.len();
            embedder.truncate(&mut tokens);
            n_cut += usize::from(tokens.len() < n_whole);
        }
        n_tokens += tokens.len();
        if n_tokens > limits.n_text_tokens {
            let most = limits.n_text_tokens;
            let problem = format!("more than {most} tokens up to here: expected at most that");
            return Err(BadRequest::field(&D::place(request, text_idx), &problem).into());
        }
        check(embedder, &tokens, || D::place(request, text_idx))?;
        texts.push(tokens);
    }
    if n_cut > 0 {
        tracing::info!(n_cut, n_ctx = embedder.info().n_ctx, "texts were cut to the context");
    }
    Ok(texts)
}

/// Token ids that do not begin and end as this model's texts do are another tokenizer's: their
/// vector would be of some other text.
fn check_frame(
    embedder: &Embedder,
    tokens: &[u32],
    place: impl Fn() -> String,
) -> Result<(), ServerError> {
    let frame = embedder.tokens("");
    let (&[begin, end], Some(&first), Some(&last)) = (&frame[..], tokens.first(), tokens.last())
    else {
        return Ok(());
    };
    if (begin, end) == (first, last) {
        return Ok(());
    }
    let problem =
        format!("ids from {first} to {last}: expected them from {begin} to {end} ({SEND_TEXT})");
    Err(BadRequest::field(&place(), &problem).into())
}

/// What is wrong with a text is said at its field.
fn check(
    embedder: &Embedder,
    tokens: &Vec<u32>,
    place: impl Fn() -> String,
) -> Result<(), ServerError> {
    embedder.check(std::slice::from_ref(tokens)).map_err(|error| match error {
        EngineError::TextTooLong { n_tokens, n_ctx, .. } => {
            ServerError::TextTooLong { place: place(), n_tokens, n_ctx }
        }
        EngineError::Invalid { value, expected, .. } => {
            let value = value.split(" of text").next().unwrap_or_default().to_owned();
            BadRequest::field(&place(), &format!("{value}: expected {expected} ({SEND_TEXT})"))
                .into()
        }
        other => other.into(),
    })
}
