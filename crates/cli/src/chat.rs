//! The interactive chat: reads lines, keeps the conversation, streams answers.
//!
//! The history of typed lines lives in memory only: what a person asks is written nowhere.

use engine::{Engine, EngineError, FinishReason};
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::{Map, Value, json};

use crate::answer;
use crate::context::Context;
use crate::interrupt::Interrupt;
use crate::sampling::SamplingArgs;
use crate::terminal;

const HELP: &str = "\
/help           this text
/clear          forget the conversation, keep the system message
/system TEXT    set the system message and start over (no TEXT: remove it)
/exit           leave (so does Ctrl-D)
Ctrl-C          stop the answer
A line that ends with \\ goes on in the next one; \"\"\" starts and ends a longer text.";

/// What a chat needs.
pub(crate) struct Chat<'a> {
    /// The loaded model.
    pub(crate) engine: &'a Engine,
    /// How answers are made.
    pub(crate) sampling: &'a SamplingArgs,
    /// The system message, if any.
    pub(crate) system: Option<String>,
    /// Ctrl-C.
    pub(crate) interrupt: Interrupt,
}

impl Chat<'_> {
    /// Reads and answers until the user leaves.
    ///
    /// # Errors
    /// A terminal that cannot be read, stdout closed, or an engine that stopped. A message that
    /// cannot be answered (too long for the context) is said and the chat goes on.
    pub(crate) fn run(mut self, context: &Context) -> anyhow::Result<()> {
        let mut editor = DefaultEditor::new()?;
        let mut messages = self.opening();
        context.note("/help lists the commands, Ctrl-D leaves");
        while let Some(input) = read_message(context, &mut editor)? {
            match Command::parse(&input) {
                Command::Say(text) if text.trim().is_empty() => {}
                Command::Say(text) => self.answer(context, &mut messages, text)?,
                Command::Help => terminal::say(HELP),
                Command::Clear => {
                    messages = self.opening();
                    context.note("the conversation is forgotten");
                }
                Command::System(text) => {
                    self.system = (!text.is_empty()).then(|| text.to_owned());
                    messages = self.opening();
                    context.note("the system message is set and the conversation starts over");
                }
                Command::Exit => break,
                Command::Unknown(word) => {
                    terminal::say(&format!("unknown command {word}; /help lists the commands"));
                }
            }
        }
        Ok(())
    }

    fn opening(&self) -> Vec<Value> {
        let message = |text: &String| json!({"role": "system", "content": text});
        self.system.iter().map(message).collect()
    }

    /// Answers `text`. The exchange joins the conversation only if there was an answer, so that a
    /// refused message can be changed and sent again.
    fn answer(
        &self,
        context: &Context,
        messages: &mut Vec<Value>,
        text: &str,
    ) -> anyhow::Result<()> {
        messages.push(json!({"role": "user", "content": text}));
        let answer = prompt(self.engine, messages, text).and_then(|prompt| {
            let request = self.sampling.request(prompt);
            answer::stream(self.engine, request, &self.interrupt, terminal::print_answer)
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                messages.pop();
                return say_or_fail(error, self.engine);
            }
        };
        terminal::print("\n")?;
        if answer.done.reason == FinishReason::Cancelled {
            answer::say_stopped();
        }
        answer::say_speed(context, &answer.done);
        let max_tokens = self.sampling.max_tokens();
        answer::say_cut(context, self.engine.info(), max_tokens, &answer.done);
        messages.push(json!({"role": "assistant", "content": answer.text}));
        Ok(())
    }
}

/// The ids of the next prompt: the conversation through the model's template, or for a base model
/// the bare text, which it continues.
pub(crate) fn prompt(engine: &Engine, messages: &[Value], text: &str) -> anyhow::Result<Vec<u32>> {
    if engine.template().is_some() {
        return Ok(engine.chat_prompt(&Value::from(messages), None, &Map::new())?);
    }
    let tokenizer = engine.tokenizer();
    let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
    Ok(bos.into_iter().chain(tokenizer.encode(text, text::Special::Plain)).collect())
}

/// What the user can mend by another message is said; everything else ends the chat.
fn say_or_fail(error: anyhow::Error, engine: &Engine) -> anyhow::Result<()> {
    match error.downcast_ref::<EngineError>() {
        Some(EngineError::ContextOverflow { .. }) => {
            let error = answer::with_context_advice(error, engine.info());
            terminal::say(&format!("{error}; /clear forgets the conversation"));
            Ok(())
        }
        Some(EngineError::Template(_) | EngineError::Invalid { .. }) => {
            terminal::say(&error.to_string());
            Ok(())
        }
        _ => Err(error),
    }
}

