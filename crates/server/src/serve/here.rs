//! The path of a request that is answered here: find the model and open it, render and tokenize,
//! submit.

use super::behind::{Asked as AskedBehind, Behind};
use super::deadline::within;
use super::draft::Draft;
use super::flight::{self, Begun, Flight};
use super::limited::Taking;
use super::prepare::{self, Asking, NoVocabulary, Notes, Prepared, Read};
use super::record::Record;
use super::route::Chosen;
use super::source::Source;
use super::{
    Answered, End, Given, Taken, Whole, followed, in_turn, is_generated, named, opened, said_by,
};
use crate::accounts::Accounts;
use crate::app::{App, Arrival};
use crate::dialects::{Answer, Call, Dialect, Reply, Spent, Usage};
use crate::errors::{BadRequest, ServerError};
use crate::models::Served;
use crate::receipts::{AskedRequest, N_CHOICES_MAX};
use crate::seats::Seat;
use engine::{CacheScope, Engine, Request, Sampling};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Has the engine here answer. Where somebody else is asked if it does not, the first event of a
/// stream is waited for.
pub(super) async fn answer<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    taken: Taken,
    given: Given<D::Request>,
    chosen: Option<&Chosen>,
    record: &mut Record,
) -> Result<(Notes, Answered<D::Reply>), ServerError> {
    let Taken { seat, deadline, mark, asking } = taken;
    let is_copied = Behind::needs_body(app, arrival) || may_change(app);
    let copy = is_copied.then(|| given.body.clone());
    let content = app.contents.as_ref().and_then(|contents| contents.draft(arrival, &given.body));
    let route = app.has_receipt(arrival).then(|| arrival.route.clone());
    let ready = within(deadline, prepare::<D>(app, asking.clone(), given, route)).await;
    let (ready, asked) = ready.map_err(named::<D>)?;
    let prepared = match ready {
        Ready::Prepared(prepared) => prepared,
        Ready::Unloaded { request, name } => {
            record.model(&name);
            return Ok((Notes::default(), unloaded::<D>(app, arrival, (request, name), seat)));
        }
    };
    record.model(&prepared.served.name);
    tell_cut(arrival, &prepared);
    let taking = Taking { app, arrival, asking: &asking, deadline, body: copy.as_deref() };
    let (mut prepared, account) = taking.take::<D>(prepared).await.map_err(named::<D>)?;
    prepared.notes.went = chosen.map(Chosen::here);
    record.went(prepared.notes.went.clone());
    let served = prepared.served.clone();
    record.model(&served.name);
    let sampling = sampling(D::call(&prepared.request), &app.default_sampling, &served.engine);
    let answer = answer_of(app, arrival, &prepared, &sampling);
    let mut like = like::<D>(arrival, deadline, sampling, &mut prepared);
    let delivery = D::call(&prepared.request).delivery;
    let is_generated = is_generated(delivery);
    // How long a model is kept depends on the server and is no part of the answer.
    let asked = asked.filter(|_| is_generated);
    let draft = asked.map(|asked| Draft::new(arrival, asked, &prepared, &like));
    keep_model::<D>(app, arrival, &mut prepared);
    let Prepared { request, prompts, mut notes, load, .. } = *prepared;
    let call = D::call(&request);
    notes.canary = app.canary(arrival.principal, call).map(|(share, _)| share.model == served.name);
    record.canary(notes.canary);
    app.check_ledger()?;
    if !is_generated {
        record.taken(account);
        let usage = spent_on_reading(arrival, &prompts, load);
        return Ok((notes, ungenerated(D::reply(request, answer, &prompts), usage, seat)));
    }
    check_receipt(draft.is_some(), prompts.len() * call.n_per_prompt)?;
    let asked = AskedBehind { arrival, asking: &asking, served: &served, call };
    let copy = copy.filter(|_| Behind::needs_body(app, arrival));
    let behind = Behind::of::<D>(app, &asked, &mut like, copy);
    let begun = Begun { at: arrival.started, load };
    let seeds = seeds(arrival, &like, prompts.len(), call.n_per_prompt);
    let requests = flight::requests(&like, &prompts, &seeds);
    let mut flight = Flight::submit(&served.engine, call, requests, begun).map_err(named::<D>)?;
    flight.may_be_cancelled(record.work());
    let source = Source::Here(Box::new(flight));
    record.taken(account);
    record.usage(source.usage());
    let id = format!("answer-{}", answer.id);
    let reply = D::reply(request, answer, &prompts);
    // Families whose answers have no id are told one by the header.
    let id = reply.stream_id().map_or(id, str::to_owned);
    record.begin(draft.map(|draft| draft.begin(id, &seeds)), content);
    let waits = deadline.is_some() || chosen.is_some_and(Chosen::may_be_mended);
    let end = End { delivery, waits, client: arrival.principal, mark, seat };
    Ok((notes, followed(app, end, source, reply, behind, record).await?))
}

