//! Answers of several messages, each in a channel: where an answer begins, its grammar's frame, and
//! its parts.
//!
//! An answer goes on behind the role of a first message. A message is its header, which names the
//! channel and may name a recipient, a mark, its text and an end; then the next one may start. One
//! channel is for reasoning, and a message to a tool is a call. Everything else is text for the
//! reader: the answer, and what is said beside calls.
//!
//! The marks are tokens, and only as such are they marks: their spelling in a text is text. The
//! parts are the same however the text between two marks comes.

use super::parts::{Json, Kind, Part, Preamble, emit};
use super::{Mark, Tool, ToolFormat};
use crate::{Special, Tokenizer};

/// Longest header in bytes: the longest name of a tool, and words. What is longer is no header.
const HEADER_BYTES_MAX: usize = 512;

/// The texts of a format of messages.
#[derive(Debug)]
pub(super) struct ChannelFormat {
    pub(super) start: &'static str,
    pub(super) channel: &'static str,
    pub(super) message: &'static str,
    pub(super) end: &'static str,
    /// Other marks: in a header they part words, and a text they end.
    pub(super) others: [&'static str; 3],
    /// The role that an answer's messages have.
    pub(super) role: &'static str,
    /// The channels of reasoning, of calls and what is said beside them, and of the answer.
    pub(super) reasoning: &'static str,
    pub(super) aside: &'static str,
    pub(super) text: &'static str,
    /// What stands before the name of a recipient, and before that of a tool in it.
    pub(super) recipient: &'static str,
    pub(super) namespace: &'static str,
    /// How a header may say that the text is JSON.
    pub(super) forms: &'static [&'static str],
}

/// Channels as one model's vocabulary has them, and where in its messages an answer begins.
#[derive(Debug, Clone, Copy)]
pub struct Channels {
    format: &'static ChannelFormat,
    start: u32,
    channel: u32,
    message: u32,
    end: u32,
    others: [Option<u32>; 3],
    begins: Body,
}

/// What a message's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Not known yet: its header is being read.
    Header,
    Text,
    Reasoning,
    Call,
}

/// Of one vocabulary all marks are known by the first, and the format by them. Channels of
/// different models are never compared.
impl PartialEq for Channels {
    fn eq(&self, other: &Self) -> bool {
        (self.start, self.begins) == (other.start, other.begins)
    }
}

impl ToolFormat {
    /// The channels of an answer that continues `prompt`; `None` where the format has none, or the
    /// vocabulary lacks their marks.
    pub fn channels(&self, tokenizer: &Tokenizer, prompt: &[u32]) -> Option<Channels> {
        let format = self.channels?;
        // Marks that are text cannot be told from it.
        let id = |text: &str| match tokenizer.encode(text, Special::Parse)[..] {
            [id] if tokenizer.is_control(id) => Some(id),
            _ => None,
        };
        let mut channels = Channels {
            format,
            start: id(format.start)?,
            channel: id(format.channel)?,
            message: id(format.message)?,
            end: id(format.end)?,
            others: format.others.map(id),
            begins: Body::Header,
        };
        let turn = prompt.iter().rposition(|&id| id == channels.start);
        let turn = turn.map_or(&[][..], |at| &prompt[at + 1..]);
        if let Some(at) = turn.iter().position(|&id| id == channels.message) {
            let mut header = Header::default();
            for &id in &turn[..at] {
                match id == channels.channel {
                    true => header.begin_channel(),
                    false => {
                        header.text.push_str(&String::from_utf8_lossy(tokenizer.token_bytes(id)))
                    }
                }
            }
            channels.begins = match header.channel() == Some(format.reasoning) {
                true => Body::Reasoning,
                false => Body::Text,
            };
        }
        Some(channels)
    }
}

impl Channels {
    /// The train of thought that comes or may come first; `None` where the answer proper has
    /// begun.
    pub fn preamble(&self, tokenizer: &Tokenizer) -> Option<Preamble> {
        let ChannelFormat { start, channel, message, end, role, reasoning, .. } = *self.format;
        let mark = |texts: &[&str]| Mark::new(&tokenizer.encode(&texts.concat(), Special::Parse));
        let end = mark(&[end, start, role])?;
        let again = Some(mark(&[channel, reasoning, message])?);
        match self.begins {
            Body::Header => Some(Preamble { begin: again, end, again, n_max: None }),
            Body::Reasoning => Some(Preamble { begin: None, end, again, n_max: None }),
            Body::Text | Body::Call => None,
        }
    }

    /// The ids of all marks.
    pub fn marks(&self) -> impl Iterator<Item = u32> + use<> {
        let Self { start, channel, message, end, others, .. } = *self;
        [start, channel, message, end].into_iter().chain(others.into_iter().flatten())
    }

    /// Whether the answer goes on with the text of a message.
    pub(super) fn is_begun(&self) -> bool {
        self.begins == Body::Text
    }

    /// The texts of the frame: the beginning of a message with an answer and of one beside calls,
    /// each up to its text, and what stands between two messages.
    pub(super) fn frame(&self) -> [String; 3] {
        let ChannelFormat { start, channel, message, end, role, aside, text, .. } = *self.format;
        [
            [channel, text, message].concat(),
            [channel, aside, message].concat(),
            [end, start, role].concat(),
        ]
    }

    /// The headers of a call of this tool, in which the recipient may stand on either side of the
    /// channel; what may stand behind each of them, and what ends them.
    pub(super) fn call(&self, name: &str) -> ([String; 2], &'static [&'static str], &'static str) {
        let ChannelFormat { channel, message, aside, recipient, namespace, forms, .. } =
            *self.format;
        let recipient = [" ", recipient, namespace, name].concat();
        let header = [channel, aside].concat();
        let behind = [header.as_str(), &recipient].concat();
        ([behind, recipient + &header], forms, message)
    }
}

