//! Calls of tools.

use serde_json::{Map, Value};

use crate::answer::Call;
use crate::error::{quoted, shown};
use crate::expect::{Check, Kind, Seen, json};

/// `call = "tool"`: some call is of this tool, complete, and has these `arguments` (others may be
/// beside them, unless `only = true`).
pub(super) const CALL: Kind = Kind {
    name: "call",
    read: |fields| {
        let name = fields.must_text("call")?;
        let arguments = fields.object("arguments")?.unwrap_or_default();
        let is_only = fields.flag("only")?.unwrap_or(false);
        Ok(Box::new(Called { name, arguments, is_only }))
    },
};

/// `no_call = true`: nothing is called.
pub(super) const NO_CALL: Kind = Kind {
    name: "no_call",
    read: |fields| match fields.flag("no_call")? {
        Some(true) => Ok(Box::new(NotCalled)),
        _ => Err(fields.wrong("no_call", "false, expected true")),
    },
};

#[derive(Debug)]
struct Called {
    name: String,
    arguments: Map<String, Value>,
    is_only: bool,
}

impl Called {
    /// Why `call` is not the one, where it is not.
    fn fits(&self, call: &Call) -> Result<(), String> {
        let name = &call.name;
        if *name != self.name {
            return Err(format!("calls {}, expected {}", quoted(name), quoted(&self.name)));
        }
        if !call.is_complete {
            return Err(format!("call of {name}: cut off"));
        }
        let Ok(Value::Object(found)) = serde_json::from_str(&call.arguments) else {
            let arguments = quoted(&call.arguments);
            return Err(format!("call of {name}: arguments {arguments} are no JSON object"));
        };
        for (key, expected) in &self.arguments {
            let found = found.get(key);
            if !found.is_some_and(|found| json::is_same(found, expected)) {
                let found = found.map_or("absent".to_owned(), shown);
                let expected = shown(expected);
                return Err(format!("call of {name}: {key} is {found}, expected {expected}"));
            }
        }
        match found.keys().find(|key| self.is_only && !self.arguments.contains_key(*key)) {
            Some(key) => Err(format!("call of {name}: has {} too", quoted(key))),
            None => Ok(()),
        }
    }
}

impl Check for Called {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let mut first = None;
        for call in &seen.answer.calls {
            match self.fits(call) {
                Ok(()) => return Ok(()),
                // Of several calls the first of this tool says most.
                Err(problem) if first.is_none() || call.name == self.name => {
                    first = Some(problem);
                }
                Err(_) => {}
            }
        }
        Err(first.unwrap_or_else(|| format!("calls nothing, expected {}", quoted(&self.name))))
    }
}

#[derive(Debug)]
struct NotCalled;

impl Check for NotCalled {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        match seen.answer.calls.first() {
            None => Ok(()),
            Some(call) => Err(format!("calls {}, expected no call", quoted(&call.name))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Answer;
    use crate::expect::testing::*;
    use serde_json::json;

    fn calling(calls: &[(&str, &str, bool)]) -> Answer {
        let call = |&(name, arguments, is_complete): &(&str, &str, bool)| Call {
            name: name.to_owned(),
            arguments: arguments.to_owned(),
            is_complete,
        };
        Answer { calls: calls.iter().map(call).collect(), ..Answer::default() }
    }

    #[test]
    fn calls_are_found_with_their_arguments() {
        let weather = |arguments: Value| json!({"call": "weather", "arguments": arguments});
        let paris =
            calling(&[("now", "{}", true), ("weather", "{\"city\":\"Paris\",\"n\":1}", true)]);
        check_answer(json!({"call": "now"}), &paris, None);
        check_answer(weather(json!({"city": "Paris"})), &paris, None);
        check_answer(weather(json!({"n": 1.0})), &paris, None);
        let rome = weather(json!({"city": "Rome"}));
        check_answer(rome, &paris, Some("city is \"Paris\", expected \"Rome\""));
        let only = json!({"call": "weather", "arguments": {"city": "Paris"}, "only": true});
        check_answer(only, &paris, Some("call of weather: has \"n\" too"));
        check_answer(weather(json!({"x": 1})), &paris, Some("x is absent"));
        check_answer(json!({"call": "send"}), &paris, Some("calls \"now\", expected \"send\""));
        check_answer(json!({"call": "send"}), &calling(&[]), Some("calls nothing"));
        let cut = calling(&[("weather", "{\"city\":\"Par", false)]);
        check_answer(weather(json!({})), &cut, Some("cut off"));
        check_answer(
            weather(json!({})),
            &calling(&[("weather", "1", true)]),
            Some("no JSON object"),
        );
        check_answer(json!({"no_call": true}), &calling(&[]), None);
        check_answer(json!({"no_call": true}), &paris, Some("calls \"now\", expected no call"));
        check_refused(json!({"no_call": false}), "no_call: false, expected true");
    }
}
