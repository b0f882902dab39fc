//! gpt-oss (OpenAI's "harmony"): messages in channels, a call being a message to a tool.
//!
//! <https://cookbook.openai.com/articles/openai-harmony>. A model may name the recipient before the
//! channel as well, as its template does of earlier calls; the grammar asks for the form of the
//! documentation, which models prefer.

use super::channels::ChannelFormat;
use super::{JSON_CALL, ToolFormat};

const CHANNELS: ChannelFormat = ChannelFormat {
    start: "<|start|>",
    channel: "<|channel|>",
    message: "<|message|>",
    end: "<|end|>",
    others: ["<|constrain|>", "<|call|>", "<|return|>"],
    role: "assistant",
    reasoning: "analysis",
    aside: "commentary",
    text: "final",
    recipient: "to=",
    namespace: "functions.",
};

pub(super) const HARMONY: ToolFormat = ToolFormat {
    name: "harmony",
    signs: &["<|channel|>commentary", "functions."],
    mark: "<|channel|>commentary to=",
    before_name: "functions.",
    before_arguments: " <|constrain|>json<|message|>",
    // The message's end, which ends the answer.
    after_arguments: "",
    channels: Some(&CHANNELS),
    tokens: &["<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>"],
    ..JSON_CALL
};
