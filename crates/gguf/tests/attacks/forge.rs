//! Builds files byte by byte, lies included: the writer of the crate would refuse them.

/// Bytes of a file so far. Each method appends, little-endian.
#[derive(Clone, Default)]
pub(crate) struct Forge(Vec<u8>);

/// The ids of value types that attacks use.
pub(crate) mod value_type {
    pub(crate) const U8: u32 = 0;
    pub(crate) const U16: u32 = 2;
    pub(crate) const U32: u32 = 4;
    pub(crate) const I32: u32 = 5;
    pub(crate) const F32: u32 = 6;
    pub(crate) const BOOL: u32 = 7;
    pub(crate) const STRING: u32 = 8;
    pub(crate) const ARRAY: u32 = 9;
}

impl Forge {
    /// An honest header of version 3.
    pub(crate) fn header(n_tensors: u64, n_entries: u64) -> Self {
        Self::default().raw(b"GGUF").u32(3).u64(n_tensors).u64(n_entries)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub(crate) fn u8(self, x: u8) -> Self {
        self.raw(&[x])
    }

    pub(crate) fn u32(self, x: u32) -> Self {
        self.raw(&x.to_le_bytes())
    }

    pub(crate) fn u64(self, x: u64) -> Self {
        self.raw(&x.to_le_bytes())
    }

    /// A length and as many bytes.
    pub(crate) fn string(self, bytes: &[u8]) -> Self {
        self.u64(bytes.len() as u64).raw(bytes)
    }

    /// A key and the type of the value that follows.
    pub(crate) fn key(self, key: &str, value_type: u32) -> Self {
        self.string(key.as_bytes()).u32(value_type)
    }

    /// An entry of the splitting, which files write with 16 bits.
    pub(crate) fn split_u16(self, key: &str, x: u16) -> Self {
        self.key(key, value_type::U16).raw(&x.to_le_bytes())
    }

    /// A tensor entry; `dims` are in file order, fastest first.
    pub(crate) fn tensor(self, name: &str, dims: &[u64], type_id: u32, offset: u64) -> Self {
        let named = self.string(name.as_bytes()).u32(dims.len() as u32);
        dims.iter().fold(named, |file, &dim| file.u64(dim)).u32(type_id).u64(offset)
    }

    /// Padding to 32 bytes, then data.
    pub(crate) fn data(mut self, n_bytes: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + n_bytes, 0x5a);
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0
    }
}
