//! How often requests may be tried again: so many percent of the requests of late, so that an
//! upstream in trouble is not asked twice as much by everybody. Pure.

/// Attempts that are saved up at most; also what there is at the start, for whoever asks rarely.
const SAVED_MAX: u64 = 10;
/// One attempt, in hundredths.
const ATTEMPT: u64 = 100;

/// A budget of further attempts.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    percent: u64,
    /// In hundredths of an attempt.
    saved: u64,
}

impl Budget {
    /// One that gains `percent` of an attempt with each request.
    pub(crate) fn new(percent: u32) -> Self {
        let percent = u64::from(percent);
        Self { percent, saved: if percent == 0 { 0 } else { SAVED_MAX * ATTEMPT } }
    }

    /// A request came.
    pub(crate) fn earn(&mut self) {
        self.saved = (self.saved + self.percent).min(SAVED_MAX * ATTEMPT);
    }

    /// Takes one further attempt, if there is one left.
    pub(crate) fn spend(&mut self) -> bool {
        match self.saved.checked_sub(ATTEMPT) {
            Some(saved) => {
                self.saved = saved;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_attempts_are_a_part_of_the_requests() {
        let mut budget = Budget::new(20);
        let mut n_spent = 0;
        for _ in 0..1000 {
            budget.earn();
            n_spent += u32::from(budget.spend());
        }
        assert_eq!(n_spent, 200 + 9);
        let mut none = Budget::new(0);
        none.earn();
        assert!(!none.spend());
    }
}
