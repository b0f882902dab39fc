//! `POST /api/generate`: its request. The answer is in `reply`.
//!
//! The prompt is one turn for the model's chat template; a base model, or `raw`, continues it.

use super::reply::{GenerationReply, Shape};
use super::settings::{FORMAT, KEEP_ALIVE, KEEP_NOTE, OBJECT, THINK};
use super::{GenerationRequest, settings};
use crate::dialects::fields::{Field, Fields};
use crate::dialects::{
    Answer, Call, Delivery, Dialect, Family, Overlong, Paths, PlainPrompt, Prompts, Terms,
};
use crate::errors::BadRequest;
use crate::limits::Limits;
use engine::MAX_LOGPROBS;

/// What becomes of the fields that the route knows; of any other the response tells.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("model").text(),
    Field::honoured("name").text().note("the older name of `model`"),
    Field::honoured("prompt").text(),
    Field::honoured("system").text(),
    Field::honoured("raw").flag(),
    Field::honoured("stream").flag().note("it is streamed unless this is false"),
    Field::honoured("format").shape(FORMAT).good(r#""json""#).note("\"json\" or a schema"),
    Field::adapted("think").shape(THINK).good("true"),
    Field::honoured("keep_alive").shape(KEEP_ALIVE).note(KEEP_NOTE),
    Field::honoured("options").shape(OBJECT).good(r#"{"num_predict":1}"#),
    Field::honoured("truncate")
        .flag()
        .good("false")
        .note("a prompt is never cut; true is told as ignored"),
    Field::honoured("shift")
        .flag()
        .good("false")
        .note("false is what is done; true is told as ignored"),
    Field::honoured("logprobs").flag(),
    Field::honoured("top_logprobs")
        .integer(0, MAX_LOGPROBS as i64)
        .beside(r#"{"logprobs":true}"#)
        .note("only with `logprobs`"),
    Field::refused("suffix", "no model here fills in what is missing in the middle"),
    Field::refused("template", "a model's own template is used; write the prompt with raw"),
    Field::refused("context", "conversations are sent as messages, to /api/chat"),
    Field::refused("images", "the models here read text only"),
    Field::refused("width", "the models here make no images"),
    Field::refused("height", "the models here make no images"),
    Field::refused("steps", "the models here make no images"),
    // For tests of templates.
    Field::refused("_debug_render_only", "this server shows no prompts"),
];

/// The route.
pub(crate) struct Generate;

impl Dialect for Generate {
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
        GenerationReply::new(&request, answer, Shape::Generate)
    }

    fn take_ignored(request: &mut GenerationRequest) -> Paths {
        std::mem::take(&mut request.ignored)
    }

    fn terms(request: &GenerationRequest) -> Terms {
        request.terms
    }

    fn place(_: &GenerationRequest, _message_idx: usize, _field: &str) -> String {
        "prompt".to_owned()
    }
}

pub(super) fn parse(body: &[u8], _limits: &Limits) -> Result<GenerationRequest, BadRequest> {
    let mut fields = Fields::parse(body)?;
    let mut ignored: Paths = fields.treat(FIELDS)?.into_iter().collect();
    let settings = settings::take(&mut fields, &mut ignored)?;
    let prompt = fields.text("prompt")?.filter(|prompt| !prompt.is_empty());
    let system = fields.text("system")?.filter(|system| !system.is_empty());
    let is_raw = fields.flag("raw")?.unwrap_or(false);
    if is_raw && system.is_some() {
        let why = "a raw prompt is used as it stands, expected all of it in \"prompt\"";
        return Err(BadRequest::unsupported("system", why));
    }
    if settings.terms.overlong == Overlong::Truncate {
        ignored.push("truncate".to_owned());
    }
    if is_raw {
        ignored.extend(settings.wishes.params().map(str::to_owned));
    }
    ignored.extend(fields.rest());
    let terms = Terms { overlong: Overlong::Refuse, ..settings.terms };
    let delivery = settings.delivery(prompt.is_some());
    let prompts = match prompt {
        None => Prompts::Plain(Vec::new()),
        Some(text) if is_raw => Prompts::Plain(vec![PlainPrompt::Text(text)]),
        Some(text) => Prompts::Turn { system, text },
    };
    let call = settings.call(prompts, delivery);
    let call = match delivery {
        Delivery::Load | Delivery::Unload => Call { constraint: None, ..call },
        _ => call,
    };
    Ok(GenerationRequest { call, terms, ignored })
}
