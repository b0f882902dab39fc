//! The grammar of an answer that may, must or must not call tools.

use super::arguments::Form;
use super::parts::bare_begin;
use super::{Calls, Channels, ToolFormat, spelling};
use crate::constraint::{
    ConstraintError, Grammar, JSON_SPACE, json_grammar, lower_plain, normalise, quote,
};
use llguidance::api::{GrammarWithLexer, TopLevelGrammar};
use serde_json::{Map, Value, json};

/// Most tools of a grammar: twice what OpenAI takes, since agents bring those of all that they are
/// connected to.
pub const MAX_TOOLS: usize = 256;

/// Longest name of a tool (Anthropic's limit).
const NAME_CHARS_MAX: usize = 128;

/// An answer that may have calls in it, each with arguments that its tool's schema allows.
#[derive(Debug, Clone, PartialEq)]
pub struct CallGrammar {
    /// How calls are written.
    pub calls: Calls,
    /// The tools that may be called.
    pub tools: Vec<Tool>,
    /// Whether they are.
    pub choice: ToolChoice,
    /// Whether several calls may stand behind each other.
    pub is_parallel: bool,
    /// What an answer without calls looks like; `None`: any text, and it may stand before calls.
    pub content: Option<Grammar>,
}

/// A tool, as far as calls of it are concerned.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// 1 to 128 ASCII letters, digits, `_` and `-`.
    pub name: String,
    /// JSON schema of the arguments, which are an object; `None`: any object. An object whose
    /// properties it lists has no others, unless it says something about others.
    pub parameters: Option<Value>,
    /// Grammar in Lark's notation of each argument, which is a text; `None`: as `parameters` say.
    pub texts: Option<String>,
}

impl Tool {
    /// Whether `name` can be a tool's.
    pub fn is_name(name: &str) -> bool {
        let is_sane = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_sane)
    }
}

/// Whether tools are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolChoice {
    /// No call can begin.
    None,
    /// As the model likes.
    Auto,
    /// The answer is at least one call.
    Required,
}

/// The grammar in the parser's terms: a frame, and beside it a grammar for each tool's arguments.
pub(crate) fn lower(grammar: &CallGrammar) -> Result<TopLevelGrammar, ConstraintError> {
    let CallGrammar { tools, content, .. } = grammar;
    if tools.len() > MAX_TOOLS {
        let (what, found) = ("tools", tools.len());
        return Err(ConstraintError::TooLarge { what, found, max: MAX_TOOLS });
    }
    if let Some(tool) = tools.iter().find(|tool| !Tool::is_name(&tool.name)) {
        let problem = format!("{:?} is no name of a tool", tool.name);
        return Err(ConstraintError::Grammar(problem));
    }
    let (mut lark, mut grammars) = (frame(grammar), vec![GrammarWithLexer::default()]);
    if let Some(content) = content {
        let content = lower_plain(content)?;
        grammars.push(GrammarWithLexer { name: Some("content".to_owned()), ..content });
    }
    if grammar.choice != ToolChoice::None {
        let mut n_bytes = 0;
        for (tool_idx, tool) in tools.iter().enumerate() {
            let more = match grammar.calls.format().arguments {
                Form::Json => lower_arguments(tool_idx, tool),
                _ => spelling::lower(&grammar.calls, tool_idx, tool, &mut lark, &mut n_bytes),
            };
            grammars.extend(more.map_err(|error| ConstraintError::Tool {
                name: tool.name.clone(),
                error: Box::new(error),
            })?);
        }
    }
    grammars[0] = GrammarWithLexer::from_lark(lark);
    Ok(TopLevelGrammar { grammars, max_tokens: None })
}

/// The grammar `arguments_<tool_idx>` of arguments that are a JSON object.
fn lower_arguments(tool_idx: usize, tool: &Tool) -> Result<Vec<GrammarWithLexer>, ConstraintError> {
    let schema = normalise(&arguments_schema(tool.parameters.as_ref())?)?;
    let name = Some(format!("arguments_{tool_idx}"));
    let Some(texts) = &tool.texts else {
        return Ok(vec![GrammarWithLexer { name, ..json_grammar(schema) }]);
    };
    let keys = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let (mut lark, mut before) = (String::from("start: "), "{");
    for (key, _) in keys {
        // In JSON, as a string of the grammar, which is JSON's too.
        let key = Value::from(Value::from(&**key).to_string());
        lark.push_str(&format!("\"{before}\" SPACE? {key} SPACE? \":\" SPACE? "));
        lark.push_str(&format!("{} SPACE? ", text_in_quotes(tool_idx)));
        before = ",";
    }
    lark.push_str(&format!("\"}}\"\nSPACE: /{JSON_SPACE}/\n"));
    let arguments = GrammarWithLexer { name, ..GrammarWithLexer::from_lark(lark) };
    Ok(vec![arguments, lower_texts(tool_idx, texts)?])
}

