//! Reads, checks and writes GGUF files: metadata and a tensor directory over a mapping.

mod error;
mod metadata;
mod tensor;
mod value;
pub mod write;

use std::path::{Path, PathBuf};

pub use error::Error;
pub use metadata::Metadata;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, Strings, Value};

/// An open GGUF file, or all parts of a split one.
pub struct Gguf {
    _private: (),
}

#[allow(clippy::todo)]
impl Gguf {
    /// Maps a file and checks it; opens all parts when it is one part of a split file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let _ = path;
        todo!()
    }

    /// Reads a file that is already in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        let _ = bytes;
        todo!()
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        todo!()
    }

    /// The metadata (of a split file: of its first part).
    pub fn metadata(&self) -> &Metadata {
        todo!()
    }

    /// All tensors in file order.
    pub fn tensors(&self) -> &[TensorInfo] {
        todo!()
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let _ = name;
        todo!()
    }

    /// The bytes of a tensor of this file.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        let _ = tensor;
        todo!()
    }

    /// The parts, in order; empty when read from memory.
    pub fn files(&self) -> &[PathBuf] {
        todo!()
    }

    /// The bytes of all parts together.
    pub fn n_bytes(&self) -> u64 {
        todo!()
    }
}
