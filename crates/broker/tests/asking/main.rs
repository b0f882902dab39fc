//! The broker against real servers on loopback, and servers that misbehave as vendors do.
#![cfg(unix)]
// Helpers of tests are tests: a failure in them should end the test where it is.
#![allow(clippy::unwrap_used)]

mod hostile;
mod letting_go;
mod process;
mod sending;
mod tls;
mod trying_again;
mod world;
