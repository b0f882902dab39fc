//! Where a request goes: what is known of it, held against the owner's rules.
//!
//! Only answers that are generated go anywhere; where nothing is, a request stays here. Whatever
//! these rules say, what is private has no [`Departure`](policy::Departure), without which nothing
//! is sent.

use super::Given;
use super::prepare::{self, Asking};
use crate::access::Who;
use crate::app::{App, Arrival};
use crate::dialects::{Call, Delivery, Dialect};
use crate::errors::{BadRequest, ServerError};
use crate::models::Served;
use crate::receipts::ReceiptRoute;
use crate::upstream::{self, Elsewhere, Ways};
use axum::http::{HeaderMap, HeaderValue};
use engine::{Grammar, Task, ToolChoice};
use policy::{Capability, Class, Facts, Health, Label, Route, Weekday, decide};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The header by which a request asks for a more sensitive label than its key has.
pub(crate) const LABEL: &str = "x-freehold-label";
/// Headers of a response: who answered, which upstream, by which rule, what was replaced before,
/// and why the one who was asked first did not answer.
pub(crate) const ROUTE: &str = "x-freehold-route";
pub(crate) const UPSTREAM: &str = "x-freehold-upstream";
pub(crate) const RULE: &str = "x-freehold-rule";
pub(crate) const REDACTED: &str = "x-freehold-redacted";
pub(crate) const FALLBACK: &str = "x-freehold-fallback";

/// Bytes of a token where nobody has counted: of English text with the vocabularies of today.
pub(super) const BYTES_OF_TOKEN: u64 = 4;

/// What was decided.
#[derive(Clone)]
pub(super) struct Chosen {
    pub(super) route: Route,
    pub(super) label: Label,
    /// The rule that decided; `None`: none fits.
    pub(super) rule: Option<String>,
    /// Tokens of the prompt, as they are estimated.
    pub(super) n_prompt: u64,
    /// The rules that were asked, with what belongs to them.
    pub(super) ways: Arc<Ways>,
}

/// What a response tells of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Went {
    /// `here` or `there`.
    pub(super) answered: &'static str,
    pub(super) label: Label,
    pub(super) rule: Option<String>,
    pub(super) upstream: Option<String>,
    pub(super) redacted: BTreeMap<&'static str, usize>,
    /// Why the one who was asked first did not answer, in one word.
    pub(super) fallback: Option<&'static str>,
}

impl Chosen {
    /// Whether somebody else is asked where the first gives no answer.
    pub(super) fn may_be_mended(&self) -> bool {
        matches!(self.route, Route::HereThenThere(_) | Route::ThereThenHere(_))
    }

    /// Of a request that is answered here.
    pub(super) fn here(&self) -> Went {
        let (label, rule) = (self.label, self.rule.clone());
        Went { answered: "here", label, rule, ..Went::default() }
    }
}

impl Went {
    /// Whether an upstream answers.
    pub(super) fn is_there(&self) -> bool {
        self.answered == "there"
    }

    /// The headers that tell.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&'static str, HeaderValue)> {
        // Names of the owner's may be of any letters, which a header has as bytes.
        let value = |text: &str| HeaderValue::from_bytes(text.as_bytes()).ok();
        let replaced = self.redacted.iter().map(|(class, n)| format!("{class}={n}"));
        let replaced = replaced.collect::<Vec<_>>().join(", ");
        let headers = [
            (ROUTE, value(self.answered)),
            (UPSTREAM, self.upstream.as_deref().and_then(value)),
            (RULE, self.rule.as_deref().and_then(value)),
            (REDACTED, value(&replaced).filter(|_| !replaced.is_empty())),
            (FALLBACK, self.fallback.and_then(value)),
        ];
        headers.into_iter().filter_map(|(name, value)| Some((name, value?)))
    }

    /// The same in a receipt, of an answer from here.
    pub(super) fn receipt(&self) -> ReceiptRoute {
        ReceiptRoute {
            answered: self.answered.to_owned(),
            label: self.label.name().to_owned(),
            rule: self.rule.clone(),
            there: None,
        }
    }
}

/// Reads a request and decides about it, where there are rules or upstreams.
///
/// # Errors
/// What is wrong with the request; that a rule refuses it, or leaves nobody to answer it.
pub(super) fn choose<D: Dialect>(
    app: &App,
    arrival: &Arrival,
    asking: &Asking,
    claimed: Option<Label>,
    body: Vec<u8>,
) -> Result<(Given<D::Request>, Option<Chosen>), ServerError> {
    let ways = app.ways.get();
    let (request, recalled) = prepare::parse_labelled::<D>(app, asking, &body)?;
    let claimed = claimed.max(recalled);
    let call = D::call(&request);
    if !ways.are_open() || !matches!(call.delivery, Delivery::Stream | Delivery::Whole) {
        return Ok((Given { request: Some(request), body }, None));
    }
    let chosen = decided(app, arrival, claimed, call, ways)?;
    Ok((Given { request: Some(request), body }, Some(chosen)))
}

