//! Kimi K2 (Moonshot AI): calls between marks of their own, each with a number behind its name.

use super::{JSON_CALL, ToolFormat};

pub(super) const K2: ToolFormat = ToolFormat {
    name: "kimi-k2",
    signs: &["<|tool_calls_section_begin|>"],
    mark: "<|tool_calls_section_begin|>",
    open: "<|tool_call_begin|>",
    before_name: "functions.",
    before_number: Some(":"),
    before_arguments: "<|tool_call_argument_begin|>",
    after_arguments: "<|tool_call_end|>",
    between: Some("<|tool_call_begin|>"),
    close: "<|tool_calls_section_end|>",
    tokens: &[
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ],
    ..JSON_CALL
};
