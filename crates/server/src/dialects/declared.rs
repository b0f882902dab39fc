//! What a route declares of each field: what becomes of it and which values it may have.
//!
//! The declarations are read in three places: [`Fields`](super::fields::Fields) goes by them when a
//! request is read, `routes` publishes them (as the OpenAPI document and as the page of
//! docs/compatibility.md), and a test sends a real request for each and looks what becomes of it.

use serde_json::Value;

/// Start of a range that does not hold 0.
pub(crate) const POSITIVE: f64 = f32::MIN_POSITIVE as f64;
/// End of a range that has none of its own.
pub(crate) const NO_END: i64 = i64::MAX;

/// What becomes of a field that a route knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Treatment {
    /// It has the effect that it asks for, or is refused for its value.
    Honoured,
    /// The same as far as the model can; where it had another form for it or no effect, the
    /// response says so.
    Adapted,
    /// It asks for nothing that this server could fail to do.
    Tolerated,
    /// It has no effect, and the response says so.
    Ignored,
    /// It is refused for this reason, unless it [asks for nothing](asks_for_nothing).
    Refused(&'static str),
}

/// What becomes of a field that a route does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It is refused.
    Refused,
    /// It has no effect, and the response says so.
    Ignored,
}

/// Which values a field may have; `null` is none everywhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    /// The declaration does not say.
    Any,
    /// `true` or `false`.
    Flag,
    /// A string.
    Text,
    /// One of these strings.
    Words(&'static [&'static str]),
    /// A number from the first to the second.
    Number(f64, f64),
    /// An integer from the first to the second.
    Integer(i64, i64),
    /// What a JSON schema says, which stands here as text. It may allow more than is accepted, not
    /// less.
    Shape(&'static str),
}

/// The declaration of one field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Field {
    /// As on the wire.
    pub(crate) name: &'static str,
    /// What becomes of it.
    pub(crate) treatment: Treatment,
    /// Its values, where it is honoured.
    pub(crate) kind: Kind,
    /// Whether some models can do it and others cannot: with those it is refused by name.
    pub(crate) is_by_model: bool,
    /// A value that is accepted, as JSON; `None`: see [`Field::example`].
    good: Option<&'static str>,
    /// Fields beside which that value makes sense, as a JSON object.
    pub(crate) beside: Option<&'static str>,
    /// What there is to know of it, in a few words.
    pub(crate) note: &'static str,
}

impl Field {
    const fn new(name: &'static str, treatment: Treatment) -> Self {
        let (kind, good, beside, note) = (Kind::Any, None, None, "");
        Self { name, treatment, kind, is_by_model: false, good, beside, note }
    }

    /// See [`Treatment::Honoured`].
    pub(crate) const fn honoured(name: &'static str) -> Self {
        Self::new(name, Treatment::Honoured)
    }

    /// See [`Treatment::Adapted`].
    pub(crate) const fn adapted(name: &'static str) -> Self {
        Self::new(name, Treatment::Adapted)
    }

    /// See [`Treatment::Tolerated`].
    pub(crate) const fn tolerated(name: &'static str) -> Self {
        Self::new(name, Treatment::Tolerated)
    }

    /// See [`Treatment::Ignored`].
    pub(crate) const fn ignored(name: &'static str) -> Self {
        Self::new(name, Treatment::Ignored)
    }

    /// See [`Treatment::Refused`].
    pub(crate) const fn refused(name: &'static str, why: &'static str) -> Self {
        Self::new(name, Treatment::Refused(why))
    }

    const fn kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// See [`Kind::Flag`].
    pub(crate) const fn flag(self) -> Self {
        self.kind(Kind::Flag)
    }

    /// See [`Kind::Text`].
    pub(crate) const fn text(self) -> Self {
        self.kind(Kind::Text)
    }

