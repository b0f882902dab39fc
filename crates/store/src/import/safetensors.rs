//! Reads safetensors: a length, a JSON header that names each tensor's type, shape and place, and
//! the bytes (<https://github.com/huggingface/safetensors>, section "Format").

use std::collections::BTreeMap;

use serde::Deserialize;

/// Longest header; that of a model of 1,000 tensors has 100 KB. The format allows 100 MB.
const HEADER_BYTES_MAX: usize = 16 << 20;

/// A file in memory, its header read and checked.
#[derive(Debug)]
pub(super) struct SafeTensors<'a> {
    tensors: BTreeMap<String, Tensor<'a>>,
}

#[derive(Debug)]
struct Tensor<'a> {
    dtype: String,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

/// A tensor as the header has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

impl<'a> SafeTensors<'a> {
    /// Reads the header. The tensors must lie one behind the other and fill the file, so no two
    /// can share bytes.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, String> {
        let (len, rest) = file.split_first_chunk::<8>().ok_or("safetensors: no header")?;
        let len = usize::try_from(u64::from_le_bytes(*len)).unwrap_or(usize::MAX);
        if len > HEADER_BYTES_MAX.min(rest.len()) {
            let most = HEADER_BYTES_MAX.min(rest.len());
            return Err(format!("safetensors: header of {len} bytes, expected at most {most}"));
        }
        let (header, data) = rest.split_at(len);
        let mut header: BTreeMap<String, serde_json::Value> =
            serde_json::from_slice(header).map_err(|error| format!("safetensors: {error}"))?;
        header.remove("__metadata__");
        let mut tensors = BTreeMap::new();
        let mut spans = Vec::new();
        for (name, entry) in header {
            let place = |why: String| format!("safetensors: tensor {name:?}: {why}");
            let entry: Entry = serde_json::from_value(entry).map_err(|e| place(e.to_string()))?;
            let [start, end] = entry.data_offsets;
            let bytes = data.get(start..end).ok_or_else(|| {
                place(format!("bytes {start} to {end}, expected them within {}", data.len()))
            })?;
            spans.push([start, end]);
            let Entry { dtype, shape, .. } = entry;
            tensors.insert(name, Tensor { dtype, shape, bytes });
        }
        spans.sort_unstable();
        let mut at = 0;
        for [start, end] in spans {
            if start != at {
                return Err(format!("safetensors: a tensor begins at {start}, expected {at}"));
            }
            at = end;
        }
        if at != data.len() {
            let len = data.len();
            return Err(format!("safetensors: the tensors end at {at}, expected {len}"));
        }
        Ok(Self { tensors })
    }

    /// The names of all tensors.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The values of a tensor of this shape, in row order.
    pub(super) fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, String> {
        let place = |why: String| format!("safetensors: tensor {name:?}: {why}");
        let tensor = self.tensors.get(name).ok_or_else(|| place("missing".to_owned()))?;
        let Tensor { dtype, shape: found, bytes } = tensor;
        if found != shape {
            return Err(place(format!("shape {found:?}, expected {shape:?}")));
        }
        let n_values = shape.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim));
        let n_values = n_values.ok_or_else(|| place(format!("shape {shape:?} overflows")))?;
        let values: Vec<f32> = match dtype.as_str() {
            "F32" => bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
            "BF16" => {
                let wide = |x: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*x)) << 16);
                bytes.as_chunks().0.iter().map(wide).collect()
            }
            other => return Err(place(format!("type {other:?}, expected F32 or BF16"))),
        };
        let width = if dtype == "F32" { 4 } else { 2 };
        if values.len() != n_values || !bytes.len().is_multiple_of(width) {
            let found = bytes.len();
            return Err(place(format!("{found} bytes, expected {n_values} times {width}")));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    }

    #[track_caller]
    fn check(header: &str, data: &[u8], expected: &str) {
        let file = file(header, data);
        let found = match SafeTensors::read(&file).and_then(|read| read.floats("a", &[2, 1])) {
            Ok(values) => format!("{values:?}"),
            Err(error) => error,
        };
        assert!(found.contains(expected), "{header}: {found}");
    }

    #[test]
    fn tensors_are_read_or_refused_with_place_value_and_expectation() {
        let a = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let data = [1.5_f32, -2.0].map(f32::to_le_bytes).concat();
        check(&a("F32", "[2,1]", "[0,8]"), &data, "[1.5, -2.0]");
        check(&a("BF16", "[2,1]", "[0,4]"), &[0xc0, 0x3f, 0, 0xc0], "[1.5, -2.0]");
        check(&a("F32", "[1,2]", "[0,8]"), &data, "shape [1, 2], expected [2, 1]");
        check(&a("I32", "[2,1]", "[0,8]"), &data, "type \"I32\"");
        check(&a("F32", "[2,1]", "[0,7]"), &data[..7], "7 bytes, expected 2 times 4");
        check(&a("F32", "[2,1]", "[0,9]"), &data, "bytes 0 to 9, expected them within 8");
        check(&a("F32", "[2,1]", "[8,0]"), &data, "bytes 8 to 0");
        check(&a("F32", "[2,1]", "[4,8]"), &data, "begins at 4, expected 0");
        check(&a("F32", "[2,1]", "[0,4]"), &data, "end at 4, expected 8");
        check(&a("F32", "[-2,1]", "[0,8]"), &data, "tensor \"a\": invalid value");
        check(r#"{"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#, &data[..4], "missing");
        check("[1]", &[], "safetensors: ");
        check(&"[".repeat(10_000), &[], "safetensors: ");
        let two = r#"{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},
                      "b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
        check(two, &data, "begins at 0, expected 8");
        for file in [&b""[..], b"1234567", &[255; 8], &[9, 0, 0, 0, 0, 0, 0, 0, b'{']] {
            assert!(SafeTensors::read(file).is_err(), "{file:?}");
        }
    }

    #[test]
    fn no_changed_or_cut_byte_harms() {
        let header = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}"#;
        let good = file(header, &[0; 8]);
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = SafeTensors::read(&bad).and_then(|read| read.floats("a", &[2, 1]));
            }
            assert!(SafeTensors::read(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