/// A string of JSON whose text the grammar `texts_<tool_idx>` describes.
pub(super) fn text_in_quotes(tool_idx: usize) -> String {
    format!("\"\\\"\" @texts_{tool_idx} \"\\\"\"")
}

/// The grammar `texts_<tool_idx>` of what stands between the quotes of an argument.
pub(super) fn lower_texts(
    tool_idx: usize,
    texts: &str,
) -> Result<GrammarWithLexer, ConstraintError> {
    let name = Some(format!("texts_{tool_idx}"));
    Ok(GrammarWithLexer { name, ..GrammarWithLexer::from_lark(quote(texts)?) })
}

/// The schema of a tool's arguments: of an object, and of no properties that nobody asked for.
pub(super) fn arguments_schema(schema: Option<&Value>) -> Result<Value, ConstraintError> {
    let mut map = match schema {
        None | Some(Value::Bool(true)) => Map::new(),
        Some(Value::Object(map)) => map.clone(),
        Some(_) => {
            return Err(ConstraintError::Grammar("#: expected a schema of an object".to_owned()));
        }
    };
    let is_object = match map.get("type") {
        None => true,
        Some(Value::Array(types)) => types.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
    };
    if !is_object {
        let why = "expected \"object\", since arguments have names".to_owned();
        let (path, keyword) = ("#".to_owned(), "type".to_owned());
        return Err(ConstraintError::Keyword { path, keyword, why });
    }
    map.insert("type".to_owned(), "object".into());
    const OTHERS: [&str; 12] = [
        "additionalProperties",
        "patternProperties",
        "allOf",
        "anyOf",
        "oneOf",
        "$ref",
        // These are left out where nobody insists on them, and what they allow stays allowed.
        "if",
        "then",
        "else",
        "dependencies",
        "dependentSchemas",
        "unevaluatedProperties",
    ];
    if map.contains_key("properties") && !OTHERS.iter().any(|word| map.contains_key(*word)) {
        map.insert("additionalProperties".to_owned(), json!(false));
    }
    Ok(map.into())
}

/// What stands around names and arguments, in Lark's notation.
///
/// A mark that is a token of the model's own cannot be part of a text. One that is text ends the
/// text before it where it is complete, so that from there on nothing but a call can come.
fn frame(grammar: &CallGrammar) -> String {
    let CallGrammar { calls, choice, content, .. } = grammar;
    if let Some(channels) = &calls.channels {
        return channel_frame(grammar, channels);
    }
    let format = calls.format();
    let mut mark = literal(calls, format.mark);
    let is_token = mark.starts_with('<');
    if is_token && !(format.open.is_empty() && format.before_name.is_empty()) {
        // Tokenizers that put a space before a text put it here too.
        mark.push_str(" / ?/");
    }
    // Without its own kind of mark a call is told by its beginning, and not beside other JSON.
    let has_mark = is_token || !format.is_bare;
    let text = match content {
        Some(_) => "@content",
        None => "TEXT?",
    };
    let mut starts = Vec::new();
    match choice {
        ToolChoice::None => starts.push(text.to_owned()),
        ToolChoice::Auto => {
            starts.push(text.to_owned());
            match (content, is_token) {
                (None, true) => starts.push(format!("TEXT? {mark} calls")),
                (None, false) if has_mark => starts.push("MARKED calls".to_owned()),
                (Some(_), _) if has_mark => starts.push(format!("{mark} calls")),
                _ => {}
            }
        }
        // Behind a train of thought models begin a paragraph.
        ToolChoice::Required if has_mark => starts.push(format!("/\\n{{1,2}}/? {mark} calls")),
        ToolChoice::Required => {}
    }
    let may_be_bare = match choice {
        ToolChoice::None => false,
        ToolChoice::Auto => content.is_none(),
        ToolChoice::Required => true,
    };
    if format.is_bare && may_be_bare {
        starts.push("calls".to_owned());
    }
    let mut lark = format!("start: {}\n", starts.join(" | "));
    push_text(grammar, is_token, &mut lark);
    if *choice != ToolChoice::None {
        push_calls(grammar, &mut lark);
    }
    lark
}

