//! The label of a request.

use crate::condition::{Condition, Kind, Seen, Verdict, words};
use crate::error::{Problem, listed};
use crate::label::Label;
use crate::source::Value;

/// `label = "public"` or a list of labels.
pub(super) const LABEL: Kind =
    Kind { name: "label", read: |value| Ok(Box::new(Labels(read(value)?))) };

/// The labels that the field names.
pub(crate) fn read(value: &Value<'_>) -> Result<Vec<Label>, Problem> {
    words(value)?.iter().map(|one| one.word(Label::NAMES)).collect()
}

#[derive(Debug)]
struct Labels(Vec<Label>);

impl Condition for Labels {
    fn holds(&self, seen: &Seen<'_>) -> Verdict {
        let expected = || listed(self.0.iter().map(|label| label.name()));
        Verdict::of(self.0.contains(&seen.label), || {
            format!("\"{}\", expected {}", seen.label, expected())
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::condition::testing::*;

    #[test]
    fn a_label_is_one_of_those() {
        check("label = \"public\"", "key_label=public", None);
        check("label = [\"public\", \"internal\"]", "key_label=internal", None);
        let private = Some("\"private\", expected \"public\"");
        check("label = \"public\"", "", private);
        check("label = \"public\"", "header_label=public", private);
        check("label = \"public\"", "key_label=public header_label=private", private);
        check_refused("label = \"pubic\"", "label: \"pubic\", did you mean \"public\"?");
        check_refused("label = []", "label: empty");
    }
}