/// Reads one message of one or several lines; `None` when the user leaves.
fn read_message(context: &Context, editor: &mut DefaultEditor) -> anyhow::Result<Option<String>> {
    let mut draft = Draft::default();
    loop {
        let prompt = if draft.is_empty() { "> " } else { ". " };
        match editor.readline(prompt) {
            Ok(line) => {
                if let Some(message) = draft.push(&line) {
                    // A history that is full drops its oldest line; nothing else can fail.
                    let _ = editor.add_history_entry(message.as_str());
                    return Ok(Some(message));
                }
            }
            // Ctrl-C at the prompt drops what was typed.
            Err(ReadlineError::Interrupted) => {
                draft = Draft::default();
                context.note("Ctrl-D or /exit leaves");
            }
            #[cfg(unix)]
            Err(ReadlineError::Signal(_)) => {}
            Err(ReadlineError::Eof) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A message in the making.
#[derive(Default)]
struct Draft {
    text: String,
    /// Inside `"""`: every line belongs to the message until the closing mark.
    quoted: bool,
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.text.is_empty() && !self.quoted
    }

    /// Takes one line; returns the message once it is whole.
    fn push(&mut self, line: &str) -> Option<String> {
        const QUOTE: &str = "\"\"\"";
        let mut line = line;
        if self.is_empty()
            && let Some(rest) = line.strip_prefix(QUOTE)
        {
            self.quoted = true;
            line = rest;
        }
        let (body, ends) = if self.quoted {
            match line.trim_end().strip_suffix(QUOTE) {
                Some(body) => (body, true),
                None => (line, false),
            }
        } else {
            match line.strip_suffix('\\') {
                Some(body) => (body, false),
                None => (line, true),
            }
        };
        self.text.push_str(body);
        if ends {
            self.quoted = false;
            return Some(std::mem::take(&mut self.text));
        }
        // The opening mark alone on its line starts the text on the next one.
        if !(self.quoted && self.text.is_empty()) {
            self.text.push('\n');
        }
        None
    }
}

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Command<'a> {
    Say(&'a str),
    Help,
    Clear,
    System(&'a str),
    Exit,
    Unknown(&'a str),
}

impl<'a> Command<'a> {
    /// A command is one line that starts with `/` and a letter; anything else is for the model.
    fn parse(input: &'a str) -> Self {
        let is_command = input.strip_prefix('/').is_some_and(|rest| {
            !rest.contains('\n') && rest.starts_with(|c: char| c.is_ascii_alphabetic())
        });
        if !is_command {
            return Self::Say(input);
        }
        let (word, rest) = input.split_once(' ').unwrap_or((input, ""));
        match word {
            "/help" => Self::Help,
            "/clear" => Self::Clear,
            "/system" => Self::System(rest.trim()),
            "/exit" | "/quit" | "/bye" => Self::Exit,
            // A path at the start of a question is text.
            _ if word[1..].contains('/') => Self::Say(input),
            _ => Self::Unknown(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_draft(lines: &[&str], expected: &str) {
        let mut draft = Draft::default();
        let (last, first) = lines.split_last().unwrap();
        for line in first {
            assert_eq!(draft.push(line), None, "{lines:?}");
        }
        assert_eq!(draft.push(last).as_deref(), Some(expected), "{lines:?}");
        assert!(draft.is_empty());
    }

    #[test]
    fn messages_are_put_together_from_lines() {
        check_draft(&["hello"], "hello");
        check_draft(&[""], "");
        check_draft(&["a \\", "b"], "a \nb");
        check_draft(&["\\", "b"], "\nb");
        check_draft(&["\"\"\"one\"\"\""], "one");
        check_draft(&["\"\"\"", "one", "", "two\"\"\""], "one\n\ntwo");
        check_draft(&["\"\"\"one", "two \\", "\"\"\""], "one\ntwo \\\n");
        check_draft(&["he said \"\"\"hi\"\"\""], "he said \"\"\"hi\"\"\"");
    }

    #[test]
    fn commands_and_messages_are_told_apart() {
        assert_eq!(Command::parse("/help"), Command::Help);
        assert_eq!(Command::parse("/system  Be brief. "), Command::System("Be brief."));
        assert_eq!(Command::parse("/system"), Command::System(""));
        assert_eq!(Command::parse("/nope now"), Command::Unknown("/nope"));
        assert_eq!(Command::parse("/etc/hosts is what?"), Command::Say("/etc/hosts is what?"));
        assert_eq!(Command::parse("/ 2"), Command::Say("/ 2"));
        assert_eq!(Command::parse("/clear\nall"), Command::Say("/clear\nall"));
        assert_eq!(Command::parse("why?"), Command::Say("why?"));
    }
}
