//! A tool of which calls are held to as much of its schema as can be, where its client does not
//! insist on all of it: agents bring tools that others wrote, and one that says more than a grammar
//! can must not stop the others.

use super::arguments::Form;
use super::grammar::arguments_schema;
use super::spelling::is_known;
use super::{Tool, ToolFormat};
use crate::constraint::{ConstraintError, LeftOut, is_annotation, relax};
use serde_json::Value;

impl ToolFormat {
    /// The tool without what of its schema cannot be enforced in calls that are written so, and
    /// what that is. Compiling a [`CallGrammar`](super::CallGrammar) refuses it.
    ///
    /// # Errors
    /// A schema that is none, is not of an object, or is larger than accepted.
    pub fn relaxed(&self, tool: &Tool) -> Result<(Tool, LeftOut), ConstraintError> {
        let mut left_out = LeftOut::default();
        // What has a grammar of its own has a schema of ours.
        if tool.texts.is_some() {
            return Ok((tool.clone(), left_out));
        }
        let mut schema = arguments_schema(tool.parameters.as_ref())?;
        if self.arguments != Form::Json {
            leave_out_of_whole(&mut schema, &mut left_out);
        }
        let mut schema = relax(&schema, &mut left_out)?;
        if left_out.n_all == 0 {
            return Ok((tool.clone(), left_out));
        }
        // What was left out may have allowed arguments that are not listed.
        if let Some(map) = schema.as_object_mut() {
            map.entry("additionalProperties").or_insert(Value::Bool(true));
        }
        Ok((Tool { parameters: Some(schema), ..tool.clone() }, left_out))
    }
}

/// Takes out what a schema says about the object as a whole, which cannot be held to where
/// arguments are not one JSON text.
fn leave_out_of_whole(schema: &mut Value, left_out: &mut LeftOut) {
    let Some(map) = schema.as_object_mut() else { return };
    map.retain(|keyword, _| {
        let stays = is_known(keyword) || is_annotation(keyword) || keyword.starts_with("x-");
        if !stays {
            left_out.push("#", keyword);
        }
        stays
    });
    let properties = map.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(Value::Array(required)) = map.get_mut("required") {
        let n_required = required.len();
        required.retain(|name| name.as_str().is_none_or(|name| properties.contains_key(name)));
        if required.len() < n_required {
            left_out.push("#", "required");
        }
    }
}
