//! An answer in parts: text, reasoning, calls, as they come.
//!
//! The parts together are the same however the answer was cut into pieces. White space at the
//! borders of text and reasoning belongs to the marks. What is no call after all, which no grammar
//! of ours lets through, becomes text.

use super::arguments::{Form, Reader, Step};
use super::channels::{ChannelSplitter, Channels};
use super::{Calls, ToolFormat};
use std::fmt;

/// A part of an answer, or more of the last one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text for the reader.
    Text(String),
    /// A train of thought, without its marks.
    Reasoning(String),
    /// A call of the tool of this name begins.
    CallBegin(String),
    /// More of the call's arguments, a JSON object.
    Arguments(String),
    /// The call is complete.
    CallEnd,
}

/// A train of thought that comes, or may come, before the answer proper, or several. Under a
/// constraint they cannot end the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preamble {
    /// What begins it, where the answer may also do without: then it is what the answer begins
    /// with. `None`: the prompt has begun it already.
    pub begin: Option<Mark>,
    /// What ends it: once the first token of this has come, so do the others.
    pub end: Mark,
    /// What begins another one right behind `end`; `None`: there is one at most.
    pub again: Option<Mark>,
    /// Most tokens of all of them, marks apart; then `end` follows.
    pub n_max: Option<u32>,
}

/// A mark: 1 to [`Mark::MAX_TOKENS`] tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    ids: [u32; Self::MAX_TOKENS],
    len: usize,
}

impl Mark {
    /// Most tokens of a mark: a few words, should they be written byte by byte.
    pub const MAX_TOKENS: usize = 16;

    /// The mark of these tokens; `None` where they are none or too many.
    pub fn new(tokens: &[u32]) -> Option<Self> {
        let mut ids = [0; Self::MAX_TOKENS];
        ids.get_mut(..tokens.len())?.copy_from_slice(tokens);
        (!tokens.is_empty()).then_some(Self { ids, len: tokens.len() })
    }

    /// Its tokens, at least one.
    pub fn ids(&self) -> &[u32] {
        &self.ids[..self.len]
    }

    /// Whether it is this token.
    fn is(&self, id: u32) -> bool {
        self.ids() == [id]
    }
}

impl From<u32> for Mark {
    fn from(id: u32) -> Self {
        let mut ids = [0; Self::MAX_TOKENS];
        ids[0] = id;
        Self { ids, len: 1 }
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ids().fmt(f)
    }
}

/// Takes one answer apart.
#[derive(Debug)]
pub struct Splitter {
    /// Does it all where the answer is in channels.
    in_channels: Option<ChannelSplitter>,
    preamble: Option<Preamble>,
    calls: Option<Calls>,
    state: State,
    /// Whether nothing was seen yet, not even a token.
    is_first: bool,
    /// Whether the text or reasoning at hand is empty so far.
    is_empty: bool,
    /// White space that is part of the text if more of it comes.
    space: String,
    /// What was read since the last thing that was passed on: a mark, a call up to its arguments.
    raw: String,
    /// The name of the call at hand.
    name: String,
    /// Reads its arguments, where they are no JSON object.
    reader: Option<Reader>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reasoning,
    Text,
    /// So many bytes of the mark are read.
    Mark(usize),
    /// So many bytes of a text that must stand here are read.
    Fixed(Fixed, usize),
    Name,
    /// The digits behind a name.
    Number,
    Arguments(Json),
    /// Arguments that are no JSON object; the reader has them.
    Written,
    /// Behind a call: `raw` is the beginning of what follows.
    Next,
    /// Behind the last call, or where none can come any more.
    Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fixed {
    Open,
    BeforeName,
    BeforeArguments,
    AfterArguments,
}

/// Where a JSON object stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Json {
    depth: u32,
    is_string: bool,
    is_escaped: bool,
}

