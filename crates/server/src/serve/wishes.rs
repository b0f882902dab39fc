//! What a request would like of a model's reasoning, as far as the model's template can do it.

use super::prepare::{EFFORT, SWITCH};
use crate::dialects::{Thinking, Wishes};
use serde_json::{Map, Value};
use text::ChatTemplate;

/// What became of the wishes, beside the template's variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// Paths of those that had no effect.
    pub(super) ignored: Vec<String>,
    /// What was brought into another form.
    pub(super) adapted: Option<&'static str>,
    /// Most tokens of a train of thought.
    pub(super) budget: Option<u32>,
}

/// Sets the variables of the template by which it knows how much is to be thought. `is_marked` is
/// whether the model's vocabulary tells reasoning from answers.
///
/// Not to think is said by the template's switch and by its word for no effort. Where reasoning is
/// marked, it has no tokens in any case: some templates begin it whatever they are told, and some
/// models do so by themselves.
pub(super) fn make(
    wishes: &Wishes,
    template: Option<&ChatTemplate>,
    is_marked: bool,
    kwargs: &mut Map<String, Value>,
) -> Made {
    let mut made = Made::default();
    let reads = |name: &str| template.is_some_and(|template| template.reads(name));
    let thinks = is_marked || reads(SWITCH) || reads(EFFORT);
    let mut is_off = false;
    if let Some(thinking) = wishes.thinking {
        let wants_none = thinking.what == Thinking::Off;
        // What the request says to the template itself goes before its wishes.
        let is_switched_on = reads(SWITCH) && kwargs.get(SWITCH) == Some(&Value::Bool(true));
        let is_switched_off = reads(SWITCH) && kwargs.get(SWITCH) == Some(&Value::Bool(false));
        if reads(SWITCH) {
            kwargs.entry(SWITCH).or_insert(Value::Bool(!wants_none));
        }
        let has_word = reads(EFFORT) && template.is_some_and(knows_none);
        if wants_none && has_word {
            kwargs.insert(EFFORT.to_owned(), "none".into());
        }
        let can_be_off = is_marked || reads(SWITCH) || has_word;
        is_off = wants_none && can_be_off && !is_switched_on;
        let is_vain = match thinking.what {
            Thinking::On => !thinks || is_switched_off,
            Thinking::Free => false,
            Thinking::Off => thinks && !is_off,
        };
        made.ignored.extend(thinking.param.filter(|_| is_vain).map(str::to_owned));
        made.budget = (is_off && is_marked).then_some(0);
    }
    if let Some(budget) = wishes.budget {
        if is_marked {
            made.budget = made.budget.or(Some(budget.what));
        } else if thinks {
            made.ignored.extend(budget.param.map(str::to_owned));
        }
    }
    if let Some(effort) = wishes.effort {
        if is_off || !reads(EFFORT) {
            made.ignored.extend(effort.param.map(str::to_owned));
        } else {
            let word = nearest(effort.what, template);
            if word != effort.what {
                made.adapted = Some("effort");
            }
            kwargs.insert(EFFORT.to_owned(), word.into());
        }
    }
    made
}

