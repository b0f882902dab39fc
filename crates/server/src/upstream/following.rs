//! The alternatives of an upstream's answer as they come: in which order their parts are, which
//! calls are complete, and the bounds on what is taken.
//!
//! An upstream is believed nothing: a part behind an end, a call of a tool that nobody offered,
//! arguments that are no object are errors, not answers.

use crate::dialects::Step;
use crate::dialects::openai::custom;
use engine::{FinishReason, Part, TokenInfo};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::collections::HashMap;

/// Most bytes of all texts of an answer: ten times the longest that models write.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Most calls of one alternative.
const N_CALLS_MAX: usize = 512;

/// What is wrong with an answer of an upstream. It may quote names, never texts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}{}", .quoted.as_ref().map(|name| format!(", {name:?}")).unwrap_or_default())]
pub(crate) struct Wrong {
    what: String,
    /// A name of the upstream's or of the client's, cut short.
    quoted: Option<String>,
}

impl Wrong {
    /// In words of ours only.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), quoted: None }
    }

    /// The same, of `name`.
    pub(super) fn of(name: &str, what: impl Into<String>) -> Self {
        Self { what: what.into(), quoted: Some(crate::dialects::fields::short(name)) }
    }

    /// What the log is told: nothing that others said.
    pub(crate) fn class(&self) -> &str {
        &self.what
    }

    /// That what an upstream says is no `what`. The error's own words quote values.
    pub(super) fn json(what: &str, error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        Self::new(format!("what it says is no {what}, at line {line}, column {column}"))
    }
}

/// What a tool takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Arguments,
    /// One text.
    Text,
}

/// More of a call, as an upstream has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    Arguments(&'a str),
    /// Of the text itself.
    Text(&'a str),
}

/// Follows the alternatives of one answer.
#[derive(Debug)]
pub(super) struct Following {
    choices: Vec<Choice>,
    /// The tools that may be called.
    tools: HashMap<String, Takes>,
    n_bytes: usize,
    /// What nobody has taken yet.
    steps: Vec<Step>,
}

#[derive(Debug, Default)]
struct Choice {
    call: Option<Call>,
    n_calls: usize,
    is_done: bool,
}

/// A call that has begun and not ended.
#[derive(Debug)]
struct Call {
    /// By which the upstream tells calls apart.
    key: u64,
    name: String,
    /// What the tool takes.
    takes: Takes,
    /// Whether its text comes as it is, which then are arguments without an end.
    is_text: bool,
    arguments: String,
}

impl Call {
    /// Whether it is cut where its alternative was: nothing shows the end of a text.
    fn is_cut(&self) -> bool {
        self.is_text || !is_object(&self.arguments)
    }

    /// What is wrong with it as a whole.
    fn check(&self) -> Result<(), Wrong> {
        match self.takes {
            Takes::Arguments if !self.is_text && is_object(&self.arguments) => Ok(()),
            Takes::Arguments => {
                Err(Wrong::of(&self.name, "it calls a tool with what is no object"))
            }
            Takes::Text => {
                let arguments: Result<Value, _> = serde_json::from_str(&self.arguments);
                let is_text = arguments.is_ok_and(|of| custom::text_of(&of).is_some());
                let what = "it calls a tool that takes a text with something else";
                is_text.then_some(()).ok_or_else(|| Wrong::of(&self.name, what))
            }
        }
    }
}

impl Following {
    /// Of an answer of so many alternatives, which may call these tools.
    pub(super) fn new(n_choices: usize, tools: HashMap<String, Takes>) -> Self {
        let choices = std::iter::repeat_with(Choice::default).take(n_choices).collect();
        Self { choices, tools, n_bytes: 0, steps: Vec::new() }
    }

    /// What came since.
    pub(super) fn take(&mut self) -> Vec<Step> {
        std::mem::take(&mut self.steps)
    }

    /// Bytes of all its texts so far.
    pub(super) fn n_bytes(&self) -> usize {
        self.n_bytes
    }

    /// How many alternatives it has.
    pub(super) fn n_choices(&self) -> usize {
        self.choices.len()
    }

