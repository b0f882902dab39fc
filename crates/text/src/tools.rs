//! How models write tool calls: a table of formats, found from a chat template's source.
//!
//! A format is data ([`ToolFormat`]): the texts around a call's name and arguments. The grammar of
//! an answer ([`grammar`]) and the splitter that takes it apart again ([`parts`]) both go by it, so
//! what one lets through the other understands. A model writes calls with little variation, so the
//! grammar asks for one spelling, the one that the model's own template writes. One more format is
//! one more file with a constant and its line in [`FORMATS`].

mod arguments;
mod channels;
mod deepseek;
mod generic;
mod glm;
mod grammar;
mod granite;
mod harmony;
mod hermes;
mod kimi;
mod llama;
mod mistral;
mod parts;
mod qwen;
mod relaxed;
mod smollm;
mod spelling;

pub use channels::Channels;
pub(crate) use grammar::lower;
pub use grammar::{CallGrammar, MAX_TOOLS, Tool, ToolChoice};
pub use parts::{Mark, Part, Preamble, Splitter};

use crate::tokenizer::TokenText;
use crate::{ChatTemplate, Special, Tokenizer};
use arguments::{Form, Texts};
use channels::ChannelFormat;
use serde_json::Value;
use std::sync::Arc;

/// All formats; the first whose signs a template has is its own.
const FORMATS: &[&ToolFormat] = &[
    &harmony::HARMONY,
    &deepseek::R1,
    &deepseek::V3_1,
    &kimi::K2,
    &qwen::CODER,
    &glm::GLM,
    &mistral::NAMED,
    &mistral::LIST,
    &smollm::LIST,
    &hermes::HERMES,
    &granite::LIST,
    &llama::PYTHON,
    &llama::JSON,
];

/// Marks of a train of thought, as tokens of a vocabulary: begin and end.
const REASONING: &[(&str, &str)] = &[
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
];

/// How calls are written: `mark`, `open`, then for each call `before_name`, its name,
/// `before_arguments`, the arguments, `after_arguments`, with `between` between two calls, and
/// `close` behind the last.
#[derive(Debug)]
pub struct ToolFormat {
    /// The name of the format.
    pub name: &'static str,
    /// Texts that the source of a template has, all of them, and texts that it does not have.
    signs: &'static [&'static str],
    unlike: &'static [&'static str],
    /// What begins calls, wherever it stands; its first character is in it once.
    pub mark: &'static str,
    /// Whether calls may also begin without the mark, as the first thing of an answer. Then no
    /// other answer begins with the first character of a call.
    is_bare: bool,
    open: &'static str,
    before_name: &'static str,
    /// What stands before a number behind the name, where there is one: calls are counted.
    before_number: Option<&'static str>,
    before_arguments: &'static str,
    arguments: Form,
    after_arguments: &'static str,
    /// `None`: there is one call at most.
    between: Option<&'static str>,
    close: &'static str,
    /// Of a model whose answers are messages in channels, of which calls are some.
    channels: Option<&'static ChannelFormat>,
    /// Texts in the above that are tokens of their own where the vocabulary has them.
    tokens: &'static [&'static str],
}

/// One call as a JSON object, which is what most formats have in common.
const JSON_CALL: ToolFormat = ToolFormat {
    name: "",
    signs: &[],
    unlike: &[],
    mark: "",
    is_bare: false,
    open: "",
    before_name: "{\"name\": \"",
    before_number: None,
    before_arguments: "\", \"arguments\": ",
    arguments: Form::Json,
    after_arguments: "}",
    between: None,
    close: "",
    channels: None,
    tokens: &[],
};

/// A list of such calls.
const JSON_CALLS: ToolFormat =
    ToolFormat { open: "[", between: Some(", "), close: "]", ..JSON_CALL };

