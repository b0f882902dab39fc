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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: impl Into<Value>) -> Metadata {
        let mut metadata = Metadata::default();
        assert!(metadata.insert("k".to_owned(), value.into()));
        metadata
    }

    fn check_refused<T: std::fmt::Debug>(answer: Result<T, Error>, expected: &str) {
        assert_eq!(answer.unwrap_err().to_string(), expected);
    }

    #[test]
    fn integers_of_any_width_answer_when_they_fit() {
        assert_eq!(of(7_i64).require_u32("k").unwrap(), 7);
        assert_eq!(of(u64::from(u32::MAX)).require_u32("k").unwrap(), u32::MAX);
        assert_eq!(of(-7_i8).i32("k").unwrap(), Some(-7));
        assert_eq!(of(u64::MAX).require_u64("k").unwrap(), u64::MAX);
        check_refused(of(-1_i32).u32("k"), r#"metadata key "k": found i32 -1, expected u32"#);
        let big = of(1_u64 << 32);
        check_refused(big.u32("k"), r#"metadata key "k": found u64 4294967296, expected u32"#);
        check_refused(of(1.0_f32).u32("k"), r#"metadata key "k": found f32, expected u32"#);
    }

    #[test]
    fn floats_take_any_number_and_nothing_else() {
        assert_eq!(of(1e-5_f64).require_f32("k").unwrap(), 1e-5_f32);
        assert_eq!(of(10_000_u32).require_f32("k").unwrap(), 10_000.0);
        check_refused(of(true).f32("k"), r#"metadata key "k": found bool, expected f32"#);
        check_refused(of("1").require_f32("k"), r#"metadata key "k": found string, expected f32"#);
    }

    #[test]
    fn absence_is_none_and_an_error_only_where_required() {
        let empty = Metadata::default();
        assert_eq!(empty.u32("k").unwrap(), None);
        assert_eq!(empty.str("k").unwrap(), None);
        check_refused(empty.require_u32("k"), r#"metadata key "k": absent, expected u32"#);
        check_refused(
            empty.require_strings("k"),
            r#"metadata key "k": absent, expected array of string"#,
        );
    }

    #[test]
    fn arrays_convert_whole_or_not_at_all() {
        assert!(matches!(of(vec![1_i32, 2]).i32s("k"), Ok(Some(Cow::Borrowed([1, 2])))));
        assert_eq!(*of(vec![1_u8, 2]).u32s("k").unwrap().unwrap(), [1, 2]);
        assert_eq!(*of(vec![1_i64]).f32s("k").unwrap().unwrap(), [1.0]);
        assert_eq!(*of(vec![0.5_f64]).f32s("k").unwrap().unwrap(), [0.5]);
        assert_eq!(of(vec![true]).bools("k").unwrap(), Some(&[true][..]));
        check_refused(
            of(vec![1_i32, -1]).u32s("k"),
            r#"metadata key "k": found array of i32, expected array of u32"#,
        );
        check_refused(
            of(vec![1.5_f32]).i32s("k"),
            r#"metadata key "k": found array of f32, expected array of i32"#,
        );
        // An empty array has lost its type in some writers.
        let empty = of(Vec::<u32>::new());
        assert!(empty.require_strings("k").unwrap().is_empty());
        assert!(of(Strings::default()).i32s("k").unwrap().unwrap().is_empty());
    }

    #[test]
    fn a_long_key_is_cut_in_messages() {
        let message = Metadata::default().require_u32(&"k".repeat(60_000)).unwrap_err().to_string();
        assert!(message.len() < 200 && message.contains("… (60000 bytes)"), "{message}");
    }
}
