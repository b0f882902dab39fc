//! Llama (Meta). 3.1 to 3.3: the answer is a JSON object, with or without the mark for code in
//! front of it; the template knows one call at a time. Where a template asks for it (Llama 3.2 and
//! 4): a list of calls as Python writes them.

use super::arguments::Form;
use super::{JSON_CALL, ToolFormat};

pub(super) const JSON: ToolFormat = ToolFormat {
    name: "llama3",
    // The words with which the template asks for calls.
    signs: &["\"parameters\": dictionary of argument name and its value}"],
    mark: "<|python_tag|>",
    is_bare: true,
    before_arguments: "\", \"parameters\": ",
    tokens: &["<|python_tag|>"],
    ..JSON_CALL
};

pub(super) const PYTHON: ToolFormat = ToolFormat {
    name: "pythonic",
    // The words with which Meta's prompt asks for calls.
    signs: &["[func_name1(params_name1=params_value1"],
    mark: "<|python_tag|>",
    is_bare: true,
    open: "[",
    before_name: "",
    before_arguments: "(",
    arguments: Form::Python,
    after_arguments: ")",
    between: Some(", "),
    close: "]",
    tokens: &["<|python_tag|>"],
    ..JSON_CALL
};
