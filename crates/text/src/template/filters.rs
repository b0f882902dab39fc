//! Filters and tests whose results differ between Jinja2 and `minijinja`.
//!
//! In Jinja2 `map`, `select` and their kin give a generator: always true, without length, read
//! once, not JSON. Templates were written against that (`… | list | length`), and one that forgot
//! the `list` fails in `transformers`; here it has to fail too, not render something of its own.
//! For the same reason `none` is not an empty list.

use std::borrow::Cow;

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

use super::{json, rewrite};

/// Puts the dialect's filters in place of the engine's.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", json::tojson);
    environment.add_filter(rewrite::CHECKED, checked);
    environment.add_filter("list", list);
    environment.add_filter("map", map);
    environment.add_filter("select", select);
    environment.add_filter("reject", reject);
    environment.add_filter("selectattr", selectattr);
    environment.add_filter("rejectattr", rejectattr);
    // Its work grows with the square of the nesting before a step is charged; no template debugs.
    environment.remove_filter("pprint");
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
}

type Args = Rest<ValueOrKwargs>;

fn generator(items: Vec<Value>) -> Value {
    Value::make_one_shot_iterator(items.into_iter())
}

/// Python iterates over lists, strings, dictionaries and, in Jinja2, undefined values; not `None`.
fn checked(value: &Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(Error::new(ErrorKind::InvalidOperation, "none is not iterable"));
    }
    value.try_iter().map(|_| value.clone())
}

/// Whether Python's `iter` takes the value.
fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Whether the value has a length and can be indexed: strings and dictionaries too.
fn is_sequence(value: &Value) -> bool {
    is_iterable(value) && (value.is_undefined() || value.len().is_some())
}

fn list(state: &mut State<'_, '_>, value: Value) -> Result<Value, Error> {
    filters::list(state, checked(&value)?)
}

fn map(state: &mut State<'_, '_>, value: Value, args: Args) -> Result<Value, Error> {
    filters::map(state, checked(&value)?, args).map(generator)
}

fn select(
    state: &mut State<'_, '_>,
    value: Value,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::select(state, checked(&value)?, test, args).map(generator)
}

fn reject(
    state: &mut State<'_, '_>,
    value: Value,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::reject(state, checked(&value)?, test, args).map(generator)
}

fn selectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: Cow<'_, str>,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::selectattr(state, checked(&value)?, attribute, test, args).map(generator)
}

fn rejectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: Cow<'_, str>,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::rejectattr(state, checked(&value)?, attribute, test, args).map(generator)
}
