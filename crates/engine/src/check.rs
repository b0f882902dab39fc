//! Whether a request can run at all, decided before anything does.

use crate::error::EngineError;
use crate::request::{
    MAX_DRY_BREAKERS, MAX_LOGIT_BIAS, MAX_LOGPROBS, MAX_STOP_BYTES, MAX_STOP_STRINGS,
    MAX_STOP_TOKENS, Request, Sampling,
};
use std::ops::RangeInclusive;
use text::{Mark, Preamble};

/// Checks every field of `request` against a model of `n_vocab` ids and `n_ctx` positions.
pub(crate) fn check(request: &Request, n_vocab: usize, n_ctx: u32) -> Result<(), EngineError> {
    let n_prompt = request.prompt.len();
    if n_prompt == 0 {
        return Err(invalid("prompt", "no tokens", "at least one token".to_string()));
    }
    let n_answer = usize::from(request.max_tokens != Some(0));
    if n_prompt + n_answer > n_ctx as usize {
        return Err(EngineError::ContextOverflow { n_prompt, n_ctx });
    }
    if let Some(pos) = request.prompt.iter().position(|&id| id as usize >= n_vocab) {
        let value = format!("token {} at position {pos}", request.prompt[pos]);
        return Err(invalid("prompt", value, format!("ids below {n_vocab}")));
    }
    for (field, n_top) in
        [("logprobs", request.logprobs), ("prompt_logprobs", request.prompt_logprobs)]
    {
        if let Some(n_top) = n_top.filter(|&n_top| n_top > MAX_LOGPROBS) {
            return Err(invalid(field, n_top, format!("at most {MAX_LOGPROBS}")));
        }
    }
    if request.stop.len() > MAX_STOP_STRINGS {
        let value = format!("{} strings", request.stop.len());
        return Err(invalid("stop", value, format!("at most {MAX_STOP_STRINGS}")));
    }
    if let Some(stop) = request.stop.iter().find(|s| s.is_empty() || s.len() > MAX_STOP_BYTES) {
        let value = format!("a string of {} bytes", stop.len());
        return Err(invalid("stop", value, format!("strings of 1 to {MAX_STOP_BYTES} bytes")));
    }
    if request.constraint.is_some() && request.ignore_eos {
        return Err(invalid("ignore_eos", true, "false beside a constraint".to_string()));
    }
    if let Some(Preamble { begin, end, again, .. }) = request.preamble {
        let mut ids = begin.iter().chain(&again).flat_map(Mark::ids).chain(end.ids());
        if ids.any(|&id| id as usize >= n_vocab) {
            let expected = format!("ids below {n_vocab}");
            return Err(invalid("preamble", format!("{begin:?}, {end:?}, {again:?}"), expected));
        }
    }
    if request.stop_tokens.len() > MAX_STOP_TOKENS {
        let value = format!("{} tokens", request.stop_tokens.len());
        return Err(invalid("stop_tokens", value, format!("at most {MAX_STOP_TOKENS}")));
    }
    if let Some(id) = request.stop_tokens.iter().find(|&&id| id as usize >= n_vocab) {
        return Err(invalid("stop_tokens", format!("token {id}"), format!("ids below {n_vocab}")));
    }
    check_sampling(&request.sampling, n_vocab)
}

fn check_sampling(sampling: &Sampling, n_vocab: usize) -> Result<(), EngineError> {
    within("temperature", sampling.temperature, 0.0..=100.0)?;
    within("min_p", sampling.min_p, 0.0..=1.0)?;
    within("presence_penalty", sampling.presence_penalty, -100.0..=100.0)?;
    within("frequency_penalty", sampling.frequency_penalty, -100.0..=100.0)?;
    above_zero("typical_p", sampling.typical_p, 1.0)?;
    within("xtc_probability", sampling.xtc_probability, 0.0..=1.0)?;
    above_zero("xtc_threshold", sampling.xtc_threshold, 1.0)?;
    if let Some(mirostat) = &sampling.mirostat {
        within("mirostat_tau", mirostat.tau, 0.0..=100.0)?;
        within("mirostat_eta", mirostat.eta, 0.0..=1.0)?;
    }
    if let Some(dry) = &sampling.dry {
        above_zero("dry_multiplier", dry.multiplier, 100.0)?;
        within("dry_base", dry.base, 1.0..=8.0)?;
        if dry.allowed_length == 0 {
            return Err(invalid("dry_allowed_length", 0, "at least 1".to_string()));
        }
        if dry.breakers.len() > MAX_DRY_BREAKERS {
            let value = format!("{} tokens", dry.breakers.len());
            return Err(invalid("dry_breakers", value, format!("at most {MAX_DRY_BREAKERS}")));
        }
    }
    above_zero("top_p", sampling.top_p, 1.0)?;
    above_zero("repetition_penalty", sampling.repetition_penalty, 100.0)?;

    let bias = &sampling.logit_bias;
    if bias.len() > MAX_LOGIT_BIAS {
        let value = format!("{} entries", bias.len());
        return Err(invalid("logit_bias", value, format!("at most {MAX_LOGIT_BIAS}")));
    }
    if let Some((id, _)) = bias.iter().find(|&&(id, _)| id as usize >= n_vocab) {
        return Err(invalid("logit_bias", format!("token {id}"), format!("ids below {n_vocab}")));
    }
    match bias.iter().find(|(_, bias)| bias.is_nan() || *bias == f32::INFINITY) {
        Some((id, bias)) => {
            let value = format!("{bias} for token {id}");
            Err(invalid("logit_bias", value, "a finite number or minus infinity".to_string()))
        }
        None => Ok(()),
    }
}

