//! What a caller asks for and what comes back: requests, sampling settings, events.
//!
//! Plain data. Token ids in, text and token ids out; wire formats are the server's business.

use std::time::{Duration, Instant};
use text::{Banned, Calls, Channels, Constraint, Part, Preamble};

/// One generation to run: a prompt in token ids and how to continue it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The prompt, at least one id, each below the model's `n_vocab`. `prompt.len() + 1` must fit
    /// into the context.
    pub prompt: Vec<u32>,
    /// Most tokens to generate; 0 reads the prompt and no more, and then it may fill the context.
    /// `None`: to the end of the context. A number that reaches beyond the context is no error:
    /// generation then ends with [`FinishReason::Length`] where the context ends.
    pub max_tokens: Option<u32>,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Generation ends where one of these would appear in the text; it and what follows are not
    /// delivered. At most [`MAX_STOP_STRINGS`], each of 1 to [`MAX_STOP_BYTES`] bytes.
    pub stop: Vec<String>,
    /// Go on past the model's end-of-generation tokens (for measurements).
    pub ignore_eos: bool,
    /// Report each token's log-probability, with the `n` likeliest alternatives beside it; at
    /// most [`MAX_LOGPROBS`]. These are of the model's own distribution, before any penalty,
    /// bias, temperature or cut.
    pub logprobs: Option<u32>,
    /// Report the prompt's tokens too ([`Event::Prompt`]), as `logprobs` does those of the answer:
    /// the log-probability that each has behind those before it. Then all of the prompt is
    /// computed, and none of it taken from the prefix cache.
    pub prompt_logprobs: Option<u32>,
    /// Who may find what this request leaves in the prefix cache, and whose it may use. Changes
    /// speed, never a result.
    pub cache: CacheScope,
    /// Who goes first where not all can run.
    pub priority: Priority,
    /// On whose behalf it runs: those who wait get equal shares, whatever they send.
    pub client: u64,
    /// When it ends, done or not, with [`FinishReason::Expired`]. One that cannot be met is refused
    /// ([`EngineError::DeadlineOutOfReach`](crate::EngineError)).
    pub deadline: Option<Instant>,
    /// Tokens that the answer has at least: before, none that ends it is chosen, and no stop token.
    /// A constraint that is complete ends it before.
    pub min_tokens: u32,
    /// Tokens that end the answer beside the model's own, and like those have no part in it; at
    /// most [`MAX_STOP_TOKENS`].
    pub stop_tokens: Vec<u32>,
    /// Texts that the answer does not contain: the token that would complete one is never chosen.
    /// [`Engine::banned`](crate::Engine::banned) looks them up.
    pub banned: Option<Banned>,
    /// What the answer must look like; [`Engine::constraint`] compiles it. Then no token comes that
    /// it does not allow, and none is left over when it is complete; only `max_tokens`, the
    /// context, `stop`, `stop_tokens` or `deadline` may cut it short. Not beside `ignore_eos`.
    ///
    /// [`Engine::constraint`]: crate::Engine::constraint
    pub constraint: Option<Constraint>,
    /// A train of thought that comes or may come first. It is told apart from the answer
    /// ([`Event::Part`]), `stop` is not looked for in it, and `constraint` begins behind it.
    pub preamble: Option<Preamble>,
    /// The channels of an answer that is in some ([`ToolFormat::channels`]): they tell its parts
    /// apart. [`Channels::preamble`] is its preamble.
    ///
    /// [`ToolFormat::channels`]: text::ToolFormat::channels
    pub channels: Option<Channels>,
    /// How calls of tools stand in the answer, which are told apart too; `stop` is not looked for
    /// in them. `constraint` should see to it that they are well-formed.
    pub calls: Option<Calls>,
}

/// With whom a request shares the keys and values of its tokens.
///
/// How fast an answer begins tells whether its prompt was in the cache. So a scope should be no
/// wider than those who may know of each other's prompts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum CacheScope {
    /// With every other `Shared` request of the engine.
    #[default]
    Shared,
    /// With the requests of the same key, as long as the engine is open.
    Key(u64),
    /// With the requests of the same key, also after a restart: [`PrefixStore::scope`] gives keys
    /// that mean the same then. Without a store as [`CacheScope::Key`].
    ///
    /// [`PrefixStore::scope`]: crate::PrefixStore::scope
    Lasting(u64),
    /// With none: nothing is looked up or left to be found.
    Off,
}

