//! Granite 3 (IBM): a mark, then a list of calls.

use super::ToolFormat;

pub(super) const LIST: ToolFormat = ToolFormat {
    name: "granite",
    signs: &["<|tool_call|>"],
    unlike: &["<|/tool_call|>"],
    mark: "<|tool_call|>",
    is_bare: false,
    open: "[",
    before_name: "{\"name\": \"",
    before_arguments: "\", \"arguments\": ",
    after_arguments: "}",
    between: Some(", "),
    close: "]",
    tokens: &["<|tool_call|>"],
};