fn decided(
    app: &App,
    arrival: &Arrival,
    claimed: Option<Label>,
    call: &Call,
    ways: Arc<Ways>,
) -> Result<Chosen, ServerError> {
    let elsewhere = &ways.elsewhere;
    let model = match &call.model {
        Some(name) => {
            app.models.check_permitted(&arrival.who, name)?;
            Some(name.clone())
        }
        // Who may not ask for all models gets the first of theirs, wherever it is answered.
        None => app.models.permit(&arrival.who, None, Task::Generate)?,
    };
    let facts = facts(app, arrival, (claimed, model.as_deref()), call, &ways);
    let decision = decide(&elsewhere.rules, &facts);
    let rule = decision.rule().map(|rule| rule.rule.clone());
    let route = match decision.route {
        Route::Refuse { reason } if !decision.is_kept => {
            return Err(ServerError::RefusedByRule(reason));
        }
        Route::Refuse { .. } => {
            if let Some((upstream, model)) = there(app, elsewhere, call) {
                let label = decision.label;
                return Err(ServerError::RefusedByRule(format!(
                    "{model:?} is a model of upstream {upstream:?}, and no rule of this server \
                     sends this request there (its label is {label})"
                )));
            }
            // What here has to say of its own models its own errors say.
            Route::Here
        }
        route => route,
    };
    let n_prompt = facts.n_tokens.unwrap_or_default();
    Ok(Chosen { route, label: decision.label, rule, n_prompt, ways })
}

/// The upstream and its model that a request asks for by name, or by an alias.
pub(super) fn there(app: &App, elsewhere: &Elsewhere, call: &Call) -> Option<(String, String)> {
    named(app, elsewhere, call.model.as_deref()?)
}

/// The same of this name.
pub(super) fn named(app: &App, elsewhere: &Elsewhere, name: &str) -> Option<(String, String)> {
    let name = app.models.target(name)?;
    let (upstream, model) = elsewhere.model(&name)?;
    Some((upstream.name.clone(), model.to_owned()))
}

/// The label that a request asks for.
pub(super) fn claimed(headers: &HeaderMap) -> Result<Option<Label>, BadRequest> {
    let mut values = headers.get_all(LABEL).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
    let found = Label::NAMES.iter().find(|(name, _)| *name == text);
    match found.filter(|_| values.next().is_none()) {
        Some((_, label)) => Ok(Some(*label)),
        None => {
            let shown = crate::dialects::fields::short(&text);
            let names: Vec<&str> = Label::NAMES.iter().map(|(name, _)| *name).collect();
            let problem = format!("{shown:?}: expected one of {}", names.join(", "));
            Err(BadRequest::field(LABEL, &problem))
        }
    }
}

/// What is known of a request and of this machine.
fn facts(
    app: &App,
    arrival: &Arrival,
    (claimed, model): (Option<Label>, Option<&str>),
    call: &Call,
    ways: &Ways,
) -> Facts {
    let texts = upstream::texts(call);
    let n_tokens = upstream::n_bytes(&texts).div_ceil(BYTES_OF_TOKEN);
    let detects = ways.elsewhere.rules.ask_for_detection();
    let who = &arrival.who;
    let served = app.models.get_open::<Served>(model).ok().flatten();
    let stopped = app.models.stopped();
    let is_down = served.as_ref().is_some_and(|served| stopped.as_ref() == Some(&served.name));
    Facts {
        // The least sensitive that the key may have is a bound for what it says itself.
        key_label: Some(who.defaults.label.max(who.scopes.labels)),
        header_label: claimed,
        key: Some(who.key.as_ref().map_or_else(String::new, |_| who.name.clone())),
        project: Some(who.project.clone().unwrap_or_default()),
        alias: model.map(str::to_owned),
        route: Some(arrival.route.clone()),
        n_tokens: Some(n_tokens),
        n_ctx: call.max_tokens.map(|n_max| n_tokens + u64::from(n_max)),
        needs: Some(needs(call)),
        minute: u16::try_from(60 * i32::from(arrival.now.hour()) + i32::from(arrival.now.minute()))
            .ok(),
        weekday: weekday(arrival),
        budget: app.accounts.as_ref().and_then(|accounts| accounts.money_left(who)),
        n_waiting: Some(served.map_or(0, |served| served.engine.stats().n_waiting)),
        health: Some(if is_down { Health::Down } else { Health::Ok }),
        detected: if detects { detected(&texts, ways) } else { None },
        here_problem: here_problem(app, who, model),
        down: down(app, ways),
    }
}

/// Without a broker no upstream can be asked, and without a ledger nothing may leave.
fn down(app: &App, ways: &Ways) -> BTreeSet<String> {
    if app.broker.is_some() && app.receipts.is_some() {
        return (*app.down.get()).clone();
    }
    ways.elsewhere.upstreams.iter().map(|upstream| upstream.name.clone()).collect()
}

/// In the words of the refusal here, but that nobody is told of models that are not for them.
fn here_problem(app: &App, who: &Who, model: Option<&str>) -> Option<String> {
    let permitted = app.models.permit(who, model, Task::Generate);
    let found = permitted.and_then(|model| app.models.check(model.as_deref(), Task::Generate));
    found.err().map(|error| error.to_string())
}

/// The classes of what is found; `None` where a text is too long to be looked through.
fn detected(texts: &[std::borrow::Cow<'_, str>], ways: &Ways) -> Option<BTreeSet<Class>> {
    let mut classes = BTreeSet::new();
    for text in texts {
        classes.extend(ways.detector.find(text).ok()?.into_iter().map(|one| one.class));
    }
    Some(classes)
}

/// Images are refused when a request is read.
fn needs(call: &Call) -> BTreeSet<Capability> {
    let tools = call.tools.as_ref().filter(|tools| tools.choice != ToolChoice::None);
    let schema = call.constraint.as_ref().map(|ask| &ask.grammar);
    let schema = schema.filter(|grammar| matches!(grammar, Grammar::JsonSchema(_)));
    let needs = [tools.map(|_| Capability::Tools), schema.map(|_| Capability::JsonSchema)];
    needs.into_iter().flatten().collect()
}

fn weekday(arrival: &Arrival) -> Option<Weekday> {
    let n = usize::try_from(arrival.now.weekday().to_monday_zero_offset()).ok()?;
    Weekday::NAMES.get(n).map(|(_, day)| *day)
}