/// Who goes first where not all can run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// Runs in what the others leave, and at least one in nine where they leave nothing. May be
    /// interrupted and go on later, with the same tokens.
    Batch,
}

/// Most stop strings of one request: four are OpenAI's, the rest is room for tools.
pub const MAX_STOP_STRINGS: usize = 16;
/// Longest stop string in bytes; it bounds the text held back and the cost of each token.
pub const MAX_STOP_BYTES: usize = 1024;
/// Most stop tokens of one request: each token is compared with them.
pub const MAX_STOP_TOKENS: usize = 64;
/// Most entries of [`Dry::breakers`].
pub const MAX_DRY_BREAKERS: usize = 64;
/// Most alternatives reported beside each token (OpenAI's limit).
pub const MAX_LOGPROBS: u32 = 20;
/// Most entries of [`Sampling::logit_bias`]: they are walked for each token.
pub const MAX_LOGIT_BIAS: usize = 1024;

/// How the next token is chosen from the logits. The default is greedy: temperature 0.
///
/// Order of work: constraint, banned texts, minimum length, logit bias, penalties, DRY,
/// temperature, top-k, top-p, min-p, typical-p, XTC, one draw. Each cut sees the distribution that
/// the steps before it left, renormalised. Mirostat takes the place of all cuts.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the largest logit (greedy). 0 to 100.
    pub temperature: f32,
    /// Keep the `k` largest logits (Fan et al. 2018); 0 = off.
    pub top_k: u32,
    /// Keep the smallest set of likeliest tokens whose probabilities reach `p` (nucleus
    /// sampling, Holtzman et al. 2020); 1 = off. Above 0, at most 1.
    pub top_p: f32,
    /// Keep tokens at least `min_p` times as likely as the likeliest (Nguyen et al. 2024);
    /// 0 = off. 0 to 1.
    pub min_p: f32,
    /// Keep the tokens whose information is nearest to the expected one until their probabilities
    /// reach `p` (locally typical sampling, Meister et al. 2022); 1 = off. Above 0, at most 1.
    pub typical_p: f32,
    /// How often the likeliest tokens are excluded ("exclude top choices", P. E. Weidmann,
    /// text-generation-webui pull request 6335): all tokens of at least `xtc_threshold` but the
    /// least likely of them. 0 = off. 0 to 1.
    pub xtc_probability: f32,
    /// Probability from which a token counts as a top choice. Above 0, at most 1.
    pub xtc_threshold: f32,
    /// A penalty for going on with a repetition.
    pub dry: Option<Dry>,
    /// Holds the surprise of the answer at a level.
    pub mirostat: Option<Mirostat>,
    /// Divides positive and multiplies negative logits of every token seen in prompt or answer
    /// (CTRL, Keskar et al. 2019); 1 = off. Above 0, at most 100.
    pub repetition_penalty: f32,
    /// Subtracted once from the logits of tokens already in the answer (OpenAI); 0 = off.
    /// -100 to 100.
    pub presence_penalty: f32,
    /// Subtracted for each time that the token is already in the answer (OpenAI); 0 = off.
    /// -100 to 100.
    pub frequency_penalty: f32,
    /// Added to the logits of the tokens named, before the penalties. What constraint, banned texts
    /// or minimum length forbid stays forbidden. Minus infinity forbids a token;
    /// at most [`MAX_LOGIT_BIAS`] entries.
    pub logit_bias: Vec<(u32, f32)>,
    /// Same seed, same request: same tokens, whatever else runs. `None`: the engine draws one
    /// and reports it in [`Done::seed`].
    pub seed: Option<u64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dry: None,
            mirostat: None,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// "Don't repeat yourself" (P. E. Weidmann, text-generation-webui pull request 5677): a token that
/// would make a repetition of `n` tokens one longer loses `multiplier * base^(n - allowed_length)`
/// from its logit, where `n` is at least `allowed_length`. The longest repetition counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// Strength; above 0, at most 100.
    pub multiplier: f32,
    /// Growth; 1 to 8.
    pub base: f32,
    /// Repetitions shorter than this cost nothing; at least 1.
    pub allowed_length: u32,
    /// How many of the last tokens of prompt and answer are looked at; `None`: all.
    pub range: Option<u32>,
    /// Tokens that no repetition reaches across, and that are never penalised; at most
    /// [`MAX_DRY_BREAKERS`].
    pub breakers: Vec<u32>,
}

