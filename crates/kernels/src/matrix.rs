//! Weight matrices in the packed strip layout.
//!
//! A matrix of `n_rows × n_cols` is `ceil(n_rows / 16)` strips of 16 rows; the last is padded with
//! zero rows. A strip of a quantised format is one code area (sub-block after sub-block, see
//! `planes.rs`) followed by one scale area (block after block); a strip of a float format is
//! `[n_cols][16]`. Either way a row is a lane, so each output element is one lane with one fixed
//! order of operations: results cannot depend on batch, thread count or instruction set. Packed and
//! unpacked sizes are equal but for the padding.

use crate::Cpu;
use crate::arena::{Arena, Piece};
use crate::format::{Format, QuantFormat, QuantVisitor};
use crate::formats::float::FloatFormat;
use crate::isa::LANES;
use crate::isa::portable::Portable;
use crate::planes::{Codes, Planes, SUB_LEN};

/// A weight matrix, packed for multiplication.
pub struct Matrix {
    format: Format,
    n_rows: usize,
    n_cols: usize,
    strip_bytes: usize,
    data: Piece,
}

/// The bytes given do not make the matrix asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// Rows are a whole number of blocks.
    #[error("row of {n_cols} {format} weights: expected a multiple of {block_len}")]
    RowLength {
        /// Columns asked for.
        n_cols: usize,
        /// Name of the format.
        format: &'static str,
        /// Weights of a block.
        block_len: usize,
    },
    /// The data are too short or too long.
    #[error("{format} matrix [{n_rows}, {n_cols}]: {found} bytes, expected {expected}")]
    Size {
        /// Rows asked for.
        n_rows: usize,
        /// Columns asked for.
        n_cols: usize,
        /// Name of the format.
        format: &'static str,
        /// Bytes given.
        found: usize,
        /// Bytes such a matrix has.
        expected: usize,
    },
    /// The size does not fit in memory.
    #[error("{format} matrix [{n_rows}, {n_cols}]: its size overflows")]
    Overflow {
        /// Rows asked for.
        n_rows: usize,
        /// Columns asked for.
        n_cols: usize,
        /// Name of the format.
        format: &'static str,
    },
}

impl Matrix {
    /// Output elements.
    pub fn n_rows(&self) -> usize {
        self.n_rows
    }
    /// Input elements.
    pub fn n_cols(&self) -> usize {
        self.n_cols
    }
    /// Format of the weights.
    pub fn format(&self) -> Format {
        self.format
    }
    /// Bytes of memory held, padding included.
    pub fn n_bytes(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn n_strips(&self) -> usize {
        self.n_rows.div_ceil(LANES)
    }
    pub(crate) fn strip(&self, idx: usize) -> &[u8] {
        &self.data[idx * self.strip_bytes..][..self.strip_bytes]
    }

    /// Writes row `row` as `f32` to `out`, which is `[n_cols]`.
    ///
    /// # Panics
    /// If `row` is not below `n_rows` or `out` has another length.
    pub fn dequantize_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n_rows, "row {row} of a matrix of {} rows", self.n_rows);
        assert_eq!(out.len(), self.n_cols, "dequantize_row: output length");
        struct Row<'a> {
            strip: &'a [u8],
            lane: usize,
            out: &'a mut [f32],
        }
        impl QuantVisitor for Row<'_> {
            type Output = ();
            fn quantised<Q: QuantFormat>(self) {
                let scale_area = self.out.len() / SUB_LEN * Q::Planes::BYTES;
                for (sub_idx, out) in self.out.chunks_exact_mut(SUB_LEN).enumerate() {
                    let codes =
                        Q::Planes::get(&self.strip[sub_idx * Q::Planes::BYTES..], self.lane);
                    let subs = Q::BLOCK_LEN / SUB_LEN;
                    let packed = &self.strip[scale_area + sub_idx / subs * Q::SCALE_BYTES..];
                    let scales = Q::scales(Portable, packed, sub_idx % subs);
                    for (col, (out, code)) in out.iter_mut().zip(codes).enumerate() {
                        let factor = scales.factor[col / 16][self.lane];
                        let offset = scales.offset[col / 16][self.lane];
                        *out = dequantized::<Q>(code, factor, offset);
                    }
                }
            }
            fn float<W: FloatFormat>(self) {
                for (col, out) in self.out.iter_mut().enumerate() {
                    *out = W::value(&self.strip[(col * LANES + self.lane) * W::BYTES..]);
                }
            }
        }
        self.format.visit(Row { strip: self.strip(row / LANES), lane: row % LANES, out });
    }
}

