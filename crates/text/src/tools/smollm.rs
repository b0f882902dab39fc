//! SmolLM2 as its publisher prompts it: a list of calls in one pair of tags.

use super::ToolFormat;

pub(super) const LIST: ToolFormat = ToolFormat {
    name: "smollm",
    signs: &["<tool_call>["],
    unlike: &[],
    mark: "<tool_call>",
    is_bare: false,
    open: "[",
    before_name: "{\"name\": \"",
    before_arguments: "\", \"arguments\": ",
    after_arguments: "}",
    between: Some(", "),
    close: "]</tool_call>",
    tokens: &["<tool_call>", "</tool_call>"],
};
