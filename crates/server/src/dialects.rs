//! API families on the wire. A dialect is its wire types, `parse` and `render`, nothing else: it
//! never calls the engine, never waits, and does not know the time or the network.
//!
//! What a dialect understood is a [`Call`], the same for every family; what comes back from the
//! engine is turned into bytes by its `Reply`.

pub mod anthropic;
pub(crate) mod declared;
mod family;
pub(crate) mod fields;
#[cfg(test)]
mod golden;
pub(crate) mod llama;
pub mod multipart;
pub mod ollama;
pub mod openai;
mod paths;
pub mod rerank;
mod time;
mod tools;

pub(crate) use family::Family;
pub(crate) use paths::Paths;
pub(crate) use time::rfc3339;

use crate::errors::{BadRequest, ServerError};
use crate::kept::{Kept, Own};
use crate::limits::Limits;
use engine::{
    ChatEnd, Dry, FinishReason, Grammar, Mirostat, Part, Priority, Sampling, TokenInfo, Tool,
    ToolChoice,
};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::ops::Range;
use std::time::Duration;

/// One route's parse and render.
pub(crate) trait Dialect: 'static {
    /// The request as read from the wire.
    type Request: Send + 'static;
    /// The renderer of its answer.
    type Reply: Reply;

    /// Reads a body. Everything that can be known to be wrong without a model is found here.
    fn parse(body: &[u8], limits: &Limits) -> Result<Self::Request, BadRequest>;

    /// As [`Dialect::parse`], for a client that has asked for fields which the route does not know
    /// to be told where they would be refused.
    fn parse_leniently(body: &[u8], limits: &Limits) -> Result<Self::Request, BadRequest> {
        Self::parse(body, limits)
    }

    /// Brings in what the request refers to of earlier answers, which `own` has.
    fn recall(
        _request: &mut Self::Request,
        _own: Own<'_>,
        _limits: &Limits,
    ) -> Result<(), BadRequest> {
        Ok(())
    }

    /// The request as a case of the behaviour gate, without expectations; `None` where the gate
    /// does not ask so.
    fn case(_body: &[u8]) -> Option<Map<String, Value>> {
        None
    }

    /// What the request asks of a model.
    fn call(request: &Self::Request) -> &Call;

    /// The renderer; `prompts` are the token ids of the call's prompts.
    fn reply(request: Self::Request, answer: Answer, prompts: &[Vec<u32>]) -> Self::Reply;

    /// The family, which has a shape for errors.
    const FAMILY: Family;

    /// The field of a conversation, for what is wrong with it as a whole.
    const CONVERSATION: &str = "messages";

    /// Takes the paths of fields that the request has and that have no effect, for the response to
    /// tell.
    fn take_ignored(_request: &mut Self::Request) -> Paths {
        Paths::default()
    }

    /// What it says of the model that answers, beside what it asks of it.
    fn terms(_request: &Self::Request) -> Terms {
        Terms::default()
    }

    /// Where the client has what stands in the field `field` of a message of [`Prompts::Chat`].
    fn place(_request: &Self::Request, message_idx: usize, field: &str) -> String {
        format!("messages[{message_idx}].{field}")
    }
}

/// One route's parse and render, of those that are answered by vectors.
pub(crate) trait VectorDialect {
    /// The request as read from the wire.
    type Request: Send + 'static;

    /// Reads a body. Everything that can be known to be wrong without a model is found here.
    fn parse(body: &[u8], limits: &Limits) -> Result<Self::Request, BadRequest>;

    /// As [`Dialect::parse_leniently`].
    fn parse_leniently(body: &[u8], limits: &Limits) -> Result<Self::Request, BadRequest> {
        Self::parse(body, limits)
    }

    /// What the request asks of a model.
    fn ask(request: &Self::Request) -> &VectorAsk;

    /// Path of the field that holds a text.
    fn place(request: &Self::Request, text_idx: usize) -> String;

    /// The whole answer in one body.
    fn body(request: &Self::Request, answer: &VectorAnswer) -> String;

    /// The family, which has a shape for errors. OpenAI's is read by clients of rerank too.
    const FAMILY: Family = Family::OpenAi;

