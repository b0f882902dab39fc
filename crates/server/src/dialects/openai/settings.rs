//! The parameters that chat completions and completions share.

use super::constraint;
use crate::dialects::declared::{NO_END, POSITIVE};
use crate::dialects::fields::{Field, Fields, as_integer, shown, wrong};
use crate::dialects::{ConstraintAsk, Delivery, Paths, SamplingAsk, Thinking, Wish, Wishes};
use crate::errors::BadRequest;
use crate::limits::Limits;
use engine::{
    Dry, MAX_DRY_BREAKERS, MAX_LOGIT_BIAS, MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_STOP_TOKENS,
    Mirostat, Priority,
};
use serde_json::Value;
use text::{MAX_BANNED, MAX_BANNED_BYTES};

/// What becomes of the fields that both routes know.
pub(crate) const FIELDS: &[Field] = &[
    Field::honoured("model").text().note("without it: the first model that writes text"),
    Field::honoured("stream").flag(),
    Field::honoured("stream_options")
        .shape(STREAM_OPTIONS)
        .good(r#"{"include_usage":true}"#)
        .beside(r#"{"stream":true}"#)
        .note("only with `stream`"),
    Field::honoured("n").count(1).good("2").note("at most 16, unless the operator says otherwise"),
    Field::honoured("temperature").number(0.0, 2.0),
    Field::honoured("top_p").number(0.0, 1.0),
    Field::honoured("presence_penalty").number(-2.0, 2.0),
    Field::honoured("frequency_penalty").number(-2.0, 2.0),
    Field::honoured("logit_bias").shape(LOGIT_BIAS).good(r#"{"17":-100}"#),
    Field::honoured("seed").integer(i64::MIN, NO_END),
    Field::honoured("stop").shape(STOP).good(r#"["END"]"#),
    Field::honoured("response_format").shape(RESPONSE_FORMAT).good(r#"{"type":"json_object"}"#),
    Field::honoured("service_tier")
        .words(&["auto", "default", "fast", "priority", "flex"])
        .note("`flex` lets others go first"),
    Field::honoured("top_k").integer(-1, U32_MAX).note("0 and -1: off"),
    Field::honoured("min_p").number(0.0, 1.0),
    Field::honoured("typical_p").number(POSITIVE, 1.0),
    Field::honoured("repetition_penalty").number(POSITIVE, 100.0).good("1.1"),
    Field::honoured("repeat_penalty")
        .number(POSITIVE, 100.0)
        .good("1.1")
        .note("the same as `repetition_penalty`"),
    Field::honoured("xtc_probability").number(0.0, 1.0),
    Field::honoured("xtc_threshold").number(POSITIVE, 1.0),
    Field::honoured("dry_multiplier").number(0.0, 100.0).good("0.8"),
    Field::honoured("dry_base").number(1.0, 8.0),
    Field::honoured("dry_allowed_length").count(1),
    Field::honoured("dry_penalty_last_n").integer(-1, U32_MAX).note("-1: the whole context"),
    Field::honoured("dry_sequence_breakers").shape(TEXTS).good(r#"["\n"]"#),
    Field::honoured("mirostat").integer(0, 2).good("2").note("0 (off) or 2"),
    Field::honoured("mirostat_tau").number(0.0, 100.0),
    Field::honoured("mirostat_eta").number(0.0, 1.0),
    Field::honoured("min_tokens").count(0),
    Field::honoured("stop_token_ids").shape(TOKEN_IDS).good("[17]"),
    Field::honoured("ignore_eos").flag(),
    Field::honoured("bad_words").shape(TEXTS).good(r#"["bad"]"#),
    Field::honoured("banned_strings")
        .shape(TEXTS)
        .good(r#"["bad"]"#)
        .note("the same as `bad_words`"),
    Field::honoured("guided_json")
        .shape(SCHEMA)
        .good(r#"{"type":"integer"}"#)
        .note("one constraint at most: this, another of these names, or `response_format`"),
    Field::honoured("guided_regex").text().good(r#""[a-z]+""#),
    Field::honoured("guided_choice").shape(TEXTS).good(r#"["yes","no"]"#),
    Field::honoured("guided_grammar")
        .text()
        .good(r#""root ::= [a-z]+""#)
        .note("in GBNF or Lark's notation; which one it is shows"),
    Field::honoured("grammar")
        .text()
        .good(r#""root ::= [a-z]+""#)
        .note("the same as `guided_grammar`; an empty one is none"),
    Field::honoured("structured_outputs").shape(STRUCTURED_OUTPUTS).good(r#"{"regex":"[a-z]+"}"#),
    Field::honoured("cache_prompt").flag().note("`false`: past the prefix cache"),
    // Labels for the vendor's own books and caches, which ask for nothing that a server on the
    // owner's machine could fail to do.
    Field::tolerated("metadata"),
    Field::tolerated("prediction").note("repetitions are guessed in any case"),
    Field::tolerated("prompt_cache_key"),
    Field::tolerated("prompt_cache_options"),
    Field::tolerated("prompt_cache_retention"),
    Field::tolerated("safety_identifier"),
    Field::tolerated("user"),
    Field::ignored("verbosity").note("no template knows it: say it in the prompt"),
    Field::refused("store", "nothing is stored here"),
];

const U32_MAX: i64 = u32::MAX as i64;
const STREAM_OPTIONS: &str = r#"{"type":"object","properties":{"include_usage":{"type":["boolean","null"]},"include_obfuscation":{}},"additionalProperties":false}"#;
const LOGIT_BIAS: &str = r#"{"type":"object","propertyNames":{"pattern":"^[0-9]+$"},"additionalProperties":{"type":"number","minimum":-100,"maximum":100}}"#;
const STOP: &str = r#"{"anyOf":[{"type":"string","minLength":1},{"type":"array","items":{"type":"string","minLength":1}}]}"#;
const TEXTS: &str = r#"{"type":"array","items":{"type":"string"}}"#;
const TOKEN_IDS: &str = r#"{"type":"array","items":{"type":"integer","minimum":0}}"#;
const SCHEMA: &str =
    r#"{"type":["object","boolean","string"],"description":"a JSON schema, or one as text"}"#;
const RESPONSE_FORMAT: &str = r#"{"type":"object","properties":{"type":{"enum":["text","json_object","json_schema"]},"json_schema":{"type":["object","null"],"properties":{"name":{"type":["string","null"]},"description":{"type":["string","null"]},"schema":{},"strict":{"type":["boolean","null"]}},"additionalProperties":false}},"required":["type"],"additionalProperties":false}"#;
const STRUCTURED_OUTPUTS: &str = r#"{"type":"object","properties":{"json":{"type":["object","boolean","string","null"]},"regex":{"type":["string","null"]},"choice":{"type":["array","null"],"items":{"type":"string"}},"grammar":{"type":["string","null"]},"json_object":{"type":["boolean","null"]}},"additionalProperties":false}"#;

/// What both routes read in the same way.
pub(super) struct Settings {
    pub(super) model: Option<String>,
    pub(super) n: usize,
    pub(super) sampling: SamplingAsk,
    pub(super) stop: Vec<String>,
    pub(super) ignore_eos: bool,
    pub(super) banned: Vec<String>,
    pub(super) min_tokens: u32,
    pub(super) stop_tokens: Vec<u32>,
    pub(super) constraint: Option<ConstraintAsk>,
    pub(super) delivery: Delivery,
    /// Whether a stream ends with a chunk that holds the usage.
    pub(super) include_usage: bool,
    /// As llama-server names it: whether the prefix cache is used.
    pub(super) cache_prompt: bool,
    pub(super) priority: Priority,
    /// Paths of what has no effect.
    pub(super) ignored: Paths,
}

/// Takes the shared parameters out of `fields`.
pub(super) fn take(fields: &mut Fields, limits: &Limits) -> Result<Settings, BadRequest> {
    let ignored = fields.treat(FIELDS)?.into_iter().collect();
    let n_max = i64::try_from(limits.n_choices_per_prompt).unwrap_or(i64::MAX);
    let (delivery, include_usage) = take_delivery(fields)?;
    Ok(Settings {
        model: fields.text("model")?,
        n: fields.integer("n", 1..=n_max)?.map_or(1, |n| n as usize),
        sampling: take_sampling(fields)?,
        stop: take_stop(fields)?,
        ignore_eos: fields.flag("ignore_eos")?.unwrap_or(false),
        banned: take_banned(fields)?,
        min_tokens: fields.count("min_tokens", 0)?.unwrap_or(0),
        stop_tokens: take_stop_tokens(fields)?,
        constraint: constraint::take(fields)?,
        delivery,
        include_usage,
        cache_prompt: fields.flag("cache_prompt")?.unwrap_or(true),
        priority: take_priority(fields)?,
        ignored,
    })
}

/// What is wished for by the effort in one word, which the field `param` states.
pub(super) fn effort(word: &'static str, param: &'static str) -> Wishes {
    let param = Some(param);
    match word {
        "none" => {
            let thinking = Some(Wish { what: Thinking::Off, param });
            Wishes { thinking, ..Wishes::default() }
        }
        // Whoever says how hard wants it to think; that it cannot is told of the effort.
        what => Wishes {
            thinking: Some(Wish { what: Thinking::On, param: None }),
            effort: Some(Wish { what, param }),
            ..Wishes::default()
        },
    }
}

/// "flex" is OpenAI's tier for work that can wait, "fast" its newer name of "priority".
pub(super) fn take_priority(fields: &mut Fields) -> Result<Priority, BadRequest> {
    match fields.text("service_tier")?.as_deref() {
        None | Some("auto" | "default" | "fast" | "priority") => Ok(Priority::Interactive),
        Some("flex") => Ok(Priority::Batch),
        Some(tier) => {
            let expected = "\"auto\", \"default\", \"fast\", \"priority\" or \"flex\"";
            Err(wrong("service_tier", &tier.into(), expected))
        }
    }
}

fn take_delivery(fields: &mut Fields) -> Result<(Delivery, bool), BadRequest> {
    let stream = fields.flag("stream")?.unwrap_or(false);
    let mut include_usage = false;
    if let Some(mut options) = fields.object("stream_options")? {
        if !stream {
            let problem = "an object: expected it only together with \"stream\": true";
            return Err(BadRequest::field("stream_options", problem));
        }
        include_usage = options.flag("include_usage")?.unwrap_or(false);
        // Padding against traffic analysis at the vendor's edge; there is no such edge here.
        options.accept(&["include_obfuscation"]);
        options.refuse_rest()?;
    }
    Ok((if stream { Delivery::Stream } else { Delivery::Whole }, include_usage))
}

fn take_sampling(fields: &mut Fields) -> Result<SamplingAsk, BadRequest> {
    // "repetition_penalty" is vLLM's name, "repeat_penalty" llama-server's.
    let name = ["repetition_penalty", "repeat_penalty"];
    let mut repetition_penalty = fields.number(name[0], POSITIVE..=100.0)?;
    if let Some(other) = fields.number(name[1], POSITIVE..=100.0)? {
        if repetition_penalty.is_some_and(|penalty| penalty != other) {
            let problem = format!("{other}: expected the same as repetition_penalty, or neither");
            return Err(BadRequest::field(name[1], &problem));
        }
        repetition_penalty = Some(other);
    }
    let (dry, dry_breakers) = take_dry(fields)?;
    Ok(SamplingAsk {
        temperature: fields.number("temperature", 0.0..=2.0)?,
        // 0 means "off" at llama-server, -1 does at vLLM.
        top_k: fields.integer("top_k", -1..=U32_MAX)?.map(|k| k.max(0) as u32),
        // 0 keeps the likeliest token only, as the smallest positive number does.
        top_p: fields.number("top_p", 0.0..=1.0)?.map(|p| p.max(f32::MIN_POSITIVE)),
        min_p: fields.number("min_p", 0.0..=1.0)?,
        // The names of the following are llama-server's; vLLM has none.
        typical_p: fields.number("typical_p", POSITIVE..=1.0)?,
        xtc_probability: fields.number("xtc_probability", 0.0..=1.0)?,
        xtc_threshold: fields.number("xtc_threshold", POSITIVE..=1.0)?,
        dry,
        dry_breakers,
        mirostat: take_mirostat(fields)?,
        repetition_penalty,
        presence_penalty: fields.number("presence_penalty", -2.0..=2.0)?,
        frequency_penalty: fields.number("frequency_penalty", -2.0..=2.0)?,
        logit_bias: take_logit_bias(fields)?,
        seed: take_seed(fields)?,
    })
}

/// Off unless its multiplier is above 0; what is not said has llama-server's value.
fn take_dry(fields: &mut Fields) -> Result<(Option<Dry>, Option<Vec<String>>), BadRequest> {
    let multiplier = fields.number("dry_multiplier", 0.0..=100.0)?.unwrap_or(0.0);
    let base = fields.number("dry_base", 1.0..=8.0)?.unwrap_or(1.75);
    let allowed_length = fields.count("dry_allowed_length", 1)?.unwrap_or(2);
    // -1 is the whole context.
    let range = fields.integer("dry_penalty_last_n", -1..=U32_MAX)?.unwrap_or(-1);
    let breakers = match fields.list("dry_sequence_breakers")? {
        None => None,
        Some(list) if list.len() > MAX_DRY_BREAKERS => {
            let problem = format!("{} texts: expected at most {MAX_DRY_BREAKERS}", list.len());
            return Err(BadRequest::field("dry_sequence_breakers", &problem));
        }
        Some(list) => {
            let text = |(idx, value): (usize, Value)| match value {
                Value::String(text) if (1..=MAX_STOP_BYTES).contains(&text.len()) => Ok(text),
                other => {
                    let expected = format!("a string of 1 to {MAX_STOP_BYTES} bytes");
                    Err(wrong(&format!("dry_sequence_breakers[{idx}]"), &other, &expected))
                }
            };
            Some(list.into_iter().enumerate().map(text).collect::<Result<_, _>>()?)
        }
    };
    let range = u32::try_from(range).ok();
    let dry = Dry { multiplier, base, allowed_length, range, breakers: Vec::new() };
    Ok(((multiplier > 0.0).then_some(dry), breakers))
}

/// 0 is off and 2 the version that there is.
fn take_mirostat(fields: &mut Fields) -> Result<Option<Mirostat>, BadRequest> {
    let version = fields.integer("mirostat", 0..=2)?.unwrap_or(0);
    let tau = fields.number("mirostat_tau", 0.0..=100.0)?.unwrap_or(5.0);
    let eta = fields.number("mirostat_eta", 0.0..=1.0)?.unwrap_or(0.1);
    match version {
        0 => Ok(None),
        2 => Ok(Some(Mirostat { tau, eta })),
        _ => Err(BadRequest::unsupported("mirostat", "1: expected 0 (off) or 2, the version")),
    }
}

/// "bad_words" is vLLM's name, "banned_strings" that of others.
fn take_banned(fields: &mut Fields) -> Result<Vec<String>, BadRequest> {
    let mut banned = Vec::new();
    for name in ["bad_words", "banned_strings"] {
        for (idx, value) in fields.list(name)?.unwrap_or_default().into_iter().enumerate() {
            match value {
                Value::String(text) if (1..=MAX_BANNED_BYTES).contains(&text.len()) => {
                    banned.push(text);
                }
                other => {
                    let expected = format!("a string of 1 to {MAX_BANNED_BYTES} bytes");
                    return Err(wrong(&format!("{name}[{idx}]"), &other, &expected));
                }
            }
            if banned.len() > MAX_BANNED {
                let problem = format!("more than {MAX_BANNED} strings: expected fewer");
                return Err(BadRequest::field(name, &problem));
            }
        }
    }
    Ok(banned)
}

fn take_stop_tokens(fields: &mut Fields) -> Result<Vec<u32>, BadRequest> {
    let list = fields.list("stop_token_ids")?.unwrap_or_default();
    if list.len() > MAX_STOP_TOKENS {
        let problem = format!("{} tokens: expected at most {MAX_STOP_TOKENS}", list.len());
        return Err(BadRequest::field("stop_token_ids", &problem));
    }
    let id = |(idx, value): (usize, Value)| {
        let id = as_integer(&value).and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| wrong(&format!("stop_token_ids[{idx}]"), &value, "a token id"))
    };
    list.into_iter().enumerate().map(id).collect()
}

/// Any 64-bit integer, of either sign: negative ones stand for their bits.
pub(super) fn take_seed(fields: &mut Fields) -> Result<Option<u64>, BadRequest> {
    let Some(value) = fields.take("seed") else { return Ok(None) };
    let seed = value.as_u64().or_else(|| as_integer(&value).map(|seed| seed as u64));
    seed.map(Some).ok_or_else(|| wrong("seed", &value, "a 64-bit integer"))
}

/// Keys are token ids as strings.
fn take_logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, BadRequest> {
    let Some(biases) = fields.object("logit_bias")? else { return Ok(Vec::new()) };
    let biases = biases.into_map();
    if biases.len() > MAX_LOGIT_BIAS {
        let problem = format!("{} entries: expected at most {MAX_LOGIT_BIAS}", biases.len());
        return Err(BadRequest::field("logit_bias", &problem));
    }
    let mut list = Vec::with_capacity(biases.len());
    for (key, value) in &biases {
        let id = key.parse::<u32>().map_err(|_| {
            let key = shown(&Value::String(key.clone()));
            let problem = format!("key {key}: expected a token id as a string, like \"50256\"");
            BadRequest::field("logit_bias", &problem)
        })?;
        match value.as_f64() {
            Some(bias) if (-100.0..=100.0).contains(&bias) => list.push((id, bias as f32)),
            _ => {
                let path = format!("logit_bias.{id}");
                return Err(wrong(&path, value, "a number between -100 and 100"));
            }
        }
    }
    Ok(list)
}

/// A string or an array of strings. Empty ones would stop at once; they are refused.
pub(super) fn take_stop(fields: &mut Fields) -> Result<Vec<String>, BadRequest> {
    let list = match fields.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(one @ Value::String(_)) => vec![one],
        Some(other) => return Err(wrong("stop", &other, "a string or an array of strings")),
    };
    if list.len() > MAX_STOP_STRINGS {
        let problem = format!("{} strings: expected at most {MAX_STOP_STRINGS}", list.len());
        return Err(BadRequest::field("stop", &problem));
    }
    let mut stop = Vec::with_capacity(list.len());
    for (stop_idx, value) in list.into_iter().enumerate() {
        match value {
            Value::String(text) if (1..=MAX_STOP_BYTES).contains(&text.len()) => stop.push(text),
            other => {
                let expected = format!("a string of 1 to {MAX_STOP_BYTES} bytes");
                return Err(wrong(&format!("stop[{stop_idx}]"), &other, &expected));
            }
        }
    }
    Ok(stop)
}
