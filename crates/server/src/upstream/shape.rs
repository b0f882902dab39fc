//! What a request asks of its answer's form, held against an answer that an upstream gave: what is
//! computed here cannot be otherwise, but whether an upstream keeps to it nobody has promised.
//!
//! Looked at is what the client gets, values put back into it. What was cut off by its length, or
//! by what the client wants it to stop at, is not at fault.

use super::schema::{Schema, Taken, on_own_stack};
use crate::dialects::{Call, ConstraintAsk, Step};
use crate::errors::BadRequest;
use engine::{FinishReason, Grammar, Part, ToolChoice};
use serde_json::Value;

/// What is wrong with a schema of which nothing is known but that.
const UNREAD: &str = "it cannot be read";

/// That an answer is not what its request asks for. It may quote names of fields, never texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its answer does not keep to {param}: {problem}")]
pub(crate) struct Unfit {
    /// Path of the request's field that says what was expected.
    param: String,
    problem: String,
}

/// The form that an answer is to have, and what of it has come.
#[derive(Debug)]
pub(crate) struct Shape {
    content: Option<Expected>,
    /// Of tools whose calls are to keep to their schemas, by their names.
    tools: Vec<(String, Expected)>,
    /// Whether there are texts at which an answer ends: some upstreams do not tell that it did.
    may_be_cut: bool,
    choices: Vec<Choice>,
}

#[derive(Debug)]
struct Expected {
    param: String,
    /// `None`: any object.
    schema: Option<Schema>,
}

#[derive(Debug, Default, Clone)]
struct Choice {
    text: String,
    /// The call at hand, where it is to keep to a schema: the tool's place, and its arguments.
    call: Option<(usize, String)>,
    has_calls: bool,
}

impl Shape {
    /// What `call` asks for, as its client has said it; `None`: nothing.
    ///
    /// # Errors
    /// A schema to which nothing can be held.
    pub(crate) fn of(call: &Call) -> Result<Option<Self>, BadRequest> {
        let is_json = |ask: &&ConstraintAsk| {
            matches!(ask.grammar, Grammar::JsonSchema(_) | Grammar::JsonObject)
        };
        let content = call.constraint.as_ref().filter(is_json);
        let tools = call.tools.iter().filter(|tools| tools.choice != ToolChoice::None);
        let tools = tools.flat_map(|tools| &tools.callable).filter(|ask| ask.is_strict);
        let tools =
            tools.filter_map(|ask| Some((&ask.tool, &ask.param, ask.tool.parameters.as_ref()?)));
        let tools: Vec<_> = tools.collect();
        if content.is_none() && tools.is_empty() {
            return Ok(None);
        }
        let read = || {
            let mut taken = Taken::default();
            let mut expected = |param: &str, schema: Option<&Value>| -> Result<_, BadRequest> {
                let schema = schema.map(|schema| Schema::new(schema, &mut taken)).transpose();
                let schema = schema.map_err(|problem| BadRequest::field(param, &problem))?;
                Ok(Expected { param: param.to_owned(), schema })
            };
            let content = content.map(|ask| match &ask.grammar {
                Grammar::JsonSchema(schema) => expected(&ask.param, Some(schema)),
                _ => expected(&ask.param, None),
            });
            let content = content.transpose()?;
            let tool = |(tool, param, schema): &(&engine::Tool, &String, &Value)| {
                Ok((tool.name.clone(), expected(param, Some(schema))?))
            };
            Ok((content, tools.iter().map(tool).collect::<Result<_, BadRequest>>()?))
        };
        let param = content.map(|ask| &ask.param).or(tools.first().map(|(_, param, _)| *param));
        let param = param.map_or("tools", String::as_str);
        let read = on_own_stack(read).unwrap_or_else(|| Err(BadRequest::field(param, UNREAD)));
        let (content, tools) = read?;
        let may_be_cut = !call.stop.is_empty();
        let choices = vec![Choice::default(); call.n_per_prompt];
        Ok(Some(Self { content, tools, may_be_cut, choices }))
    }

