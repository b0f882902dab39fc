//! For models whose template knows no tools, Gemma 2 and 3 among them: Hermes' way of writing
//! calls, which more models have seen than any other, and a prompt of ours that says so.

use super::{ToolFormat, hermes::HERMES};
use serde_json::Value;

pub(super) const GENERIC: ToolFormat =
    ToolFormat { name: "generic", signs: &[], unlike: &[], ..HERMES };

/// What is said about the tools.
pub(super) fn prompt(tools: &Value) -> String {
    let mut text = String::from(
        "You may call functions to answer. These are the functions, with their parameters as JSON \
         schemas:\n<tools>\n",
    );
    for tool in tools.as_array().into_iter().flatten() {
        text.push_str(&tool.get("function").unwrap_or(tool).to_string());
        text.push('\n');
    }
    text.push_str(
        "</tools>\nTo call a function, write its name and its arguments like this, and wait for \
         the result:\n<tool_call>\n{\"name\": \"function name\", \"arguments\": {\"argument\": \
         \"value\"}}\n</tool_call>",
    );
    text
}

/// A result, as Hermes shows it.
pub(super) fn response(content: &str) -> String {
    format!("<tool_response>\n{content}\n</tool_response>")
}
