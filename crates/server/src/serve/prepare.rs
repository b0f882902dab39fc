//! From a body to token ids: parse, find the model, render, tokenize. Computes and never waits.

use super::unused::{self, Unused};
use crate::app::App;
use crate::dialects::fields::short;
use crate::dialects::{ConstraintAsk, Dialect, PlainPrompt, Prompts, Vocabulary};
use crate::errors::{BadRequest, ServerError};
use crate::models::Served;
use engine::{Banned, Constraint, ConstraintError, Engine, EngineError, Preamble};
use serde_json::{Map, Value, json};
use text::{ChatTemplate, Special, Tokenizer};

/// A request that is ready for the engine.
pub(super) struct Prepared<R> {
    pub(super) request: R,
    pub(super) served: Served,
    /// Token ids of each prompt.
    pub(super) prompts: Vec<Vec<u32>>,
    /// What the answers must look like, compiled.
    pub(super) constraint: Option<Constraint>,
    /// What they must not contain.
    pub(super) banned: Option<Banned>,
    /// What may come before `constraint`.
    pub(super) constraint_after: Option<Preamble>,
    /// What of the conversation the model's template left out.
    pub(super) unused: Unused,
}

/// A request that was read.
pub(super) enum Read<R> {
    /// And is ready.
    Prepared(Prepared<R>),
    /// And whose model must be opened first.
    Closed(R),
}

/// Reads one request, and prepares it where its model is open.
pub(super) fn read<D: Dialect>(app: &App, body: &[u8]) -> Result<Read<D::Request>, ServerError> {
    let request = D::parse(body, &app.limits)?;
    match app.models.get_open(D::call(&request).model.as_deref())? {
        Some(served) => Ok(Read::Prepared(prepare::<D>(request, served)?)),
        None => Ok(Read::Closed(request)),
    }
}

/// Prepares one request for its model.
pub(super) fn prepare<D: Dialect>(
    request: D::Request,
    served: Served,
) -> Result<Prepared<D::Request>, ServerError> {
    let call = D::call(&request);
    let mut unused = Unused::default();
    let prompts = match &call.prompts {
        Prompts::Chat { messages, kwargs } => {
            let prompt = chat_prompt(&served.engine, messages, kwargs)?;
            unused = unused::find(messages, &prompt, |messages| {
                chat_prompt(&served.engine, messages, kwargs)
            })?;
            vec![prompt]
        }
        Prompts::Plain(plain) => {
            let ids = |(prompt_idx, prompt)| plain_prompt(&served.engine, prompt_idx, prompt);
            plain.iter().enumerate().map(ids).collect::<Result<_, _>>()?
        }
    };
    // Which of several stop strings, biases or prompts is at fault the engine says; an id that the
    // model does not have is found here, where its key is known.
    let n_vocab = served.engine.info().n_vocab;
    if let Some((id, _)) = call.sampling.logit_bias.iter().find(|(id, _)| *id as usize >= n_vocab) {
        let problem = format!("key \"{id}\": expected a token id below {n_vocab}");
        return Err(BadRequest::field("logit_bias", &problem).into());
    }
    if let Some(id) = call.stop_tokens.iter().find(|&&id| id as usize >= n_vocab) {
        let problem = format!("{id}: expected token ids below {n_vocab}");
        return Err(BadRequest::field("stop_token_ids", &problem).into());
    }
    let constraint = match &call.constraint {
        None => None,
        Some(ask) => Some(compile(&served.engine, ask)?),
    };
    let banned = match &call.banned[..] {
        [] => None,
        texts => Some(served.engine.banned(texts)?),
    };
    let constraint_after = match (&call.prompts, &prompts[..]) {
        (Prompts::Chat { .. }, [prompt]) => preamble(served.engine.tokenizer(), prompt),
        _ => None,
    };
    Ok(Prepared { request, served, prompts, constraint, banned, constraint_after, unused })
}

