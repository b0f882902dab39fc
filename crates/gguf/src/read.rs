//! Reads the directory of one part: header, metadata, tensors, extents.
//!
//! Layout, all little-endian (ggml's `docs/gguf.md`): magic, version, the two counts, the
//! metadata entries, the tensor entries, padding, and the data that the tensor entries point
//! into. After `read` has said `Ok`, every extent lies within the bytes and no two overlap.

use std::collections::HashSet;

use crate::cursor::{Cursor, Problem};
use crate::error::{Error, Quoted};
use crate::limits;
use crate::metadata::Metadata;
use crate::tensor::{TensorInfo, TensorType};
use crate::value::{Array, Strings, Value};

/// What each file begins with.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";

/// The key that says to what multiple of bytes tensors are aligned.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";

/// The alignment of files that do not say.
pub(crate) const DEFAULT_ALIGNMENT: u32 = 32;

/// The least bytes of a metadata entry: key length, a key of one byte, type, a value of one byte.
const MIN_ENTRY_BYTES: usize = 8 + 1 + 4 + 1;

/// The least bytes of a tensor entry: name length, a name of one byte, one dimension, type, offset.
const MIN_TENSOR_BYTES: usize = 8 + 1 + 4 + 8 + 4 + 8;

/// The least bytes of an inner array: element type and length.
const MIN_ARRAY_BYTES: usize = 4 + 8;

/// What one part says.
pub(crate) struct Directory {
    pub(crate) version: u32,
    pub(crate) metadata: Metadata,
    /// In file order, with `part` 0.
    pub(crate) tensors: Vec<TensorInfo>,
}

/// Reads and checks the directory at the start of `bytes`, which are the whole part.
pub(crate) fn read(bytes: &[u8]) -> Result<Directory, Error> {
    let mut cursor = Cursor::new(bytes);
    let header = |problem: Problem| problem.at("header");
    let version = read_version(&mut cursor).map_err(header)?;
    let n_tensors = cursor
        .count("the number of tensors", limits::MAX_TENSORS, MIN_TENSOR_BYTES)
        .map_err(header)?;
    let n_entries = cursor
        .count("the number of metadata entries", limits::MAX_METADATA, MIN_ENTRY_BYTES)
        .map_err(header)?;
    let metadata = read_metadata(&mut cursor, n_entries)?;
    let alignment = alignment(&metadata)?;
    let mut tensors = read_tensors(&mut cursor, n_tensors)?;
    place_tensors(&mut tensors, cursor.pos(), alignment, bytes.len())?;
    Ok(Directory { version, metadata, tensors })
}

/// Magic and version: 2 and 3 have the same layout.
fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, Problem> {
    let magic = cursor.take(MAGIC.len() as u64, "the magic")?;
    if magic != MAGIC {
        let found = magic.escape_ascii();
        return Err(Problem(format!("file begins with \"{found}\", expected \"GGUF\"")));
    }
    match cursor.u32("the version")? {
        version @ 2..=3 => Ok(version),
        // A big-endian file stores its version the other way round as well.
        version if (1..=0xffff).contains(&version.swap_bytes()) => Err(Problem(format!(
            "big-endian file of version {}, expected little-endian",
            version.swap_bytes()
        ))),
        version => Err(Problem(format!("version {version}, expected 2 or 3"))),
    }
}

fn read_metadata(cursor: &mut Cursor<'_>, n_entries: usize) -> Result<Metadata, Error> {
    let mut metadata = Metadata::default();
    let mut inner_arrays_left = limits::MAX_INNER_ARRAYS;
    for idx in 0..n_entries {
        let place = || format!("metadata entry {idx} of {n_entries}");
        let key = cursor.string("the key", limits::MAX_KEY_BYTES).map_err(|p| p.at(place()))?;
        if key.is_empty() {
            return Err(Error::malformed(place(), "empty key, expected a name"));
        }
        let place = || format!("metadata key {}", Quoted(key));
        let value = read_value(cursor, &mut inner_arrays_left).map_err(|p| p.at(place()))?;
        if !metadata.insert(key.to_owned(), value) {
            return Err(Error::malformed(place(), "stands in the file twice, expected once"));
        }
    }
    Ok(metadata)
}

fn read_value(cursor: &mut Cursor<'_>, inner_arrays_left: &mut usize) -> Result<Value, Problem> {
    Ok(match cursor.u32("the value type")? {
        0 => Value::U8(cursor.number(u8::from_le_bytes)?),
        1 => Value::I8(cursor.number(i8::from_le_bytes)?),
        2 => Value::U16(cursor.number(u16::from_le_bytes)?),
        3 => Value::I16(cursor.number(i16::from_le_bytes)?),
        4 => Value::U32(cursor.number(u32::from_le_bytes)?),
        5 => Value::I32(cursor.number(i32::from_le_bytes)?),
        6 => Value::F32(cursor.number(f32::from_le_bytes)?),
        7 => Value::Bool(bool_from(cursor.number(u8::from_le_bytes)?)?),
        8 => Value::String(cursor.string("the string", limits::MAX_STRING_BYTES)?.to_owned()),
        9 => Value::Array(read_array(cursor, limits::MAX_NESTING, inner_arrays_left)?),
        10 => Value::U64(cursor.number(u64::from_le_bytes)?),
        11 => Value::I64(cursor.number(i64::from_le_bytes)?),
        12 => Value::F64(cursor.number(f64::from_le_bytes)?),
        id => return Err(Problem(format!("value type {id}, expected 0 to 12"))),
    })
}

