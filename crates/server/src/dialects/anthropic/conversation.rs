//! `system` and `messages`, brought into the form that chat templates expect.
//!
//! A turn of the user's may hold results of tools, which are messages of their own in templates,
//! and turns of one role that follow each other are one. So each message notes where it came from.
//! What a block says is taken, or the block is refused by its type; other fields are told of.

use crate::dialects::Paths;
use crate::dialects::fields::{Fields, missing, shown, wrong};
use crate::errors::BadRequest;
use engine::ChatEnd;
use serde_json::{Map, Value, json};

/// Fields of blocks that ask for nothing this server could fail to do: hints at what a paid cache
/// is to keep, and what answers have beside what they say.
const WITHOUT_EFFECT: &[&str] = &["cache_control", "caller", "citations", "signature"];
/// Blocks that are no text. No model here reads them.
const NO_TEXT: &[&str] = &["container_upload", "image", "video"];
/// What stands before the result of a tool that failed, which templates have no field for.
const FAILED: &str = "Error: ";

/// A conversation in the form of templates.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Conversation {
    /// A JSON array of objects.
    pub(super) messages: Value,
    /// Where each of them begins in the request, like `messages[1]`.
    pub(super) places: Vec<String>,
    /// Whether the last message is continued.
    pub(super) end: ChatEnd,
}

/// Takes `system` and `messages`; the paths of what has no effect go to `ignored`.
pub(super) fn take(fields: &mut Fields, ignored: &mut Paths) -> Result<Conversation, BadRequest> {
    let mut reader = Reader { messages: Vec::new(), places: Vec::new(), ignored };
    if let Some(content) = fields.take("system") {
        let text = reader.texts("system", content)?;
        reader.system("system", &text);
    }
    let Some(list) = fields.list("messages")? else {
        return Err(missing("messages", "an array of messages"));
    };
    if list.is_empty() {
        return Err(BadRequest::field("messages", "[]: expected at least one message"));
    }
    let n_messages = list.len();
    let mut end = ChatEnd::Answer;
    for (message_idx, message) in list.into_iter().enumerate() {
        let is_assistant = message["role"] == "assistant";
        reader.message(&format!("messages[{message_idx}]"), message)?;
        if message_idx + 1 == n_messages && is_assistant {
            reader.check_prefill()?;
            end = ChatEnd::Continue;
        }
    }
    if reader.messages.is_empty() {
        return Err(BadRequest::field("messages", "expected at least one message with a text"));
    }
    let messages = reader.messages.into_iter().map(Value::Object).collect();
    Ok(Conversation { messages, places: reader.places, end })
}

/// What was read so far.
struct Reader<'a> {
    messages: Vec<Map<String, Value>>,
    places: Vec<String>,
    ignored: &'a mut Paths,
}

