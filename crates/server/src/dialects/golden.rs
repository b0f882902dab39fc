//! For tests: replays a transcript (request, then events) through a dialect, without a network
//! and without a model, so that every edge is exact.

use super::{
    Answer, Choice, Delivery, Dialect, PlainPrompt, Prompts, ReasoningFields, Reply, Spent, Usage,
    Vocabulary,
};
use crate::errors::ServerError;
use crate::kept::{KeptAnswers, Own};
use crate::limits::Limits;
use engine::{FinishReason, Part, TokenInfo};
use std::time::{Duration, Instant};

/// One step of a transcript.
pub(super) enum Step {
    Prompt(usize, Vec<TokenInfo>),
    Text(usize, &'static str, Vec<TokenInfo>),
    Part(usize, Part, Vec<TokenInfo>),
    Done(usize, FinishReason),
    Fail(ServerError),
    Cancel,
}

/// Text whose tokens nobody asks about.
pub(super) fn text(choice_idx: usize, text: &'static str) -> Step {
    Step::Text(choice_idx, text, Vec::new())
}

/// A token with its log-probability and the alternatives.
pub(super) fn token(id: u32, logprob: f32, top: &[(u32, f32)]) -> TokenInfo {
    TokenInfo { id, logprob: Some(logprob), top: top.to_vec() }
}

/// Parts with their texts cut at the borders that `cuts` says.
pub(super) fn cut(parts: Vec<Part>, cuts: &[bool]) -> Vec<Part> {
    let mut cuts = cuts.iter().cycle();
    let mut pieces = Vec::new();
    for part in parts {
        let (make, text): (fn(String) -> Part, String) = match part {
            Part::Text(text) => (Part::Text, text),
            Part::Reasoning(text) => (Part::Reasoning, text),
            Part::Arguments(text) => (Part::Arguments, text),
            whole => {
                pieces.push(whole);
                continue;
            }
        };
        let mut piece = String::new();
        for c in text.chars() {
            piece.push(c);
            if *cuts.next().unwrap() {
                pieces.push(make(std::mem::take(&mut piece)));
            }
        }
        pieces.push(make(piece));
    }
    pieces
}

/// Token ids 0 to 255 are their byte; 256 is "hello", 257 the euro sign without its last byte,
/// 258 a control token.
struct Bytes;

impl Vocabulary for Bytes {
    fn token_bytes(&self, id: u32) -> Vec<u8> {
        match id {
            0..=255 => vec![id as u8],
            256 => b"hello".to_vec(),
            257 => "€".as_bytes()[..2].to_vec(),
            258 => b"<|end|>".to_vec(),
            _ => panic!("token {id} is in no transcript"),
        }
    }

    fn is_control(&self, id: u32) -> bool {
        id == 258
    }
}

/// The body that answers `request` when `steps` happen; a prompt that is no list
/// of tokens has three.
pub(super) fn replay<D: Dialect>(request: &str, steps: Vec<Step>) -> String {
    let none = KeptAnswers::new(None, 0);
    replay_kept::<D>(request, steps, &Limits::default(), none.of(0, Instant::now()))
}

/// The same where requests may refer to the answers of `own`, among which this one comes.
pub(super) fn replay_kept<D: Dialect>(
    request: &str,
    steps: Vec<Step>,
    limits: &Limits,
    own: Own<'_>,
) -> String {
    let parsed = D::parse(request.as_bytes(), limits);
    let recalled = parsed.and_then(|mut request| {
        D::recall(&mut request, own, limits)?;
        Ok(request)
    });
    let request = match recalled {
        Ok(request) => request,
        Err(error) => return D::FAMILY.error_body(&error.into(), "req_1"),
    };
    let call = D::call(&request);
    let delivery = call.delivery;
    let some_tokens = || vec![u32::from(b'a'), u32::from(b'b'), 257];
    let tokens_of = |prompt: &PlainPrompt| match prompt {
        PlainPrompt::Text(_) | PlainPrompt::Middle { .. } => some_tokens(),
        PlainPrompt::Tokens(ids) => ids.clone(),
    };
    let prompts: Vec<Vec<u32>> = match &call.prompts {
        Prompts::Chat { .. } | Prompts::Turn { .. } => vec![some_tokens()],
        Prompts::Plain(prompts) => prompts.iter().map(tokens_of).collect(),
    };
    let n_choices = prompts.len() * call.n_per_prompt;
    let answer = Answer {
        id: "1".to_owned(),
        created: 7,
        created_ns: 8,
        model: "m".to_owned(),
        fingerprint: "fp".to_owned(),
        sampling: call.sampling.over(&crate::default_sampling()),
        vocabulary: Box::new(Bytes),
        n_dropped: 0,
        reasoning_fields: ReasoningFields::default(),
    };
    let n_prompt = prompts.iter().map(|prompt| prompt.len() as u64).sum();
    let (n_generated, n_reasoning, n_reused, n_matched) = (5, 0, 2, 3);
    let [total, load, prefill, decode] = [40, 10, 20, 0].map(Duration::from_nanos);
    let spent = Spent { total, load, prefill, decode };
    let usage = Usage { n_prompt, n_generated, n_reasoning, n_reused, n_matched, spent };
    let mut reply = D::reply(request, answer, &prompts);
    let body = match delivery {
        Delivery::Stream => stream(&mut reply, steps, usage),
        Delivery::Whole => reply.whole(&gather(steps, n_choices), usage),
        Delivery::Count | Delivery::Load | Delivery::Unload => reply.whole(&[], usage),
    };
    if let Some(kept) = reply.take_kept() {
        own.put(kept);
    }
    body
}

fn stream(reply: &mut impl Reply, steps: Vec<Step>, usage: Usage) -> String {
    let mut out = String::new();
    reply.open(&mut out);
    for step in steps {
        match step {
            Step::Prompt(choice_idx, tokens) => reply.prompt(choice_idx, &tokens, &mut out),
            Step::Text(choice_idx, text, tokens) => {
                reply.part(choice_idx, &Part::Text(text.to_owned()), &tokens, &mut out);
            }
            Step::Part(choice_idx, part, tokens) => {
                reply.part(choice_idx, &part, &tokens, &mut out);
            }
            Step::Done(choice_idx, reason) => reply.done(choice_idx, &reason, &mut out),
            Step::Fail(error) => {
                reply.fail(&error, &mut out);
                return out;
            }
            Step::Cancel => {
                reply.cancel(&mut out);
                return out;
            }
        }
    }
    reply.close(usage, &mut out);
    out
}

fn gather(steps: Vec<Step>, n_choices: usize) -> Vec<Choice> {
    let mut choices = vec![Choice::empty(); n_choices];
    for step in steps {
        match step {
            Step::Prompt(choice_idx, tokens) => choices[choice_idx].prompt_tokens.extend(tokens),
            Step::Text(choice_idx, text, tokens) => {
                choices[choice_idx].push(Part::Text(text.to_owned()), tokens);
            }
            Step::Part(choice_idx, part, tokens) => choices[choice_idx].push(part, tokens),
            Step::Done(choice_idx, reason) => choices[choice_idx].reason = reason,
            Step::Fail(_) | Step::Cancel => panic!("whole answers that fail are never rendered"),
        }
    }
    choices
}
