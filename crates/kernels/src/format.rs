//! Weight formats: the list, and what each must say of itself.
//!
//! A quantised value is `scale · (code - zero point) + offset`; where the file has indices into a
//! table, the code is what the table holds. A format tells how codes and scales
//! lie in the file ([`QuantFormat::codes`], [`QuantFormat::block_scales`]: scalar and obvious, the
//! definition) and how the scales of 16 rows lie in a packed strip; where the codes go is one of
//! the layouts of `planes.rs`. No format knows an instruction set. Layouts follow ggml's
//! `ggml-common.h` block structures. One more format is one more file in `formats/` and one line in
//! each list below.

use crate::isa::{LANES, Simd};
use crate::planes::Planes;

/// A weight format of GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(non_camel_case_types, missing_docs)] // the names of the field
pub enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
    MXFP4,
}

/// Calls `$callback!(Format::X => Type, …)` with every quantised format.
macro_rules! for_quantised {
    ($callback:ident) => {
        $callback! {
            Q4_0 => crate::formats::q4_0::Q4_0,
            Q4_1 => crate::formats::q4_1::Q4_1,
            Q5_0 => crate::formats::q5_0::Q5_0,
            Q5_1 => crate::formats::q5_1::Q5_1,
            Q8_0 => crate::formats::q8_0::Q8_0,
            Q2_K => crate::formats::q2_k::Q2K,
            Q3_K => crate::formats::q3_k::Q3K,
            Q4_K => crate::formats::q4_k::Q4K,
            Q5_K => crate::formats::q5_k::Q5K,
            Q6_K => crate::formats::q6_k::Q6K,
            IQ4_NL => crate::formats::iq4_nl::Iq4Nl,
            IQ4_XS => crate::formats::iq4_xs::Iq4Xs,
            MXFP4 => crate::formats::mxfp4::Mxfp4,
        }
    };
}

/// Calls a method of [`QuantVisitor`] with the format as a type.
pub(crate) trait QuantVisitor {
    type Output;
    fn quantised<Q: QuantFormat>(self) -> Self::Output;
    fn float<W: crate::formats::float::FloatFormat>(self) -> Self::Output;
}

impl Format {
    /// Every format that can be computed with.
    pub const ALL: [Format; 16] = [
        Format::F32,
        Format::F16,
        Format::BF16,
        Format::Q4_0,
        Format::Q4_1,
        Format::Q5_0,
        Format::Q5_1,
        Format::Q8_0,
        Format::Q2_K,
        Format::Q3_K,
        Format::Q4_K,
        Format::Q5_K,
        Format::Q6_K,
        Format::IQ4_NL,
        Format::IQ4_XS,
        Format::MXFP4,
    ];

