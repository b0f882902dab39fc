//! The path of a request, and the only place where its order is written:
//! admit, read, parse, find the model (and open it), render and tokenize, reserve, submit, follow
//! the events, settle, render. What is answered by vectors, and what changes models, has the same
//! beginning.
//!
//! Everything that can be wrong with a request is found before the first byte of a stream. Whoever
//! stops listening is noticed: the flight is dropped, and dropping it cancels its generations.
//! Where streams may be resumed, that waits for as long as they may.

mod adapt;
pub(crate) mod admin;
mod behind;
mod body;
mod changes;
mod channels;
pub(crate) mod deadline;
mod draft;
mod flight;
mod in_process;
pub(crate) mod lenient;
pub(crate) mod limited;
mod lines;
mod prepare;
mod record;
pub(crate) mod resume;
mod shadow;
mod shorten;
mod sink;
mod tokens;
mod unused;
mod uploads;
mod vectors;
mod wishes;

pub(crate) use changes::{ReadChange, change, show};
pub use in_process::{InProcess, Told, ToldCall};
pub(crate) use lines::run_batches;
pub(crate) use shadow::N_SHADOWS;
pub(crate) use tokens::serve_tokens;
pub(crate) use uploads::{CONTENT_TYPE, create_batch, send_content, upload};
pub(crate) use vectors::serve_vectors;

use crate::accounts::{self, Accounts};
use crate::app::{App, Arrival};
use crate::contents;
use crate::dialects::{
    Answer, Call, Choice, Delivery, Dialect, Family, Reply, Spent, Usage, Vocabulary,
};
use crate::errors::{BadRequest, ServerError};
use crate::listen::told;
use crate::models::{OfTask, Served};
use crate::receipts::{AskedRequest, N_CHOICES_MAX};
use crate::seats::Seat;
use crate::streams::{self, Asked};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use behind::{Asked as AskedBehind, Behind};
use deadline::within;
use draft::Draft;
use engine::{CacheScope, Engine, Request, Sampling};
use flight::{Begun, Flight, Step};
use limited::Taking;
use prepare::{Asking, NoVocabulary, Notes, Prepared, Read};
use record::{Outcome, Record};
use sink::Sink;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};
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

/// Longest body that is read at once by the thread it came to: telling the runtime of it takes about
/// as long. What may take longer at that length tells it itself ([`aside`]).
const AT_ONCE_BYTES_MAX: usize = 8 << 10;
/// Longest body that is read on that thread while another one takes over its connections: waking one
/// takes longer than reading it. What is longer must not keep a deadline from being noticed.
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
    match answer::<D>(app.clone(), &arrival, &headers, body, &mut record).await {
        Ok((notes, Answered::Whole(mut whole))) => {
            let body = whole.reply.whole(&whole.choices, whole.usage);
            keep(&app, arrival.principal, &mut whole.reply);
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
            let asked = Asked { route: arrival.route.clone(), body: start.mark };
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
    _seat: Seat,
}

/// A stream that is about to begin: nothing can be refused any more.
struct Start<R> {
    app: Arc<App>,
    flight: Flight,
    reply: R,
    /// Whose answer it is.
    client: u64,
    /// Of the request's body.
    mark: body::Mark,
    /// What is done behind its end.
    behind: Option<Behind>,
    /// Held to the end: the request is at work until then.
    _seat: Seat,
}

/// A request that was taken in, and what it takes with it.
struct Admitted<R> {
    seat: Seat,
    deadline: Option<Instant>,
    mark: body::Mark,
    asking: Asking,
    /// Its body, where it is needed behind the answer.
    copy: Option<Vec<u8>>,
    /// What is kept of it, where it is to be.
    content: Option<contents::Draft>,
    /// What its receipt says of it, where it is to have one.
    asked: Option<AskedRequest>,
    ready: Ready<R>,
}

async fn admit<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    headers: &HeaderMap,
    body: Body,
) -> Result<Admitted<D::Request>, ServerError> {
    // Before the body is read, so that at most `n_requests` bodies are in memory.
    let seat = app.admit(arrival)?;
    let deadline = deadline::of(headers, arrival.started)?;
    let unknown = lenient::of(headers, &arrival.who)?;
    let (body, mark) = within(deadline, body::read_marked(app, headers, body)).await?;
    let who = Arc::clone(&arrival.who);
    let asking = Asking { who, client: arrival.principal, now: arrival.now, unknown };
    let may_change = app.accounts.as_ref().is_some_and(Accounts::has_alias);
    let is_copied = may_change || Behind::needs_body(app, arrival);
    let copy = is_copied.then(|| body.clone());
    let content = app.contents.as_ref().and_then(|contents| contents.draft(arrival, &body));
    let route = app.has_receipt(arrival).then(|| arrival.route.clone());
    let ready = within(deadline, prepare::<D>(app, asking.clone(), body, route)).await;
    let (ready, asked) = ready.map_err(named::<D>)?;
    Ok(Admitted { seat, deadline, mark, asking, copy, content, asked, ready })
}

