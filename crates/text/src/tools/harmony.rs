//! gpt-oss (OpenAI's "harmony"): messages in channels, a call being a message to a tool.
//!
//! <https://cookbook.openai.com/articles/openai-harmony>. The recipient stands behind the channel,
//! or before it as the template writes earlier calls; that the text is JSON is said or left out.

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
    forms: &[" <|constrain|>json", "<|constrain|>json", " json"],
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
