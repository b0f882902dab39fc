//! Python methods of strings, lists and dictionaries that templates call.
//!
//! Most come from `minijinja-contrib`; this adds the ones it lacks, and pays in steps, before they
//! run, for those whose result can be far larger than their input.

use minijinja::value::from_args;
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Bytes that one step pays for, as in the engine's own accounting.
const BYTES_PER_STEP: usize = 64;

/// Widest field that `str.format` and its kin may pad to.
const WIDTH_MAX: usize = 10_000;

/// Calls `value.method(args)` for a method that the engine itself does not know.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        pay(state, text, method, args)?;
        if let Some(result) = string_method(text, method, args)? {
            return Ok(result);
        }
    }
    pycompat::unknown_method_callback(state, value, method, args)
}

/// Charges what a string method may produce, before it does.
fn pay(state: &State<'_, '_>, text: &str, method: &str, args: &[Value]) -> Result<(), Error> {
    let len_of = |idx: usize| args.get(idx).and_then(Value::as_str).map_or(0, str::len);
    let n_bytes = match method {
        "replace" => {
            let n_matches = text.len() / len_of(0).max(1) + 1;
            text.len().saturating_add(n_matches.saturating_mul(len_of(1)))
        }
        "join" => {
            let n_items = args.first().and_then(Value::len).unwrap_or(0);
            text.len().saturating_mul(n_items)
        }
        // A list of short strings costs far more than its text.
        "split" | "rsplit" | "splitlines" => text.len().saturating_mul(32),
        "format" => format_bytes(text)?,
        _ => text.len(),
    };
    state.consume_fuel((n_bytes / BYTES_PER_STEP) as u64 + 1)
}

/// What the widths and precisions in a format string ask for at least.
fn format_bytes(format: &str) -> Result<usize, Error> {
    let mut n_bytes = format.len();
    for number in format.split(|char: char| !char.is_ascii_digit()).filter(|run| !run.is_empty()) {
        let width = number.parse().unwrap_or(usize::MAX);
        if width > WIDTH_MAX {
            let detail = format!("format: width {number}, expected at most {WIDTH_MAX}");
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        }
        n_bytes = n_bytes.saturating_add(width);
    }
    Ok(n_bytes)
}

/// The string methods of Python that `minijinja-contrib` lacks; `None` for any other name.
fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        "rsplit" => rsplit(text, args)?,
        "partition" => {
            let (separator,): (&str,) = from_args(args)?;
            let (head, tail) = separate(text, separator)?.unwrap_or((text, ""));
            let found = if head.len() == text.len() { "" } else { separator };
            Value::from((head, found, tail))
        }
        "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            non_empty(separator)?;
            match text.rsplit_once(separator) {
                Some((head, tail)) => Value::from((head, separator, tail)),
                None => Value::from(("", "", text)),
            }
        }
        "index" => {
            let (what,): (&str,) = from_args(args)?;
            let at = text.find(what).ok_or_else(|| invalid("index: substring not found"))?;
            Value::from(text[..at].chars().count())
        }
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            Value::from(zero_filled(text, width)?)
        }
        "swapcase" | "casefold" | "translate" | "encode" | "expandtabs" | "center" | "ljust"
        | "rjust" | "format_map" | "isidentifier" | "isprintable" => {
            return Err(invalid(&format!("str.{method} is not supported in chat templates")));
        }
        _ => return Ok(None),
    };
    Ok(Some(result))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, n_splits): (Option<&str>, Option<i64>) = from_args(args)?;
    let n_pieces = match n_splits {
        Some(n_splits) if n_splits >= 0 => usize::try_from(n_splits).unwrap_or(usize::MAX - 1) + 1,
        _ => usize::MAX,
    };
    let mut pieces: Vec<Value> = match separator {
        Some(separator) => {
            non_empty(separator)?;
            text.rsplitn(n_pieces, separator).map(Value::from).collect()
        }
        None => rsplit_whitespace(text, n_pieces),
    };
    pieces.reverse();
    Ok(Value::from(pieces))
}

/// Words from the end; the last of `n_pieces` keeps its inner whitespace.
fn rsplit_whitespace(text: &str, n_pieces: usize) -> Vec<Value> {
    let mut pieces = Vec::new();
    let mut rest = text.trim_end();
    while !rest.is_empty() {
        let cut = rest.rfind(char::is_whitespace).filter(|_| pieces.len() + 1 < n_pieces);
        let Some(cut) = cut else {
            pieces.push(Value::from(rest));
            break;
        };
        let width = rest[cut..].chars().next().map_or(1, char::len_utf8);
        pieces.push(Value::from(&rest[cut + width..]));
        rest = rest[..cut].trim_end();
    }
    pieces
}

fn separate<'a>(text: &'a str, separator: &str) -> Result<Option<(&'a str, &'a str)>, Error> {
    non_empty(separator)?;
    Ok(text.split_once(separator))
}

fn non_empty(separator: &str) -> Result<(), Error> {
    if separator.is_empty() { Err(invalid("empty separator")) } else { Ok(()) }
}

fn zero_filled(text: &str, width: usize) -> Result<String, Error> {
    if width > WIDTH_MAX {
        return Err(invalid(&format!("zfill: width {width}, expected at most {WIDTH_MAX}")));
    }
    let n_zeros = width.saturating_sub(text.chars().count());
    let n_sign = usize::from(text.starts_with(['+', '-']));
    Ok(format!("{}{}{}", &text[..n_sign], "0".repeat(n_zeros), &text[n_sign..]))
}

fn invalid(detail: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, detail.to_owned())
}