    /// Whether something is held to a schema with this step, which may take long.
    pub(crate) fn is_due(step: &Step) -> bool {
        matches!(step, Step::Done { .. } | Step::Part { part: Part::CallEnd, .. })
    }

    /// Takes the next steps of the answer.
    ///
    /// # Errors
    /// What of it is complete and is not as it is to be.
    pub(crate) fn hear(&mut self, steps: &[Step]) -> Result<(), Unfit> {
        for step in steps {
            match step {
                Step::Part { choice_idx, part, .. } => self.part(*choice_idx, part)?,
                Step::Done { choice_idx, reason } => self.done(*choice_idx, reason)?,
                Step::Prompt { .. } => {}
            }
        }
        Ok(())
    }

    fn part(&mut self, choice_idx: usize, part: &Part) -> Result<(), Unfit> {
        let Self { content, tools, choices, .. } = self;
        let choice = &mut choices[choice_idx];
        match part {
            Part::Text(text) if content.is_some() => choice.text.push_str(text),
            Part::CallBegin(name) => {
                choice.has_calls = true;
                let tool_idx = tools.iter().position(|(tool, _)| tool == name);
                choice.call = tool_idx.map(|tool_idx| (tool_idx, String::new()));
            }
            Part::Arguments(more) => {
                if let Some((_, arguments)) = &mut choice.call {
                    arguments.push_str(more);
                }
            }
            Part::CallEnd => {
                if let Some((tool_idx, arguments)) = choice.call.take() {
                    tools[tool_idx].1.check(&arguments)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn done(&mut self, choice_idx: usize, reason: &FinishReason) -> Result<(), Unfit> {
        let Choice { text, has_calls, .. } = std::mem::take(&mut self.choices[choice_idx]);
        let Some(content) = &self.content else { return Ok(()) };
        // An answer is calls, or what was asked for, as here.
        let is_cut = *reason != FinishReason::Stop || (self.may_be_cut && json(&text).is_err());
        if has_calls || is_cut { Ok(()) } else { content.check(&text) }
    }
}

impl Expected {
    fn check(&self, text: &str) -> Result<(), Unfit> {
        let unfit = |problem| Unfit { param: self.param.clone(), problem };
        let value = json(text).map_err(unfit)?;
        let fits = match &self.schema {
            Some(schema) => on_own_stack(|| schema.check(&value)),
            None if value.is_object() => Some(Ok(())),
            None => Some(Err("expected a JSON object".to_owned())),
        };
        fits.unwrap_or_else(|| Err("it cannot be held to it".to_owned())).map_err(unfit)
    }
}

/// A text as JSON. The parser's own words would quote it.
fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("expected JSON, found none at line {line}, column {column}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::Dialect;
    use crate::dialects::openai::chat::Chat;
    use crate::limits::Limits;
    use serde_json::json;

    fn shape(more: Value) -> Result<Option<Shape>, BadRequest> {
        let mut request = json!({"messages": [{"role": "user", "content": "Hi"}]});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let request = Chat::parse(request.to_string().as_bytes(), &Limits::default()).unwrap();
        Shape::of(Chat::call(&request))
    }

    fn format() -> Value {
        let schema = json!({"type": "object", "required": ["a"]});
        json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    }

    fn tool(is_strict: bool) -> Value {
        let parameters = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
        let function = json!({"name": "f", "parameters": parameters, "strict": is_strict});
        json!([{"type": "function", "function": function}])
    }

    #[track_caller]
    fn check(more: Value, parts: &[Part], reason: FinishReason, expected: Option<&str>) {
        let mut shape = shape(more).unwrap().unwrap();
        let step = |part: &Part| Step::Part { choice_idx: 0, part: part.clone(), tokens: vec![] };
        let end = Step::Done { choice_idx: 0, reason };
        let steps: Vec<Step> = parts.iter().map(step).chain([end]).collect();
        let found = steps.chunks(1).try_for_each(|steps| shape.hear(steps));
        let found = found.map_err(|unfit| unfit.to_string()).err();
        assert_eq!(found.as_deref(), expected, "{parts:?}");
    }

    fn text(pieces: &[&str]) -> Vec<Part> {
        pieces.iter().map(|piece| Part::Text((*piece).to_owned())).collect()
    }

    #[test]
    fn texts_are_held_to_what_was_asked() {
        use FinishReason::{Length, Stop, StopString};
        const PLACE: &str = "its answer does not keep to response_format.json_schema.schema: ";
        let asked = || json!({"response_format": format()});
        check(asked(), &text(&["{\"a\"", ": 1}\n"]), Stop, None);
        let told = format!("{PLACE}at \"\": \"a\" is a required property");
        check(asked(), &text(&["{\"b\"", ": 1}"]), Stop, Some(&told));
        let told = format!("{PLACE}expected JSON, found none at line 1, column 1");
        check(asked(), &text(&["Sorry, no."]), Stop, Some(&told));
        let told = format!("{PLACE}expected JSON, found none at line 1, column 0");
        check(asked(), &[], Stop, Some(&told));
        // Cut off: by its length, or by what the client named.
        check(asked(), &text(&["{\"b\""]), Length, None);
        check(asked(), &text(&["{\"b\""]), StopString("x".to_owned()), None);
        let stopped = || json!({"response_format": format(), "stop": "x"});
        check(stopped(), &text(&["{\"b\""]), Stop, None);
        let told = format!("{PLACE}at \"\": \"a\" is a required property");
        check(stopped(), &text(&["{\"b\": 1}"]), Stop, Some(&told));
        let object = || json!({"response_format": {"type": "json_object"}});
        check(object(), &text(&["{\"b\": 1}"]), Stop, None);
        let told = "its answer does not keep to response_format.type: expected a JSON object";
        check(object(), &text(&["[1]"]), Stop, Some(told));
    }

    #[test]
    fn calls_are_held_to_strict_schemas() {
        use FinishReason::{Length, Stop};
        let call = |arguments: &str| {
            let (begin, rest) = arguments.split_at(4);
            let arguments = [begin, rest].map(|piece| Part::Arguments(piece.to_owned()));
            let [begin, rest] = arguments;
            vec![Part::CallBegin("f".to_owned()), begin, rest, Part::CallEnd]
        };
        let asked = || json!({"tools": tool(true), "response_format": format()});
        let good = call("{\"n\": 1}");
        let told = "its answer does not keep to tools[0].function.parameters: at \"/n\": value is \
                    not of type \"integer\"";
        check(asked(), &good, Stop, None);
        check(asked(), &call("{\"n\": \"x\"}"), Stop, Some(told));
        check(asked(), &[good.clone(), call("{\"n\": \"x\"}")].concat(), Stop, Some(told));
        check(asked(), &call("{\"n\": \"x\"}")[..3], Length, None);
        // Text before a call is none of the answer's content.
        check(asked(), &[text(&["Let me look."]), good].concat(), Stop, None);
        assert!(shape(json!({"tools": tool(false)})).unwrap().is_none());
        let none = json!({"tools": tool(true), "tool_choice": "none"});
        assert!(shape(none).unwrap().is_none());
        assert!(shape(json!({})).unwrap().is_none());
    }

    #[test]
    fn a_schema_to_which_nothing_can_be_held_is_refused_by_its_place() {
        let named = json!({"name": "n", "schema": {"type": "thing"}});
        let asked = json!({"response_format": {"type": "json_schema", "json_schema": named}});
        let bad = shape(asked).unwrap_err();
        assert_eq!(bad.param.as_deref(), Some("response_format.json_schema.schema"));
        let function = json!({"name": "f", "strict": true, "parameters": {"$ref": "#/no"}});
        let bad = shape(json!({"tools": [{"type": "function", "function": function}]}));
        assert_eq!(bad.unwrap_err().param.as_deref(), Some("tools[0].function.parameters"));
    }
}