/// NaN is within nothing.
fn within(field: &'static str, value: f32, range: RangeInclusive<f32>) -> Result<(), EngineError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(invalid(field, value, format!("{} to {}", range.start(), range.end())))
}

fn above_zero(field: &'static str, value: f32, max: f32) -> Result<(), EngineError> {
    if value > 0.0 && value <= max {
        return Ok(());
    }
    Err(invalid(field, value, format!("above 0, at most {max}")))
}

/// An [`EngineError::Invalid`].
pub(crate) fn invalid(
    field: &'static str,
    value: impl std::fmt::Display,
    expected: String,
) -> EngineError {
    EngineError::Invalid { field, value: value.to_string(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Mirostat;

    fn good() -> Request {
        Request { prompt: vec![0, 9], ..Request::default() }
    }

    /// `change` spoils a good request; the message must be `expected`.
    fn check_refused(change: impl FnOnce(&mut Request), expected: &str) {
        let mut request = good();
        change(&mut request);
        let error = check(&request, 10, 64).expect_err(expected);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn good_requests_pass() {
        check(&good(), 10, 64).unwrap();
        check(&Request { prompt: vec![1; 63], max_tokens: Some(u32::MAX), ..good() }, 10, 64)
            .unwrap();
        let sampling = Sampling { logit_bias: vec![(9, f32::NEG_INFINITY)], ..Sampling::default() };
        check(&Request { sampling, ..good() }, 10, 64).unwrap();
    }

    #[test]
    fn prompts_that_do_not_fit_are_refused_with_both_numbers() {
        check_refused(
            |r| r.prompt = vec![1; 64],
            "prompt of 64 tokens does not fit: the context is 64 tokens and must also hold at \
             least one generated token",
        );
        check_refused(|r| r.prompt.clear(), "prompt: no tokens, expected at least one token");
        check_refused(
            |r| r.prompt = vec![1, 10],
            "prompt: token 10 at position 1, expected ids below 10",
        );
    }

    #[test]
    fn each_field_is_checked() {
        check_refused(|r| r.prompt_logprobs = Some(21), "prompt_logprobs: 21, expected at most 20");
        check_refused(|r| r.logprobs = Some(21), "logprobs: 21, expected at most 20");
        check_refused(
            |r| r.stop = vec!["a".into(), String::new()],
            "stop: a string of 0 bytes, expected strings of 1 to 1024 bytes",
        );
        check_refused(|r| r.stop = vec!["a".into(); 17], "stop: 17 strings, expected at most 16");
        check_refused(|r| r.sampling.temperature = f32::NAN, "temperature: NaN, expected 0 to 100");
        check_refused(|r| r.sampling.temperature = -1.0, "temperature: -1, expected 0 to 100");
        check_refused(|r| r.sampling.top_p = 0.0, "top_p: 0, expected above 0, at most 1");
        check_refused(|r| r.sampling.typical_p = 0.0, "typical_p: 0, expected above 0, at most 1");
        check_refused(|r| r.sampling.xtc_probability = 2.0, "xtc_probability: 2, expected 0 to 1");
        check_refused(
            |r| r.sampling.mirostat = Some(Mirostat { tau: f32::NAN, eta: 0.1 }),
            "mirostat_tau: NaN, expected 0 to 100",
        );
        check_refused(|r| r.stop_tokens = vec![10], "stop_tokens: token 10, expected ids below 10");
        check_refused(|r| r.sampling.min_p = 1.5, "min_p: 1.5, expected 0 to 1");
        check_refused(
            |r| r.sampling.repetition_penalty = f32::INFINITY,
            "repetition_penalty: inf, expected above 0, at most 100",
        );
        check_refused(
            |r| r.sampling.presence_penalty = 101.0,
            "presence_penalty: 101, expected -100 to 100",
        );
        check_refused(
            |r| r.sampling.frequency_penalty = f32::NAN,
            "frequency_penalty: NaN, expected -100 to 100",
        );
        check_refused(
            |r| r.sampling.logit_bias = vec![(10, 0.0)],
            "logit_bias: token 10, expected ids below 10",
        );
        check_refused(
            |r| r.sampling.logit_bias = vec![(1, f32::INFINITY)],
            "logit_bias: inf for token 1, expected a finite number or minus infinity",
        );
    }
}
