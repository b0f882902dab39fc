//! The naive twin of the pass.
