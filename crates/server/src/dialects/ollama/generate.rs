//! `POST /api/generate`: its request. The answer is in `reply`.
//!
//! The prompt is one turn for the model's chat template; a base model, or `raw`, continues it.

use super::reply::{GenerationReply, Shape};
use super::settings::{FORMAT, KEEP_ALIVE, KEEP_NOTE, OBJECT, THINK};
use super::{GenerationRequest, settings};
use crate::dialects::fields::{Field, Fields, take_ids};
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
    Field::honoured("suffix").text().good(r#"" the end""#).by_model().note(SUFFIX_NOTE),
    Field::honoured("context").shape(CONTEXT).good("[17]").note(CONTEXT_NOTE),
    Field::refused("template", "a model's own template is used; write the prompt with raw"),
    Field::refused("images", "the models here read text only"),
    Field::refused("width", "the models here make no images"),
    Field::refused("height", "the models here make no images"),
    Field::refused("steps", "the models here make no images"),
    // For tests of templates.
    Field::refused("_debug_render_only", "this server shows no prompts"),
];

/// What there is to know of `suffix` and `context`.
const SUFFIX_NOTE: &str = "what stands behind the answer, of models with tokens to fill in the \
                           middle; without `system`, `raw` and `context`";
const CONTEXT_NOTE: &str = "the `context` of an earlier answer, which the conversation goes on \
                            from; not with `raw`, and not where an upstream answers";
const CONTEXT: &str = r#"{"type":"array","items":{"type":"integer","minimum":0}}"#;

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

    fn reply(request: GenerationRequest, answer: Answer, prompts: &[Vec<u32>]) -> GenerationReply {
        let reply = GenerationReply::new(&request, answer, Shape::Generate);
        match (&request.call.prompts, prompts) {
            // An upstream's answer has no ids that mean anything here.
            (Prompts::Turn { .. }, [prompt]) if !prompt.is_empty() => reply.with_context(prompt),
            _ => reply,
        }
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
    let context = take_ids(&mut fields, "context")?;
    let suffix = fields.text("suffix")?.filter(|suffix| !suffix.is_empty());
    let others = [("system", system.is_some()), ("context", !context.is_empty())];
    if let Some((name, _)) = others.iter().find(|(_, is_there)| *is_there && is_raw) {
        let why = "a raw prompt is used as it stands, expected all of it in \"prompt\"";
        return Err(BadRequest::unsupported(name, why));
    }
    if suffix.is_some() && (is_raw || others.iter().any(|(_, is_there)| *is_there)) {
        let why = "what is filled in has nothing around it but \"prompt\" and \"suffix\": expected \
                   no \"raw\", \"system\" and \"context\" beside them";
        return Err(BadRequest::unsupported("suffix", why));
    }
    if settings.terms.overlong == Overlong::Truncate {
        ignored.push("truncate".to_owned());
    }
    if is_raw || suffix.is_some() {
        ignored.extend(settings.wishes.params().map(str::to_owned));
    }
    ignored.extend(fields.rest());
    let terms = Terms { overlong: Overlong::Refuse, ..settings.terms };
    let delivery = settings.delivery(prompt.is_some() || suffix.is_some());
    let prompts = match (prompt, suffix) {
        (None, None) => Prompts::Plain(Vec::new()),
        (before, Some(behind)) => {
            let before = before.unwrap_or_default();
            Prompts::Plain(vec![PlainPrompt::Middle { before, behind }])
        }
        (Some(text), None) if is_raw => Prompts::Plain(vec![PlainPrompt::Text(text)]),
        (Some(text), None) => Prompts::Turn { system, text, context },
    };
    let call = settings.call(prompts, delivery);
    let call = match delivery {
        Delivery::Load | Delivery::Unload => Call { constraint: None, ..call },
        _ => call,
    };
    Ok(GenerationRequest { call, terms, ignored })
}
