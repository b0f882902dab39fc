//! A call in the words of an upstream: what all kinds have in common. What the other side cannot be
//! asked for is refused by its name; what of it has no effect, or another form, is told.

use super::{anthropic, openai};
use crate::dialects::{Call, Prompts, SamplingAsk};
use crate::errors::BadRequest;
use broker::UpstreamKind;
use serde_json::{Map, Value};
use std::collections::VecDeque;

/// A call in the words of an upstream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// JSON.
    pub(crate) body: Value,
    /// What was brought into another form.
    pub(crate) adapted: Vec<&'static str>,
    /// Paths of fields of the request that have no effect.
    pub(crate) ignored: Vec<String>,
    /// Fields of messages that the upstream does not read: the message, and the field.
    pub(crate) unused: Vec<(usize, &'static str)>,
}

impl Asked {
    /// What `model` of an upstream of this kind is asked.
    ///
    /// # Errors
    /// The first field that cannot be said there.
    pub(crate) fn new(call: &Call, kind: UpstreamKind, model: &str) -> Result<Self, BadRequest> {
        let mut asked = Self {
            body: Value::Null,
            adapted: Vec::new(),
            ignored: Vec::new(),
            unused: Vec::new(),
        };
        check_common(call, kind)?;
        let turns = turns(call, kind, &mut asked)?;
        let body = match kind {
            UpstreamKind::OpenAi => openai::body(call, model, turns, &mut asked)?,
            UpstreamKind::Anthropic => anthropic::body(call, model, turns, &mut asked)?,
            UpstreamKind::Oidc => return Err(refused("model", kind)),
        };
        Ok(Self { body: Value::Object(body), ..asked })
    }
}

/// That an upstream of this kind has nothing for a field.
pub(super) fn refused(param: &str, kind: UpstreamKind) -> BadRequest {
    let kind = kind.name();
    BadRequest::unsupported(param, &format!("an upstream of kind {kind:?} cannot be asked for it"))
}

/// Refuses what no upstream can be asked for. Values that ask for nothing may stand.
fn check_common(call: &Call, kind: UpstreamKind) -> Result<(), BadRequest> {
    let SamplingAsk {
        min_p, typical_p, xtc_probability, repetition_penalty, dry, mirostat, ..
    } = &call.sampling;
    let differs = |value: &Option<f32>, off: f32| value.is_some_and(|value| value != off);
    let refusals = [
        ("ignore_eos", call.ignore_eos),
        ("bad_words", !call.banned.is_empty()),
        ("min_tokens", call.min_tokens > 0),
        ("stop_token_ids", !call.stop_tokens.is_empty()),
        ("prompt_logprobs", call.prompt_logprobs.is_some()),
        ("min_p", differs(min_p, 0.0)),
        ("typical_p", differs(typical_p, 1.0)),
        ("xtc_probability", differs(xtc_probability, 0.0)),
        ("repetition_penalty", differs(repetition_penalty, 1.0)),
        ("dry_multiplier", dry.is_some()),
        ("mirostat", mirostat.is_some()),
    ];
    match refusals.iter().find(|(_, is_asked)| *is_asked) {
        None => Ok(()),
        Some((param, _)) => Err(refused(param, kind)),
    }
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Turn {
    System {
        text: String,
        name: Option<String>,
    },
    User {
        text: String,
        name: Option<String>,
    },
    Assistant {
        text: String,
        name: Option<String>,
        calls: Vec<MadeCall>,
    },
    /// What a call came to.
    Tool {
        id: String,
        text: String,
    },
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct MadeCall {
    pub(super) id: String,
    pub(super) name: String,
    /// An object; a text where the model failed to write one.
    pub(super) arguments: Value,
}

/// The conversation. Calls and results that have no ids, as some clients leave them, get some.
fn turns(call: &Call, kind: UpstreamKind, asked: &mut Asked) -> Result<Vec<Turn>, BadRequest> {
    let messages = match &call.prompts {
        Prompts::Chat { messages, .. } => messages.as_array().map(Vec::as_slice),
        // Token ids of a model here.
        Prompts::Turn { context, .. } if !context.is_empty() => {
            return Err(refused("context", kind));
        }
        Prompts::Turn { system, text, context: _ } => {
            let system = system.iter().map(|text| Turn::System { text: text.clone(), name: None });
            let user = Turn::User { text: text.clone(), name: None };
            return Ok(system.chain([user]).collect());
        }
        Prompts::Plain(_) => {
            let kind = kind.name();
            let why = format!(
                "a text to continue: an upstream of kind {kind:?} is asked conversations only"
            );
            return Err(BadRequest::unsupported("prompt", &why));
        }
    };
    let mut reader = Reader { asked, waiting: VecDeque::new(), n_calls: 0 };
    let messages = messages.unwrap_or_default().iter().enumerate();
    messages.map(|(message_idx, message)| reader.turn(message_idx, message)).collect()
}

struct Reader<'a> {
    asked: &'a mut Asked,
    /// Ids and names of calls without results.
    waiting: VecDeque<(String, String)>,
    n_calls: usize,
}

impl Reader<'_> {
    fn turn(&mut self, message_idx: usize, message: &Value) -> Result<Turn, BadRequest> {
        let text_of = |field: &str| message[field].as_str().map(str::to_owned);
        let text = text_of("content").unwrap_or_default();
        let name = text_of("name");
        // A vendor takes back only what it has signed.
        if message["reasoning_content"].as_str().is_some_and(|text| !text.is_empty()) {
            self.asked.unused.push((message_idx, "reasoning_content"));
        }
        Ok(match message["role"].as_str() {
            Some("system") => Turn::System { text, name },
            Some("assistant") => {
                let calls = message["tool_calls"].as_array().map(Vec::as_slice);
                let calls = calls.unwrap_or_default().iter().map(|call| self.call(call)).collect();
                Turn::Assistant { text, name, calls }
            }
            Some("tool") => {
                let id = self.answered(text_of("tool_call_id"), name.as_deref());
                let id = id.ok_or_else(|| {
                    let path = format!("messages[{message_idx}]");
                    BadRequest::field(&path, "the result of a call, and none is before it")
                })?;
                Turn::Tool { id, text }
            }
            _ => Turn::User { text, name },
        })
    }

    fn call(&mut self, call: &Value) -> MadeCall {
        let id =
            call["id"].as_str().map_or_else(|| format!("call_{}", self.n_calls), str::to_owned);
        self.n_calls += 1;
        let name = call["function"]["name"].as_str().unwrap_or_default().to_owned();
        self.waiting.push_back((id.clone(), name.clone()));
        MadeCall { id, name, arguments: call["function"]["arguments"].clone() }
    }

    /// The call that a result is of: by its id, else by the tool's name, else the first.
    fn answered(&mut self, id: Option<String>, name: Option<&str>) -> Option<String> {
        let by_id = |id: &String| self.waiting.iter().position(|(other, _)| other == id);
        if let Some(id) = id {
            if let Some(at) = by_id(&id) {
                self.waiting.remove(at);
            }
            return Some(id);
        }
        let named = self.waiting.iter().position(|(_, other)| Some(&**other) == name);
        self.waiting.remove(named.unwrap_or(0)).map(|(id, _)| id)
    }
}

/// A number as it was written: 0.7, not 0.699999988.
pub(super) fn number(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// Inserts what is there.
pub(super) fn set(body: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body.insert(name.to_owned(), value.into());
    }
}
