//! Where the steps of an answer come from: the engine here, or an upstream. Whoever follows them
//! sees no difference.

use super::abroad::Abroad;
use super::flight::Flight;
use crate::dialects::{Choice, Step, Usage};
use crate::errors::ServerError;
use std::time::Duration;

pub(super) enum Source {
    Here(Box<Flight>),
    There(Box<Abroad>),
}

impl Source {
    /// A place for each choice.
    pub(super) fn empty_choices(&self) -> Vec<Choice> {
        match self {
            Self::Here(flight) => flight.empty_choices(),
            Self::There(abroad) => abroad.empty_choices(),
        }
    }

    /// Whether every choice has ended.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Self::Here(flight) => flight.is_done(),
            Self::There(abroad) => abroad.is_done(),
        }
    }

    /// Tokens so far; exact once every choice has ended.
    pub(super) fn usage(&self) -> Usage {
        match self {
            Self::Here(flight) => flight.usage(),
            Self::There(abroad) => abroad.usage(),
        }
    }

    /// Tokens so far as they are accounted for: where an upstream has not said how many there are,
    /// as they are estimated.
    pub(super) fn counted(&self) -> Usage {
        match self {
            Self::Here(flight) => flight.usage(),
            Self::There(abroad) => abroad.counted(),
        }
    }

    /// How long the choice that ended first waited for its first step, where that is known.
    pub(super) fn queue(&self) -> Option<Duration> {
        match self {
            Self::Here(flight) => flight.queue(),
            Self::There(_) => None,
        }
    }

    /// What an upstream asks for it so far, in millionths of the owner's currency.
    pub(super) fn cost_micro(&self) -> Option<i64> {
        match self {
            Self::Here(_) => None,
            Self::There(abroad) => abroad.left.cost_micro(abroad.estimate()),
        }
    }

    /// Waits for the first thing to happen; [`Source::steps`] gives it next.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn begin(&mut self) -> Result<(), ServerError> {
        match self {
            Self::Here(flight) => flight.begin().await,
            Self::There(abroad) => abroad.begin().await,
        }
    }

    /// Waits for something to happen. Losing this future loses nothing.
    ///
    /// # Errors
    /// When the answer broke off.
    pub(super) async fn steps(&mut self) -> Result<Vec<Step>, ServerError> {
        match self {
            Self::Here(flight) => flight.steps().await,
            Self::There(abroad) => abroad.steps().await,
        }
    }
}
