//! The tests of the engine through its library, in one program: linked once. `allocations` stays
//! alone, for it has an allocator of its own.

mod constraint;
mod examples;
mod parts;
mod prefix_store;
mod prompt_logprobs;
mod real_model;
