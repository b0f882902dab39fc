//! Everything that can go wrong in the ledger, in words a person can act on.

/// What went wrong, where, with what value, and what was expected.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// More entries wait for the writer than may.
    #[error("the ledger's queue is full: {n_waiting} entries wait to be written")]
    QueueFull {
        /// How many wait.
        n_waiting: usize,
    },
    /// The writer has stopped, or cannot write.
    #[error("the ledger cannot be written: {reason}")]
    Unwritable {
        /// Why.
        reason: String,
    },
}
