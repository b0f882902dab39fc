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
}

/// Sets the variables of the template by which it knows how much is to be thought. `is_marked` is
/// whether the model's vocabulary tells reasoning from answers: without, it is no reasoning model.
///
/// Not to think is said by "reasoning_effort" where there is no switch; whoever renders knows what
/// to do where the template has neither.
pub(super) fn make(
    wishes: &Wishes,
    template: Option<&ChatTemplate>,
    is_marked: bool,
    kwargs: &mut Map<String, Value>,
) -> Made {
    let mut made = Made::default();
    let reads = |name: &str| template.is_some_and(|template| template.reads(name));
    if let Some(thinking) = wishes.thinking {
        let is_off = thinking.what == Thinking::Off;
        if reads(SWITCH) {
            kwargs.insert(SWITCH.to_owned(), Value::Bool(!is_off));
        } else if is_off && (is_marked || reads(EFFORT)) {
            kwargs.insert(EFFORT.to_owned(), "none".into());
        } else if thinking.what == Thinking::On && !is_marked && !reads(EFFORT) {
            made.ignored.push(thinking.param.to_owned());
        }
    }
    if let Some(effort) = wishes.effort {
        if !reads(EFFORT) {
            made.ignored.push(effort.param.to_owned());
        } else if !kwargs.contains_key(EFFORT) {
            // Templates know three words.
            let word = match effort.what {
                "xhigh" | "max" => {
                    made.adapted = Some("effort");
                    "high"
                }
                word => word,
            };
            kwargs.insert(EFFORT.to_owned(), word.into());
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::Wish;
    use serde_json::json;

    fn check(wishes: (Option<Thinking>, Option<&'static str>), source: &str, expected: Value) {
        let wishes = Wishes {
            thinking: wishes.0.map(|what| Wish { what, param: "thinking" }),
            effort: wishes.1.map(|what| Wish { what, param: "effort" }),
        };
        let template = ChatTemplate::new(source).unwrap();
        let mut kwargs = Map::new();
        let is_marked = source.contains("<think>");
        let made = make(&wishes, Some(&template), is_marked, &mut kwargs);
        let found = json!([kwargs, made.ignored, made.adapted]);
        assert_eq!(found, expected, "{wishes:?} {source}");
    }

    #[test]
    fn what_a_template_cannot_do_is_told() {
        use Thinking::{Free, Off, On};
        let switch = "{% if enable_thinking %}<think>{% endif %}";
        let effort = "<think>{{ reasoning_effort }}";
        check((Some(On), None), switch, json!([{"enable_thinking": true}, [], null]));
        check((Some(Free), None), switch, json!([{"enable_thinking": true}, [], null]));
        check((Some(Off), None), switch, json!([{"enable_thinking": false}, [], null]));
        check((Some(Off), None), effort, json!([{"reasoning_effort": "none"}, [], null]));
        check((Some(Off), None), "<think>", json!([{"reasoning_effort": "none"}, [], null]));
        check((Some(On), None), "<think>", json!([{}, [], null]));
        check((Some(Off), None), "plain", json!([{}, [], null]));
        check((Some(Free), None), "plain", json!([{}, [], null]));
        check((Some(On), None), "plain", json!([{}, ["thinking"], null]));
        check((None, Some("low")), effort, json!([{"reasoning_effort": "low"}, [], null]));
        check((None, Some("max")), effort, json!([{"reasoning_effort": "high"}, [], "effort"]));
        check((None, Some("low")), switch, json!([{}, ["effort"], null]));
        check((Some(Off), Some("low")), effort, json!([{"reasoning_effort": "none"}, [], null]));
    }
}
