//! `tools` of a chat request. Whether one is called is the model's choice.

use crate::dialects::fields::{Fields, missing, shown};
use crate::dialects::tools::{self, Read, Schema, distinct, read_list, take_name};
use crate::dialects::{Paths, ToolsAsk};
use crate::errors::BadRequest;
use engine::ToolChoice;
use serde_json::Value;

/// Takes the tools; `None` where there is none. The paths of what has no effect go to `ignored`.
pub(super) fn take(
    fields: &mut Fields,
    ignored: &mut Paths,
) -> Result<Option<ToolsAsk>, BadRequest> {
    let list = fields.list("tools")?.unwrap_or_default();
    if list.is_empty() {
        return Ok(None);
    }
    let tools = read_list(list, |path, tool| read(path, tool, ignored))?;
    let (callable, definitions) = distinct(tools)?;
    let (choice, is_parallel, custom) = (ToolChoice::Auto, true, Vec::new());
    Ok(Some(ToolsAsk { definitions, callable, choice, is_parallel, custom }))
}

fn read(path: &str, tool: Value, ignored: &mut Paths) -> Result<Read, BadRequest> {
    let mut fields = Fields::of(path, tool)?;
    let kind_path = fields.path("type");
    if let Some(kind) = fields.take("type").filter(|kind| kind != "function") {
        let why = format!("{}: this server knows \"function\" only", shown(&kind));
        return Err(BadRequest::unsupported(&kind_path, &why));
    }
    let function_path = fields.path("function");
    let function = fields.object("function")?;
    let mut function = function.ok_or_else(|| missing(&function_path, "an object"))?;
    let name = take_name(&mut function)?;
    let read = tools::read(&mut function, name, Schema::Optional("parameters"))?;
    // A schema is enforced either way.
    function.accept(&["strict"]);
    ignored.extend(function.rest());
    ignored.extend(fields.rest());
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::MAX_TOOLS;
    use serde_json::json;

    fn check(tools: Value, expected: Result<(&[&str], &[&str]), &str>) {
        let mut ignored = Paths::default();
        let body = json!({"tools": tools}).to_string();
        let found = take(&mut Fields::parse(body.as_bytes()).unwrap(), &mut ignored);
        let found = found.map_err(|bad| bad.param.unwrap()).map(|ask| {
            let names = ask.map(|ask| ask.callable.into_iter().map(|ask| ask.tool.name).collect());
            (names.unwrap_or_default(), ignored.kept().to_vec())
        });
        let owned = |list: &[&str]| list.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        let expected = expected.map(|(names, told)| (owned(names), owned(told)));
        assert_eq!(found, expected.map_err(str::to_owned), "{tools}");
    }

    #[test]
    fn tools_are_read_or_refused_by_path() {
        let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
        check(json!([]), Ok((&[], &[])));
        check(json!([tool("a"), {"function": {"name": "b"}}]), Ok((&["a", "b"], &[])));
        let strange = json!({"type": "function", "x": 1, "function": {"name": "a", "y": 1}});
        check(json!([strange]), Ok((&["a"], &["tools[0].function.y", "tools[0].x"])));
        check(json!([{"type": "web_search"}]), Err("tools[0].type"));
        check(json!([{"type": "function"}]), Err("tools[0].function"));
        check(json!([tool("a b")]), Err("tools[0].function.name"));
        check(json!([tool("a"), tool("a")]), Err("tools[1].function.name"));
        let list = json!({"function": {"name": "a", "parameters": []}});
        check(json!([list]), Err("tools[0].function.parameters"));
        let many: Vec<Value> = (0..=MAX_TOOLS).map(|i| tool(&i.to_string())).collect();
        check(json!(many), Err("tools"));
    }
}
