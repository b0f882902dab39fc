//! The headers by which clients know how much is left of a limit, in the words of their family.
//!
//! <https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers>,
//! <https://docs.anthropic.com/en/api/rate-limits#response-headers>

use crate::dialects::{Family, rfc3339};
use axum::http::{HeaderName, HeaderValue};
use ledger::{Standing, What};
use std::time::Duration;

/// A limit's amount, what is left of it, and when it is renewed.
type Names = [&'static str; 3];

/// OpenAI knows no tokens of prompts or answers alone.
const OPENAI: [(What, Names); 2] = [
    (
        What::Requests,
        [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
    ),
    (
        What::Tokens,
        ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"],
    ),
];

const ANTHROPIC: [(What, Names); 4] = [
    (
        What::Requests,
        [
            "anthropic-ratelimit-requests-limit",
            "anthropic-ratelimit-requests-remaining",
            "anthropic-ratelimit-requests-reset",
        ],
    ),
    (
        What::Tokens,
        [
            "anthropic-ratelimit-tokens-limit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-ratelimit-tokens-reset",
        ],
    ),
    (
        What::TokensIn,
        [
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-input-tokens-remaining",
            "anthropic-ratelimit-input-tokens-reset",
        ],
    ),
    (
        What::TokensOut,
        [
            "anthropic-ratelimit-output-tokens-limit",
            "anthropic-ratelimit-output-tokens-remaining",
            "anthropic-ratelimit-output-tokens-reset",
        ],
    ),
];

/// The names of all of them.
pub(crate) const NAMES: [Names; 6] =
    [OPENAI[0].1, OPENAI[1].1, ANTHROPIC[0].1, ANTHROPIC[1].1, ANTHROPIC[2].1, ANTHROPIC[3].1];

/// The headers of a response in the words of `family`: of each kind of limit the one of which least
/// is left. Ollama has none, and gets OpenAI's.
pub(crate) fn rates(
    family: Family,
    standings: &[Standing],
    now_us: i64,
) -> Vec<(HeaderName, HeaderValue)> {
    let known = match family {
        Family::OpenAi | Family::Ollama => &OPENAI[..],
        Family::Anthropic => &ANTHROPIC[..],
    };
    let mut headers = Vec::new();
    for (what, names) in known {
        let of_kind = standings.iter().filter(|standing| standing.limit.what == *what);
        let Some(tightest) = of_kind.min_by_key(|standing| standing.left()) else { continue };
        let renews = tightest.renews_at_us.unwrap_or(now_us);
        let renews = match family {
            Family::OpenAi | Family::Ollama => {
                let left = u64::try_from(renews - now_us).unwrap_or(0);
                span(Duration::from_micros(left))
            }
            Family::Anthropic => rfc3339(renews.unsigned_abs() / 1_000_000),
        };
        let values = [tightest.limit.amount.to_string(), tightest.left().to_string(), renews];
        headers.extend(names.iter().zip(values).filter_map(|(name, value)| {
            Some((HeaderName::from_static(name), HeaderValue::from_str(&value).ok()?))
        }));
    }
    headers
}

/// A time as OpenAI writes it: `1h2m3s`, `6m0s`, `20ms`.
fn span(time: Duration) -> String {
    let (seconds, ms) = (time.as_secs(), time.subsec_millis());
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes, rest) {
        (0, 0, 0) => format!("{ms}ms"),
        (0, 0, rest) => format!("{rest}s"),
        (0, minutes, rest) => format!("{minutes}m{rest}s"),
        (hours, minutes, rest) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ledger::{Limit, Per};

    fn standing(subject: &str, what: What, amount: u64, used: u64) -> Standing {
        let limit = Limit::new(subject, what, amount, Some(Per::Minute)).unwrap();
        Standing { limit, used, reserved: 1, renews_at_us: Some(1_772_668_800_000_000) }
    }

    #[test]
    fn each_family_is_told_in_its_words() {
        let standings = [
            standing("all", What::Requests, 100, 10),
            standing("key:a", What::Requests, 20, 5),
            standing("key:a", What::TokensIn, 1000, 500),
            standing("key:a", What::Energy, 9, 0),
        ];
        let check = |family, expected: &[(&str, &str)]| {
            let now_us = 1_772_668_800_000_000 - 61_500_000;
            let found = rates(family, &standings, now_us);
            let found: Vec<_> = found
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            assert_eq!(found, expected);
        };
        let openai = [
            ("x-ratelimit-limit-requests", "20"),
            ("x-ratelimit-remaining-requests", "14"),
            ("x-ratelimit-reset-requests", "1m1s"),
        ];
        check(Family::OpenAi, &openai);
        check(Family::Ollama, &openai);
        check(
            Family::Anthropic,
            &[
                ("anthropic-ratelimit-requests-limit", "20"),
                ("anthropic-ratelimit-requests-remaining", "14"),
                ("anthropic-ratelimit-requests-reset", "2026-03-05T00:00:00Z"),
                ("anthropic-ratelimit-input-tokens-limit", "1000"),
                ("anthropic-ratelimit-input-tokens-remaining", "499"),
                ("anthropic-ratelimit-input-tokens-reset", "2026-03-05T00:00:00Z"),
            ],
        );
    }

    #[test]
    fn times_are_written_as_openai_writes_them() {
        for (ms, expected) in
            [(20, "20ms"), (1000, "1s"), (360_000, "6m0s"), (3_723_999, "1h2m3s"), (0, "0ms")]
        {
            assert_eq!(span(Duration::from_millis(ms)), expected);
        }
    }
}
