//! Log-probabilities on the wire: the shape of chat completions and the older one.

use crate::dialects::Vocabulary;
use engine::TokenInfo;
use serde::Serialize;
use serde_json::{Map, Value};

/// JSON has no infinity; OpenAI writes this for "never".
const LOGPROB_MIN: f32 = -9999.0;

/// `logprobs` of a chat choice or chunk.
#[derive(Debug, Serialize)]
pub(super) struct ChatLogprobs {
    content: Vec<ChatToken>,
    /// Refusals are not told apart from other text here.
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct ChatToken {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<ChatAlternative>,
}

#[derive(Debug, Serialize)]
struct ChatAlternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

/// One entry for each token, in order.
pub(super) fn chat(tokens: &[TokenInfo], vocabulary: &dyn Vocabulary) -> ChatLogprobs {
    let entry = |token: &TokenInfo| {
        let bytes = vocabulary.token_bytes(token.id);
        let top_logprobs = token.top.iter().map(|&(id, logprob)| {
            let bytes = vocabulary.token_bytes(id);
            ChatAlternative { token: lossy(&bytes), logprob: finite(Some(logprob)), bytes }
        });
        ChatToken {
            token: lossy(&bytes),
            logprob: finite(token.logprob),
            top_logprobs: top_logprobs.collect(),
            bytes,
        }
    };
    ChatLogprobs { content: tokens.iter().map(entry).collect(), refusal: None }
}

/// `logprobs` of a completion choice or chunk.
#[derive(Debug, Serialize)]
pub(super) struct LegacyLogprobs {
    tokens: Vec<String>,
    /// Null where a prompt begins.
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

/// One entry for each token, in order; the first of a prompt has no log-probability. `n_chars` is
/// the number of characters that stand before the first token, and is moved on past the last.
pub(super) fn legacy(
    tokens: &[TokenInfo],
    vocabulary: &dyn Vocabulary,
    n_chars: &mut usize,
) -> LegacyLogprobs {
    let mut body = LegacyLogprobs {
        tokens: Vec::with_capacity(tokens.len()),
        token_logprobs: Vec::with_capacity(tokens.len()),
        top_logprobs: Vec::with_capacity(tokens.len()),
        text_offset: Vec::with_capacity(tokens.len()),
    };
    for token in tokens {
        let bytes = vocabulary.token_bytes(token.id);
        body.text_offset.push(*n_chars);
        // A character is counted where its first byte stands, so that one spread over several
        // tokens counts once. Control tokens are named here, but are not in the text.
        if !vocabulary.is_control(token.id) {
            *n_chars += bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        }
        body.tokens.push(lossy(&bytes));
        body.token_logprobs.push(token.logprob.map(|logprob| finite(Some(logprob))));
        let mut top = Map::new();
        for &(id, logprob) in &token.top {
            // Of tokens with the same text the likeliest, which comes first, stays.
            top.entry(lossy(&vocabulary.token_bytes(id)))
                .or_insert_with(|| Value::from(finite(Some(logprob))));
        }
        body.top_logprobs.push(token.logprob.map(|_| top));
    }
    body
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn finite(logprob: Option<f32>) -> f32 {
    logprob.filter(|logprob| logprob.is_finite()).unwrap_or(LOGPROB_MIN)
}
