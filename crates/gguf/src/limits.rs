//! The bounds of the reader, each with its reason.
//!
//! Before any of them counts, a count or length is held against the bytes that are left in the
//! file; these bounds keep a large hostile file from costing more memory than its own size.

/// Entries of metadata in a file. Published files have about 50; those with an entry per
/// tensor stay below 10,000.
pub const MAX_METADATA: u64 = 1 << 16;

/// Tensors in a file, over all parts. The largest expert models have some 100,000 when
/// converters leave the experts apart.
pub const MAX_TENSORS: u64 = 1 << 18;

/// Bytes of a key: the format's own bound.
pub const MAX_KEY_BYTES: u64 = (1 << 16) - 1;

/// Bytes of a tensor's name. The format says 64; builds of ggml with longer names exist.
pub const MAX_TENSOR_NAME_BYTES: u64 = 512;

/// Bytes of one string value. The largest seen is an embedded `tokenizer.json` of 33 MB.
pub const MAX_STRING_BYTES: u64 = 1 << 28;

/// Bytes of the strings of one array together, so that 32-bit offsets suffice.
pub const MAX_STRINGS_BYTES: u64 = u32::MAX as u64;

/// Elements of one array. The largest vocabularies have 2^18 entries, merges 2^20.
pub const MAX_ARRAY_LEN: u64 = 1 << 26;

/// Arrays within arrays: no published key goes beyond 2.
pub const MAX_NESTING: usize = 4;

/// Inner arrays in a file: each costs more memory than the 12 bytes it takes in the file.
pub const MAX_INNER_ARRAYS: usize = 1 << 12;

/// Dimensions of a tensor: ggml's own bound.
pub const MAX_DIMS: u32 = 4;

/// Bytes that `general.alignment` may ask for. Published files say 32; a page is 4,096 to 65,536.
pub const MAX_ALIGNMENT: u32 = 1 << 16;

/// Parts of a split file. The format's counter has 16 bits; 5 digits stand in the name.
pub const MAX_PARTS: u32 = 1 << 12;
