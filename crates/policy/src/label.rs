//! Labels: how sensitive a request is. A request may raise its label, never lower it.

use std::fmt;

use crate::facts::Facts;
use crate::rule::Rules;

/// How sensitive a request is; the later, the more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Label {
    /// Anybody may read it.
    Public,
    /// May leave where a rule says so.
    Internal,
    /// Never leaves.
    #[default]
    Private,
}

/// A label with which a request may leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sendable {
    /// [`Label::Public`].
    Public,
    /// [`Label::Internal`].
    Internal,
}

impl Label {
    /// All, with their names.
    pub const NAMES: &[(&str, Self)] =
        &[("public", Self::Public), ("internal", Self::Internal), ("private", Self::Private)];

    /// As rules name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Private => "private",
        }
    }

    /// The proof that a request with this label may leave: none for private.
    pub fn sendable(self) -> Option<Sendable> {
        match self {
            Self::Public => Some(Sendable::Public),
            Self::Internal => Some(Sendable::Internal),
            Self::Private => None,
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Sendable> for Label {
    fn from(label: Sendable) -> Self {
        match label {
            Sendable::Public => Self::Public,
            Sendable::Internal => Self::Internal,
        }
    }
}

/// The label of a request, and what it comes from: that of its key, raised by its header and by
/// what was detected in it. Where nobody looked, everything that raises may be there.
pub(crate) fn of_request(rules: &Rules, facts: &Facts) -> (Label, Vec<String>) {
    let (mut label, first) = match facts.key_label {
        Some(label) => (label, format!("the key says {label}")),
        None => (Label::Private, "no key says otherwise: private".to_owned()),
    };
    let mut because = vec![first];
    let mut raise = |to: Label, why: String| {
        if to > label {
            label = to;
            because.push(format!("{why}: {to}"));
        }
    };
    if let Some(header) = facts.header_label {
        raise(header, "the header raises it".to_owned());
    }
    match &facts.detected {
        Some(found) => {
            for class in found {
                if let Some(to) = rules.raised_by(*class) {
                    raise(to, format!("{} was detected", class.name()));
                }
            }
        }
        None => {
            if let Some(to) = rules.highest_raise() {
                raise(to, "nobody looked for what raises it".to_owned());
            }
        }
    }
    if let Some(header) = facts.header_label.filter(|&header| header < label) {
        because.push(format!("the header says {header}, which lowers nothing"));
    }
    (label, because)
}
