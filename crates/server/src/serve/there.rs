//! The path of a request to an upstream: replace, translate, reserve, write the departure down,
//! send, follow.
//!
//! Until the first byte goes to the client, whatever goes wrong is an error that somebody else may
//! mend by answering here.

use super::abroad::Abroad;
use super::draft::Draft;
use super::limited::LENGTH;
use super::prepare::{self, Notes};
use super::record::Record;
use super::route::{Chosen, Went};
use super::source::Source;
use super::{Answered, End, Given, Taken, followed, in_turn, named, said_by};
use crate::access::Who;
use crate::accounts::{Account, Ask, Taken as Granted, There, rates};
use crate::app::{App, Arrival};
use crate::departures::{Leaving, Left};
use crate::dialects::{Call, Dialect, Prompts, Reply, Usage};
use crate::errors::{BadRequest, ServerError};
use crate::receipts::{AskedRequest, ReceiptThere, sha256};
use crate::upstream::{
    self, Answer, Asked, Counts, Framing, Priced, Redaction, Restoring, Shape, Upstream,
};
use axum::http::header::CONTENT_TYPE;
use broker::Outgoing;
use engine::{Request, Sampling};
use ledger::What;
use policy::{Departure, Label};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer may take that has no deadline.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3600);

/// What limits hold an answer for that its request does not bound, in tokens.
const UNBOUNDED_ANSWER: u32 = 8192;

/// What an upstream is asked, and what belongs to it.
struct Translated<R> {
    request: R,
    /// As it leaves.
    call: Call,
    upstream: Upstream,
    /// As the upstream names it.
    model: String,
    body: Vec<u8>,
    redaction: Option<Redaction>,
    shape: Option<Shape>,
    notes: Notes,
    asked: Option<AskedRequest>,
}

/// Has an upstream answer.
///
/// # Errors
/// What cannot be said there; why there is no answer.
pub(super) async fn answer<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    taken: Taken,
    given: Given<D::Request>,
    leave: (&Chosen, &Departure),
    record: &mut Record,
) -> Result<(Notes, Answered<D::Reply>), ServerError> {
    let (chosen, departure) = leave;
    let (Some(broker), Some(receipts)) = (&app.broker, &app.receipts) else {
        let why = "upstreams cannot be asked: there is no broker, or no ledger";
        return Err(ServerError::UpstreamFailed(why.to_owned()));
    };
    if let Some(away) = broker.away() {
        return Err(upstream::failure(departure.upstream(), &away, str::to_owned));
    }
    let said = if app.contents.is_some() { given.body.clone() } else { Vec::new() };
    let translated = translated::<D>(app, arrival, &taken, given, chosen, departure).await?;
    let Translated { request, call, upstream, model, body, redaction, shape, mut notes, asked } =
        translated;
    let redacted = redaction.as_ref().map(|redaction| redaction.counts.clone());
    notes.went = Some(Went {
        answered: "there",
        upstream: Some(upstream.name.clone()),
        redacted: redacted.unwrap_or_default(),
        ..chosen.here()
    });
    record.went(notes.went.clone());
    record.model(&named_there(&upstream.name, &model));
    let about = (&*upstream.name, &*model, &call);
    let account = reserved(app, arrival, taken.deadline, (chosen, departure), about).await?;
    let standings = account.as_ref().map_or(&[][..], Account::standings);
    let at_us = account.as_ref().map_or(arrival.at_us, Account::at_us);
    notes.rates = rates(D::FAMILY, standings, at_us);
    let content = app.contents.as_ref().and_then(|contents| contents.draft(arrival, &said));
    let leaving = leaving(arrival, chosen, departure, (&upstream, &model, &call), &notes, &body);
    let mut left = Left::record(receipts, &chosen.ways, &leaving).await?;
    let like = like(&call);
    let draft = asked.map(|asked| {
        let there = receipt_of(&leaving, left.id());
        let name = call.model.as_deref().unwrap_or_default();
        Draft::there(arrival, asked, name, &like, &notes, there)
    });
    // From here on it may have left, and counts however it ends.
    let sent = Counts { n_prompt: chosen.n_prompt, ..Counts::default() };
    (left.end().counts, left.end().is_estimate) = (sent, true);
    record.usage(sent.into());
    record.cost(left.cost_micro(sent));
    record.taken(account);
    let deadline = taken.deadline.unwrap_or_else(|| Instant::now() + ANSWER_TIME_MAX);
    let outgoing = outgoing(arrival, &upstream, &call, (body, &left), deadline);
    let left = (left, redaction.map(Redaction::restoring), shape);
    let about = (&upstream, &call, chosen.n_prompt);
    let abroad = send(broker, outgoing, about, arrival, left, record).await?;
    let (name, vocabulary) = (named_there(&upstream.name, &model), abroad.answer.tokens());
    let (fingerprint, sampling) = (upstream.name.clone(), like.sampling);
    let answer = said_by(app, arrival, name, fingerprint, sampling, Box::new(vocabulary));
    let id = format!("answer-{}", answer.id);
    let reply = D::reply(request, answer, &[Vec::new()]);
    let id = reply.stream_id().map_or(id, str::to_owned);
    let seeds = vec![0; call.n_per_prompt];
    record.begin(draft.map(|draft| draft.begin(id, &seeds)), content);
    let Taken { seat, mark, .. } = taken;
    let (delivery, client) = (call.delivery, arrival.principal);
    let end = End { delivery, waits: true, client, mark, seat };
    let source = Source::There(Box::new(abroad));
    let answered = followed(app, end, source, reply, None, record).await?;
    Ok((notes, answered))
}

