//! Architecture descriptions, weights and one forward pass over them.
//!
//! An architecture is a description ([`ArchSpec`], one file each under `arch/`), not a program: it
//! says only what a GGUF file does not say. Everything else is read from the file's metadata or
//! from a tensor being there. [`Model::forward`] is the only pass of models that write text,
//! [`Encoder::encode`] that of models that make vectors; `reference` holds their slow twins.
//! This crate knows token ids and positions; it knows no request, no user and no sampling.
#![forbid(unsafe_code)]

pub mod arch;
mod config;
mod encoder;
mod error;
mod forward;
mod model;
mod plan;
pub mod reference;
mod rope;
mod scratch;
mod weights;

pub use arch::{ArchSpec, known_architectures};
pub use config::Config;
pub use encoder::{Encoder, EncoderConfig, EncoderPlan, EncoderScratch, Pooling, is_encoder};
pub use error::ModelError;
pub use forward::{LogitsFor, LogitsOf, Slice};
pub use model::Model;
pub use plan::Plan;
pub use scratch::Scratch;
