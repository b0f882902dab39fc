//! Reads, checks and writes GGUF files: metadata and a tensor directory over a mapping.
//!
//! A GGUF file is a header, a list of metadata entries (typed values under names such as
//! `llama.block_count`), a list of tensors (name, shape, storage type, offset) and their bytes.
//! [`Gguf::open`] maps the file, copies metadata and directory out and checks every one of their
//! lengths, counts and offsets; afterwards nothing about the structure can fail.
//!
//! ```
//! use gguf::{Gguf, TensorType, write::Writer};
//!
//! let bytes = Writer::new()
//!     .metadata("general.architecture", "llama")
//!     .metadata("llama.block_count", 2_u32)
//!     .tensor("output_norm.weight", &[4], TensorType::F32, vec![0; 16])
//!     .finish()?;
//!
//! let file = Gguf::from_bytes(bytes)?; // or Gguf::open(path)
//! assert_eq!(file.metadata().require_u32("llama.block_count")?, 2);
//! assert_eq!(file.metadata().str("general.name")?, None);
//! for tensor in file.tensors() {
//!     assert_eq!(file.data(tensor).len(), tensor.n_bytes());
//! }
//! # Ok::<(), gguf::Error>(())
//! ```
//!
//! What this crate does not know: what a key or a tensor means, and what the bytes of a block
//! say. The files are hostile until checked: each refusal is an [`Error`] that names place, value
//! and expectation, and the bounds stand in [`limits`]. The format follows `docs/gguf.md` of ggml:
//! versions 2 and 3, little-endian, whole or split.
//!
//! A file that is open must not be truncated or rewritten by others: as with every program that
//! maps its weights, truncation ends the process when the missing pages are touched.

mod cursor;
mod error;
pub mod limits;
mod metadata;
mod read;
pub mod split;
mod storage;
mod tensor;
mod value;
pub mod write;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use error::Quoted;
use storage::Storage;

pub use error::Error;
pub use metadata::Metadata;
pub use tensor::{TensorInfo, TensorType};
pub use value::{Array, Strings, Value};

/// An open GGUF file, or all parts of a split one.
pub struct Gguf {
    version: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    parts: Vec<Storage>,
    files: Vec<PathBuf>,
}

impl Gguf {
    /// Maps a file and checks it. Given any part of a split file, opens all parts.
    ///
    /// # Errors
    /// [`Error::Io`] when the system refuses, [`Error::UnknownTensorType`] for a tensor in an
    /// unknown format, [`Error::Malformed`] for everything else that is wrong.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let parts = split::open_parts(path)?;
        let version = parts[0].directory.version;
        let mut whole = Self {
            version,
            metadata: Metadata::default(),
            tensors: Vec::new(),
            by_name: HashMap::new(),
            parts: Vec::with_capacity(parts.len()),
            files: Vec::with_capacity(parts.len()),
        };
        for (part_idx, part) in parts.into_iter().enumerate() {
            if part_idx == 0 {
                whole.metadata = part.directory.metadata;
            }
            let added = whole.add_tensors(part_idx, part.directory.tensors);
            added.map_err(|e| e.in_file(&part.path))?;
            whole.parts.push(part.storage);
            whole.files.push(part.path);
        }
        Ok(whole)
    }

    /// Checks a whole file that is in memory already.
    ///
    /// # Errors
    /// As [`Gguf::open`]; also for one part of a split file, whose siblings cannot be found.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        let directory = read::read(&bytes)?;
        if let Some(keys) = split::SplitKeys::of(&directory.metadata)? {
            let (no, n) = (keys.part_idx + 1, keys.n_parts);
            let problem = format!("part {no} of {n}, expected a whole file or the parts' paths");
            return Err(Error::malformed("split file", problem));
        }
        let mut whole = Self {
            version: directory.version,
            metadata: directory.metadata,
            tensors: Vec::new(),
            by_name: HashMap::new(),
            parts: vec![Storage::Owned(bytes)],
            files: Vec::new(),
        };
        whole.add_tensors(0, directory.tensors)?;
        Ok(whole)
    }

    /// Takes over the tensors of a part; a name may not come twice.
    fn add_tensors(&mut self, part_idx: usize, tensors: Vec<TensorInfo>) -> Result<(), Error> {
        self.tensors.reserve(tensors.len());
        self.by_name.reserve(tensors.len());
        for mut tensor in tensors {
            tensor.part = part_idx;
            if self.by_name.insert(tensor.name.clone(), self.tensors.len()).is_some() {
                let place = format!("tensor {}", Quoted(&tensor.name));
                return Err(Error::malformed(place, "is in an earlier part too, expected once"));
            }
            self.tensors.push(tensor);
        }
        Ok(())
    }

    /// The version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The metadata; of a split file that of its first part, which has all that is not about the
    /// splitting itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// All tensors, in file order, part after part.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.by_name.get(name).map(|&idx| &self.tensors[idx])
    }

    /// The bytes of a tensor of this file, `tensor.n_bytes()` of them. Extents were checked at
    /// open, so this cannot fail; the first touch of a mapped page reads it from the disk.
    ///
    /// # Panics
    /// Possibly, if `tensor` is of another file: that is the caller's bug.
    pub fn data(&self, tensor: &TensorInfo) -> &[u8] {
        &self.parts[tensor.part][tensor.start..tensor.start + tensor.n_bytes]
    }

    /// Says that the bytes of a tensor will not be wanted for a while, so that this process need
    /// not hold them; they may be read again. The system's cache of the file stays as it is.
    ///
    /// # Panics
    /// Possibly, if `tensor` is of another file: that is the caller's bug.
    pub fn release(&self, tensor: &TensorInfo) {
        self.parts[tensor.part].release(tensor.start..tensor.start + tensor.n_bytes);
    }

    /// The files, in the order of the parts; none when read from memory.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The bytes as they were opened, part after part. A file that has another under its name since
    /// is not looked at.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().map(|part| &**part)
    }

    /// The bytes of all parts together.
    pub fn n_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

impl fmt::Debug for Gguf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gguf")
            .field("version", &self.version)
            .field("files", &self.files)
            .field("n_metadata", &self.metadata.len())
            .field("n_tensors", &self.tensors.len())
            .field("n_bytes", &self.n_bytes())
            .finish()
    }
}
