//! What a request to an upstream is, for whoever asks the broker.

use std::time::Instant;

use bytes::Bytes;

use crate::UpstreamKind;

/// Largest body of a request: it is held whole until its hash has been compared.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Headers that a request may bring, in lower case; all others are the broker's own. What leaves
/// in them is not in the departure's hash, so they are few and short.
pub const HEADERS: [&str; 4] = ["accept", "anthropic-beta", "anthropic-version", "openai-beta"];
/// Longest value of one.
pub const HEADER_BYTES_MAX: usize = 256;

/// The paths behind an upstream's URL to which requests go.
pub const fn paths(kind: UpstreamKind) -> &'static [&'static str] {
    match kind {
        UpstreamKind::OpenAi => &["/chat/completions", "/completions", "/embeddings", "/responses"],
        UpstreamKind::Anthropic => &["/v1/messages", "/v1/messages/count_tokens"],
        UpstreamKind::Oidc => &[""],
    }
}

/// A request to an upstream. It is a `POST` of JSON; to an issuer of OpenID Connect one of a form,
/// or a `GET` where the body is empty.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The id of the departure. Its entry in the ledger must be durable, written after the broker
    /// was started, and its body a JSON object with `"upstream"` as below and `"sha256"`, the
    /// [`sha256`](crate::sha256) of `body`.
    pub departure: String,
    /// The name of the upstream.
    pub upstream: String,
    /// One of [`paths`] of the upstream's kind; it is put behind the upstream's URL.
    pub path: &'static str,
    /// Only those of [`HEADERS`]. Key, host, length and type are the broker's.
    pub headers: Vec<(&'static str, String)>,
    /// As above, at most [`BODY_BYTES_MAX`].
    pub body: Bytes,
    /// When the whole answer must be there.
    pub deadline: Instant,
    /// Requests of the same number go to the same address while that is about as free as others:
    /// the hash of what a conversation begins with, so that the cache there is of use.
    pub affinity: Option<u64>,
}
