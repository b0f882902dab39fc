//! GLM 4.5 and 4.6 (Z.ai): the name behind a tag, then a pair of tags for each argument.

use super::arguments::Form;
use super::{JSON_CALL, ToolFormat};

pub(super) const GLM: ToolFormat = ToolFormat {
    name: "glm",
    signs: &["<tool_call>", "<arg_key>", "<arg_value>"],
    mark: "<tool_call>",
    before_name: "",
    before_arguments: "\n",
    arguments: Form::Tagged {
        before_key: "<arg_key>",
        after_key: "</arg_key>\n<arg_value>",
        after_value: "</arg_value>\n",
    },
    after_arguments: "</tool_call>",
    between: Some("\n<tool_call>"),
    tokens: &[
        "<tool_call>",
        "</tool_call>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
    ],
    ..JSON_CALL
};
