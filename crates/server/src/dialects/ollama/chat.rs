//! `POST /api/chat`: its request. The answer is in `reply`.

use super::reply::{GenerationReply, Shape};
use super::settings::{FORMAT, KEEP_ALIVE, KEEP_NOTE, OBJECT, THINK};
use super::{GenerationRequest, messages, settings, tools};
use crate::dialects::fields::{Field, Fields};
use crate::dialects::{Answer, Call, Delivery, Dialect, Family, Paths, Prompts, Terms, Thinking};
use crate::errors::BadRequest;
use crate::limits::Limits;
use engine::{ChatEnd, MAX_LOGPROBS};
use serde_json::Map;

/// What becomes of the fields that the route knows; of any other the response tells.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
    Field::honoured("messages").shape(MESSAGES).good(r#"[{"role":"user","content":"Hi"}]"#),
    Field::adapted("tools")
        .shape(TOOLS)
        .good(TOOL)
        .note("what of a schema cannot be enforced is told"),
    Field::honoured("stream").flag().note("it is streamed unless this is false"),
    Field::honoured("format").shape(FORMAT).good(r#""json""#).note("\"json\" or a schema"),
    Field::adapted("think").shape(THINK).good("true"),
    Field::honoured("keep_alive").shape(KEEP_ALIVE).note(KEEP_NOTE),
    Field::honoured("options").shape(OBJECT).good(r#"{"num_predict":1}"#),
    Field::honoured("truncate").flag().note("leaves out the oldest turns of what is too long"),
    Field::honoured("shift")
        .flag()
        .good("false")
        .note("false is what is done; true is told as ignored"),
    Field::honoured("logprobs").flag(),
    Field::honoured("top_logprobs")
        .integer(0, MAX_LOGPROBS as i64)
        .beside(r#"{"logprobs":true}"#)
        .note("only with `logprobs`"),
    // For tests of templates.
    Field::refused("_debug_render_only", "this server shows no prompts"),
];

const MESSAGES: &str = r#"{"type":"array","items":{"type":"object","properties":{"role":{"enum":["system","user","assistant","tool"]},"content":{"type":["string","null"]}},"required":["role"]}}"#;
const TOOLS: &str = r#"{"type":"array","items":{"type":"object","properties":{"type":{"enum":["function",null]},"function":{"type":"object","properties":{"name":{"type":"string","pattern":"^[a-zA-Z0-9_-]{1,128}$"},"description":{"type":["string","null"]},"parameters":{"type":["object","null"]}},"required":["name"]}},"required":["function"]}}"#;
const TOOL: &str = r#"[{"type":"function","function":{"name":"now","parameters":{"type":"object","properties":{}}}}]"#;

/// The route.
pub(crate) struct Chat;

impl Dialect for Chat {
    type Request = GenerationRequest;
    type Reply = GenerationReply;
    const FAMILY: Family = Family::Ollama;

    fn parse(body: &[u8], limits: &Limits) -> Result<GenerationRequest, BadRequest> {
        parse(body, limits)
    }

    fn call(request: &GenerationRequest) -> &Call {
        &request.call
    }

    fn reply(request: GenerationRequest, answer: Answer, _: &[Vec<u32>]) -> GenerationReply {
        GenerationReply::new(&request, answer, Shape::Chat)
    }

    fn take_ignored(request: &mut GenerationRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn terms(request: &GenerationRequest) -> Terms {
        request.terms
    }

    fn place(_: &GenerationRequest, message_idx: usize, field: &str) -> String {
        let field = match field {
            "reasoning_content" => "thinking",
            "name" => "tool_name",
            field => field,
        };
        format!("messages[{message_idx}].{field}")
    }
}

pub(super) fn parse(body: &[u8], _limits: &Limits) -> Result<GenerationRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(FIELDS)?.into_iter().collect();
    let settings = settings::take(&mut fields, &mut ignored)?;
    let tools = tools::take(&mut fields, &mut ignored)?;
    let conversation = messages::take(&mut fields, &mut ignored)?;
    ignored.extend(fields.rest());
    let terms = settings.terms;
    let delivery = settings.delivery(conversation.is_some());
    let call = match conversation {
        // Nothing is asked.
        None => settings.call(Prompts::Plain(Vec::new()), delivery),
        Some((messages, end)) => {
            let prompts = Prompts::Chat { messages, kwargs: Map::new(), end };
            let call = Call { tools, ..settings.call(prompts, delivery) };
            if end == ChatEnd::Continue {
                check_continued(&call)?;
            }
            call
        }
    };
    let call = match delivery {
        Delivery::Load | Delivery::Unload => Call { constraint: None, ..call },
        _ => call,
    };
    Ok(GenerationRequest { call, terms, ignored })
}

/// Refuses what has to come before or around an answer that has begun already.
fn check_continued(call: &Call) -> Result<(), BadRequest> {
    if let Some(ask) = &call.constraint {
        let why = "a last message of the assistant's cannot be continued in a format of its own";
        return Err(BadRequest::unsupported(&ask.param, why));
    }
    if call.wishes.thinking.is_some_and(|thinking| thinking.what == Thinking::On) {
        let why = "a last message of the assistant's is continued, and thinking would stand before \
                   it";
        return Err(BadRequest::unsupported("think", why));
    }
    Ok(())
}
