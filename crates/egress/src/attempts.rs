//! What an attempt to get out has shown.

/// An attempt, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// By which way.
    pub way: &'static str,
    /// What it has shown.
    pub outcome: Outcome,
    /// What happened.
    pub evidence: String,
}

/// What an attempt has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The way is open without the lock, and closed with it.
    Refused,
    /// It is open in spite of the lock.
    GotOut,
    /// It is closed here anyway, so nothing was shown.
    NotTestable,
    /// It is the one that is to be open, and is.
    Allowed,
}

impl Outcome {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::GotOut => "got out",
            Self::NotTestable => "not testable",
            Self::Allowed => "allowed",
        }
    }
}
