//! SmolLM2 as its publisher prompts it: a list of calls in one pair of tags.

use super::{JSON_CALLS, ToolFormat};

pub(super) const LIST: ToolFormat = ToolFormat {
    name: "smollm",
    signs: &["<tool_call>["],
    mark: "<tool_call>",
    close: "]</tool_call>",
    tokens: &["<tool_call>", "</tool_call>"],
    ..JSON_CALLS
};
