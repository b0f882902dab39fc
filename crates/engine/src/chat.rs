//! A conversation to render, and where its prompt ends. Messages, tools and variables are the
//! template's business; the engine passes them on.

use serde_json::{Map, Value};

/// What a chat template is given.
#[derive(Debug, Clone, Copy)]
pub struct Chat<'a> {
    /// A JSON array of messages.
    pub messages: &'a Value,
    /// A JSON array of tools in OpenAI's form, where there are some.
    pub tools: Option<&'a Value>,
    /// Further variables of the template.
    pub kwargs: &'a Map<String, Value>,
    /// Where the prompt ends.
    pub end: ChatEnd,
}

/// Where the prompt of a conversation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChatEnd {
    /// With the opening of a turn of the assistant's.
    Answer,
    /// With the content of the last message, which the answer continues.
    Continue,
}
