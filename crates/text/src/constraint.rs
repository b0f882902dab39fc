//! What an answer may look like: a grammar compiled against a vocabulary, and for each token of an
//! answer the set of tokens that may come next.
//!
//! The parser is llguidance's (an Earley parser over derivatives of regular expressions, walked
//! against a trie of the vocabulary). What stands here: which grammars there are, that nothing in
//! a JSON schema is passed over ([`schema`]), the vocabulary ([`vocabulary`]), bounds, and a cache
//! of what was compiled. Knows neither logits nor requests.

mod gbnf;
mod quoted;
mod schema;
mod vocabulary;

use crate::Tokenizer;
use crate::tools::{self, CallGrammar};
use llguidance::api::{GrammarInit, GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{InferenceCapabilities, SimpleVob, TokEnv};
use llguidance::{JsonCompileOptions, Logger, ParserFactory};
use serde_json::{Value, json};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use vocabulary::Vocabulary;

pub(crate) use quoted::quote;
pub use schema::LeftOut;
pub(crate) use schema::{is_annotation, keyword_error, normalise, relax};

/// Longest grammar in bytes of its text (of a schema: as JSON). Real schemas of whole APIs stay
/// below 200 KiB.
const GRAMMAR_BYTES_MAX: usize = 1 << 20;

/// Longest grammar in Lark's notation in bytes, and most rules of it: the parser recurses along
/// rules.
const LARK_BYTES_MAX: usize = 64 << 10;
const LARK_RULES_MAX: usize = 1000;

/// Most alternatives of a choice.
const CHOICES_MAX: usize = 1024;

/// Compiled grammars that are kept. A service mostly has a handful, each sent with every request.
const COMPILED_MAX: usize = 32;

/// States that one answer's lexer may have: 1 to 2 kB each, so some 12 MB of one hostile grammar.
/// Real schemas stay below a thousand.
const LEXER_STATES_MAX: usize = 8000;

/// Stack of the thread that compiles, which recurses as deep as a schema's references.
const COMPILE_STACK_BYTES: usize = 64 << 20;

/// Longest message of the parser that is passed on, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

/// White space between the parts of a JSON text: none, one space, or a line break and indentation.
/// With more, small models write nothing else (llama.cpp's rule, `json-schema-to-grammar`).
pub(crate) const JSON_SPACE: &str = r" |\n{1,2}[ \t]{0,20}";

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub enum Grammar {
    /// A JSON text that this schema (draft 2020-12, or as its `$schema` says) allows. Properties
    /// come in the order in which the schema names them.
    JsonSchema(Value),
    /// Any JSON object.
    JsonObject,
    /// A text that this regular expression (Rust's syntax, without assertions) matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A text of this context-free grammar, in llguidance's variant of Lark's notation.
    Lark(String),
    /// A text of this grammar in llama.cpp's notation (GBNF).
    Gbnf(String),
    /// A text with calls of tools.
    Calls(Box<CallGrammar>),
}

/// Why a grammar cannot be used, or why an answer under it could not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConstraintError {
    /// The schema uses a keyword that cannot be enforced.
    #[error("{path}: keyword {keyword:?}: {why}")]
    Keyword {
        /// JSON pointer to the part of the schema, like `#/properties/a`.
        path: String,
        /// The keyword.
        keyword: String,
        /// What is wrong with it.
        why: String,
    },
    /// The schema of a tool's arguments cannot be used.
    #[error("tool {name}: {error}")]
    Tool {
        /// The tool.
        name: String,
        /// What is wrong with its schema.
        error: Box<ConstraintError>,
    },
    /// The grammar is malformed, or beyond what is supported.
    #[error("{0}")]
    Grammar(String),
    /// The grammar or its parts are larger than accepted.
    #[error("{what}: {found}, expected at most {max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The vocabulary cannot be walked.
    #[error("this model's vocabulary cannot be used under a constraint: {0}")]
    Vocabulary(String),
    /// An answer went beyond the bounds of a step.
    #[error("the constraint cannot be followed any further: {0}")]
    Step(String),
    /// The system gave no thread.
    #[error("no thread to compile the constraint on: {0}")]
    Thread(#[source] std::io::Error),
}

/// Compiles grammars for one model's vocabulary.
pub struct Constraints {
    factory: ParserFactory,
    /// Most recently used first: the grammar's text and what it became.
    compiled: Mutex<Vec<(String, Constraint)>>,
}

impl Grammar {
    /// A grammar in Lark's notation or llama.cpp's, told by the sign for a definition, which is
    /// `::=` in the latter alone.
    pub fn of_rules(source: String) -> Self {
        if gbnf::is_gbnf(&source) { Self::Gbnf(source) } else { Self::Lark(source) }
    }
}

impl Constraints {
    /// For this vocabulary: builds its trie, some milliseconds per 10,000 tokens.
    ///
    /// # Errors
    /// [`ConstraintError::Vocabulary`] for one that no real model has.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, ConstraintError> {
        let build = || -> Result<ParserFactory, String> {
            let env: TokEnv = Arc::new(Vocabulary::new(tokenizer)?);
            let slices = SlicedBiasComputer::general_slices();
            let capabilities = InferenceCapabilities::default();
            let mut factory =
                ParserFactory::new(&env, capabilities, &slices).map_err(|e| e.to_string())?;
            *factory.limits_mut() = ParserLimits {
                max_lexer_states: LEXER_STATES_MAX,
                verbose_errors: false,
                ..ParserLimits::default()
            };
            factory.quiet();
            Ok(factory)
        };
        let built = catch_unwind(AssertUnwindSafe(build));
        let factory = built.unwrap_or_else(|_| Err("its trie cannot be built".to_owned()));
        let factory = factory.map_err(ConstraintError::Vocabulary)?;
        Ok(Self { factory, compiled: Mutex::default() })
    }

    /// Compiles `grammar`, or finds what it became before. Takes milliseconds: not for the thread
    /// that generates.
    ///
    /// # Errors
    /// A grammar that is malformed, too large, or asks for what cannot be enforced.
    pub fn compile(&self, grammar: &Grammar) -> Result<Constraint, ConstraintError> {
        let key = format!("{grammar:?}");
        if key.len() > GRAMMAR_BYTES_MAX {
            let (what, found) = ("bytes of the grammar", key.len());
            return Err(ConstraintError::TooLarge { what, found, max: GRAMMAR_BYTES_MAX });
        }
        if let Some(constraint) = self.find(&key) {
            return Ok(constraint);
        }
        let prototype = on_own_stack(|| {
            self.check_spelled(grammar)?;
            self.check_texts(grammar)?;
            let mut matcher = self.parse(lower(grammar)?);
            // The first set is the same for all answers, and the most expensive.
            let _ = matcher.compute_mask_or_eos();
            Ok(matcher)
        })??;
        if let Some(error) = prototype.get_error() {
            return Err(ConstraintError::Grammar(message(&error)));
        }
        let ends = self.factory.tok_env().tok_trie().eos_tokens().to_vec();
        let constraint = Constraint(Arc::new(Compiled { prototype: Mutex::new(prototype), ends }));
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.insert(0, (key, constraint.clone()));
        compiled.truncate(COMPILED_MAX);
        Ok(constraint)
    }

    /// Refuses a choice of what no tokens make up: some vocabularies lack bytes, and an answer that
    /// has begun such a text could not go on.
    fn check_spelled(&self, grammar: &Grammar) -> Result<(), ConstraintError> {
        let Grammar::Choice(choices) = grammar else { return Ok(()) };
        let env = self.factory.tok_env();
        let is_spelled = |text: &String| {
            let ids = env.tokenize_bytes(text.as_bytes());
            env.tok_trie().decode_raw(&ids) == text.as_bytes()
        };
        match choices.iter().position(|text| !is_spelled(text)) {
            None => Ok(()),
            Some(idx) => {
                let problem = format!("alternative {idx} has bytes that this model cannot write");
                Err(ConstraintError::Grammar(problem))
            }
        }
    }

    /// Refuses a grammar of a tool's texts that is none by itself: what the parser says of what
    /// becomes of it inside a string would show that.
    fn check_texts(&self, grammar: &Grammar) -> Result<(), ConstraintError> {
        let Grammar::Calls(calls) = grammar else { return Ok(()) };
        for tool in &calls.tools {
            let Some(texts) = &tool.texts else { continue };
            let checked = lower(&Grammar::Lark(texts.clone())).and_then(|lowered| {
                let error = self.parse(lowered).get_error();
                error.map_or(Ok(()), |error| Err(ConstraintError::Grammar(message(&error))))
            });
            checked.map_err(|error| ConstraintError::Tool {
                name: tool.name.clone(),
                error: Box::new(error),
            })?;
        }
        Ok(())
    }

    fn parse(&self, grammar: TopLevelGrammar) -> llguidance::Matcher {
        let limits = self.factory.limits().clone();
        let (init, caps) = (GrammarInit::Serialized(grammar), InferenceCapabilities::default());
        let logger = Logger::new(0, 0);
        let parser = self.factory.create_parser_from_init_ext(init, logger, caps, limits);
        llguidance::Matcher::new(parser)
    }

    fn find(&self, key: &str) -> Option<Constraint> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let idx = compiled.iter().position(|(other, _)| other == key)?;
        compiled[..=idx].rotate_right(1);
        Some(compiled[0].1.clone())
    }
}

