//! The path of a request, and the only place where its order is written:
//! admit, read, parse, ask the owner's rules; then here (find the model and open it, render and
//! tokenize, reserve, submit) or there (translate, reserve, write down, send); follow the events,
//! settle, render. What is answered by vectors, and what changes models, has the same beginning.
//!
//! Everything that can be wrong with a request is found before the first byte of a stream. Whoever
//! stops listening is noticed: the flight is dropped, and dropping it cancels its generations.
//! Where streams may be resumed, that waits for as long as they may.

mod abroad;
mod adapt;
pub(crate) mod admin;
mod again;
mod behind;
mod body;
mod changes;
mod channels;
pub(crate) mod deadline;
mod draft;
mod encoding;
mod flight;
mod here;
mod in_process;
pub(crate) mod lenient;
pub(crate) mod limited;
mod lines;
mod prepare;
mod record;
mod relax;
pub(crate) mod resume;
pub(crate) mod route;
mod shadow;
mod shorten;
mod sink;
mod source;
mod there;
mod tokens;
mod unused;
mod uploads;
mod vectors;
mod wishes;

pub(crate) use again::{VERIFY_FIELDS, verified, verify};
pub(crate) use changes::{ReadChange, change, show};
pub use encoding::unpack_zstd;
pub use in_process::{InProcess, Told, ToldCall};
pub(crate) use lines::run_batches;
pub(crate) use shadow::N_SHADOWS;
pub(crate) use tokens::serve_tokens;
pub(crate) use uploads::{CONTENT_TYPE, create_batch, send_content, upload};
pub(crate) use vectors::serve_vectors;

use crate::accounts;
use crate::app::{App, Arrival};
use crate::dialects::{Answer, Choice, Delivery, Dialect, Family, Reply, Step, Usage, Vocabulary};
use crate::errors::{BadRequest, ServerError};
use crate::listen::told;
use crate::models::OfTask;
use crate::seats::Seat;
use crate::streams::{self, Asked as AskedStream};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use behind::Behind;
use deadline::within;
use engine::Sampling;
use policy::{Departure, Label, Route};
use prepare::{Asking, Notes};
use record::{Outcome, Record};
use route::Chosen;
use sink::Sink;
use source::Source;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// The header that lists what of the conversation the model's template left out, the one that
/// lists in what the conversation was brought into another form for it, and the one that lists
/// what of the request had no effect.
pub(crate) const UNUSED: &str = "x-freehold-unused";
pub(crate) const ADAPTED: &str = "x-freehold-adapted";
pub(crate) const IGNORED: &str = "x-freehold-ignored";
/// The header that says of an alias with a canary whether that answers.
const CANARY: &str = "x-freehold-canary";
/// The header with the id of the answer's receipt.
pub(crate) const RECEIPT: &str = "x-freehold-receipt";

/// Longest body that is read at once by the thread it came to: telling the runtime of it takes
/// about as long. What may take longer at that length tells it itself ([`aside`]).
const AT_ONCE_BYTES_MAX: usize = 8 << 10;
/// Longest body that is read on that thread while another one takes over its connections: waking
/// one takes longer than reading it. What is longer must not keep a deadline from being noticed.
const HERE_BYTES_MAX: usize = 64 << 10;
/// Why a request failed whose reading panicked; the panic itself is in the log.
const UNREAD: &str = "the request was not read: reading it panicked";

/// What the SDKs of OpenAI and Anthropic look for before they try once more.
const SHOULD_RETRY: &str = "x-should-retry";

/// Answers one generation request in the dialect `D`.
pub(crate) async fn serve<D: Dialect>(
    app: Arc<App>,
    arrival: Arrival,
    headers: HeaderMap,
    body: Body,
) -> Response<Body> {
    if headers.contains_key(resume::LAST_EVENT_ID) {
        return resume::repeated::<D>(&app, &arrival, &headers, body).await;
    }
    let mut record = Record::new(&app, &arrival);
    let work = Arc::clone(record.work());
    let answered = answer::<D>(app.clone(), &arrival, &headers, body, &mut record);
    match work.unless_cancelled(answered).await {
        Ok((notes, Answered::Whole(mut whole))) => {
            let body = whole.reply.whole(&whole.choices, whole.usage);
            keep(&app, arrival.principal, record.label(), &mut whole.reply);
            let mut response = json_response(StatusCode::OK, body);
            tell_receipt(record.receipt_id(), &mut response);
            record.end(Outcome::Done);
            with_notes(response, &notes)
        }
        Ok((notes, Answered::Stream(start))) => {
            let (sink, mut response) = open::<D>(&start, &arrival);
            tell_receipt(record.receipt_id(), &mut response);
            record.begun();
            // The task outlives this call; it ends when the flight does or nobody wants it.
            tokio::spawn(stream(*start, sink, record));
            with_notes(response, &notes)
        }
        Err(error) => {
            record.fail(&error);
            error_response(&error, D::FAMILY, &arrival.id)
        }
    }
}

