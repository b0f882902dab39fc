//! What keeps the models on this machine, as far as the server may know of it: what is known of
//! them without opening them, and how they come and go. Where their files are it does not know.

use crate::Model;
use crate::dialects::fields::short;
use engine::Recommended;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;

/// What is known of a model whether it is open or not.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Bytes of its files.
    pub n_bytes: u64,
    /// When it was installed, as RFC 3339; `None`: nobody noted it.
    pub installed: Option<String>,
    /// `general.architecture` of its file.
    pub architecture: String,
    /// Elements of all weights.
    pub n_parameters: u64,
    /// How most of its weights are written, such as `Q4_K_M`.
    pub quantization: String,
    /// Positions of the context with which it is opened.
    pub n_ctx: Option<u32>,
    /// The chat template as it stands in the file.
    pub template: Option<String>,
    /// The licence by name, and where it stands.
    pub licence: String,
    /// Where it came from; of a model that is no file of the library's its path.
    pub source: String,
    /// What its file recommends of how tokens are chosen.
    pub recommended: Recommended,
    /// Whether it can fill in the middle of a text.
    pub fills_in: bool,
    /// What of its file's metadata is one value.
    pub metadata: Map<String, Value>,
}

/// The models on this machine. Everything here may block.
pub trait Library: Send + Sync {
    /// What is known of the served model `name`.
    fn facts(&self, name: &str) -> Option<Arc<Facts>>;

    /// Why the served model or the alias `name` is not answered with, where it is known to be
    /// something else than the owner's lock says.
    fn refusal(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }

    /// Notes that the served model `name` is open: it counts as used now.
    fn mark_used(&self, name: &str) {
        let _ = name;
    }

    /// Why the served model `model` does not answer to `name`, where the owner's lock has another
    /// one for that name.
    fn misdirects(&self, name: &str, model: &str) -> Option<String> {
        let _ = (name, model);
        None
    }

    /// The name under which a model is served that came by the name `name`, such as the place it
    /// was pulled from. Looks at names alone: this one does not block.
    fn served_as(&self, name: &str) -> Option<String> {
        let _ = name;
        None
    }

    /// The name under which the model that `name` stands for is served once it is here. Fetches
    /// nothing.
    ///
    /// # Errors
    /// Nothing of that name, or its own name is taken by another.
    fn name_of(&self, name: &str) -> Result<String, LibraryError>;

    /// Fetches the model that `name` stands for, verified, unless it is here, and tells the fleet
    /// how to open it.
    ///
    /// # Errors
    /// Nothing of that name, a licence that is not accepted, whatever else keeps it from coming.
    fn pull(&self, name: &str, watcher: &dyn Watcher) -> Result<Model, LibraryError>;

    /// Copies the model `from` to the name `to`, and tells the fleet how to open that.
    ///
    /// # Errors
    /// `from` is not in the library, `to` cannot be a name or is taken, no room.
    fn copy(&self, from: &str, to: &str, watcher: &dyn Watcher) -> Result<Model, LibraryError>;

    /// Removes a model: its files, and from the fleet.
    ///
    /// # Errors
    /// It is not in the library, or somebody else is at work on it.
    fn remove(&self, name: &str) -> Result<(), LibraryError>;

    /// What the owner's lock says now and said before, and what is otherwise.
    ///
    /// # Errors
    /// It, its history or an installed model cannot be read.
    fn lock(&self) -> Result<LockStanding, LibraryError> {
        Ok(LockStanding::default())
    }

    /// Has the lock say of the model or alias `name` what it said in the version `to`, or before
    /// the last move, because of `why`. Returns what came of it, in words. What is served stays as
    /// it is until a reload.
    ///
    /// # Errors
    /// No such version, or it is not here as the lock said it.
    fn roll_back(
        &self,
        name: &str,
        to: Option<u32>,
        why: Option<String>,
    ) -> Result<String, LibraryError> {
        let _ = (to, why);
        Err(LibraryError::NotFound(format!("{name}: this library has no lock")))
    }

    /// Has the lock say what the installed model `name` is, every byte hashed. Returns what came of
    /// it, in words.
    ///
    /// # Errors
    /// It is not here, would change, or has a licence or a signer that the lock does not allow.
    fn pin(&self, name: &str, entry: Existing) -> Result<String, LibraryError> {
        let _ = entry;
        Err(LibraryError::NotFound(format!("{name}: this library has no lock")))
    }

    /// The reports of the behaviour gate that are kept.
    ///
    /// # Errors
    /// They cannot be read.
    fn gate_reports(&self) -> Result<GateReports, LibraryError> {
        Ok(GateReports::default())
    }

