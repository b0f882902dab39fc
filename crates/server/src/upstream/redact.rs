//! Redaction of a call before it leaves, and the values put back into the answer.
//!
//! Only texts are replaced: names of tools and fields stay, since an answer that names others could
//! not be understood. What is detected and cannot be replaced does not leave.

use super::unescape::Unescape;
use crate::dialects::{Call, Prompts, Step};
use crate::errors::BadRequest;
use engine::{Grammar, Part};
use policy::{Detector, Escape, PolicyError, Pseudonyms, Restorer};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Keywords of schemas whose values models read and answers may have.
const OF_SCHEMAS: [&str; 6] = ["const", "default", "description", "enum", "examples", "title"];

/// What was replaced in a call.
#[derive(Debug, Default)]
pub(crate) struct Redaction {
    pseudonyms: Pseudonyms,
    /// Whether the texts of the answer are JSON.
    is_json: bool,
    /// How often something of a class was replaced.
    pub(crate) counts: BTreeMap<&'static str, usize>,
}

impl Redaction {
    /// Replaces what `detector` finds in a call.
    ///
    /// # Errors
    /// A text that is too long to be looked through; what cannot be replaced.
    pub(crate) fn of(call: &mut Call, detector: &Detector) -> Result<Self, BadRequest> {
        let grammar = call.constraint.as_ref().map(|ask| &ask.grammar);
        let is_json = matches!(grammar, Some(Grammar::JsonSchema(_) | Grammar::JsonObject));
        let mut redaction = Self { is_json, ..Self::default() };
        redaction.call(call, detector).map_err(|error| match error {
            Failed::Policy(error) => BadRequest::unsupported("messages", &error.to_string()),
            Failed::Left(place) => {
                let why = "what was detected in it cannot be replaced, and does not leave";
                BadRequest::unsupported(&place, why)
            }
        })?;
        Ok(redaction)
    }

    /// Puts the values back.
    pub(crate) fn restoring(self) -> Restoring {
        let Self { pseudonyms, is_json, .. } = self;
        Restoring { pseudonyms: Arc::new(pseudonyms), is_json, choices: HashMap::new() }
    }

    fn call(&mut self, call: &mut Call, detector: &Detector) -> Result<(), Failed> {
        match &mut call.prompts {
            Prompts::Chat { messages, .. } => {
                let messages = messages.as_array_mut().into_iter().flatten();
                for (message_idx, message) in messages.enumerate() {
                    self.message(message, message_idx, detector)?;
                }
            }
            Prompts::Turn { system, text, .. } => {
                for text in system.iter_mut().chain([text]) {
                    self.text(text, detector)?;
                }
            }
            // No upstream is asked to continue a text.
            Prompts::Plain(_) => {}
        }
        if let Some(tools) = &mut call.tools {
            // One with something else in it would be another grammar.
            for ask in tools.custom.iter().filter_map(|custom| custom.text.as_ref()) {
                if let Grammar::Regex(text) | Grammar::Lark(text) = &ask.grammar {
                    // As it stands, since what is escaped in JSON runs into words, and as a value.
                    left(text, &ask.param, detector)?;
                    check(&Value::from(&**text), &ask.param, detector)?;
                }
            }
            self.schema(&mut tools.definitions, detector)?;
            check(&tools.definitions, "tools", detector)?;
        }
        if let Some(ask) = &mut call.constraint
            && let Grammar::JsonSchema(schema) = &mut ask.grammar
        {
            self.schema(schema, detector)?;
            check(schema, &ask.param, detector)?;
        }
        for text in &mut call.stop {
            self.text(text, detector)?;
        }
        Ok(())
    }

