//! Whose turn it is at the cores: what [`Cores`](crate::cores::Cores) decides, apart from threads.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng 1996) over steps: a turn begins at a virtual
//! time and moves its model's account on by the time of the cores that it took; who begins earliest
//! is next. So two models that are always busy have the same time, to the length of a step of each,
//! however their steps differ. Virtual time is where the latest turn began, and nobody begins
//! before it: an idle model saves nothing up.
//!
//! A model has an account for each priority. Time of batch steps counts [`BATCH_WEIGHT`] times, so
//! that batch steps have a ninth where the others leave nothing, and an interactive step waits for
//! the step that runs and one batch step of each other model, or for batch steps of an eighth of
//! its own length.
//!
//! A model that has just ended a step is expected back, since it samples and sends between two
//! steps: otherwise one with short steps would always be late, and have one step for each long one
//! of its neighbour. The cores wait for it only where it would be next, and not for long.

use crate::request::Priority;
use std::time::{Duration, Instant};

/// How much more a batch step counts than an interactive one of the same length; a ninth of the
/// time for batch is what requests of one model have too.
const BATCH_WEIGHT: u32 = 8;
/// How long the cores wait for a model between two of its steps. A choice: it should be longer than
/// sampling and sending take, and short for whoever waits.
pub(crate) const PATIENCE: Duration = Duration::from_millis(20);

/// The cores and the models that take turns at them.
#[derive(Debug)]
pub(crate) struct Rota {
    n_free: usize,
    /// Virtual time.
    now: Duration,
    /// By id; an id is given again when its model has left.
    members: Vec<Option<Member>>,
    n_claims: u64,
}

#[derive(Debug)]
struct Member {
    /// Cores that a turn takes.
    n_cores: usize,
    /// Virtual times before which no turn of a priority begins.
    due: [Duration; 2],
    state: State,
    /// Whether an interactive request came to it that it may not know of.
    is_raised: bool,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Away,
    /// It takes no turns any more.
    Retired,
    Expected {
        until: Instant,
        at: Place,
    },
    Waiting(Place),
    Running {
        since: Instant,
        at: Place,
    },
}

/// A place in the order of turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    start: Duration,
    priority: Priority,
    ticket: u64,
}

/// What a model that waits is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Its turn has begun.
    Begin,
    /// Others go first. To be asked again when something changes, or at that time.
    Wait(Option<Instant>),
    /// It takes no turns any more.
    Never,
}

impl Rota {
    /// So many cores that nobody uses.
    pub(crate) fn new(n_cores: usize) -> Self {
        let n_free = n_cores.max(1);
        Self { n_free, now: Duration::ZERO, members: Vec::new(), n_claims: 0 }
    }

    /// Takes a model in whose turns take `n_cores`, or all that there are; returns its id.
    pub(crate) fn join(&mut self, n_cores: usize) -> usize {
        let n_cores = n_cores.clamp(1, self.n_free + self.n_taken());
        let due = [self.now; 2];
        let member = Some(Member { n_cores, due, state: State::Away, is_raised: false });
        match self.members.iter_mut().enumerate().find(|(_, place)| place.is_none()) {
            Some((id, place)) => {
                *place = member;
                id
            }
            None => {
                self.members.push(member);
                self.members.len() - 1
            }
        }
    }

    /// Lets a model go, whatever it does.
    pub(crate) fn leave(&mut self, id: usize, now: Instant) {
        self.end(id, now);
        self.members[id] = None;
    }

    /// Notes that a model wants a turn. Returns whether others may go before it that had to let it
    /// go first as long as it was expected.
    #[must_use]
    pub(crate) fn claim(&mut self, id: usize, priority: Priority) -> bool {
        let ticket = self.n_claims;
        let Self { now, .. } = *self;
        let Some(member) = &mut self.members[id] else { return false };
        let expected = match member.state {
            State::Away => None,
            State::Expected { at, .. } => Some(at),
            State::Retired | State::Waiting(_) | State::Running { .. } => return false,
        };
        self.n_claims += 1;
        let priority = if member.is_raised { Priority::Interactive } else { priority };
        let at = member.place(now, priority, ticket);
        member.state = State::Waiting(at);
        let place = |at: Place| (at.start.max(now), at.priority);
        expected.is_some_and(|expected| place(expected) < place(at))
    }

    /// Notes that a model looks at who has come to it, and so claims with the priority of all.
    pub(crate) fn lower(&mut self, id: usize) {
        if let Some(member) = &mut self.members[id] {
            member.is_raised = false;
        }
    }