/// What the broker is to carry.
fn outgoing(
    arrival: &Arrival,
    upstream: &Upstream,
    call: &Call,
    (body, left): (Vec<u8>, &Left),
    deadline: Instant,
) -> Outgoing {
    Outgoing {
        departure: left.id().to_owned(),
        upstream: upstream.name.clone(),
        path: upstream::path(upstream.kind),
        headers: upstream::headers(upstream.kind),
        body: body.into(),
        deadline,
        affinity: Some(affinity(arrival, call)),
    }
}

/// Holds what leaves against the owner's limits, where the server keeps accounts. It is not cut:
/// the upstream is asked for all that it was to be asked for, or not at all.
async fn reserved(
    app: &App,
    arrival: &Arrival,
    deadline: Option<Instant>,
    (chosen, departure): (&Chosen, &Departure),
    (upstream, model, call): (&str, &str, &Call),
) -> Result<Option<Account>, ServerError> {
    let Some(accounts) = &app.accounts else { return Ok(None) };
    let n_each = u64::from(call.max_tokens.unwrap_or(UNBOUNDED_ANSWER));
    let n_answer = n_each.saturating_mul(call.n_per_prompt as u64);
    let n_prompt = chosen.n_prompt;
    let priced = Priced { upstream, model, n_prompt, n_cached: 0, n_answer };
    let prices = chosen.ways.elsewhere.prices.as_ref();
    let cost = prices.and_then(|prices| prices.cost(&priced, arrival.at_us));
    let name = named_there(upstream, model);
    if cost.is_none() && accounts.are_limited(&arrival.who, &name, |what| what == What::Money) {
        let problem = format!(
            "{model:?} of upstream {upstream:?}: no price is listed for it, and a limit is of money"
        );
        return Err(BadRequest::field("model", &problem).into());
    }
    let money_micro = cost.and_then(|(micro, _)| u64::try_from(micro).ok()).unwrap_or(0);
    let label = Label::from(departure.label()).name();
    let ask = Ask {
        asked: call.model.as_deref(),
        model: &name,
        there: Some(There { upstream, label, money_micro }),
        n_prompt,
        n_answer,
        n_least: n_answer,
        deadline,
        may_change: false,
    };
    match accounts.take(arrival, &ask, app.over.clone()).await? {
        Granted::Account(account) => Ok(Some(*account)),
        Granted::Instead(_) => unreachable!("another model may not answer"),
    }
}

/// The one name of an upstream's model, by which requests may ask for it.
fn named_there(upstream: &str, model: &str) -> String {
    format!("{upstream}/{model}")
}

