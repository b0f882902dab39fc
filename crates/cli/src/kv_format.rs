//! The `--kv` option: how keys and values of past positions are kept.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use kernels::KvFormat;

/// Reads the name of a format.
pub(crate) fn parser() -> impl TypedValueParser<Value = KvFormat> {
    PossibleValuesParser::new(KvFormat::ALL.map(KvFormat::name)).map(|name| {
        let format = KvFormat::ALL.into_iter().find(|format| format.name() == name);
        format.expect("the parser lets only names of formats through")
    })
}