    /// As [`Dialect::take_ignored`].
    fn take_ignored(_request: &mut Self::Request) -> Paths {
        Paths::default()
    }

    /// As [`Dialect::terms`].
    fn terms(_request: &Self::Request) -> Terms {
        Terms::default()
    }
}

/// What a request says of the model that answers it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long the model is kept after its last use.
    pub keep: Option<Wish<Duration>>,
    /// Most positions of prompt and answer together.
    pub n_ctx: Option<Wish<u32>>,
    /// What becomes of a conversation that is longer than the context: cut, it loses its oldest
    /// turns.
    pub overlong: Overlong,
}

/// Texts of which vectors are wanted.
#[derive(Debug, Clone, PartialEq)]
pub struct VectorAsk {
    /// The model's name; `None`: the server's first that makes vectors.
    pub model: Option<String>,
    /// The texts; token ids are used as they are.
    pub texts: Vec<PlainPrompt>,
    /// What becomes of a text that is longer than the model's context.
    pub overlong: Overlong,
    /// Elements that a vector must have.
    pub n_embd: Option<u32>,
}

/// What becomes of a text that is too long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlong {
    /// The request is refused.
    #[default]
    Refuse,
    /// It is cut: a text at its end.
    Truncate,
}

/// The vectors of a request's texts.
pub(crate) struct VectorAnswer {
    /// Random part of the answer's id.
    pub(crate) id: String,
    /// The model's name as served.
    pub(crate) model: String,
    /// Each of length 1.
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Of all texts.
    pub(crate) n_tokens: u64,
    /// Where the time went.
    pub(crate) spent: Spent,
}

/// What a request asks of a model, in no family's words.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The model's name; `None`: the server's first.
    pub model: Option<String>,
    /// What to continue.
    pub prompts: Prompts,
    /// Alternatives for each prompt, at least 1.
    pub n_per_prompt: usize,
    /// Most tokens of each alternative; `None`: to the end of the context.
    pub max_tokens: Option<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingAsk,
    /// Where generation stops.
    pub stop: Vec<String>,
    /// Go on past the model's end tokens.
    pub ignore_eos: bool,
    /// Texts that an answer does not contain.
    pub banned: Vec<String>,
    /// Tokens that an answer has at least.
    pub min_tokens: u32,
    /// Tokens that end an answer beside the model's own.
    pub stop_tokens: Vec<u32>,
    /// Report log-probabilities, with so many likeliest alternatives.
    pub logprobs: Option<u32>,
    /// The same of the prompt's tokens.
    pub prompt_logprobs: Option<u32>,
    /// What the answer must look like.
    pub constraint: Option<ConstraintAsk>,
    /// Tools that the answer may or must call.
    pub tools: Option<ToolsAsk>,
    /// Most tokens of a train of thought before the answer.
    pub reasoning_budget: Option<u32>,
    /// What the request would like of the model's reasoning.
    pub wishes: Wishes,
    /// In one piece or as it comes.
    pub delivery: Delivery,
    /// Whether the prompt may be found in the prefix cache and is left there.
    pub cache_prompt: bool,
    /// Who goes first.
    pub priority: Priority,
}

/// What a request would like of a model's reasoning, whatever the model: clients that say so do
/// not know what it can do. What it cannot is told in the response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Whether there is to be a train of thought; `None`: as the model does by itself.
    pub thinking: Option<Wish<Thinking>>,
    /// Most tokens of it.
    pub budget: Option<Wish<u32>>,
    /// How hard to think, in one word; `None`: as the model does by itself.
    pub effort: Option<Wish<&'static str>>,
}

impl Wishes {
    /// Paths of the fields that state them.
    pub(crate) fn params(&self) -> impl Iterator<Item = &'static str> {
        let budget = self.budget.as_ref().and_then(|wish| wish.param);
        let effort = self.effort.as_ref().and_then(|wish| wish.param);
        let thinking = self.thinking.as_ref().and_then(|wish| wish.param);
        // One field may state several.
        let effort = effort.filter(|effort| thinking != Some(effort));
        [thinking, budget, effort].into_iter().flatten()
    }
}

/// A wish, and the path of the field that states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish<T> {
    /// What is wished for.
    pub what: T,
    /// Where it stands; `None`: nowhere, it is what the family means by its absence.
    pub param: Option<&'static str>,
}

