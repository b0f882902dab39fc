//! The tests of tokenizers, constraints and tool calls, in one program: linked once.

mod channels;
mod constraint;
mod gbnf;
mod support;
mod tokenizers;
mod tokenizers_differential;
mod tools;