/// Where the answer goes, and the response: a stream of it, or what is told of one that its client
/// asks for later, or both.
fn open<D: Dialect>(start: &Start<D::Reply>, arrival: &Arrival) -> (Sink, Response<Body>) {
    let Start { app, reply, client, .. } = start;
    let id = reply.stream_id();
    let ahead = reply.ahead();
    let is_streamed = ahead.as_ref().is_none_or(|ahead| ahead.is_streamed);
    let ticket = ahead.as_ref().map(|ahead| {
        let id = id.expect("an answer that is asked for later has a name");
        app.background.begin(*client, id, ahead.body.clone(), is_streamed)
    });
    match ahead {
        Some(ahead) if !is_streamed => {
            (Sink::new(None, ticket), json_response(StatusCode::OK, ahead.body))
        }
        _ => {
            let asked = AskedStream { route: arrival.route.clone(), body: start.mark };
            let (outlet, body) = app.streams.begin(D::FAMILY, *client, id, asked);
            let mut response = stream_response(D::Reply::STREAM_TYPE, body);
            if id.is_some() {
                resume::tell(app, &mut response);
            }
            (Sink::new(Some(outlet), ticket), response)
        }
    }
}

enum Answered<R> {
    Whole(Box<Whole<R>>),
    Stream(Box<Start<R>>),
}

/// An answer in one piece, of no choices where nothing was generated.
struct Whole<R> {
    reply: R,
    choices: Vec<Choice>,
    usage: Usage,
    /// Held until it is rendered.
    _seat: Arc<Seat>,
}

/// A stream that is about to begin: nothing can be refused any more.
struct Start<R> {
    app: Arc<App>,
    source: Source,
    reply: R,
    /// Whose answer it is.
    client: u64,
    /// Of the request's body.
    mark: body::Mark,
    /// What is done behind its end.
    behind: Option<Behind>,
    /// Held to the end: the request is at work until then.
    _seat: Arc<Seat>,
}

/// A request that was taken in, and what it takes with it wherever it goes.
#[derive(Clone)]
struct Taken {
    seat: Arc<Seat>,
    deadline: Option<Instant>,
    mark: body::Mark,
    asking: Asking,
}

/// A request, and its body.
struct Given<R> {
    /// `None`: it is to be read from the body.
    request: Option<R>,
    body: Vec<u8>,
}

impl<R> Given<R> {
    /// The same once more, for somebody else to answer.
    fn again(&self) -> Self {
        Self { request: None, body: self.body.clone() }
    }
}

async fn take<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Taken, Given<D::Request>, Option<Chosen>), ServerError> {
    // Before the body is read, so that at most `n_requests` bodies are in memory.
    let seat = Arc::new(app.admit(arrival)?);
    let deadline = deadline::of(headers, arrival.started)?;
    let unknown = lenient::of(headers, &arrival.who)?;
    let claimed = route::claimed(headers)?;
    let (body, mark) = within(deadline, body::read_marked(app, headers, body)).await?;
    let who = Arc::clone(&arrival.who);
    let asking = Asking { who, client: arrival.principal, now: arrival.now, unknown };
    let taken = Taken { seat, deadline, mark, asking: asking.clone() };
    // What is asked once more is answered by what is here, and its label is not known any more.
    if !app.ways.get().are_open() || arrival.seeds.is_some() {
        return Ok((taken, Given { request: None, body }, None));
    }
    let (reading, arrival) = (app.clone(), arrival.clone());
    // A short body may refer to a long conversation.
    let n_bytes = if app.kept.keeps() { usize::MAX } else { body.len() };
    let choose = in_turn(app, n_bytes, move || {
        route::choose::<D>(&reading, &arrival, &asking, claimed, body)
    });
    let (given, chosen) = within(deadline, choose).await.map_err(named::<D>)?;
    Ok((taken, given, chosen))
}

/// Who is asked.
#[derive(Clone, Copy)]
enum Asked<'a> {
    Here,
    There(&'a Departure),
}

