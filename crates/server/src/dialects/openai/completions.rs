//! `POST /v1/completions`: its request, and its answers whole and streamed.
//!
//! Prompts are texts or token ids, one or many; the alternatives of prompt `i` have the indices
//! from `i * n`.

use super::logprobs::LegacyLogprobs;
use super::settings::Settings;
use super::{UsageBody, finish_word, push_end, push_event, push_failure, settings, to_json};
use crate::cases;
use crate::dialects::fields::{Field, Fields, Unknown, take_texts};
use crate::dialects::{
    Answer, Call, Choice, Delivery, Dialect, Family, Paths, PlainPrompt, Prompts, Reply, Usage,
    Wishes,
};
use crate::errors::{BadRequest, ServerError};
use crate::limits::Limits;
use engine::{FinishReason, Part, TokenInfo};
use serde::Serialize;
use serde_json::{Map, Value};

/// Tokens of an answer where the request does not say: OpenAI's number for this route, so that
/// the same client gets the same length here.
const MAX_TOKENS_DEFAULT: u32 = 16;
/// Most alternatives beside each token on this route (OpenAI's limit).
const N_LOGPROBS: i64 = 5;

/// What becomes of the fields that only this route knows.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("prompt").shape(PROMPT).good(r#"["Hi",[17]]"#).note("texts or token ids"),
    Field::honoured("max_tokens").count(0).note("16 where it is absent, as at OpenAI"),
    Field::honoured("logprobs").integer(0, N_LOGPROBS),
    Field::honoured("echo").flag().note("with `logprobs` those of the prompt too"),
    Field::honoured("best_of").count(1).good("2").note("not with `stream`"),
    Field::honoured("suffix").text().good(r#"" the end""#).by_model().note(SUFFIX_NOTE),
];

/// What there is to know of `suffix`.
const SUFFIX_NOTE: &str = "what stands behind the answer, of models with tokens to fill in the \
                           middle; with texts as prompts and without `echo`";

/// Texts or token ids.
pub(crate) const PROMPT: &str = r#"{"anyOf":[{"type":"string"},{"type":"array","minItems":1,"items":{"type":"integer","minimum":0}},{"type":"array","minItems":1,"items":{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"integer","minimum":0}}]}}]}"#;

/// A completion request that was understood in full.
#[derive(Debug, Clone, PartialEq)]
pub struct CompletionRequest {
    /// What it asks of the model.
    pub call: Call,
    /// Alternatives of each prompt that are told, of the `n_per_prompt` that are made: the best.
    pub n: usize,
    /// Whether the answer begins with the prompt; where log-probabilities are told, with those of
    /// its tokens.
    pub echo: bool,
    /// Whether log-probabilities are told.
    pub logprobs: bool,
    /// Whether a stream ends with a chunk that holds the usage.
    pub include_usage: bool,
    /// Paths of what has no effect.
    ignored: Paths,
}

/// The route.
pub(crate) struct Completions;

impl Dialect for Completions {
    type Request = CompletionRequest;
    type Reply = CompletionReply;
    const FAMILY: Family = Family::OpenAi;

    fn parse(body: &[u8], limits: &Limits) -> Result<CompletionRequest, BadRequest> {
        parse(body, limits, Unknown::Refused)
    }

    fn parse_leniently(body: &[u8], limits: &Limits) -> Result<CompletionRequest, BadRequest> {
        parse(body, limits, Unknown::Ignored)
    }