/// Leaves a line where messages were left out, as the request asked: an operator who hears of odd
/// answers finds it.
fn tell_cut<R>(arrival: &Arrival, prepared: &Prepared<R>) {
    let Prepared { n_dropped, prompts, served, .. } = prepared;
    if *n_dropped > 0 {
        let n_prompt = prompts.iter().map(Vec::len).sum::<usize>();
        let model = &served.name;
        tracing::info!(id = %arrival.id, %model, n_dropped, n_prompt, "oldest messages left out");
    }
}

/// Whether another model may have to answer, by the limits.
fn may_change(app: &App) -> bool {
    app.accounts.as_ref().is_some_and(Accounts::has_alias)
}

/// An answer for which nothing was generated.
fn ungenerated<R>(reply: R, usage: Usage, seat: Arc<Seat>) -> Answered<R> {
    let whole = Whole { reply, choices: Vec::new(), usage, _seat: seat };
    Answered::Whole(Box::new(whole))
}

/// Checks that an answer of so many choices can have its receipt, if it is to have one.
fn check_receipt(is_wanted: bool, n_choices: usize) -> Result<(), ServerError> {
    if is_wanted && n_choices > N_CHOICES_MAX {
        let most = format!("{n_choices} choices: expected at most {N_CHOICES_MAX}");
        return Err(BadRequest::field("n", &format!("{most}, which a receipt has room for")).into());
    }
    Ok(())
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

fn answer_of<R>(
    app: &App,
    arrival: &Arrival,
    prepared: &Prepared<R>,
    sampling: &Sampling,
) -> Answer {
    let Served { name, engine, fingerprint, .. } = prepared.served.clone();
    let vocabulary = Box::new(prepare::EngineVocabulary(engine));
    let answer = said_by(app, arrival, name, fingerprint, sampling.clone(), vocabulary);
    Answer { n_dropped: prepared.n_dropped, ..answer }
}

/// The answer to a request that had the model of this name closed.
fn unloaded<D: Dialect>(
    app: &App,
    arrival: &Arrival,
    (request, name): (D::Request, String),
    seat: Arc<Seat>,
) -> Answered<D::Reply> {
    let sampling = app.default_sampling.clone();
    let answer = said_by(app, arrival, name, String::new(), sampling, Box::new(NoVocabulary));
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
pub(super) fn like<D: Dialect>(
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

/// How tokens are chosen: as the request says, else as the model's file recommends, else as the
/// server does.
pub(super) fn sampling(call: &Call, defaults: &Sampling, engine: &Engine) -> Sampling {
    let mut sampling = call.sampling.over(&engine.info().recommended.over(defaults));
    if let (Some(dry), Some(_)) = (&mut sampling.dry, &call.sampling.dry) {
        let texts = call.sampling.dry_breakers.as_deref();
        dry.breakers = prepare::dry_breakers(engine.tokenizer(), texts);
    }
    sampling
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
    given: Given<D::Request>,
    route: Option<String>,
) -> Result<(Ready<D::Request>, Option<AskedRequest>), ServerError> {
    // A short body may refer to a long conversation.
    let n_bytes = if app.kept.keeps() { usize::MAX } else { given.body.len() };
    let (reading, asker) = (app.clone(), asking.clone());
    let read = in_turn(app, n_bytes, move || {
        let Given { request, body } = given;
        let asked = route.map(|route| AskedRequest::new(&route, &body));
        let request = match request {
            Some(request) => request,
            None => prepare::parse::<D>(&reading, &asker, &body)?,
        };
        Ok((prepare::read::<D>(&reading, &asker, request, body)?, asked))
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
