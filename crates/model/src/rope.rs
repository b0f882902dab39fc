//! Rope frequencies.