impl Reader<'_> {
    fn message(&mut self, path: &str, message: Value) -> Result<(), BadRequest> {
        let mut fields = Fields::of(path, message)?;
        let role = fields.take("role").unwrap_or(Value::Null);
        let content_path = fields.path("content");
        let Some(content) = fields.take("content") else {
            return Err(missing(&content_path, "a string or an array of blocks"));
        };
        self.ignored.extend(fields.rest());
        match role.as_str() {
            Some("system") => {
                let text = self.texts(&content_path, content)?;
                self.system(path, &text);
                Ok(())
            }
            Some("user") => self.user(path, &content_path, content),
            Some("assistant") => self.assistant(path, &content_path, content),
            _ => {
                let expected = "one of \"user\", \"assistant\", \"system\"";
                Err(wrong(&format!("{path}.role"), &role, expected))
            }
        }
    }

    /// A text without characters says nothing; some templates have a system message of their own
    /// where there is none.
    fn system(&mut self, place: &str, text: &str) {
        if !text.is_empty() {
            self.push("system", place, text);
        }
    }

    fn user(&mut self, place: &str, path: &str, content: Value) -> Result<(), BadRequest> {
        let blocks = blocks(path, content)?;
        if blocks.is_empty() {
            return Err(BadRequest::field(path, "[]: expected at least one block"));
        }
        let mut is_empty = true;
        for (path, kind, mut block) in blocks {
            match &*kind {
                "tool_result" => {
                    self.tool_result(place, block)?;
                    is_empty = false;
                }
                _ => {
                    let text = self.text(&path, &kind, &mut block)?;
                    if !text.is_empty() {
                        self.push("user", place, &text);
                        is_empty = false;
                    }
                    self.rest(block);
                }
            }
        }
        // The turn stays: templates mind whose it is.
        if is_empty {
            self.push("user", place, "");
        }
        Ok(())
    }

    fn tool_result(&mut self, place: &str, mut block: Fields) -> Result<(), BadRequest> {
        let id_path = block.path("tool_use_id");
        let id = block.text("tool_use_id")?.ok_or_else(|| missing(&id_path, "a string"))?;
        let content_path = block.path("content");
        let content = match block.take("content") {
            None => String::new(),
            Some(content) => self.result_texts(&content_path, content)?,
        };
        let content = match block.flag("is_error")? {
            Some(true) => format!("{FAILED}{content}"),
            _ => content,
        };
        self.rest(block);
        let result = json!({"role": "tool", "content": content, "tool_call_id": id});
        self.messages.extend(result.as_object().cloned());
        self.places.push(place.to_owned());
        Ok(())
    }

    fn assistant(&mut self, place: &str, path: &str, content: Value) -> Result<(), BadRequest> {
        let is_begun = self.messages.last().is_some_and(|last| last["role"] == "assistant");
        if !is_begun {
            self.push("assistant", place, "");
        }
        // An answer may have no blocks, and comes back as it was.
        for (path, kind, mut block) in blocks(path, content)? {
            match &*kind {
                "thinking" => {
                    let text = take_text(&mut block, "thinking")?;
                    self.append("reasoning_content", &text);
                }
                // Nobody but the vendor can read it.
                "redacted_thinking" => {
                    block.accept(&["data"]);
                    self.ignored.push(path);
                }
                "tool_use" => {
                    let call = read_call(&mut block)?;
                    let last = self.messages.last_mut().expect("it was begun above");
                    let calls = last.entry("tool_calls").or_insert_with(|| json!([]));
                    calls.as_array_mut().expect("it is only made here").push(call);
                }
                _ => {
                    let text = self.text(&path, &kind, &mut block)?;
                    self.append("content", &text);
                }
            }
            self.rest(block);
        }
        Ok(())
    }

    /// Refuses what cannot be continued: the last message is the assistant's.
    fn check_prefill(&self) -> Result<(), BadRequest> {
        let (Some(last), Some(place)) = (self.messages.last(), self.places.last()) else {
            return Ok(());
        };
        let content = last["content"].as_str().unwrap_or_default();
        let problem = if last.contains_key("tool_calls") {
            "a last message of the assistant's with tool_use cannot be continued: expected its \
             tool_result behind it"
        } else if content.trim_end().is_empty() {
            "a last message of the assistant's is continued: expected text"
        } else if content.trim_end() != content {
            "a last message of the assistant's is continued: expected no white space at its end, \
             which no token could go on from"
        } else {
            return Ok(());
        };
        Err(BadRequest::field(&format!("{place}.content"), problem))
    }

    /// A string, or blocks that are all text.
    fn texts(&mut self, path: &str, content: Value) -> Result<String, BadRequest> {
        let mut texts = Vec::new();
        for (path, kind, mut block) in blocks(path, content)? {
            texts.push(self.text(&path, &kind, &mut block)?);
            self.rest(block);
        }
        Ok(joined(&texts))
    }

    /// As [`Reader::texts`], where a client's search for tools may have found some: the model,
    /// which has been told of all, reads their names.
    fn result_texts(&mut self, path: &str, content: Value) -> Result<String, BadRequest> {
        let mut texts = Vec::new();
        for (path, kind, mut block) in blocks(path, content)? {
            texts.push(match &*kind {
                "tool_reference" => take_text(&mut block, "tool_name")?,
                _ => self.text(&path, &kind, &mut block)?,
            });
            self.rest(block);
        }
        Ok(joined(&texts))
    }

    /// As [`Reader::texts`], without documents: those in a document would make paths as long as
    /// they are deep.
    fn plain_texts(&mut self, path: &str, content: Value) -> Result<String, BadRequest> {
        let mut texts = Vec::new();
        for (path, kind, mut block) in blocks(path, content)? {
            if kind != "text" {
                let why = format!("{}: expected \"text\"", shown(&kind.into()));
                return Err(BadRequest::unsupported(&format!("{path}.type"), &why));
            }
            texts.push(take_text(&mut block, "text")?);
            self.rest(block);
        }
        Ok(joined(&texts))
    }

    /// What a block of this type says.
    fn text(&mut self, path: &str, kind: &str, block: &mut Fields) -> Result<String, BadRequest> {
        match kind {
            "text" => take_text(block, "text"),
            "document" => self.document(block),
            _ => {
                let why = if NO_TEXT.contains(&kind) {
                    "this model reads text only"
                } else {
                    "this server knows no such block here"
                };
                let kind = Value::from(kind);
                let why = format!("{}: {why}", shown(&kind));
                Err(BadRequest::unsupported(&format!("{path}.type"), &why))
            }
        }
    }

    /// A document that is text, in a frame of its own.
    fn document(&mut self, block: &mut Fields) -> Result<String, BadRequest> {
        let source_path = block.path("source");
        let Some(mut source) = block.object("source")? else {
            return Err(missing(&source_path, "an object"));
        };
        let kind_path = source.path("type");
        let text = match source.take("type") {
            Some(kind) if kind == "text" => take_text(&mut source, "data")?,
            Some(kind) if kind == "content" => {
                let path = source.path("content");
                let content = source.take("content").unwrap_or(Value::Null);
                self.plain_texts(&path, content)?
            }
            kind => {
                let kind = kind.unwrap_or(Value::Null);
                let why = format!("{}: expected \"text\" or \"content\"", shown(&kind));
                return Err(BadRequest::unsupported(&kind_path, &why));
            }
        };
        source.accept(&["media_type"]);
        self.rest(source);
        if let Some(mut citations) = block.object("citations")? {
            if citations.flag("enabled")? == Some(true) {
                let why = "true: this server does not cite";
                return Err(BadRequest::unsupported(&citations.path("enabled"), why));
            }
            self.rest(citations);
        }
        let mut framed = "<document>\n".to_owned();
        for name in ["title", "context"] {
            if let Some(text) = block.text(name)? {
                framed.push_str(&format!("<{name}>{text}</{name}>\n"));
            }
        }
        Ok(format!("{framed}{text}\n</document>"))
    }

    /// More text of a role: of the message at hand where it has that role.
    fn push(&mut self, role: &str, place: &str, text: &str) {
        if role == "user" && self.messages.last().is_some_and(|last| last["role"] == role) {
            return self.append("content", text);
        }
        let message = json!({"role": role, "content": text});
        self.messages.extend(message.as_object().cloned());
        self.places.push(place.to_owned());
    }

    /// Appends to a text of the message at hand, in a line of its own, what is not empty.
    fn append(&mut self, field: &str, more: &str) {
        if more.is_empty() {
            return;
        }
        let Some(last) = self.messages.last_mut() else { return };
        let text = last.entry(field).or_insert_with(|| "".into());
        if let Value::String(text) = text {
            if !text.is_empty() {
                text.push('\n');
            }
            text.push_str(more);
        }
    }

    /// Notes what a block holds beside what was read of it.
    fn rest(&mut self, mut block: Fields) {
        block.accept(WITHOUT_EFFECT);
        self.ignored.extend(block.rest());
    }
}