    /// Whether every alternative has ended.
    pub(super) fn is_done(&self) -> bool {
        self.choices.iter().all(|choice| choice.is_done)
    }

    /// More text for the reader, with its tokens where they are told.
    pub(super) fn text(
        &mut self,
        choice_idx: usize,
        text: String,
        tokens: Vec<TokenInfo>,
    ) -> Result<(), Wrong> {
        if text.is_empty() && tokens.is_empty() {
            return Ok(());
        }
        self.part(choice_idx, text.len(), Part::Text(text), tokens)
    }

    /// More of a train of thought.
    pub(super) fn reasoning(&mut self, choice_idx: usize, text: String) -> Result<(), Wrong> {
        if text.is_empty() {
            return Ok(());
        }
        self.part(choice_idx, text.len(), Part::Reasoning(text), Vec::new())
    }

    fn part(
        &mut self,
        choice_idx: usize,
        n_bytes: usize,
        part: Part,
        tokens: Vec<TokenInfo>,
    ) -> Result<(), Wrong> {
        self.end_call(choice_idx)?;
        self.count(n_bytes)?;
        self.steps.push(Step::Part { choice_idx, part, tokens });
        Ok(())
    }

    /// More of the call `key`, which begins where it is not the one at hand; then it has a name.
    pub(super) fn call(
        &mut self,
        choice_idx: usize,
        key: u64,
        name: Option<&str>,
        piece: Piece<'_>,
    ) -> Result<(), Wrong> {
        let is_text = matches!(piece, Piece::Text(_));
        let is_same = self.choice(choice_idx)?.call.as_ref().is_some_and(|call| call.key == key);
        if !is_same {
            self.end_call(choice_idx)?;
            let name = name.filter(|name| !name.is_empty());
            let name = name.ok_or_else(|| Wrong::new("a call of a tool begins without a name"))?;
            self.begin_call(choice_idx, key, name, is_text)?;
        }
        match piece {
            Piece::Arguments(more) => self.arguments(choice_idx, more.to_owned()),
            Piece::Text(more) => self.arguments(choice_idx, custom::escaped(more)),
        }
    }

    /// More of the arguments of the call at hand.
    fn arguments(&mut self, choice_idx: usize, more: String) -> Result<(), Wrong> {
        if more.is_empty() {
            return Ok(());
        }
        self.count(more.len())?;
        if let Some(call) = &mut self.choice(choice_idx)?.call {
            call.arguments.push_str(&more);
        }
        let part = Part::Arguments(more);
        self.steps.push(Step::Part { choice_idx, part, tokens: Vec::new() });
        Ok(())
    }

    fn begin_call(
        &mut self,
        choice_idx: usize,
        key: u64,
        name: &str,
        is_text: bool,
    ) -> Result<(), Wrong> {
        let takes = self.tools.get(name).copied();
        let takes =
            takes.ok_or_else(|| Wrong::of(name, "it calls a tool that it was not offered"))?;
        let choice = self.choice(choice_idx)?;
        choice.n_calls += 1;
        if choice.n_calls > N_CALLS_MAX {
            return Err(Wrong::new(format!("it makes more than {N_CALLS_MAX} calls")));
        }
        let name = name.to_owned();
        let arguments = String::new();
        choice.call = Some(Call { key, name: name.clone(), takes, is_text, arguments });
        let part = Part::CallBegin(name);
        self.steps.push(Step::Part { choice_idx, part, tokens: Vec::new() });
        match is_text {
            true => self.arguments(choice_idx, custom::AROUND[0].to_owned()),
            false => Ok(()),
        }
    }

    /// Ends the call at hand, if there is one: its arguments are complete.
    pub(super) fn end_call(&mut self, choice_idx: usize) -> Result<(), Wrong> {
        let end = match &self.choice(choice_idx)?.call {
            None => return Ok(()),
            Some(call) if call.is_text => custom::AROUND[1],
            // As some say that there are none.
            Some(call) if call.arguments.trim().is_empty() => "{}",
            Some(_) => "",
        };
        self.arguments(choice_idx, end.to_owned())?;
        if let Some(call) = self.choice(choice_idx)?.call.take() {
            call.check()?;
        }
        self.steps.push(Step::Part { choice_idx, part: Part::CallEnd, tokens: Vec::new() });
        Ok(())
    }

