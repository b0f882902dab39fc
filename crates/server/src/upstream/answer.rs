//! The answer of an upstream, read from its bytes however they are cut: what it says becomes steps,
//! and what it counts is kept.

use super::following::{Following, Takes, Wrong};
use super::sse::Reader;
use super::{TheirTokens, anthropic, n_bytes, openai, texts};
use crate::dialects::{Call, Choice, Step, ToolsAsk, Usage};
use broker::UpstreamKind;
use engine::ToolChoice;
use serde_json::Value;

/// Most bytes of an answer in one piece: its texts, twice over for their escapes.
const WHOLE_BYTES_MAX: usize = 32 << 20;

/// Tokens of a prompt beyond the bytes of its texts at most: what vendors put before it.
const N_PROMPT_MORE: u64 = 16 << 10;
/// Most tokens of an alternative whose request has no bound: more than models write.
const N_GENERATED_MAX: u64 = 512 << 10;

/// What is wrong with an issuer's, which is asked no requests to models.
const NO_MODEL: &str = "it comes from an issuer of OpenID Connect, which has no model";

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// As events.
    Events,
    /// As one JSON object.
    Whole,
}

impl Framing {
    /// What a media type says.
    pub(crate) fn of(content_type: &str) -> Self {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        match media_type.eq_ignore_ascii_case("text/event-stream") {
            true => Self::Events,
            false => Self::Whole,
        }
    }
}

/// What an event says of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    More,
    /// It was the last.
    End,
}

/// Tokens as the upstream counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) n_prompt: u64,
    pub(crate) n_cached: u64,
    pub(crate) n_generated: u64,
    pub(crate) n_reasoning: u64,
}

impl Counts {
    /// The most that the answer to `call` may count: no token has less than a byte of what is read.
    fn most(call: &Call) -> Self {
        let n_prompt = n_bytes(&texts(call)).saturating_add(N_PROMPT_MORE);
        let n_each = call.max_tokens.map_or(N_GENERATED_MAX, u64::from);
        let n_generated = n_each.saturating_mul(call.n_per_prompt as u64);
        Self { n_prompt, n_cached: n_prompt, n_generated, n_reasoning: n_generated }
    }

    /// No more than `most`, or than the bytes that were heard: some upstreams know no bound.
    fn within(self, most: Self, n_heard: u64) -> Self {
        let n_prompt = self.n_prompt.min(most.n_prompt);
        let n_generated = self.n_generated.min(most.n_generated.max(n_heard));
        Self {
            n_prompt,
            n_cached: self.n_cached.min(n_prompt),
            n_generated,
            n_reasoning: self.n_reasoning.min(n_generated),
        }
    }
}

/// What was heard of an answer.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) following: Following,
    pub(super) counts: Counts,
    pub(super) tokens: TheirTokens,
    pub(super) wants_logprobs: bool,
    /// What it said of an error; it may quote the request.
    error: Option<String>,
    /// Of a message of Anthropic's, how it ended; that is told before its last event.
    pub(super) stop: Option<engine::FinishReason>,
}

impl Heard {
    /// That an upstream says an error in its answer.
    pub(super) fn failed(&mut self, error: &Value) -> Wrong {
        let message = error["message"].as_str().or(error.as_str()).unwrap_or_default();
        self.error = Some(message.chars().take(super::MESSAGE_CHARS_MAX).collect());
        Wrong::new("it broke off with an error")
    }
}

/// An answer that is being read.
#[derive(Debug)]
pub(crate) struct Answer {
    kind: UpstreamKind,
    form: Form,
    heard: Heard,
    /// What is believed of its counts.
    most: Counts,
    is_over: bool,
}

#[derive(Debug)]
enum Form {
    Events(Reader),
    Whole(Vec<u8>),
}

