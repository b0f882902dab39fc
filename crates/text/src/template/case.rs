//! One case of the conformance kit: a conversation as JSON, rendered by a given template.
//!
//! The form is `{messages, tools, add_generation_prompt, kwargs, bos_token, eos_token, now}`;
//! further fields (its name, the expected text) are not looked at.

use jiff::civil::DateTime;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::{ChatInput, ChatTemplate, TemplateError};

#[derive(Deserialize)]
struct Case {
    messages: Json,
    #[serde(default)]
    tools: Option<Json>,
    #[serde(default = "yes")]
    add_generation_prompt: bool,
    #[serde(default)]
    kwargs: Map<String, Json>,
    #[serde(default)]
    bos_token: String,
    #[serde(default)]
    eos_token: String,
    /// `2026-03-14T15:09:26`: a date and time of day without a zone.
    now: String,
}

fn yes() -> bool {
    true
}

/// Renders the conformance case `case` (JSON text) with the template `source`.
///
/// # Errors
/// [`TemplateError::Case`] naming the field and place if `case` is not of the expected form;
/// otherwise as [`ChatTemplate::new`] and [`ChatTemplate::render`].
pub fn render_case(source: &str, case: &str) -> Result<String, TemplateError> {
    let case: Case = serde_json::from_str(case)?;
    let now: DateTime = case.now.parse().map_err(|_| {
        let expected = "\"now\": expected a time such as 2026-03-14T15:09:26";
        <serde_json::Error as serde::de::Error>::custom(format!("{expected}, got {:?}", case.now))
    })?;
    ChatTemplate::new(source)?.render(&ChatInput {
        messages: &case.messages,
        tools: case.tools.as_ref(),
        add_generation_prompt: case.add_generation_prompt,
        kwargs: &case.kwargs,
        bos_token: &case.bos_token,
        eos_token: &case.eos_token,
        now,
    })
}
