//! The broker: the one process that may open connections to other servers, and how it is asked.
//!
//! `freehold serve` starts it before it gives up connections itself, and speaks to it over a pair
//! of sockets ([`frame`]). The broker sends nothing without a departure: an entry that is durable
//! in the ledger, names the upstream, and has the SHA-256 of the body. Each departure is for one
//! request.
//!
//! ```no_run
//! use freehold_broker::{Broker, BrokerError, Outgoing};
//! # async fn example(broker: Broker) -> Result<(), BrokerError> {
//! use std::time::{Duration, Instant};
//! let mut incoming = broker
//!     .send(Outgoing {
//!         departure: "dep_1".to_owned(),
//!         upstream: "vendor".to_owned(),
//!         path: "/chat/completions",
//!         headers: Vec::new(),
//!         body: br#"{"model": "m", "messages": []}"#.as_slice().into(),
//!         deadline: Instant::now() + Duration::from_secs(600),
//!         affinity: None,
//!     })
//!     .await?;
//! while let Some(bytes) = incoming.body.chunk().await {
//!     bytes?; // a piece of the answer, as it came
//! }
//! # Ok(())
//! # }
//! ```
//!
//! It knows neither dialects nor rules, nor what a ledger is: whoever runs [`serve`] hands it a way
//! to look for [`Departures`], and one to [`Dial`].
#![forbid(unsafe_code)]

mod address;
mod ask;
mod breaker;
mod budget;
mod choose;
mod client;
mod config;
mod connections;
mod departures;
mod error;
pub mod frame;
pub mod guarded;
mod health;
mod link;
mod request;
mod retry;
mod serve;
mod start;
mod upstreams;
mod wire;

pub use client::{Body, Broker, Incoming};
pub use config::{ConfigError, KeySource, Upstream, UpstreamKind};
pub use connections::{Dial, Unlocked};
pub use departures::{Departure, Departures, Later, sha256};
pub use error::{BrokerError, Waiting};
pub use health::{AddressHealth, Circuit, UpstreamHealth};
pub use request::{BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS, Outgoing, paths};
pub use serve::{Means, serve};
pub use start::{Ending, Place, StartError, Started, ended, prepare, refuse};
pub use upstreams::Prepared;
pub use wire::{Known, Ready, Setup};
