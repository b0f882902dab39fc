//! The metadata of a file: keys with values, in file order, and typed ways to ask.
//!
//! A typed question has three answers: the value, `None` when the key is absent, and an error
//! that names key, found type and expected type. Writers disagree about integer widths, so any
//! integer answers for any other when the number fits; floats never turn into integers.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::Error;
use crate::value::{Array, Strings, Value};

/// All keys and values of a file (of a split file: of its first part).
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    by_key: HashMap<String, usize>,
}

impl Metadata {
    /// Adds an entry; false, and nothing added, when the key is there already.
    pub(crate) fn insert(&mut self, key: String, value: Value) -> bool {
        if self.by_key.contains_key(&key) {
            return false;
        }
        self.by_key.insert(key.clone(), self.entries.len());
        self.entries.push((key, value));
        true
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of a key as it stands in the file.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.get(key).map(|&idx| &self.entries[idx].1)
    }

    /// All entries in file order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Answers a typed question by `convert`, which says `None` for "not of this type".
    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| {
            let found = match value.as_integer() {
                Some(x) => format!("{} {x}", value.type_name()),
                None => value.type_name().to_owned(),
            };
            Error::WrongType { key: key.to_owned(), found, expected }
        })
    }

    /// Any integer that fits `u32`.
    ///
    /// # Errors
    /// [`Error::WrongType`] for other types and numbers that do not fit; so everywhere below.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, Error> {
        self.typed(key, "u32", |value| value.as_integer()?.try_into().ok())
    }

    /// Any integer that fits `i32`.
    pub fn i32(&self, key: &str) -> Result<Option<i32>, Error> {
        self.typed(key, "i32", |value| value.as_integer()?.try_into().ok())
    }

    /// Any integer that fits `u64`.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, Error> {
        self.typed(key, "u64", |value| value.as_integer()?.try_into().ok())
    }

    /// Any float or integer, rounded to the nearest `f32`. May be infinite or NaN.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, Error> {
        self.typed(key, "f32", |value| match value {
            Value::F32(x) => Some(*x),
            Value::F64(x) => Some(*x as f32),
            other => other.as_integer().map(|x| x as f32),
        })
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, Error> {
        self.typed(key, "bool", |value| match value {
            Value::Bool(x) => Some(*x),
            _ => None,
        })
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, Error> {
        self.typed(key, "string", |value| match value {
            Value::String(x) => Some(x.as_str()),
            _ => None,
        })
    }

    /// An array of strings. An empty array of any type is an empty array of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&Strings>, Error> {
        static EMPTY: std::sync::LazyLock<Strings> = std::sync::LazyLock::new(Strings::default);
        self.typed(key, "array of string", |value| match value {
            Value::Array(Array::Strings(x)) => Some(x),
            Value::Array(x) if x.is_empty() => Some(&*EMPTY),
            _ => None,
        })
    }

    /// An array of floats of either width, or of integers, as `f32`.
    pub fn f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>, Error> {
        self.typed(key, "array of f32", |value| match value {
            Value::Array(Array::F32(x)) => Some(Cow::Borrowed(x.as_slice())),
            Value::Array(Array::F64(x)) => Some(x.iter().map(|&x| x as f32).collect()),
            Value::Array(x) => integers(x, |x| Some(x as f32)),
            _ => None,
        })
    }

    /// An array of integers that all fit `i32`.
    pub fn i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, Error> {
        self.typed(key, "array of i32", |value| match value {
            Value::Array(Array::I32(x)) => Some(Cow::Borrowed(x.as_slice())),
            Value::Array(x) => integers(x, |x| x.try_into().ok()),
            _ => None,
        })
    }

    /// An array of integers that all fit `u32`.
    pub fn u32s(&self, key: &str) -> Result<Option<Cow<'_, [u32]>>, Error> {
        self.typed(key, "array of u32", |value| match value {
            Value::Array(Array::U32(x)) => Some(Cow::Borrowed(x.as_slice())),
            Value::Array(x) => integers(x, |x| x.try_into().ok()),
            _ => None,
        })
    }

    /// An array of bools.
    pub fn bools(&self, key: &str) -> Result<Option<&[bool]>, Error> {
        self.typed(key, "array of bool", |value| match value {
            Value::Array(Array::Bool(x)) => Some(x.as_slice()),
            _ => None,
        })
    }

    /// As [`Metadata::u32`], and the key must be there.
    ///
    /// # Errors
    /// [`Error::MissingKey`] when it is not; so for each `require_…`.
    pub fn require_u32(&self, key: &str) -> Result<u32, Error> {
        present(key, "u32", self.u32(key)?)
    }

    /// As [`Metadata::u64`], and the key must be there.
    pub fn require_u64(&self, key: &str) -> Result<u64, Error> {
        present(key, "u64", self.u64(key)?)
    }

    /// As [`Metadata::f32`], and the key must be there.
    pub fn require_f32(&self, key: &str) -> Result<f32, Error> {
        present(key, "f32", self.f32(key)?)
    }

    /// As [`Metadata::str`], and the key must be there.
    pub fn require_str(&self, key: &str) -> Result<&str, Error> {
        present(key, "string", self.str(key)?)
    }

    /// As [`Metadata::strings`], and the key must be there.
    pub fn require_strings(&self, key: &str) -> Result<&Strings, Error> {
        present(key, "array of string", self.strings(key)?)
    }
}

/// Turns absence into an error.
fn present<T>(key: &str, expected: &'static str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| Error::MissingKey { key: key.to_owned(), expected })
}

/// Converts an array of any integer type; `None` when it is of another type or one does not fit.
fn integers<'a, T: Clone>(
    array: &Array,
    convert: impl Fn(i128) -> Option<T>,
) -> Option<Cow<'a, [T]>> {
    fn all<X: Copy + Into<i128>, T>(
        xs: &[X],
        convert: impl Fn(i128) -> Option<T>,
    ) -> Option<Vec<T>> {
        xs.iter().map(|&x| convert(x.into())).collect()
    }
    let converted = match array {
        Array::U8(x) => all(x, convert),
        Array::I8(x) => all(x, convert),
        Array::U16(x) => all(x, convert),
        Array::I16(x) => all(x, convert),
        Array::U32(x) => all(x, convert),
        Array::I32(x) => all(x, convert),
        Array::U64(x) => all(x, convert),
        Array::I64(x) => all(x, convert),
        other if other.is_empty() => Some(Vec::new()),
        _ => None,
    };
    converted.map(Cow::Owned)
}
