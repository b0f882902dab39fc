//! How far a long piece of work has come, told to whoever wants to show it.
//!
//! The store draws nothing itself: a terminal shows a bar, a service writes a line, a test counts.

/// Hears about work as it goes on. Calls come from one thread at a time.
pub trait Progress: Sync {
    /// A piece of work starts; `total` is its size in bytes where that is known.
    fn start(&self, what: &str, total: Option<u64>);
    /// `n_bytes` more of the current piece are done.
    fn advance(&self, n_bytes: u64);
    /// The current piece ends, well or badly.
    fn finish(&self);
    /// One line for a person: a wait, a retry, a restart.
    fn note(&self, text: &str);
    /// Whether nobody wants the work any more. It then ends with
    /// [`StoreError::Cancelled`](crate::StoreError); what had arrived is kept.
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _n_bytes: u64) {}
    fn finish(&self) {}
    fn note(&self, _text: &str) {}
}