async fn answer<D: Dialect>(
    app: Arc<App>,
    arrival: &Arrival,
    headers: &HeaderMap,
    body: Body,
    record: &mut Record,
) -> Result<(Notes, Answered<D::Reply>), ServerError> {
    let (taken, given, chosen) = take::<D>(&app, arrival, headers, body).await?;
    let Some(chosen) = chosen else {
        return here::answer::<D>(&app, arrival, taken, given, None, record).await;
    };
    record.went(Some(chosen.here()));
    let (first, second) = match &chosen.route {
        Route::Here => (Asked::Here, None),
        Route::There(departure) => (Asked::There(departure), None),
        Route::HereThenThere(departure) => (Asked::Here, Some(Asked::There(departure))),
        Route::ThereThenHere(departure) => (Asked::There(departure), Some(Asked::Here)),
        Route::Refuse { reason } => return Err(ServerError::RefusedByRule(reason.clone())),
    };
    let again = second.map(|second| (second, given.again()));
    let answered = asked::<D>(&app, arrival, taken.clone(), given, (&chosen, first), record).await;
    let was_there = matches!(first, Asked::There(_));
    let (why, (second, given)) = match (&answered, again) {
        (Err(error), Some(again)) if error.may_be_mended(was_there) => (error.word(), again),
        _ => return answered,
    };
    record.again();
    let answered = asked::<D>(&app, arrival, taken, given, (&chosen, second), record).await;
    answered.map(|(mut notes, answered)| {
        notes.went.iter_mut().for_each(|went| went.fallback = Some(why));
        (notes, answered)
    })
}

async fn asked<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    taken: Taken,
    given: Given<D::Request>,
    (chosen, who): (&Chosen, Asked<'_>),
    record: &mut Record,
) -> Result<(Notes, Answered<D::Reply>), ServerError> {
    match who {
        Asked::Here => here::answer::<D>(app, arrival, taken, given, Some(chosen), record).await,
        Asked::There(departure) => {
            let leave = (chosen, departure);
            there::answer::<D>(app, arrival, taken, given, leave, record).await
        }
    }
}

/// Whether anything is generated for it.
fn is_generated(delivery: Delivery) -> bool {
    matches!(delivery, Delivery::Stream | Delivery::Whole)
}

/// How an answer comes to its end.
struct End {
    delivery: Delivery,
    /// Whether the first event of a stream is waited for: that it was too early to begin with, or
    /// that nothing comes, is told by the status or mended by somebody else.
    waits: bool,
    client: u64,
    mark: body::Mark,
    seat: Arc<Seat>,
}

/// Follows an answer to its end, or to where its stream can begin.
async fn followed<R: Reply>(
    app: &Arc<App>,
    end: End,
    mut source: Source,
    reply: R,
    behind: Option<Behind>,
    record: &mut Record,
) -> Result<Answered<R>, ServerError> {
    let End { delivery, waits, client, mark, seat } = end;
    if delivery == Delivery::Stream {
        if waits {
            begin(app, &mut source).await.inspect_err(|_| took(&source, record))?;
        }
        let app = app.clone();
        let start = Start { app, source, reply, client, mark, behind, _seat: seat };
        return Ok(Answered::Stream(Box::new(start)));
    }
    let choices = gather(app, &mut source, record).await?;
    if let Some(mut behind) = behind {
        behind.hear_all(&choices);
        behind.begin(source.usage());
    }
    let usage = source.usage();
    Ok(Answered::Whole(Box::new(Whole { reply, choices, usage, _seat: seat })))
}

/// What every part of the answer to this request says about itself.
fn said_by(
    app: &App,
    arrival: &Arrival,
    model: String,
    fingerprint: String,
    sampling: Sampling,
    vocabulary: Box<dyn Vocabulary>,
) -> Answer {
    let (created, created_ns) = arrival.unix_time();
    Answer {
        id: arrival.answer_id(),
        created,
        created_ns,
        model,
        fingerprint,
        sampling,
        vocabulary,
        n_dropped: 0,
        reasoning_fields: app.reasoning_fields,
    }
}

/// What is wrong with a conversation as a whole, under the name that its dialect has for it.
fn named<D: Dialect>(error: ServerError) -> ServerError {
    const USUAL: &str = "messages";
    match error {
        ServerError::BadRequest(bad) if bad.param.as_deref() == Some(USUAL) => {
            let message = bad.message.replacen(USUAL, D::CONVERSATION, 1);
            let param = Some(D::CONVERSATION.to_owned());
            BadRequest { param, message, code: bad.code }.into()
        }
        other => other,
    }
}

