//! What chat and generate read in the same way: `options`, `format`, `think`, `keep_alive`.

use crate::dialects::declared::{Field, NO_END, POSITIVE};
use crate::dialects::fields::{Fields, missing, wrong};
use crate::dialects::{
    Call, ConstraintAsk, Delivery, Overlong, Paths, Prompts, SamplingAsk, Terms, Thinking, Wish,
    Wishes,
};
use crate::errors::BadRequest;
use engine::{Grammar, MAX_LOGPROBS, MAX_STOP_BYTES, MAX_STOP_STRINGS, Mirostat, Priority};
use serde_json::Value;
use std::time::Duration;

/// What becomes of the fields of `options`; of any other the response tells, as Ollama goes on with
/// a warning.
pub(super) const OPTIONS: &[Field] = &[
    Field::honoured("num_ctx").count(1),
    Field::honoured("num_predict").integer(-2, NO_END),
    Field::honoured("temperature").number(0.0, 100.0),
    Field::honoured("top_k").integer(-1, u32::MAX as i64),
    Field::honoured("top_p").number(0.0, 1.0),
    Field::honoured("min_p").number(0.0, 1.0),
    Field::honoured("typical_p").number(POSITIVE, 1.0),
    Field::honoured("repeat_penalty").number(POSITIVE, 100.0),
    Field::honoured("repeat_last_n").integer(-1, NO_END),
    Field::honoured("presence_penalty").number(-100.0, 100.0),
    Field::honoured("frequency_penalty").number(-100.0, 100.0),
    Field::honoured("mirostat").integer(0, 2),
    Field::honoured("mirostat_tau").number(0.0, 100.0),
    Field::honoured("mirostat_eta").number(0.0, 1.0),
    Field::honoured("seed").integer(i64::MIN, NO_END),
    Field::honoured("stop"),
    // How a model is loaded is its owner's to say, once for all clients.
    Field::ignored("numa"),
    Field::ignored("num_batch"),
    Field::ignored("num_gpu"),
    Field::ignored("main_gpu"),
    Field::ignored("low_vram"),
    Field::ignored("f16_kv"),
    Field::ignored("logits_all"),
    Field::ignored("vocab_only"),
    Field::ignored("use_mmap"),
    Field::ignored("use_mlock"),
    Field::ignored("embedding_only"),
    Field::ignored("num_thread"),
    Field::ignored("draft_num_predict"),
    // Ollama itself takes these without effect.
    Field::ignored("tfs_z"),
    Field::ignored("penalize_newline"),
    // Nothing is shifted out of a context that is full.
    Field::ignored("num_keep"),
];

pub(super) const OBJECT: &str = r#"{"type":"object"}"#;
pub(super) const FORMAT: &str = r#"{"anyOf":[{"enum":["json",""]},{"type":"object"}]}"#;
pub(super) const THINK: &str = r#"{"enum":[true,false,"low","medium","high"]}"#;
pub(super) const KEEP_ALIVE: &str = r#"{"type":["number","string"]}"#;
pub(super) const KEEP_NOTE: &str =
    "a time such as \"5m\", or seconds; told as ignored where the model stays open anyway";

/// What both routes read in the same way.
pub(super) struct Settings {
    pub(super) model: String,
    pub(super) is_streamed: bool,
    pub(super) terms: Terms,
    pub(super) max_tokens: Option<u32>,
    pub(super) sampling: SamplingAsk,
    pub(super) stop: Vec<String>,
    pub(super) constraint: Option<ConstraintAsk>,
    pub(super) wishes: Wishes,
    pub(super) logprobs: Option<u32>,
}

/// Takes them; the paths of what has no effect go to `ignored`.
pub(super) fn take(fields: &mut Fields, ignored: &mut Paths) -> Result<Settings, BadRequest> {
    let model = take_model(fields)?;
    let is_streamed = fields.flag("stream")?.unwrap_or(true);
    let keep = take_keep_alive(fields)?;
    let overlong = match fields.flag("truncate")? {
        Some(true) => Overlong::Truncate,
        Some(false) | None => Overlong::Refuse,
    };
    // An answer ends where the context does.
    if fields.flag("shift")? == Some(true) {
        ignored.push("shift".to_owned());
    }
    let path = fields.path("options");
    let mut options = match fields.take("options") {
        None => Fields::of(&path, Value::Object(serde_json::Map::new()))?,
        Some(options) => Fields::of(&path, options)?,
    };
    ignored.extend(options.treat(OPTIONS)?);
    // 0 and -1 are no bound and -2 what is left of the context, which bounds every answer.
    let max_tokens = options.integer("num_predict", -2..=i64::MAX)?;
    let max_tokens = max_tokens.filter(|n| *n > 0);
    let n_ctx = options.count("num_ctx", 1)?;
    let settings = Settings {
        model,
        is_streamed,
        terms: Terms {
            keep,
            n_ctx: n_ctx.map(|what| Wish { what, param: Some("options.num_ctx") }),
            overlong,
        },
        max_tokens: max_tokens.map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
        sampling: take_sampling(&mut options, ignored)?,
        stop: take_stop(&mut options)?,
        constraint: take_format(fields)?,
        wishes: take_think(fields)?,
        logprobs: take_logprobs(fields)?,
    };
    ignored.extend(options.rest());
    Ok(settings)
}

