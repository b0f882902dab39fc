//! llama-server's routes around a model's tokens: `POST /tokenize` and `POST /detokenize`.
//! `/apply-template`, which reads what chat completions read, is beside those.
//!
//! Texts and tokens are as the model has them: what `/tokenize` gives is what a completion of the
//! same text computes, but for the BOS that a completion puts in front.

use super::Paths;
use super::fields::{Field, Fields, Unknown, as_integer, missing, wrong};
use crate::errors::BadRequest;
use serde::Serialize;
use serde_json::Value;
use text::{Special, Tokenizer};

/// Most tokens that are taken: beyond any context, and few enough that their texts are no burden.
const N_TOKENS: usize = 1 << 18;

/// What a route of tokens does: reads a body, then answers with the model's tokenizer at hand.
pub(crate) trait TokenDialect: Send + Sized + 'static {
    /// Reads a body; `unknown` is what becomes of fields that the route does not know.
    fn parse(body: &[u8], unknown: Unknown) -> Result<Self, BadRequest>;
    /// The model's name; `None`: the server's first that writes text.
    fn model(&self) -> Option<&str>;
    /// Takes the paths of fields that have no effect.
    fn take_ignored(&mut self) -> Paths;
    /// The whole answer in one body.
    fn body(&self, tokenizer: &Tokenizer) -> Result<String, BadRequest>;
}

/// What becomes of the fields of `/tokenize`.
pub(crate) const TOKENIZE: &[Field] = &[
    Field::honoured("content").text().good(r#""Hi <|im_end|>""#),
    Field::honoured("model").text().note("without it: the first model that writes text"),
    Field::honoured("add_special").flag().note("BOS in front and EOS behind, where the model has"),
    Field::honoured("parse_special").flag().note("control tokens in the text count as such; true"),
    Field::honoured("with_pieces").flag().note("texts beside the ids"),
];

/// What becomes of the fields of `/detokenize`.
pub(crate) const DETOKENIZE: &[Field] = &[
    Field::honoured("tokens").shape(TOKENS).good("[17,18]"),
    Field::honoured("model").text().note("without it: the first model that writes text"),
];

const TOKENS: &str = r#"{"type":"array","items":{"type":"integer","minimum":0}}"#;

/// `POST /tokenize`.
#[derive(Debug, PartialEq)]
pub(crate) struct Tokenize {
    content: String,
    model: Option<String>,
    adds_special: bool,
    parses_special: bool,
    with_pieces: bool,
    ignored: Paths,
}

/// `POST /detokenize`.
#[derive(Debug, PartialEq)]
pub(crate) struct Detokenize {
    tokens: Vec<u32>,
    model: Option<String>,
    ignored: Paths,
}

impl TokenDialect for Tokenize {
    fn parse(body: &[u8], unknown: Unknown) -> Result<Self, BadRequest> {
        let mut fields = Fields::parse(body)?;
        let mut ignored: Paths = fields.treat(TOKENIZE)?.into_iter().collect();
        let content = fields.text("content")?.ok_or_else(|| missing("content", "a string"))?;
        let model = fields.text("model")?;
        let adds_special = fields.flag("add_special")?.unwrap_or(false);
        let parses_special = fields.flag("parse_special")?.unwrap_or(true);
        let with_pieces = fields.flag("with_pieces")?.unwrap_or(false);
        ignored.append(fields.finish(unknown)?);
        Ok(Self { content, model, adds_special, parses_special, with_pieces, ignored })
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn take_ignored(&mut self) -> Paths {
        std::mem::take(&mut self.ignored)
    }

    fn body(&self, tokenizer: &Tokenizer) -> Result<String, BadRequest> {
        let special = if self.parses_special { Special::Parse } else { Special::Plain };
        let mut ids = tokenizer.encode(&self.content, special);
        if ids.len() > N_TOKENS {
            let problem = format!("{} tokens: expected at most {N_TOKENS}", ids.len());
            return Err(BadRequest::field("content", &problem));
        }
        if self.adds_special {
            let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
            ids.splice(0..0, bos);
            ids.extend(tokenizer.eos().filter(|_| tokenizer.adds_eos()));
        }
        let piece = |id: u32| {
            let piece = match std::str::from_utf8(tokenizer.token_bytes(id)) {
                Ok(text) => Piece::Text(text),
                Err(_) => Piece::Bytes(tokenizer.token_bytes(id)),
            };
            Token::Piece { id, piece }
        };
        let token = |id| if self.with_pieces { piece(id) } else { Token::Id(id) };
        Ok(to_json(&Tokens { tokens: ids.into_iter().map(token).collect() }))
    }
}

impl TokenDialect for Detokenize {
    fn parse(body: &[u8], unknown: Unknown) -> Result<Self, BadRequest> {
        let mut fields = Fields::parse(body)?;
        let mut ignored: Paths = fields.treat(DETOKENIZE)?.into_iter().collect();
        let model = fields.text("model")?;
        let list = fields.list("tokens")?;
        let list = list.ok_or_else(|| missing("tokens", "an array of token ids"))?;
        if list.len() > N_TOKENS {
            let problem = format!("{} tokens: expected at most {N_TOKENS}", list.len());
            return Err(BadRequest::field("tokens", &problem));
        }
        let id = |(idx, value): (usize, Value)| {
            let id = as_integer(&value).and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| wrong(&format!("tokens[{idx}]"), &value, "a token id"))
        };
        let tokens = list.into_iter().enumerate().map(id).collect::<Result<_, _>>()?;
        ignored.append(fields.finish(unknown)?);
        Ok(Self { tokens, model, ignored })
    }

    fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    fn take_ignored(&mut self) -> Paths {
        std::mem::take(&mut self.ignored)
    }

    fn body(&self, tokenizer: &Tokenizer) -> Result<String, BadRequest> {
        let n_vocab = tokenizer.n_vocab();
        let mut bytes = Vec::with_capacity(4 * self.tokens.len());
        for (idx, &id) in self.tokens.iter().enumerate() {
            if id as usize >= n_vocab {
                let path = format!("tokens[{idx}]");
                return Err(wrong(&path, &id.into(), &format!("a token id below {n_vocab}")));
            }
            bytes.extend_from_slice(tokenizer.token_bytes(id));
        }
        // What is no text, as where a character is cut, becomes the sign for that.
        Ok(to_json(&Content { content: &String::from_utf8_lossy(&bytes) }))
    }
}

#[derive(Serialize)]
struct Tokens<'a> {
    tokens: Vec<Token<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Token<'a> {
    Id(u32),
    Piece { id: u32, piece: Piece<'a> },
}

/// Not every token's bytes are whole characters.
#[derive(Serialize)]
#[serde(untagged)]
enum Piece<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

#[derive(Serialize)]
struct Content<'a> {
    content: &'a str,
}