impl Answer {
    /// The answer to `call`.
    pub(crate) fn new(call: &Call, kind: UpstreamKind, framing: Framing) -> Self {
        let tools = call.tools.iter().filter(|tools| tools.choice != ToolChoice::None);
        let takes = |tools: &ToolsAsk, name: &str| match tools.custom(name) {
            Some(_) => Takes::Text,
            None => Takes::Arguments,
        };
        let named = |tools: &'_ ToolsAsk| -> Vec<(String, Takes)> {
            let names = tools.callable.iter().map(|ask| &ask.tool.name);
            names.map(|name| (name.clone(), takes(tools, name))).collect()
        };
        let tools = tools.flat_map(named);
        Self {
            kind,
            form: match framing {
                Framing::Events => Form::Events(Reader::default()),
                Framing::Whole => Form::Whole(Vec::new()),
            },
            heard: Heard {
                following: Following::new(call.n_per_prompt, tools.collect()),
                counts: Counts::default(),
                tokens: TheirTokens::default(),
                wants_logprobs: call.logprobs.is_some(),
                error: None,
                stop: None,
            },
            most: Counts::most(call),
            is_over: false,
        }
    }

    /// The names of its tokens.
    pub(crate) fn tokens(&self) -> TheirTokens {
        self.heard.tokens.clone()
    }

    /// Takes the next bytes, and returns what they say. What comes behind the end is not read.
    ///
    /// # Errors
    /// What is wrong with them; nothing is read behind it.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<Step>, Wrong> {
        match &mut self.form {
            Form::Events(reader) => {
                let mut events = Vec::new();
                let read = reader.push(bytes, &mut events);
                for event in events {
                    if self.is_over {
                        break;
                    }
                    let said = match self.kind {
                        UpstreamKind::OpenAi => openai::event(&event, &mut self.heard)?,
                        UpstreamKind::Anthropic => anthropic::event(&event, &mut self.heard)?,
                        UpstreamKind::Oidc => return Err(Wrong::new(NO_MODEL)),
                    };
                    if said == Said::End {
                        self.finish()?;
                    }
                }
                if !self.is_over {
                    read?;
                }
            }
            Form::Whole(body) if body.len() + bytes.len() > WHOLE_BYTES_MAX => {
                return Err(Wrong::new(format!("it has more than {WHOLE_BYTES_MAX} bytes")));
            }
            Form::Whole(body) => body.extend_from_slice(bytes),
        }
        Ok(self.heard.following.take())
    }

    /// Takes that no more bytes come. Some end their streams without saying so, behind all that
    /// was to say.
    ///
    /// # Errors
    /// As [`Answer::push`]; that something is missing.
    pub(crate) fn end(&mut self) -> Result<Vec<Step>, Wrong> {
        if let Form::Whole(body) = &mut self.form {
            let body = std::mem::take(body);
            match self.kind {
                UpstreamKind::OpenAi => openai::whole(&body, &mut self.heard)?,
                UpstreamKind::Anthropic => anthropic::whole(&body, &mut self.heard)?,
                UpstreamKind::Oidc => return Err(Wrong::new(NO_MODEL)),
            }
        }
        if !self.is_over {
            self.finish()?;
        }
        Ok(self.heard.following.take())
    }

    /// Reads all of it from these pieces, as it is told in one.
    ///
    /// # Errors
    /// As [`Answer::push`] and [`Answer::end`].
    pub(super) fn read(mut self, pieces: &[&[u8]]) -> Result<(Vec<Choice>, Counts), Wrong> {
        let mut choices = vec![Choice::empty(); self.heard.following.n_choices()];
        let mut take = |steps: Vec<Step>| {
            for step in steps {
                match step {
                    Step::Part { choice_idx, part, tokens } => {
                        choices[choice_idx].push(part, tokens);
                    }
                    Step::Done { choice_idx, reason } => choices[choice_idx].reason = reason,
                    // No upstream tells of prompts.
                    Step::Prompt { .. } => {}
                }
            }
        };
        for piece in pieces {
            // Behind the end nobody asks for more.
            if !self.is_over {
                take(self.push(piece)?);
            }
        }
        take(self.end()?);
        Ok((choices, self.counts()))
    }

    fn finish(&mut self) -> Result<(), Wrong> {
        self.is_over = true;
        if self.counts() != self.heard.counts {
            tracing::warn!("an upstream counts more tokens than there can be");
        }
        match self.heard.following.is_done() {
            true => Ok(()),
            false => Err(Wrong::new("it ended in the middle of the answer")),
        }
    }

    /// Whether all of it has come.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// What it said of an error, which may quote the request and is for nobody but its client.
    pub(crate) fn error(&self) -> Option<&str> {
        self.heard.error.as_deref().filter(|message| !message.is_empty())
    }

    /// What it counts so far, as far as that is believed.
    pub(crate) fn counts(&self) -> Counts {
        self.heard.counts.within(self.most, self.heard.following.n_bytes() as u64)
    }
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        Self {
            n_prompt: counts.n_prompt,
            n_generated: counts.n_generated,
            n_reasoning: counts.n_reasoning,
            n_reused: counts.n_cached,
            n_matched: counts.n_cached,
            ..Self::default()
        }
    }
}
