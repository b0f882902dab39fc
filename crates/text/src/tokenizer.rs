//! Text to token ids and back, as the publisher of a model does it, from GGUF metadata alone.
//!
//! Three kinds of tokenizer cover the models that files come with: byte-level BPE, SentencePiece
//! BPE and WordPiece. What they share stands here: the vocabulary, the tokens that are found in
//! a text before anything else, which tokens begin and end a sequence.

mod bpe;
mod byte_level;
mod class;
mod endings;
mod error;
mod fill_in;
mod keyed_hash;
mod pretokenize;
mod special;
mod spm;
mod vocab;
mod wordpiece;

use gguf::Metadata;

use crate::StreamDecoder;
use bpe::Bpe;
use error::quoted;
use special::{Marks, Span};
use spm::Spm;
use vocab::{Kind, SPACE_SIGN, Spelling, Vocab};
use wordpiece::WordPiece;

pub use error::TokenizerError;
pub use fill_in::FillIn;

/// The values of `tokenizer.ggml.model` that are known.
const MODELS: [&str; 3] = ["gpt2", "llama", "bert"];

/// A longer text is cut at a character and encoded in parts. It bounds the memory that merging
/// takes (about 40 bytes for each byte of text) and keeps positions in `u32`; no context holds
/// what is 64 MiB of text without a special token.
const N_SEGMENT_BYTES_MAX: usize = 64 << 20;

/// Whether control tokens written out in a text stand for themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// `<|im_start|>` in the text becomes that control token: for rendered chat templates.
    Parse,
    /// Control tokens cannot be written: for text that comes from outside.
    Plain,
}

/// A model's tokenizer.
pub struct Tokenizer {
    vocab: Vocab,
    algorithm: Algorithm,
    /// What is found in every text: user-defined tokens.
    marks: Marks,
    /// The same and control tokens, for [`Special::Parse`].
    marks_and_control: Marks,
    /// Marks that swallow the white space behind them, in order.
    stripping: Vec<u32>,
    /// In order.
    ends: Vec<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    fill_in: Option<FillIn>,
    adds_bos: bool,
    adds_eos: bool,
}

