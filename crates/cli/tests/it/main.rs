//! The tests that run the real `freehold` binary, in one program: linked once. `tidy` stays alone,
//! for it runs nothing and is wanted fast.

extern crate store as freehold_store;

mod bad_input;
mod binary;
mod bundle;
mod cli;
mod config;
mod egress;
mod gate;
mod housekeeping;
mod keys;
mod ledger;
mod licences;
mod lock;
mod person;
mod policy;
mod pull;
mod receipt;
mod record;
#[allow(dead_code, unreachable_pub)] // The example's `main`.
#[path = "../../../gguf/examples/repack.rs"]
mod repack;
mod server;
#[path = "../../../store/tests/it/support/mod.rs"]
mod support;
mod upgrade;
mod upstream;