/// Keeps what of an answer later requests may refer to: before the client knows of its end, so that
/// the next request finds it.
fn keep(app: &App, client: u64, label: Label, reply: &mut impl Reply) {
    if let Some(kept) = reply.take_kept() {
        app.kept.of(client, Instant::now()).put_as(label, kept);
    }
}

/// Waits for the first of the events, which stays to be followed.
async fn begin(app: &App, source: &mut Source) -> Result<(), ServerError> {
    let mut over = app.over.clone();
    tokio::select! {
        biased;
        () = told(&mut over) => Err(ServerError::ShuttingDown),
        begun = source.begin() => begun,
    }
}

/// The model of this name, opened where it is not. Few threads wait for openings, since those whose
/// clients are gone wait on.
async fn opened<S: OfTask + Send + 'static>(
    app: &Arc<App>,
    model: Option<String>,
) -> Result<S, ServerError> {
    let turn = app.opening.clone().acquire_owned().await;
    let turn = turn.map_err(|_| ServerError::ShuttingDown)?;
    let opening = app.clone();
    blocking(move || {
        let _turn = turn;
        opening.models.open(model.as_deref())
    })
    .await
}

/// Runs what computes for as long as a prompt is long, here of `n_bytes`, a few at a time.
pub(crate) async fn in_turn<T: Send + 'static>(
    app: &App,
    n_bytes: usize,
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let turn = app.preparing.clone().acquire_owned().await;
    let turn = turn.map_err(|_| ServerError::ShuttingDown)?;
    let work = move || {
        let _turn = turn;
        work()
    };
    if n_bytes > HERE_BYTES_MAX || !is_threaded() {
        return blocking(work).await;
    }
    let work = || catch_unwind(AssertUnwindSafe(work));
    let done = if n_bytes <= AT_ONCE_BYTES_MAX { work() } else { block_in_place(work) };
    done.unwrap_or_else(|_| Err(ServerError::Failed(UNREAD.to_owned())))
}

/// Computes what may take long for few bytes, and lets another thread take over what this one would
/// see to meanwhile, where there may be some.
fn aside<T>(work: impl FnOnce() -> T) -> T {
    if is_threaded() { block_in_place(work) } else { work() }
}

/// Whether this is a runtime with several threads.
fn is_threaded() -> bool {
    let handle = Handle::try_current();
    handle.is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServerError> + Send + 'static,
) -> Result<T, ServerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| ServerError::Failed(UNREAD.to_owned()))?
}

/// Follows an answer to its end; the events of each choice come together as they would in a stream.
async fn gather(
    app: &App,
    source: &mut Source,
    record: &mut Record,
) -> Result<Vec<Choice>, ServerError> {
    let mut choices = source.empty_choices();
    let mut over = app.over.clone();
    while !source.is_done() {
        let steps = tokio::select! {
            biased;
            () = told(&mut over) => return Err(ServerError::ShuttingDown),
            steps = source.steps() => steps.inspect_err(|_| took(source, record))?,
        };
        for step in steps {
            match step {
                Step::Prompt { choice_idx, tokens } => {
                    choices[choice_idx].prompt_tokens.extend(tokens);
                }
                Step::Part { choice_idx, part, tokens } => {
                    record.piece(choice_idx, &part, &tokens);
                    choices[choice_idx].push(part, tokens);
                }
                Step::Done { choice_idx, reason } => {
                    record.done(choice_idx, &reason);
                    choices[choice_idx].reason = reason;
                }
            }
        }
        took(source, record);
    }
    Ok(choices)
}

/// Notes what was taken so far, also by an answer that breaks off.
fn took(source: &Source, record: &mut Record) {
    record.usage(source.counted());
    record.cost(source.cost_micro());
    record.queue(source.queue());
}

/// Follows an answer to its end and sends its events as they come.
async fn stream<R: Reply>(mut start: Start<R>, mut sink: Sink, mut record: Record) {
    let label = record.label();
    let error = match pump(&mut start, &mut sink, &mut record).await {
        Ok(()) => {
            record.end(Outcome::Done);
            sink.finish();
            if let Some(behind) = start.behind.take() {
                behind.begin(start.source.usage());
            }
            return;
        }
        Err(Broken::ClientGone) => return record.end(Outcome::Disconnected),
        Err(Broken::Cancelled) => {
            record.end(Outcome::Disconnected);
            None
        }
        Err(Broken::Failed(error)) => {
            record.fail(&error);
            Some(error)
        }
    };
    let mut out = String::new();
    match &error {
        Some(error) => start.reply.fail(error, &mut out),
        None => start.reply.cancel(&mut out),
    }
    let Start { app, source, mut reply, client, _seat: seat, .. } = start;
    // Whoever is told of the end finds the place free.
    drop((source, seat));
    if sink.is_in_background() {
        keep(&app, client, label, &mut reply);
    }
    sink.end(out).await;
}