    fn take_ignored(request: &mut CompletionRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn case(body: &[u8]) -> Option<Map<String, Value>> {
        cases::of_openai(body, "prompt")
    }

    fn call(request: &CompletionRequest) -> &Call {
        &request.call
    }

    fn reply(request: CompletionRequest, answer: Answer, prompts: &[Vec<u32>]) -> CompletionReply {
        let n_per_prompt = request.call.n_per_prompt;
        let echoes = match (&request.call.prompts, request.echo) {
            (Prompts::Plain(plain), true) => {
                let echo = |(prompt, ids): (_, &Vec<u32>)| echo(prompt, ids, &answer);
                plain.iter().zip(prompts).map(echo).collect()
            }
            _ => vec![String::new(); prompts.len()],
        };
        CompletionReply {
            id: format!("cmpl-{}", answer.id),
            n_chars: vec![0; prompts.len() * n_per_prompt],
            prompts: prompts.iter().map(Vec::len).collect(),
            prompt_tokens: vec![Vec::new(); prompts.len() * n_per_prompt],
            echoes,
            n: request.n,
            n_per_prompt,
            logprobs: request.logprobs,
            is_scored: request.call.prompt_logprobs.is_some(),
            include_usage: request.include_usage,
            answer,
        }
    }
}

/// A prompt as text.
fn echo(prompt: &PlainPrompt, ids: &[u32], answer: &Answer) -> String {
    match prompt {
        PlainPrompt::Text(text) | PlainPrompt::Middle { before: text, .. } => text.clone(),
        PlainPrompt::Tokens(_) => {
            let bytes: Vec<u8> =
                ids.iter().flat_map(|&id| answer.vocabulary.token_bytes(id)).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
    }
}

pub(super) fn parse(
    body: &[u8],
    limits: &Limits,
    unknown: Unknown,
) -> Result<CompletionRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut settings = settings::take(&mut fields, limits)?;
    let mut ignored = std::mem::take(&mut settings.ignored);
    ignored.extend(fields.treat(FIELDS)?);
    let max_tokens = fields.count("max_tokens", 0)?.unwrap_or(MAX_TOKENS_DEFAULT);
    let logprobs = fields.integer("logprobs", 0..=N_LOGPROBS)?.map(|n_top| n_top as u32);
    let echo = fields.flag("echo")?.unwrap_or(false);
    let best_of = take_best_of(&mut fields, &settings, limits)?;
    let prompts = take_texts(&mut fields, "prompt")?;
    if prompts.len().saturating_mul(best_of) > limits.n_choices {
        let problem = format!(
            "{} prompts times {best_of} alternatives: expected at most {} in all",
            prompts.len(),
            limits.n_choices
        );
        return Err(BadRequest::field("prompt", &problem));
    }
    let prompts = take_suffix(&mut fields, echo, prompts, limits)?;
    ignored.append(fields.finish(unknown)?);
    Ok(CompletionRequest {
        call: Call {
            model: settings.model,
            prompts: Prompts::Plain(prompts),
            n_per_prompt: best_of,
            max_tokens: Some(max_tokens),
            sampling: settings.sampling,
            stop: settings.stop,
            ignore_eos: settings.ignore_eos,
            banned: settings.banned,
            min_tokens: settings.min_tokens,
            stop_tokens: settings.stop_tokens,
            // Without them there is nothing to choose the best by.
            logprobs: logprobs.or((best_of > settings.n).then_some(0)),
            prompt_logprobs: logprobs.filter(|_| echo),
            constraint: settings.constraint,
            tools: None,
            reasoning_budget: None,
            wishes: Wishes::default(),
            delivery: settings.delivery,
            cache_prompt: settings.cache_prompt,
            priority: settings.priority,
        },
        n: settings.n,
        echo,
        logprobs: logprobs.is_some(),
        include_usage: settings.include_usage,
        ignored,
    })
}

/// The prompts, as what stands before a place to be filled in where there is something behind it.
fn take_suffix(
    fields: &mut Fields,
    echo: bool,
    prompts: Vec<PlainPrompt>,
    limits: &Limits,
) -> Result<Vec<PlainPrompt>, BadRequest> {
    let Some(suffix) = fields.text("suffix")?.filter(|suffix| !suffix.is_empty()) else {
        return Ok(prompts);
    };
    if echo {
        let why = "beside \"echo\": an answer in the middle does not go on from its prompt";
        return Err(BadRequest::unsupported("suffix", why));
    }
    // It stands behind each of them.
    let (n_bytes, n_prompts) = (suffix.len(), prompts.len());
    if n_bytes.saturating_mul(n_prompts) > limits.n_body_bytes {
        let problem = format!(
            "{n_bytes} bytes behind {n_prompts} prompts: expected at most {} in all",
            limits.n_body_bytes
        );
        return Err(BadRequest::field("suffix", &problem));
    }
    let middle = |prompt| match prompt {
        PlainPrompt::Text(before) => Ok(PlainPrompt::Middle { before, behind: suffix.clone() }),
        _ => {
            let why = "beside token ids as the prompt: expected a text, between which and the \
                       suffix the model's own tokens can stand";
            Err(BadRequest::unsupported("suffix", why))
        }
    };
    prompts.into_iter().map(middle).collect()
}

/// How many alternatives of each prompt are made.
fn take_best_of(
    fields: &mut Fields,
    settings: &Settings,
    limits: &Limits,
) -> Result<usize, BadRequest> {
    let n_max = i64::try_from(limits.n_choices_per_prompt).unwrap_or(i64::MAX);
    let best_of = fields.integer("best_of", 1..=n_max)?.map_or(settings.n, |n| n as usize);
    if best_of < settings.n {
        let problem = format!("{best_of}: expected at least the value of \"n\" ({})", settings.n);
        return Err(BadRequest::field("best_of", &problem));
    }
    if best_of > settings.n && settings.delivery == Delivery::Stream {
        let why = format!("{best_of}, with \"stream\": the best is known at the end only");
        return Err(BadRequest::unsupported("best_of", &why));
    }
    Ok(best_of)
}

/// Renders the answer to one completion request.
pub(crate) struct CompletionReply {
    answer: Answer,
    id: String,
    /// What each prompt's alternatives begin with; empty without `echo`.
    echoes: Vec<String>,
    /// Tokens of each prompt, and those of each alternative that came so far.
    prompts: Vec<usize>,
    prompt_tokens: Vec<Vec<TokenInfo>>,
    /// Alternatives that are told, and made.
    n: usize,
    n_per_prompt: usize,
    /// Characters of each alternative that were sent, for `text_offset`.
    n_chars: Vec<usize>,
    logprobs: bool,
    /// Whether the tokens of prompts are told with theirs.
    is_scored: bool,
    include_usage: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: &'a [BodyChoice<'a>],
    /// Of a stream absent unless asked for, then null in all chunks but the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<UsageBody>>,
}

