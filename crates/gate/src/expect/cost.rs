//! What an answer takes: time and tokens.
//!
//! Times are those of the computation, without the wait for a seat. Beside other sequences a step
//! takes longer, so a bound is of the batch that the run had; tokens are exact.

use crate::expect::{Check, Kind, Seen};

/// `latency = { max_first_token_ms, max_ms }`.
pub(super) const LATENCY: Kind = Kind {
    name: "latency",
    read: |fields| {
        let bounds = fields.bounds("latency", ["max_first_token_ms", "max_ms"])?;
        Ok(Box::new(Latency { bounds }))
    },
};

/// `cost = { max_prompt_tokens, max_tokens, max_total_tokens }`: tokens of the prompt, sampled ones
/// with those of reasoning, and both.
pub(super) const COST: Kind = Kind {
    name: "cost",
    read: |fields| {
        let names = ["max_prompt_tokens", "max_tokens", "max_total_tokens"];
        Ok(Box::new(Cost { bounds: fields.bounds("cost", names)? }))
    },
};

#[derive(Debug)]
struct Latency {
    bounds: [Option<u64>; 2],
}

impl Check for Latency {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let first = seen.answer.prefill_ms;
        let spent = [("first token", first), ("answer", first + seen.answer.decode_ms)];
        for ((what, ms), bound) in spent.into_iter().zip(self.bounds) {
            if let Some(bound) = bound.filter(|&bound| ms > bound as f64) {
                return Err(format!("{what} after {ms:.0} ms, expected at most {bound}"));
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Cost {
    bounds: [Option<u64>; 3],
}

impl Check for Cost {
    fn check(&self, seen: &Seen<'_>) -> Result<(), String> {
        let (n_prompt, n_generated) = (seen.answer.n_prompt, seen.answer.n_generated);
        let spent =
            [("prompt", n_prompt), ("answer", n_generated), ("all", n_prompt + n_generated)];
        for ((what, n), bound) in spent.into_iter().zip(self.bounds) {
            if let Some(bound) = bound.filter(|&bound| n > bound) {
                return Err(format!("{what}: {n} tokens, expected at most {bound}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::answer::Answer;
    use crate::expect::testing::*;
    use serde_json::json;

    #[test]
    fn what_an_answer_takes_is_bounded() {
        let (n_prompt, n_generated) = (30, 12);
        let (prefill_ms, decode_ms) = (40.0, 60.5);
        let answer = Answer { n_prompt, n_generated, prefill_ms, decode_ms, ..Answer::default() };
        check_answer(json!({"latency": {"max_first_token_ms": 40, "max_ms": 101}}), &answer, None);
        let slow = Some("answer after 100 ms, expected at most 100");
        check_answer(json!({"latency": {"max_ms": 100}}), &answer, slow);
        let cost =
            json!({"cost": {"max_prompt_tokens": 30, "max_tokens": 12, "max_total_tokens": 42}});
        check_answer(cost, &answer, None);
        let dear = Some("all: 42 tokens, expected at most 41");
        check_answer(json!({"cost": {"max_total_tokens": 41}}), &answer, dear);
        check_refused(json!({"cost": {}}), "cost: empty");
    }
}