/// What is written down before a request leaves.
fn leaving<'a>(
    arrival: &'a Arrival,
    chosen: &'a Chosen,
    departure: &Departure,
    (upstream, model, call): (&'a Upstream, &'a str, &Call),
    notes: &Notes,
    body: &[u8],
) -> Leaving<'a> {
    Leaving {
        at_us: arrival.at_us,
        principal: arrival.who.principal(),
        key: &arrival.who.name,
        project: arrival.who.project.as_deref(),
        request: &arrival.id,
        upstream: &upstream.name,
        model,
        label: Label::from(departure.label()).name(),
        rule: chosen.rule.as_deref().unwrap_or_default(),
        n_bytes: body.len(),
        sha256: sha256(body),
        redacted: notes.went.as_ref().map(|went| went.redacted.clone()).unwrap_or_default(),
        n_prompt: chosen.n_prompt,
        n_answer_max: call.max_tokens.map_or(0, u64::from),
    }
}

/// The same in the answer's receipt.
fn receipt_of(leaving: &Leaving<'_>, departure: &str) -> ReceiptThere {
    let redacted = leaving.redacted.iter();
    ReceiptThere {
        upstream: leaving.upstream.to_owned(),
        model: leaving.model.to_owned(),
        departure: departure.to_owned(),
        redacted: redacted.map(|(class, n)| ((*class).to_owned(), *n as u64)).collect(),
        answers: Vec::new(),
    }
}

/// Sends a request whose departure is written, and waits for the head of its answer.
async fn send(
    broker: &broker::Broker,
    outgoing: Outgoing,
    (upstream, call, n_prompt): (&Upstream, &Call, u64),
    arrival: &Arrival,
    (mut left, restoring, shape): (Left, Option<Restoring>, Option<Shape>),
    record: &mut Record,
) -> Result<Abroad, ServerError> {
    let incoming = broker.send(outgoing).await.map_err(|error| {
        // Its words have no contents: what the upstream said is not among them.
        tracing::warn!(id = left.id(), %error, "an upstream gave no answer");
        if error.nothing_left() {
            record.taken(None);
        }
        // Nobody asks anything for what was refused.
        if error.nothing_left() || matches!(error, broker::BrokerError::Refused { .. }) {
            record.usage(Usage::default());
            record.cost(None);
            (left.end().counts, left.end().is_estimate) = (Counts::default(), false);
        }
        let restored =
            |text: &str| restoring.as_ref().map_or_else(|| text.to_owned(), |of| of.text(text));
        if let broker::BrokerError::Refused { status, address, attempts, .. } = &error {
            let end = left.end();
            end.status = Some(*status);
            end.address.clone_from(address);
            end.attempts = *attempts;
        }
        let error = upstream::failure(&upstream.name, &error, restored);
        left.end().outcome = Some(error.word());
        error
    })?;
    let end = left.end();
    end.status = Some(incoming.status);
    end.address = incoming.address;
    end.attempts = incoming.attempts;
    let media_type = incoming.headers.iter().find(|(name, _)| *name == CONTENT_TYPE.as_str());
    let framing = Framing::of(media_type.map_or("", |(_, value)| value));
    Ok(Abroad {
        upstream: upstream.name.clone(),
        body: incoming.body,
        answer: Answer::new(call, upstream.kind, framing),
        restoring,
        shape,
        n_choices: call.n_per_prompt,
        started: arrival.started,
        left,
        waiting: Vec::new(),
        first: None,
        n_prompt,
        n_heard: 0,
    })
}

/// Reads the request, where it is not read yet, and brings it into the upstream's words.
async fn translated<D: Dialect>(
    app: &Arc<App>,
    arrival: &Arrival,
    taken: &Taken,
    given: Given<D::Request>,
    chosen: &Chosen,
    departure: &Departure,
) -> Result<Translated<D::Request>, ServerError> {
    let n_bytes = given.body.len();
    let (reading, asking) = (app.clone(), taken.asking.clone());
    let (chosen, departure) = (chosen.clone(), departure.clone());
    let route = app.has_receipt(arrival).then(|| arrival.route.clone());
    let work = move || {
        let Given { request, body } = given;
        let request = match request {
            Some(request) => request,
            None => prepare::parse::<D>(&reading, &asking, &body)?,
        };
        let asked = route.map(|route| AskedRequest::new(&route, &body));
        translate::<D>(&reading, &asking.who, request, (&chosen, &departure), asked)
    };
    super::within(taken.deadline, in_turn(app, n_bytes, work)).await.map_err(named::<D>)
}

