//! Llama 3.1 to 3.3 (Meta): the answer is a JSON object, with or without the mark for code in front
//! of it. Its template knows one call at a time.

use super::ToolFormat;

pub(super) const JSON: ToolFormat = ToolFormat {
    name: "llama3",
    // The words with which the template asks for calls.
    signs: &["\"parameters\": dictionary of argument name and its value}"],
    unlike: &[],
    mark: "<|python_tag|>",
    is_bare: true,
    open: "",
    before_name: "{\"name\": \"",
    before_arguments: "\", \"parameters\": ",
    after_arguments: "}",
    between: None,
    close: "",
    tokens: &["<|python_tag|>"],
};
