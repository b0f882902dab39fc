//! From a body to token ids: parse, find the model, render, tokenize. Computes and never waits.

use super::adapt::{self, Adapted, Stage, chat_prompt};
use super::aside;
use super::route::Went;
use super::shorten::{self, Cut};
use super::unused;
use super::wishes;
use crate::access::Who;
use crate::app::App;
use crate::dialects::declared::Unknown;
use crate::dialects::fields::short;
use crate::dialects::{
    Call, ConstraintAsk, Delivery, Dialect, Overlong, Paths, PlainPrompt, Prompts, Terms, ToolsAsk,
    Vocabulary,
};
use crate::errors::{BadRequest, ServerError};
use crate::models::Served;
use axum::http::{HeaderName, HeaderValue};
use engine::{
    Banned, CallGrammar, Calls, Channels, ChatEnd, Constraint, ConstraintError, DateTime, Engine,
    EngineError, Grammar, Preamble, Task, Tool, ToolChoice, ToolFormat,
};
use policy::Label;
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use text::{ChatTemplate, Special, Tokenizer};

/// The variables by which templates know how much is to be thought: the newer one, and the older
/// switch.
pub(super) const EFFORT: &str = "reasoning_effort";
pub(super) const SWITCH: &str = "enable_thinking";

/// A request that is ready for the engine.
pub(super) struct Prepared<R> {
    pub(super) request: R,
    pub(super) served: Served,
    /// Token ids of each prompt.
    pub(super) prompts: Vec<Vec<u32>>,
    /// Tokens that an answer may have by the context that was asked for.
    pub(super) n_left: Option<u32>,
    /// Messages that were left out.
    pub(super) n_dropped: usize,
    /// What the answers must look like, compiled.
    pub(super) constraint: Option<Constraint>,
    /// What they must not contain.
    pub(super) banned: Option<Banned>,
    /// The train of thought that may come first.
    pub(super) preamble: Option<Preamble>,
    /// The channels that they are in, of a model that has some.
    pub(super) channels: Option<Channels>,
    /// How calls stand in the answers, where there can be some.
    pub(super) calls: Option<Calls>,
    /// How long it took to open the model.
    pub(super) load: Duration,
    pub(super) notes: Notes,
}

/// What the response says about what became of the request.
#[derive(Default)]
pub(super) struct Notes {
    /// What of it the model's template left out.
    pub(super) unused: Paths,
    /// What of it was brought into another form.
    pub(super) adapted: Adapted,
    /// Paths of fields of the request that had no effect.
    pub(super) ignored: Paths,
    /// Where the alias that it asks for has a canary, whether that answers.
    pub(super) canary: Option<bool>,
    /// Headers that say how much is left of limits.
    pub(super) rates: Vec<(HeaderName, HeaderValue)>,
    /// Where there are rules, what they came to.
    pub(super) went: Option<Went>,
}

/// A request that was read.
pub(super) enum Read<R> {
    /// And is ready.
    Prepared(Box<Prepared<R>>),
    /// And whose model must be opened first. What was read of it is dropped: many may wait for one
    /// model, and their trees are much larger than their bodies.
    Closed { model: Option<String>, body: Vec<u8> },
    /// And asks for no more than that the model of this name be closed, which it will be.
    Unloaded { request: R, name: String },
}

/// Who asks and when, and what becomes of fields that nobody knows.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) who: Arc<Who>,
    pub(super) client: u64,
    pub(super) now: DateTime,
    pub(super) unknown: Unknown,
}

/// Reads a request, with what it refers to of its client's earlier answers.
pub(super) fn parse<D: Dialect>(
    app: &App,
    asking: &Asking,
    body: &[u8],
) -> Result<D::Request, BadRequest> {
    Ok(parse_labelled::<D>(app, asking, body)?.0)
}

/// As [`parse`], with the most sensitive label of what it refers to.
pub(super) fn parse_labelled<D: Dialect>(
    app: &App,
    asking: &Asking,
    body: &[u8],
) -> Result<(D::Request, Option<Label>), BadRequest> {
    let limits = app.limits.get();
    let mut request = match asking.unknown {
        Unknown::Refused => D::parse(body, &limits),
        Unknown::Ignored => D::parse_leniently(body, &limits),
    }?;
    let seen = Cell::new(None);
    let own = app.kept.of(asking.client, Instant::now()).watched(&seen);
    D::recall(&mut request, own, &limits)?;
    Ok((request, seen.get()))
}

