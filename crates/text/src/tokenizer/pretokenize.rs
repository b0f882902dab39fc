//! Cutting a text into words before byte-level BPE, as `tokenizer.ggml.pre` names it.
//!
//! Publishers write these rules as regular expressions. There are few of them, and written by
//! hand they need no engine and run in linear time on any text. The names are those that
//! llama.cpp's converter writes into files; a name that is not here is an error, since a model
//! would answer, only worse, with words cut by another rule.

mod deepseek;
mod rules;

use gguf::Metadata;

use super::error::{TokenizerError, quoted};

/// How texts of a family of models are cut, and what else their name says.
pub(super) struct Pretokenizer {
    names: &'static [&'static str],
    stages: &'static [Stage],
    /// Whether a word that is a token is that token, whatever the merges say.
    pub(super) takes_whole_words: bool,
    /// Whether BOS is added where the file does not say.
    pub(super) adds_bos: bool,
    /// Whether texts are composed (Unicode NFC) first.
    pub(super) composes: bool,
}

/// One cut through all pieces that the stage before left.
enum Stage {
    /// The length of the match at the start of the text, 0 for none. Matches become pieces of
    /// their own, and so does what lies between them.
    Match(fn(&str) -> usize),
    /// White space up to the end of the piece. Not a `Match`, which would look through a long
    /// run of spaces once for each of them.
    TrailingSpace,
}

impl Pretokenizer {
    /// Only the rule.
    const fn new(names: &'static [&'static str], stages: &'static [Stage]) -> Self {
        Self { names, stages, takes_whole_words: false, adds_bos: false, composes: false }
    }
}

use Stage::{Match, TrailingSpace};

static ALL: [Pretokenizer; 15] = [
    Pretokenizer::new(
        &[
            "gpt-2",
            "phi-2",
            "exaone4",
            "gigachat",
            "granite-docling",
            "mellum",
            "modern-bert",
            "trillion",
            "a.x-4.0",
            "jais",
        ],
        &[Match(rules::gpt2)],
    ),
    Pretokenizer { composes: true, ..Pretokenizer::new(&["mpt", "olmo"], &[Match(rules::gpt2)]) },
    Pretokenizer::new(
        &["smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[Match(rules::digit), Match(rules::gpt2)],
    ),
    Pretokenizer {
        composes: true,
        ..Pretokenizer::new(&["command-r"], &[Match(rules::digit), Match(rules::gpt2)])
    },
    Pretokenizer {
        takes_whole_words: true,
        adds_bos: true,
        ..Pretokenizer::new(
            &[
                "llama-bpe",
                "llama3",
                "llama-v3",
                "falcon3",
                "falcon-h1",
                "pixtral",
                "midm-2.0",
                "lfm2",
            ],
            &[Match(rules::llama3)],
        )
    },
    Pretokenizer::new(&["dbrx", "smaug-bpe", "glm4", "chatglm-bpe"], &[Match(rules::llama3)]),
    Pretokenizer {
        composes: true,
        ..Pretokenizer::new(&["qwen2", "megrez"], &[Match(rules::qwen2)])
    },
    Pretokenizer::new(
        &["deepseek-r1-qwen", "stablelm2", "kormo", "hunyuan", "solar-open", "grok-2"],
        &[Match(rules::qwen2)],
    ),
    Pretokenizer { composes: true, ..Pretokenizer::new(&["qwen35"], &[Match(rules::qwen35)]) },
    Pretokenizer::new(&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[Match(rules::o200k)]),
    Pretokenizer {
        takes_whole_words: true,
        adds_bos: true,
        ..Pretokenizer::new(&["tekken"], &[Match(rules::tekken)])
    },
    Pretokenizer::new(
        &["deepseek-llm"],
        &[
            Match(rules::newline),
            Match(deepseek::alphabetic),
            Match(deepseek::punctuation),
            TrailingSpace,
            Match(deepseek::ideographs),
            Match(rules::digit),
        ],
    ),
    Pretokenizer::new(
        &["deepseek-coder"],
        &[
            Match(rules::newline),
            Match(deepseek::coder_letters),
            Match(deepseek::coder_punctuation),
            Match(deepseek::ideographs),
            Match(rules::digit),
        ],
    ),
    Pretokenizer::new(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm"],
        &[Match(rules::three_digits), Match(deepseek::kana), Match(deepseek::v3)],
    ),
    Pretokenizer::new(
        &["default"],
        &[
            Match(rules::punctuation),
            Match(rules::gpt2),
            Match(rules::number),
            Match(rules::ascii_three_digits),
        ],
    ),
];

/// The pre-tokenizer that a file names.
pub(super) fn find(metadata: &Metadata) -> Result<&'static Pretokenizer, TokenizerError> {
    let name = metadata.str("tokenizer.ggml.pre")?;
    let known = || ALL.iter().flat_map(|pretokenizer| pretokenizer.names).copied();
    let found = name.and_then(by_name);
    found.ok_or_else(|| TokenizerError::UnknownPre {
        found: name.map_or("missing".into(), quoted),
        known: known().collect::<Vec<_>>().join(", "),
    })
}

fn by_name(name: &str) -> Option<&'static Pretokenizer> {
    ALL.iter().find(|pretokenizer| pretokenizer.names.contains(&name))
}

impl Pretokenizer {
    /// Calls `emit` with each word of `text`, in order; together they are `text`.
    pub(super) fn split(&self, text: &str, emit: &mut dyn FnMut(&str)) {
        split(self.stages, text, emit);
    }
}

fn split(stages: &[Stage], text: &str, emit: &mut dyn FnMut(&str)) {
    let Some((stage, later)) = stages.split_first() else {
        if !text.is_empty() {
            emit(text);
        }
        return;
    };
    let match_at = match stage {
        Match(match_at) => match_at,
        TrailingSpace => {
            let (body, space) = text.split_at(text.trim_end().len());
            split(later, body, emit);
            return split(later, space, emit);
        }
    };
    let (mut gap_start, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        let len = match_at(&text[at..]);
        if len == 0 {
            at += c.len_utf8();
            continue;
        }
        split(later, &text[gap_start..at], emit);
        split(later, &text[at..at + len], emit);
        at += len;
        gap_start = at;
    }
    split(later, &text[gap_start..], emit);
}

#[cfg(test)]
mod tests;
