//! The parameters that chat completions and completions share.

use super::constraint;
use crate::dialects::fields::{Fields, as_integer, shown, wrong};
use crate::dialects::{ConstraintAsk, Delivery, SamplingAsk};
use crate::errors::BadRequest;
use crate::limits::Limits;
use engine::{
    Dry, MAX_DRY_BREAKERS, MAX_LOGIT_BIAS, MAX_STOP_BYTES, MAX_STOP_STRINGS, MAX_STOP_TOKENS,
    Mirostat, Priority,
};
use serde_json::Value;
use text::{MAX_BANNED, MAX_BANNED_BYTES};

/// Taken without effect: labels for the vendor's own books and caches, which ask for nothing that
/// a server on the owner's machine could fail to do.
const WITHOUT_EFFECT: &[&str] = &[
    "metadata",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
    "verbosity",
];

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
}

/// Takes the shared parameters out of `fields`.
pub(super) fn take(fields: &mut Fields, limits: &Limits) -> Result<Settings, BadRequest> {
    fields.accept(WITHOUT_EFFECT);
    if fields.flag("store")? == Some(true) {
        return Err(BadRequest::unsupported("store", "true: nothing is stored here"));
    }
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
    })
}

/// "flex" is OpenAI's tier for work that can wait, "fast" its newer name of "priority".
fn take_priority(fields: &mut Fields) -> Result<Priority, BadRequest> {
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
    let mut repetition_penalty = fields.number(name[0], f64::from(f32::MIN_POSITIVE)..=100.0)?;
    if let Some(other) = fields.number(name[1], f64::from(f32::MIN_POSITIVE)..=100.0)? {
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
        top_k: fields.integer("top_k", -1..=i64::from(u32::MAX))?.map(|k| k.max(0) as u32),
        // 0 keeps the likeliest token only, as the smallest positive number does.
        top_p: fields.number("top_p", 0.0..=1.0)?.map(|p| p.max(f32::MIN_POSITIVE)),
        min_p: fields.number("min_p", 0.0..=1.0)?,
        // The names of the following are llama-server's; vLLM has none.
        typical_p: fields.number("typical_p", f64::from(f32::MIN_POSITIVE)..=1.0)?,
        xtc_probability: fields.number("xtc_probability", 0.0..=1.0)?,
        xtc_threshold: fields.number("xtc_threshold", f64::from(f32::MIN_POSITIVE)..=1.0)?,
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
    let range = fields.integer("dry_penalty_last_n", -1..=i64::from(u32::MAX))?.unwrap_or(-1);
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
fn take_seed(fields: &mut Fields) -> Result<Option<u64>, BadRequest> {
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
fn take_stop(fields: &mut Fields) -> Result<Vec<String>, BadRequest> {
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