/// The value of a code, as every GGUF reader defines it.
pub(crate) fn dequantized<Q: QuantFormat>(code: u8, factor: f32, offset: f32) -> f32 {
    let code = if Q::Planes::SIGNED { i32::from(code as i8) } else { i32::from(code) };
    let value = factor * (code - Q::ZERO_POINT) as f32;
    if Q::HAS_OFFSET { value + offset } else { value }
}

impl Cpu {
    /// Packs a matrix into memory of its own; see [`Cpu::pack_into`].
    ///
    /// # Errors
    /// As [`Cpu::pack_into`].
    pub fn pack(
        &self,
        format: Format,
        n_rows: usize,
        n_cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, PackError> {
        self.pack_into(&Arena::with_capacity(0), format, n_rows, n_cols, bytes)
    }

    /// Packs a matrix from the bytes of a GGUF tensor of shape `[n_rows, n_cols]`, on all threads,
    /// into memory of `arena`.
    ///
    /// # Errors
    /// If `n_cols` is not a whole number of blocks or `bytes` has another length than such a
    /// matrix.
    pub fn pack_into(
        &self,
        arena: &Arena,
        format: Format,
        n_rows: usize,
        n_cols: usize,
        bytes: &[u8],
    ) -> Result<Matrix, PackError> {
        let (block_len, name) = (format.block_len(), format.name());
        if !n_cols.is_multiple_of(block_len) {
            return Err(PackError::RowLength { n_cols, format: name, block_len });
        }
        let overflow = PackError::Overflow { n_rows, n_cols, format: name };
        let row_bytes =
            (n_cols / block_len).checked_mul(format.block_bytes()).ok_or(overflow.clone())?;
        let expected = row_bytes.checked_mul(n_rows).ok_or(overflow.clone())?;
        if bytes.len() != expected {
            let found = bytes.len();
            return Err(PackError::Size { n_rows, n_cols, format: name, found, expected });
        }
        let strip_bytes = row_bytes.checked_mul(LANES).ok_or(overflow.clone())?;
        let n_bytes = strip_bytes.checked_mul(n_rows.div_ceil(LANES)).ok_or(overflow)?;
        let mut data = arena.take(n_bytes);
        if strip_bytes > 0 {
            self.for_each_chunk(&mut data, strip_bytes, |strip_idx, strip| {
                let first = strip_idx * LANES * row_bytes;
                let last = (first + LANES * row_bytes).min(bytes.len());
                format.visit(PackStrip { rows: &bytes[first..last], row_bytes, strip });
            });
        }
        Ok(Matrix { format, n_rows, n_cols, strip_bytes, data })
    }
}

/// Packs up to 16 rows into one zeroed strip.
struct PackStrip<'a> {
    rows: &'a [u8],
    row_bytes: usize,
    strip: &'a mut [u8],
}