    /// The report `id` of the behaviour gate: its summary, and what is kept of it.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    fn gate_report(&self, id: &str) -> Result<Value, LibraryError> {
        let id = short(id);
        Err(LibraryError::NotFound(format!("gate report {id:?}: no such report is kept")))
    }

    /// The models of other programs on this machine, which can be used without a copy.
    ///
    /// # Errors
    /// What is installed cannot be read. What cannot be read of a program is told in the answer.
    fn adoptable(&self) -> Result<Adoptable, LibraryError> {
        Ok(Adoptable::default())
    }

    /// Adopts the model that another program, `owner`, has as `model`: every byte is hashed, and it
    /// is served from then on. Returns what came of it, in words, and the model.
    ///
    /// # Errors
    /// The program has no such model, or it cannot be adopted, or not under this name.
    fn adopt(&self, owner: &str, model: &str) -> Result<(String, Model), LibraryError> {
        Err(LibraryError::NotFound(format!("{}: {} has no such model", short(model), short(owner))))
    }

    /// The models of the owner's lock, with where they came from.
    ///
    /// # Errors
    /// It cannot be read, or there is none.
    fn locked_sources(&self) -> Result<Vec<LockedSource>, LibraryError> {
        Err(LibraryError::NotFound("this library has no lock".to_owned()))
    }

    /// Asks the source of the locked model `name` what it has now; as `freehold outdated --json`
    /// has it. Nothing is fetched and nothing changes.
    ///
    /// # Errors
    /// It is not in the lock. That a source does not answer is told in the answer.
    fn latest(&self, name: &str) -> Result<Value, LibraryError> {
        Err(LibraryError::NotFound(format!("{}: this library has no lock", short(name))))
    }
}

/// The reports of the behaviour gate that are kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GateReports {
    /// Their summaries, the newest first.
    pub reports: Vec<Value>,
    /// The ids of those that cannot be read.
    pub damaged: Vec<String>,
}

/// What other programs have on this machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Adoptable {
    /// Their models.
    pub models: Vec<AdoptableModel>,
    /// What could not be looked at, and why.
    pub problems: Vec<String>,
}

/// A model of another program's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdoptableModel {
    /// Who published it, and what it is called here.
    pub name: String,
    /// The program's name.
    pub owner: String,
    /// The word to ask `freehold adopt` for the program by.
    pub word: String,
    /// Bytes of its files.
    pub n_bytes: u64,
    /// Where its first file lies.
    pub path: String,
    /// What a person should know about it.
    pub notes: Vec<String>,
    /// Why it cannot be adopted.
    pub refused: Option<String>,
    /// Whether a model of this name is installed.
    pub is_here: bool,
}

/// A model of the owner's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedSource {
    /// What applications ask for.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// Whether that is elsewhere, so that asking it leaves this machine.
    pub is_elsewhere: bool,
}

/// What becomes of an entry that a lock has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and one that would change is refused.
    Stays,
    /// It becomes another.
    Changes,
}

/// How it stands with the owner's lock.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LockStanding {
    /// Where it is; `None`: models are held to none.
    pub file: Option<String>,
    /// Whether it is another by now than the one that models are held to.
    pub has_changed: bool,
    /// What it has, by name.
    pub models: Vec<LockedModel>,
    /// In what the installed models are otherwise, each as `freehold diff --json` has it.
    pub changes: Vec<Value>,
}

/// A model of a lock, and what stood for it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LockedModel {
    /// What applications ask for.
    pub name: String,
    /// In the order in which the lock first said them; not empty.
    pub versions: Vec<LockVersion>,
    /// The number of what the lock says now; the first is 1.
    pub now: usize,
    /// The number of what it said before the last move; `None`: nothing is behind.
    pub back: Option<usize>,
}

/// Something that a lock says of a model, or said.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LockVersion {
    /// SHA-256 of its entry, in hexadecimal digits.
    pub digest: String,
    /// The installed model that it is; `None`: nobody knows any more.
    pub installed: Option<String>,
    /// When the lock first came to it by a move, as RFC 3339.
    pub since: Option<String>,
    /// Why it last did, in a line.
    pub why: Option<String>,
    /// What the gate found then, as the history has it.
    pub gate: Option<Value>,
}

/// Hears how far long work on the library has come.
pub trait Watcher: Sync {
    /// A piece of work starts.
    fn start(&self, work: &Work);
    /// `n_bytes` more of it are done.
    fn advance(&self, n_bytes: u64);
    /// Whether nobody wants it any more; it then ends with [`LibraryError::Cancelled`].
    fn is_cancelled(&self) -> bool;
}

/// A piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// What is done.
    pub what: String,
    /// SHA-256 of what comes, in hexadecimal digits, where it is known.
    pub digest: Option<String>,
    /// Its size in bytes, where that is known.
    pub total: Option<u64>,
}

/// Why a library does not do what was asked, in words for whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LibraryError {
    /// There is nothing of this name.
    #[error("{0}")]
    NotFound(String),
    /// It makes no sense, or needs the owner.
    #[error("{0}")]
    Refused(String),
    /// Somebody else is at work on it.
    #[error("{0}")]
    Busy(String),
    /// Nobody wanted it any more.
    #[error("{0}")]
    Cancelled(String),
    /// It did not work.
    #[error("{0}")]
    Failed(String),
}
