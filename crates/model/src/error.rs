//! What can be wrong with a model file, said with place, value and what was expected.

/// Why a file is not a model this crate can run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file, or a key that must be there, could not be read as GGUF.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// `general.architecture` names nothing that is described here.
    #[error("architecture {name:?} is not known; known are {}", known.join(", "))]
    UnknownArchitecture {
        /// What the file says.
        name: String,
        /// What would have been understood.
        known: Vec<&'static str>,
    },
    /// The model makes vectors of texts and writes none.
    #[error(
        "architecture {name:?} makes embeddings and writes no text; expected one of {}",
        known.join(", ")
    )]
    Encoder {
        /// What the file says.
        name: String,
        /// What writes text.
        known: Vec<&'static str>,
    },
    /// The model makes no vectors of texts.
    #[error("architecture {name:?} makes no embeddings here; expected one of {}", known.join(", "))]
    NoEncoder {
        /// What the file says.
        name: String,
        /// What makes vectors.
        known: Vec<&'static str>,
    },
    /// A metadata value is out of its bounds, or asks for something that is not done here.
    #[error("metadata key {key:?}: {value}, expected {expected}")]
    Metadata {
        /// The full key.
        key: String,
        /// What the file says.
        value: String,
        /// What is accepted.
        expected: String,
    },
    /// A tensor that the architecture needs is absent.
    #[error("tensor {tensor:?} is missing, expected with shape {expected:?}")]
    MissingTensor {
        /// Its name.
        tensor: String,
        /// The shape it should have, slowest dimension first.
        expected: Vec<usize>,
    },
    /// The file holds a tensor that the pass would not use, so the answers would be wrong.
    #[error("tensor {tensor:?} is not part of architecture {architecture:?} as it is known here")]
    UnexpectedTensor {
        /// Its name.
        tensor: String,
        /// The architecture.
        architecture: &'static str,
    },
    /// A tensor's shape contradicts the metadata.
    #[error("tensor {tensor:?}: shape {shape:?}, expected {expected:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// Its shape in the file, slowest dimension first.
        shape: Vec<usize>,
        /// The shape that the metadata demands.
        expected: Vec<usize>,
    },
    /// A tensor's shape is beyond what is accepted from any model.
    #[error("tensor {tensor:?}: shape {shape:?}, expected {expected}")]
    Bounds {
        /// Its name.
        tensor: String,
        /// Its shape in the file, slowest dimension first.
        shape: Vec<usize>,
        /// What is accepted.
        expected: String,
    },
    /// No kernel multiplies by this type.
    #[error("tensor {tensor:?}: type {ty} is not supported, expected one of {supported}")]
    TensorType {
        /// Its name.
        tensor: String,
        /// Its type in the file.
        ty: String,
        /// The names of all types that are.
        supported: String,
    },
    /// The tensor's bytes could not be packed.
    #[error("tensor {tensor:?}")]
    Pack {
        /// Its name.
        tensor: String,
        /// What was wrong.
        source: kernels::PackError,
    },
}