/// Whether a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// It does.
    On,
    /// It may.
    Free,
    /// It does not.
    Off,
}

/// A constraint that a request states.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstraintAsk {
    /// The grammar as the request has it.
    pub grammar: Grammar,
    /// Path of the field that states it, for what is wrong with it.
    pub param: String,
}

/// Tools that a request offers.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolsAsk {
    /// All of them as a JSON array in the form that templates read, which is OpenAI's.
    pub definitions: Value,
    /// Those that may be called, at least one.
    pub callable: Vec<ToolAsk>,
    /// Whether they are.
    pub choice: ToolChoice,
    /// Whether an answer may have several calls.
    pub is_parallel: bool,
    /// Those of all that take a text, as OpenAI's `custom` ones do: models know them as functions
    /// of one argument.
    pub custom: Vec<CustomAsk>,
}

impl ToolsAsk {
    /// The tool of this name, where that takes a text.
    pub(crate) fn custom(&self, name: &str) -> Option<&CustomAsk> {
        self.custom.iter().find(|custom| custom.name == name)
    }

    /// The names of all that take a text.
    pub(crate) fn custom_names(&self) -> HashSet<String> {
        self.custom.iter().map(|custom| custom.name.clone()).collect()
    }
}

/// A tool that takes a text.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomAsk {
    /// As the model knows it.
    pub name: String,
    /// What the text must look like, which is [`Grammar::Regex`] or [`Grammar::Lark`]; `None`: as
    /// the model likes.
    pub text: Option<ConstraintAsk>,
}

impl ToolsAsk {
    /// `true`, where the client insists on the schema of the tool of this name.
    pub(crate) fn is_strict(&self, name: &Value) -> Option<bool> {
        let tool = self.callable.iter().find(|ask| *name == *ask.tool.name)?;
        Some(true).filter(|_| tool.is_strict)
    }
}

/// A tool that may be called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolAsk {
    /// What a call of it looks like.
    pub tool: Tool,
    /// Path of the field with its schema, for what is wrong with that.
    pub param: String,
    /// Whether the client insists that arguments keep to it, which they always do here.
    pub is_strict: bool,
}

/// What a call wants continued.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompts {
    /// A conversation for the model's chat template.
    Chat {
        /// The messages as a JSON array, in the form that templates expect: roles `system`,
        /// `user`, `assistant`, `tool`; content a string; a call's arguments an object.
        messages: Value,
        /// Further variables of the template.
        kwargs: Map<String, Value>,
        /// Whether the last message is continued or answered.
        end: ChatEnd,
    },
    /// One turn of a conversation, of a model that has a chat template; else a text to continue.
    Turn {
        /// The system message, which a text has no place for.
        system: Option<String>,
        /// What the user says.
        text: String,
        /// The conversation before that, in token ids as an earlier answer had them.
        context: Vec<u32>,
    },
    /// Plain texts, each answered on its own.
    Plain(Vec<PlainPrompt>),
}

/// A text to continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlainPrompt {
    /// To be tokenized, special tokens included.
    Text(String),
    /// Already token ids, used as they are.
    Tokens(Vec<u32>),
    /// What stands before and behind a place that is to be filled in.
    Middle {
        /// Before it.
        before: String,
        /// Behind it; not empty.
        behind: String,
    },
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// One body when everything is there.
    Whole,
    /// Piece by piece, as it comes.
    Stream,
    /// Nothing is generated: one body tells how long the prompt is.
    Count,
    /// Nothing is generated: one body tells that the model is open.
    Load,
    /// As `Load`, that the model is closed.
    Unload,
}

/// The sampling settings that a request states; the others are the server's defaults.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // The fields of `engine::Sampling`, which documents them.
pub struct SamplingAsk {
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub typical_p: Option<f32>,
    pub xtc_probability: Option<f32>,
    pub xtc_threshold: Option<f32>,
    /// Its breakers are in `dry_breakers`, since they are known only with a model.
    pub dry: Option<Dry>,
    /// Texts that no repetition reaches across; `None`: the usual ones.
    pub dry_breakers: Option<Vec<String>>,
    pub mirostat: Option<Mirostat>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub logit_bias: Vec<(u32, f32)>,
    pub seed: Option<u64>,
}