    fn message(
        &mut self,
        message: &mut Value,
        message_idx: usize,
        detector: &Detector,
    ) -> Result<(), Failed> {
        for field in ["content", "reasoning_content", "name"] {
            if let Some(Value::String(text)) = message.get_mut(field) {
                self.text(text, detector)?;
            }
        }
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            self.leaves(&mut call["function"]["arguments"], detector)?;
        }
        for field in ["tool_calls", "tool_call_id"] {
            if let Some(value) = message.get(field) {
                check(value, &format!("messages[{message_idx}].{field}"), detector)?;
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &mut String, detector: &Detector) -> Result<(), Failed> {
        let redacted = self.pseudonyms.redact(detector, text)?;
        for (class, n) in redacted.counts {
            *self.counts.entry(class).or_insert(0) += n;
        }
        *text = redacted.text;
        Ok(())
    }

    /// Every text in `value` that is no name of a field.
    fn leaves(&mut self, value: &mut Value, detector: &Detector) -> Result<(), Failed> {
        match value {
            Value::String(text) => self.text(text, detector),
            Value::Array(list) => list.iter_mut().try_for_each(|one| self.leaves(one, detector)),
            Value::Object(fields) => {
                fields.values_mut().try_for_each(|one| self.leaves(one, detector))
            }
            Value::Number(_) | Value::Bool(_) | Value::Null => Ok(()),
        }
    }

    /// Texts of a schema, or of what has schemas in it.
    fn schema(&mut self, value: &mut Value, detector: &Detector) -> Result<(), Failed> {
        match value {
            Value::Array(list) => list.iter_mut().try_for_each(|one| self.schema(one, detector)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    // A property may have the name of a keyword, and then has a schema.
                    match OF_SCHEMAS.contains(&&**name) && !value.is_object() {
                        true => self.leaves(value, detector)?,
                        false => self.schema(value, detector)?,
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

enum Failed {
    Policy(PolicyError),
    /// Something is left at this place.
    Left(String),
}

impl From<PolicyError> for Failed {
    fn from(error: PolicyError) -> Self {
        Self::Policy(error)
    }
}

/// That nothing is left in a value, as a text of JSON: a name beside a value tells what that is,
/// and a number may be one of a telephone.
fn check(value: &Value, place: &str, detector: &Detector) -> Result<(), Failed> {
    left(&value.to_string(), place, detector)
}

/// That nothing is left in a text.
fn left(text: &str, place: &str, detector: &Detector) -> Result<(), Failed> {
    let found = detector.find(text)?;
    let is_pseudonym = |text: &str| text.contains('⟦');
    match found.iter().all(|one| is_pseudonym(&text[one.range.clone()])) {
        true => Ok(()),
        false => Err(Failed::Left(place.to_owned())),
    }
}

/// Puts values back into an answer, however that is cut.
#[derive(Debug)]
pub(crate) struct Restoring {
    pseudonyms: Arc<Pseudonyms>,
    is_json: bool,
    /// What is held back of each alternative.
    choices: HashMap<usize, Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// The kind of part that is at hand, and what of it may be the beginning of a pseudonym.
    kind: Kind,
    text: String,
    unescape: Unescape,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Text,
    /// A text that is JSON.
    Json,
    Reasoning,
    Arguments,
}

impl Kind {
    fn part(self, text: String) -> Part {
        match self {
            Self::Text | Self::Json => Part::Text(text),
            Self::Reasoning => Part::Reasoning(text),
            Self::Arguments => Part::Arguments(text),
        }
    }

    fn escape(self) -> Escape {
        match self {
            Self::Text | Self::Reasoning => Escape::None,
            Self::Json | Self::Arguments => Escape::Json,
        }
    }
}

impl Restoring {
    /// The steps with the values in them.
    pub(crate) fn steps(&mut self, steps: Vec<Step>) -> Vec<Step> {
        let mut restored = Vec::with_capacity(steps.len());
        for step in steps {
            match step {
                Step::Part { choice_idx, part, tokens } => {
                    let held = self.choices.entry(choice_idx).or_default();
                    let (kind, text) = match part {
                        Part::Text(text) if self.is_json => (Kind::Json, text),
                        Part::Text(text) => (Kind::Text, text),
                        Part::Reasoning(text) => (Kind::Reasoning, text),
                        Part::Arguments(text) => (Kind::Arguments, text),
                        other @ (Part::CallBegin(_) | Part::CallEnd) => {
                            restored.extend(held.end(choice_idx));
                            restored.push(Step::Part { choice_idx, part: other, tokens });
                            continue;
                        }
                    };
                    if kind != held.kind {
                        restored.extend(held.end(choice_idx));
                        held.kind = kind;
                    }
                    let text = held.push(&text, &self.pseudonyms);
                    if !text.is_empty() {
                        restored.push(Step::Part { choice_idx, part: kind.part(text), tokens });
                    }
                }
                Step::Done { choice_idx, .. } => {
                    let held = self.choices.entry(choice_idx).or_default();
                    restored.extend(held.end(choice_idx));
                    restored.push(step);
                }
                other @ Step::Prompt { .. } => restored.push(other),
            }
        }
        restored
    }

    /// A text that is told as a whole.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut restorer = Restorer::new(&self.pseudonyms, Escape::None);
        restorer.push(text) + &restorer.finish()
    }
}

impl Held {
    fn push(&mut self, text: &str, pseudonyms: &Pseudonyms) -> String {
        let text = match self.kind {
            Kind::Json | Kind::Arguments => &self.unescape.push(text),
            Kind::Text | Kind::Reasoning => text,
        };
        let mut restorer = Restorer::new(pseudonyms, self.kind.escape());
        let restored = restorer.push(&(std::mem::take(&mut self.text) + text));
        self.text = restorer.finish();
        restored
    }

    /// What was held back and is certain now.
    fn end(&mut self, choice_idx: usize) -> Option<Step> {
        let text = std::mem::take(&mut self.text) + &self.unescape.end();
        let part = self.kind.part(text.clone());
        (!text.is_empty()).then_some(Step::Part { choice_idx, part, tokens: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::Choice;
    use crate::dialects::Dialect;
    use crate::dialects::openai::chat::Chat;
    use crate::limits::Limits;
    use crate::upstream::Asked;
    use broker::UpstreamKind;
    use engine::FinishReason;
    use policy::Settings;
    use proptest::prelude::*;
    use serde_json::json;

    fn detector() -> Detector {
        Detector::new(&Settings { names: vec!["Ada \"L\"".to_owned()], ..Settings::default() })
    }

    fn call(request: &Value) -> Call {
        let request = Chat::parse(request.to_string().as_bytes(), &Limits::default()).unwrap();
        Chat::call(&request).clone()
    }

    #[test]
    fn texts_are_replaced_wherever_they_stand() {
        let made = json!({"id": "c", "function": {
            "name": "mail", "arguments": "{\"to\":[\"b@x.org\"],\"n\":1}",
        }});
        let parameters = json!({"type": "object", "properties": {
            "to": {"type": "string", "description": "such as a@x.org", "enum": ["b@x.org"]},
        }});
        let function = json!({"name": "mail", "description": "", "parameters": parameters});
        let request = json!({
            "messages": [
                {"role": "system", "content": "You know a@x.org."},
                {"role": "user", "content": "Write to b@x.org, not a@x.org."},
                {"role": "assistant", "content": "", "tool_calls": [made]},
                {"role": "tool", "content": "a@x.org is out", "tool_call_id": "c"},
            ],
            "tools": [{"type": "function", "function": function}],
            "stop": ["b@x.org"],
        });
        let mut call = call(&request);
        let redaction = Redaction::of(&mut call, &detector()).unwrap();
        assert_eq!(redaction.counts, [("email", 8)].into());
        let body = Asked::new(&call, UpstreamKind::OpenAi, "m").unwrap().body.to_string();
        assert!(!body.contains("x.org") && body.contains("such as ⟦EMAIL_1⟧"), "{body}");
        let Prompts::Chat { messages, .. } = &call.prompts else { panic!("it is a chat") };
        assert_eq!(messages[1]["content"], "Write to ⟦EMAIL_2⟧, not ⟦EMAIL_1⟧.");
        let arguments = &messages[2]["tool_calls"][0]["function"]["arguments"];
        assert_eq!(*arguments, json!({"to": ["⟦EMAIL_2⟧"], "n": 1}));
    }

    #[test]
    fn what_cannot_be_replaced_does_not_leave() {
        let check = |arguments: Value, param: &str| {
            let function = json!({"name": "f", "arguments": arguments.to_string()});
            let mut call = call(&json!({"messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "", "tool_calls": [{"function": function}]},
            ]}));
            let found = Redaction::of(&mut call, &detector()).map_err(|bad| bad.param.unwrap());
            assert_eq!(found.unwrap_err(), param, "{arguments}");
        };
        // A name of a field, and a number.
        check(json!({"a@x.org": 1}), "messages[1].tool_calls");
        check(json!({"card": 4_111_111_111_111_111_u64}), "messages[1].tool_calls");
        check(json!({"password": "hunter2hunter2"}), "messages[1].tool_calls");
    }

    #[test]
    fn a_grammar_with_something_in_it_does_not_leave() {
        let run_in = "x\nAda \"L\"";
        let lark = "start: \"a@x.org\"";
        for (syntax, definition) in [("regex", "to a@x.org"), ("regex", run_in), ("lark", lark)] {
            let grammar = json!({"syntax": syntax, "definition": definition});
            let format = json!({"type": "grammar", "grammar": grammar});
            let mut call = call(&json!({
                "messages": [{"role": "user", "content": "Hi"}],
                "tools": [{"type": "custom", "custom": {"name": "t", "format": format}}],
            }));
            let found = Redaction::of(&mut call, &detector()).map_err(|bad| bad.param.unwrap());
            assert_eq!(found.unwrap_err(), "tools[0].custom.format.grammar.definition", "{syntax}");
        }
    }

    #[test]
    fn an_answer_of_json_stays_json_with_values_in_it() {
        let request = json!({
            "messages": [{"role": "user", "content": "Ada \"L\""}],
            "response_format": {"type": "json_object"},
        });
        let parts = [r#"{"to":"\u27"#, r#"e6NAME_1\u27e7, ⟦NAME"#, r#"_1⟧"}"#];
        let parts = parts.map(|part| Part::Text(part.to_owned()));
        for cut in 1..9 {
            let mut call = call(&request);
            let redaction = Redaction::of(&mut call, &detector()).unwrap();
            let choice = restored(redaction, &parts, &[cut]);
            let found: Value = serde_json::from_str(&choice.text).unwrap();
            assert_eq!(found, json!({"to": "Ada \"L\", Ada \"L\""}));
        }
    }

    #[test]
    fn a_text_of_a_tool_gets_its_values_back() {
        let request = json!({
            "messages": [{"role": "user", "content": "a@x.org and Ada \"L\""}],
            "tools": [{"type": "custom", "custom": {"name": "t", "description": "of a@x.org"}}],
        });
        let parts = [
            Part::CallBegin("t".to_owned()),
            Part::Arguments("{\"input\":\"".to_owned()),
            Part::Arguments("to ⟦NAME_1⟧".to_owned()),
            Part::Arguments(": ⟦EMAIL_1⟧\"}".to_owned()),
            Part::CallEnd,
        ];
        for cut in 1..9 {
            let mut call = call(&request);
            let redaction = Redaction::of(&mut call, &detector()).unwrap();
            let body = Asked::new(&call, UpstreamKind::OpenAi, "m").unwrap().body;
            assert_eq!(body["tools"][0]["custom"]["description"], "of ⟦EMAIL_1⟧");
            let choice = restored(redaction, &parts, &[cut]);
            let arguments: Value = serde_json::from_str(&choice.calls[0].arguments).unwrap();
            assert_eq!(arguments, json!({"input": "to Ada \"L\": a@x.org"}));
        }
    }

    /// The answer's texts as they are told, in pieces of these lengths.
    fn restored(redaction: Redaction, parts: &[Part], cuts: &[usize]) -> Choice {
        let mut restoring = redaction.restoring();
        let mut choice = Choice::empty();
        let mut cuts = cuts.iter().cycle();
        for part in parts {
            let (text, of): (&str, fn(String) -> Part) = match part {
                Part::Text(text) => (text, Part::Text),
                Part::Reasoning(text) => (text, Part::Reasoning),
                Part::Arguments(text) => (text, Part::Arguments),
                other => {
                    let step = Step::Part { choice_idx: 0, part: other.clone(), tokens: vec![] };
                    push(&mut choice, restoring.steps(vec![step]));
                    continue;
                }
            };
            let mut rest = text;
            while !rest.is_empty() {
                let at = rest.floor_char_boundary(*cuts.next().unwrap());
                let at = if at == 0 { rest.ceil_char_boundary(1) } else { at };
                let (piece, behind) = rest.split_at(at.min(rest.len()));
                rest = behind;
                let part = of(piece.to_owned());
                let step = Step::Part { choice_idx: 0, part, tokens: vec![] };
                push(&mut choice, restoring.steps(vec![step]));
            }
        }
        let end = Step::Done { choice_idx: 0, reason: FinishReason::Stop };
        push(&mut choice, restoring.steps(vec![end]));
        choice
    }

    fn push(choice: &mut Choice, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Part { part, tokens, .. } => choice.push(part, tokens),
                Step::Done { reason, .. } => choice.reason = reason,
                Step::Prompt { .. } => panic!("there is none"),
            }
        }
    }

    proptest! {
        /// Values come back into texts, trains of thought and arguments, wherever these are cut,
        /// and arguments stay JSON.
        #[test]
        fn values_come_back_however_the_answer_is_cut(
            cuts in prop::collection::vec(1_usize..12, 1..8),
        ) {
            let mut call = call(&json!({"messages": [
                {"role": "user", "content": "a@x.org and Ada \"L\" and ⟦EMAIL_1⟧"},
            ]}));
            let redaction = Redaction::of(&mut call, &detector()).unwrap();
            let parts = [
                Part::Reasoning("Is ⟦EMAIL_1⟧ ⟦".to_owned()),
                Part::Text("To ⟦NAME_1⟧: ⟦LITERAL_1⟧, ⟦EMAIL_7⟧ ⟦EMAIL_1".to_owned()),
                Part::CallBegin("f".to_owned()),
                Part::Arguments(
                    "{\"a\":\"⟦NAME_1⟧\",\"b\":\"\\u27e6EMAIL_1\\u27E7\\n\"}".to_owned(),
                ),
                Part::CallEnd,
            ];
            let choice = restored(redaction, &parts, &cuts);
            prop_assert_eq!(choice.reasoning, "Is a@x.org ⟦");
            prop_assert_eq!(choice.text, "To Ada \"L\": ⟦EMAIL_1⟧, ⟦EMAIL_7⟧ ⟦EMAIL_1");
            let arguments: Value = serde_json::from_str(&choice.calls[0].arguments).unwrap();
            prop_assert_eq!(arguments, json!({"a": "Ada \"L\"", "b": "a@x.org\n"}));
            prop_assert!(choice.calls[0].is_complete);
        }
    }
}
