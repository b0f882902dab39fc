//! What frames say, in JSON: heads are few, and read by people who look for a fault.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::frame::{Frame, FrameKind};
use crate::{Upstream, UpstreamKind};

/// What the broker is to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// The upstreams.
    pub upstreams: Vec<Upstream>,
    /// Where the ledger is. May hold a password, so it is never told.
    pub ledger: String,
}

/// What the broker came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Whether something holds it.
    pub is_locked: bool,
    /// What does, or why nothing does, in words.
    pub lock: String,
    /// The upstreams that it knows.
    pub upstreams: Vec<Known>,
}

/// An upstream that the broker knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: UpstreamKind,
    /// How many addresses it has.
    pub n_addresses: usize,
    /// What is wrong with those that it has not.
    pub problems: Vec<String>,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestHead {
    pub(crate) departure: String,
    pub(crate) upstream: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) n_bytes: usize,
    pub(crate) timeout_ms: u64,
    pub(crate) affinity: Option<u64>,
}

/// The head of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) address: String,
    pub(crate) attempts: u32,
}

/// A frame that says `value`.
pub(crate) fn frame(kind: FrameKind, request: u64, value: &impl Serialize) -> Frame {
    let json = serde_json::to_vec(value).expect("plain structures have no key that is no text");
    Frame::new(kind, request, json)
}

/// What a frame says.
///
/// # Errors
/// What is wrong with it, in words.
pub(crate) fn read<T: DeserializeOwned>(frame: &Frame) -> Result<T, String> {
    serde_json::from_slice(&frame.payload).map_err(|error| format!("{:?}: {error}", frame.kind))
}
