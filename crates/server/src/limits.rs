//! The named bounds of the service, each with its reason.

use std::time::Duration;

/// The bounds on bodies, counts and times. Every one can be changed by the operator.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body in bytes. 16 MiB holds any prompt that a context can take.
    pub n_body_bytes: usize,
    /// How long a client may take to send a request's head.
    pub header_timeout: Duration,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// Open connections; more wait in the system's accept queue.
    pub n_connections: usize,
    /// Generations at work at once over all models; more are refused with 429.
    pub n_requests: usize,
    /// Most alternatives (`n`, and prompts times `n`) of one request.
    pub n_choices: usize,
    /// Most stop strings of one request.
    pub n_stops: usize,
    /// Longest stop string in bytes.
    pub n_stop_bytes: usize,
    /// Silence on a stream after which a comment line is sent, so that proxies keep it open.
    pub keep_alive: Duration,
    /// How long answers in flight may go on after shutdown was asked for.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            n_body_bytes: 16 << 20,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            n_connections: 512,
            n_requests: 64,
            n_choices: 16,
            n_stops: 16,
            n_stop_bytes: 1024,
            keep_alive: Duration::from_secs(15),
            shutdown_grace: Duration::from_secs(20),
        }
    }
}
