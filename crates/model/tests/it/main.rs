//! The tests of models, tiny ones and real ones, in one program: linked once.

mod contract;
mod encoder;
mod kit;
mod minilm;
mod pass;
mod perplexity;
mod real;
mod refusal;
mod support;