/// The same of an answer in channels: a message with the answer or a call, and before either any
/// number with something to say. Of content that has a form there is one message.
///
/// Trains of thought are no part of it: they may stand before it, where
/// [`Preamble`](super::Preamble) counts them, but not behind what is said beside calls.
fn channel_frame(grammar: &CallGrammar, channels: &Channels) -> String {
    let CallGrammar { calls, choice, content, .. } = grammar;
    let [answer, aside, turn] = channels.frame().map(|text| literal(calls, &text));
    let (text, said) = match content {
        Some(_) => ("@content", ""),
        None => ("TEXT?", "said*"),
    };
    let (mut starts, may_call) = (Vec::new(), *choice != ToolChoice::None);
    if channels.is_begun() {
        // The prompt has begun the answer; a call can only come behind it.
        if *choice != ToolChoice::Required {
            starts.push(text.to_owned());
        }
        if may_call && (content.is_none() || *choice == ToolChoice::Required) {
            starts.push(format!("TEXT? {turn} call"));
        }
    } else {
        if *choice != ToolChoice::Required {
            starts.push(format!("{said} {answer} {text}"));
        }
        if may_call {
            starts.push(format!("{said} call"));
        }
    }
    let mut lark = format!("start: {}\n", starts.join(" | "));
    lark.push_str(&format!("said: {aside} TEXT? {turn}\nTEXT: /(?s:.+)/\n"));
    if may_call {
        push_channel_calls(grammar, channels, &mut lark);
    }
    lark
}

/// The rules of calls that are messages.
fn push_channel_calls(grammar: &CallGrammar, channels: &Channels, lark: &mut String) {
    let written = |text: &str| literal(&grammar.calls, text);
    let call = |(tool_idx, tool): (usize, &Tool)| {
        let ([one, other], _, end) = channels.call(&tool.name);
        let [one, other, end] = [&*one, &*other, end].map(written);
        format!("({one} | {other}) form? {end} @arguments_{tool_idx}")
    };
    let calls: Vec<String> = grammar.tools.iter().enumerate().map(call).collect();
    let (_, forms, _) = channels.call("");
    let forms: Vec<String> = forms.iter().map(|form| written(form)).collect();
    lark.push_str(&format!("call: {}\nform: {}\n", calls.join("\n  | "), forms.join(" | ")));
}

/// The terminals of text that is no call.
fn push_text(grammar: &CallGrammar, is_token: bool, lark: &mut String) {
    let format: &ToolFormat = grammar.calls.format();
    let mark = Value::from(format.mark);
    let may_be_bare = format.is_bare && grammar.choice == ToolChoice::Auto;
    let any = match may_be_bare {
        // An answer that begins as a call does is one.
        true => format!(r"/[ \t\r\n]*[^\{} \t\r\n](?s:.*)/", bare_begin(format)),
        false => "/(?s:.+)/".to_owned(),
    };
    lark.push_str(&format!("TEXT: {any} & ~(/(?s:.*)/ {mark} /(?s:.*)/)\n"));
    if !is_token && grammar.choice == ToolChoice::Auto {
        lark.push_str(&format!("MARKED: TEXT? {mark}\n"));
    }
}

/// The rules of calls behind the mark.
fn push_calls(grammar: &CallGrammar, lark: &mut String) {
    let format = grammar.calls.format();
    let written = |text: &str| literal(&grammar.calls, text);
    let more = match format.between {
        Some(between) if grammar.is_parallel => format!("({} call)*", written(between)),
        _ => String::new(),
    };
    let open = written(format.open);
    lark.push_str(&format!("calls: {open} call {more} {}\n", written(format.close)));
    let call = |(tool_idx, tool): (usize, &Tool)| {
        let after = written(format.after_arguments);
        let sign = if format.arguments == Form::Json { "@" } else { "" };
        let arguments = format!("{sign}arguments_{tool_idx} {after}");
        let Some(before_number) = format.before_number else {
            let before = [format.before_name, &tool.name, format.before_arguments].concat();
            return format!("{} {arguments}", written(&before));
        };
        let before = written(&[format.before_name, &tool.name, before_number].concat());
        format!("{before} /[0-9]{{1,3}}/ {} {arguments}", written(format.before_arguments))
    };
    let calls: Vec<String> = grammar.tools.iter().enumerate().map(call).collect();
    lark.push_str(&format!("call: {}\n", calls.join("\n  | ")));
}

/// A text in Lark's notation; those of its parts that are tokens by their id.
pub(super) fn literal(calls: &Calls, text: &str) -> String {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let found = calls.marks.iter().filter_map(|&(id, mark)| Some((rest.find(mark)?, id, mark)));
        let (at, token) = match found.min_by_key(|(at, ..)| *at) {
            Some((at, id, mark)) => (at, Some((id, mark))),
            None => (rest.len(), None),
        };
        if at > 0 {
            pieces.push(Value::from(&rest[..at]).to_string());
        }
        rest = &rest[at..];
        if let Some((id, mark)) = token {
            pieces.push(format!("<[{id}]>"));
            rest = &rest[mark.len()..];
        }
    }
    pieces.join(" ")
}
