//! The decision: the first rule that fits, and how it came to it.

use crate::condition::Seen;
use crate::facts::Facts;
use crate::label::{self, Label};
use crate::outcome::{Outcome, Route};
use crate::rule::Rules;

/// What becomes of a request, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Where it goes.
    pub route: Route,
    /// Its label.
    pub label: Label,
    /// What the label comes from, at least one line.
    pub label_because: Vec<String>,
    /// The rules that were asked, in order.
    pub considered: Vec<Considered>,
    /// What of the outcome was left out, and why.
    pub notes: Vec<String>,
    /// Whether the rule that decides, or that none fits, has it answered here and nowhere else,
    /// where it can be.
    pub is_kept: bool,
}

/// A rule that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// Its name.
    pub rule: String,
    /// Its line.
    pub line: usize,
    /// The conditions that do not hold; empty: this rule decides.
    pub why_not: Vec<String>,
    /// Conditions over what is not known, which count as holding since the rule sends nothing.
    pub assumed: Vec<String>,
}

impl Decision {
    /// The rule that decides; `None`: no rule fits, and a request is answered here where it can be.
    pub fn rule(&self) -> Option<&Considered> {
        self.considered.last().filter(|last| last.why_not.is_empty())
    }
}

/// Decides where a request goes: by the first rule all of whose conditions hold, else here, and
/// where it cannot be answered here it is refused.
///
/// A condition over a fact that is not known holds in a rule that keeps or refuses, and does not
/// hold in one that may send; and where nobody looked for personal data and secrets, everything
/// that raises a label may be there. So what the rules keep when all is known they keep when less
/// is.
pub fn decide(rules: &Rules, facts: &Facts) -> Decision {
    let (label, label_because) = label::of_request(rules, facts);
    let seen = Seen { facts, label };
    let mut considered = Vec::new();
    let mut outcome = &Outcome::Here;
    for rule in &rules.rules {
        let asked = rule.ask(&seen);
        let decides = asked.why_not.is_empty();
        considered.push(Considered {
            rule: rule.name.clone(),
            line: rule.place.line,
            why_not: asked.why_not,
            assumed: asked.assumed,
        });
        if decides {
            outcome = &rule.outcome;
            break;
        }
    }
    let (route, notes) = outcome.route(label, facts);
    let is_kept = matches!(outcome, Outcome::Here);
    Decision { route, label, label_because, considered, notes, is_kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PolicyError;

    const POLICY: &str = r#"
upstreams = ["big", "cluster"]

[detect]
raise = { secret = "private", email = "internal" }

[[rule]]
name = "nights are free"
time = "22:00-06:00"
outcome = "here"

[[rule]]
name = "images"
label = "public"
needs = "images"
outcome = "there"
upstream = "big"

[[rule]]
name = "long"
label = ["public", "internal"]
tokens = { min = 1000 }
outcome = "here-then-there"
upstream = "cluster"
redacted = true

[[rule]]
name = "no money"
budget = { max = 0 }
outcome = "refuse"
reason = "the budget is used up"
"#;

    fn decision(facts: &str) -> Result<Decision, PolicyError> {
        let rules = Rules::parse("t.toml", POLICY)?;
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.replace('_', " "))
        };
        let pairs: Vec<_> = facts.split_whitespace().map(pair).collect();
        Ok(decide(&rules, &Facts::from_pairs(&pairs)?))
    }

    /// The day, with nothing detected and money left.
    const DAY: &str = "time=12:00 budget=5 detected=none ";

    #[track_caller]
    fn check(facts: &str, route: &str, rule: Option<&str>) -> Decision {
        let decision = decision(facts).unwrap();
        let found = (decision.route.name(), decision.rule().map(|rule| rule.rule.as_str()));
        assert_eq!(found, (route, rule), "{facts}: {decision:#?}");
        decision
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let of = |facts: &str| format!("{DAY}{facts}");
        let images = "key_label=public needs=images tokens=5";
        check(&of(images), "there", Some("images"));
        check(&format!("detected=none time=23:00 {images}"), "here", Some("nights are free"));
        let long = check(&of("key_label=internal tokens=1000"), "here-then-there", Some("long"));
        let departure = long.route.departure().unwrap();
        assert_eq!((departure.upstream(), departure.is_redacted()), ("cluster", true));
        assert_eq!(long.considered[1].why_not.len(), 2, "label and needs");
        check(&of("key_label=private tokens=1000"), "here", None);
        check(&of("key_label=public tokens=5"), "here", None);
        check("time=12:00 detected=none budget=0", "refuse", Some("no money"));
    }

    #[test]
    fn a_label_is_raised_and_never_lowered() {
        let of = |facts: &str| decision(&format!("time=12:00 {facts}")).unwrap();
        assert_eq!(of("detected=none").label, Label::Private);
        assert_eq!(of("detected=none header_label=public").label, Label::Private);
        assert_eq!(of("detected=none key_label=public").label, Label::Public);
        let raised = of("detected=none key_label=public header_label=internal");
        assert_eq!(raised.label, Label::Internal);
        let raised = of("detected=email key_label=public header_label=public");
        assert_eq!(raised.label, Label::Internal);
        let expected = [
            "the key says public",
            "email was detected: internal",
            "the header says public, which lowers nothing",
        ];
        assert_eq!(raised.label_because, expected);
        assert_eq!(of("detected=jwt,email key_label=public").label, Label::Private);
        let unknown = of("key_label=public");
        assert_eq!(unknown.label, Label::Private);
        assert_eq!(unknown.label_because[1], "nobody looked for what raises it: private");
    }

    #[test]
    fn what_cannot_be_asked_is_left_out() {
        let of = |facts: &str| format!("{DAY}key_label=public {facts}");
        let long = "tokens=1000 needs=none ";
        check(&of(&format!("{long}down=cluster")), "here", Some("long"));
        check(&of(&format!("{long}here_problem=no_model")), "there", Some("long"));
        let both = format!("{long}here_problem=no_model down=cluster");
        let refused = check(&of(&both), "refuse", Some("long"));
        let reason = "it cannot be answered here: no model; upstream \"cluster\" cannot be asked";
        assert_eq!(refused.route, Route::Refuse { reason: reason.to_owned() });
        check(&of("needs=images down=big"), "refuse", Some("images"));
        check(&of("tokens=1 needs=none here_problem=no_model"), "refuse", None);
    }

    #[test]
    fn what_is_not_known_keeps() {
        // The time may be at night, so the first rule keeps it.
        let kept = check(
            "detected=none budget=5 key_label=public needs=images",
            "here",
            Some("nights are free"),
        );
        assert_eq!(kept.rule().unwrap().assumed, ["time is not known"]);
        let passed =
            check("time=12:00 detected=none budget=5 key_label=public tokens=1", "here", None);
        assert_eq!(passed.considered[1].why_not, ["needs is not known"]);
        check("time=12:00 detected=none", "refuse", Some("no money"));
    }
}