/// The word that a template which reads the effort has for it. Templates know three words, and some
/// name more of them.
fn nearest(effort: &'static str, template: Option<&ChatTemplate>) -> &'static str {
    let (others, usual): (&[&'static str], _) = match effort {
        "max" => (&["max", "xhigh"], "high"),
        "xhigh" => (&["xhigh", "max"], "high"),
        "minimal" => (&["minimal"], "low"),
        word => (&[], word),
    };
    let named = others.iter().find(|word| template.is_some_and(|template| knows(template, word)));
    named.copied().unwrap_or(usual)
}

/// Whether a template names the word for none of it: others print whatever word they are given, or
/// refuse it.
fn knows_none(template: &ChatTemplate) -> bool {
    knows(template, "none")
}

/// Whether a template names a word.
fn knows(template: &ChatTemplate, word: &str) -> bool {
    ['\'', '"'].iter().any(|sign| template.source().contains(&format!("{sign}{word}{sign}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::Wish;
    use serde_json::json;

    type Asked = (Option<Thinking>, Option<u32>, Option<&'static str>);

    fn check((thinking, budget, effort): Asked, source: &str, expected: Value) {
        let wishes = Wishes {
            thinking: thinking.map(|what| Wish { what, param: Some("thinking") }),
            budget: budget.map(|what| Wish { what, param: Some("budget") }),
            effort: effort.map(|what| Wish { what, param: Some("effort") }),
        };
        let template = ChatTemplate::new(source).unwrap();
        let mut kwargs = Map::new();
        let is_marked = source.contains("<think>");
        let made = make(&wishes, Some(&template), is_marked, &mut kwargs);
        let found = json!([kwargs, made.ignored, made.adapted, made.budget]);
        assert_eq!(found, expected, "{wishes:?} {source}");
    }

    const SWITCHED: &str = "{% if enable_thinking %}<think>{% endif %}";
    const ALWAYS: &str = "<think>";
    const PRINTED: &str = "{{ reasoning_effort }}";

    #[test]
    fn thinking_is_switched_off_by_whatever_there_is() {
        let check = |source: &str, expected: Value| {
            check((Some(Thinking::Off), None, None), source, expected);
        };
        check(SWITCHED, json!([{"enable_thinking": false}, [], null, 0]));
        check(
            "{% if enable_thinking %}x{% endif %}",
            json!([{"enable_thinking": false}, [], null, null]),
        );
        check(ALWAYS, json!([{}, [], null, 0]));
        check("<think>{{ reasoning_effort }}", json!([{}, [], null, 0]));
        let word = "{% if reasoning_effort != 'none' %}x{% endif %}";
        check(word, json!([{"reasoning_effort": "none"}, [], null, null]));
        check(PRINTED, json!([{}, ["thinking"], null, null]));
        check("plain", json!([{}, [], null, null]));
    }

    #[test]
    fn the_nearest_word_is_one_that_the_template_names() {
        let check = |source: &str, effort: &'static str, expected: &str| {
            let template = ChatTemplate::new(source).unwrap();
            assert_eq!(nearest(effort, Some(&template)), expected, "{source} {effort}");
        };
        for (effort, expected) in
            [("minimal", "low"), ("medium", "medium"), ("xhigh", "high"), ("max", "high")]
        {
            check(PRINTED, effort, expected);
        }
        let named = "{% if reasoning_effort in ['minimal', \"xhigh\"] %}x{% endif %}";
        for (effort, expected) in [("minimal", "minimal"), ("xhigh", "xhigh"), ("max", "xhigh")] {
            check(named, effort, expected);
        }
    }

    #[test]
    fn what_is_said_to_the_template_itself_goes_before_a_wish() {
        let check = |what: Thinking, is_on: bool, told: &[&str], budget: Option<u32>| {
            let thinking = Some(Wish { what, param: Some("thinking") });
            let wishes = Wishes { thinking, ..Wishes::default() };
            let template = ChatTemplate::new(SWITCHED).unwrap();
            let mut kwargs = Map::from_iter([(SWITCH.to_owned(), Value::Bool(is_on))]);
            let made = make(&wishes, Some(&template), true, &mut kwargs);
            assert_eq!(kwargs[SWITCH], is_on, "{what:?}");
            assert_eq!((made.ignored, made.budget), (owned(told), budget), "{what:?} {is_on}");
        };
        check(Thinking::Off, true, &["thinking"], None);
        check(Thinking::Off, false, &[], Some(0));
        check(Thinking::On, true, &[], None);
        check(Thinking::On, false, &["thinking"], None);
    }

    fn owned(list: &[&str]) -> Vec<String> {
        list.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn what_nobody_stated_is_not_told() {
        let thinking = Some(Wish { what: Thinking::Off, param: None });
        let wishes = Wishes { thinking, ..Wishes::default() };
        let template = ChatTemplate::new(PRINTED).unwrap();
        let made = make(&wishes, Some(&template), false, &mut Map::new());
        assert_eq!(made, Made::default());
    }

    #[test]
    fn what_a_template_cannot_do_is_told() {
        use Thinking::{Free, Off, On};
        let both = "<think>{{ reasoning_effort }}";
        check((Some(On), None, None), SWITCHED, json!([{"enable_thinking": true}, [], null, null]));
        check(
            (Some(Free), None, None),
            SWITCHED,
            json!([{"enable_thinking": true}, [], null, null]),
        );
        check((Some(On), Some(7), None), ALWAYS, json!([{}, [], null, 7]));
        check((Some(Free), None, None), "plain", json!([{}, [], null, null]));
        check((Some(On), Some(7), None), "plain", json!([{}, ["thinking"], null, null]));
        check((Some(On), Some(7), None), PRINTED, json!([{}, ["budget"], null, null]));
        let low = json!({"reasoning_effort": "low"});
        check((None, None, Some("low")), both, json!([low, [], null, null]));
        let high = json!({"reasoning_effort": "high"});
        check((None, None, Some("max")), both, json!([high, [], "effort", null]));
        check((None, None, Some("minimal")), both, json!([low, [], "effort", null]));
        check((None, None, Some("low")), SWITCHED, json!([{}, ["effort"], null, null]));
        check((Some(Off), None, Some("low")), both, json!([{}, ["effort"], null, 0]));
        // It thinks all the same, and then as hard as is wished.
        check((Some(Off), None, Some("low")), PRINTED, json!([low, ["thinking"], null, null]));
    }
}