/// What a token stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TokenText<'a> {
    /// These bytes of a text.
    Own(&'a [u8]),
    /// No text; the model is steered by it, under this name.
    Name(&'a [u8]),
    /// Nothing that a model would write.
    None,
}

/// How text between special tokens is encoded.
enum Algorithm {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(WordPiece),
}

impl Tokenizer {
    /// Builds the tokenizer that a model file describes.
    ///
    /// # Errors
    /// A model or pre-tokenizer that is not known, naming it and those that are; anything in the
    /// metadata that is missing or cannot be.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self, TokenizerError> {
        let model = metadata.require_str("tokenizer.ggml.model")?;
        let spelling = match model {
            "gpt2" => Spelling::ByteLevel,
            "llama" | "bert" => Spelling::SpaceSign,
            other => {
                let (found, known) = (quoted(other), MODELS.join(", "));
                return Err(TokenizerError::UnknownModel { found, known });
            }
        };
        let mut vocab = Vocab::new(metadata, spelling)?;
        let ends = endings::find(metadata, &mut vocab)?;
        let algorithm = match model {
            "gpt2" => Algorithm::Bpe(Bpe::new(metadata, &vocab)?),
            "llama" => Algorithm::Spm(Spm::new(metadata, &vocab)?),
            _ => Algorithm::WordPiece(WordPiece::new(metadata, &vocab)?),
        };
        let id = |key| token_id(metadata, key, vocab.len());
        let mut bos = id("tokenizer.ggml.bos_token_id")?;
        let mut eos = id("tokenizer.ggml.eos_token_id")?;
        if matches!(algorithm, Algorithm::WordPiece(_)) {
            bos = id("tokenizer.ggml.cls_token_id")?.or(bos);
            // The key is misspelled in the format.
            eos = id("tokenizer.ggml.seperator_token_id")?.or(eos);
        }
        let (adds_bos, adds_eos) = match &algorithm {
            Algorithm::Bpe(bpe) => (bpe.pretokenizer.adds_bos, false),
            Algorithm::Spm(_) => (true, false),
            Algorithm::WordPiece(_) => (true, true),
        };
        let adds_bos = metadata.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(adds_bos);
        let adds_eos = metadata.bool("tokenizer.ggml.add_eos_token")?.unwrap_or(adds_eos);
        Ok(Self {
            marks: find_marks(&vocab, &algorithm, Special::Plain)?,
            marks_and_control: find_marks(&vocab, &algorithm, Special::Parse)?,
            stripping: find_stripping(metadata, &vocab, &algorithm)?,
            ends,
            bos,
            eos,
            fill_in: FillIn::of(metadata),
            adds_bos: adds_bos && bos.is_some(),
            adds_eos: adds_eos && eos.is_some(),
            algorithm,
            vocab,
        })
    }

    /// The tokens of `text`, without BOS and EOS.
    ///
    /// User-defined tokens are found in the text in either way: they are ordinary text that
    /// happens to be one token.
    pub fn encode(&self, text: &str, special: Special) -> Vec<u32> {
        // English takes about four bytes a token.
        let mut ids = Vec::with_capacity(text.len() / 3);
        let mut spans = match special {
            Special::Parse => self.marks_and_control.spans(text),
            Special::Plain => self.marks.spans(text),
        };
        let mut is_start = true;
        while let Some(span) = spans.next() {
            match span {
                Span::Mark(id) => {
                    ids.push(id);
                    is_start = true;
                    if self.stripping.binary_search(&id).is_ok() {
                        spans.trim_start();
                    }
                }
                Span::Text(text) => {
                    for segment in Segments(text) {
                        self.encode_segment(segment, is_start, &mut ids);
                        is_start = false;
                    }
                }
            }
        }
        ids
    }

    fn encode_segment(&self, text: &str, is_start: bool, ids: &mut Vec<u32>) {
        match &self.algorithm {
            Algorithm::Bpe(bpe) => bpe.encode(&self.vocab, text, ids),
            Algorithm::Spm(spm) => spm.encode(&self.vocab, text, is_start, ids),
            Algorithm::WordPiece(wordpiece) => wordpiece.encode(&self.vocab, text, ids),
        }
    }

    /// The text of `ids`; bytes that are not UTF-8 become U+FFFD, control tokens nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut text = String::with_capacity(4 * ids.len());
        let mut decoder = StreamDecoder::new();
        for &id in ids {
            decoder.push(self, id, &mut text);
        }
        decoder.finish(&mut text);
        text
    }

    /// How many tokens the vocabulary has.
    pub fn n_vocab(&self) -> usize {
        self.vocab.len()
    }

    /// The token that begins a sequence; `[CLS]` for BERT.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a sequence; `[SEP]` for BERT.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokens between which the model fills in, where it does.
    pub fn fill_in(&self) -> Option<FillIn> {
        self.fill_in
    }

    /// Whether the model expects BOS before its input. Never without one.
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// Whether the model expects EOS after its input. Never without one.
    pub fn adds_eos(&self) -> bool {
        self.adds_eos
    }

    /// Whether generation is over once this token was sampled: EOS, the end of a turn or of a
    /// message, under whatever name the model has them.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Whether the token steers the model and has no text.
    pub fn is_control(&self, id: u32) -> bool {
        self.vocab.kind(id) == Some(Kind::Control)
    }

    /// The token as the vocabulary writes it; empty for ids outside of it.
    pub fn token_text(&self, id: u32) -> &str {
        self.vocab.text(id)
    }

    /// The bytes that the token stands for, of control tokens their name; empty for ids outside
    /// of the vocabulary. A character may be spread over several tokens.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.vocab.bytes(id)
    }

    /// The tokens for which [`Tokenizer::is_end_of_generation`] holds, in order.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Whether a space is put before a text, and taken off again.
    pub(crate) fn adds_space(&self) -> bool {
        match &self.algorithm {
            Algorithm::Bpe(_) => false,
            Algorithm::Spm(spm) => spm.adds_space_prefix,
            Algorithm::WordPiece(_) => true,
        }
    }

    /// What the token is in the middle of a text.
    pub(crate) fn text_of(&self, id: u32) -> TokenText<'_> {
        let bytes = self.vocab.bytes(id);
        match self.vocab.kind(id) {
            Some(Kind::Normal | Kind::Byte) => TokenText::Own(bytes),
            // Behind one of these such a tokenizer takes off a space.
            Some(Kind::UserDefined) if self.adds_space() => TokenText::Name(bytes),
            Some(Kind::UserDefined) if !self.vocab.is_filler(id) => TokenText::Own(bytes),
            Some(Kind::Control) => TokenText::Name(bytes),
            Some(Kind::UserDefined | Kind::Unknown | Kind::Unused) | None => TokenText::None,
        }
    }

    /// The bytes that the token adds to a text, and whether the text behind it starts anew.
    /// At such a start one space is the tokenizer's, not the text's.
    pub(crate) fn piece(&self, id: u32, is_start: bool) -> (&[u8], bool) {
        let bytes = self.vocab.bytes(id);
        let adds_space = self.adds_space();
        match self.vocab.kind(id) {
            Some(Kind::UserDefined) => (bytes, true),
            Some(Kind::Control | Kind::Unknown) => (&[], true),
            Some(Kind::Normal) if is_start && adds_space => {
                (bytes.strip_prefix(b" ").unwrap_or(bytes), false)
            }
            Some(Kind::Normal | Kind::Unused | Kind::Byte) => (bytes, false),
            None => (&[], is_start),
        }
    }
}