/// Prepares one request, whose body is `body`, where its model is open.
pub(super) fn read<D: Dialect>(
    app: &App,
    asking: &Asking,
    request: D::Request,
    body: Vec<u8>,
) -> Result<Read<D::Request>, ServerError> {
    let Call { model, delivery, .. } = D::call(&request);
    let permitted = app.models.permit(&asking.who, model.as_deref(), Task::Generate)?;
    if *delivery == Delivery::Unload {
        let name = app.models.unload(permitted.as_deref())?;
        return Ok(Read::Unloaded { request, name });
    }
    let model = match app.canary(asking.client, D::call(&request)) {
        Some((share, true)) => Some(share.model),
        _ => permitted,
    };
    match app.models.get_open(model.as_deref())? {
        Some(served) => Ok(Read::Prepared(Box::new(prepare::<D>(request, served, asking.now)?))),
        None => Ok(Read::Closed { model, body }),
    }
}

/// Prepares one request for its model, whose template may show the time.
pub(super) fn prepare<D: Dialect>(
    mut request: D::Request,
    served: Served,
    now: DateTime,
) -> Result<Prepared<D::Request>, ServerError> {
    let mut notes = Notes { ignored: D::take_ignored(&mut request), ..Notes::default() };
    let call = D::call(&request);
    let Rendered { prompts, is_chat, reasoning_budget, n_dropped } =
        render::<D>(&request, Scene { engine: &served.engine, now }, &mut notes)?;
    let n_left = left_of(&D::terms(&request), &served.engine, &prompts, &mut notes)?;
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
    let chat = match &prompts[..] {
        [prompt] if is_chat => Some(prompt),
        _ => None,
    };
    let channels = chat.and_then(|prompt| channels(&served.engine, prompt));
    // Where the answer has to go on to the end of its tokens there can be no constraint.
    let is_bound = reasoning_budget.is_some() && !call.ignore_eos;
    let (constraint, calls) = match (&call.constraint, &call.tools, channels) {
        (None, None, Some(channels)) if is_bound => {
            (Some(served.engine.constraint(&frame(&served.engine, channels, None))?), None)
        }
        (None, None, _) => (None, None),
        _ => aside(|| constraint(&served.engine, call, channels))?,
    };
    let banned = match &call.banned[..] {
        [] => None,
        texts => Some(aside(|| served.engine.banned(texts))?),
    };
    let preamble = chat.and_then(|prompt| preamble(&served.engine, channels, prompt));
    let preamble = preamble.map(|preamble| Preamble { n_max: reasoning_budget, ..preamble });
    let load = Duration::ZERO;
    Ok(Prepared {
        request,
        served,
        prompts,
        n_left,
        n_dropped,
        constraint,
        banned,
        preamble,
        channels,
        calls,
        load,
        notes,
    })
}

/// The channels of an answer to `prompt`, of a model that has some.
fn channels(engine: &Engine, prompt: &[u32]) -> Option<Channels> {
    adapt::format_of(engine)?.channels(engine.tokenizer(), prompt)
}

/// The train of thought that may come first in an answer to `prompt`.
fn preamble(engine: &Engine, channels: Option<Channels>, prompt: &[u32]) -> Option<Preamble> {
    match channels {
        Some(channels) => channels.preamble(engine.tokenizer()),
        None => text::reasoning(engine.tokenizer(), prompt),
    }
}

/// The prompts of a call in token ids, and what was found out on the way.
struct Rendered {
    prompts: Vec<Vec<u32>>,
    /// Whether the model's chat template made them.
    is_chat: bool,
    reasoning_budget: Option<u32>,
    n_dropped: usize,
}

/// For which model conversations are rendered, and when.
#[derive(Clone, Copy)]
struct Scene<'a> {
    engine: &'a Engine,
    now: DateTime,
}

