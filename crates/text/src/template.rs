//! Chat templates: the model's own Jinja source, rendered the way `transformers` renders it.
//!
//! A model file carries the text of its template, so the source is as hostile as the file. It may
//! compute whatever it likes, within [`STEPS_MAX`] and [`OUTPUT_BYTES_MAX`]; beyond them the
//! rendering ends with an error and the process goes on. Jinja itself is `minijinja`; what this
//! module adds is the dialect of `transformers`: its `tojson`, `raise_exception`, `strftime_now`,
//! `{% generation %}` blocks, generators that are not lists, and the missing Python methods.
//!
//! It knows no model, no tokenizer and no clock: the time comes in with [`ChatInput`].
//!
//! Source of the dialect: `transformers.utils.chat_template_utils`, and Jinja2's
//! `ImmutableSandboxedEnvironment` that it builds on.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::io;

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

mod case;
mod filters;
mod json;
mod methods;
mod rewrite;
mod variables;

pub use case::render_case;

/// Longest accepted template source. Published templates reach about 20 kB.
const SOURCE_BYTES_MAX: usize = 1 << 20;

/// Steps any rendering may take: a step is an instruction or 64 bytes produced.
///
/// This bounds time (well under a second) and memory (64 MiB) of the worst template.
const STEPS_BASE_MAX: u64 = 1_000_000;

/// Further steps granted for each byte of the messages, tools and extra variables, so that a long
/// conversation, which is bounded where it enters, is not refused for its length.
const STEPS_PER_INPUT_BYTE: u64 = 4;

/// Steps that no conversation gets beyond.
const STEPS_MAX: u64 = 4_000_000;

/// Stack of the rendering thread, for each step it may take. A step can nest a list one deeper, and
/// printing, comparing or dropping a nested value recurses: measured, up to 640 bytes a level, with
/// at least 1.5 steps paid for it. This is address space; only pages that are touched are used.
const STACK_BYTES_PER_STEP: u64 = 512;

/// Steps of a rendering that is tried on the caller's thread first: a thread of its own takes
/// longer than most renderings. At [`STACK_BYTES_PER_STEP`] it needs 512 KiB, which any thread has
/// left.
const STEPS_HERE_MAX: u64 = 1024;

/// Longest messages, tools and variables together for which that is tried, in bytes: what is long
/// would mostly be rendered twice.
const INPUT_BYTES_HERE_MAX: usize = 8 << 10;

/// Stack of the thread that compiles: the parser and compiler bound their depth at a few hundred.
const COMPILE_STACK_BYTES: u64 = 64 << 20;

/// Longest accepted rendering: several times the longest context that any open model has.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// Variables that the caller of [`ChatTemplate::render`] sets itself.
const RESERVED: [&str; 4] = ["messages", "tools", "add_generation_prompt", "strftime_now"];

/// Stands behind a message that an answer is to continue, while that is rendered: what comes after
/// it is the template's end of the turn. No `tojson` changes it.
const OPEN_END: &str = "[the answer goes on here]";

/// What a limit on them is called.
const STEPS: &str = "steps";

/// The name under which the one template stands; it shows in no message.
const NAME: &str = "chat";

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    source: String,
    environment: Environment<'static>,
    /// What the source may look up that it does not set itself.
    variables: HashSet<String>,
}

/// What one rendering is given, besides the template.
#[derive(Debug, Clone, Copy)]
pub struct ChatInput<'a> {
    /// The conversation: an array of messages as the OpenAI API writes them.
    pub messages: &'a Json,
    /// Tool definitions (an array), or none; the template sees `None`, not an undefined variable.
    pub tools: Option<&'a Json>,
    /// Whether to end with the opening of the assistant's turn.
    pub add_generation_prompt: bool,
    /// Extra variables, such as `enable_thinking`. They may replace `bos_token` and `eos_token`.
    pub kwargs: &'a Map<String, Json>,
    /// Text of the token that begins a sequence, empty where the model has none.
    pub bos_token: &'a str,
    /// Text of the token that ends a sequence, empty where the model has none.
    pub eos_token: &'a str,
    /// The time that `strftime_now` shows.
    pub now: DateTime,
}