impl Splitter {
    /// At the beginning of an answer that may have these parts.
    pub fn new(preamble: Option<Preamble>, calls: Option<Calls>) -> Self {
        let begun = matches!(preamble, Some(Preamble { begin: None, .. }));
        Self {
            in_channels: None,
            preamble,
            calls,
            state: if begun { State::Reasoning } else { State::Text },
            is_first: true,
            is_empty: true,
            space: String::new(),
            raw: String::new(),
            name: String::new(),
            reader: None,
        }
    }

    /// The same for an answer in channels, which tell the parts apart.
    #[must_use]
    pub fn in_channels(self, channels: Option<Channels>) -> Self {
        let splitter = |channels| ChannelSplitter::new(channels, self.calls.is_some());
        Self { in_channels: channels.map(splitter), ..self }
    }

    /// Whether the text is all that there can be.
    pub fn is_plain(&self) -> bool {
        self.preamble.is_none() && self.calls.is_none() && self.in_channels.is_none()
    }

    /// Takes a token and the text that was decoded with it.
    pub fn push_token(&mut self, id: u32, text: &str, out: &mut Vec<Part>) {
        if let Some(splitter) = &mut self.in_channels {
            return splitter.push_token(id, text, out);
        }
        let is_first = std::mem::replace(&mut self.is_first, false);
        if let Some(Preamble { begin, end, .. }) = self.preamble {
            if is_first && begin.is_some_and(|begin| begin.is(id)) {
                self.state = State::Reasoning;
                return;
            }
            if self.state == State::Reasoning && end.is(id) {
                self.space.clear();
                (self.state, self.is_empty) = (State::Text, true);
                return;
            }
        }
        let spelling = self.calls.as_ref().and_then(|calls| calls.spelling(id));
        self.push(text, out);
        // Some tokenizers decode the mark all the same.
        if let Some(spelling) = spelling.filter(|spelling| !text.ends_with(spelling)) {
            self.push(spelling, out);
        }
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str, out: &mut Vec<Part>) {
        if let Some(splitter) = &mut self.in_channels {
            return splitter.push(text, out);
        }
        if self.calls.is_none() && self.state == State::Text && !self.is_empty {
            emit(out, Kind::Text, &std::mem::take(&mut self.space));
            return emit(out, Kind::Text, text);
        }
        for (at, c) in text.char_indices() {
            self.push_char(c, &text[at..at + c.len_utf8()], out);
        }
    }

    /// The end of the answer. A call that was cut off before its arguments is nothing.
    pub fn finish(&mut self, out: &mut Vec<Part>) {
        if let Some(splitter) = &mut self.in_channels {
            return splitter.finish(out);
        }
        if let State::Text | State::Mark(_) = self.state
            && !self.is_empty
        {
            emit(out, Kind::Text, &self.space);
        }
        if let State::Mark(_) = self.state {
            emit(out, Kind::Text, &self.raw);
        }
        if let Some(reader) = &mut self.reader {
            emit(out, Kind::Arguments, &reader.cut());
        }
        self.reader = None;
        (self.state, self.space, self.raw) = (State::Rest, String::new(), String::new());
    }

    fn push_char(&mut self, c: char, text: &str, out: &mut Vec<Part>) {
        match self.state {
            State::Reasoning => self.spaced(c, text, Kind::Reasoning, out),
            State::Text => match self.calls.as_ref().map(|calls| (calls.format, calls.is_first)) {
                Some((format, is_only)) if self.is_empty || !is_only => {
                    if self.is_empty && format.is_bare && !is_only && c == bare_begin(format) {
                        self.state = State::Fixed(Fixed::Open, 0);
                        self.skip_empty();
                        self.push_char(c, text, out);
                    } else if format.mark.starts_with(c) {
                        self.raw.push(c);
                        self.state = State::Mark(c.len_utf8());
                    } else {
                        self.spaced(c, text, Kind::Text, out);
                    }
                }
                _ => self.spaced(c, text, Kind::Text, out),
            },
            State::Mark(n_read) => self.in_mark(n_read, c, text, out),
            State::Fixed(fixed, n_read) => self.in_fixed(fixed, n_read, c, text, out),
            State::Name => {
                if c.is_ascii_alphanumeric() || c == '_' || c == '-' {
                    self.raw.push(c);
                    self.name.push(c);
                } else if self.name.is_empty() {
                    self.give_up(c, text, out);
                } else if self.begins_number(c) {
                    self.raw.push(c);
                    self.state = State::Number;
                } else {
                    self.state = State::Fixed(Fixed::BeforeArguments, 0);
                    self.push_char(c, text, out);
                }
            }
            State::Number if c.is_ascii_digit() => self.raw.push(c),
            State::Number => {
                self.state = State::Fixed(Fixed::BeforeArguments, 0);
                self.push_char(c, text, out);
            }
            State::Written => self.in_written(c, out),
            State::Arguments(json) => {
                emit(out, Kind::Arguments, text);
                match json.after(c) {
                    Some(json) => self.state = State::Arguments(json),
                    None => {
                        out.push(Part::CallEnd);
                        self.state = State::Fixed(Fixed::AfterArguments, 0);
                        self.skip_empty();
                    }
                }
            }
            State::Next => self.in_next(c, out),
            State::Rest => emit(out, Kind::Text, text),
        }
    }

