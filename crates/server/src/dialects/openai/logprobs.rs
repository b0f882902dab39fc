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
    pub(super) content: Vec<ChatToken>,
    /// Refusals are not told apart from other text here.
    refusal: Option<()>,
}

/// A token as chat completions, responses and Ollama's routes tell it.
#[derive(Debug, Clone, Serialize)]
pub(in crate::dialects) struct ChatToken {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
    top_logprobs: Vec<ChatAlternative>,
}

#[derive(Debug, Clone, Serialize)]
struct ChatAlternative {
    token: String,
    logprob: f32,
    bytes: Vec<u8>,
}

/// Those of a chat choice or chunk.
pub(super) fn chat(tokens: &[TokenInfo], vocabulary: &dyn Vocabulary) -> ChatLogprobs {
    // Refusals are not told apart from other text here.
    ChatLogprobs { content: entries(tokens, vocabulary), refusal: None }
}

/// One entry for each token, in order.
pub(in crate::dialects) fn entries(
    tokens: &[TokenInfo],
    vocabulary: &dyn Vocabulary,
) -> Vec<ChatToken> {
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
    tokens.iter().map(entry).collect()
}

/// `logprobs` of a completion choice or chunk.
#[derive(Debug, Default, Serialize)]
pub(super) struct LegacyLogprobs {
    tokens: Vec<String>,
    /// Null where a prompt begins.
    token_logprobs: Vec<Option<f32>>,
    top_logprobs: Vec<Option<Map<String, Value>>>,
    text_offset: Vec<usize>,
}

impl LegacyLogprobs {
    /// Adds the tokens of a whole prompt, which is echoed as `text`; the first one has no
    /// log-probability. `n_chars` becomes the number of characters of `text`.
    pub(super) fn push_prompt(
        &mut self,
        tokens: &[TokenInfo],
        vocabulary: &dyn Vocabulary,
        text: &str,
        n_chars: &mut usize,
    ) {
        let bytes: Vec<_> = tokens.iter().map(|token| vocabulary.token_bytes(token.id)).collect();
        let n_control = |token: Option<&TokenInfo>, bytes: Option<&Vec<u8>>| {
            token.filter(|token| vocabulary.is_control(token.id)).and(bytes).map_or(0, Vec::len)
        };
        let begin = n_control(tokens.first(), bytes.first());
        let end = n_control(tokens.last(), bytes.last());
        let starts = char_starts(&bytes.concat(), (begin, end), text);
        let mut n_bytes = 0;
        for (token, bytes) in tokens.iter().zip(bytes) {
            self.text_offset.push(starts.partition_point(|&start| start < n_bytes));
            n_bytes += bytes.len();
            self.push_values(token, &bytes, vocabulary);
        }
        *n_chars = text.chars().count();
    }

    /// Adds tokens of an answer. `n_chars` is the number of characters that stand before the first
    /// of them, and is moved on past the last.
    pub(super) fn push(
        &mut self,
        tokens: &[TokenInfo],
        vocabulary: &dyn Vocabulary,
        n_chars: &mut usize,
    ) {
        for token in tokens {
            let bytes = vocabulary.token_bytes(token.id);
            self.text_offset.push(*n_chars);
            // A character is counted where its first byte stands, so that one spread over several
            // tokens counts once. Control tokens are named here, but are not in the text.
            if !vocabulary.is_control(token.id) {
                *n_chars += bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
            }
            self.push_values(token, &bytes, vocabulary);
        }
    }

    fn push_values(&mut self, token: &TokenInfo, bytes: &[u8], vocabulary: &dyn Vocabulary) {
        self.tokens.push(lossy(bytes));
        self.token_logprobs.push(token.logprob.map(|logprob| finite(Some(logprob))));
        let mut top = Map::new();
        for &(id, logprob) in &token.top {
            // Of tokens with the same text the likeliest, which comes first, stays.
            top.entry(lossy(&vocabulary.token_bytes(id)))
                .or_insert_with(|| Value::from(finite(Some(logprob))));
        }
        self.top_logprobs.push(token.logprob.map(|_| top));
    }
}

/// Where in the `bytes` of a prompt's tokens each character of the echoed `text` begins. Control
/// tokens that the caller wrote are part of the text; what the tokenizer puts in front (a begin
/// token, a space) or behind (an end token) is not; `n_control` are the bytes of the first and of
/// the last token where they are control tokens. Where the tokenizer changed the text (NFC), the
/// places are those of the changed one.
fn char_starts(bytes: &[u8], n_control: (usize, usize), text: &str) -> Vec<usize> {
    let (n_begin, n_end) = n_control;
    for end in [bytes.len(), bytes.len() - n_end] {
        match bytes[..end].strip_suffix(text.as_bytes()) {
            Some(front) if front.len() <= n_begin + 1 => {
                return text.char_indices().map(|(start, _)| front.len() + start).collect();
            }
            _ => {}
        }
    }
    let mut starts = Vec::new();
    let mut n_before = 0;
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        starts.extend(valid.char_indices().map(|(start, _)| n_before + start));
        n_before += valid.len();
        if !chunk.invalid().is_empty() {
            starts.push(n_before);
        }
        n_before += chunk.invalid().len();
    }
    starts.truncate(text.chars().count());
    starts
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn finite(logprob: Option<f32>) -> f32 {
    logprob.filter(|logprob| logprob.is_finite()).unwrap_or(LOGPROB_MIN)
}
