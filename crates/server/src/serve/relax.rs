//! Tools whose schemas say more than can be held to, where their client does not insist on it: the
//! rest of a schema is held to, and the response says what is not.

use crate::dialects::{ToolAsk, ToolsAsk};
use engine::{Tool, ToolFormat};

/// Most places that are told, and the longest of them, in bytes; of more only the number.
const N_TOLD: usize = 8;
const N_PLACE_BYTES: usize = 160;

/// Tools that can be held to.
pub(super) struct Relaxed {
    pub(super) tools: Vec<Tool>,
    /// What they are not held to, as the response tells it.
    pub(super) told: Vec<String>,
}

/// Those of the request, of which calls are written in this format. What else is wrong with one,
/// compiling it says.
pub(super) fn relax(format: &ToolFormat, asked: &ToolsAsk) -> Relaxed {
    let (mut told, mut n_all) = (Vec::new(), 0);
    let mut relaxed = |ask: &ToolAsk| {
        // A grammar is what its client insists on.
        let insists = ask.is_strict || asked.custom(&ask.tool.name).is_some();
        let relaxed = if insists { None } else { format.relaxed(&ask.tool).ok() };
        let Some((tool, left_out)) = relaxed else { return ask.tool.clone() };
        n_all += left_out.n_all;
        let n_free = N_TOLD - told.len();
        told.extend(left_out.places.iter().take(n_free).map(|place| of_tool(ask, place)));
        tool
    };
    let tools = asked.callable.iter().map(&mut relaxed).collect();
    if n_all > told.len() {
        told.push(format!("unenforced and {} more", n_all - told.len()));
    }
    Relaxed { tools, told }
}

/// A place in the tool's schema, in visible ASCII.
fn of_tool(ask: &ToolAsk, place: &str) -> String {
    let mut place = format!("{}{place}", ask.param).escape_default().to_string();
    if place.len() > N_PLACE_BYTES {
        place.truncate(N_PLACE_BYTES);
        place.push_str("...");
    }
    format!("unenforced {place}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::ToolChoice;
    use serde_json::{Value, json};

    fn ask(name: &str, parameters: Value, is_strict: bool) -> ToolAsk {
        let tool = Tool { name: name.to_owned(), parameters: Some(parameters), texts: None };
        ToolAsk { tool, param: format!("tools.{name}"), is_strict }
    }

    fn check(callable: Vec<ToolAsk>, expected: &[String]) -> Vec<Option<Value>> {
        let (definitions, choice) = (Value::Null, ToolChoice::Auto);
        let asked =
            ToolsAsk { definitions, callable, choice, is_parallel: true, custom: Vec::new() };
        let relaxed = relax(ToolFormat::generic(), &asked);
        assert_eq!(relaxed.told, expected);
        relaxed.tools.into_iter().map(|tool| tool.parameters).collect()
    }

    fn unique(name: &str) -> Value {
        json!({"type": "object", "properties": {name: {"type": "array", "uniqueItems": true}}})
    }

    #[test]
    fn only_tools_on_which_nobody_insists_are_relaxed() {
        let plain = json!({"type": "object", "properties": {"x": {"format": "date"}}});
        let list = json!({"type": "array"});
        let callable = vec![
            ask("a", unique("x"), false),
            ask("b", unique("x"), true),
            ask("c", plain.clone(), false),
            ask("d", list.clone(), false),
        ];
        let told = "unenforced tools.a#/properties/x/uniqueItems".to_owned();
        let schemas = check(callable, &[told]);
        let rest = json!({"type": "object", "properties": {"x": {"type": "array"}},
            "additionalProperties": false});
        assert_eq!(schemas, [Some(rest), Some(unique("x")), Some(plain), Some(list)]);
    }

    #[test]
    fn what_is_told_is_bounded() {
        let callable = |n: usize| (0..n).map(|i| ask(&i.to_string(), unique("x"), false)).collect();
        let place = |i| format!("unenforced tools.{i}#/properties/x/uniqueItems");
        let mut told: Vec<String> = (0..8).map(place).collect();
        check(callable(8), &told);
        told.push("unenforced and 92 more".to_owned());
        check(callable(100), &told);
        let long = format!("unenforced tools.a#/properties/\\u{{e9}}{}...", "x".repeat(134));
        check(vec![ask("a", unique(&format!("\u{e9}{}", "x".repeat(200))), false)], &[long]);
    }
}
