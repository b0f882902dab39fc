//! Items of a request (and of what it continues), brought into the form that chat templates expect.
//!
//! What the model made in one turn are several items, and one message of a template: a train of
//! thought, text and calls that follow each other are joined. So each message notes where its
//! fields came from. An item of a type that is not known here is refused: without it the model
//! would see another history than the client. Those that say nothing to a model which lacks their
//! vendor's tools are left out and told.

use super::super::messages::take_arguments;
use super::super::{custom, to_json};
use super::ids;
use super::tools::joined;
use crate::dialects::Paths;
use crate::dialects::fields::{Fields, missing, shown, wrong};
use crate::errors::BadRequest;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Fields of items that say nothing to a model: names, states, and marks for a vendor's cache and
/// screens.
const WITHOUT_EFFECT: &[&str] = &[
    "annotations",
    "caller",
    "created_by",
    "id",
    "logprobs",
    "parsed",
    "parsed_arguments",
    "phase",
    "prompt_cache_breakpoint",
    "status",
];
/// Parts that are no text. No model here reads them.
const NO_TEXT: &[&str] = &["computer_screenshot", "input_audio", "input_file", "input_image"];

/// Items of tools that only a vendor runs, with nothing in them that a model here could read: which
/// search was made but not what it found, and pictures. Agents that change
/// servers in the middle of a conversation bring them back. Others, which hold what a tool said
/// or stand for turns that are gone, are refused.
const LEFT_OUT: &[&str] = &[
    "computer_call",
    "computer_call_output",
    "file_search_call",
    "image_generation_call",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_list_tools",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
];

/// What stands before a train of thought in `encrypted_content`, which other servers' clients bring
/// back unread. It holds no secret: the client has the same text beside it.
pub(super) const OWN_REASONING: &str = "freehold-reasoning:";

/// A conversation in the form of templates.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Conversation {
    messages: Vec<Map<String, Value>>,
    /// Of each message, its fields' places in the request.
    places: Vec<Vec<(&'static str, String)>>,
}