impl fmt::Debug for Constraints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraints").finish_non_exhaustive()
    }
}

/// A compiled grammar. Cheap to clone; equal are clones of one.
#[derive(Clone)]
pub struct Constraint(Arc<Compiled>);

struct Compiled {
    /// At the beginning of an answer, and never moved from there.
    prototype: Mutex<llguidance::Matcher>,
    ends: Vec<u32>,
}

impl Constraint {
    /// What follows an answer from its beginning.
    ///
    /// It shares nothing with others: what one answer's lexer has seen must not decide whether
    /// another's stays within its bounds.
    pub fn matcher(&self) -> Matcher {
        let prototype = self.0.prototype.lock().unwrap_or_else(PoisonError::into_inner);
        Matcher { inner: prototype.deep_clone() }
    }

    /// The tokens that end an answer.
    pub fn ends(&self) -> &[u32] {
        &self.0.ends
    }
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

/// Follows one answer under a constraint.
pub struct Matcher {
    inner: llguidance::Matcher,
}

impl Matcher {
    /// The tokens that may come next. Tokens that end the answer are among them exactly where it
    /// may end. Where the grammar leaves only one text to go on, it is the token that the
    /// tokenizer writes it with.
    ///
    /// # Errors
    /// [`ConstraintError::Step`] where the grammar is more ambiguous than the bounds allow.
    pub fn mask(&mut self) -> Result<Mask, ConstraintError> {
        self.inner.compute_mask_or_eos().map(Mask).map_err(|e| step(&e))
    }

