//! Hermes (Nous Research), and with it Qwen 2.5, Qwen 3, SmolLM3 and many others: each call in
//! tags of its own.

use super::{JSON_CALL, ToolFormat};

pub(super) const HERMES: ToolFormat = ToolFormat {
    name: "hermes",
    signs: &["<tool_call>", "arguments"],
    // Qwen3-Coder and GLM 4.5 put other things than JSON between the same tags.
    unlike: &["<function=", "<arg_key>"],
    mark: "<tool_call>",
    before_name: "\n{\"name\": \"",
    after_arguments: "}\n</tool_call>",
    between: Some("\n<tool_call>"),
    tokens: &["<tool_call>", "</tool_call>"],
    ..JSON_CALL
};