    /// See [`Kind::Words`].
    pub(crate) const fn words(self, words: &'static [&'static str]) -> Self {
        self.kind(Kind::Words(words))
    }

    /// See [`Kind::Number`].
    pub(crate) const fn number(self, least: f64, most: f64) -> Self {
        self.kind(Kind::Number(least, most))
    }

    /// See [`Kind::Integer`].
    pub(crate) const fn integer(self, least: i64, most: i64) -> Self {
        self.kind(Kind::Integer(least, most))
    }

    /// An integer of at least `least`.
    pub(crate) const fn count(self, least: u32) -> Self {
        self.kind(Kind::Integer(least as i64, NO_END))
    }

    /// See [`Kind::Shape`].
    pub(crate) const fn shape(self, schema: &'static str) -> Self {
        self.kind(Kind::Shape(schema))
    }

    /// Only some models can do it: see [`Field::is_by_model`].
    pub(crate) const fn by_model(self) -> Self {
        Self { is_by_model: true, ..self }
    }

    /// A value that is accepted, as JSON.
    pub(crate) const fn good(self, json: &'static str) -> Self {
        Self { good: Some(json), ..self }
    }

    /// Fields that stand beside that value, as a JSON object.
    pub(crate) const fn beside(self, json: &'static str) -> Self {
        Self { beside: Some(json), ..self }
    }

    /// What there is to know of it.
    pub(crate) const fn note(self, note: &'static str) -> Self {
        Self { note, ..self }
    }

    /// Whether the reader of a request takes it.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.treatment, Treatment::Honoured | Treatment::Adapted)
    }

    /// Whether a reader that takes values of `kind` goes by this declaration.
    pub(crate) fn is_read_as(&self, kind: Kind) -> bool {
        self.is_read()
            && match (self.kind, kind) {
                (Kind::Any | Kind::Shape(_), _) | (_, Kind::Any) => true,
                (Kind::Words(_), Kind::Text) => true,
                // The operator may set another end.
                (Kind::Integer(least, NO_END), Kind::Integer(read_least, _)) => least == read_least,
                (declared, read) => declared == read,
            }
    }

    /// A value that is accepted where the field is; `None` where the declaration has none.
    pub(crate) fn example(&self) -> Option<Value> {
        if let Some(good) = self.good {
            return Some(literal(good));
        }
        match self.kind {
            Kind::Any | Kind::Text | Kind::Shape(_) => None,
            Kind::Flag => Some(true.into()),
            Kind::Words(words) => words.first().map(|word| (*word).into()),
            Kind::Number(least, most) => Some(f64::midpoint(least, most).into()),
            Kind::Integer(least, _) => Some(least.max(1).into()),
        }
    }
}

/// Whether a value asks for nothing, so that a field which cannot be honoured may have it.
pub(crate) fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// JSON of a declaration.
pub(crate) fn literal(json: &str) -> Value {
    serde_json::from_str(json).expect("what is declared is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_must_read_what_is_declared() {
        let check = |field: Field, kind: Kind, expected: bool| {
            assert_eq!(field.is_read_as(kind), expected, "{field:?} {kind:?}");
        };
        let field = Field::honoured("a");
        check(field, Kind::Flag, true);
        check(field.flag(), Kind::Flag, true);
        check(field.flag(), Kind::Any, true);
        check(field.flag(), Kind::Text, false);
        check(field.words(&["x"]), Kind::Text, true);
        check(field.number(0.0, 2.0), Kind::Number(0.0, 2.0), true);
        check(field.number(0.0, 2.0), Kind::Number(0.0, 1.0), false);
        check(field.count(1), Kind::Integer(1, 16), true);
        check(field.count(1), Kind::Integer(0, NO_END), false);
        check(field.integer(1, 5), Kind::Integer(1, 6), false);
        check(Field::tolerated("a"), Kind::Any, false);
        check(Field::refused("a", "no"), Kind::Flag, false);
    }

    #[test]
    fn what_asks_for_nothing_is_no_request() {
        for (json, expected) in [
            ("null", true),
            ("false", true),
            ("[]", true),
            (r#""""#, true),
            ("true", false),
            ("0", false),
            ("{}", false),
            ("[1]", false),
            (r#""a""#, false),
        ] {
            assert_eq!(asks_for_nothing(&literal(json)), expected, "{json}");
        }
    }
}
