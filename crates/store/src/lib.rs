//! Models on disk: where they come from, what they are called, and proof that they are unchanged.
//!
//! A [`Store`] is one folder of plain files under readable names, each model beside a small
//! manifest that says where it came from, its hash and its licence:
//!
//! ```text
//! HOME/models/<publisher>/<name>/<file>.gguf   the model, as any other program would have it
//!                                manifest.toml source, revision, sha256, size, licence, date
//!                                verified.toml how the files looked when last hashed: a cache
//!                                carried/      what came with an adopted model: texts
//! HOME/staging/<publisher>--<name>/            downloads under way; resumed by the next pull
//! HOME/locks/                                  one claim per model: concurrent pulls wait
//! HOME/accepted.toml                           licences accepted on this machine
//! ```
//!
//! Nothing gets a final name before its SHA-256 is known and, where one was promised, equal.
//! What the owner wants models to be stands elsewhere, in a [`LockFile`] of the owner's.
//! Everything here blocks; call it from a plain thread, not from inside an async runtime.
//! The store does not know how a model runs.

#![forbid(unsafe_code)]

mod adopt;
mod bundle;
mod catalogue;
mod checked;
mod claim;
mod collect;
mod collector;
mod cosign;
mod error;
mod hash;
mod home;
mod import;
mod installed;
mod latest;
mod lockfile;
mod logins;
mod manifest;
mod minisign;
mod model_signing;
mod name;
mod platform;
mod progress;
mod pull;
mod record;
mod settings;
mod signature;
mod signers;
mod source;
mod sources;
mod staging;
mod wheel;

pub use adopt::{Found, FoundFile, Program};
pub use bundle::{
    BundleEntry, BundleFile, BundleIndex, BundleSigner, BundledModel, ExportOptions, ImportOptions,
    Imported,
};
pub use catalogue::{Catalogue, Entry, ModelKind};
pub use collect::{CollectOptions, Collection, Garbage, GarbageKind};
pub use collector::{Collector, Endpoint, Unposted};
pub use error::{ErrorKind, StoreError};
pub use hash::{ParseSha256Error, Sha256, hash_file};
pub use home::{FileReport, FileState, PullOptions, Removed, Store, VerifyReport, now};
pub use import::ImportFormat;
pub use installed::{Installed, InstalledFile, Licence, Origin};
pub use latest::Latest;
pub use lockfile::{
    Difference, History, LOCK_FILE, Left, Lock, LockFile, LockedFile, LockedModel, LockedTemplate,
    Move, Number, Planned, Running, Step, Tested, Timeline, Version, beside, stamps,
};
pub use logins::{ParseRegistryLoginError, RegistryLogin};
pub use name::ModelName;
pub use platform::{Stamp, free_bytes};
pub use progress::{Progress, Silent};
pub use settings::{Settings, install_tls};
pub use signature::{Acquaintance, ParsePublicKeyError, PublicKey, Trust};
pub use signers::{ParsePublisherKeyError, PublisherKey, Terms};
pub use source::{PipPart, Source};