fn render<D: Dialect>(
    request: &D::Request,
    scene: Scene<'_>,
    notes: &mut Notes,
) -> Result<Rendered, ServerError> {
    let (call, engine) = (D::call(request), scene.engine);
    let plain = |prompts: Vec<Vec<u32>>| Rendered {
        prompts,
        is_chat: false,
        reasoning_budget: call.reasoning_budget,
        n_dropped: 0,
    };
    match &call.prompts {
        Prompts::Chat { messages, kwargs, end } => {
            render_chat::<D>(request, scene, messages, kwargs, *end, notes)
        }
        Prompts::Turn { system, text, context } if engine.template().is_some() => {
            let system = system.iter().map(|text| json!({"role": "system", "content": text}));
            let user = json!({"role": "user", "content": text});
            let messages = system.chain([user]).collect();
            let end = ChatEnd::Answer;
            let made = render_chat::<D>(request, scene, &messages, &Map::new(), end, notes)?;
            let behind = |turn| behind(engine, context, turn);
            let prompts = made.prompts.into_iter().map(behind).collect::<Result<_, _>>()?;
            Ok(Rendered { prompts, ..made })
        }
        Prompts::Turn { system: Some(_), .. } => {
            let why = "the model has no chat template (it is a base model) to show it in";
            Err(BadRequest::unsupported("system", why).into())
        }
        Prompts::Turn { system: None, text, context } => {
            notes.ignored.extend(call.wishes.params().map(str::to_owned));
            let text = plain_prompt(engine, 0, &PlainPrompt::Text(text.clone()))?;
            Ok(plain(vec![behind(engine, context, text)?]))
        }
        Prompts::Plain(prompts) => {
            let ids = |(prompt_idx, prompt)| plain_prompt(engine, prompt_idx, prompt);
            Ok(plain(prompts.iter().enumerate().map(ids).collect::<Result<_, _>>()?))
        }
    }
}

/// Renders a conversation; where it is too long and may be cut, without its oldest turns.
fn render_chat<D: Dialect>(
    request: &D::Request,
    scene: Scene<'_>,
    messages: &Value,
    kwargs: &Map<String, Value>,
    end: ChatEnd,
    notes: &mut Notes,
) -> Result<Rendered, ServerError> {
    let (call, Scene { engine, now }) = (D::call(request), scene);
    let tools = call.tools.as_ref().map(|tools| &tools.definitions);
    let mut kwargs = kwargs.clone();
    let marks = preamble(engine, channels(engine, &[]), &[]);
    let template = engine.template();
    let made = wishes::make(&call.wishes, template, marks.is_some(), &mut kwargs);
    notes.ignored.extend(made.ignored);
    let mut reasoning_budget = made.budget.or(call.reasoning_budget);
    if is_off_by_budget(template, marks, &mut kwargs) {
        reasoning_budget = Some(0);
    }
    let stage = Stage { engine, kwargs: &kwargs, end, now };
    let (mut prompt, mut adapted) = chat_prompt(stage, messages, tools)?;
    let render = |messages: &Value| Ok(chat_prompt(stage, messages, tools)?.0);
    let terms = D::terms(request);
    let n_max = n_ctx(&terms, engine).saturating_sub(1) as usize;
    let mut cut = Cut::none(messages);
    if terms.overlong == Overlong::Truncate && prompt.len() > n_max {
        cut = shorten::shorten(messages, n_max, render)?;
        (prompt, adapted) = chat_prompt(stage, &cut.messages, tools)?;
        if cut.n_dropped() > 0 {
            adapted.push("truncated-messages");
        }
    }
    notes.adapted = adapted;
    if let Some(adapted) = made.adapted {
        notes.adapted.push(adapted);
    }
    let place = |message_idx, field: &str| D::place(request, cut.place(message_idx), field);
    notes.unused = unused::find(&cut.messages, &prompt, render, place)?;
    let n_dropped = cut.n_dropped();
    Ok(Rendered { prompts: vec![prompt], is_chat: true, reasoning_budget, n_dropped })
}

/// Positions of prompt and answer together.
fn n_ctx(terms: &Terms, engine: &Engine) -> u32 {
    let n_ctx = engine.info().n_ctx;
    terms.n_ctx.map_or(n_ctx, |wish| wish.what.min(n_ctx))
}

/// What the context that the request asks for leaves for an answer; `None`: what the model's own
/// does. One that is larger than that has no effect.
fn left_of(
    terms: &Terms,
    engine: &Engine,
    prompts: &[Vec<u32>],
    notes: &mut Notes,
) -> Result<Option<u32>, ServerError> {
    let Some(asked) = terms.n_ctx else { return Ok(None) };
    if asked.what > engine.info().n_ctx {
        notes.ignored.extend(asked.param.map(str::to_owned));
        return Ok(None);
    }
    let n_prompt = prompts.iter().map(Vec::len).max().unwrap_or(0);
    match u32::try_from(n_prompt).ok().and_then(|n_prompt| asked.what.checked_sub(n_prompt)) {
        Some(n_left) if n_left > 0 => Ok(Some(n_left)),
        _ => Err(ServerError::ContextOverflow { n_prompt, n_ctx: asked.what }),
    }
}

