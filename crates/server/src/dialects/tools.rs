//! Tools as all families have them: a name, a description and a schema, in fields of other names.

use super::fields::{Fields, missing, wrong};
use super::{CustomAsk, ToolAsk};
use crate::errors::BadRequest;
use engine::{MAX_TOOLS, Tool};
use serde_json::{Value, json};

/// A tool that was read.
pub(crate) struct Read {
    pub(crate) ask: ToolAsk,
    /// As templates read it.
    pub(crate) definition: Value,
    pub(crate) name_path: String,
    /// Of one that takes a text.
    pub(crate) custom: Option<CustomAsk>,
}

/// The field that has the schema of a tool's arguments, and whether it may be left out.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Schema {
    Required(&'static str),
    /// Without it there are no arguments.
    Optional(&'static str),
}

/// Takes the name, as most families bound it.
pub(crate) fn take_name(fields: &mut Fields) -> Result<String, BadRequest> {
    let path = fields.path("name");
    let name = fields.text("name")?.ok_or_else(|| missing(&path, "a string"))?;
    match Tool::is_name(&name) {
        true => Ok(name),
        false => Err(wrong(&path, &name.into(), "1 to 128 of a-z, A-Z, 0-9, _ and -")),
    }
}

/// The tool of this name, of which the fields tell the rest.
pub(crate) fn read(fields: &mut Fields, name: String, schema: Schema) -> Result<Read, BadRequest> {
    let description = fields.text("description")?.unwrap_or_default();
    let (Schema::Required(field) | Schema::Optional(field)) = schema;
    let param = fields.path(field);
    let parameters = match (fields.take(field), schema) {
        (Some(schema @ Value::Object(_)), _) => schema,
        (Some(other), _) => return Err(wrong(&param, &other, "a JSON schema")),
        (None, Schema::Optional(_)) => json!({"type": "object", "properties": {}}),
        (None, Schema::Required(_)) => return Err(missing(&param, "a JSON schema")),
    };
    let definition = definition(&name, &description, &parameters);
    let tool = Tool { name, parameters: Some(parameters), texts: None };
    let ask = ToolAsk { tool, param, is_strict: false };
    let name_path = fields.path("name");
    Ok(Read { ask, definition, name_path, custom: None })
}

/// A tool as templates read it.
pub(crate) fn definition(name: &str, description: &str, parameters: &Value) -> Value {
    let function = json!({"name": name, "description": description, "parameters": parameters});
    json!({"type": "function", "function": function})
}

/// The tools of a list, each read by `read` from its path and value; not too many.
pub(crate) fn read_list(
    list: Vec<Value>,
    mut read: impl FnMut(&str, Value) -> Result<Read, BadRequest>,
) -> Result<Vec<Read>, BadRequest> {
    if list.len() > MAX_TOOLS {
        let problem = format!("{} tools: expected at most {MAX_TOOLS}", list.len());
        return Err(BadRequest::field("tools", &problem));
    }
    let tools = list.into_iter().enumerate();
    tools.map(|(tool_idx, tool)| read(&format!("tools[{tool_idx}]"), tool)).collect()
}

/// What may be called and the definitions of all, where each name comes once.
pub(crate) fn distinct(tools: Vec<Read>) -> Result<(Vec<ToolAsk>, Value), BadRequest> {
    let mut callable: Vec<ToolAsk> = Vec::with_capacity(tools.len());
    let mut definitions = Vec::with_capacity(tools.len());
    for Read { ask, definition, name_path, .. } in tools {
        if callable.iter().any(|other| other.tool.name == ask.tool.name) {
            let problem = format!("{:?}: given twice, expected each name once", ask.tool.name);
            return Err(BadRequest::field(&name_path, &problem));
        }
        callable.push(ask);
        definitions.push(definition);
    }
    Ok((callable, definitions.into()))
}