impl ToolFormat {
    /// The format in which a model with this template calls tools; `None` where the template shows
    /// the model no tools, or asks for a format that is not known.
    pub fn of(template: &ChatTemplate) -> Option<&'static Self> {
        let source = template.source();
        let fits = |format: &&Self| {
            format.signs.iter().all(|sign| source.contains(sign))
                && !format.unlike.iter().any(|sign| source.contains(sign))
        };
        FORMATS.iter().copied().find(fits).filter(|_| template.reads("tools"))
    }

    /// All formats that a template can ask for.
    pub fn all() -> &'static [&'static Self] {
        FORMATS
    }

    /// Whether a model's answers are messages in channels.
    pub fn has_channels(&self) -> bool {
        self.channels.is_some()
    }

    /// The format for every other model, which is told of it by [`ToolFormat::prompt`].
    pub fn generic() -> &'static Self {
        &generic::GENERIC
    }

    /// The generic format's words about `tools` (an array as the OpenAI API writes it).
    pub fn prompt(tools: &Value) -> String {
        generic::prompt(tools)
    }

    /// What a tool returned, as the generic format shows it to a model.
    pub fn response(content: &str) -> String {
        generic::response(content)
    }

    /// `calls` (name and arguments) as a model writes them.
    pub fn write<'a>(&self, calls: impl IntoIterator<Item = (&'a str, &'a Value)>) -> String {
        let mut text = [if self.is_bare { "" } else { self.mark }, self.open].concat();
        for (call_idx, (name, arguments)) in calls.into_iter().enumerate() {
            if call_idx > 0 {
                // A format of single calls has no text for it; then they stand line by line.
                text.push_str(self.between.unwrap_or("\n"));
            }
            let arguments = arguments::write(self.arguments, arguments);
            let number = self.before_number.map(|before| format!("{before}{call_idx}"));
            let number = number.unwrap_or_default();
            for piece in [self.before_name, name, &number, self.before_arguments] {
                text.push_str(piece);
            }
            text.push_str(&arguments);
            text.push_str(self.after_arguments);
        }
        text + self.close
    }
}

impl PartialEq for ToolFormat {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Calls as they may stand in one model's answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Calls {
    format: &'static ToolFormat,
    /// Those of the format's tokens that have no text of their own in this vocabulary: id and
    /// spelling, by which they stand in the text all the same.
    marks: Arc<[(u32, &'static str)]>,
    /// Whether calls are the whole answer or have no part in it.
    is_first: bool,
    /// The channels that the answer is in.
    channels: Option<Channels>,
    /// Which arguments are text.
    texts: Texts,
}

impl Calls {
    /// Calls in `format` for this vocabulary.
    pub fn new(format: &'static ToolFormat, tokenizer: &Tokenizer) -> Self {
        let mark = |text: &&'static str| match tokenizer.encode(text, Special::Parse)[..] {
            [id] if matches!(tokenizer.text_of(id), TokenText::Name(_)) => Some((id, *text)),
            _ => None,
        };
        let marks = format.tokens.iter().filter_map(mark).collect();
        Self { format, marks, is_first: false, channels: None, texts: Texts::default() }
    }

    /// The same calls, of these tools: where a format writes text without quotes, their schemas
    /// tell the number 1 from the text "1".
    #[must_use]
    pub fn of_tools(self, tools: &[Tool]) -> Self {
        Self { texts: Texts::of(tools), ..self }
    }

    /// The same, where nothing but calls may stand in the answer, or no call at all: behind the
    /// beginning the mark is text.
    #[must_use]
    pub fn only_first(self) -> Self {
        Self { is_first: true, ..self }
    }

    /// The same calls, in an answer in these channels ([`ToolFormat::channels`]).
    #[must_use]
    pub fn in_channels(self, channels: Option<Channels>) -> Self {
        Self { channels, ..self }
    }

    /// The format.
    pub fn format(&self) -> &'static ToolFormat {
        self.format
    }

    /// Whether calls and other answers can be told apart where those are JSON.
    pub fn is_marked(&self) -> bool {
        !self.format.is_bare || self.marks.iter().any(|(_, text)| *text == self.format.mark)
    }

    /// How a token that has no text stands in a text with calls.
    fn spelling(&self, id: u32) -> Option<&'static str> {
        self.marks.iter().find(|(mark, _)| *mark == id).map(|(_, text)| *text)
    }
}

/// The tokens that begin and end a train of thought, where the vocabulary marks it. `prompt` is
/// what the answer continues: it may have begun or ended one already, and then the begin, or both,
/// are not there. Of answers in channels [`Channels::preamble`] tells it.
pub fn reasoning(tokenizer: &Tokenizer, prompt: &[u32]) -> Option<Preamble> {
    let token = |text: &str| match tokenizer.encode(text, Special::Parse)[..] {
        [id] => Some(id),
        _ => None,
    };
    let marks = |(begin, end): &(&str, &str)| Some((token(begin)?, token(end)?));
    let (begin, end) = REASONING.iter().find_map(marks)?;
    let is_end_of_turn = |&id: &u32| tokenizer.is_end_of_generation(id);
    let turn = prompt.iter().rposition(is_end_of_turn).map_or(prompt, |at| &prompt[at..]);
    let (begin_mark, end_mark) = (Some(begin.into()), end.into());
    let preamble = Preamble { begin: begin_mark, end: end_mark, again: None, n_max: None };
    match turn.iter().rev().find(|&&id| id == begin || id == end) {
        Some(&id) if id == end => None,
        Some(_) => Some(Preamble { begin: None, ..preamble }),
        None => Some(preamble),
    }
}