/// Texts that are not empty, each in lines of its own.
fn joined(texts: &[String]) -> String {
    let texts: Vec<&str> = texts.iter().map(|text| &**text).filter(|t| !t.is_empty()).collect();
    texts.join("\n")
}

/// The blocks of a content, each with its path and type; a string is a block of text.
fn blocks(path: &str, content: Value) -> Result<Vec<(String, String, Fields)>, BadRequest> {
    let list = match content {
        Value::String(text) => {
            let block = Fields::of(path, json!({"text": text}))?;
            return Ok(vec![(path.to_owned(), "text".to_owned(), block)]);
        }
        Value::Array(list) => list,
        other => return Err(wrong(path, &other, "a string or an array of blocks")),
    };
    let read = |(block_idx, block)| {
        let path = format!("{path}[{block_idx}]");
        let mut block = Fields::of(&path, block)?;
        let kind_path = block.path("type");
        let kind = block.text("type")?.ok_or_else(|| missing(&kind_path, "the type of a block"))?;
        Ok((path, kind, block))
    };
    list.into_iter().enumerate().map(read).collect()
}

fn take_text(block: &mut Fields, name: &str) -> Result<String, BadRequest> {
    let path = block.path(name);
    block.text(name)?.ok_or_else(|| missing(&path, "a string"))
}