/// Why a template could not be compiled or rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The source is longer than 1 MiB.
    #[error("chat template: {n_bytes} bytes, expected at most {SOURCE_BYTES_MAX}")]
    SourceTooLong {
        /// Length of the source.
        n_bytes: usize,
    },
    /// The source is not a template.
    #[error("chat template, line {line}: {detail}")]
    Syntax {
        /// Line of the source, counted from 1; 0 where it is not known.
        line: usize,
        /// What is wrong there.
        detail: String,
    },
    /// The template itself refused the conversation, by `raise_exception`.
    #[error("the model's chat template refuses this conversation: {message}")]
    Refused {
        /// The template's own words.
        message: String,
    },
    /// A step or output limit was reached.
    #[error("chat template: more than {max} {what}")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How much was allowed.
        max: u64,
    },
    /// The template failed on this conversation.
    #[error("chat template, line {line}: {detail}")]
    Render {
        /// Line of the source, counted from 1; 0 where it is not known.
        line: usize,
        /// What went wrong there.
        detail: String,
    },
    /// What the last message says does not stand in the rendering as it is.
    #[error("the last message cannot be continued: the template does not show it as it stands")]
    NotContinued,
    /// An extra variable has a name that the request sets in another way.
    #[error("template variable \"{name}\": set by the request itself, expected another name")]
    Reserved {
        /// The name.
        name: String,
    },
    /// A conformance case is not of the expected form.
    #[error("template case: {0}")]
    Case(#[from] serde_json::Error),
    /// The system gave no thread to render on.
    #[error("chat template: no thread to render on")]
    Thread(#[source] io::Error),
}

impl ChatTemplate {
    /// Compiles `source`.
    ///
    /// # Errors
    /// [`TemplateError::SourceTooLong`], [`TemplateError::Syntax`].
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::SourceTooLong { n_bytes: source.len() });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.expect("the default delimiters are distinct"));
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(methods::call);
        filters::install(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        let compilable = rewrite::for_engine(source);
        // Compiling recurses over the source, and folds constants.
        let compile = || {
            environment.add_template_owned(NAME, compilable)?;
            Ok(variables::of(&environment.get_template(NAME)?, source))
        };
        let variables = on_own_stack(COMPILE_STACK_BYTES, compile)?.map_err(|error: Error| {
            TemplateError::Syntax { line: error.line().unwrap_or(0), detail: describe(&error) }
        })?;
        Ok(Self { source: source.to_owned(), environment, variables })
    }

    /// Whether a rendering may look up the variable `name` (in some conversation, on some branch):
    /// where this is false, [`ChatInput::kwargs`] of that name can have no effect.
    pub fn reads(&self, name: &str) -> bool {
        self.variables.contains(name)
    }

    /// The source as it stood in the model file.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders a conversation into the text that is to be tokenized (special tokens parsed).
    ///
    /// The template sees `messages`, `tools`, `documents` (none unless given), the prompt flag,
    /// both token texts, the extra variables, and `strftime_now`.
    ///
    /// # Errors
    /// [`TemplateError::Refused`] with the template's own words, [`TemplateError::Reserved`] for a
    /// bad name in `kwargs`, [`TemplateError::Limit`] and [`TemplateError::Render`] else.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TemplateError> {
        if let Some(name) = RESERVED.iter().find(|name| input.kwargs.contains_key(**name)) {
            return Err(TemplateError::Reserved { name: (*name).to_owned() });
        }
        let n_bytes = input_bytes(input);
        if n_bytes <= INPUT_BYTES_HERE_MAX {
            match self.render_here(input, STEPS_HERE_MAX) {
                Err(TemplateError::Limit { what: STEPS, .. }) => {}
                rendered => return rendered,
            }
        }
        let granted = STEPS_PER_INPUT_BYTE.saturating_mul(n_bytes as u64);
        let n_steps_max = STEPS_BASE_MAX.saturating_add(granted).min(STEPS_MAX);
        on_own_stack(n_steps_max * STACK_BYTES_PER_STEP, || self.render_here(input, n_steps_max))?
    }

    /// As [`ChatTemplate::render`], but ends with the content of the last message, which the answer
    /// continues. White space at its beginning may be left out, as templates do.
    ///
    /// # Errors
    /// Beside those of `render`, [`TemplateError::NotContinued`] where that message has no text or
    /// the template changes it.
    pub fn render_open(&self, input: &ChatInput<'_>) -> Result<String, TemplateError> {
        let mut messages = input.messages.clone();
        let last = messages.as_array_mut().and_then(|messages| messages.last_mut());
        let Some(Json::String(content)) = last.and_then(|last| last.get_mut("content")) else {
            return Err(TemplateError::NotContinued);
        };
        let said = content.trim_start().to_owned();
        content.push_str(OPEN_END);
        let (messages, add_generation_prompt) = (&messages, false);
        let mut text = self.render(&ChatInput { messages, add_generation_prompt, ..*input })?;
        let end = text.rfind(OPEN_END).filter(|&end| text[..end].ends_with(&said));
        text.truncate(end.ok_or(TemplateError::NotContinued)?);
        Ok(text)
    }

    fn render_here(
        &self,
        input: &ChatInput<'_>,
        n_steps_max: u64,
    ) -> Result<String, TemplateError> {
        // A copy shares everything but the fuel, which is a setting of the environment.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(n_steps_max));
        let template = environment.get_template(NAME).map_err(|error| failure(&error, 0))?;
        let mut output = Bounded { bytes: Vec::new(), is_full: false };
        let rendered = template.render_captured_to(context(input), &mut output).map(drop);
        if output.is_full {
            let max = OUTPUT_BYTES_MAX as u64;
            return Err(TemplateError::Limit { what: "bytes of output", max });
        }
        rendered.map_err(|error| failure(&error, n_steps_max))?;
        Ok(String::from_utf8(output.bytes).expect("minijinja writes whole strings"))
    }
}