/// Reads an array of which at most `depth_left` levels may lie within each other.
fn read_array(
    cursor: &mut Cursor<'_>,
    depth_left: usize,
    inner_arrays_left: &mut usize,
) -> Result<Array, Problem> {
    if depth_left == 0 {
        let max = limits::MAX_NESTING;
        return Err(Problem(format!("arrays lie in each other deeper than {max} levels")));
    }
    Ok(match cursor.u32("the element type")? {
        0 => Array::U8(numbers(cursor, u8::from_le_bytes)?),
        1 => Array::I8(numbers(cursor, i8::from_le_bytes)?),
        2 => Array::U16(numbers(cursor, u16::from_le_bytes)?),
        3 => Array::I16(numbers(cursor, i16::from_le_bytes)?),
        4 => Array::U32(numbers(cursor, u32::from_le_bytes)?),
        5 => Array::I32(numbers(cursor, i32::from_le_bytes)?),
        6 => Array::F32(numbers(cursor, f32::from_le_bytes)?),
        7 => {
            let bytes = numbers(cursor, u8::from_le_bytes)?;
            Array::Bool(bytes.into_iter().map(bool_from).collect::<Result<_, _>>()?)
        }
        8 => Array::Strings(read_strings(cursor)?),
        9 => {
            let n = array_len(cursor, MIN_ARRAY_BYTES)?;
            *inner_arrays_left = inner_arrays_left.checked_sub(n).ok_or_else(|| {
                let max = limits::MAX_INNER_ARRAYS;
                Problem(format!("more than {max} arrays within arrays in the file"))
            })?;
            let inner = (0..n).map(|_| read_array(cursor, depth_left - 1, inner_arrays_left));
            Array::Nested(inner.collect::<Result<_, _>>()?)
        }
        10 => Array::U64(numbers(cursor, u64::from_le_bytes)?),
        11 => Array::I64(numbers(cursor, i64::from_le_bytes)?),
        12 => Array::F64(numbers(cursor, f64::from_le_bytes)?),
        id => return Err(Problem(format!("element type {id}, expected 0 to 12"))),
    })
}

fn array_len(cursor: &mut Cursor<'_>, bytes_each: usize) -> Result<usize, Problem> {
    cursor.count("the array length", limits::MAX_ARRAY_LEN, bytes_each)
}

fn numbers<T, const N: usize>(
    cursor: &mut Cursor<'_>,
    // Not a function pointer, which would be called for each element.
    from_le_bytes: impl Fn([u8; N]) -> T,
) -> Result<Vec<T>, Problem> {
    let n = array_len(cursor, N)?;
    let bytes = cursor.take((n * N) as u64, "the array")?; // n * N was held against the file
    let (chunks, _) = bytes.as_chunks::<N>();
    Ok(chunks.iter().map(|&chunk| from_le_bytes(chunk)).collect())
}

fn bool_from(byte: u8) -> Result<bool, Problem> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(Problem(format!("bool is {other}, expected 0 or 1"))),
    }
}

/// Reads strings into one buffer.
///
/// UTF-8 is checked over the whole buffer at once: the strings are UTF-8 each exactly when the
/// buffer is and each end is a character boundary. For 262,144 strings this is several times
/// faster than checking each.
fn read_strings(cursor: &mut Cursor<'_>) -> Result<Strings, Problem> {
    let n = array_len(cursor, size_of::<u64>())?;
    let mut bytes = Vec::new();
    let mut ends = Vec::with_capacity(n); // 4 bytes for each 8 that are in the file
    for _ in 0..n {
        bytes.extend_from_slice(cursor.sized_bytes("a string", limits::MAX_STRING_BYTES)?);
        if bytes.len() as u64 > limits::MAX_STRINGS_BYTES {
            let max = limits::MAX_STRINGS_BYTES;
            return Err(Problem(format!("the strings take more than {max} bytes together")));
        }
        ends.push(bytes.len() as u32); // fits by the check above
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        let bad = e.utf8_error().valid_up_to();
        not_utf8(ends.partition_point(|&end| end as usize <= bad))
    })?;
    match ends.iter().position(|&end| !text.is_char_boundary(end as usize)) {
        Some(idx) => Err(not_utf8(idx)),
        None => Ok(Strings::from_checked(text, ends)),
    }
}

fn not_utf8(idx: usize) -> Problem {
    Problem(format!("string {idx} of the array is not UTF-8, expected UTF-8"))
}