async fn answer<D: Dialect>(
    app: Arc<App>,
    arrival: &Arrival,
    headers: &HeaderMap,
    body: Body,
    record: &mut Record,
) -> Result<(Notes, Answered<D::Reply>), ServerError> {
    let admitted = admit::<D>(&app, arrival, headers, body).await?;
    let Admitted { seat, deadline, mark, asking, copy, content, asked, ready } = admitted;
    let prepared = match ready {
        Ready::Prepared(prepared) => prepared,
        Ready::Unloaded { request, name } => {
            record.model(&name);
            return Ok((Notes::default(), unloaded::<D>(&app, arrival, (request, name), seat)));
        }
    };
    record.model(&prepared.served.name);
    let taking = Taking { app: &app, arrival, asking: &asking, deadline, body: copy.as_deref() };
    let (prepared, account) = taking.take::<D>(prepared).await.map_err(named::<D>)?;
    let mut prepared = *prepared;
    let served = prepared.served.clone();
    record.model(&served.name);
    let sampling = sampling(D::call(&prepared.request), &app.default_sampling, &served.engine);
    let answer = answer_of(arrival, &prepared, &sampling);
    let mut like = like::<D>(arrival, deadline, sampling, &mut prepared);
    let delivery = D::call(&prepared.request).delivery;
    let is_generated = is_generated(delivery);
    // How long a model is kept depends on the server and is no part of the answer.
    let asked = asked.filter(|_| is_generated);
    let draft = asked.map(|asked| Draft::new(arrival, asked, &prepared, &like));
    keep_model::<D>(&app, arrival, &mut prepared);
    let Prepared { request, prompts, mut notes, load, .. } = prepared;
    let call = D::call(&request);
    notes.canary = app.canary(arrival.principal, call).map(|(share, _)| share.model == served.name);
    record.canary(notes.canary);
    if !is_generated {
        record.taken(account);
        let usage = spent_on_reading(arrival, &prompts, load);
        return Ok((notes, ungenerated(D::reply(request, answer, &prompts), usage, seat)));
    }
    check_receipt(&app, draft.is_some(), prompts.len() * call.n_per_prompt)?;
    let asked = AskedBehind { arrival, asking: &asking, served: &served, call };
    let copy = copy.filter(|_| Behind::needs_body(&app, arrival));
    let behind = Behind::of::<D>(&app, &asked, &mut like, copy);
    let begun = Begun { at: arrival.started, load };
    let seeds = seeds(arrival, &like, prompts.len(), call.n_per_prompt);
    let requests = flight::requests(&like, &prompts, &seeds);
    let flight = Flight::submit(&served.engine, call, requests, begun);
    let mut flight = flight.map_err(named::<D>)?;
    record.taken(account);
    record.usage(flight.usage());
    let id = format!("answer-{}", answer.id);
    let reply = D::reply(request, answer, &prompts);
    // Families whose answers have no id are told one by the header.
    let id = reply.stream_id().map_or(id, str::to_owned);
    record.begin(draft.map(|draft| draft.begin(id, &seeds)), content);
    if delivery == Delivery::Stream {
        begin(&app, &mut flight, deadline).await?;
        let client = arrival.principal;
        let start = Start { app, flight, reply, client, mark, behind, _seat: seat };
        return Ok((notes, Answered::Stream(Box::new(start))));
    }
    let choices = gather(&app, &mut flight, record).await?;
    if let Some(mut behind) = behind {
        behind.hear_all(&choices);
        behind.begin(flight.usage());
    }
    let whole = Whole { reply, choices, usage: flight.usage(), _seat: seat };
    Ok((notes, Answered::Whole(Box::new(whole))))
}

/// Whether anything is generated for it.
fn is_generated(delivery: Delivery) -> bool {
    matches!(delivery, Delivery::Stream | Delivery::Whole)
}

/// An answer for which nothing was generated.
fn ungenerated<R>(reply: R, usage: Usage, seat: Seat) -> Answered<R> {
    let whole = Whole { reply, choices: Vec::new(), usage, _seat: seat };
    Answered::Whole(Box::new(whole))
}

/// Checks that an answer of so many choices can have its receipt, if it is to have one.
fn check_receipt(app: &App, is_wanted: bool, n_choices: usize) -> Result<(), ServerError> {
    if is_wanted && n_choices > N_CHOICES_MAX {
        let most = format!("{n_choices} choices: expected at most {N_CHOICES_MAX}");
        return Err(BadRequest::field("n", &format!("{most}, which a receipt has room for")).into());
    }
    app.check_ledger()
}

