//! Which tokens end a generation.
//!
//! Files name EOS and sometimes EOT and EOM, but chat models stop at tokens that only their
//! text gives away; the lists are those that llama.cpp keeps for the same reason.

use gguf::Metadata;

use super::error::TokenizerError;
use super::token_id;
use super::vocab::{Kind, Vocab};

/// Metadata keys of tokens after which nothing follows.
const KEYS: [&str; 6] = [
    "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
];

/// Texts that nothing but an end is written with, whatever kind the file says.
const UNMISTAKABLE: [&str; 17] = [
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "_<EOT>",
];

/// Texts that may also be ordinary ones, `</s>` as HTML for example: an end only where the
/// file says that it is a control token.
const AMBIGUOUS: [&str; 7] = ["</s>", "<eos>", "[EOS]", "[EOT]", "<EOT>", "<turn|>", "[e~["];

/// The marks of the "harmony" formats.
const MESSAGES: [&str; 4] = ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>"];

/// The tokens that end a generation, in order. Files that give one of the unmistakable ones as
/// normal text are corrected: it becomes a control token. So do the marks between messages of a
/// "harmony" format, which else anybody's text could have in it.
pub(super) fn find(metadata: &Metadata, vocab: &mut Vocab) -> Result<Vec<u32>, TokenizerError> {
    let mut ends = Vec::new();
    for key in KEYS {
        ends.extend(token_id(metadata, key, vocab.len())?);
    }
    for text in UNMISTAKABLE {
        let Some(id) = vocab.find(text) else { continue };
        if vocab.kind(id) == Some(Kind::Normal) {
            vocab.set_kind(id, Kind::Control);
        }
        ends.push(id);
    }
    let ambiguous = AMBIGUOUS.iter().filter_map(|text| vocab.find(text));
    ends.extend(ambiguous.filter(|&id| vocab.kind(id) == Some(Kind::Control)));
    // In the "harmony" formats `<|end|>` ends a message inside an answer, not the answer.
    let has = |text: &str| vocab.find(text).is_some();
    if (has("<|return|>") && has("<|call|>")) || (has("<|calls|>") && has("<|flush|>")) {
        let end = vocab.find("<|end|>");
        ends.retain(|&id| Some(id) != end);
        let is_text = |id: &u32| matches!(vocab.kind(*id), Some(Kind::Normal | Kind::UserDefined));
        let marks = MESSAGES.iter().chain(&UNMISTAKABLE).filter_map(|text| vocab.find(text));
        for id in marks.filter(is_text).collect::<Vec<_>>() {
            vocab.set_kind(id, Kind::Control);
        }
    }
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}