/// Reads the id of a token and checks it; `None` where the file names none.
fn token_id(
    metadata: &Metadata,
    key: &'static str,
    n_vocab: usize,
) -> Result<Option<u32>, TokenizerError> {
    match metadata.u32(key)? {
        Some(found) if found as usize >= n_vocab => {
            Err(TokenizerError::TokenId { key, found, n_vocab })
        }
        id => Ok(id),
    }
}

/// The tokens that are found in a text before it is encoded.
fn find_marks(
    vocab: &Vocab,
    algorithm: &Algorithm,
    special: Special,
) -> Result<Marks, TokenizerError> {
    let is_mark = |&id: &u32| match vocab.kind(id) {
        Some(Kind::UserDefined) => !vocab.is_filler(id),
        Some(Kind::Control | Kind::Unknown) => special == Special::Parse && !vocab.is_filler(id),
        _ => false,
    };
    let written = |id: u32| match algorithm {
        // SentencePiece looks for them in the text with its spaces escaped.
        Algorithm::Spm(_) if vocab.kind(id) == Some(Kind::UserDefined) => {
            vocab.text(id).replace(SPACE_SIGN, " ")
        }
        _ => vocab.text(id).to_owned(),
    };
    Marks::new(vocab.ids().filter(is_mark).map(|id| (written(id), id)))
}

/// The marks behind which Phi-3's tokenizer drops white space. GGUF has no field for it, so as
/// in llama.cpp the model's name tells.
fn find_stripping(
    metadata: &Metadata,
    vocab: &Vocab,
    algorithm: &Algorithm,
) -> Result<Vec<u32>, TokenizerError> {
    let name = metadata.str("general.name")?.unwrap_or("").to_lowercase();
    let is_phi3 = metadata.str("general.architecture")? == Some("phi3")
        || name.contains("phi-3")
        || name.contains("phi3");
    if !is_phi3 || !matches!(algorithm, Algorithm::Spm(_)) {
        return Ok(Vec::new());
    }
    let strips = |&id: &u32| {
        matches!(vocab.kind(id), Some(Kind::Control | Kind::UserDefined))
            && !["<unk>", "<s>", "<|endoftext|>"].contains(&vocab.text(id))
    };
    Ok(vocab.ids().filter(strips).collect())
}

/// A text in parts of bounded size, cut between characters.
struct Segments<'a>(&'a str);

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (segment, rest) = self.0.split_at(self.0.floor_char_boundary(N_SEGMENT_BYTES_MAX));
        self.0 = rest;
        (!segment.is_empty()).then_some(segment)
    }
}

#[cfg(test)]
mod tests;