    /// The end of an alternative. A call that was cut off by its length stays unfinished.
    pub(super) fn done(&mut self, choice_idx: usize, reason: FinishReason) -> Result<(), Wrong> {
        let call = self.choice(choice_idx)?.call.as_ref();
        let is_cut = call.is_some_and(Call::is_cut);
        if !(is_cut && reason == FinishReason::Length) {
            self.end_call(choice_idx)?;
        }
        self.choice(choice_idx)?.is_done = true;
        self.steps.push(Step::Done { choice_idx, reason });
        Ok(())
    }

    /// An alternative that goes on.
    fn choice(&mut self, choice_idx: usize) -> Result<&mut Choice, Wrong> {
        let n_choices = self.choices.len();
        match self.choices.get_mut(choice_idx) {
            None => Err(Wrong::new(format!("it has alternative {choice_idx} of {n_choices}"))),
            Some(choice) if choice.is_done => Err(Wrong::new("it goes on behind its end")),
            Some(choice) => Ok(choice),
        }
    }

    fn count(&mut self, n_bytes: usize) -> Result<(), Wrong> {
        self.n_bytes += n_bytes;
        match self.n_bytes > ANSWER_BYTES_MAX {
            true => Err(Wrong::new(format!("it has more than {ANSWER_BYTES_MAX} bytes"))),
            false => Ok(()),
        }
    }
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<HashMap<String, IgnoredAny>>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following() -> Following {
        let tools = [("f", Takes::Arguments), ("g", Takes::Arguments), ("t", Takes::Text)];
        Following::new(1, tools.map(|(name, takes)| (name.to_owned(), takes)).into())
    }

    fn parts(following: &mut Following) -> Vec<String> {
        let told = |step| match step {
            Step::Part { part, .. } => format!("{part:?}"),
            Step::Done { reason, .. } => format!("{reason:?}"),
            Step::Prompt { .. } => "prompt".to_owned(),
        };
        following.take().into_iter().map(told).collect()
    }

    #[track_caller]
    fn check(calls: &[(u64, Option<&str>, &str)], reason: FinishReason, expected: &[&str]) {
        let mut all = following();
        let mut follow = || {
            for (key, name, arguments) in calls {
                all.call(0, *key, *name, Piece::Arguments(arguments))?;
            }
            all.done(0, reason.clone())
        };
        let found = match follow() {
            Ok(()) => parts(&mut all),
            Err(wrong) => vec![wrong.to_string()],
        };
        assert_eq!(found, expected, "{calls:?}");
    }

    #[test]
    fn calls_are_complete_or_wrong() {
        use FinishReason::{Length, Stop};
        let begin = "CallBegin(\"f\")";
        let empty = [begin, "Arguments(\"{}\")", "CallEnd", "Stop"];
        check(&[(0, Some("f"), "")], Stop, &empty);
        let two = [begin, "Arguments(\"{}\")", "CallEnd", "CallBegin(\"g\")", "Arguments(\"{}\")"];
        let two = [&two[..], &["CallEnd", "Stop"]].concat();
        check(&[(0, Some("f"), "{}"), (1, Some("g"), "{}")], Stop, &two);
        let cut = [begin, "Arguments(\"{\\\"a\\\":\")", "Length"];
        check(&[(0, Some("f"), "{\"a\":")], Length, &cut);
        let wrong = "it calls a tool with what is no object, \"f\"";
        check(&[(0, Some("f"), "{\"a\":")], Stop, &[wrong]);
        check(&[(0, Some("f"), "[1]")], Stop, &[wrong]);
        check(&[(0, None, "{}")], Stop, &["a call of a tool begins without a name"]);
        let unknown = "it calls a tool that it was not offered, \"h\"";
        check(&[(0, Some("h"), "{}")], Stop, &[unknown]);
    }

