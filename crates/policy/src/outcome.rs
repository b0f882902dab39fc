//! What becomes of a request: what a rule says, and where that leads.

use std::sync::Arc;

use crate::error::{Problem, listed, quoted, suggestion};
use crate::facts::Facts;
use crate::label::{Label, Sendable};
use crate::source::{Table, Value};

/// Longest reason of a refusal in characters.
const REASON_CHARS_MAX: usize = 500;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// It is answered here.
    Here,
    /// An upstream answers.
    There(Departure),
    /// It is answered here; where that fails before the first byte, an upstream answers.
    HereThenThere(Departure),
    /// An upstream answers; where that fails before the first byte, it is answered here.
    ThereThenHere(Departure),
    /// Nobody answers.
    Refuse {
        /// Why, as the client is told.
        reason: String,
    },
}

impl Route {
    /// As rules name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::There(_) => "there",
            Self::HereThenThere(_) => "here-then-there",
            Self::ThereThenHere(_) => "there-then-here",
            Self::Refuse { .. } => "refuse",
        }
    }

    /// What leaves, or may leave.
    pub fn departure(&self) -> Option<&Departure> {
        match self {
            Self::There(departure)
            | Self::HereThenThere(departure)
            | Self::ThereThenHere(departure) => Some(departure),
            Self::Here | Self::Refuse { .. } => None,
        }
    }
}

/// That a request may leave for an upstream. Only a decision makes one, and only of a label that
/// may leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departure {
    upstream: Arc<str>,
    is_redacted: bool,
    label: Sendable,
}

impl Departure {
    /// Where to.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// Whether what was detected must be replaced before.
    pub fn is_redacted(&self) -> bool {
        self.is_redacted
    }

    /// The label of the request.
    pub fn label(&self) -> Sendable {
        self.label
    }
}

/// What a rule says.
#[derive(Debug)]
pub(crate) enum Outcome {
    Here,
    Refuse(String),
    /// It may leave.
    Send(Order, Target),
}

/// Who is asked, and who where that fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    There,
    HereThenThere,
    ThereThenHere,
}

/// Where a rule sends to.
#[derive(Debug)]
pub(crate) struct Target {
    upstream: Arc<str>,
    is_redacted: bool,
}

#[derive(Clone, Copy)]
enum Word {
    Here,
    Refuse,
    Send(Order),
}

const WORDS: &[(&str, Word)] = &[
    ("here", Word::Here),
    ("there", Word::Send(Order::There)),
    ("here-then-there", Word::Send(Order::HereThenThere)),
    ("there-then-here", Word::Send(Order::ThereThenHere)),
    ("refuse", Word::Refuse),
];

impl Outcome {
    /// Reads `outcome` and what belongs to it. A rule that sends needs the `labels` it is for.
    pub(crate) fn read(
        table: &mut Table<'_>,
        upstreams: &[Arc<str>],
        labels: Option<&[Label]>,
    ) -> Result<Self, Problem> {
        let outcome = table.must("outcome")?;
        let [upstream, redacted, reason] =
            ["upstream", "redacted", "reason"].map(|name| table.take(name));
        let word = outcome.word(WORDS)?;
        if let (Word::Here | Word::Send(_), Some(reason)) = (word, &reason) {
            return Err(reason.wrong("expected it beside outcome \"refuse\" only"));
        }
        if let (Word::Here | Word::Refuse, Some(field)) =
            (word, upstream.as_ref().or(redacted.as_ref()))
        {
            return Err(field.wrong(format!("outcome {:?} sends nothing", outcome.text()?)));
        }
        match (word, reason) {
            (Word::Here, _) => Ok(Self::Here),
            (Word::Refuse, None) => {
                Err(table.wrong("outcome \"refuse\": expected a reason beside it"))
            }
            (Word::Refuse, Some(reason)) => Ok(Self::Refuse(read_reason(&reason)?)),
            (Word::Send(order), _) => {
                check_labels(&outcome, labels)?;
                let Some(upstream) = upstream else {
                    let word = outcome.text()?;
                    let problem = format!("{word:?}: expected an upstream beside it");
                    return Err(outcome.wrong(problem));
                };
                let upstream = known(&upstream, upstreams)?;
                let is_redacted = redacted.map_or(Ok(false), |redacted| redacted.flag())?;
                Ok(Self::Send(order, Target { upstream, is_redacted }))
            }
        }
    }