/// Of a message, what stands before its text.
#[derive(Debug, Default)]
struct Header {
    text: String,
    /// Where the name of its channel begins.
    channel_at: Option<usize>,
}

impl Header {
    fn begin_channel(&mut self) {
        self.text.push(' ');
        self.channel_at = Some(self.text.len());
    }

    fn channel(&self) -> Option<&str> {
        self.text[self.channel_at?..].split_ascii_whitespace().next()
    }

    /// The tool that it is for.
    fn tool(&self, format: &ChannelFormat) -> Option<&str> {
        let mut words = self.text.split_ascii_whitespace();
        let recipient = words.find_map(|word| word.strip_prefix(format.recipient))?;
        let name = recipient.strip_prefix(format.namespace).unwrap_or(recipient);
        Some(name).filter(|name| Tool::is_name(name))
    }
}

/// Takes one answer in channels apart.
#[derive(Debug)]
pub(super) struct ChannelSplitter {
    channels: Channels,
    /// Whether there can be calls.
    has_calls: bool,
    body: Body,
    header: Header,
    /// Whether the text at hand is empty so far.
    is_empty: bool,
    /// White space that is part of the text if more of it comes.
    space: String,
    /// What the last text was that was passed on.
    last: Option<Body>,
    /// Where the arguments at hand stand; `None` behind them.
    json: Option<Json>,
}

impl ChannelSplitter {
    pub(super) fn new(channels: Channels, has_calls: bool) -> Self {
        Self {
            channels,
            has_calls,
            body: channels.begins,
            header: Header::default(),
            // What the prompt has begun goes on with white space, if any.
            is_empty: channels.begins == Body::Header,
            space: String::new(),
            last: None,
            json: None,
        }
    }

    pub(super) fn push_token(&mut self, id: u32, text: &str, out: &mut Vec<Part>) {
        let Channels { start, channel, message, end, .. } = self.channels;
        // What a mark completes was before it.
        self.push(text, out);
        if !self.channels.marks().any(|mark| mark == id) {
            return;
        }
        match self.body {
            Body::Header if id == message => self.begin_body(out),
            Body::Header if id == channel => self.header.begin_channel(),
            Body::Header if id == start || id == end => self.header = Header::default(),
            Body::Header => self.header.text.push(' '),
            Body::Text | Body::Reasoning | Body::Call => {
                self.end_body();
                if id == channel {
                    self.header.begin_channel();
                }
            }
        }
    }

    pub(super) fn push(&mut self, text: &str, out: &mut Vec<Part>) {
        for (at, c) in text.char_indices() {
            let text = &text[at..at + c.len_utf8()];
            match self.body {
                Body::Header => self.in_header(c, out),
                Body::Text => self.spaced(c, text, Kind::Text, out),
                Body::Reasoning => self.spaced(c, text, Kind::Reasoning, out),
                Body::Call => self.in_call(c, text, out),
            }
        }
    }

    /// The end of the answer.
    pub(super) fn finish(&mut self, out: &mut Vec<Part>) {
        match self.body {
            Body::Text if !self.is_empty => emit(out, Kind::Text, &self.space),
            Body::Header if self.header.channel_at.is_none() && self.last.is_none() => {
                // No model that knows channels writes so; what there is, is text.
                emit(out, Kind::Text, self.header.text.trim_ascii_start());
            }
            _ => {}
        }
        self.end_body();
    }

    fn in_header(&mut self, c: char, out: &mut Vec<Part>) {
        self.header.text.push(c);
        if self.header.text.len() > HEADER_BYTES_MAX {
            let header = std::mem::take(&mut self.header);
            self.begin_text(Body::Text);
            self.push(&header.text, out);
        }
    }

    fn begin_body(&mut self, out: &mut Vec<Part>) {
        let header = std::mem::take(&mut self.header);
        let format = self.channels.format;
        match header.tool(format) {
            Some(name) if self.has_calls => {
                out.push(Part::CallBegin(name.to_owned()));
                (self.body, self.json) = (Body::Call, Some(Json::default()));
                self.last = Some(Body::Call);
            }
            _ if header.channel() == Some(format.reasoning) => self.begin_text(Body::Reasoning),
            _ => self.begin_text(Body::Text),
        }
    }

    fn begin_text(&mut self, body: Body) {
        (self.body, self.is_empty) = (body, true);
        self.space.clear();
    }

    fn end_body(&mut self) {
        (self.body, self.json) = (Body::Header, None);
        (self.header, self.space) = (Header::default(), String::new());
    }

    /// Passes text on, but for white space at its borders; two texts of one kind are paragraphs.
    fn spaced(&mut self, c: char, text: &str, kind: Kind, out: &mut Vec<Part>) {
        if c.is_ascii_whitespace() {
            if !self.is_empty {
                self.space.push(c);
            }
            return;
        }
        if self.is_empty && self.last == Some(self.body) {
            emit(out, kind, "\n\n");
        }
        emit(out, kind, &self.space);
        emit(out, kind, text);
        self.space.clear();
        (self.is_empty, self.last) = (false, Some(self.body));
    }

    fn in_call(&mut self, c: char, text: &str, out: &mut Vec<Part>) {
        match self.json {
            Some(json) => {
                emit(out, Kind::Arguments, text);
                self.json = json.after(c);
                if self.json.is_none() {
                    out.push(Part::CallEnd);
                }
            }
            None if c.is_ascii_whitespace() => {}
            // What is no part of the call after all.
            None => {
                self.begin_text(Body::Text);
                self.spaced(c, text, Kind::Text, out);
            }
        }
    }
}