    /// The format with this tensor type id in GGUF files, if it can be computed with.
    pub fn from_gguf_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.gguf_id() == id)
    }

    /// The tensor type id in GGUF files (`ggml_type`).
    pub fn gguf_id(self) -> u32 {
        match self {
            Format::F32 => 0,
            Format::F16 => 1,
            Format::Q4_0 => 2,
            Format::Q4_1 => 3,
            Format::Q5_0 => 6,
            Format::Q5_1 => 7,
            Format::Q8_0 => 8,
            Format::Q2_K => 10,
            Format::Q3_K => 11,
            Format::Q4_K => 12,
            Format::Q5_K => 13,
            Format::Q6_K => 14,
            Format::IQ4_NL => 20,
            Format::IQ4_XS => 23,
            Format::BF16 => 30,
            Format::MXFP4 => 39,
        }
    }

    /// The name used in the field, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        match self {
            Format::F32 => "F32",
            Format::F16 => "F16",
            Format::BF16 => "BF16",
            Format::Q4_0 => "Q4_0",
            Format::Q4_1 => "Q4_1",
            Format::Q5_0 => "Q5_0",
            Format::Q5_1 => "Q5_1",
            Format::Q8_0 => "Q8_0",
            Format::Q2_K => "Q2_K",
            Format::Q3_K => "Q3_K",
            Format::Q4_K => "Q4_K",
            Format::Q5_K => "Q5_K",
            Format::Q6_K => "Q6_K",
            Format::IQ4_NL => "IQ4_NL",
            Format::IQ4_XS => "IQ4_XS",
            Format::MXFP4 => "MXFP4",
        }
    }

    /// Weights of a block: a row is a whole number of blocks.
    pub fn block_len(self) -> usize {
        struct Len;
        impl QuantVisitor for Len {
            type Output = usize;
            fn quantised<Q: QuantFormat>(self) -> usize {
                Q::BLOCK_LEN
            }
            fn float<W: crate::formats::float::FloatFormat>(self) -> usize {
                1
            }
        }
        self.visit(Len)
    }

    /// Bytes of a block in the file.
    pub fn block_bytes(self) -> usize {
        struct Bytes;
        impl QuantVisitor for Bytes {
            type Output = usize;
            fn quantised<Q: QuantFormat>(self) -> usize {
                Q::BLOCK_BYTES
            }
            fn float<W: crate::formats::float::FloatFormat>(self) -> usize {
                W::BYTES
            }
        }
        self.visit(Bytes)
    }

    /// Whether weights are integers with scales, so that activations are quantised too.
    pub fn is_quantised(self) -> bool {
        self.block_len() > 1
    }

    pub(crate) fn visit<V: QuantVisitor>(self, visitor: V) -> V::Output {
        macro_rules! arms {
            ($($name:ident => $ty:ty,)*) => {
                match self {
                    $(Format::$name => visitor.quantised::<$ty>(),)*
                    Format::F32 => visitor.float::<crate::formats::float::F32>(),
                    Format::F16 => visitor.float::<crate::formats::float::F16>(),
                    Format::BF16 => visitor.float::<crate::formats::float::Bf16>(),
                }
            };
        }
        for_quantised!(arms)
    }
}

/// The scales of one sub-block (32 columns) of one row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(not(test), allow(dead_code))] // of the definition, which tests hold the kernels to
pub(crate) struct Scale {
    /// Of the first and the second 16 columns.
    pub(crate) factor: [f32; 2],
    /// Added to each weight of the two halves; 0 for formats without.
    pub(crate) offset: [f32; 2],
}

/// The scales of one sub-block of 16 rows, a row a lane.
pub(crate) struct Scales<S: Simd> {
    pub(crate) factor: [S::F; 2],
    pub(crate) offset: [S::F; 2],
}

/// A quantised format: where its codes and scales are, in the file and in a packed strip.
pub(crate) trait QuantFormat {
    /// Weights of a block; a multiple of 32.
    const BLOCK_LEN: usize;
    /// Bytes of a block in the file.
    const BLOCK_BYTES: usize;
    /// Bytes of the scales of 16 rows of one block in a packed strip.
    const SCALE_BYTES: usize;
    /// Subtracted from each code.
    const ZERO_POINT: i32;
    /// Whether weights have an offset beside the scale.
    const HAS_OFFSET: bool;
    /// Whether scales (and offsets) change every 16 columns.
    const HALVES: bool;
    /// How codes lie in a packed strip.
    type Planes: Planes;

    /// The codes of a block in column order, 32 at a time.
    fn codes(block: &[u8], sub: usize) -> [u8; 32];
    /// The scales of sub-block `sub` of a block.
    #[cfg_attr(not(test), allow(dead_code))] // the definition, which tests hold the kernels to
    fn block_scales(block: &[u8], sub: usize) -> Scale;
    /// Lays out the scales of 16 blocks, one of each row, in `out`, `SCALE_BYTES` long.
    fn pack_scales(blocks: &[&[u8]; LANES], out: &mut [u8]);
    /// Reads the scales of sub-block `sub` of a block from what `pack_scales` wrote.
    fn scales<S: Simd>(simd: S, packed: &[u8], sub: usize) -> Scales<S>;
}