/// The token that a text ends with in the middle of a line: where DRY's repetitions break off (as
/// its author finds them).
pub(super) fn dry_breakers(tokenizer: &Tokenizer, texts: Option<&[String]>) -> Vec<u32> {
    const USUAL: [&str; 4] = ["\n", ":", "\"", "*"];
    let last = |text: &str| tokenizer.encode(&format!("a{text}"), Special::Plain).last().copied();
    match texts {
        None => USUAL.iter().filter_map(|text| last(text)).collect(),
        Some(texts) => texts.iter().filter_map(|text| last(text)).collect(),
    }
}

/// What is wrong with a grammar is said at its field.
fn compile(engine: &Engine, ask: &ConstraintAsk) -> Result<Constraint, ServerError> {
    engine.constraint(&ask.grammar).map_err(|error| match error {
        EngineError::Constraint(failure @ ConstraintError::Thread(_)) => {
            ServerError::Failed(failure.to_string())
        }
        EngineError::Constraint(refusal) => {
            BadRequest::field(&ask.param, &refusal.to_string()).into()
        }
        other => other.into(),
    })
}

/// The train of thought that comes, or may come, before the answer proper: of models whose
/// vocabulary marks it, and unless the template has ended it already.
fn preamble(tokenizer: &Tokenizer, prompt: &[u32]) -> Option<Preamble> {
    let token = |text: &str| match tokenizer.encode(text, Special::Parse)[..] {
        [id] => Some(id),
        _ => None,
    };
    let (begin, end) = (token("<think>")?, token("</think>")?);
    let is_end_of_turn = |&id: &u32| tokenizer.is_end_of_generation(id);
    let turn = prompt.iter().rposition(is_end_of_turn).map_or(prompt, |at| &prompt[at..]);
    match turn.iter().rev().find(|&&id| id == begin || id == end) {
        Some(&id) if id == end => None,
        Some(_) => Some(Preamble { begin: None, end }),
        None => Some(Preamble { begin: Some(begin), end }),
    }
}

/// Renders a conversation. Some templates take a system message only in first place, and only one:
/// where a template refuses the messages, they are tried once more with all system messages
/// joined at the front.
fn chat_prompt(
    engine: &Engine,
    messages: &Value,
    kwargs: &Map<String, Value>,
) -> Result<Vec<u32>, ServerError> {
    let kwargs = &match engine.template() {
        Some(template) => known_kwargs(template, kwargs)?,
        None => Map::new(),
    };
    match engine.chat_prompt(messages, None, kwargs) {
        Err(EngineError::Template(refusal)) => {
            let Some(joined) = with_one_system_message(messages) else {
                return Err(EngineError::Template(refusal).into());
            };
            Ok(engine.chat_prompt(&joined, None, kwargs)?)
        }
        rendered => Ok(rendered?),
    }
}

/// The variables for the template; those that it does not read are refused, since they could have
/// no effect.
///
/// `reasoning_effort` "none" is no exception, since clients do not send it unasked, and a model
/// that always reasons would still do so. Where the template has only the older switch
/// `enable_thinking`, it is turned off.
fn known_kwargs(
    template: &ChatTemplate,
    kwargs: &Map<String, Value>,
) -> Result<Map<String, Value>, BadRequest> {
    const EFFORT: &str = "reasoning_effort";
    const SWITCH: &str = "enable_thinking";
    let mut known = Map::new();
    for (name, value) in kwargs {
        if template.reads(name) {
            known.insert(name.clone(), value.clone());
        } else if name == EFFORT && value == "none" && template.reads(SWITCH) {
            // Said in so many words, the switch itself wins.
            known.entry(SWITCH).or_insert(Value::Bool(false));
        } else {
            let param = match name.as_str() {
                EFFORT => name.clone(),
                _ => format!("chat_template_kwargs.{}", short(name)),
            };
            let why = "the model's chat template does not know it";
            return Err(BadRequest::unsupported(&param, why));
        }
    }
    Ok(known)
}