fn read_call(block: &mut Fields) -> Result<Value, BadRequest> {
    let [id, name] = [take_text(block, "id")?, take_text(block, "name")?];
    let input = match block.object("input")? {
        None => Map::new(),
        Some(input) => input.into_map(),
    };
    Ok(json!({
        "type": "function",
        "function": {"name": name, "arguments": input},
        "id": id,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a conversation: messages, places and what is ignored.
    fn read(body: &str) -> Result<(Conversation, Vec<String>), BadRequest> {
        let mut ignored = Paths::default();
        let taken = take(&mut Fields::parse(body.as_bytes()).unwrap(), &mut ignored)?;
        Ok((taken, ignored.kept().to_vec()))
    }

    fn check(messages: &str, expected: Value, places: &[usize], ignored: &[&str]) {
        let (found, found_ignored) = read(&format!(r#"{{"messages":{messages}}}"#)).unwrap();
        assert_eq!(found.messages, expected, "{messages}");
        let places: Vec<String> = places.iter().map(|idx| format!("messages[{idx}]")).collect();
        let ignored: Vec<String> = ignored.iter().map(|path| (*path).to_owned()).collect();
        assert_eq!((found.places, found_ignored), (places, ignored), "{messages}");
    }

    #[test]
    fn system_is_text_or_blocks_of_text() {
        let user = r#""messages":[{"role":"user","content":"u"}]"#;
        for system in [
            r#""a\nb""#,
            r#"[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":"b"}]"#,
        ] {
            let (found, ignored) = read(&format!(r#"{{"system":{system},{user}}}"#)).unwrap();
            let expected =
                json!([{"role": "system", "content": "a\nb"}, {"role": "user", "content": "u"}]);
            assert_eq!(found.messages, expected);
            assert_eq!(found.places, ["system", "messages[0]"]);
            assert!(ignored.is_empty(), "{ignored:?}");
        }
    }

    #[test]
    fn turns_of_one_role_that_follow_each_other_are_one() {
        check(
            r#"[{"role":"user","content":"a"},
                {"role":"user","content":[{"type":"text","text":"b"}]},
                {"role":"assistant","content":"c"},{"role":"assistant","content":"d"},
                {"role":"system","content":"s"},{"role":"user","content":"e"}]"#,
            json!([
                {"role": "user", "content": "a\nb"},
                {"role": "assistant", "content": "c\nd"},
                {"role": "system", "content": "s"},
                {"role": "user", "content": "e"},
            ]),
            &[0, 2, 4, 5],
            &[],
        );
    }

    #[test]
    fn tools_that_a_search_has_found_are_read_by_name() {
        let result = |content: &str| {
            format!(
                r#"[{{"role":"user","content":[
                    {{"type":"tool_result","tool_use_id":"1","content":{content}}}]}}]"#
            )
        };
        let found = r#"[{"type":"tool_reference","tool_name":"f","cache_control":null},
            {"type":"text","text":"and"},{"type":"tool_reference","tool_name":"g","x":1}]"#;
        check(
            &result(found),
            json!([{"role": "tool", "content": "f\nand\ng", "tool_call_id": "1"}]),
            &[0],
            &["messages[0].content[0].content[2].x"],
        );
        let error = |messages: &str| {
            read(&format!(r#"{{"messages":{messages}}}"#)).unwrap_err().param.unwrap()
        };
        let place = "messages[0].content[0].content[0].tool_name";
        assert_eq!(error(&result(r#"[{"type":"tool_reference"}]"#)), place);
        let elsewhere =
            r#"[{"role":"user","content":[{"type":"tool_reference","tool_name":"f"}]}]"#;
        assert_eq!(error(elsewhere), "messages[0].content[0].type");
    }

    #[test]
    fn empty_texts_change_nothing() {
        let empty = r#"{"type":"text","text":""}"#;
        check(
            &format!(
                r#"[{{"role":"system","content":""}},
                    {{"role":"user","content":[{empty},{{"type":"text","text":"a"}},{empty}]}},
                    {{"role":"assistant","content":[{{"type":"thinking","thinking":""}},{empty},
                      {{"type":"text","text":"b"}},{empty}]}},
                    {{"role":"user","content":[
                      {{"type":"tool_result","tool_use_id":"t","content":[{empty},{empty}]}},
                      {empty}]}},
                    {{"role":"assistant","content":""}},{{"role":"user","content":""}}]"#
            ),
            json!([
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "tool", "content": "", "tool_call_id": "t"},
                {"role": "assistant", "content": ""},
                {"role": "user", "content": ""},
            ]),
            &[1, 2, 3, 4, 5],
            &[],
        );
        let user = r#""messages":[{"role":"user","content":"u"}]"#;
        let (found, _) = read(&format!(r#"{{"system":"",{user}}}"#)).unwrap();
        assert_eq!(found.messages, json!([{"role": "user", "content": "u"}]));
        let nothing = read(r#"{"messages":[{"role":"system","content":""}]}"#).unwrap_err();
        assert_eq!(nothing.param.as_deref(), Some("messages"));
    }

    #[test]
    fn calls_results_and_thinking_take_the_form_of_templates() {
        check(
            r#"[{"role":"assistant","content":[
                 {"type":"thinking","thinking":"Hm.","signature":"x"},
                 {"type":"redacted_thinking","data":"xyz"},
                 {"type":"text","text":"So:"},
                 {"type":"tool_use","id":"toolu_1","name":"f","input":{"x":1},"caller":{}},
                 {"type":"tool_use","id":"toolu_2","name":"g","input":{}}]},
                {"role":"user","content":[
                 {"type":"tool_result","tool_use_id":"toolu_1","content":"2"},
                 {"type":"tool_result","tool_use_id":"toolu_2","is_error":true,
                  "content":[{"type":"text","text":"no"}]},
                 {"type":"tool_result","tool_use_id":"toolu_3","is_error":false},
                 {"type":"text","text":"Go on."}]}]"#,
            json!([
                {"role": "assistant", "content": "So:", "reasoning_content": "Hm.", "tool_calls": [
                    {"type": "function", "id": "toolu_1",
                        "function": {"name": "f", "arguments": {"x": 1}}},
                    {"type": "function", "id": "toolu_2",
                        "function": {"name": "g", "arguments": {}}}]},
                {"role": "tool", "content": "2", "tool_call_id": "toolu_1"},
                {"role": "tool", "content": "Error: no", "tool_call_id": "toolu_2"},
                {"role": "tool", "content": "", "tool_call_id": "toolu_3"},
                {"role": "user", "content": "Go on."},
            ]),
            &[0, 1, 1, 1, 1],
            &["messages[0].content[1]"],
        );
    }

    #[test]
    fn documents_that_are_text_are_taken() {
        check(
            r#"[{"role":"user","content":[
                 {"type":"document","title":"T","citations":{"enabled":false},
                  "source":{"type":"text","media_type":"text/plain","data":"D"}},
                 {"type":"document","context":"C",
                  "source":{"type":"content","content":[{"type":"text","text":"E"}]}}]}]"#,
            json!([{"role": "user", "content": concat!(
                "<document>\n<title>T</title>\nD\n</document>\n",
                "<document>\n<context>C</context>\nE\n</document>",
            )}]),
            &[0],
            &[],
        );
    }

    #[test]
    fn unknown_fields_are_told_and_an_answer_without_blocks_is_taken() {
        check(
            r#"[{"role":"user","content":[{"type":"text","text":"a","x":1}],"y":2},
                {"role":"assistant","content":[]},{"role":"user","content":"b","z":null}]"#,
            json!([
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": ""},
                {"role": "user", "content": "b"},
            ]),
            &[0, 1, 2],
            &["messages[0].y", "messages[0].content[0].x"],
        );
    }

    #[test]
    fn only_text_of_the_assistants_can_be_continued() {
        let end = |content: &str| {
            let user = r#"{"role":"user","content":"u"}"#;
            let last = format!(r#"{{"role":"assistant","content":{content}}}"#);
            let read = read(&format!(r#"{{"messages":[{user},{last}]}}"#));
            read.map(|(conversation, _)| conversation.end).map_err(|bad| bad.param.unwrap())
        };
        assert_eq!(end(r#""So""#), Ok(ChatEnd::Continue));
        let blocks = r#"[{"type":"text","text":"a"},{"type":"text","text":"b"}]"#;
        assert_eq!(end(blocks), Ok(ChatEnd::Continue));
        let place = || Err("messages[1].content".to_owned());
        assert_eq!(end(r#""So ""#), place());
        assert_eq!(end("[]"), place());
        let call = r#"[{"type":"text","text":"a"},{"type":"tool_use","id":"1","name":"f"}]"#;
        assert_eq!(end(call), place());
    }

    #[test]
    fn wrong_messages_are_refused_by_path() {
        let refused = |messages: &str, expected: &str| {
            let error = read(&format!(r#"{{"messages":{messages}}}"#)).unwrap_err();
            assert_eq!(error.message, expected, "{messages}");
            assert!(error.message.starts_with(&error.param.unwrap()));
        };
        refused("null", "messages: absent: expected an array of messages");
        refused("[]", "messages: []: expected at least one message");
        refused("[7]", "messages[0]: 7: expected an object");
        refused(
            r#"[{"role":"tool","content":""}]"#,
            r#"messages[0].role: "tool": expected one of "user", "assistant", "system""#,
        );
        refused(
            r#"[{"role":"user"}]"#,
            "messages[0].content: absent: expected a string or an array of blocks",
        );
        refused(
            r#"[{"role":"user","content":[]}]"#,
            "messages[0].content: []: expected at least one block",
        );
        let block = |block: &str, expected: &str| {
            let message = format!(r#"[{{"role":"user","content":[{block}]}}]"#);
            refused(&message, &format!("messages[0].content[0]{expected}"));
        };
        block(r#""hi""#, r#": "hi": expected an object"#);
        block("{}", ".type: absent: expected the type of a block");
        block(r#"{"type":"text"}"#, ".text: absent: expected a string");
        block(r#"{"type":"image","source":{}}"#, r#".type: "image": this model reads text only"#);
        block(
            r#"{"type":"server_tool_use","id":"x"}"#,
            r#".type: "server_tool_use": this server knows no such block here"#,
        );
        block(
            r#"{"type":"tool_use","id":"x","name":"f","input":{}}"#,
            r#".type: "tool_use": this server knows no such block here"#,
        );
        block(
            r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf"}}"#,
            r#".source.type: "base64": expected "text" or "content""#,
        );
        block(
            r#"{"type":"document","source":{"type":"text","data":""},"citations":{"enabled":true}}"#,
            ".citations.enabled: true: this server does not cite",
        );
        block(
            r#"{"type":"tool_result","tool_use_id":"x","content":[{"type":"image"}]}"#,
            r#".content[0].type: "image": this model reads text only"#,
        );
        block(
            r#"{"type":"document","source":{"type":"content","content":[
                {"type":"document","source":{"type":"text","data":"D"}}]}}"#,
            r#".source.content[0].type: "document": expected "text""#,
        );
        block(r#"{"type":"tool_result"}"#, ".tool_use_id: absent: expected a string");
    }
}