impl QuantVisitor for PackStrip<'_> {
    type Output = ();

    fn quantised<Q: QuantFormat>(self) {
        let n_blocks = self.row_bytes / Q::BLOCK_BYTES;
        let n_subs = Q::BLOCK_LEN / SUB_LEN;
        let (codes_area, scale_area) =
            self.strip.split_at_mut(n_blocks * n_subs * Q::Planes::BYTES);
        let zero = vec![0u8; Q::BLOCK_BYTES];
        let codes_of_block = codes_area.chunks_exact_mut(n_subs * Q::Planes::BYTES);
        let scales_of_block = scale_area.chunks_exact_mut(Q::SCALE_BYTES);
        for (block_idx, (codes_out, scales_out)) in codes_of_block.zip(scales_of_block).enumerate()
        {
            let blocks: [&[u8]; LANES] = std::array::from_fn(|row| {
                let at = row * self.row_bytes + block_idx * Q::BLOCK_BYTES;
                self.rows.get(at..at + Q::BLOCK_BYTES).unwrap_or(&zero)
            });
            for (sub, out) in codes_out.chunks_exact_mut(Q::Planes::BYTES).enumerate() {
                // The length said once more spares a check for each byte.
                let codes: Codes =
                    std::array::from_fn(|row| Q::codes(&blocks[row][..Q::BLOCK_BYTES], sub));
                Q::Planes::put(&codes, out);
            }
            Q::pack_scales(&blocks, scales_out);
        }
    }

    fn float<W: FloatFormat>(self) {
        // Some columns of all rows at a time, so that what is written stays in the first cache.
        const N_COLS: usize = 64;
        for (tile_idx, tile) in self.strip.chunks_mut(N_COLS * LANES * W::BYTES).enumerate() {
            let first = tile_idx * N_COLS * W::BYTES;
            let tile_row_bytes = tile.len() / LANES;
            for (row, weights) in self.rows.chunks_exact(self.row_bytes).enumerate() {
                let weights = weights[first..first + tile_row_bytes].chunks_exact(W::BYTES);
                for (out, weight) in tile.chunks_exact_mut(LANES * W::BYTES).zip(weights) {
                    out[row * W::BYTES..(row + 1) * W::BYTES].copy_from_slice(weight);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::test_data::random_matrix;

    #[test]
    fn rows_of_a_packed_matrix_are_the_rows_of_the_file() {
        let cpu = Cpu::new(crate::Isa::Portable, 2);
        for format in Format::ALL {
            for (n_rows, n_cols) in [(1, 256), (15, 512), (16, 256), (33, 768)] {
                let bytes = random_matrix(format, n_rows, n_cols, 3);
                let matrix = cpu.pack(format, n_rows, n_cols, &bytes).unwrap();
                let mut row = vec![0.0; n_cols];
                for row_idx in 0..n_rows {
                    matrix.dequantize_row(row_idx, &mut row);
                    let expected = reference::row(format, n_cols, &bytes, row_idx);
                    let bits = |row: &[f32]| row.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&row), bits(&expected), "{} row {row_idx}", format.name());
                }
            }
        }
    }

    #[test]
    fn packing_neither_grows_nor_shrinks_whole_strips() {
        let cpu = Cpu::new(crate::Isa::Portable, 1);
        for format in Format::ALL {
            let bytes = random_matrix(format, 32, 512, 5);
            let matrix = cpu.pack(format, 32, 512, &bytes).unwrap();
            assert_eq!(matrix.n_bytes(), bytes.len(), "{}", format.name());
        }
    }

    #[test]
    fn wrong_sizes_are_refused_with_numbers() {
        let cpu = Cpu::new(crate::Isa::Portable, 1);
        let message = |result: Result<Matrix, PackError>| result.err().unwrap().to_string();
        let short = message(cpu.pack(Format::Q4_0, 2, 64, &[0; 71]));
        assert_eq!(short, "Q4_0 matrix [2, 64]: 71 bytes, expected 72");
        let odd = message(cpu.pack(Format::Q4_K, 2, 320, &[0; 72]));
        assert_eq!(odd, "row of 320 Q4_K weights: expected a multiple of 256");
        let odd = message(cpu.pack(Format::Q2_K, 2, 320, &[0; 210]));
        assert_eq!(odd, "row of 320 Q2_K weights: expected a multiple of 256");
        let huge = message(cpu.pack(Format::F32, usize::MAX / 2, 1024, &[]));
        assert!(huge.contains("overflows"), "{huge}");
    }
}
