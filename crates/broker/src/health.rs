//! How upstreams are, as far as the broker knows.

use serde::{Deserialize, Serialize};

use crate::UpstreamKind;

/// An upstream with its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamHealth {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: UpstreamKind,
    /// Each address of each URL.
    pub addresses: Vec<AddressHealth>,
}

/// One address of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressHealth {
    /// Its URL in the settings.
    pub url: String,
    /// What the URL's host was resolved to when the broker started, with the port.
    pub address: String,
    /// Whether it is asked.
    pub circuit: Circuit,
    /// Requests on their way.
    pub n_in_flight: u64,
    /// Requests that were answered, by whatever status but 429 and 5xx.
    pub n_answered: u64,
    /// Attempts that failed.
    pub n_failed: u64,
    /// Why the last failed, where one did since the last answer.
    pub last_error: Option<String>,
}

/// Whether an address is asked. After some failures in a row it is not for a while, then one
/// request tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "circuit", rename_all = "snake_case")]
pub enum Circuit {
    /// It is.
    Closed,
    /// It is not, for so long.
    Open {
        /// Milliseconds until one request tries it.
        for_ms: u64,
    },
    /// One request tries it now, or the next will.
    HalfOpen,
}
