//! `messages` of a chat request, brought into the form that chat templates expect.
//!
//! Templates were written against Hugging Face's form: `content` a string, `developer` unknown, a
//! call's `arguments` an object. Fields that no template reads are refused, except those of our
//! own and other servers' answers, which clients send back as they got them. Whether the model's
//! own template reads a message's fields is found out where it is rendered.

use super::custom;
use super::tools::Kind;
use crate::dialects::Paths;
use crate::dialects::fields::{Fields, shown, wrong};
use crate::errors::BadRequest;
use serde_json::{Map, Value, json};

/// Fields of answers that clients send back with the history: names and marks, and `parsed`, which
/// says the content once more. Nothing is in them that the other fields do not say.
const ECHOED: &[&str] = &["annotations", "audio", "id", "parsed", "provider_specific_fields"];

/// Reads `messages`; the result is a JSON array of objects. The paths of what has no effect go to
/// `ignored`.
pub(super) fn take(fields: &mut Fields, ignored: &mut Paths) -> Result<Value, BadRequest> {
    let Some(list) = fields.list("messages")? else {
        return Err(BadRequest {
            code: Some("missing_required_parameter"),
            ..BadRequest::field("messages", "absent: expected an array of messages")
        });
    };
    if list.is_empty() {
        return Err(BadRequest::field("messages", "[]: expected at least one message"));
    }
    let read = |(message_idx, message)| read(&format!("messages[{message_idx}]"), message, ignored);
    Ok(Value::Array(list.into_iter().enumerate().map(read).collect::<Result<_, _>>()?))
}

fn read(path: &str, message: Value, ignored: &mut Paths) -> Result<Value, BadRequest> {
    let mut fields = Fields::of(path, message)?;
    let role_path = fields.path("role");
    let role = fields.take("role").unwrap_or(Value::Null);
    // `developer` is the newer name of `system`, `function` the older one of `tool`; templates
    // know only the others.
    let role = match role.as_str() {
        Some("system" | "developer") => "system",
        Some("tool" | "function") => "tool",
        Some("user") => "user",
        Some("assistant") => "assistant",
        _ => {
            let expected = "one of \"system\", \"developer\", \"user\", \"assistant\", \"tool\"";
            return Err(wrong(&role_path, &role, expected));
        }
    };
    let mut message = Map::new();
    message.insert("role".to_owned(), role.into());
    // OpenAI's answer that refuses has no content, and its text stands here.
    let refusal = if role == "assistant" { fields.text("refusal")? } else { None };
    let mut thoughts = (role == "assistant").then(Vec::new);
    let content = take_content(&mut fields, &mut thoughts, ignored)?;
    let content = match (content, refusal) {
        (Some(content), Some(refusal)) => Some(format!("{content}\n{refusal}")),
        (content, refusal) => content.or(refusal),
    };
    if role == "assistant" {
        take_assistant(&mut fields, thoughts.unwrap_or_default(), &mut message)?;
    }
    match content {
        Some(content) => message.insert("content".to_owned(), content.into()),
        // An assistant that only called a tool says nothing; templates want a string all the same.
        None if message.contains_key("tool_calls") => {
            message.insert("content".to_owned(), "".into())
        }
        None => {
            let problem = "absent: expected a string or an array of text parts";
            return Err(BadRequest::field(&fields.path("content"), problem));
        }
    };
    for name in ["name", "tool_call_id"] {
        if let Some(text) = fields.text(name)? {
            message.insert(name.to_owned(), text.into());
        }
    }
    fields.accept(ECHOED);
    fields.refuse_rest()?;
    Ok(Value::Object(message))
}

