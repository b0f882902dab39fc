//! The broker: the one process that may open connections to other servers, and how it is asked.
//!
//! `freehold serve` starts it before it gives up connections itself, and speaks to it over a pair
//! of sockets ([`frame`]). The broker sends nothing without a departure: an entry that is durable
//! in the ledger, names the upstream, and has the SHA-256 of the body. Each departure is for one
//! request.
//!
//! ```no_run
//! # async fn example(broker: freehold_broker::Broker) -> Result<(), freehold_broker::BrokerError> {
//! use std::time::{Duration, Instant};
//! let mut incoming = broker
//!     .send(freehold_broker::Outgoing {
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

mod config;
mod error;
mod health;
mod request;

pub use config::{ConfigError, KeySource, Upstream, UpstreamKind};
pub use error::{BrokerError, Waiting};
pub use health::{AddressHealth, Circuit, UpstreamHealth};
pub use request::Outgoing;
