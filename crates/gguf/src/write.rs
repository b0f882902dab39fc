//! Writes GGUF files, whole or split.
//!
//! The writer keeps to the bounds that it shares with the reader, so that what it writes opens
//! again. Tensors may be borrowed: a conversion need not hold a copy of the weights.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Quoted};
use crate::limits;
use crate::read::{self, ALIGNMENT_KEY, DEFAULT_ALIGNMENT, MAGIC};
use crate::split;
use crate::tensor::TensorType;
use crate::value::{Array, Value};

/// Collects metadata and tensors, then writes a file.
///
/// Nothing is checked before [`Writer::finish`], [`Writer::write_to`] or [`Writer::write_split`].
#[derive(Clone)]
pub struct Writer<'a> {
    version: u32,
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor<'a>>,
}

/// A tensor to be written.
#[derive(Clone)]
struct Tensor<'a> {
    name: String,
    shape: Vec<usize>,
    ty: TensorType,
    bytes: Cow<'a, [u8]>,
}

impl Default for Writer<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Writer<'a> {
    /// An empty file of version 3.
    pub fn new() -> Self {
        Self { version: 3, metadata: Vec::new(), tensors: Vec::new() }
    }

    /// Writes this version instead: 2 or 3, which differ in the number only.
    pub fn version(&mut self, version: u32) -> &mut Self {
        self.version = version;
        self
    }

    /// Adds an entry. `general.alignment`, a `u32`, also takes effect; 32 without it.
    pub fn metadata(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.metadata.push((key.to_owned(), value.into()));
        self
    }

    /// Adds a tensor: `shape` is slowest dimension first, `bytes` are its blocks in row order.
    pub fn tensor(
        &mut self,
        name: &str,
        shape: &[usize],
        ty: TensorType,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        let (name, shape, bytes) = (name.to_owned(), shape.to_vec(), bytes.into());
        self.tensors.push(Tensor { name, shape, ty, bytes });
        self
    }

    /// The whole file.
    ///
    /// # Errors
    /// [`Error::Unwritable`] names what no valid file can hold.
    pub fn finish(&self) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        self.write_to(&mut out)?;
        Ok(out)
    }

    /// Writes the whole file.
    ///
    /// # Errors
    /// As [`Writer::finish`], and [`Error::Write`] when `out` fails.
    pub fn write_to(&self, out: &mut impl Write) -> Result<(), Error> {
        let entries: Vec<_> = self.metadata.iter().map(|(key, value)| (key, value)).collect();
        write_file(out, self.version, &entries, &self.tensors)
    }

    /// Writes a split file into `dir`, `n_tensors_per_part` tensors to a part; the files' paths.
    ///
    /// The keys of the splitting are added; the metadata goes into the first part.
    ///
    /// # Errors
    /// As [`Writer::write_to`], and [`Error::Io`] when a file cannot be written.
    ///
    /// # Panics
    /// If `n_tensors_per_part` is 0.
    pub fn write_split(
        &self,
        dir: &Path,
        stem: &str,
        n_tensors_per_part: usize,
    ) -> Result<Vec<PathBuf>, Error> {
        let parts: Vec<_> = self.tensors.chunks(n_tensors_per_part).collect();
        if parts.len() as u64 > u64::from(limits::MAX_PARTS) {
            let problem = format!("{} parts, expected at most {}", parts.len(), limits::MAX_PARTS);
            return Err(unwritable("split file", problem));
        }
        let keys = [split::NO_KEY, split::COUNT_KEY, split::N_TENSORS_KEY].map(str::to_owned);
        let mut paths = Vec::with_capacity(parts.len());
        for (part_idx, tensors) in parts.iter().enumerate() {
            let values = [
                Value::U16(part_idx as u16), // at most MAX_PARTS
                Value::U16(parts.len() as u16),
                Value::I32(self.tensors.len() as i32),
            ];
            let own = self.metadata.iter().filter(|_| part_idx == 0).map(|(k, v)| (k, v));
            let entries: Vec<_> = own.chain(keys.iter().zip(&values)).collect();
            let path = dir.join(split::part_file_name(stem, part_idx, parts.len()));
            write_path(&path, self.version, &entries, tensors)?;
            paths.push(path);
        }
        Ok(paths)
    }
}

type Entries<'a> = [(&'a String, &'a Value)];

