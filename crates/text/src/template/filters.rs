//! Filters whose results differ between Jinja2 and `minijinja`.
//!
//! In Jinja2 `map`, `select` and their kin give a generator: always true, without length, read once,
//! not JSON. Templates were written against that (`… | list | length`), and a template that forgot
//! the `list` fails in `transformers`; here it has to fail too, not render something of its own.

use std::borrow::Cow;

use minijinja::value::{Rest, ValueOrKwargs};
use minijinja::{Environment, Error, State, Value, filters};

use super::json;

/// Puts the dialect's filters in place of the engine's.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("map", map);
    environment.add_filter("select", select);
    environment.add_filter("reject", reject);
    environment.add_filter("selectattr", selectattr);
    environment.add_filter("rejectattr", rejectattr);
}

type Args = Rest<ValueOrKwargs>;

fn generator(items: Vec<Value>) -> Value {
    Value::make_one_shot_iterator(items.into_iter())
}

fn map(state: &mut State<'_, '_>, value: Value, args: Args) -> Result<Value, Error> {
    filters::map(state, value, args).map(generator)
}

fn select(
    state: &mut State<'_, '_>,
    value: Value,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::select(state, value, test, args).map(generator)
}

fn reject(
    state: &mut State<'_, '_>,
    value: Value,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::reject(state, value, test, args).map(generator)
}

fn selectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: Cow<'_, str>,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::selectattr(state, value, attribute, test, args).map(generator)
}

fn rejectattr(
    state: &mut State<'_, '_>,
    value: Value,
    attribute: Cow<'_, str>,
    test: Option<Cow<'_, str>>,
    args: Args,
) -> Result<Value, Error> {
    filters::rejectattr(state, value, attribute, test, args).map(generator)
}
