//! The `tojson` filter of `transformers`: Python's `json.dumps`, without HTML escaping.
//!
//! Key order is kept, text outside ASCII stands as it is, items are parted by `", "` and `": "`,
//! or by lines when `indent` is given. What `json.dumps` refuses is refused: undefined values,
//! functions, and generators such as the result of `map`.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Deepest nesting that is written; `json.dumps` ends at Python's recursion limit.
const DEPTH_MAX: usize = 500;

/// Widest indentation, so that the output cannot outgrow the steps it is paid with.
const INDENT_MAX: usize = 64;

/// `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(
    state: &State<'_, '_>,
    value: &Value,
    args: minijinja::value::Rest<minijinja::value::ValueOrKwargs>,
) -> Result<Value, Error> {
    let args = args.into_values();
    let (args, kwargs): (&[Value], Kwargs) = from_args(&args)?;
    let style = Style::from_arguments(args, &kwargs)?;
    let mut writer = Writer { out: String::new(), style, state, n_charged: 0 };
    writer.value(value, 0)?;
    Ok(Value::from(writer.out))
}

struct Style {
    is_ascii: bool,
    indent: Option<String>,
    between_items: String,
    after_key: String,
    sorts_keys: bool,
}

impl Style {
    fn from_arguments(args: &[Value], kwargs: &Kwargs) -> Result<Self, Error> {
        let argument = |idx: usize, name: &str| -> Result<Option<Value>, Error> {
            let value = match args.get(idx) {
                Some(value) => Some(value.clone()),
                None => kwargs.get::<Option<Value>>(name)?,
            };
            Ok(value.filter(|value| !value.is_none()))
        };
        let is_ascii = argument(0, "ensure_ascii")?.is_some_and(|value| value.is_true());
        let indent = argument(1, "indent")?.map(|value| indentation(&value)).transpose()?;
        let separators = argument(2, "separators")?;
        let sorts_keys = argument(3, "sort_keys")?.is_some_and(|value| value.is_true());
        kwargs.assert_all_used()?;
        let (between_items, after_key) = match separators {
            Some(pair) => {
                let items: Vec<Value> = pair.try_iter()?.collect();
                match items.as_slice() {
                    [between, after] => (text(between)?, text(after)?),
                    _ => return Err(invalid("tojson separators: expected two strings")),
                }
            }
            None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
            None => (", ".to_owned(), ": ".to_owned()),
        };
        Ok(Self { is_ascii, indent, between_items, after_key, sorts_keys })
    }
}

/// Python takes a number of spaces or the string itself.
fn indentation(value: &Value) -> Result<String, Error> {
    let indent = match value.as_str() {
        Some(indent) => indent.to_owned(),
        None => {
            let width = i64::try_from(value.clone())?.max(0);
            let width = usize::try_from(width).unwrap_or(usize::MAX);
            " ".repeat(width.min(INDENT_MAX + 1))
        }
    };
    if indent.len() > INDENT_MAX {
        return Err(invalid(&format!("tojson indent: wider than {INDENT_MAX}")));
    }
    Ok(indent)
}

fn text(value: &Value) -> Result<String, Error> {
    let text = value.as_str().filter(|text| text.len() <= INDENT_MAX);
    text.map(str::to_owned).ok_or_else(|| invalid("tojson separators: expected short strings"))
}

fn invalid(detail: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.to_owned())
}