fn translate<D: Dialect>(
    app: &App,
    who: &Who,
    mut request: D::Request,
    (chosen, departure): (&Chosen, &Departure),
    asked_request: Option<AskedRequest>,
) -> Result<Translated<D::Request>, ServerError> {
    let mut notes = Notes { ignored: D::take_ignored(&mut request), ..Notes::default() };
    let terms = D::terms(&request);
    let params = [terms.keep.and_then(|wish| wish.param), terms.n_ctx.and_then(|wish| wish.param)];
    notes.ignored.extend(params.into_iter().flatten().map(str::to_owned));
    let mut call = D::call(&request).clone();
    let ways = &chosen.ways;
    let upstream = ways.elsewhere.upstream(departure.upstream()).cloned().ok_or_else(|| {
        ServerError::UpstreamFailed(format!("upstream {:?}: there is none", departure.upstream()))
    })?;
    let model = model(app, &upstream, chosen, &call)?;
    // What limits hold for it is all that it may take.
    let is_counted = |what| matches!(what, What::Tokens | What::TokensOut | What::Money);
    let accounts = app.accounts.as_ref();
    if call.max_tokens.is_none()
        && accounts.is_some_and(|accounts| {
            accounts.are_limited(who, &named_there(&upstream.name, &model), is_counted)
        })
    {
        call.max_tokens = Some(UNBOUNDED_ANSWER);
        notes.adapted.push(LENGTH);
    }
    // Before anything of it is replaced: the answer has the values again.
    let shape = Shape::of(&call)?;
    let redaction = match departure.is_redacted() {
        true if call.logprobs.is_some() => {
            let why = "what was replaced in the request would stand in the tokens";
            return Err(BadRequest::unsupported("logprobs", why).into());
        }
        true => Some(Redaction::of(&mut call, &ways.detector)?),
        false => None,
    };
    let asked = Asked::new(&call, upstream.kind, &model)?;
    notes.ignored.extend(asked.ignored);
    asked.adapted.into_iter().for_each(|what| notes.adapted.push(what));
    let place = |(message_idx, field)| D::place(&request, message_idx, field);
    notes.unused = asked.unused.into_iter().map(place).collect();
    let body = asked.body.to_string().into_bytes();
    let asked = asked_request;
    Ok(Translated { request, call, upstream, model, body, redaction, shape, notes, asked })
}

/// The model that is asked for there: the one that the request names as one of the upstream's, else
/// the one that the owner says, else the name that the request has.
fn model(
    app: &App,
    upstream: &Upstream,
    chosen: &Chosen,
    call: &Call,
) -> Result<String, ServerError> {
    let named = super::route::there(app, &chosen.ways.elsewhere, call);
    let own = named.filter(|(name, _)| *name == upstream.name).map(|(_, model)| model);
    own.or_else(|| upstream.model.clone()).or_else(|| call.model.clone()).ok_or_else(|| {
        let name = &upstream.name;
        let problem = format!("absent: expected one, as upstream {name:?} has no model of its own");
        BadRequest::field("model", &problem).into()
    })
}

/// What the receipt says was asked. Where the request says nothing, the vendors' defaults hold.
fn like(call: &Call) -> Request {
    let usual = Sampling { temperature: 1.0, top_p: 1.0, ..Sampling::default() };
    Request {
        max_tokens: call.max_tokens,
        sampling: call.sampling.over(&usual),
        stop: call.stop.clone(),
        ..Request::default()
    }
}

/// The same for requests of one client that begin alike, so that the cache there is of use.
fn affinity(arrival: &Arrival, call: &Call) -> u64 {
    let mut hasher = DefaultHasher::new();
    arrival.principal.hash(&mut hasher);
    match &call.prompts {
        Prompts::Chat { messages, .. } => messages[0].to_string().hash(&mut hasher),
        Prompts::Turn { system, text, .. } => (system, text).hash(&mut hasher),
        Prompts::Plain(_) => {}
    }
    hasher.finish()
}