    /// Passes text on, but for white space at its borders.
    fn spaced(&mut self, c: char, text: &str, kind: Kind, out: &mut Vec<Part>) {
        if !c.is_ascii_whitespace() {
            emit(out, kind, &self.space);
            emit(out, kind, text);
            self.space.clear();
            self.is_empty = false;
        } else if !self.is_empty {
            self.space.push(c);
        }
    }

    fn in_mark(&mut self, n_read: usize, c: char, text: &str, out: &mut Vec<Part>) {
        let mark = self.calls.as_ref().map_or("", |calls| calls.format.mark);
        if mark[n_read..].starts_with(c) {
            self.raw.push(c);
            let n_read = n_read + c.len_utf8();
            self.state = State::Mark(n_read);
            if n_read == mark.len() {
                self.space.clear();
                self.state = State::Fixed(Fixed::Open, 0);
                self.skip_empty();
            }
        } else {
            // No mark after all; its first character stands in it once, so none began meanwhile.
            emit(out, Kind::Text, &self.space);
            emit(out, Kind::Text, &self.raw);
            self.space.clear();
            self.raw.clear();
            (self.state, self.is_empty) = (State::Text, false);
            self.push_char(c, text, out);
        }
    }

    fn in_fixed(&mut self, fixed: Fixed, n_read: usize, c: char, text: &str, out: &mut Vec<Part>) {
        let wanted = self.wanted(fixed);
        if wanted[n_read..].starts_with(c) {
            self.raw.push(c);
            self.state = State::Fixed(fixed, n_read + c.len_utf8());
            self.skip_empty();
        } else if n_read == 0 && fixed != Fixed::BeforeArguments && c.is_ascii_whitespace() {
            // Of the arguments, or of a token behind a mark.
        } else {
            self.give_up(c, text, out);
        }
        if let State::Arguments(_) | State::Written = self.state
            && self.raw.is_empty()
            && !self.name.is_empty()
        {
            out.push(Part::CallBegin(std::mem::take(&mut self.name)));
        }
    }

    /// Whether a number comes behind the name, and `c` is what stands before it.
    fn begins_number(&self, c: char) -> bool {
        let before = self.calls.as_ref().and_then(|calls| calls.format.before_number);
        before.is_some_and(|before| before.starts_with(c))
    }

    fn in_written(&mut self, c: char, out: &mut Vec<Part>) {
        let Some(reader) = &mut self.reader else { return };
        match reader.push(c) {
            Step::More(json) => emit(out, Kind::Arguments, &json),
            Step::End(json, rest) => {
                self.reader = None;
                self.state = State::Fixed(Fixed::AfterArguments, 0);
                let after = self.wanted(Fixed::AfterArguments);
                if after.trim_ascii_start().starts_with(rest.trim_ascii()) {
                    emit(out, Kind::Arguments, &json);
                    out.push(Part::CallEnd);
                } else {
                    // Arguments that cannot be understood are not complete; the call is cut here.
                    self.state = State::Rest;
                }
                self.skip_empty();
                for (at, c) in rest.char_indices() {
                    self.push_char(c, &rest[at..at + c.len_utf8()], out);
                }
            }
        }
    }