/// The seed of each choice; of a request that is asked once more and brings none, those that were
/// drawn for it.
fn seeds(arrival: &Arrival, like: &Request, n_prompts: usize, n_per_prompt: usize) -> Vec<u64> {
    let asked = like.sampling.seed;
    let drawn = arrival.seeds.as_deref().filter(|_| asked.is_none());
    let before = drawn.filter(|of| of.len() == n_prompts * n_per_prompt);
    let anew = || flight::seeds(asked, n_prompts, n_per_prompt);
    before.map_or_else(anew, <[u64]>::to_vec)
}

/// What every part of the answer to this request says about itself.
fn said_by(
    arrival: &Arrival,
    model: String,
    fingerprint: String,
    sampling: Sampling,
    vocabulary: Box<dyn Vocabulary>,
) -> Answer {
    let (created, created_ns) = arrival.unix_time();
    let id = arrival.answer_id();
    Answer { id, created, created_ns, model, fingerprint, sampling, vocabulary, n_dropped: 0 }
}

fn answer_of<R>(arrival: &Arrival, prepared: &Prepared<R>, sampling: &Sampling) -> Answer {
    let Served { name, engine, fingerprint, .. } = prepared.served.clone();
    let vocabulary = Box::new(prepare::EngineVocabulary(engine));
    let answer = said_by(arrival, name, fingerprint, sampling.clone(), vocabulary);
    Answer { n_dropped: prepared.n_dropped, ..answer }
}

/// The answer to a request that had the model of this name closed.
fn unloaded<D: Dialect>(
    app: &App,
    arrival: &Arrival,
    (request, name): (D::Request, String),
    seat: Seat,
) -> Answered<D::Reply> {
    let sampling = app.default_sampling.clone();
    let answer = said_by(arrival, name, String::new(), sampling, Box::new(NoVocabulary));
    ungenerated(D::reply(request, answer, &[]), spent_on_nothing(arrival), seat)
}

/// The usage of one whose prompts were only read, by a model that took so long to open.
fn spent_on_reading(arrival: &Arrival, prompts: &[Vec<u32>], load: Duration) -> Usage {
    let n_prompt = prompts.iter().map(|prompt| prompt.len() as u64).sum();
    let mut usage = Usage { n_prompt, ..spent_on_nothing(arrival) };
    usage.spent.load = load;
    usage
}

/// The usage of a request for which nothing was generated.
fn spent_on_nothing(arrival: &Arrival) -> Usage {
    let spent = Spent { total: arrival.started.elapsed(), ..Spent::default() };
    Usage { spent, ..Usage::default() }
}

/// Keeps the model as long as the request says, where that is a client's to say.
fn keep_model<D: Dialect>(app: &App, arrival: &Arrival, prepared: &mut Prepared<D::Request>) {
    if let Some(keep) = D::terms(&prepared.request).keep
        && !app.models.keep(&prepared.served.name, keep.what, arrival.is_local)
    {
        prepared.notes.ignored.extend(keep.param.map(str::to_owned));
    }
}

/// What every choice asks of the engine, but for its prompt; takes what was compiled for it.
fn like<D: Dialect>(
    arrival: &Arrival,
    deadline: Option<Instant>,
    sampling: Sampling,
    prepared: &mut Prepared<D::Request>,
) -> Request {
    let call = D::call(&prepared.request);
    Request {
        // The shorter of what the answer may be long and what its context has left.
        max_tokens: [call.max_tokens, prepared.n_left].into_iter().flatten().min(),
        sampling,
        min_tokens: call.min_tokens,
        stop_tokens: call.stop_tokens.clone(),
        stop: call.stop.clone(),
        ignore_eos: call.ignore_eos,
        logprobs: call.logprobs,
        prompt_logprobs: call.prompt_logprobs,
        banned: prepared.banned.take(),
        constraint: prepared.constraint.take(),
        preamble: prepared.preamble.take(),
        channels: prepared.channels.take(),
        calls: prepared.calls.take(),
        cache: if call.cache_prompt { arrival.cache } else { CacheScope::Off },
        priority: call.priority.max(arrival.priority),
        deadline,
        client: arrival.principal,
        ..Request::default()
    }
}

