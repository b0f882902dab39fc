//! One answer on its way out: tokens become text and other parts, these become events.

use crate::request::{Done, Event, FinishReason, TokenInfo};
use crate::stop::StopScanner;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use text::{Part, Splitter, StreamDecoder, Tokenizer};

/// Where the events of a request go. Once it is armed there is an end to them, whatever becomes of
/// the request: dropped before, it says that the request failed.
pub(crate) struct Listener {
    on_event: Box<dyn FnMut(Event) + Send>,
    /// Whether `on_event` panicked; then nobody listens any more.
    is_deaf: bool,
    owes_end: bool,
}

impl Listener {
    /// A listener to which nothing is owed yet.
    pub(crate) fn new(on_event: impl FnMut(Event) + Send + 'static) -> Self {
        Self { on_event: Box::new(on_event), is_deaf: false, owes_end: false }
    }

    /// Notes that its request was taken.
    pub(crate) fn arm(&mut self) {
        self.owes_end = true;
    }

    /// Hands an event over. It is the caller's code: its panic must not be ours.
    fn send(&mut self, event: Event) {
        self.owes_end = self.owes_end && !matches!(event, Event::Done(_));
        if !self.is_deaf {
            let on_event = &mut self.on_event;
            self.is_deaf = catch_unwind(AssertUnwindSafe(|| on_event(event))).is_err();
        }
    }
}

impl Drop for Listener {
    /// Only a panic on the engine thread loses a request; what is known of it is gone by then.
    fn drop(&mut self) {
        if self.owes_end {
            let reason = FinishReason::Failed("internal error: the request was lost".to_string());
            self.send(Event::Done(Done::unbegun(reason, 0, 0)));
        }
    }
}

/// The decoder, the splitter, the stop scanner and the receiver of one sequence.
pub(crate) struct Answer {
    decoder: StreamDecoder,
    /// `None` where an answer is text and nothing else.
    splitter: Option<Splitter>,
    scanner: StopScanner,
    listener: Listener,
    /// Tokens not reported yet, each with the place in the text (bytes) where its own begins.
    pending: VecDeque<(usize, TokenInfo)>,
    /// Bytes of text that were scanned, and of those the bytes sent.
    n_scanned: usize,
    n_sent: usize,
    /// What the current token decodes to.
    decoded: String,
    /// The parts of which that is more.
    parts: Vec<Part>,
}

impl Answer {
    /// An answer that continues with what `decoder` decodes and ends at one of `stop`.
    pub(crate) fn new(
        decoder: StreamDecoder,
        splitter: Option<Splitter>,
        stop: Vec<String>,
        listener: Listener,
    ) -> Self {
        Self {
            decoder,
            splitter,
            scanner: StopScanner::new(stop),
            listener,
            pending: VecDeque::new(),
            n_scanned: 0,
            n_sent: 0,
            decoded: String::new(),
            parts: Vec::new(),
        }
    }

    /// Takes the next token, sends what it releases, and returns the stop string it completed.
    pub(crate) fn push(&mut self, tokenizer: &Tokenizer, token: TokenInfo) -> Option<String> {
        self.decoded.clear();
        self.decoder.push(tokenizer, token.id, &mut self.decoded);
        let id = token.id;
        self.pending.push_back((self.n_scanned, token));
        let found = match &mut self.splitter {
            None => {
                let decoded = std::mem::take(&mut self.decoded);
                let found = self.push_text(&decoded);
                self.decoded = decoded;
                found
            }
            Some(splitter) => {
                splitter.push_token(id, &self.decoded, &mut self.parts);
                self.push_parts()
            }
        };
        if found.is_some() {
            // Their text, if any, is the stop string's.
            self.pending.clear();
        }
        found
    }

    /// The end without a stop string: sends what was held back, and every token left.
    pub(crate) fn finish(&mut self) {
        let mut decoded = String::new();
        self.decoder.finish(&mut decoded);
        let found = match &mut self.splitter {
            None => self.push_text(&decoded),
            Some(splitter) => {
                splitter.push(&decoded, &mut self.parts);
                splitter.finish(&mut self.parts);
                self.push_parts()
            }
        };
        let mut text = String::new();
        if found.is_none() {
            self.scanner.finish(&mut text);
        }
        let tokens: Vec<TokenInfo> = self.pending.drain(..).map(|(_, token)| token).collect();
        if !text.is_empty() || !tokens.is_empty() {
            self.send(Event::Text { text, tokens });
        }
    }

    /// Hands an event to the listener.
    pub(crate) fn send(&mut self, event: Event) {
        self.listener.send(event);
    }

    /// Whether the listener panicked.
    pub(crate) fn is_deaf(&self) -> bool {
        self.listener.is_deaf
    }

    /// Sends the parts at hand, up to a stop string.
    fn push_parts(&mut self) -> Option<String> {
        let mut found = None;
        let mut parts = std::mem::take(&mut self.parts);
        for part in parts.drain(..) {
            match part {
                _ if found.is_some() => break,
                Part::Text(text) => found = self.push_text(&text),
                other => {
                    // A stop string does not reach into what is no text.
                    let mut text = String::new();
                    self.scanner.finish(&mut text);
                    self.release(text);
                    let tokens = self.pending.drain(..).map(|(_, token)| token).collect();
                    self.send(Event::Part { part: other, tokens });
                }
            }
        }
        self.parts = parts;
        found
    }

    /// Looks for stop strings in more text and sends what cannot be part of one.
    fn push_text(&mut self, more: &str) -> Option<String> {
        self.n_scanned += more.len();
        let mut text = String::new();
        let found = self.scanner.push(more, &mut text).map(str::to_string);
        self.release(text);
        found
    }

    /// Sends `text` with the tokens that began before its end.
    fn release(&mut self, text: String) {
        if text.is_empty() {
            return;
        }
        self.n_sent += text.len();
        let n_tokens = self.pending.iter().take_while(|(start, _)| *start < self.n_sent).count();
        let tokens = self.pending.drain(..n_tokens).map(|(_, token)| token).collect();
        self.send(Event::Text { text, tokens });
    }
}
