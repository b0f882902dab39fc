//! A model that is open, whatever it does: it writes text, or it makes vectors of texts.

use crate::embedder::Embedder;
use crate::engine::Engine;
use crate::error::EngineError;
use crate::options::{EngineOptions, ModelInfo};
use gguf::Gguf;
use std::path::Path;

/// What a model does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// It writes text: [`Engine`].
    Generate,
    /// It makes vectors of texts: [`Embedder`].
    Embed,
}

impl Task {
    /// What the model of a file does; a file that nothing can run counts as one that writes text.
    ///
    /// # Errors
    /// The file cannot be read as GGUF.
    pub fn of(path: &Path) -> Result<Self, EngineError> {
        let is_encoder = model::is_encoder(&Gguf::open(path)?);
        Ok(if is_encoder { Self::Embed } else { Self::Generate })
    }
}

/// An open model. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Opened {
    /// It writes text.
    Generator(Engine),
    /// It makes vectors of texts.
    Embedder(Embedder),
}

impl Opened {
    /// Opens the model at `path` as what it is.
    ///
    /// # Errors
    /// As [`Engine::open`] and [`Embedder::open`].
    pub fn open(path: &Path, options: &EngineOptions) -> Result<Self, EngineError> {
        match Task::of(path)? {
            Task::Generate => Engine::open(path, options).map(Self::from),
            Task::Embed => Embedder::open(path, options).map(Self::from),
        }
    }

    /// What runs here.
    pub fn info(&self) -> &ModelInfo {
        match self {
            Self::Generator(engine) => engine.info(),
            Self::Embedder(embedder) => embedder.info(),
        }
    }

    /// The engine, of a model that writes text.
    pub fn generator(self) -> Option<Engine> {
        match self {
            Self::Generator(engine) => Some(engine),
            Self::Embedder(_) => None,
        }
    }

    /// The embedder, of a model that makes vectors.
    pub fn embedder(self) -> Option<Embedder> {
        match self {
            Self::Generator(_) => None,
            Self::Embedder(embedder) => Some(embedder),
        }
    }

    /// Whether it has ended and takes nothing more.
    pub fn is_stopped(&self) -> bool {
        // An embedder has no thread that could end.
        matches!(self, Self::Generator(engine) if engine.is_stopped())
    }

    /// Whether somebody else holds it too.
    pub(crate) fn is_shared(&self) -> bool {
        match self {
            Self::Generator(engine) => engine.is_shared(),
            Self::Embedder(embedder) => embedder.is_shared(),
        }
    }
}

impl From<Engine> for Opened {
    fn from(engine: Engine) -> Self {
        Self::Generator(engine)
    }
}

impl From<Embedder> for Opened {
    fn from(embedder: Embedder) -> Self {
        Self::Embedder(embedder)
    }
}