    /// Moves on by a token of the mask.
    ///
    /// # Errors
    /// A token that is not allowed here, or bounds as for [`Matcher::mask`].
    pub fn accept(&mut self, id: u32) -> Result<(), ConstraintError> {
        self.inner.consume_token(id).map_err(|e| step(&e))
    }

    /// The tokens that must come next, one after the other, as far as that is told without walking
    /// the vocabulary: of each the set that [`Matcher::mask`] gives is that token alone.
    pub fn forced(&mut self) -> Vec<u32> {
        if self.inner.is_stopped() { Vec::new() } else { self.inner.compute_ff_tokens() }
    }

    /// Whether the answer may end here.
    pub fn may_end(&mut self) -> bool {
        self.is_complete() || self.inner.is_accepting().unwrap_or(false)
    }

    /// Whether the answer is complete and nothing may follow.
    pub fn is_complete(&self) -> bool {
        self.inner.is_stopped() && self.inner.stop_reason().is_ok()
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Matcher").finish_non_exhaustive()
    }
}

/// A set of tokens.
#[derive(Debug, Clone)]
pub struct Mask(SimpleVob);

impl Mask {
    /// Whether the token is in the set.
    pub fn allows(&self, id: u32) -> bool {
        (id as usize) < self.0.len() && self.0.is_allowed(id)
    }

    /// The only token of a set that has one.
    pub fn single(&self) -> Option<u32> {
        let mut ids = self.ids();
        ids.next().filter(|_| ids.next().is_none())
    }

    /// The tokens of the set, in order of id.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(self.words()).filter(|(_, word)| **word != 0).flat_map(|(word_idx, &word)| {
            let bits = (0..u32::BITS).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| word_idx * u32::BITS + bit)
        })
    }

    /// The set as bits: token `id` is bit `id % 32` of word `id / 32`.
    pub fn words(&self) -> &[u32] {
        self.0.as_slice()
    }

    /// The set without the tokens from `n` on.
    #[must_use]
    pub fn below(mut self, n: usize) -> Self {
        for id in n..self.0.len() {
            self.0.disallow_token(id as u32);
        }
        self
    }

    /// Adds a token.
    pub fn allow(&mut self, id: u32) {
        if (id as usize) < self.0.len() {
            self.0.allow_token(id);
        }
    }
}