/// A string, or parts that are all text: joined by line breaks, as vLLM and llama-server do. Where
/// there may be `thoughts`, in blocks as Anthropic's API has them, they go there.
fn take_content(
    fields: &mut Fields,
    thoughts: &mut Option<Vec<String>>,
    ignored: &mut Paths,
) -> Result<Option<String>, BadRequest> {
    let path = fields.path("content");
    let parts = match fields.take("content") {
        None => return Ok(None),
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(Value::Array(parts)) => parts,
        Some(other) => return Err(wrong(&path, &other, "a string or an array of parts")),
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (part_idx, part) in parts.into_iter().enumerate() {
        let path = format!("{path}[{part_idx}]");
        if let Value::String(text) = part {
            texts.push(text);
            continue;
        }
        let mut part = Fields::of(&path, part)?;
        let kind = part.take("type").unwrap_or(Value::Null);
        let text = match (kind.as_str(), &mut *thoughts) {
            (Some(kind @ ("thinking" | "redacted_thinking")), Some(thoughts)) => {
                match kind {
                    "thinking" => thoughts.push(take_text(&mut part, "thinking")?),
                    // Nobody but the vendor can read it.
                    _ => ignored.push(path),
                }
                part.accept(&["cache_control", "data", "signature"]);
                part.refuse_rest()?;
                continue;
            }
            _ => take_part(&path, &kind, &mut part)?,
        };
        texts.push(text);
        // Hints at what a vendor's paid cache is to keep. Here whatever prompts have in common is
        // kept, and no answer depends on it.
        part.accept(&["cache_control", "prompt_cache_breakpoint"]);
        part.refuse_rest()?;
    }
    Ok(Some(texts.join("\n")))
}

/// The text of a part of this type.
fn take_part(path: &str, kind: &Value, part: &mut Fields) -> Result<String, BadRequest> {
    let text = match kind.as_str() {
        Some("text" | "input_text" | "output_text") => part.text("text")?,
        Some("refusal") => part.text("refusal")?,
        Some("image_url" | "input_audio" | "file" | "video_url") => {
            let why = format!("{}: this model reads text only", shown(kind));
            return Err(BadRequest::unsupported(&format!("{path}.type"), &why));
        }
        _ => return Err(wrong(&format!("{path}.type"), kind, "\"text\"")),
    };
    let absent = || BadRequest::field(&format!("{path}.text"), "absent: expected a string");
    text.ok_or_else(absent)
}

/// What only assistants have: calls and reasoning, of which `thoughts` stood in the content.
fn take_assistant(
    fields: &mut Fields,
    thoughts: Vec<String>,
    message: &mut Map<String, Value>,
) -> Result<(), BadRequest> {
    // Two names for the same thing (llama-server's and vLLM's).
    let reasoning = fields.text("reasoning_content")?;
    let again = fields.text("reasoning")?;
    if let (Some(reasoning), Some(again)) = (&reasoning, &again)
        && reasoning != again
    {
        let problem = "expected the same as reasoning_content, or neither";
        return Err(BadRequest::field(&fields.path("reasoning"), problem));
    }
    let thoughts: Vec<String> = thoughts.into_iter().filter(|text| !text.is_empty()).collect();
    let thought = (!thoughts.is_empty()).then(|| thoughts.join("\n"));
    let reasoning = reasoning.or(again);
    if let (Some(reasoning), Some(thought)) = (&reasoning, &thought)
        && reasoning != thought
    {
        let problem = "its thinking: expected the same as reasoning_content, or neither";
        return Err(BadRequest::field(&fields.path("content"), problem));
    }
    if let Some(text) = reasoning.or(thought) {
        message.insert("reasoning_content".to_owned(), text.into());
    }
    let path = fields.path("tool_calls");
    let mut calls = fields.list("tool_calls")?.unwrap_or_default();
    if let Some(call) = fields.take("function_call") {
        calls.push(json!({"type": "function", "function": call}));
    }
    if calls.is_empty() {
        return Ok(());
    }
    let read = |(call_idx, call)| read_call(&format!("{path}[{call_idx}]"), call);
    let calls: Vec<Value> = calls.into_iter().enumerate().map(read).collect::<Result<_, _>>()?;
    message.insert("tool_calls".to_owned(), calls.into());
    Ok(())
}

fn read_call(path: &str, call: Value) -> Result<Value, BadRequest> {
    let mut fields = Fields::of(path, call)?;
    let id = fields.text("id")?;
    let kind_path = fields.path("type");
    let kind = match fields.take("type") {
        None => Kind::Function,
        Some(word) => word
            .as_str()
            .and_then(Kind::of)
            .ok_or_else(|| wrong(&kind_path, &word, "\"function\" or \"custom\""))?,
    };
    let mut made = kind.take(&mut fields)?;
    let name = take_text(&mut made, "name")?;
    let arguments = match kind {
        Kind::Function => take_arguments(&mut made)?,
        Kind::Custom => custom::arguments(&take_text(&mut made, "input")?),
    };
    let mut call = json!({
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    });
    if let Some(id) = id {
        call["id"] = id.into();
    }
    // What the SDKs' helpers have made of the arguments comes back beside them.
    made.accept(&["parsed_arguments"]);
    made.refuse_rest()?;
    fields.accept(&["index"]);
    fields.refuse_rest()?;
    Ok(call)
}

/// A string, which must be there.
fn take_text(fields: &mut Fields, name: &str) -> Result<String, BadRequest> {
    let path = fields.path(name);
    let text = fields.text(name)?;
    text.ok_or_else(|| BadRequest::field(&path, "absent: expected a string"))
}

/// The arguments of a call, an object. Templates write it out again. Text that is no object is the
/// model's own failed attempt, and is shown to it as it was.
pub(super) fn take_arguments(call: &mut Fields) -> Result<Value, BadRequest> {
    let path = call.path("arguments");
    match call.take("arguments") {
        None => Ok(json!({})),
        Some(object @ Value::Object(_)) => Ok(object),
        Some(Value::String(text)) => match serde_json::from_str(&text) {
            Ok(object @ Value::Object(_)) => Ok(object),
            _ => Ok(Value::String(text)),
        },
        Some(other) => Err(wrong(&path, &other, "a string of JSON")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(messages: &str, expected: Result<Value, &str>) {
        let body = format!(r#"{{"messages":{messages}}}"#);
        let mut ignored = Paths::default();
        let found = take(&mut Fields::parse(body.as_bytes()).unwrap(), &mut ignored);
        let found = found.map_err(|bad| bad.message);
        assert_eq!(found, expected.map_err(str::to_owned), "{messages}");
    }

    #[test]
    fn content_becomes_one_string() {
        check(
            r#"[{"role":"developer","content":"Be brief."},
                {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]"#,
            Ok(json!([{"role":"system","content":"Be brief."},{"role":"user","content":"a\nb"}])),
        );
    }

    #[test]
    fn nothing_of_a_message_is_dropped_in_silence() {
        let call = |more: &str| {
            let function = format!(r#"{{"name":"f","arguments":"{{}}"{more}}}"#);
            format!(r#"[{{"role":"assistant","tool_calls":[{{"function":{function}}}]}}]"#)
        };
        check(
            &call(r#","argments":"x""#),
            Err("messages[0].tool_calls[0].function.argments: this server does not know this \
                 parameter; leave it out"),
        );
        let echoed = call(r#","parsed_arguments":{}"#);
        let echoed = format!(r#"{{"messages":{echoed}}}"#);
        let mut fields = Fields::parse(echoed.as_bytes()).unwrap();
        assert!(take(&mut fields, &mut Paths::default()).is_ok());
        check(
            r#"[{"role":"user","content":"a","refusal":"b"}]"#,
            Err("messages[0].refusal: this server does not know this parameter; leave it out"),
        );
        check(
            r#"[{"role":"assistant","content":"a","refusal":"b"}]"#,
            Ok(json!([{"role":"assistant","content":"a\nb"}])),
        );
        check(
            r#"[{"role":"assistant","content":"a","reasoning":"b","reasoning_content":"c"}]"#,
            Err("messages[0].reasoning: expected the same as reasoning_content, or neither"),
        );
    }

    #[test]
    fn thoughts_may_stand_in_blocks() {
        let said = |blocks: &str, more: &str| {
            format!(
                r#"[{{"role":"assistant","content":[{blocks},{{"type":"text","text":"a"}}]{more}}}]"#
            )
        };
        let block =
            |text: &str| format!(r#"{{"type":"thinking","thinking":"{text}","signature":"x"}}"#);
        let two = format!("{},{},{}", block("Hm."), block(""), block("So."));
        let expected =
            json!([{"role": "assistant", "reasoning_content": "Hm.\nSo.", "content": "a"}]);
        check(&said(&two, ""), Ok(expected.clone()));
        check(&said(&two, r#","reasoning_content":"Hm.\nSo.""#), Ok(expected));
        check(&said(&block(""), ""), Ok(json!([{"role": "assistant", "content": "a"}])));
        let same = "expected the same as reasoning_content, or neither";
        check(
            &said(&block("Hm."), r#","reasoning":"Oh.""#),
            Err(&format!("messages[0].content: its thinking: {same}")),
        );
        check(
            &said(r#"{"type":"thinking"}"#, ""),
            Err("messages[0].content[0].thinking: absent: expected a string"),
        );
        // What only its vendor can read is told.
        let body =
            format!(r#"{{"messages":{}}}"#, said(r#"{"type":"redacted_thinking","data":"x"}"#, ""));
        let mut ignored = Paths::default();
        take(&mut Fields::parse(body.as_bytes()).unwrap(), &mut ignored).unwrap();
        assert_eq!(ignored.kept(), ["messages[0].content[0]"]);
        check(
            r#"[{"role":"user","content":[{"type":"thinking","thinking":"x"}]}]"#,
            Err(r#"messages[0].content[0].type: "thinking": expected "text""#),
        );
    }

    #[test]
    fn calls_and_their_results_take_the_form_of_templates() {
        check(
            r#"[{"role":"assistant","content":null,"refusal":null,"annotations":[],"tool_calls":
                 [{"id":"toolu_1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}}]},
                {"role":"tool","tool_call_id":"toolu_1","content":[{"type":"text","text":"2"}]}]"#,
            Ok(json!([
                {"role":"assistant","tool_calls":[{"type":"function",
                 "function":{"name":"f","arguments":{"x":1}},"id":"toolu_1"}],"content":""},
                {"role":"tool","content":"2","tool_call_id":"toolu_1"}
            ])),
        );
    }

    #[test]
    fn a_call_with_a_text_is_one_of_a_function() {
        let call = |call: &str| format!(r#"[{{"role":"assistant","tool_calls":[{call}]}}]"#);
        check(
            &call(r#"{"id":"c","type":"custom","custom":{"name":"t","input":"a\n"},"index":0}"#),
            Ok(json!([{"role":"assistant","tool_calls":[{"type":"function",
                "function":{"name":"t","arguments":{"input":"a\n"}},"id":"c"}],"content":""}])),
        );
        for (wrong, path) in [
            (r#"{"type":"custom"}"#, "custom: absent: expected an object"),
            (
                r#"{"type":"custom","custom":{"name":"t"}}"#,
                "custom.input: absent: expected a string",
            ),
            (
                r#"{"type":"custom","custom":{"input":""}}"#,
                "custom.name: absent: expected a string",
            ),
            (
                r#"{"type":"custom","custom":{"name":"t","input":{}}}"#,
                "custom.input: an object: expected a string",
            ),
            (r#"{"type":"mcp"}"#, r#"type: "mcp": expected "function" or "custom""#),
        ] {
            check(&call(wrong), Err(&format!("messages[0].tool_calls[0].{path}")));
        }
        for beside in ["function", "x"] {
            let both = format!(
                r#"{{"type":"custom","custom":{{"name":"t","input":""}},"{beside}":{{}}}}"#
            );
            let unknown = "this server does not know this parameter; leave it out";
            check(&call(&both), Err(&format!("messages[0].tool_calls[0].{beside}: {unknown}")));
        }
    }

    #[test]
    fn a_refusal_is_what_was_said_where_there_is_no_content() {
        check(
            r#"[{"role":"assistant","content":null,"refusal":"No."},
                {"role":"assistant","content":"Yes.","refusal":null}]"#,
            Ok(json!([{"role":"assistant","content":"No."},{"role":"assistant","content":"Yes."}])),
        );
    }

    #[test]
    fn wrong_messages_are_refused_by_path() {
        check("[]", Err("messages: []: expected at least one message"));
        check("7", Err("messages: 7: expected an array"));
        check(r#"["hi"]"#, Err(r#"messages[0]: "hi": expected an object"#));
        check(
            r#"[{"role":"boss","content":""}]"#,
            Err(
                r#"messages[0].role: "boss": expected one of "system", "developer", "user", "assistant", "tool""#,
            ),
        );
        check(
            r#"[{"role":"user"}]"#,
            Err("messages[0].content: absent: expected a string or an array of text parts"),
        );
        check(
            r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]}]"#,
            Err(r#"messages[0].content[0].type: "image_url": this model reads text only"#),
        );
        check(
            r#"[{"role":"user","content":"x","weight":0}]"#,
            Err("messages[0].weight: this server does not know this parameter; leave it out"),
        );
        check(
            r#"[{"role":"assistant","tool_calls":[{"function":{"arguments":"{}"}}]}]"#,
            Err("messages[0].tool_calls[0].function.name: absent: expected a string"),
        );
    }
}