impl Settings {
    /// How the answer is sent; without a prompt only the model is opened or closed.
    pub(super) fn delivery(&self, has_prompt: bool) -> Delivery {
        let is_unloaded = self.terms.keep.is_some_and(|keep| keep.what.is_zero());
        match (has_prompt, self.is_streamed) {
            (true, true) => Delivery::Stream,
            (true, false) => Delivery::Whole,
            (false, _) if is_unloaded => Delivery::Unload,
            (false, _) => Delivery::Load,
        }
    }

    /// The call, but for its tools.
    pub(super) fn call(self, prompts: Prompts, delivery: Delivery) -> Call {
        Call {
            model: Some(self.model),
            prompts,
            n_per_prompt: 1,
            max_tokens: self.max_tokens,
            sampling: self.sampling,
            stop: self.stop,
            ignore_eos: false,
            banned: Vec::new(),
            min_tokens: 0,
            stop_tokens: Vec::new(),
            logprobs: self.logprobs,
            prompt_logprobs: None,
            constraint: self.constraint,
            tools: None,
            reasoning_budget: None,
            wishes: self.wishes,
            delivery,
            cache_prompt: true,
            priority: Priority::Interactive,
        }
    }
}

/// `model`, or `name` as it was called once.
pub(super) fn take_model(fields: &mut Fields) -> Result<String, BadRequest> {
    let older = fields.text("name")?;
    let model = fields.text("model")?.filter(|model| !model.is_empty()).or(older);
    model.filter(|model| !model.is_empty()).ok_or_else(|| missing("model", "the name of a model"))
}

/// `keep_alive`: a time, or a number of seconds; negative: for ever.
pub(super) fn take_keep_alive(fields: &mut Fields) -> Result<Option<Wish<Duration>>, BadRequest> {
    let Some(value) = fields.take("keep_alive") else { return Ok(None) };
    let seconds = match &value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok().or_else(|| go_seconds(text)),
        _ => None,
    };
    let Some(seconds) = seconds.filter(|seconds| !seconds.is_nan()) else {
        return Err(wrong("keep_alive", &value, "a time such as \"5m\", or a number of seconds"));
    };
    let what = match seconds < 0.0 {
        true => Duration::MAX,
        false => Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX),
    };
    Ok(Some(Wish { what, param: Some("keep_alive") }))
}

/// The seconds of a time as Go writes it (`time.ParseDuration`): `1h30m`, `-1.5s`.
fn go_seconds(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("\u{b5}s", 1e-6),
        ("\u{3bc}s", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = &rest[end..unit_end.map_or(rest.len(), |n| end + n)];
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit)?;
        seconds += number * factor;
        rest = &rest[end + unit.len()..];
    }
    (!text.is_empty() && text.ends_with(char::is_alphabetic)).then_some(sign * seconds)
}

/// `format`: nothing, "json" for any object, or a schema.
fn take_format(fields: &mut Fields) -> Result<Option<ConstraintAsk>, BadRequest> {
    let param = fields.path("format");
    let grammar = match fields.take("format") {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::String(text)) if text == "json" => Grammar::JsonObject,
        Some(schema @ Value::Object(_)) => Grammar::JsonSchema(schema),
        Some(other) => return Err(wrong(&param, &other, "\"json\" or a JSON schema")),
    };
    Ok(Some(ConstraintAsk { grammar, param }))
}

/// `think`: whether, or how hard.
fn take_think(fields: &mut Fields) -> Result<Wishes, BadRequest> {
    const EFFORTS: &[&str] = &["low", "medium", "high"];
    let Some(value) = fields.take("think") else { return Ok(Wishes::default()) };
    let param = Some("think");
    let (what, effort) = match &value {
        Value::Bool(true) => (Thinking::On, None),
        Value::Bool(false) => (Thinking::Off, None),
        Value::String(word) => match EFFORTS.iter().find(|effort| **effort == *word) {
            Some(effort) => (Thinking::On, Some(Wish { what: *effort, param })),
            None => {
                return Err(wrong("think", &value, "true, false, \"low\", \"medium\", \"high\""));
            }
        },
        _ => return Err(wrong("think", &value, "true, false, \"low\", \"medium\", \"high\"")),
    };
    Ok(Wishes { thinking: Some(Wish { what, param }), budget: None, effort })
}

fn take_logprobs(fields: &mut Fields) -> Result<Option<u32>, BadRequest> {
    let is_wanted = fields.flag("logprobs")?.unwrap_or(false);
    let n_top = fields.integer("top_logprobs", 0..=i64::from(MAX_LOGPROBS))?.unwrap_or(0);
    if n_top > 0 && !is_wanted {
        let problem = format!("{n_top}: expected it only together with \"logprobs\": true");
        return Err(BadRequest::field("top_logprobs", &problem));
    }
    Ok(is_wanted.then_some(n_top as u32))
}