    /// In the words of whoever asks why.
    pub(crate) fn told(&self) -> String {
        match self {
            Self::Here => "here".to_owned(),
            Self::Refuse(reason) => format!("refuse: {reason}"),
            Self::Send(order, Target { upstream, is_redacted, .. }) => {
                let word = match order {
                    Order::There => "there",
                    Order::HereThenThere => "here-then-there",
                    Order::ThereThenHere => "there-then-here",
                };
                let redacted = if *is_redacted { ", redacted" } else { "" };
                format!("{word}: {upstream}{redacted}")
            }
        }
    }

    /// Where it leads with these facts, and what was left out on the way.
    pub(crate) fn route(&self, label: Label, facts: &Facts) -> (Route, Vec<String>) {
        let mut notes = Vec::new();
        let mut here = || {
            let problem = facts.here_problem.as_ref();
            notes.extend(problem.map(|problem| format!("it cannot be answered here: {problem}")));
            problem.is_none()
        };
        let (is_here, departure, order) = match self {
            Self::Refuse(reason) => return (Route::Refuse { reason: reason.clone() }, notes),
            Self::Here => (here(), Err(None), Order::HereThenThere),
            Self::Send(order, target) => {
                let is_here = !matches!(order, Order::There) && here();
                (is_here, target.departure(label, facts).map_err(Some), *order)
            }
        };
        let departure = departure.map_err(|problem| notes.extend(problem)).ok();
        let route = match (departure, is_here, order) {
            (None, false, _) => Route::Refuse { reason: notes.join("; ") },
            (None, true, _) => Route::Here,
            (Some(departure), false, _) => Route::There(departure),
            (Some(departure), true, Order::ThereThenHere) => Route::ThereThenHere(departure),
            (Some(departure), true, _) => Route::HereThenThere(departure),
        };
        (route, notes)
    }

    /// Whether it may send.
    pub(crate) fn sends(&self) -> bool {
        self.upstream().is_some()
    }

    /// Where to, where it may send.
    pub(crate) fn upstream(&self) -> Option<&str> {
        match self {
            Self::Send(_, target) => Some(&target.upstream),
            Self::Here | Self::Refuse(_) => None,
        }
    }
}

fn read_reason(reason: &Value<'_>) -> Result<String, Problem> {
    let text = reason.text()?;
    let n_chars = text.chars().count();
    if !(1..=REASON_CHARS_MAX).contains(&n_chars) || text.contains(char::is_control) {
        let expected = format!("expected 1 to {REASON_CHARS_MAX} characters, no controls");
        return Err(reason.wrong(format!("{}, {expected}", quoted(text))));
    }
    Ok(text.to_owned())
}

/// That a rule with this `outcome`, which sends, is for labels that may leave.
fn check_labels(outcome: &Value<'_>, labels: Option<&[Label]>) -> Result<(), Problem> {
    let word = outcome.text()?;
    let problem = match labels {
        None => "expected the labels that it is for beside it",
        Some(labels) if labels.contains(&Label::Private) => "what is private never leaves",
        Some(_) => return Ok(()),
    };
    let expected = "expected label = \"public\", \"internal\" or both";
    Err(outcome.wrong(format!("{word:?} may send: {problem}: {expected}")))
}

/// The upstream that is meant.
fn known(upstream: &Value<'_>, upstreams: &[Arc<str>]) -> Result<Arc<str>, Problem> {
    let name = upstream.text()?;
    let found = upstreams.iter().find(|known| ***known == *name);
    found.cloned().ok_or_else(|| {
        let names = || upstreams.iter().map(|name| &**name);
        let hint = match suggestion(name, names()) {
            hint if !hint.is_empty() => hint,
            _ if upstreams.is_empty() => ", and there is no list of upstreams".to_owned(),
            _ => format!(", expected one of upstreams: {}", listed(names())),
        };
        upstream.wrong(format!("{}{hint}", quoted(name)))
    })
}

impl Target {
    /// The departure of a request with this label, or why there is none.
    fn departure(&self, label: Label, facts: &Facts) -> Result<Departure, String> {
        let Self { upstream, is_redacted } = self;
        if facts.down.contains(&**upstream) {
            return Err(format!("upstream {} cannot be asked", quoted(upstream)));
        }
        // Rules that send name their labels, so this is the second lock of the same door.
        let Some(label) = label.sendable() else {
            return Err(format!("a request that is {label} never leaves"));
        };
        Ok(Departure { upstream: Arc::clone(upstream), is_redacted: *is_redacted, label })
    }
}