/// What the answers must look like, and how calls of tools stand in them.
fn constraint(
    engine: &Engine,
    call: &Call,
    channels: Option<Channels>,
) -> Result<(Option<Constraint>, Option<Calls>), ServerError> {
    let calls = calls(engine, channels);
    let framed = call.constraint.as_ref().map(|ask| framed(engine, ask, channels));
    let content = call.constraint.as_ref();
    let Some(tools) = &call.tools else {
        let constraint = framed.map(|ask| compile(engine, &ask)).transpose()?;
        return Ok((constraint, None));
    };
    if let Some(ask) = framed {
        match tools.choice {
            ToolChoice::None => return Ok((Some(compile(engine, &ask)?), None)),
            ToolChoice::Auto if !calls.is_marked() => {
                let why = "beside a constraint on the answer: this model's calls are not marked, \
                           so they cannot be told from it; use another \"tool_choice\"";
                return Err(BadRequest::unsupported("tools", why).into());
            }
            ToolChoice::Auto | ToolChoice::Required => {}
        }
    }
    let calls = match (tools.choice, content) {
        (ToolChoice::Auto, Some(_)) => calls.only_first(),
        _ => calls,
    };
    let callable: Vec<Tool> = tools.callable.iter().map(|ask| ask.tool.clone()).collect();
    let calls = calls.of_tools(&callable);
    let grammar = Grammar::Calls(Box::new(CallGrammar {
        calls: calls.clone(),
        tools: callable,
        choice: tools.choice,
        is_parallel: tools.is_parallel,
        content: content.map(|ask| ask.grammar.clone()),
    }));
    let constraint = engine.constraint(&grammar).map_err(|error| match error {
        EngineError::Constraint(refusal) => {
            // Alone it is at fault, or the tools are.
            let content = content.filter(|ask| compile(engine, ask).is_err());
            refused_tools(engine, refusal, tools, content)
        }
        other => other.into(),
    })?;
    Ok((Some(constraint), (tools.choice != ToolChoice::None).then_some(calls)))
}

/// What an answer without calls must look like, in its channel where it is in one.
fn framed(engine: &Engine, ask: &ConstraintAsk, channels: Option<Channels>) -> ConstraintAsk {
    let Some(channels) = channels else { return ask.clone() };
    let grammar = frame(engine, channels, Some(ask.grammar.clone()));
    ConstraintAsk { grammar, param: ask.param.clone() }
}

/// An answer without calls in its channel, which has this content or any text. Then there is no
/// more reasoning in it than comes before it and is counted.
fn frame(engine: &Engine, channels: Channels, content: Option<Grammar>) -> Grammar {
    Grammar::Calls(Box::new(CallGrammar {
        calls: calls(engine, Some(channels)),
        tools: Vec::new(),
        choice: ToolChoice::None,
        is_parallel: false,
        content,
    }))
}

fn calls(engine: &Engine, channels: Option<Channels>) -> Calls {
    let format = adapt::format_of(engine).unwrap_or(ToolFormat::generic());
    Calls::new(format, engine.tokenizer()).in_channels(channels)
}

