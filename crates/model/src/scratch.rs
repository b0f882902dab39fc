//! Buffers of the forward pass, kept between passes so that nothing is allocated per token.

/// Buffers of the forward pass. Grows to the largest batch seen, then never allocates.
#[derive(Default)]
pub struct Scratch {}

impl Scratch {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }
}