/// How tokens are chosen: as the request says, else as the server does.
fn sampling(call: &Call, defaults: &Sampling, engine: &Engine) -> Sampling {
    let mut sampling = call.sampling.over(defaults);
    if let (Some(dry), Some(_)) = (&mut sampling.dry, &call.sampling.dry) {
        let texts = call.sampling.dry_breakers.as_deref();
        dry.breakers = prepare::dry_breakers(engine.tokenizer(), texts);
    }
    sampling
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
fn keep(app: &App, client: u64, reply: &mut impl Reply) {
    if let Some(kept) = reply.take_kept() {
        app.kept.of(client, Instant::now()).put(kept);
    }
}

/// Where there is a deadline, waits for the first of the events, which stays to be followed: that
/// it was too early to begin with is told by the status.
async fn begin(
    app: &App,
    flight: &mut Flight,
    deadline: Option<Instant>,
) -> Result<(), ServerError> {
    if deadline.is_none() {
        return Ok(());
    }
    let mut over = app.over.clone();
    tokio::select! {
        biased;
        () = told(&mut over) => Err(ServerError::ShuttingDown),
        begun = flight.begin() => begun,
    }
}

/// A request of which all is known.
enum Ready<R> {
    Prepared(Box<Prepared<R>>),
    /// It asked for nothing but that the model of this name be closed.
    Unloaded {
        request: R,
        name: String,
    },
}

/// Parses, renders and tokenizes, and opens the model in between where it is not open: that may
/// take minutes, in which others have their turns. Where `route` is given, says what was asked.
async fn prepare<D: Dialect>(
    app: &Arc<App>,
    asking: Asking,
    body: Vec<u8>,
    route: Option<String>,
) -> Result<(Ready<D::Request>, Option<AskedRequest>), ServerError> {
    // A short body may refer to a long conversation.
    let n_bytes = if app.kept.keeps() { usize::MAX } else { body.len() };
    let (reading, asker) = (app.clone(), asking.clone());
    let read = in_turn(app, n_bytes, move || {
        let asked = route.map(|route| AskedRequest::new(&route, &body));
        Ok((prepare::read::<D>(&reading, &asker, body)?, asked))
    });
    let (read, asked) = read.await?;
    let (model, body) = match read {
        Read::Prepared(prepared) => return Ok((Ready::Prepared(prepared), asked)),
        Read::Unloaded { request, name } => return Ok((Ready::Unloaded { request, name }, asked)),
        Read::Closed { model, body } => (model, body),
    };
    let begun = Instant::now();
    let served = opened(app, model).await?;
    let load = begun.elapsed();
    let reading = app.clone();
    let prepared = in_turn(app, n_bytes, move || {
        let request = prepare::parse::<D>(&reading, &asking, &body)?;
        prepare::prepare::<D>(request, served, asking.now)
    });
    let prepared = Prepared { load, ..prepared.await? };
    Ok((Ready::Prepared(Box::new(prepared)), asked))
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

/// Follows a flight to its end; the events of each choice come together as they would in a stream.
async fn gather(
    app: &App,
    flight: &mut Flight,
    record: &mut Record,
) -> Result<Vec<Choice>, ServerError> {
    let mut choices = flight.empty_choices();
    let mut over = app.over.clone();
    while !flight.is_done() {
        let steps = tokio::select! {
            biased;
            () = told(&mut over) => return Err(ServerError::ShuttingDown),
            steps = flight.steps() => steps?,
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
        record.usage(flight.usage());
        record.queue(flight.queue());
    }
    Ok(choices)
}

/// Follows a flight to its end and sends its events as they come.
async fn stream<R: Reply>(mut start: Start<R>, mut sink: Sink, mut record: Record) {
    let error = match pump(&mut start, &mut sink, &mut record).await {
        Ok(()) => {
            record.end(Outcome::Done);
            sink.finish();
            if let Some(behind) = start.behind.take() {
                behind.begin(start.flight.usage());
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
    let Start { app, flight, mut reply, client, _seat: seat, .. } = start;
    // Whoever is told of the end finds the place free.
    drop((flight, seat));
    if sink.is_in_background() {
        keep(&app, client, &mut reply);
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
    let Start { app, flight, reply, client, behind, .. } = start;
    let mut over = app.over.clone();
    let silence_max = app.limits.get().keep_alive;
    let mut out = String::new();
    reply.open(&mut out);
    sink.send(std::mem::take(&mut out)).await?;
    while !flight.is_done() {
        let steps = tokio::select! {
            biased;
            broken = sink.over() => {
                sink.bear(broken)?;
                continue;
            }
            () = told(&mut over) => {
                return Err(Broken::Failed(ServerError::ShuttingDown));
            }
            steps = flight.steps() => steps.map_err(Broken::Failed)?,
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
        record.usage(flight.usage());
        record.queue(flight.queue());
        if flight.is_done() {
            reply.close(flight.usage(), &mut out);
            keep(app, *client, reply);
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