#[derive(Serialize)]
struct BodyChoice<'a> {
    text: &'a str,
    index: usize,
    logprobs: Option<LegacyLogprobs>,
    finish_reason: Option<&'static str>,
}

impl CompletionReply {
    fn body<'a>(
        &'a self,
        choices: &'a [BodyChoice<'a>],
        usage: Option<Option<UsageBody>>,
    ) -> Body<'a> {
        Body {
            id: &self.id,
            object: "text_completion",
            created: self.answer.created,
            model: &self.answer.model,
            system_fingerprint: &self.answer.fingerprint,
            choices,
            usage,
        }
    }

    fn chunk(&self, choice: BodyChoice<'_>, out: &mut String) {
        push_event(&self.body(&[choice], self.include_usage.then_some(None)), out);
    }

    /// Those of a prompt, empty or whole, and of an answer's next tokens.
    fn logprobs(
        &mut self,
        choice_idx: usize,
        prompt: &[TokenInfo],
        answer: &[TokenInfo],
    ) -> Option<LegacyLogprobs> {
        if !self.logprobs {
            return None;
        }
        let n_chars = &mut self.n_chars[choice_idx];
        let vocabulary = self.answer.vocabulary.as_ref();
        let mut logprobs = LegacyLogprobs::default();
        if !prompt.is_empty() {
            let echo = &self.echoes[choice_idx / self.n_per_prompt];
            logprobs.push_prompt(prompt, vocabulary, echo, n_chars);
        }
        logprobs.push(answer, vocabulary, n_chars);
        Some(logprobs)
    }
}

impl Reply for CompletionReply {
    fn stream_id(&self) -> Option<&str> {
        Some(&self.id)
    }