fn to_json(body: &impl Serialize) -> String {
    serde_json::to_string(body).expect("wire types have string keys and no numbers but integers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_bodies_are_refused_at_their_place() {
        fn check<D: TokenDialect + std::fmt::Debug>(body: &str, param: &str) {
            let bad = D::parse(body.as_bytes(), Unknown::Refused).unwrap_err();
            assert_eq!(bad.param.as_deref(), Some(param), "{body}: {bad}");
        }
        check::<Tokenize>("{}", "content");
        check::<Tokenize>(r#"{"content":["a"]}"#, "content");
        check::<Tokenize>(r#"{"content":"a","add_special":1}"#, "add_special");
        check::<Detokenize>("{}", "tokens");
        check::<Detokenize>(r#"{"tokens":[1,-1]}"#, "tokens[1]");
        check::<Detokenize>(r#"{"tokens":[4294967296]}"#, "tokens[0]");
        let many = vec!["1"; N_TOKENS + 1].join(",");
        check::<Detokenize>(&format!(r#"{{"tokens":[{many}]}}"#), "tokens");
    }

    proptest::proptest! {
        #[test]
        fn no_body_makes_the_reader_panic(body in r#"\PC{0,40}|[\[\]{}:,"a-z0-9 ]{0,60}"#) {
            let _ = Tokenize::parse(body.as_bytes(), Unknown::Refused);
            let tokens = format!(r#"{{"tokens":{body}}}"#);
            let _ = Detokenize::parse(tokens.as_bytes(), Unknown::Ignored);
        }
    }
}
