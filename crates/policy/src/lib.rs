//! Where a request may go: an owner's rules, labels, detection of personal data and secrets, and
//! redaction that can be undone.
//!
//! Pure: texts and [`Facts`] come in, a [`Decision`] goes out. It opens nothing, asks no clock (the
//! time is a fact) and sends nothing. The server asks it of each request, and `freehold policy` of
//! those that an owner makes up.
//!
//! A request labelled [`Label::Private`] cannot be sent: a [`Departure`] takes a [`Sendable`], and
//! there is none for private.
//!
//! ```
//! use freehold_policy::{Facts, Label, Route, Rules, decide};
//!
//! let rules = Rules::parse("policy.toml", r#"
//! upstreams = ["openai"]
//!
//! [[rule]]
//! name = "public work may go out"
//! label = "public"
//! outcome = "there"
//! upstream = "openai"
//! "#)?;
//! let public = Facts { key_label: Some(Label::Public), ..Facts::default() };
//! assert_eq!(decide(&rules, &public).route.name(), "there");
//! // Without a label a request is private.
//! assert_eq!(decide(&rules, &Facts::default()).route, Route::Here);
//! # Ok::<(), freehold_policy::PolicyError>(())
//! ```
#![forbid(unsafe_code)]

mod case;
mod checksum;
mod condition;
mod decide;
mod detect;
mod error;
mod facts;
mod label;
mod outcome;
mod redact;
mod restore;
mod rule;
mod source;

pub use case::{Case, CaseResult, parse_cases};
pub use decide::{Considered, Decision, decide};
pub use detect::{Class, Detection, Detector, Group, Settings, TEXT_BYTES_MAX};
pub use error::{Place, PolicyError, Problem};
pub use facts::{Capability, Facts, Health, Weekday};
pub use label::{Label, Sendable};
pub use outcome::{Departure, Route};
pub use redact::{Pseudonyms, Redacted};
pub use restore::{Escape, Restorer};
pub use rule::{Rule, Rules, SECTIONS};