impl SamplingAsk {
    /// These settings, and `defaults` where the request says nothing.
    pub fn over(&self, defaults: &Sampling) -> Sampling {
        Sampling {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            typical_p: self.typical_p.unwrap_or(defaults.typical_p),
            xtc_probability: self.xtc_probability.unwrap_or(defaults.xtc_probability),
            xtc_threshold: self.xtc_threshold.unwrap_or(defaults.xtc_threshold),
            dry: self.dry.clone().or_else(|| defaults.dry.clone()),
            mirostat: self.mirostat.or(defaults.mirostat),
            repetition_penalty: self.repetition_penalty.unwrap_or(defaults.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            logit_bias: if self.logit_bias.is_empty() {
                defaults.logit_bias.clone()
            } else {
                self.logit_bias.clone()
            },
            seed: self.seed.or(defaults.seed),
        }
    }
}

/// What every part of one answer says about itself.
pub(crate) struct Answer {
    /// Random part of the answer's id.
    pub(crate) id: String,
    /// Unix seconds, and nanoseconds beside them.
    pub(crate) created: u64,
    pub(crate) created_ns: u32,
    /// The model's name as served.
    pub(crate) model: String,
    /// Build and model in one word.
    pub(crate) fingerprint: String,
    /// How its tokens are chosen, with the server's defaults where the request says nothing.
    pub(crate) sampling: Sampling,
    /// Names of the tokens.
    pub(crate) vocabulary: Box<dyn Vocabulary>,
    /// Messages that were left out of a conversation which is too long.
    pub(crate) n_dropped: usize,
    /// Where chat completions have reasoning.
    pub(crate) reasoning_fields: ReasoningFields,
}

/// The fields of chat completions that have a model's reasoning. OpenAI has none; others have
/// agreed on two, and a client reads the one or the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReasoningFields {
    /// Both, for every client finds its own.
    #[default]
    Both,
    /// `reasoning_content`, as DeepSeek, llama-server and SGLang have it.
    ReasoningContent,
    /// `reasoning`, as vLLM, OpenRouter and Ollama have it.
    Reasoning,
}

impl ReasoningFields {
    /// The words for them.
    pub const NAMES: [&str; 3] = ["both", "reasoning_content", "reasoning"];

    /// Those of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Both, Self::ReasoningContent, Self::Reasoning];
        all.into_iter().zip(Self::NAMES).find(|(_, of)| *of == name).map(|(fields, _)| fields)
    }

    /// What stands in `reasoning_content` and in `reasoning`.
    pub(crate) fn of(self, text: &str) -> [Option<&str>; 2] {
        [self != Self::Reasoning, self != Self::ReasoningContent].map(|has| has.then_some(text))
    }
}

/// What a renderer may ask about token ids.
pub(crate) trait Vocabulary: Send {
    /// The bytes that the token stands for; not always whole characters.
    fn token_bytes(&self, id: u32) -> Vec<u8>;
    /// Whether the token steers the model: it has bytes, and stands for no text.
    fn is_control(&self, id: u32) -> bool;
}

/// Tokens that were worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Of the prompts, each counted once however many alternatives it has.
    pub(crate) n_prompt: u64,
    /// Sampled, over all alternatives.
    pub(crate) n_generated: u64,
    /// Of those, tokens of trains of thought.
    pub(crate) n_reasoning: u64,
    /// Of the prompts, those that were in the prefix cache, and those that agreed with what is
    /// there: behind them a prompt parts ways with all that are kept.
    pub(crate) n_reused: u64,
    pub(crate) n_matched: u64,
    pub(crate) spent: Spent,
}

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Since the request came.
    pub(crate) total: Duration,
    /// Opening the model.
    pub(crate) load: Duration,
    /// From the prompt to the first token, and from there to the end; of several alternatives the
    /// longest.
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

/// What happened to one alternative.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Tokens of its prompt, which were asked for.
    Prompt { choice_idx: usize, tokens: Vec<TokenInfo> },
    /// More of its answer.
    Part { choice_idx: usize, part: Part, tokens: Vec<TokenInfo> },
    /// Its end.
    Done { choice_idx: usize, reason: FinishReason },
}

