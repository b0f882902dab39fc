//! A number within bounds.

use std::fmt::Display;

use crate::condition::Verdict;
use crate::error::Problem;
use crate::facts::COUNT_MAX;
use crate::source::Value;

/// Bounds, both inclusive, at least one of them there.
#[derive(Debug)]
pub(super) struct Range<T> {
    min: Option<T>,
    max: Option<T>,
}

impl Range<u64> {
    /// Of whole numbers.
    pub(super) fn counts(value: &Value<'_>) -> Result<Self, Problem> {
        Self::read(value, |bound| bound.count([0, COUNT_MAX]))
    }
}

impl<T: Copy + PartialOrd + Display> Range<T> {
    /// `{ min = a, max = b }`, each read by `read`.
    pub(super) fn read(
        value: &Value<'_>,
        read: impl Fn(&Value<'_>) -> Result<T, Problem>,
    ) -> Result<Self, Problem> {
        let mut table = value.table()?;
        let min = table.take("min").as_ref().map(&read).transpose()?;
        let max = table.take("max").as_ref().map(&read).transpose()?;
        table.finish()?;
        match (min, max) {
            (None, None) => Err(value.wrong("empty, expected min, max or both")),
            (Some(min), Some(max)) if min > max => {
                Err(value.wrong(format!("min {min} is above max {max}")))
            }
            _ => Ok(Self { min, max }),
        }
    }

    /// Whether the fact lies within.
    pub(super) fn verdict(&self, fact: Option<T>) -> Verdict {
        let Some(fact) = fact else { return Verdict::Unknown };
        match (self.min, self.max) {
            (Some(min), _) if fact < min => Verdict::No(format!("{fact}, expected at least {min}")),
            (_, Some(max)) if fact > max => Verdict::No(format!("{fact}, expected at most {max}")),
            _ => Verdict::Yes,
        }
    }
}