/// Runs `work` on a thread of its own, whose stack is `stack_bytes` deep.
fn on_own_stack<T: Send>(
    stack_bytes: u64,
    work: impl FnOnce() -> T + Send,
) -> Result<T, TemplateError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("chat-template".to_owned())
            .stack_size(usize::try_from(stack_bytes).unwrap_or(usize::MAX))
            .spawn_scoped(scope, work)
            .map_err(TemplateError::Thread)?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The variables of one rendering; extra ones come last and win over the two tokens.
fn context(input: &ChatInput<'_>) -> Value {
    let now = input.now;
    let strftime_now = Value::from_function(move |format: &str| {
        strtime::format(format, now).map_err(|error| {
            let detail = format!("strftime_now({format:?}): {error}");
            Error::new(ErrorKind::InvalidOperation, detail)
        })
    });
    let fixed = [
        ("messages", to_value(input.messages)),
        ("tools", input.tools.map_or(Value::from(()), to_value)),
        ("documents", Value::from(())),
        ("add_generation_prompt", Value::from(input.add_generation_prompt)),
        ("bos_token", Value::from(input.bos_token)),
        ("eos_token", Value::from(input.eos_token)),
        ("strftime_now", strftime_now),
    ];
    let extra = input.kwargs.iter().map(|(name, value)| (name.as_str(), to_value(value)));
    Value::from_pairs(fixed.into_iter().chain(extra))
}

/// JSON as the template sees it; keys keep their order.
///
/// Recursion is bounded: whoever parsed the JSON refused more than 128 levels.
fn to_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => {
            if let Some(number) = number.as_i64() {
                Value::from(number)
            } else if let Some(number) = number.as_u64() {
                Value::from(number)
            } else {
                Value::from(number.as_f64().unwrap_or(f64::NAN))
            }
        }
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(to_value).collect(),
        Json::Object(map) => {
            Value::from_pairs(map.iter().map(|(key, value)| (key.as_str(), to_value(value))))
        }
    }
}

/// How much a rendering has been given, in bytes of text, with 16 for each value.
fn input_bytes(input: &ChatInput<'_>) -> usize {
    fn walk(json: &Json) -> usize {
        16 + match json {
            Json::Array(items) => items.iter().map(walk).sum(),
            Json::Object(map) => map.iter().map(|(key, value)| key.len() + walk(value)).sum(),
            Json::String(text) => text.len(),
            Json::Null | Json::Bool(_) | Json::Number(_) => 0,
        }
    }
    walk(input.messages)
        + input.tools.map_or(0, walk)
        + input.kwargs.values().map(walk).sum::<usize>()
}

/// What `raise_exception` was called with, told apart from failures of the engine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    let raised = Raised(message);
    Err(Error::new(ErrorKind::InvalidOperation, "raise_exception").with_source(raised))
}

/// Our error for one of the engine's, whose causes may stand several levels down.
fn failure(error: &Error, n_steps_max: u64) -> TemplateError {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Refused { message: message.clone() };
        }
        if inner.downcast_ref().is_some_and(|inner: &Error| inner.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::Limit { what: STEPS, max: n_steps_max };
        }
        cause = inner.source();
    }
    TemplateError::Render { line: error.line().unwrap_or(0), detail: describe(error) }
}

/// The engine's message without its place, which our errors carry themselves.
fn describe(error: &Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

/// Collects output up to [`OUTPUT_BYTES_MAX`].
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > OUTPUT_BYTES_MAX - self.bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