/// What is wrong with a tool's schema is said at its field, as is what is wrong with the expression
/// that a text is held to; what else is, at that of `content` where it cannot be kept to, else at
/// the tools.
fn refused_tools(
    engine: &Engine,
    refusal: ConstraintError,
    tools: &ToolsAsk,
    content: Option<&ConstraintAsk>,
) -> ServerError {
    match refusal {
        ConstraintError::Thread(_) => ServerError::Failed(refusal.to_string()),
        ConstraintError::Tool { name, error } => {
            let ask = tools.callable.iter().find(|ask| ask.tool.name == name);
            let param = ask.map_or("tools", |ask| &ask.param);
            BadRequest::field(param, &error.to_string()).into()
        }
        other => {
            let named = tools.callable.iter().filter_map(|ask| tools.custom(&ask.tool.name));
            let mut texts = named.filter(|_| content.is_none()).filter_map(|of| of.text.as_ref());
            texts.find_map(|ask| compile(engine, ask).err()).unwrap_or_else(|| {
                let param = content.map_or("tools", |ask| &ask.param);
                BadRequest::field(param, &other.to_string()).into()
            })
        }
    }
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

/// Whether reasoning, which `marks` tell apart, has to be switched off by its budget: it is not
/// wanted, and the template knows no switch. Then the wish is taken out of the variables.
fn is_off_by_budget(
    template: Option<&ChatTemplate>,
    marks: Option<Preamble>,
    kwargs: &mut Map<String, Value>,
) -> bool {
    let Some(template) = template.filter(|_| marks.is_some()) else { return false };
    let is_off = kwargs.get(EFFORT).is_some_and(|effort| effort == "none")
        && !template.reads(EFFORT)
        && !template.reads(SWITCH);
    is_off && kwargs.remove(EFFORT).is_some()
}

/// The variables for the template; those that it does not read are refused, since they could have
/// no effect.
///
/// `reasoning_effort` "none" has its effect without one where the model does not reason, and some
/// clients send it unasked. Where the template has only the older switch `enable_thinking`, it is
/// turned off.
pub(super) fn known_kwargs(
    template: &ChatTemplate,
    kwargs: &Map<String, Value>,
) -> Result<Map<String, Value>, BadRequest> {
    let mut known = Map::new();
    for (name, value) in kwargs {
        if template.reads(name) {
            known.insert(name.clone(), value.clone());
        } else if name == EFFORT && value == "none" {
            if template.reads(SWITCH) {
                // Said in so many words, the switch itself wins.
                known.entry(SWITCH).or_insert(Value::Bool(false));
            }
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
        PlainPrompt::Middle { before, behind } => middle(engine, before, behind)?,
    };
    if ids.is_empty() {
        let problem = format!("prompt {prompt_idx} is empty: expected at least one token");
        return Err(BadRequest::field("prompt", &problem));
    }
    Ok(ids)
}

/// What a conversation comes to that goes on behind `context`: the ids of an earlier prompt and its
/// answer, which has no end token, then those of the next turn, which may begin as a prompt does.
fn behind(engine: &Engine, context: &[u32], turn: Vec<u32>) -> Result<Vec<u32>, BadRequest> {
    let n_vocab = engine.info().n_vocab;
    if let Some(token_idx) = context.iter().position(|&id| id as usize >= n_vocab) {
        let id = context[token_idx];
        let problem = format!(
            "token {token_idx} is {id}: expected what an answer of this model had as its context, \
             token ids below {n_vocab}"
        );
        return Err(BadRequest::field("context", &problem));
    }
    let Some(last) = context.last() else { return Ok(turn) };
    let tokenizer = engine.tokenizer();
    // Only a conversation has turns that end.
    let is_open = engine.template().is_some() && !tokenizer.is_end_of_generation(*last);
    let end = tokenizer.eos().filter(|_| is_open);
    let bos = tokenizer.bos().filter(|bos| tokenizer.adds_bos() && turn.first() == Some(bos));
    let turn = turn.into_iter().skip(usize::from(bos.is_some()));
    Ok(context.iter().copied().chain(end).chain(turn).collect())
}

/// The prompt that asks for what stands between two texts. No part of them is a special token: the
/// marks are the model's.
fn middle(engine: &Engine, before: &str, behind: &str) -> Result<Vec<u32>, BadRequest> {
    let tokenizer = engine.tokenizer();
    let Some(marks) = tokenizer.fill_in() else {
        let why = format!(
            "{:?}: the model has no tokens to fill in the middle, expected one that has, or a \
             prompt alone",
            short(behind)
        );
        return Err(BadRequest::unsupported("suffix", &why));
    };
    let [before, behind] = [before, behind].map(|text| tokenizer.encode(text, Special::Plain));
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    Ok(bos.into_iter().chain(marks.prompt(&before, &behind)).collect())
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

/// Of an answer without tokens.
pub(super) struct NoVocabulary;

impl Vocabulary for NoVocabulary {
    fn token_bytes(&self, _id: u32) -> Vec<u8> {
        Vec::new()
    }

    fn is_control(&self, _id: u32) -> bool {
        false
    }
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
    fn reasoning_is_off_by_budget_only_where_there_is_no_switch() {
        let check = |source: &str, marks: Option<Preamble>, effort: &str, expected: bool| {
            let template = ChatTemplate::new(source).unwrap();
            let mut kwargs = Map::from_iter([(EFFORT.to_owned(), Value::from(effort))]);
            let found = is_off_by_budget(Some(&template), marks, &mut kwargs);
            assert_eq!((found, kwargs.is_empty()), (expected, expected), "{source} {effort}");
        };
        let marks =
            Some(Preamble { begin: Some(1.into()), end: 2.into(), again: None, n_max: None });
        check("<think>", marks, "none", true);
        check("<think>", marks, "low", false);
        check("<think>", None, "none", false);
        check("{% if enable_thinking %}<think>{% endif %}", marks, "none", false);
        check("{{ reasoning_effort }}", marks, "none", false);
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
        check("{{ messages }}", effort("none"), Ok(json!({})));
        check("{{ messages }}", effort("low"), Err("reasoning_effort"));
    }
}