/// The messages with their system messages joined into one at the front; `None` where they stand
/// like that already.
fn with_one_system_message(messages: &Value) -> Option<Value> {
    let messages = messages.as_array()?;
    let is_system = |message: &&Value| message["role"] == "system";
    let in_place = messages.iter().skip(1).all(|message| !is_system(&message));
    if in_place {
        return None;
    }
    let contents: Vec<&str> = messages
        .iter()
        .filter(is_system)
        .filter_map(|message| message["content"].as_str())
        .collect();
    let mut joined = vec![json!({"role": "system", "content": contents.join("\n\n")})];
    joined.extend(messages.iter().filter(|message| !is_system(message)).cloned());
    Some(joined.into())
}

fn plain_prompt(
    engine: &Engine,
    prompt_idx: usize,
    prompt: &PlainPrompt,
) -> Result<Vec<u32>, BadRequest> {
    let n_vocab = engine.info().n_vocab;
    let ids = match prompt {
        PlainPrompt::Tokens(ids) => {
            if let Some(token_idx) = ids.iter().position(|&id| id as usize >= n_vocab) {
                let problem = format!(
                    "token {token_idx} of prompt {prompt_idx} is {}: expected a token id below \
                     {n_vocab} (ids of another model's tokenizer cannot be used)",
                    ids[token_idx]
                );
                return Err(BadRequest::field("prompt", &problem));
            }
            ids.clone()
        }
        PlainPrompt::Text(text) => encode(engine, text),
    };
    if ids.is_empty() {
        let problem = format!("prompt {prompt_idx} is empty: expected at least one token");
        return Err(BadRequest::field("prompt", &problem));
    }
    Ok(ids)
}

/// Special tokens in the text count as such: this route is for callers that write whole prompts.
/// BOS is put in front where the model wants it and the text does not begin with it.
fn encode(engine: &Engine, text: &str) -> Vec<u32> {
    let tokenizer = engine.tokenizer();
    let mut ids = tokenizer.encode(text, Special::Parse);
    if let Some(bos) = tokenizer.bos()
        && tokenizer.adds_bos()
        && ids.first() != Some(&bos)
    {
        ids.insert(0, bos);
    }
    ids
}

/// The names of a model's tokens.
pub(super) struct EngineVocabulary(pub(super) Engine);

impl Vocabulary for EngineVocabulary {
    fn token_bytes(&self, id: u32) -> Vec<u8> {
        self.0.tokenizer().token_bytes(id).to_vec()
    }

    fn is_control(&self, id: u32) -> bool {
        self.0.tokenizer().is_control(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_messages_are_joined_at_the_front_only_where_they_are_elsewhere() {
        let check = |messages: Value, expected: Option<Value>| {
            assert_eq!(with_one_system_message(&messages), expected);
        };
        let user = json!({"role": "user", "content": "hi"});
        let system = |text: &str| json!({"role": "system", "content": text});
        check(json!([system("a"), user]), None);
        check(json!([user]), None);
        check(json!([user, system("a")]), Some(json!([system("a"), user])));
        check(json!([system("a"), system("b"), user]), Some(json!([system("a\n\nb"), user])));
    }

    #[test]
    fn template_variables_without_effect_are_refused() {
        let check = |source: &str, kwargs: Value, expected: Result<Value, &str>| {
            let template = ChatTemplate::new(source).unwrap();
            let found = known_kwargs(&template, kwargs.as_object().unwrap());
            let found = found.map(Value::Object).map_err(|bad| bad.param.unwrap());
            assert_eq!(found, expected.map_err(str::to_owned), "{source} {kwargs}");
        };
        let thinks = "{% if enable_thinking %}<think>{% endif %}";
        let on = json!({"enable_thinking": true});
        check(thinks, on.clone(), Ok(on.clone()));
        check("enable_thinking {{ messages }}", on, Err("chat_template_kwargs.enable_thinking"));
        let effort = |word: &str| json!({"reasoning_effort": word});
        check("{{ reasoning_effort }}", effort("none"), Ok(effort("none")));
        check(thinks, effort("none"), Ok(json!({"enable_thinking": false})));
        check(thinks, effort("low"), Err("reasoning_effort"));
        check("{{ messages }}", effort("none"), Err("reasoning_effort"));
    }
}
