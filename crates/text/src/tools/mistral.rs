//! Mistral: behind its mark a list of calls (Mistral 7B 0.3, Nemo, Small 3.1), or with tokenizers
//! from version 11 on the mark, the name and the arguments of each (Devstral, Small 3.2,
//! Magistral).
//!
//! The ids that some of these models write behind a call are not asked for: the server gives ids.

use super::ToolFormat;

pub(super) const LIST: ToolFormat = ToolFormat {
    name: "mistral",
    signs: &["[TOOL_CALLS]"],
    unlike: &[],
    mark: "[TOOL_CALLS]",
    is_bare: false,
    open: "[",
    before_name: "{\"name\": \"",
    before_arguments: "\", \"arguments\": ",
    after_arguments: "}",
    between: Some(", "),
    close: "]",
    tokens: &["[TOOL_CALLS]"],
};

pub(super) const NAMED: ToolFormat = ToolFormat {
    name: "mistral-named",
    signs: &["[TOOL_CALLS]", "[ARGS]"],
    unlike: &[],
    mark: "[TOOL_CALLS]",
    is_bare: false,
    open: "",
    before_name: "",
    before_arguments: "[ARGS]",
    after_arguments: "",
    between: Some("[TOOL_CALLS]"),
    close: "",
    tokens: &["[TOOL_CALLS]", "[ARGS]"],
};
