//! The HTTP service: dialects and the one request path.
//!
//! [`run`] takes a bound listener and the loaded engines and serves them until it is told to stop.
//! This is the only crate that knows HTTP, JSON on the wire and async; the engine below it is plain
//! threads and token ids.
#![forbid(unsafe_code)]

mod errors;
mod limits;

pub use errors::ServerError;
pub use limits::Limits;

use std::future::Future;

/// What a server serves, and within which bounds.
pub struct Config {
    /// The models by the name that clients ask for, in the order in which they are listed. A
    /// request that names no model gets the first one.
    pub models: Vec<(String, engine::Engine)>,
    /// The bounds on bodies, counts and times.
    pub limits: Limits,
    /// Web origins (`https://chat.example`) whose pages may call this server; empty: none, which
    /// is the default.
    pub allowed_origins: Vec<String>,
    /// Host names accepted in the `Host` header beside the loopback names when the server listens
    /// on a loopback address.
    pub allowed_hosts: Vec<String>,
}

impl Config {
    /// Serves `models` with the default limits, to no web page of another origin.
    pub fn new(models: Vec<(String, engine::Engine)>) -> Self {
        Self {
            models,
            limits: Limits::default(),
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
        }
    }
}

/// Serves `config` on `listener` until `shutdown` is ready, then stops accepting, lets the answers
/// in flight finish for [`Limits::shutdown_grace`], tells the rest with an error event, and returns.
///
/// # Errors
/// [`ServerError::Config`] when the configuration cannot be served (no model, a name twice), and
/// [`ServerError::Io`] when the listener's own address cannot be read. A failed connection or
/// request ends neither the server nor this future.
pub async fn run(
    listener: tokio::net::TcpListener,
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServerError> {
    let _ = (listener, config, shutdown);
    todo!()
}
