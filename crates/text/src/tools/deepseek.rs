//! DeepSeek: calls between marks of their own. R1 fences the arguments as code, V3.1 does not.

use super::{JSON_CALL, ToolFormat};

const TOKENS: &[&str] = &[
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
];

pub(super) const R1: ToolFormat = ToolFormat {
    name: "deepseek-r1",
    signs: &["<｜tool▁calls▁begin｜>", "```json"],
    mark: "<｜tool▁calls▁begin｜>",
    before_name: "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
    before_arguments: "\n```json\n",
    after_arguments: "\n```<｜tool▁call▁end｜>",
    between: Some("\n"),
    close: "<｜tool▁calls▁end｜>",
    tokens: TOKENS,
    ..JSON_CALL
};

pub(super) const V3_1: ToolFormat = ToolFormat {
    name: "deepseek-v3.1",
    signs: &["<｜tool▁calls▁begin｜>", "<｜tool▁sep｜>"],
    mark: "<｜tool▁calls▁begin｜>",
    open: "<｜tool▁call▁begin｜>",
    before_name: "",
    before_arguments: "<｜tool▁sep｜>",
    after_arguments: "<｜tool▁call▁end｜>",
    between: Some("<｜tool▁call▁begin｜>"),
    close: "<｜tool▁calls▁end｜>",
    tokens: TOKENS,
    ..JSON_CALL
};