    #[track_caller]
    fn check_text(name: &str, pieces: &[Piece<'_>], reason: FinishReason, expected: &[&str]) {
        let mut all = following();
        let mut follow = || {
            for (piece_idx, piece) in pieces.iter().enumerate() {
                all.call(0, 0, Some(name).filter(|_| piece_idx == 0), *piece)?;
            }
            all.done(0, reason.clone())
        };
        let found = match follow() {
            Ok(()) => parts(&mut all),
            Err(wrong) => vec![wrong.to_string()],
        };
        assert_eq!(found, expected, "{pieces:?}");
    }

    #[test]
    fn a_text_becomes_arguments() {
        use FinishReason::{Length, Stop};
        use Piece::{Arguments, Text};
        let begin = ["CallBegin(\"t\")", "Arguments(\"{\\\"input\\\":\\\"\")"];
        let end = ["Arguments(\"\\\"}\")", "CallEnd", "Stop"];
        check_text("t", &[Text("")], Stop, &[&begin[..], &end].concat());
        let said = ["Arguments(\"a\\\\\\\"\")", "Arguments(\"\\\\n\")"];
        check_text("t", &[Text("a\""), Text("\n")], Stop, &[&begin[..], &said, &end].concat());
        // Whether there was more of it nobody knows.
        check_text("t", &[Text("a\"")], Length, &[&begin[..], &said[..1], &["Length"]].concat());
        let other = "it calls a tool that takes a text with something else, \"t\"";
        for arguments in ["", "{}", "[]", "{\"input\":7}", "{\"input\":\"a\",\"b\":\"c\"}"] {
            check_text("t", &[Arguments(arguments)], Stop, &[other]);
        }
        check_text("t", &[Text("a"), Arguments("\",\"b\":\"c")], Stop, &[other]);
        let arguments = "{\"input\":\"a\"}";
        let told = format!("Arguments({arguments:?})");
        check_text("t", &[Arguments(arguments)], Stop, &[begin[0], &told, "CallEnd", "Stop"]);
        let wrong = "it calls a tool with what is no object, \"f\"";
        check_text("f", &[Text("a")], Stop, &[wrong]);
    }

    #[test]
    fn the_log_is_told_nothing_that_others_said() {
        let mut all = following();
        let secret = "sk-1234";
        let wrong = all.call(0, 0, Some(secret), Piece::Arguments("{}")).unwrap_err();
        assert!(wrong.to_string().contains(secret));
        assert_eq!(wrong.class(), "it calls a tool that it was not offered");
        all.call(0, 0, Some("f"), Piece::Arguments("x")).unwrap();
        let wrong = all.end_call(0).unwrap_err();
        assert_eq!(wrong.class(), "it calls a tool with what is no object");
    }

    #[test]
    fn text_ends_a_call() {
        let mut all = following();
        all.call(0, 0, Some("f"), Piece::Arguments("{}")).unwrap();
        all.text(0, "t".to_owned(), Vec::new()).unwrap();
        all.reasoning(0, String::new()).unwrap();
        assert_eq!(parts(&mut all)[2..], ["CallEnd", "Text(\"t\")"]);
    }

    #[test]
    fn what_is_out_of_bounds_is_wrong() {
        let mut all = following();
        assert_eq!(all.reasoning(1, "x".into()).unwrap_err().what, "it has alternative 1 of 1");
        let long = "x".repeat(ANSWER_BYTES_MAX);
        all.text(0, long, Vec::new()).unwrap();
        let more = all.reasoning(0, "x".into()).unwrap_err();
        assert!(more.what.contains("more than 16777216 bytes"));
        let mut all = following();
        assert!(!all.is_done());
        all.done(0, FinishReason::Stop).unwrap();
        assert!(all.is_done());
        let behind = all.text(0, "x".into(), Vec::new()).unwrap_err();
        assert_eq!(behind.what, "it goes on behind its end");
        let mut all = following();
        let mut n = 0;
        while n < 1000 && all.call(0, n, Some("f"), Piece::Arguments("")).is_ok() {
            n += 1;
        }
        assert_eq!(n, N_CALLS_MAX as u64);
    }
}