    /// Goes on to the next state where the text that must stand here has been read.
    fn skip_empty(&mut self) {
        while let State::Fixed(fixed, n_read) = self.state
            && n_read == self.wanted(fixed).len()
        {
            self.state = match fixed {
                Fixed::Open => State::Fixed(Fixed::BeforeName, 0),
                Fixed::BeforeName => State::Name,
                Fixed::BeforeArguments => {
                    self.raw.clear();
                    self.begin_arguments()
                }
                Fixed::AfterArguments => {
                    self.raw.clear();
                    State::Next
                }
            };
        }
    }

    fn begin_arguments(&mut self) -> State {
        let Some(Calls { format, texts, .. }) = &self.calls else { return State::Rest };
        if format.arguments == Form::Json {
            return State::Arguments(Json::default());
        }
        self.reader = Some(Reader::new(format.arguments, texts, &self.name));
        State::Written
    }

    fn wanted(&self, fixed: Fixed) -> &'static str {
        let Some(Calls { format, .. }) = self.calls else { return "" };
        match fixed {
            Fixed::Open => format.open,
            Fixed::BeforeName => format.before_name,
            Fixed::BeforeArguments => format.before_arguments,
            Fixed::AfterArguments => format.after_arguments,
        }
    }

    fn in_next(&mut self, c: char, out: &mut Vec<Part>) {
        self.raw.push(c);
        let Some(Calls { format, .. }) = self.calls else { return };
        let candidates = [format.between.unwrap_or_default(), format.close];
        if !candidates.iter().any(|text| text.starts_with(&self.raw)) {
            self.state = State::Rest;
            emit(out, Kind::Text, &std::mem::take(&mut self.raw));
        } else if Some(&*self.raw) == format.between {
            self.state = State::Fixed(Fixed::BeforeName, 0);
            self.skip_empty();
        } else if self.raw == format.close {
            self.raw.clear();
            self.state = State::Rest;
        }
    }

    /// What was read as a call is text.
    fn give_up(&mut self, c: char, text: &str, out: &mut Vec<Part>) {
        emit(out, Kind::Text, &std::mem::take(&mut self.raw));
        self.name.clear();
        self.state = State::Rest;
        self.push_char(c, text, out);
    }
}

/// The first character of a call without its mark.
pub(super) fn bare_begin(format: &ToolFormat) -> char {
    format.open.chars().chain(format.before_name.chars()).next().unwrap_or_default()
}

impl Json {
    /// The state behind `c`; `None` where the object is complete, or is none.
    pub(super) fn after(mut self, c: char) -> Option<Self> {
        if self.is_string {
            match c {
                _ if self.is_escaped => self.is_escaped = false,
                '\\' => self.is_escaped = true,
                '"' => self.is_string = false,
                _ => {}
            }
            return Some(self);
        }
        match c {
            '"' => self.is_string = true,
            '{' | '[' => self.depth += 1,
            '}' | ']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        let is_over = self.depth == 0 && !c.is_ascii_whitespace() && !self.is_string;
        (!is_over).then_some(self)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    Reasoning,
    Arguments,
}

/// Appends to the last part where that is of the same kind.
pub(super) fn emit(out: &mut Vec<Part>, kind: Kind, text: &str) {
    if text.is_empty() {
        return;
    }
    match (kind, out.last_mut()) {
        (Kind::Text, Some(Part::Text(last)))
        | (Kind::Reasoning, Some(Part::Reasoning(last)))
        | (Kind::Arguments, Some(Part::Arguments(last))) => last.push_str(text),
        (Kind::Text, _) => out.push(Part::Text(text.to_owned())),
        (Kind::Reasoning, _) => out.push(Part::Reasoning(text.to_owned())),
        (Kind::Arguments, _) => out.push(Part::Arguments(text.to_owned())),
    }
}