    fn open(&mut self, out: &mut String) {
        if self.is_scored {
            return;
        }
        for index in 0..self.n_chars.len() {
            let text = &self.echoes[index / self.n_per_prompt];
            if !text.is_empty() {
                let choice = BodyChoice { text, index, logprobs: None, finish_reason: None };
                self.chunk(choice, out);
            }
        }
    }

    /// The prompt is told in one piece, since its text cannot be cut where its tokens are.
    fn prompt(&mut self, choice_idx: usize, tokens: &[TokenInfo], out: &mut String) {
        let prompt_idx = choice_idx / self.n_per_prompt;
        self.prompt_tokens[choice_idx].extend_from_slice(tokens);
        if self.prompt_tokens[choice_idx].len() == self.prompts[prompt_idx] {
            let tokens = std::mem::take(&mut self.prompt_tokens[choice_idx]);
            let logprobs = self.logprobs(choice_idx, &tokens, &[]);
            let text = &self.echoes[prompt_idx];
            let choice = BodyChoice { text, index: choice_idx, logprobs, finish_reason: None };
            self.chunk(choice, out);
        }
    }

    fn part(&mut self, choice_idx: usize, part: &Part, tokens: &[TokenInfo], out: &mut String) {
        // Other parts were not asked for.
        let Part::Text(text) = part else { return };
        // Tokens without text say something only where log-probabilities are told.
        if text.is_empty() && (tokens.is_empty() || !self.logprobs) {
            return;
        }
        let logprobs = self.logprobs(choice_idx, &[], tokens);
        let choice = BodyChoice { text, index: choice_idx, logprobs, finish_reason: None };
        self.chunk(choice, out);
    }

    fn done(&mut self, choice_idx: usize, reason: &FinishReason, out: &mut String) {
        let finish_reason = Some(finish_word(reason));
        let choice = BodyChoice { text: "", index: choice_idx, logprobs: None, finish_reason };
        self.chunk(choice, out);
    }

    fn close(&mut self, usage: Usage, out: &mut String) {
        if self.include_usage {
            push_event(&self.body(&[], Some(Some(usage.into()))), out);
        }
        push_end(out);
    }

    fn fail(&mut self, error: &ServerError, out: &mut String) {
        push_failure(error, out);
    }

    fn whole(&mut self, choices: &[Choice], usage: Usage) -> String {
        let told: Vec<usize> = best(choices, self.n_per_prompt, self.n);
        let echoed = |&choice_idx: &usize| {
            format!("{}{}", self.echoes[choice_idx / self.n_per_prompt], choices[choice_idx].text)
        };
        let texts: Vec<String> = told.iter().map(echoed).collect();
        let mut bodies = Vec::with_capacity(told.len());
        for (index, (choice_idx, text)) in told.into_iter().zip(&texts).enumerate() {
            let choice = &choices[choice_idx];
            let logprobs = self.logprobs(choice_idx, &choice.prompt_tokens, &choice.tokens);
            let finish_reason = Some(finish_word(&choice.reason));
            bodies.push(BodyChoice { text, index, logprobs, finish_reason });
        }
        to_json(&self.body(&bodies, Some(Some(usage.into()))))
    }
}

/// Of each prompt's `n_made` alternatives the `n` with the highest log-probability per token, best
/// first, equals and all of them in order. One without tokens is the worst.
fn best(choices: &[Choice], n_made: usize, n: usize) -> Vec<usize> {
    let mut told = Vec::new();
    for start in (0..choices.len()).step_by(n_made.max(1)) {
        let mut made: Vec<usize> = (start..start + n_made).collect();
        if n < n_made {
            made.sort_by(|&a, &b| mean_logprob(&choices[b]).total_cmp(&mean_logprob(&choices[a])));
            made.truncate(n);
        }
        told.extend(made);
    }
    told
}

fn mean_logprob(choice: &Choice) -> f64 {
    let sum: f64 = choice.tokens.iter().filter_map(|t| t.logprob).map(f64::from).sum();
    match choice.tokens.len() {
        0 => f64::NEG_INFINITY,
        n_tokens => sum / n_tokens as f64,
    }
}

#[cfg(test)]
mod tests;