    /// Notes that an interactive request came to a model.
    pub(crate) fn raise(&mut self, id: usize) {
        let Self { now, .. } = *self;
        let Some(member) = &mut self.members[id] else { return };
        member.is_raised = true;
        if let State::Waiting(at) = member.state
            && at.priority == Priority::Batch
        {
            let raised = member.place(now, Priority::Interactive, at.ticket);
            member.state = State::Waiting(raised.min(at));
        }
    }

    /// Begins the turn of a model that waits, where it is its turn.
    pub(crate) fn ask(&mut self, id: usize, now: Instant) -> Answer {
        let Some(Member { state: State::Waiting(mine), n_cores, .. }) = self.members[id] else {
            return Answer::Never;
        };
        let Some(n_reserved) = self.n_reserved(mine, now) else { return Answer::Wait(None) };
        if n_reserved + n_cores > self.n_free {
            return Answer::Wait(self.first_return(mine, now));
        }
        self.n_free -= n_cores;
        self.now = self.now.max(mine.start);
        if let Some(member) = &mut self.members[id] {
            member.state = State::Running { since: now, at: mine };
            member.is_raised = false;
        }
        Answer::Begin
    }

    /// Ends the turn of a model and counts it; it is expected back.
    pub(crate) fn end(&mut self, id: usize, now: Instant) {
        let Some(member) = &mut self.members[id] else { return };
        let State::Running { since, at } = member.state else { return };
        let weight = match at.priority {
            Priority::Interactive => 1,
            Priority::Batch => BATCH_WEIGHT,
        };
        let n_cores = u32::try_from(member.n_cores).unwrap_or(u32::MAX);
        let used = now.saturating_duration_since(since).saturating_mul(weight);
        let due = at.start.saturating_add(used.saturating_mul(n_cores));
        member.due[at.priority as usize] = due;
        member.state = State::Expected { until: now + PATIENCE, at: Place { start: due, ..at } };
        self.n_free += member.n_cores;
    }

    /// Notes that a model that is between two steps has no work.
    pub(crate) fn rest(&mut self, id: usize) {
        if let Some(member) = &mut self.members[id]
            && let State::Expected { .. } = member.state
        {
            member.state = State::Away;
        }
    }

    /// Notes that a model that has no turn takes none any more.
    pub(crate) fn retire(&mut self, id: usize) {
        if let Some(member) = &mut self.members[id]
            && !matches!(member.state, State::Running { .. })
        {
            member.state = State::Retired;
        }
    }

    /// With which priority a model waits for its turn.
    #[cfg(test)]
    pub(crate) fn waits_with(&self, id: usize) -> Option<Priority> {
        match self.members.get(id)?.as_ref()?.state {
            State::Waiting(at) => Some(at.priority),
            _ => None,
        }
    }

    /// Whether some model waits for its turn.
    pub(crate) fn has_waiting(&self) -> bool {
        self.members().any(|member| matches!(member.state, State::Waiting(_)))
    }

    /// Whether cores are free.
    pub(crate) fn has_free(&self) -> bool {
        self.n_free > 0
    }

    /// Cores that are kept for models that are expected back before `mine`; `None` where one that
    /// waits comes before it.
    fn n_reserved(&self, mine: Place, now: Instant) -> Option<usize> {
        let mut n_reserved = 0;
        for member in self.members() {
            match member.state {
                State::Waiting(at) if at < mine => return None,
                State::Expected { until, at } if until > now && self.is_before(at, mine) => {
                    n_reserved += member.n_cores;
                }
                _ => {}
            }
        }
        Some(n_reserved)
    }

    /// When the first of them is waited for no longer; `None` where nobody is expected.
    fn first_return(&self, mine: Place, now: Instant) -> Option<Instant> {
        let until = self.members().filter_map(|member| match member.state {
            State::Expected { until, at } if until > now && self.is_before(at, mine) => Some(until),
            _ => None,
        });
        until.min()
    }

    /// Whether a model that is expected will be before `mine`.
    fn is_before(&self, expected: Place, mine: Place) -> bool {
        let start = expected.start.max(self.now);
        (start, expected.priority) < (mine.start, mine.priority)
    }

    fn n_taken(&self) -> usize {
        let running = self.members().filter(|m| matches!(m.state, State::Running { .. }));
        running.map(|member| member.n_cores).sum()
    }

    fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }
}

impl Member {
    fn place(&self, now: Duration, priority: Priority, ticket: u64) -> Place {
        Place { start: now.max(self.due[priority as usize]), priority, ticket }
    }
}

#[cfg(test)]
#[path = "rota_tests.rs"]
mod tests;