fn take_sampling(options: &mut Fields, ignored: &mut Paths) -> Result<SamplingAsk, BadRequest> {
    let mirostat = options.integer("mirostat", 0..=2)?.unwrap_or(0);
    let tau = options.number("mirostat_tau", 0.0..=100.0)?.unwrap_or(5.0);
    let eta = options.number("mirostat_eta", 0.0..=1.0)?.unwrap_or(0.1);
    if mirostat == 1 {
        let why = "1: expected 0 (off) or 2, the version";
        return Err(BadRequest::unsupported(&options.path("mirostat"), why));
    }
    let mut repetition_penalty = options.number("repeat_penalty", POSITIVE..=100.0)?;
    // All of prompt and answer is looked at (-1), or nothing (0).
    match options.integer("repeat_last_n", -1..=i64::MAX)? {
        None | Some(-1) => {}
        Some(0) => repetition_penalty = Some(1.0),
        Some(_) => ignored.push(options.path("repeat_last_n")),
    }
    Ok(SamplingAsk {
        temperature: options.number("temperature", 0.0..=100.0)?,
        // Below 1 it is off.
        top_k: options.integer("top_k", -1..=i64::from(u32::MAX))?.map(|k| k.max(0) as u32),
        // 0 keeps the likeliest token only, as the smallest positive number does.
        top_p: options.number("top_p", 0.0..=1.0)?.map(|p| p.max(f32::MIN_POSITIVE)),
        min_p: options.number("min_p", 0.0..=1.0)?,
        typical_p: options.number("typical_p", POSITIVE..=1.0)?,
        mirostat: (mirostat == 2).then_some(Mirostat { tau, eta }),
        repetition_penalty,
        presence_penalty: options.number("presence_penalty", -100.0..=100.0)?,
        frequency_penalty: options.number("frequency_penalty", -100.0..=100.0)?,
        // -1 stands for none; other negative ones for their bits.
        seed: options
            .integer("seed", i64::MIN..=i64::MAX)?
            .filter(|seed| *seed != -1)
            .map(|seed| seed as u64),
        ..SamplingAsk::default()
    })
}

/// A string or an array of strings. Empty ones would stop at once; they are refused.
fn take_stop(options: &mut Fields) -> Result<Vec<String>, BadRequest> {
    let path = options.path("stop");
    let list = match options.take("stop") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(one @ Value::String(_)) => vec![one],
        Some(other) => return Err(wrong(&path, &other, "a string or an array of strings")),
    };
    if list.len() > MAX_STOP_STRINGS {
        let problem = format!("{} strings: expected at most {MAX_STOP_STRINGS}", list.len());
        return Err(BadRequest::field(&path, &problem));
    }
    let read = |(stop_idx, value): (usize, Value)| match value {
        Value::String(text) if (1..=MAX_STOP_BYTES).contains(&text.len()) => Ok(text),
        other => {
            let expected = format!("a string of 1 to {MAX_STOP_BYTES} bytes");
            Err(wrong(&format!("{path}[{stop_idx}]"), &other, &expected))
        }
    };
    list.into_iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_that_stand_for_none_are_none() {
        let read = |options: Value| {
            let body = json!({"model": "m", "options": options}).to_string();
            let settings =
                take(&mut Fields::parse(body.as_bytes()).unwrap(), &mut Paths::default()).unwrap();
            (settings.sampling.seed, settings.max_tokens)
        };
        assert_eq!(read(json!({"seed": -1, "num_predict": 0})), (None, None));
        assert_eq!(read(json!({"seed": 0, "num_predict": -1})), (Some(0), None));
        assert_eq!(read(json!({"seed": -2, "num_predict": 1})), (Some(u64::MAX - 1), Some(1)));
    }

    #[test]
    fn times_are_read_in_every_form() {
        let check = |value: Value, expected: Option<Duration>| {
            let body = json!({"keep_alive": value}).to_string();
            let found = take_keep_alive(&mut Fields::parse(body.as_bytes()).unwrap());
            assert_eq!(found.ok().flatten().map(|keep| keep.what), expected, "{value}");
        };
        let ms = |n| Some(Duration::from_millis(n));
        check(json!(1800), ms(1_800_000));
        check(json!(0.5), ms(500));
        check(json!(0), ms(0));
        check(json!("0"), ms(0));
        check(json!("300"), ms(300_000));
        check(json!("5m"), ms(300_000));
        check(json!("1h1m1.5s20ms"), ms(3_661_520));
        check(json!("+2s"), ms(2000));
        check(json!(-1), Some(Duration::MAX));
        check(json!("-1"), Some(Duration::MAX));
        check(json!("-1m"), Some(Duration::MAX));
        check(json!(1e300), Some(Duration::MAX));
        for wrong in [json!(""), json!("m"), json!("5 m"), json!("5d"), json!("1m2"), json!("NaN")]
        {
            check(wrong, None);
        }
        for wrong in [json!(true), json!([]), json!("-"), json!("1.2.3s")] {
            check(wrong, None);
        }
    }
}