/// One alternative, complete.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<ToolCall>,
    /// Of the whole answer, reasoning, calls and their marks included.
    pub(crate) tokens: Vec<TokenInfo>,
    /// Which of them came with the text, that stands in one piece.
    pub(crate) text_tokens: Range<usize>,
    /// Of the prompt, where they were asked for.
    pub(crate) prompt_tokens: Vec<TokenInfo>,
    pub(crate) reason: FinishReason,
}

/// A call of a tool, as far as it came.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// JSON.
    pub(crate) arguments: String,
    pub(crate) is_complete: bool,
}

impl Choice {
    /// A choice of which nothing has come yet.
    pub(crate) fn empty() -> Self {
        Self {
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            tokens: Vec::new(),
            text_tokens: 0..0,
            prompt_tokens: Vec::new(),
            reason: FinishReason::Cancelled,
        }
    }

    /// Appends what came.
    pub(crate) fn push(&mut self, part: Part, tokens: Vec<TokenInfo>) {
        match part {
            Part::Text(text) => {
                if self.text.is_empty() {
                    self.text_tokens = self.tokens.len()..self.tokens.len();
                }
                // What comes without text was left out of it, such as the end.
                if !text.is_empty() {
                    self.text_tokens.end = self.tokens.len() + tokens.len();
                }
                self.text.push_str(&text);
            }
            Part::Reasoning(text) => self.reasoning.push_str(&text),
            Part::CallBegin(name) => self.calls.push(ToolCall { name, ..ToolCall::default() }),
            Part::Arguments(text) => {
                if let Some(call) = self.calls.last_mut() {
                    call.arguments.push_str(&text);
                }
            }
            Part::CallEnd => {
                if let Some(call) = self.calls.last_mut() {
                    call.is_complete = true;
                }
            }
        }
        self.tokens.extend(tokens);
    }
}

/// What a client is told at once that asks for its answer later.
pub(crate) struct Ahead {
    /// The answer as far as it is.
    pub(crate) body: String,
    /// Whether it gets the answer as it comes too.
    pub(crate) is_streamed: bool,
}

/// Turns one request's events into the family's bytes: either the stream calls, in the order
/// `open`, any of `prompt`, `part` and `done`, then `close`, `fail` or `cancel`; or `whole`, once.
pub(crate) trait Reply: Send + 'static {
    /// The media type of a stream.
    const STREAM_TYPE: &'static str = "text/event-stream";
    /// The answer's name, where the events of a stream of it are of the form that ids are part of.
    fn stream_id(&self) -> Option<&str> {
        None
    }
    /// What a client is told that asks for the answer by its name later, however it is delivered;
    /// `None`: it waits.
    fn ahead(&self) -> Option<Ahead> {
        None
    }
    /// What a stream says before any text.
    fn open(&mut self, out: &mut String);
    /// More tokens of one alternative's prompt; only of a call that asks for them.
    fn prompt(&mut self, choice_idx: usize, tokens: &[TokenInfo], out: &mut String) {
        let _ = (choice_idx, tokens, out);
    }
    /// More of one alternative.
    fn part(&mut self, choice_idx: usize, part: &Part, tokens: &[TokenInfo], out: &mut String);
    /// The end of one alternative.
    fn done(&mut self, choice_idx: usize, reason: &FinishReason, out: &mut String);
    /// The end of a stream that went well.
    fn close(&mut self, usage: Usage, out: &mut String);
    /// What a stream says when there has been nothing to say for a while; empty: nothing.
    fn ping(&self) -> &'static str {
        ": keep-alive\n\n"
    }
    /// The end of a stream that broke off.
    fn fail(&mut self, error: &ServerError, out: &mut String);
    /// The end of a stream whose answer its client wants no more; only where it asks for it later.
    fn cancel(&mut self, out: &mut String) {
        let _ = out;
    }
    /// The whole answer in one body; without choices where nothing was generated.
    fn whole(&mut self, choices: &[Choice], usage: Usage) -> String;
    /// Takes what is to be kept of an answer that has ended: well, where its client waits.
    fn take_kept(&mut self) -> Option<Kept> {
        None
    }
}