/// The grammar in the parser's terms.
fn lower(grammar: &Grammar) -> Result<TopLevelGrammar, ConstraintError> {
    match grammar {
        Grammar::Calls(calls) => tools::lower(calls),
        plain => lower_plain(plain).map(TopLevelGrammar::from_grammar),
    }
}

/// As [`lower`], of a grammar that has no others beside it.
pub(crate) fn lower_plain(grammar: &Grammar) -> Result<GrammarWithLexer, ConstraintError> {
    Ok(match grammar {
        Grammar::JsonSchema(schema) => json_grammar(normalise(schema)?),
        Grammar::JsonObject => json_grammar(json!({"type": "object"})),
        Grammar::Regex(regex) => GrammarWithLexer::from_regex(regex),
        Grammar::Lark(lark) => {
            check_lark(lark)?;
            GrammarWithLexer::from_lark(lark.clone())
        }
        Grammar::Gbnf(source) => GrammarWithLexer::from_lark(gbnf::translate(source)?),
        Grammar::Choice(choices) => GrammarWithLexer::from_lark(choice(choices)?),
        Grammar::Calls(_) => {
            let problem = "calls of tools within another grammar are not supported";
            return Err(ConstraintError::Grammar(problem.to_owned()));
        }
    })
}

/// Refuses what the parser would recurse into without bound, and schemas that nobody looked at.
fn check_lark(lark: &str) -> Result<(), ConstraintError> {
    // Each rule has a colon; there may be others.
    let sizes = [
        ("bytes of the grammar", lark.len(), LARK_BYTES_MAX),
        ("rules of the grammar (colons)", lark.matches(':').count(), LARK_RULES_MAX),
    ];
    for (what, found, max) in sizes {
        if found > max {
            return Err(ConstraintError::TooLarge { what, found, max });
        }
    }
    if lark.contains("%json") {
        let problem = "%json in a grammar is not supported, use a JSON schema as the constraint";
        return Err(ConstraintError::Grammar(problem.to_owned()));
    }
    Ok(())
}

pub(crate) fn json_grammar(schema: Value) -> GrammarWithLexer {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        // Nothing satisfies it, and the parser says so.
        Value::Bool(false) => json!({"allOf": [false]}),
        other => other,
    };
    let options = JsonCompileOptions {
        whitespace_flexible: true,
        whitespace_pattern: Some(JSON_SPACE.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    GrammarWithLexer::from_json_schema(schema)
}

/// A choice in Lark's notation; its strings are JSON's, without a control character that JSON
/// allows.
fn choice(choices: &[String]) -> Result<String, ConstraintError> {
    if choices.is_empty() {
        return Err(ConstraintError::Grammar("a choice of nothing, expected texts".to_owned()));
    }
    if choices.len() > CHOICES_MAX {
        let (what, found) = ("alternatives of the choice", choices.len());
        return Err(ConstraintError::TooLarge { what, found, max: CHOICES_MAX });
    }
    if choices.iter().any(String::is_empty) {
        let problem = "an alternative is empty, expected at least one character";
        return Err(ConstraintError::Grammar(problem.to_owned()));
    }
    let quoted = |choice: &String| Value::from(choice.as_str()).to_string();
    let quoted: Vec<String> =
        choices.iter().map(|choice| quoted(choice).replace('\u{7f}', "\\u007f")).collect();
    Ok(format!("start: {}", quoted.join(" | ")))
}

/// Runs `work` on a thread of its own, whose stack is deep.
fn on_own_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ConstraintError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("constraint".to_owned())
            .stack_size(COMPILE_STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(ConstraintError::Thread)?;
        thread
            .join()
            .map_err(|_| ConstraintError::Grammar("the grammar's parser failed on it".to_owned()))
    })
}

fn step(error: &impl fmt::Display) -> ConstraintError {
    ConstraintError::Step(message(&error.to_string()))
}

/// The parser's message without its state, cut.
fn message(error: &str) -> String {
    let end = error.find("\n<").unwrap_or(error.len());
    let text = error[..end].trim();
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