/// Why a stream ends before its answer does.
enum Broken {
    ClientGone,
    /// By the client, which had it made without waiting.
    Cancelled,
    Failed(ServerError),
}

impl From<streams::Gone> for Broken {
    fn from(_: streams::Gone) -> Self {
        Self::ClientGone
    }
}

async fn pump<R: Reply>(
    start: &mut Start<R>,
    sink: &mut Sink,
    record: &mut Record,
) -> Result<(), Broken> {
    let Start { app, source, reply, client, behind, .. } = start;
    let work = Arc::clone(record.work());
    let mut over = app.over.clone();
    let silence_max = app.limits.get().keep_alive;
    let mut out = String::new();
    reply.open(&mut out);
    sink.send(std::mem::take(&mut out)).await?;
    while !source.is_done() {
        let steps = tokio::select! {
            biased;
            broken = sink.over() => {
                sink.bear(broken)?;
                continue;
            }
            () = told(&mut over) => {
                return Err(Broken::Failed(ServerError::ShuttingDown));
            }
            () = work.cancelled() => return Err(Broken::Failed(ServerError::Cancelled)),
            steps = source.steps() => {
                steps.inspect_err(|_| took(source, record)).map_err(Broken::Failed)?
            }
            () = tokio::time::sleep(silence_max) => {
                sink.comment(reply.ping());
                continue;
            }
        };
        for step in steps {
            match step {
                Step::Prompt { choice_idx, tokens } => reply.prompt(choice_idx, &tokens, &mut out),
                Step::Part { choice_idx, part, tokens } => {
                    record.piece(choice_idx, &part, &tokens);
                    reply.part(choice_idx, &part, &tokens, &mut out);
                    behind.iter_mut().for_each(|behind| behind.hear(&part));
                }
                Step::Done { choice_idx, reason } => {
                    record.done(choice_idx, &reason);
                    reply.done(choice_idx, &reason, &mut out);
                    behind.iter_mut().for_each(|behind| behind.done(&reason));
                }
            }
        }
        took(source, record);
        if source.is_done() {
            reply.close(source.usage(), &mut out);
            keep(app, *client, record.label(), reply);
            record.seal();
            record.settle(Outcome::Done);
            return sink.last(out).await;
        }
        sink.send(std::mem::take(&mut out)).await?;
    }
    Ok(())
}

/// A JSON response.
pub(crate) fn json_response(status: StatusCode, body: String) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// The response that says `error` in the words of `family`, to the request of this id.
pub(crate) fn error_response(
    error: &ServerError,
    family: Family,
    request_id: &str,
) -> Response<Body> {
    let body = family.error_body(error, request_id);
    let mut response = json_response(family.status(error), body);
    if response.status() == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer realm=\"freehold\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    }
    if error.is_final() {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Some(after) = error.retry_after() {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        headers.insert("retry-after-ms", HeaderValue::from(after_ms));
    }
    if let ServerError::LimitReached { standing, .. } = error {
        let standings = std::slice::from_ref(&**standing);
        response.headers_mut().extend(accounts::rates(family, standings, accounts::now_us()));
    }
    response
}

/// Says under which id an answer's receipt can be asked for.
fn tell_receipt(id: Option<&str>, response: &mut Response<Body>) {
    if let Some(id) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
        response.headers_mut().insert(RECEIPT, id);
    }
}

fn with_notes(mut response: Response<Body>, notes: &Notes) -> Response<Body> {
    let headers = [
        (UNUSED, unused::list(&notes.unused)),
        (ADAPTED, notes.adapted.header()),
        (IGNORED, unused::list(&notes.ignored)),
    ];
    let canary = notes
        .canary
        .map(|answers| HeaderValue::from_static(if answers { "true" } else { "false" }));
    if let Some(went) = &notes.went {
        for (name, value) in went.headers() {
            response.headers_mut().insert(name, value);
        }
    }
    for (name, header) in headers.into_iter().chain([(CANARY, canary)]) {
        if let Some(header) = header {
            response.headers_mut().insert(name, header);
        }
    }
    response.headers_mut().extend(notes.rates.iter().cloned());
    response
}

fn stream_response(media_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // nginx gathers answers before it passes them on unless told otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
