//! Mistral: behind its mark a list of calls (Mistral 7B 0.3, Nemo, Small 3.1), or with tokenizers
//! from version 11 on the mark, the name and the arguments of each (Devstral, Small 3.2,
//! Magistral).
//!
//! The ids that some of these models write behind a call are not asked for: the server gives ids.

use super::{JSON_CALL, JSON_CALLS, ToolFormat};

pub(super) const LIST: ToolFormat = ToolFormat {
    name: "mistral",
    signs: &["[TOOL_CALLS]"],
    mark: "[TOOL_CALLS]",
    tokens: &["[TOOL_CALLS]"],
    ..JSON_CALLS
};

pub(super) const NAMED: ToolFormat = ToolFormat {
    name: "mistral-named",
    signs: &["[TOOL_CALLS]", "[ARGS]"],
    mark: "[TOOL_CALLS]",
    before_name: "",
    before_arguments: "[ARGS]",
    after_arguments: "",
    between: Some("[TOOL_CALLS]"),
    tokens: &["[TOOL_CALLS]", "[ARGS]"],
    ..JSON_CALL
};
