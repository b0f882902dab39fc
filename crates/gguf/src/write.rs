//! Writes GGUF files.

use std::borrow::Cow;

use crate::{Error, TensorType, Value};

/// Collects metadata and tensors, then writes a file.
#[derive(Default)]
pub struct Writer<'a> {
    version: u32,
    metadata: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<usize>, TensorType, Cow<'a, [u8]>)>,
}

#[allow(clippy::todo)]
impl<'a> Writer<'a> {
    /// An empty file of version 3.
    pub fn new() -> Self {
        Self { version: 3, ..Self::default() }
    }

    /// Adds a key.
    pub fn metadata(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.metadata.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor; `shape` is slowest dimension first.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        ty: TensorType,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        self.tensors.push((name.to_owned(), shape.to_vec(), ty, bytes.into()));
        self
    }

    /// The whole file.
    pub fn finish(&self) -> Result<Vec<u8>, Error> {
        let _ = (self.version, &self.tensors);
        todo!()
    }

    /// Writes the whole file.
    pub fn write_to(&self, out: &mut impl std::io::Write) -> Result<(), Error> {
        let _ = out;
        todo!()
    }
}
