//! The directory entry of a tensor, and the table of ggml's storage types.
//!
//! The table knows how many bytes a block takes and nothing of what the bytes mean; that is
//! the business of `kernels`. Ids, names and sizes follow `ggml.h` and `ggml-common.h`.

use std::fmt;

/// How the elements of a tensor are stored. Exists only for ids of the table below.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorType(u32);

/// One row: id, name, elements per block, bytes per block.
struct Row(u32, &'static str, usize, usize);

/// Declares the constants and the table from one list, so that they cannot disagree.
macro_rules! tensor_types {
    ($($id:literal $name:ident $block_len:literal $block_bytes:literal,)*) => {
        impl TensorType {
            $(#[doc = concat!("`", stringify!($name), "`: ", $block_len, " elements in ", $block_bytes, " bytes.")]
            pub const $name: Self = Self($id);)*

            /// Every known type, by id.
            pub const ALL: &'static [Self] = &[$(Self($id),)*];
        }
        const TABLE: &[Row] = &[$(Row($id, stringify!($name), $block_len, $block_bytes),)*];
    };
}

// Ids that are missing here were withdrawn from ggml (4, 5, 31 to 33, 36 to 38).
tensor_types! {
    0 F32 1 4,
    1 F16 1 2,
    2 Q4_0 32 18,
    3 Q4_1 32 20,
    6 Q5_0 32 22,
    7 Q5_1 32 24,
    8 Q8_0 32 34,
    9 Q8_1 32 36,
    10 Q2_K 256 84,
    11 Q3_K 256 110,
    12 Q4_K 256 144,
    13 Q5_K 256 176,
    14 Q6_K 256 210,
    15 Q8_K 256 292,
    16 IQ2_XXS 256 66,
    17 IQ2_XS 256 74,
    18 IQ3_XXS 256 98,
    19 IQ1_S 256 50,
    20 IQ4_NL 32 18,
    21 IQ3_S 256 110,
    22 IQ2_S 256 82,
    23 IQ4_XS 256 136,
    24 I8 1 1,
    25 I16 1 2,
    26 I32 1 4,
    27 I64 1 8,
    28 F64 1 8,
    29 IQ1_M 256 56,
    30 BF16 1 2,
    34 TQ1_0 256 54,
    35 TQ2_0 256 66,
    39 MXFP4 32 17,
    40 NVFP4 64 36,
    41 Q1_0 128 18,
}

impl TensorType {
    /// The largest id of the table.
    pub const MAX_ID: u32 = TABLE[TABLE.len() - 1].0;

    /// The type with this id in a file, or `None` where ggml defines none (that we know of).
    pub fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().any(|row| row.0 == id).then_some(Self(id))
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.0 == self.0).expect("each TensorType is made from the table")
    }

    /// The id in a file.
    pub fn id(self) -> u32 {
        self.0
    }

    /// The name as ggml writes it, as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements per block; 1 for plain numbers. A row of a tensor is a whole number of blocks.
    pub fn block_len(self) -> usize {
        self.row().2
    }

    /// Bytes per block.
    pub fn block_bytes(self) -> usize {
        self.row().3
    }

    /// The bytes of a tensor of this shape (slowest dimension first), or why there is none such.
    pub(crate) fn bytes_of(self, shape: &[usize]) -> Result<usize, String> {
        let Some(&n_cols) = shape.last() else {
            return Err("0 dimensions, expected at least 1".to_owned());
        };
        if shape.contains(&0) {
            return Err(format!("shape {shape:?}, expected no dimension of 0"));
        }
        let block_len = self.block_len();
        if !n_cols.is_multiple_of(block_len) {
            return Err(format!(
                "rows of {n_cols} elements, expected a multiple of the {block_len} in a block \
                 of {self}"
            ));
        }
        let n_elements = shape.iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim));
        let n_bytes = n_elements.and_then(|n| (n / block_len).checked_mul(self.block_bytes()));
        n_bytes.ok_or_else(|| format!("shape {shape:?} of {self} is larger than any memory"))
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The directory entry of one tensor. Its bytes: [`Gguf::data`](crate::Gguf::data).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, as `blk.0.attn_q.weight`; unique over all parts.
    pub name: String,
    /// 1 to 4 dimensions, slowest first: a matrix is `[n_rows, n_cols]`. (The file has them the
    /// other way round.) No dimension is 0 and the product fits `usize`.
    pub shape: Vec<usize>,
    /// How the elements are stored.
    pub ty: TensorType,
    /// Which part of a split file holds the bytes.
    pub(crate) part: usize,
    /// Where they start, from the start of that part.
    pub(crate) start: usize,
    /// How many there are; `start + n_bytes` lies within the part.
    pub(crate) n_bytes: usize,
}

impl TensorInfo {
    /// The number of elements.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The number of bytes in the file, padding not counted.
    pub fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// The number of rows: the product of all dimensions but the last.
    pub fn n_rows(&self) -> usize {
        self.shape[..self.shape.len() - 1].iter().product()
    }

    /// The length of a row: the last dimension.
    pub fn n_cols(&self) -> usize {
        self.shape[self.shape.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_and_come_back() {
        assert!(TensorType::ALL.is_sorted_by_key(|ty| ty.id()));
        for id in 0..100 {
            let known = TensorType::from_id(id);
            assert_eq!(known.is_some(), TensorType::ALL.iter().any(|ty| ty.id() == id));
            assert!(known.is_none_or(|ty| ty.id() == id && id <= TensorType::MAX_ID));
        }
    }

    #[test]
    fn bytes_are_whole_blocks() {
        #[track_caller]
        fn check(ty: TensorType, shape: &[usize], n_bytes: usize) {
            assert_eq!(ty.bytes_of(shape), Ok(n_bytes));
        }
        check(TensorType::F32, &[3], 12);
        check(TensorType::Q4_K, &[2, 512], 2 * 2 * 144);
        check(TensorType::Q8_0, &[2, 3, 4, 32], 2 * 3 * 4 * 34);
        check(TensorType::MXFP4, &[64], 34);
    }
}