impl Conversation {
    /// The messages as templates take them, and the places of their fields.
    pub(super) fn into_parts(self) -> (Value, Vec<Vec<(&'static str, String)>>) {
        (self.messages.into_iter().map(Value::Object).collect(), self.places)
    }

    /// Adds a message of the system, unless it says nothing: some templates have one of their own
    /// where there is none.
    pub(super) fn system(&mut self, place: &str, text: &str) {
        if !text.is_empty() {
            self.push("system", place, text);
        }
    }

    /// Adds what the item at `path` says; the paths of what has no effect go to `ignored`.
    pub(super) fn item(
        &mut self,
        path: &str,
        item: Value,
        ignored: &mut Paths,
    ) -> Result<(), BadRequest> {
        let mut fields = Fields::of(path, item)?;
        let kind = fields.text("type")?;
        match kind.as_deref() {
            None | Some("message") => self.message(path, &mut fields, ignored)?,
            Some("reasoning") => self.reasoning(path, &mut fields, ignored)?,
            Some("function_call") => {
                let arguments = take_arguments(&mut fields)?;
                self.call(path, &mut fields, arguments)?;
            }
            Some("custom_tool_call") => {
                let arguments = custom::arguments(&take_text(&mut fields, "input")?);
                self.call(path, &mut fields, arguments)?;
            }
            Some("function_call_output" | "custom_tool_call_output") => {
                self.output(&mut fields, ignored)?;
            }
            Some(kind) if LEFT_OUT.contains(&kind) => {
                ignored.push(path.to_owned());
                return Ok(());
            }
            Some(kind) => {
                let why = format!("{}: this server knows no such item", shown(&kind.into()));
                return Err(BadRequest::unsupported(&format!("{path}.type"), &why));
            }
        }
        fields.accept(WITHOUT_EFFECT);
        ignored.extend(fields.rest());
        Ok(())
    }

    fn message(
        &mut self,
        path: &str,
        fields: &mut Fields,
        ignored: &mut Paths,
    ) -> Result<(), BadRequest> {
        let role = fields.take("role").unwrap_or(Value::Null);
        let place = fields.path("content");
        let text = take_texts(fields, "content", ignored)?;
        match role.as_str() {
            // `developer` is the newer name of `system`; templates know only the older.
            Some("system" | "developer") => self.system(&place, &text),
            Some("user") => self.push("user", &place, &text),
            Some("assistant") => self.append("content", &place, &text),
            _ => {
                let expected =
                    "one of \"user\", \"assistant\", \"system\", \"developer\" (a message)";
                return Err(wrong(&format!("{path}.role"), &role, expected));
            }
        }
        Ok(())
    }

    /// A train of thought: the text itself where it is there, else what stands for it.
    fn reasoning(
        &mut self,
        path: &str,
        fields: &mut Fields,
        ignored: &mut Paths,
    ) -> Result<(), BadRequest> {
        let content = take_parts(fields, "content", &["reasoning_text", "text"], ignored)?;
        let summary = take_parts(fields, "summary", &["summary_text"], ignored)?;
        let encrypted_path = fields.path("encrypted_content");
        let encrypted = fields.text("encrypted_content")?;
        let own = encrypted.as_deref().and_then(|text| text.strip_prefix(OWN_REASONING));
        // Nobody but the vendor can read another's.
        if encrypted.is_some() && own.is_none() {
            ignored.push(encrypted_path);
        }
        let texts = [content.as_str(), own.unwrap_or_default(), summary.as_str()];
        if let Some(text) = texts.into_iter().find(|text| !text.is_empty()) {
            self.append("reasoning_content", path, text);
        }
        Ok(())
    }

    fn call(
        &mut self,
        path: &str,
        fields: &mut Fields,
        arguments: Value,
    ) -> Result<(), BadRequest> {
        let [id, name] = [take_text(fields, "call_id")?, take_text(fields, "name")?];
        let namespace = fields.text("namespace")?.filter(|namespace| !namespace.is_empty());
        let name = namespace.map_or(name.clone(), |namespace| joined(&namespace, &name));
        let function = json!({"name": name, "arguments": arguments});
        let call = json!({"type": "function", "function": function, "id": id});
        self.append("content", path, "");
        let (Some(last), Some(places)) = (self.messages.last_mut(), self.places.last_mut()) else {
            return Ok(());
        };
        match last.get_mut("tool_calls") {
            Some(Value::Array(calls)) => calls.push(call),
            _ => {
                last.insert("tool_calls".to_owned(), json!([call]));
                places.push(("tool_calls", path.to_owned()));
            }
        }
        Ok(())
    }

    fn output(&mut self, fields: &mut Fields, ignored: &mut Paths) -> Result<(), BadRequest> {
        let id = take_text(fields, "call_id")?;
        let place = fields.path("output");
        let text = take_texts(fields, "output", ignored)?;
        self.push("tool", &place, &text);
        if let Some(last) = self.messages.last_mut() {
            last.insert("tool_call_id".to_owned(), id.into());
        }
        Ok(())
    }

    fn push(&mut self, role: &str, place: &str, text: &str) {
        let message = json!({"role": role, "content": text});
        self.messages.extend(message.as_object().cloned());
        self.places.push(vec![("content", place.to_owned())]);
    }

    /// Appends to a text of the model's message at hand, in a line of its own, what is not empty.
    fn append(&mut self, field: &'static str, place: &str, more: &str) {
        if self.messages.last().is_none_or(|last| last["role"] != "assistant") {
            self.push("assistant", place, "");
        }
        let (Some(last), Some(places)) = (self.messages.last_mut(), self.places.last_mut()) else {
            return;
        };
        if more.is_empty() {
            return;
        }
        if let Value::String(text) = last.entry(field).or_insert_with(|| "".into()) {
            if text.is_empty() {
                places.retain(|(name, _)| *name != field);
                places.push((field, place.to_owned()));
            } else {
                text.push('\n');
            }
            text.push_str(more);
        }
    }
}

/// Path of a message's field, or of the message where no item has it.
pub(super) fn place(places: &[(&'static str, String)], field: &str) -> String {
    let own = places.iter().find(|(name, _)| *name == field);
    match (own, places.first()) {
        (Some((_, place)), _) => place.clone(),
        (None, Some((_, first))) => format!("{first}.{field}"),
        (None, None) => format!("input.{field}"),
    }
}

/// Takes `input`: a text of the user's, or items.
pub(super) fn take(fields: &mut Fields) -> Result<Vec<Value>, BadRequest> {
    match fields.take("input") {
        Some(Value::String(text)) => Ok(vec![json!({"role": "user", "content": text})]),
        Some(Value::Array(list)) => Ok(list),
        Some(other) => Err(wrong("input", &other, "a string or an array of items")),
        None => Err(missing("input", "a string or an array of items")),
    }
}

/// The id of the item that an item refers to: the type may be left out.
pub(super) fn reference(item: &Value) -> Option<&str> {
    let is_typed = item["type"] == "item_reference";
    // With anything else it is a message that lacks something, which is to be said.
    let is_bare = || {
        let mut others = item.as_object().into_iter().flatten().filter(|(name, _)| *name != "id");
        others.all(|(_, value)| value.is_null())
    };
    item["id"].as_str().filter(|_| is_typed || is_bare())
}

/// Whether an item refers to another, however badly.
pub(super) fn is_reference(item: &Value) -> bool {
    item["type"] == "item_reference" || reference(item).is_some()
}

/// Fields of items that are kept, and those of their parts.
const KEPT: &[&str] = &[
    "arguments",
    "call_id",
    "content",
    "input",
    "name",
    "namespace",
    "output",
    "role",
    "status",
    "summary",
    "type",
];
const KEPT_OF_PARTS: &[&str] = &["refusal", "text", "type"];

/// What is kept of a field: texts, and parts that have some.
#[derive(Serialize)]
#[serde(untagged)]
enum Known<'a> {
    Text(&'a str),
    Own(String),
    Parts(Vec<BTreeMap<&'static str, &'a str>>),
}

/// A JSON array of items that make up a conversation, without what says nothing in it: as they are
/// kept.
pub(super) fn known(items: &[Value]) -> String {
    to_json(&items.iter().map(known_item).collect::<Vec<_>>())
}

fn known_item(item: &Value) -> BTreeMap<&'static str, Known<'_>> {
    let field = |name: &&'static str| Some((*name, known_field(name, &item[*name])?));
    let mut known: BTreeMap<_, _> = KEPT.iter().filter_map(field).collect();
    // Of a train of thought, one of the forms that say it.
    if item["type"] == "reasoning" {
        let mut parts = item["content"].as_array().into_iter().flatten();
        let says = parts.any(|part| part["text"].as_str().is_some_and(|text| !text.is_empty()));
        let encrypted = item["encrypted_content"].as_str();
        let own = encrypted.and_then(|text| text.strip_prefix(OWN_REASONING));
        if let Some(own) = own.filter(|_| !says) {
            let part = BTreeMap::from([("type", "reasoning_text"), ("text", own)]);
            known.insert("content", Known::Parts(vec![part]));
        }
        if says || own.is_some() {
            known.insert("summary", Known::Parts(Vec::new()));
        }
    }
    known
}

fn known_field<'a>(name: &str, value: &'a Value) -> Option<Known<'a>> {
    match value {
        Value::String(text) => Some(Known::Text(text)),
        Value::Array(parts) => {
            let text = |part: &'a Value| {
                move |name: &&'static str| Some((*name, part.get(*name)?.as_str()?))
            };
            let part = |part| KEPT_OF_PARTS.iter().filter_map(text(part)).collect();
            Some(Known::Parts(parts.iter().map(part).collect()))
        }
        // As clients read them, who may send them as they are.
        Value::Object(_) if name == "arguments" => Some(Known::Own(value.to_string())),
        _ => None,
    }
}