fn write_path(
    path: &Path,
    version: u32,
    entries: &Entries<'_>,
    tensors: &[Tensor<'_>],
) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), action: "write", source };
    let mut out = BufWriter::new(File::create(path).map_err(io)?);
    write_file(&mut out, version, entries, tensors).map_err(|e| match e {
        Error::Write { source } => io(source),
        other => other,
    })?;
    out.flush().map_err(io)
}

fn write_file(
    out: &mut impl Write,
    version: u32,
    entries: &Entries<'_>,
    tensors: &[Tensor<'_>],
) -> Result<(), Error> {
    if !(2..=3).contains(&version) {
        return Err(unwritable("header", format!("version {version}, expected 2 or 3")));
    }
    check_entries(entries)?;
    check_tensors(tensors)?;
    let alignment = alignment(entries)?;
    let mut head = Vec::new();
    head.extend(MAGIC);
    head.extend(version.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        put_string(&mut head, key);
        put_value(&mut head, value);
    }
    let mut offset = 0_usize;
    for tensor in tensors {
        put_string(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        for dim in tensor.shape.iter().rev() {
            head.extend((*dim as u64).to_le_bytes());
        }
        head.extend(tensor.ty.id().to_le_bytes());
        head.extend((offset as u64).to_le_bytes());
        offset += tensor.bytes.len().next_multiple_of(alignment);
    }
    // Padding leads to data; a file of metadata alone ends with its last entry.
    if !tensors.is_empty() {
        head.resize(head.len().next_multiple_of(alignment), 0);
    }
    let padding = vec![0; alignment];
    let write =
        |out: &mut _, bytes| Write::write_all(out, bytes).map_err(|source| Error::Write { source });
    write(out, &head)?;
    for tensor in tensors {
        let n_bytes = tensor.bytes.len();
        write(out, &tensor.bytes)?;
        write(out, &padding[..n_bytes.next_multiple_of(alignment) - n_bytes])?;
    }
    Ok(())
}

fn unwritable(place: impl ToString, problem: impl ToString) -> Error {
    Error::Unwritable { place: place.to_string(), problem: problem.to_string() }
}

/// A name of 1 to `max` bytes that was not there before.
fn check_name<'a>(
    kind: &str,
    name: &'a str,
    max: u64,
    seen: &mut HashSet<&'a str>,
) -> Result<(), Error> {
    let problem = if name.is_empty() || name.len() as u64 > max {
        format!("name of {} bytes, expected 1 to {max}", name.len())
    } else if !seen.insert(name) {
        "given twice, expected once".to_owned()
    } else {
        return Ok(());
    };
    Err(unwritable(format!("{kind} {}", Quoted(name)), problem))
}

fn check_entries(entries: &Entries<'_>) -> Result<(), Error> {
    if entries.len() as u64 > limits::MAX_METADATA {
        let problem =
            format!("{} entries, expected at most {}", entries.len(), limits::MAX_METADATA);
        return Err(unwritable("metadata", problem));
    }
    let mut seen = HashSet::new();
    for (key, value) in entries {
        check_name("metadata key", key, limits::MAX_KEY_BYTES, &mut seen)?;
        let depth = match value {
            Value::Array(array) => depth(array),
            _ => 0,
        };
        if depth > limits::MAX_NESTING {
            let max = limits::MAX_NESTING;
            let problem = format!("arrays lie in each other {depth} deep, expected at most {max}");
            return Err(unwritable(format!("metadata key {}", Quoted(key)), problem));
        }
    }
    Ok(())
}

fn depth(array: &Array) -> usize {
    match array {
        Array::Nested(inner) => 1 + inner.iter().map(depth).max().unwrap_or(0),
        _ => 1,
    }
}

fn check_tensors(tensors: &[Tensor<'_>]) -> Result<(), Error> {
    if tensors.len() as u64 > limits::MAX_TENSORS {
        let problem = format!("{}, expected at most {}", tensors.len(), limits::MAX_TENSORS);
        return Err(unwritable("number of tensors", problem));
    }
    let mut seen = HashSet::new();
    for Tensor { name, shape, ty, bytes } in tensors {
        check_name("tensor", name, limits::MAX_TENSOR_NAME_BYTES, &mut seen)?;
        let place = format!("tensor {}", Quoted(name));
        if shape.len() > limits::MAX_DIMS as usize {
            let max = limits::MAX_DIMS;
            let problem = format!("{} dimensions, expected 1 to {max}", shape.len());
            return Err(unwritable(place, problem));
        }
        let n_bytes = ty.bytes_of(shape).map_err(|problem| unwritable(&place, problem))?;
        if bytes.len() != n_bytes {
            let found = bytes.len();
            let problem = format!("{found} bytes, expected {n_bytes} for {shape:?} of {ty}");
            return Err(unwritable(place, problem));
        }
    }
    Ok(())
}

fn alignment(entries: &Entries<'_>) -> Result<usize, Error> {
    let found = entries.iter().find(|(key, _)| *key == ALIGNMENT_KEY);
    let alignment = match found {
        None => Ok(DEFAULT_ALIGNMENT),
        Some((_, Value::U32(alignment))) => Ok(*alignment),
        Some((_, other)) => Err(format!("found {}, expected u32", other.type_name())),
    };
    alignment
        .and_then(read::check_alignment)
        .map_err(|problem| unwritable(format!("metadata key {}", Quoted(ALIGNMENT_KEY)), problem))
}

/// Appends an entry of metadata as it stands in a file: key, type, value (version 3).
///
/// The same entry gives the same bytes whatever file it came from, so they can be hashed.
pub fn put_entry(out: &mut Vec<u8>, key: &str, value: &Value) {
    put_string(out, key);
    put_value(out, value);
}

fn put_string(out: &mut Vec<u8>, string: &str) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    /// The type id, then the bytes.
    fn put<const N: usize>(out: &mut Vec<u8>, type_id: u32, bytes: [u8; N]) {
        out.extend(type_id.to_le_bytes());
        out.extend(bytes);
    }
    match value {
        Value::U8(x) => put(out, 0, x.to_le_bytes()),
        Value::I8(x) => put(out, 1, x.to_le_bytes()),
        Value::U16(x) => put(out, 2, x.to_le_bytes()),
        Value::I16(x) => put(out, 3, x.to_le_bytes()),
        Value::U32(x) => put(out, 4, x.to_le_bytes()),
        Value::I32(x) => put(out, 5, x.to_le_bytes()),
        Value::F32(x) => put(out, 6, x.to_le_bytes()),
        Value::Bool(x) => put(out, 7, [u8::from(*x)]),
        Value::String(x) => {
            put(out, 8, []);
            put_string(out, x);
        }
        Value::Array(x) => {
            put(out, 9, []);
            put_array(out, x);
        }
        Value::U64(x) => put(out, 10, x.to_le_bytes()),
        Value::I64(x) => put(out, 11, x.to_le_bytes()),
        Value::F64(x) => put(out, 12, x.to_le_bytes()),
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    /// The bytes of each number; the head is there already.
    fn put<T: Copy, const N: usize>(out: &mut Vec<u8>, xs: &[T], to_le_bytes: fn(T) -> [u8; N]) {
        xs.iter().for_each(|&x| out.extend(to_le_bytes(x)));
    }
    let type_id: u32 = match array {
        Array::U8(_) => 0,
        Array::I8(_) => 1,
        Array::U16(_) => 2,
        Array::I16(_) => 3,
        Array::U32(_) => 4,
        Array::I32(_) => 5,
        Array::F32(_) => 6,
        Array::Bool(_) => 7,
        Array::Strings(_) => 8,
        Array::Nested(_) => 9,
        Array::U64(_) => 10,
        Array::I64(_) => 11,
        Array::F64(_) => 12,
    };
    out.extend(type_id.to_le_bytes());
    out.extend((array.len() as u64).to_le_bytes());
    match array {
        Array::U8(x) => put(out, x, u8::to_le_bytes),
        Array::I8(x) => put(out, x, i8::to_le_bytes),
        Array::U16(x) => put(out, x, u16::to_le_bytes),
        Array::I16(x) => put(out, x, i16::to_le_bytes),
        Array::U32(x) => put(out, x, u32::to_le_bytes),
        Array::I32(x) => put(out, x, i32::to_le_bytes),
        Array::F32(x) => put(out, x, f32::to_le_bytes),
        Array::Bool(x) => put(out, x, |x| [u8::from(x)]),
        Array::Strings(x) => x.iter().for_each(|string| put_string(out, string)),
        Array::Nested(x) => x.iter().for_each(|inner| put_array(out, inner)),
        Array::U64(x) => put(out, x, u64::to_le_bytes),
        Array::I64(x) => put(out, x, i64::to_le_bytes),
        Array::F64(x) => put(out, x, f64::to_le_bytes),
    }
}
