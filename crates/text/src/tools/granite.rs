//! Granite 3 (IBM): a mark, then a list of calls.

use super::{JSON_CALLS, ToolFormat};

pub(super) const LIST: ToolFormat = ToolFormat {
    name: "granite",
    signs: &["<|tool_call|>"],
    unlike: &["<|/tool_call|>"],
    mark: "<|tool_call|>",
    tokens: &["<|tool_call|>"],
    ..JSON_CALLS
};