/// The items of a list that was kept, as they are listed: with a type, an id and a state, and
/// contents in parts. Ids are ours, so that no two items of a conversation have the same.
pub(super) fn listed(answer_id: &str, items: Vec<Value>) -> Vec<Value> {
    let listed = |(item_idx, item): (usize, Value)| {
        let Value::Object(mut item) = item else { return item };
        let default = |item: &mut Map<String, Value>, name: &str, value: Value| {
            let place = item.entry(name).or_insert(Value::Null);
            if place.is_null() {
                *place = value;
            }
        };
        default(&mut item, "type", "message".into());
        item.insert("id".to_owned(), ids::input(answer_id, item_idx).into());
        if item["type"] != "reasoning" {
            default(&mut item, "status", "completed".into());
        }
        if item["type"] == "message"
            && let Some(Value::String(text)) = item.get("content")
        {
            let part = match item["role"] == "assistant" {
                true => json!({"type": "output_text", "text": text, "annotations": []}),
                false => json!({"type": "input_text", "text": text}),
            };
            item.insert("content".to_owned(), json!([part]));
        }
        Value::Object(item)
    };
    items.into_iter().enumerate().map(listed).collect()
}

/// A string, or parts that are all text: joined by line breaks, as those of a chat are.
fn take_texts(fields: &mut Fields, name: &str, ignored: &mut Paths) -> Result<String, BadRequest> {
    let path = fields.path(name);
    match fields.take(name) {
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(parts)) => {
            let kinds = &["input_text", "output_text", "refusal", "text"];
            read_parts(&path, parts, kinds, ignored)
        }
        Some(other) => Err(wrong(&path, &other, "a string or an array of parts")),
        None => Err(missing(&path, "a string or an array of parts")),
    }
}

