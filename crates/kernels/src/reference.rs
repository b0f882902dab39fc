//! The slow twin: rows and products straight from the bytes of the file, without packing, vectors
//! or threads. This is what the kernels must equal bit for bit; tests hold them together.

use crate::activations::Precision;
use crate::format::{Format, QuantFormat, QuantVisitor};
use crate::formats::float::FloatFormat;
use crate::matrix::dequantized;
use crate::planes::{Planes, SUB_LEN};

/// Row `row` of a matrix as `f32`.
pub(crate) fn row(format: Format, n_cols: usize, bytes: &[u8], row: usize) -> Vec<f32> {
    let row_bytes = n_cols / format.block_len() * format.block_bytes();
    format.visit(Row { bytes: &bytes[row * row_bytes..][..row_bytes] })
}

struct Row<'a> {
    bytes: &'a [u8],
}

impl QuantVisitor for Row<'_> {
    type Output = Vec<f32>;
    fn quantised<Q: QuantFormat>(self) -> Vec<f32> {
        let mut row = Vec::new();
        for block in self.bytes.chunks_exact(Q::BLOCK_BYTES) {
            for sub in 0..Q::BLOCK_LEN / SUB_LEN {
                let scale = Q::block_scales(block, sub);
                for (col, code) in Q::codes(block, sub).into_iter().enumerate() {
                    let half = col / 16;
                    row.push(dequantized::<Q>(code, scale.factor[half], scale.offset[half]));
                }
            }
        }
        row
    }
    fn float<W: FloatFormat>(self) -> Vec<f32> {
        self.bytes.chunks_exact(W::BYTES).map(W::value).collect()
    }
}

/// `x` is `[n_tokens, n_cols]`; returns `[n_tokens, n_rows]`.
pub(crate) fn matmul(
    format: Format,
    precision: Precision,
    n_cols: usize,
    bytes: &[u8],
    x: &[f32],
) -> Vec<f32> {
    let row_bytes = n_cols / format.block_len() * format.block_bytes();
    let mut out = Vec::new();
    for x in x.chunks_exact(n_cols) {
        for bytes in bytes.chunks_exact(row_bytes) {
            out.push(format.visit(Dot { bytes, x, precision }));
        }
    }
    out
}

struct Dot<'a> {
    bytes: &'a [u8],
    x: &'a [f32],
    precision: Precision,
}

/// The scale and the integers of 32 activations.
pub(crate) fn quantise(precision: Precision, x: &[f32]) -> (f32, [i32; SUB_LEN]) {
    let amax = x.iter().fold(0.0f32, |amax, x| amax.max(x.abs()));
    if amax <= 1e-30 {
        return (0.0, [0; SUB_LEN]);
    }
    let max = precision.max() as f32;
    let inverse = max / amax;
    (amax / max, std::array::from_fn(|i| (x[i] * inverse).round_ties_even() as i32))
}

impl QuantVisitor for Dot<'_> {
    type Output = f32;
    fn quantised<Q: QuantFormat>(self) -> f32 {
        let n_subs = Q::BLOCK_LEN / SUB_LEN;
        let mut y = 0.0f32;
        for (idx, x) in self.x.chunks_exact(SUB_LEN).enumerate() {
            let block = &self.bytes[idx / n_subs * Q::BLOCK_BYTES..][..Q::BLOCK_BYTES];
            let (scale, a) = quantise(self.precision, x);
            y = sub_dot::<Q>(block, idx % n_subs, scale, &a, y);
        }
        y
    }
    fn float<W: FloatFormat>(self) -> f32 {
        let mut y = [0.0f32; 2];
        for (col, (w, x)) in self.bytes.chunks_exact(W::BYTES).zip(self.x).enumerate() {
            y[col % 2] = W::value(w).mul_add(*x, y[col % 2]);
        }
        y[0] + y[1]
    }
}

/// Adds the product of one sub-block to `y`.
fn sub_dot<Q: QuantFormat>(
    block: &[u8],
    sub: usize,
    scale: f32,
    a: &[i32; SUB_LEN],
    mut y: f32,
) -> f32 {
    let codes = Q::codes(block, sub).map(|code| {
        let code = if Q::Planes::SIGNED { i32::from(code as i8) } else { i32::from(code) };
        code - Q::ZERO_POINT
    });
    let scales = Q::block_scales(block, sub);
    // Columns that share a scale: 32 or 16.
    let n_shared = if Q::HALVES { SUB_LEN / 2 } else { SUB_LEN };
    for (part, a) in a.chunks_exact(n_shared).enumerate() {
        let dot: i32 = codes[part * n_shared..].iter().zip(a).map(|(code, a)| code * a).sum();
        y = (dot as f32).mul_add(scales.factor[part] * scale, y);
        if Q::HAS_OFFSET {
            let scaled_sum = scale * a.iter().sum::<i32>() as f32;
            y = scaled_sum.mul_add(scales.offset[part], y);
        }
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_data::{random_matrix, random_values};

    /// Mean squared error over mean square, against the product of the same weights in `f64`.
    fn error(format: Format, precision: Precision) -> f64 {
        let (n_rows, n_cols, n_tokens) = (24, 512, 4);
        let bytes = random_matrix(format, n_rows, n_cols, 21);
        let x = random_values(n_tokens * n_cols, 22);
        let rows: Vec<_> = (0..n_rows).map(|idx| row(format, n_cols, &bytes, idx)).collect();
        let exact = x.chunks_exact(n_cols).flat_map(|x| {
            rows.iter().map(move |row| {
                row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum::<f64>()
            })
        });
        let ours = matmul(format, precision, n_cols, &bytes, &x);
        let (mut error, mut square) = (0.0, 0.0);
        for (ours, exact) in ours.into_iter().zip(exact) {
            error += (f64::from(ours) - exact).powi(2);
            square += exact * exact;
        }
        error / square
    }

    #[test]
    fn products_are_near_to_those_in_f64() {
        for format in Format::ALL {
            // Rounding to 8 bits leaves about 1.5e-5 of the mean square, to 16 bits far less.
            let (coarse, fine) =
                (error(format, Precision::Bits8), error(format, Precision::Bits16));
            assert!(coarse < 1e-4, "{}: {coarse:.1e} with 8 bits", format.name());
            assert!(fine < 1e-8, "{}: {fine:.1e} with 16 bits", format.name());
        }
    }
}