/// The alignment of the tensors, a power of two.
fn alignment(metadata: &Metadata) -> Result<usize, Error> {
    let place = format!("metadata key {}", Quoted(ALIGNMENT_KEY));
    let alignment = match metadata.u32(ALIGNMENT_KEY) {
        Ok(alignment) => alignment.unwrap_or(DEFAULT_ALIGNMENT),
        Err(Error::WrongType { found, expected, .. }) => {
            return Err(Error::malformed(place, format!("found {found}, expected {expected}")));
        }
        Err(other) => return Err(other),
    };
    check_alignment(alignment).map_err(|problem| Error::malformed(place, problem))
}

/// The alignment, if it is one that files may have.
pub(crate) fn check_alignment(alignment: u32) -> Result<usize, String> {
    let max = limits::MAX_ALIGNMENT;
    if !alignment.is_power_of_two() || alignment > max {
        return Err(format!("alignment {alignment}, expected a power of two up to {max}"));
    }
    Ok(alignment as usize)
}

/// Reads the tensor entries. Until [`place_tensors`], `start` is the offset within the data.
fn read_tensors(cursor: &mut Cursor<'_>, n_tensors: usize) -> Result<Vec<TensorInfo>, Error> {
    let mut tensors = Vec::with_capacity(n_tensors);
    let mut names = HashSet::with_capacity(n_tensors);
    for idx in 0..n_tensors {
        let place = || format!("tensor {idx} of {n_tensors}");
        let name = cursor
            .string("the name", limits::MAX_TENSOR_NAME_BYTES)
            .map_err(|problem| problem.at(place()))?;
        if name.is_empty() {
            return Err(Error::malformed(place(), "empty name, expected a name"));
        }
        if !names.insert(name) {
            let place = format!("tensor {}", Quoted(name));
            return Err(Error::malformed(place, "stands in the file twice, expected once"));
        }
        tensors.push(read_tensor(cursor, name)?);
    }
    Ok(tensors)
}

/// Reads what follows the name of a tensor.
fn read_tensor(cursor: &mut Cursor<'_>, name: &str) -> Result<TensorInfo, Error> {
    let at = |problem: Problem| problem.at(format!("tensor {}", Quoted(name)));
    let malformed = |problem: String| at(Problem(problem));
    let n_dims = cursor.u32("the number of dimensions").map_err(at)?;
    if !(1..=limits::MAX_DIMS).contains(&n_dims) {
        let max = limits::MAX_DIMS;
        return Err(malformed(format!("{n_dims} dimensions, expected 1 to {max}")));
    }
    let mut shape = Vec::with_capacity(n_dims as usize);
    for _ in 0..n_dims {
        let dim = cursor.u64("a dimension").map_err(at)?;
        shape.push(usize::try_from(dim).map_err(|_| {
            malformed(format!("dimension {dim}, expected one that this machine can address"))
        })?);
    }
    shape.reverse(); // the file has the fastest dimension first
    let id = cursor.u32("the tensor type").map_err(at)?;
    let ty = TensorType::from_id(id).ok_or_else(|| Error::UnknownTensorType {
        file: None,
        tensor: name.to_owned(),
        id,
    })?;
    let n_bytes = ty.bytes_of(&shape).map_err(malformed)?;
    let offset = cursor.u64("the data offset").map_err(at)?;
    let start = usize::try_from(offset).map_err(|_| {
        malformed(format!("data offset {offset}, expected one that this machine can address"))
    })?;
    Ok(TensorInfo { name: name.to_owned(), shape, ty, part: 0, start, n_bytes })
}

/// Turns offsets within the data into positions in the part, and checks all extents.
fn place_tensors(
    tensors: &mut [TensorInfo],
    directory_end: usize,
    alignment: usize,
    n_bytes: usize,
) -> Result<(), Error> {
    // A slice is never longer than isize::MAX and the alignment at most 65,536: no overflow.
    let data_start = directory_end.next_multiple_of(alignment);
    for tensor in tensors.iter_mut() {
        let malformed =
            |problem| Err(Error::malformed(format!("tensor {}", Quoted(&tensor.name)), problem));
        let offset = tensor.start;
        if !offset.is_multiple_of(alignment) {
            let problem = format!("data offset {offset}, expected a multiple of {alignment}");
            return malformed(problem);
        }
        let start = offset.checked_add(data_start);
        let end = start.and_then(|start| start.checked_add(tensor.n_bytes));
        match (start, end) {
            (Some(start), Some(end)) if end <= n_bytes => tensor.start = start,
            _ => {
                return malformed(format!(
                    "{} bytes of data at offset {offset} end behind the file, which has {} \
                     bytes of data",
                    tensor.n_bytes,
                    n_bytes.saturating_sub(data_start)
                ));
            }
        }
    }
    refuse_overlaps(tensors)
}

fn refuse_overlaps(tensors: &[TensorInfo]) -> Result<(), Error> {
    let mut by_start: Vec<&TensorInfo> = tensors.iter().collect();
    by_start.sort_unstable_by_key(|tensor| tensor.start);
    for pair in by_start.windows(2) {
        if pair[0].start + pair[0].n_bytes > pair[1].start {
            let place = format!("tensor {}", Quoted(&pair[1].name));
            let problem = format!(
                "its data overlaps that of tensor {}, expected bytes of its own",
                Quoted(&pair[0].name)
            );
            return Err(Error::malformed(place, problem));
        }
    }
    Ok(())
}
