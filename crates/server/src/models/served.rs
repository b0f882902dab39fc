//! A model that is open, as the routes of its task hold it, and the word by which its answers name
//! what made them.

use crate::{Model, VERSION};
use engine::{Embedder, Engine, ModelInfo, NUMERICS_VERSION, Opened, Task};

/// Digits of a lock's hash in a fingerprint: enough to tell a model's versions apart.
const N_LOCK_DIGITS: usize = 12;

/// A model that is open. It stays so as long as this is held.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) engine: Engine,
    pub(crate) fingerprint: String,
    /// What tells its files from all others, where that is known, and what its lock says.
    pub(crate) digest: Option<String>,
    pub(crate) lock: Option<String>,
}

/// As [`Served`], of a model that makes vectors.
#[derive(Debug, Clone)]
pub(crate) struct ServedEmbedder {
    pub(crate) name: String,
    pub(crate) embedder: Embedder,
}

/// What the routes of one task hold of an open model.
pub(crate) trait OfTask: Sized {
    const TASK: Task;
    /// `None` where the model does something else.
    fn new(model: &Model, opened: Opened) -> Option<Self>;
}

impl OfTask for Served {
    const TASK: Task = Task::Generate;

    fn new(model: &Model, opened: Opened) -> Option<Self> {
        let engine = opened.generator()?;
        let fingerprint = fingerprint(engine.info(), model);
        let digest = model.digest.clone().or_else(|| engine.info().digest.clone());
        let (name, lock) = (model.name.clone(), model.lock.clone());
        Some(Self { name, engine, fingerprint, digest, lock })
    }
}

impl OfTask for ServedEmbedder {
    const TASK: Task = Task::Embed;

    fn new(model: &Model, opened: Opened) -> Option<Self> {
        Some(Self { name: model.name.clone(), embedder: opened.embedder()? })
    }
}

/// One word for what answers: it changes with the program's version, with that of its arithmetic,
/// and with the model's file where its digest is known; else only with the model's name and shape,
/// so that two files of one shape look the same. The instruction set and the threads are not in
/// it, since they change no result.
///
/// Of a model that is held to a lock it goes on with the version of the arithmetic and the first
/// digits of what the lock says, which `freehold why` shows: `fp_0123456789abcdef_n1_0123456789ab`.
fn fingerprint(info: &ModelInfo, model: &Model) -> String {
    let parts = format!(
        "{VERSION} {NUMERICS_VERSION} {} {} {} {} {} {} {}",
        model.digest.as_deref().unwrap_or_default(),
        info.architecture,
        info.name.as_deref().unwrap_or_default(),
        info.n_layers,
        info.n_vocab,
        info.n_ctx_train,
        info.weight_bytes
    );
    // FNV-1a, 64 bits: no secret, only a short name that stays the same from start to start.
    let hash = parts.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    match &model.lock {
        None => format!("fp_{hash:016x}"),
        Some(lock) => {
            let lock = lock.get(..N_LOCK_DIGITS).unwrap_or(lock);
            format!("fp_{hash:016x}_n{NUMERICS_VERSION}_{lock}")
        }
    }
}