/// Mirostat, version 2 (Basu et al. 2021, "Mirostat: a neural text decoding algorithm that directly
/// controls perplexity", without the estimate of Zipf's exponent, as in llama.cpp): tokens whose
/// surprise is above a bound are cut, and the bound follows the surprise of what was chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mirostat {
    /// Wanted surprise in bits; 0 to 100.
    pub tau: f32,
    /// How fast the bound follows; 0 to 1.
    pub eta: f32,
}

/// What happens to a request, in order: any number of `Prompt`, of `Text` and `Part`, then one
/// `Done`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The next tokens of the prompt; only where [`Request::prompt_logprobs`] asked for them, and
    /// then each token comes once.
    Prompt {
        /// The first token of a prompt has nothing before it, and no log-probability.
        tokens: Vec<TokenInfo>,
    },
    /// More of the answer.
    Text {
        /// Whole characters, never any part of a stop string. Empty only where tokens without
        /// text (control tokens) have to be reported at the end.
        text: String,
        /// The tokens sampled since the last `Text`, in order. Text held back for a stop string
        /// comes with the event that releases it; tokens of which a stop string swallowed
        /// everything, and the end-of-generation token, are never here.
        tokens: Vec<TokenInfo>,
    },
    /// A part of the answer that is no text; only where [`Request::preamble`] or
    /// [`Request::calls`] say that there may be some. Never [`Part::Text`].
    Part {
        /// What it is.
        part: Part,
        /// The tokens sampled since the last event, marks included, as for `Text`.
        tokens: Vec<TokenInfo>,
    },
    /// The end: exactly once, and last.
    Done(Done),
}

/// One token of the answer, or of the prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenInfo {
    /// Its id.
    pub id: u32,
    /// Natural logarithm of its probability, where [`Request::logprobs`] or
    /// [`Request::prompt_logprobs`] asked for it.
    pub logprob: Option<f32>,
    /// The likeliest tokens and their log-probabilities, likeliest first, ties by lowest id.
    pub top: Vec<(u32, f32)>,
}

/// How a request ended, and what it cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Why it ended.
    pub reason: FinishReason,
    /// Tokens of the prompt.
    pub n_prompt: u32,
    /// Of those, how many were not computed for this request: their keys and values were in the
    /// prefix cache, which keeps pages of 64 tokens.
    pub n_reused: u32,
    /// Leading tokens of the prompt that the cache knew when it was looked up: behind them the
    /// prompt parts ways with every other that is kept. At least `n_reused`, unless another request
    /// was computing the same prompt at that time.
    pub n_matched: u32,
    /// How often it was interrupted for want of memory or for another's priority.
    pub n_preempted: u32,
    /// Tokens sampled, the end-of-generation token and those of a stop string included.
    pub n_generated: u32,
    /// Of those, tokens of the preamble, its marks included.
    pub n_preamble: u32,
    /// Tokens guessed in advance and checked beside others; see [`Speculation`].
    ///
    /// [`Speculation`]: crate::Speculation
    pub n_drafted: u32,
    /// Of those, how many were right: each saved a step, unless the answer ended with it.
    pub n_accepted: u32,
    /// The seed that was used; give it in [`Sampling::seed`] to get the same answer again.
    pub seed: u64,
    /// From the first step that worked on the prompt to the first token; time spent waiting in
    /// the queue is not in it.
    pub prefill: Duration,
    /// From the first token to the end.
    pub decode: Duration,
    /// From `submit` to the first token; zero when there was none.
    pub time_to_first_token: Duration,
}

impl Done {
    /// The end of a request that never began.
    pub(crate) fn unbegun(reason: FinishReason, n_prompt: u32, seed: u64) -> Self {
        Self {
            reason,
            n_prompt,
            n_reused: 0,
            n_matched: 0,
            n_preempted: 0,
            n_generated: 0,
            n_preamble: 0,
            n_drafted: 0,
            n_accepted: 0,
            seed,
            prefill: Duration::ZERO,
            decode: Duration::ZERO,
            time_to_first_token: Duration::ZERO,
        }
    }
}

/// Why a generation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model said that it is done.
    Stop,
    /// This stop string appeared.
    StopString(String),
    /// `max_tokens` or the end of the context was reached.
    Length,
    /// The caller cancelled. Text held back for a stop string is not delivered.
    Cancelled,
    /// [`Request::deadline`] passed. Text held back for a stop string is not delivered.
    Expired,
    /// It could not go on; the message says why. Other requests are not touched by it. Text held
    /// back for a stop string is not delivered.
    Failed(String),
}