/// Parts of one of these types; nothing where there are none.
fn take_parts(
    fields: &mut Fields,
    name: &str,
    kinds: &[&str],
    ignored: &mut Paths,
) -> Result<String, BadRequest> {
    let path = fields.path(name);
    let parts = fields.list(name)?.unwrap_or_default();
    read_parts(&path, parts, kinds, ignored)
}

fn read_parts(
    path: &str,
    parts: Vec<Value>,
    kinds: &[&str],
    ignored: &mut Paths,
) -> Result<String, BadRequest> {
    let mut texts = Vec::with_capacity(parts.len());
    for (part_idx, part) in parts.into_iter().enumerate() {
        let path = format!("{path}[{part_idx}]");
        let mut part = Fields::of(&path, part)?;
        let kind = part.take("type").unwrap_or(Value::Null);
        match kind.as_str() {
            Some(word) if kinds.contains(&word) => {
                let field = if word == "refusal" { "refusal" } else { "text" };
                texts.push(take_text(&mut part, field)?);
            }
            Some(word) => {
                let why = if NO_TEXT.contains(&word) {
                    "this model reads text only".to_owned()
                } else {
                    format!("expected one of {}", kinds.join(", "))
                };
                let why = format!("{}: {why}", shown(&kind));
                return Err(BadRequest::unsupported(&format!("{path}.type"), &why));
            }
            None => return Err(wrong(&format!("{path}.type"), &kind, "the type of a part")),
        }
        part.accept(WITHOUT_EFFECT);
        ignored.extend(part.rest());
    }
    Ok(texts.join("\n"))
}