struct Writer<'a> {
    out: String,
    style: Style,
    state: &'a State<'a, 'a>,
    /// How much of `out` has been paid for in steps.
    n_charged: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH_MAX {
            return Err(invalid(&format!("tojson: more than {DEPTH_MAX} levels")));
        }
        self.charge()?;
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.number(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Map if value.as_object().is_some() => self.map(value, depth)?,
            ValueKind::Seq => self.list(value, depth)?,
            // A slice of a list is lazy here but a list in Python; a generator has no length.
            ValueKind::Iterable if value.len().is_some() => self.list(value, depth)?,
            kind => return Err(invalid(&format!("value of type {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn list(&mut self, list: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut is_empty = true;
        for item in list.try_iter()?.checked() {
            let item = item?;
            self.begin_item(is_empty, depth + 1);
            is_empty = false;
            self.value(&item, depth + 1)?;
        }
        self.end(']', is_empty, depth);
        Ok(())
    }

    fn map(&mut self, map: &Value, depth: usize) -> Result<(), Error> {
        let mut keys = map.try_iter()?.collect::<Vec<Value>>();
        if self.style.sorts_keys {
            keys.sort();
        }
        self.out.push('{');
        for (idx, key) in keys.iter().enumerate() {
            self.begin_item(idx == 0, depth + 1);
            self.key(key)?;
            self.out.push_str(&self.style.after_key);
            self.value(&map.get_item(key)?, depth + 1)?;
        }
        self.end('}', keys.is_empty(), depth);
        Ok(())
    }

    /// Keys are strings; Python turns numbers, booleans and `None` into theirs.
    fn key(&mut self, key: &Value) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default()),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                self.out.push('"');
                self.value(key, 0)?;
                self.out.push('"');
            }
            kind => return Err(invalid(&format!("value of type {kind} cannot be a JSON key"))),
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) -> Result<(), Error> {
        if value.is_integer() {
            let _ = write!(self.out, "{value}");
            return Ok(());
        }
        let number = f64::try_from(value.clone())?;
        match number {
            _ if number.is_nan() => self.out.push_str("NaN"),
            f64::INFINITY => self.out.push_str("Infinity"),
            f64::NEG_INFINITY => self.out.push_str("-Infinity"),
            _ => self.out.push_str(&python_float(number)),
        }
        Ok(())
    }

    /// `json.encoder.ESCAPE` and, with `ensure_ascii`, `ESCAPE_ASCII`.
    fn string(&mut self, text: &str) {
        self.out.push('"');
        for char in text.chars() {
            match char {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(char),
                // Python leaves DEL alone without `ensure_ascii` and escapes nothing else.
                _ if self.style.is_ascii && !(' '..='~').contains(&char) => self.escape(char),
                _ => self.out.push(char),
            }
        }
        self.out.push('"');
    }

    /// `\uXXXX`, a surrogate pair beyond the basic plane.
    fn escape(&mut self, char: char) {
        for unit in char.encode_utf16(&mut [0; 2]) {
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }

    fn begin_item(&mut self, is_first: bool, depth: usize) {
        if !is_first {
            self.out.push_str(&self.style.between_items);
        }
        self.line(depth);
    }

    fn end(&mut self, close: char, is_empty: bool, depth: usize) {
        if !is_empty {
            self.line(depth);
        }
        self.out.push(close);
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.style.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str(indent);
            }
        }
    }

    /// Pays for what has been written since the last call, and for the visit itself: a list that
    /// holds one other list a million times must not come free.
    fn charge(&mut self) -> Result<(), Error> {
        let n_new = self.out.len() - self.n_charged;
        self.n_charged = self.out.len();
        self.state.consume_fuel(1 + n_new as u64 / 64)
    }
}

/// `repr(float)`: the shortest digits that read back; an exponent below 1e-4 and from 1e16 on.
fn python_float(number: f64) -> String {
    let magnitude = number.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    // `Debug` writes `1.0` where `Display` writes `1`, and no exponent in this range.
    format!("{number:?}")
}

#[cfg(test)]
mod tests {
    use super::python_float;

    #[track_caller]
    fn check(number: f64, expected: &str) {
        assert_eq!(python_float(number), expected);
    }

    #[test]
    fn floats_are_written_as_python_does() {
        check(0.0, "0.0");
        check(-0.0, "-0.0");
        check(1.0, "1.0");
        check(0.1, "0.1");
        check(1e-4, "0.0001");
        check(1e-5, "1e-05");
        check(1.5e-7, "1.5e-07");
        check(1e15, "1000000000000000.0");
        check(123_456_789_012_345_680.0, "1.2345678901234568e+17");
        check(1e16, "1e+16");
        check(-2.5e100, "-2.5e+100");
    }
}
