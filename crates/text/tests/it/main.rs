//! The tests of tokenizers, constraints and tool calls, in one program: linked once.
#![allow(clippy::unwrap_used)] // the helpers of tests, as the tests

mod channels;
mod constraint;
mod gbnf;
mod support;
mod tokenizers;
mod tokenizers_differential;
mod tools;