fn take_text(fields: &mut Fields, name: &str) -> Result<String, BadRequest> {
    let path = fields.path(name);
    fields.text(name)?.ok_or_else(|| missing(&path, "a string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of items: messages, and what is ignored.
    fn read(items: &str) -> Result<(Conversation, Vec<String>), BadRequest> {
        let mut ignored = Paths::default();
        let mut conversation = Conversation::default();
        let items: Vec<Value> = serde_json::from_str(items).unwrap();
        for (item_idx, item) in items.into_iter().enumerate() {
            conversation.item(&format!("input[{item_idx}]"), item, &mut ignored)?;
        }
        Ok((conversation, ignored.kept().to_vec()))
    }

    fn check(items: &str, expected: Value, ignored: &[&str]) {
        let (found, found_ignored) = read(items).unwrap();
        assert_eq!(found.into_parts().0, expected, "{items}");
        assert_eq!(found_ignored, ignored, "{items}");
    }

    #[test]
    fn messages_are_taken_in_every_form() {
        check(
            r#"[{"role":"developer","content":"d"},{"type":"message","role":"system","content":""},
                {"type":"message","role":"user","content":[{"type":"input_text","text":"a"},
                 {"type":"input_text","text":"b","prompt_cache_breakpoint":{"mode":"explicit"}}]},
                {"id":"msg_1","type":"message","role":"assistant","status":"completed",
                 "phase":"final_answer","content":[{"type":"output_text","text":"c",
                 "annotations":[],"logprobs":[]},{"type":"refusal","refusal":"no"}]},
                {"role":"user","content":""},{"role":"user","content":"e","name":"ann"}]"#,
            json!([
                {"role": "system", "content": "d"},
                {"role": "user", "content": "a\nb"},
                {"role": "assistant", "content": "c\nno"},
                {"role": "user", "content": ""},
                {"role": "user", "content": "e"},
            ]),
            &["input[5].name"],
        );
    }

    #[test]
    fn what_the_model_made_in_one_turn_is_one_message() {
        let items = r#"[{"role":"user","content":"go"},
            {"id":"rs_1","type":"reasoning","summary":[],"status":"completed",
             "content":[{"type":"reasoning_text","text":"Hm."}]},
            {"role":"assistant","content":"So:"},
            {"type":"function_call","call_id":"1","name":"f","arguments":"{\"x\":1}","id":"fc_1"},
            {"type":"function_call","call_id":"2","name":"g","arguments":"no","namespace":"n"},
            {"type":"function_call_output","call_id":"1","output":"r"},
            {"type":"function_call_output","call_id":"2","output":[
             {"type":"input_text","text":"s"},{"type":"input_text","text":"t"}]},
            {"type":"function_call","call_id":"3","name":"f","arguments":"{}"},
            {"role":"user","content":"on"}]"#;
        let call = |id: &str, name: &str, arguments: Value| {
            let function = json!({"name": name, "arguments": arguments});
            json!({"type": "function", "function": function, "id": id})
        };
        check(
            items,
            json!([
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": "So:", "reasoning_content": "Hm.",
                    "tool_calls": [call("1", "f", json!({"x": 1})), call("2", "n__g", json!("no"))]},
                {"role": "tool", "content": "r", "tool_call_id": "1"},
                {"role": "tool", "content": "s\nt", "tool_call_id": "2"},
                {"role": "assistant", "content": "", "tool_calls": [call("3", "f", json!({}))]},
                {"role": "user", "content": "on"},
            ]),
            &[],
        );
        let (_, places) = read(items).unwrap().0.into_parts();
        let found = |message_idx: usize, field: &str| place(&places[message_idx], field);
        assert_eq!(found(0, "content"), "input[0].content");
        assert_eq!(found(0, "name"), "input[0].content.name");
        assert_eq!(found(1, "reasoning_content"), "input[1]");
        assert_eq!(found(1, "content"), "input[2].content");
        assert_eq!(found(1, "tool_calls"), "input[3]");
        assert_eq!(found(3, "content"), "input[6].output");
        assert_eq!(found(4, "tool_calls"), "input[7]");
    }

    #[test]
    fn what_only_a_vendors_tools_can_read_is_left_out_and_told() {
        let items = r#"[{"role":"user","content":"go"},
            {"role":"assistant","content":"So:"},
            {"type":"web_search_call","id":"ws_1","status":"completed","action":{"query":"x"}},
            {"type":"image_generation_call","id":"ig_1","status":"completed","result":"iVBOR"},
            {"role":"assistant","content":"Yes."}]"#;
        check(
            items,
            json!([
                {"role": "user", "content": "go"},
                {"role": "assistant", "content": "So:\nYes."},
            ]),
            &["input[2]", "input[3]"],
        );
        for kind in LEFT_OUT {
            check(&format!(r#"[{{"type":"{kind}"}}]"#), json!([]), &["input[0]"]);
        }
    }

    #[test]
    fn a_call_with_a_text_is_one_of_a_function() {
        let call = json!({"type": "custom_tool_call", "call_id": "1", "name": "t", "input": "a\n",
            "status": "completed", "id": "ctc_1"});
        let output = json!({"type": "custom_tool_call_output", "call_id": "1", "output": "r"});
        let function = json!({"name": "t", "arguments": {"input": "a\n"}});
        check(
            &json!([call, output]).to_string(),
            json!([
                {"role": "assistant", "content": "",
                    "tool_calls": [{"type": "function", "function": function, "id": "1"}]},
                {"role": "tool", "content": "r", "tool_call_id": "1"},
            ]),
            &[],
        );
        // What is kept of it says the same.
        let kept = known(std::slice::from_ref(&call));
        assert_eq!(read(&kept).unwrap().0, read(&json!([call]).to_string()).unwrap().0);
    }

    #[test]
    fn a_train_of_thought_is_found_wherever_it_stands() {
        let read = |fields: &str| {
            let items = format!(
                r#"[{{"type":"reasoning",{fields}}},{{"role":"assistant","content":"a"}}]"#
            );
            let (found, ignored) = read(&items).unwrap();
            (found.into_parts().0[0]["reasoning_content"].as_str().map(str::to_owned), ignored)
        };
        let content = r#""content":[{"type":"reasoning_text","text":"c"}]"#;
        let summary = r#""summary":[{"type":"summary_text","text":"s"}]"#;
        let own = r#""encrypted_content":"freehold-reasoning:o""#;
        let foreign = r#""encrypted_content":"gAAAA""#;
        let some = |text: &str| Some(text.to_owned());
        let told = || vec!["input[0].encrypted_content".to_owned()];
        assert_eq!(read(&format!("{content},{summary},{own}")), (some("c"), vec![]));
        assert_eq!(read(&format!(r#""content":null,{summary},{own}"#)), (some("o"), vec![]));
        assert_eq!(read(&format!("{summary},{foreign}")), (some("s"), told()));
        assert_eq!(read(&format!(r#""summary":[],{foreign}"#)), (None, told()));
        assert_eq!(read(r#""summary":[],"encrypted_content":null"#), (None, vec![]));
    }

    #[test]
    fn references_are_told_from_messages() {
        let check = |item: Value, expected: Option<&str>| {
            assert_eq!(reference(&item), expected, "{item}");
        };
        check(json!({"type": "item_reference", "id": "msg_1"}), Some("msg_1"));
        check(json!({"type": null, "id": "msg_1"}), Some("msg_1"));
        check(json!({"id": "msg_1", "role": "user", "content": "a"}), None);
        check(json!({"id": "msg_1", "content": "a"}), None);
        check(json!({"id": "msg_1", "role": null, "content": null}), Some("msg_1"));
        check(json!({"id": "msg_1", "type": "message", "content": "a"}), None);
        check(json!({"type": "item_reference", "id": 7}), None);
        check(json!("x"), None);
        assert!(is_reference(&json!({"type": "item_reference", "id": 7})));
    }

    #[test]
    fn only_what_makes_the_conversation_is_kept() {
        let part = json!({"type": "input_text", "text": "a", "x": "y", "annotations": [{"x": 1}]});
        let thought = json!([{"type": "reasoning_text", "text": "c"}]);
        let brief = json!([{"type": "summary_text", "text": "s"}]);
        let own = "freehold-reasoning:c";
        let kept = |item: Value| -> Value {
            let kept = known(std::slice::from_ref(&item));
            serde_json::from_str::<Value>(&kept).unwrap()[0].clone()
        };
        assert_eq!(
            kept(json!({"role": "user", "content": [part], "x": "y", "id": "z", "status": {}})),
            json!({"role": "user", "content": [{"type": "input_text", "text": "a"}]})
        );
        assert_eq!(
            kept(json!({"type": "function_call", "call_id": "1", "name": "f", "namespace": "n",
                "arguments": {"x": 1}, "parsed_arguments": {"x": 1}, "caller": {}})),
            json!({"type": "function_call", "call_id": "1", "name": "f", "namespace": "n",
                "arguments": "{\"x\":1}"})
        );
        let whole = json!({"type": "reasoning", "content": thought, "summary": []});
        for (content, encrypted, expected) in [
            (thought.clone(), json!(own), whole.clone()),
            (json!([{"type": "reasoning_text", "text": ""}]), json!(own), whole),
            (json!(null), json!("x"), json!({"type": "reasoning", "summary": brief})),
        ] {
            let item = json!({"type": "reasoning", "content": content, "summary": brief,
                "encrypted_content": encrypted});
            assert_eq!(kept(item.clone()), expected);
            // It says the same as the item itself.
            let said = |item: &Value| read(&format!("[{item}]")).unwrap().0;
            assert_eq!(said(&expected), said(&item));
        }
    }

    #[test]
    fn listed_items_have_what_clients_read() {
        let items = vec![
            json!({"role": "user", "content": "a"}),
            json!({"type": null, "id": "in_x_0", "role": "assistant", "content": "b"}),
            json!({"type": "function_call_output", "call_id": "1", "output": "c"}),
            json!({"type": "reasoning", "summary": []}),
        ];
        let input = json!([{"type": "input_text", "text": "a"}]);
        let output = json!([{"type": "output_text", "text": "b", "annotations": []}]);
        assert_eq!(
            Value::from(listed("x", items)),
            json!([
                {"type": "message", "id": "in_x_0", "status": "completed", "role": "user",
                    "content": input},
                {"type": "message", "id": "in_x_1", "status": "completed", "role": "assistant",
                    "content": output},
                {"type": "function_call_output", "id": "in_x_2", "status": "completed",
                    "call_id": "1", "output": "c"},
                {"type": "reasoning", "id": "in_x_3", "summary": []},
            ])
        );
    }

    #[test]
    fn wrong_items_are_refused_by_path() {
        let check = |item: &str, expected: &str| {
            let error = read(&format!("[{item}]")).unwrap_err();
            assert_eq!(error.message, format!("input[0]{expected}"), "{item}");
            assert!(error.message.starts_with(&error.param.unwrap()));
        };
        check("7", ": 7: expected an object");
        check(
            r#"{"type":"mcp_call","id":"x"}"#,
            r#".type: "mcp_call": this server knows no such item"#,
        );
        check(
            r#"{"role":"tool","content":"x"}"#,
            r#".role: "tool": expected one of "user", "assistant", "system", "developer" (a message)"#,
        );
        check(r#"{"role":"user"}"#, ".content: absent: expected a string or an array of parts");
        check(
            r#"{"role":"user","content":[{"type":"input_image","image_url":"x"}]}"#,
            r#".content[0].type: "input_image": this model reads text only"#,
        );
        check(
            r#"{"role":"user","content":[{"type":"image_url"}]}"#,
            r#".content[0].type: "image_url": expected one of input_text, output_text, refusal, text"#,
        );
        check(
            r#"{"role":"user","content":[{"text":"x"}]}"#,
            ".content[0].type: null: expected the type of a part",
        );
        check(
            r#"{"role":"user","content":[{"type":"input_text"}]}"#,
            ".content[0].text: absent: expected a string",
        );
        check(
            r#"{"type":"function_call","name":"f","arguments":"{}"}"#,
            ".call_id: absent: expected a string",
        );
        check(
            r#"{"type":"custom_tool_call","call_id":"1","name":"t"}"#,
            ".input: absent: expected a string",
        );
        check(
            r#"{"type":"function_call","call_id":"1","name":"f","arguments":7}"#,
            ".arguments: 7: expected a string of JSON",
        );
        check(
            r#"{"type":"function_call_output","call_id":"1"}"#,
            ".output: absent: expected a string or an array of parts",
        );
        check(
            r#"{"type":"reasoning","content":[{"type":"summary_text","text":"x"}]}"#,
            r#".content[0].type: "summary_text": expected one of reasoning_text, text"#,
        );
        check(r#"{"type":"reasoning","summary":"x"}"#, r#".summary: "x": expected an array"#);
    }
}
