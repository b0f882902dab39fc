//! The ledger on both databases. PostgreSQL's half needs a server, which `tests/postgres.sh`
//! starts; without one it is skipped and says so.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test]")]

#[macro_use]
mod site;

mod access;
mod accounts;
mod contents;
mod exporting;
mod failing;
mod hammering;
mod interleaving;
mod killing;
mod tampering;
mod writing;
