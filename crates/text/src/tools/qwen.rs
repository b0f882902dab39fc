//! Qwen3-Coder (Alibaba): calls in tags, and each argument in tags of its own, a line for each.

use super::arguments::Form;
use super::{JSON_CALL, ToolFormat};

pub(super) const CODER: ToolFormat = ToolFormat {
    name: "qwen3-coder",
    signs: &["<tool_call>", "<function=", "<parameter="],
    mark: "<tool_call>",
    before_name: "\n<function=",
    before_arguments: ">\n",
    arguments: Form::Tagged {
        before_key: "<parameter=",
        after_key: ">\n",
        after_value: "\n</parameter>\n",
    },
    after_arguments: "</function>\n</tool_call>",
    between: Some("\n<tool_call>"),
    tokens: &["<tool_call>", "</tool_call>"],
    ..JSON_CALL
};
