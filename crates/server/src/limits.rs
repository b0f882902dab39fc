//! The named bounds of the service, each with its reason.
//!
//! Bounds that belong to generation itself (stop strings, logit biases, log-probabilities, waiting
//! requests) are the engine's and are not repeated here.

use std::time::Duration;

/// The bounds on bodies, counts and times. Every one can be changed by the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body in bytes. A context of 128 Ki tokens is about 0.6 MB of text; JSON can
    /// blow up some 25 times when it is read, so this also bounds memory.
    pub n_body_bytes: usize,
    /// How long a client may take to send a request's head; also how long an idle connection is
    /// kept. Longer than the pools of common clients keep theirs (5 s), so that they close first.
    pub header_timeout: Duration,
    /// How long the handshake of a TLS connection may take, its wait for a turn counted.
    pub handshake_timeout: Duration,
    /// TLS handshakes at once; each costs about a millisecond of computing, and waits for a client.
    pub n_handshakes: usize,
    /// How long a client may take to send a request's body.
    pub body_timeout: Duration,
    /// Open connections; more wait in the system's accept queue.
    pub n_connections: usize,
    /// Requests at work at once over all models, a quarter of them for others than any one client;
    /// more are refused with 429. Each holds its body, then its prompt and its events.
    pub n_requests: usize,
    /// Of them, requests for embeddings and rerank: each may be minutes of work.
    pub n_vector_requests: usize,
    /// Requests being read as JSON, rendered and tokenized at once; the others of
    /// [`Limits::n_requests`] wait. The memory of the JSON trees is this many times one body's.
    pub n_preparing: usize,
    /// Most alternatives (`n`) of one prompt.
    pub n_choices_per_prompt: usize,
    /// Most prompts times alternatives of one request.
    pub n_choices: usize,
    /// Most texts of one request for vectors (OpenAI's limit), a query and its documents counted.
    pub n_texts: usize,
    /// Most tokens of those texts together (OpenAI's limit): minutes of work on two cores.
    pub n_text_tokens: usize,
    /// Largest file that a client sends (OpenAI's limit for batches).
    pub n_file_bytes: u64,
    /// Lines of batches that are answered at once; half of [`Limits::n_requests`] at most.
    pub n_batch_lines: usize,
    /// Silence on a stream after which a comment line is sent, so that proxies keep it open.
    pub keep_alive: Duration,
    /// How long a client may read nothing of an answer, whole or streamed; then it counts as gone,
    /// and its connection is closed.
    pub write_timeout: Duration,
    /// How long answers in flight may go on after shutdown was asked for.
    pub shutdown_grace: Duration,
    /// How long a finished answer that may be referred to (`/v1/responses`) stays in memory behind
    /// its last use; `None`, which is the default: no contents are kept.
    pub keep_responses: Option<Duration>,
    /// Most bytes of all that are kept; what was not used for longest goes, of whoever has most.
    pub n_kept_bytes: usize,
    /// How long a stream goes on that its client has dropped, and how long its events stay behind
    /// its end, so that it can be resumed; `None`, which is the default: it is cancelled at once.
    pub resume_streams: Option<Duration>,
    /// Most bytes of one stream that can be resumed: the events of 8 Ki tokens are about 3 MB, with
    /// log-probabilities more.
    pub n_stream_bytes: usize,
    /// Most bytes of all of them; of whoever has most those go that ended first, then those that
    /// were begun first.
    pub n_streams_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            n_body_bytes: 4 << 20,
            header_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(10),
            n_handshakes: 64,
            body_timeout: Duration::from_secs(30),
            n_connections: 512,
            n_requests: 128,
            n_vector_requests: 32,
            n_preparing: 4,
            n_choices_per_prompt: 16,
            n_choices: 128,
            n_texts: 2048,
            n_text_tokens: 300_000,
            n_file_bytes: 200 << 20,
            n_batch_lines: 32,
            keep_alive: Duration::from_secs(15),
            write_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(20),
            keep_responses: None,
            n_kept_bytes: 64 << 20,
            resume_streams: None,
            n_stream_bytes: 8 << 20,
            n_streams_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// `new`, but for what a running server has been built with: the sizes of its queues, and what
    /// is kept of answers.
    pub fn renewed(&self, new: &Self) -> Self {
        Self {
            n_connections: self.n_connections,
            n_vector_requests: self.n_vector_requests,
            n_preparing: self.n_preparing,
            n_handshakes: self.n_handshakes,
            keep_responses: self.keep_responses,
            n_kept_bytes: self.n_kept_bytes,
            n_batch_lines: self.n_batch_lines,
            resume_streams: self.resume_streams,
            n_stream_bytes: self.n_stream_bytes,
            n_streams_bytes: self.n_streams_bytes,
            ..new.clone()
        }
    }
}
