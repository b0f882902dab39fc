//! The sampler held against its plain form, and each setting against its definition.

use super::*;
use crate::dry::{MAX_REPEAT, power};
use crate::request::Dry;

/// The definition in its plainest form: every list sorted in full, every step on its own.
fn reference(
    logits: &[f32],
    settings: &Sampling,
    prompt: &[u32],
    answer: &[u32],
    [uniform, second_uniform]: [f64; 2],
) -> u32 {
    let mut logits = logits.to_vec();
    for (id, bias) in &settings.logit_bias {
        logits[*id as usize] += bias;
    }
    for id in 0..logits.len() as u32 {
        let n_in_answer = answer.iter().filter(|&&token| token == id).count();
        let logit = &mut logits[id as usize];
        if prompt.contains(&id) || n_in_answer > 0 {
            let penalty = settings.repetition_penalty;
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
        if n_in_answer > 0 {
            *logit -= settings.presence_penalty + settings.frequency_penalty * n_in_answer as f32;
        }
    }
    if let Some(dry) = &settings.dry {
        let tokens = [prompt, answer].concat();
        let tokens = &tokens[tokens.len() - dry.range.map_or(tokens.len(), |n| n as usize)..];
        penalise_repetitions(&mut logits, dry, tokens);
    }
    let mut ranked: Vec<(u32, f32)> = (0..).zip(logits).collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    if settings.temperature == 0.0 {
        return ranked[0].0;
    }
    if settings.top_k > 0 {
        ranked.truncate(settings.top_k as usize);
    }
    let max = ranked[0].1;
    let weight_of = |&(_, logit): &(u32, f32)| f64::from(weight(logit, max, settings.temperature));
    let sum_by_id = |kept: &[(u32, f32)]| {
        let mut kept = kept.to_vec();
        kept.sort_by_key(|&(id, _)| id);
        kept.iter().map(weight_of).sum::<f64>()
    };
    if settings.top_p < 1.0 {
        let target = f64::from(settings.top_p) * sum_by_id(&ranked);
        let mut sum = 0.0;
        let n_before = ranked.iter().take_while(|entry| {
            sum += weight_of(entry);
            sum < target
        });
        let n_kept = n_before.count() + 1;
        ranked.truncate(n_kept);
    }
    ranked.retain(|entry| weight_of(entry) >= f64::from(settings.min_p));
    if settings.typical_p < 1.0 {
        let all = sum_by_id(&ranked);
        let probability = |entry: &(u32, f32)| weight_of(entry) / all;
        let mut by_id = ranked.clone();
        by_id.sort_by_key(|&(id, _)| id);
        let entropy: f64 = by_id
            .iter()
            .map(probability)
            .filter(|&p| p > 0.0)
            .fold(0.0, |sum, p| sum + p * -libm::log(p));
        let distance = |entry: &(u32, f32)| (-libm::log(probability(entry)) - entropy).abs() as f32;
        ranked.sort_by(|a, b| distance(a).total_cmp(&distance(b)).then(a.0.cmp(&b.0)));
        let mut sum = 0.0;
        let target = f64::from(settings.typical_p) * all;
        let n_before = ranked.iter().take_while(|entry| (sum += weight_of(entry), sum < target).1);
        let n_kept = n_before.count() + 1;
        ranked.truncate(n_kept);
    }
    if second_uniform < f64::from(settings.xtc_probability) {
        let floor = f64::from(settings.xtc_threshold) * sum_by_id(&ranked);
        ranked.sort_by(|a, b| weight_of(b).total_cmp(&weight_of(a)).then(a.0.cmp(&b.0)));
        let n_top = ranked.iter().filter(|entry| weight_of(entry) >= floor).count();
        ranked.drain(..n_top.saturating_sub(1));
    }
    let target = uniform * sum_by_id(&ranked);
    ranked.sort_by_key(|&(id, _)| id);
    let mut sum = 0.0;
    ranked.iter().find(|entry| (sum += weight_of(entry), sum > target).1).unwrap().0
}

/// DRY from its definition: for each token the longest repetition that it goes on with.
fn penalise_repetitions(logits: &mut [f32], dry: &Dry, tokens: &[u32]) {
    for id in 0..logits.len() as u32 {
        let longest = (0..tokens.len())
            .filter(|&at| tokens[at] == id && !dry.breakers.contains(&id))
            .map(|at| {
                let (before, end) = (&tokens[..at], tokens);
                (0..at.min(MAX_REPEAT))
                    .take_while(|i| {
                        let (a, b) = (before[at - 1 - i], end[end.len() - 1 - i]);
                        a == b && !dry.breakers.contains(&a)
                    })
                    .count()
            })
            .max()
            .unwrap_or(0);
        if longest > 0 && longest >= dry.allowed_length as usize {
            let excess = longest as i32 - dry.allowed_length as i32;
            logits[id as usize] -= dry.multiplier * power(dry.base, excess);
        }
    }
}

/// Random logits with many ties: multiples of a quarter between -8 and 8.
fn random_logits(n_vocab: usize, seed: u64) -> Vec<f32> {
    let number = |i: usize| philox::uniform(seed, i as u64);
    (0..n_vocab).map(|i| (number(i) * 64.0).floor() as f32 / 4.0 - 8.0).collect()
}

/// The sampler and its plain form agree on this setting for many vocabularies and positions.
fn check(settings: &Sampling) {
    let mut scratch = SamplerScratch::default();
    for (case, n_vocab) in [1, 2, 3, 17, 300, 2000].into_iter().enumerate() {
        let logits = random_logits(n_vocab, case as u64);
        let ids = |n: u32| (0..n).map(|i| (i * i) % n_vocab as u32).collect::<Vec<_>>();
        let (prompt, answer) = (ids(9), ids(5));
        let mut settings = settings.clone();
        settings.logit_bias.retain(|&(id, _)| (id as usize) < n_vocab);
        let mut sampler = Sampler::new(settings.clone(), 42, &prompt, n_vocab);
        answer.iter().for_each(|&id| sampler.note(id));
        for pos in 0..50 {
            let uniform = [0, 1].map(|n| philox::nth_uniform(42, pos, n));
            assert_eq!(
                sampler.choose(&logits, pos, &mut scratch).unwrap(),
                reference(&logits, &settings, &prompt, &answer, uniform),
                "{settings:?}, n_vocab {n_vocab}, pos {pos}"
            );
        }
    }
}

fn warm() -> Sampling {
    Sampling { temperature: 1.0, ..Sampling::default() }
}

#[test]
fn greedy_takes_the_largest_and_of_ties_the_lowest_id() {
    check(&Sampling::default());
    let mut sampler = Sampler::new(Sampling::default(), 0, &[], 4);
    let choice = sampler.choose(&[1.0, 3.0, 3.0, 2.0], 0, &mut SamplerScratch::default());
    assert_eq!(choice, Ok(1));
}

#[test]
fn each_setting_agrees_with_its_plain_form() {
    for temperature in [1e-30, 0.01, 0.5, 1.0, 2.0, 100.0] {
        check(&Sampling { temperature, ..warm() });
    }
    for top_k in [1, 2, 3, 40, 1999, 2000, 2001, u32::MAX] {
        check(&Sampling { top_k, ..warm() });
    }
    for top_p in [1e-9, 0.1, 0.5, 0.9, 0.999, 0.999_999_9] {
        check(&Sampling { top_p, ..warm() });
    }
    for min_p in [1e-9, 0.05, 0.5, 1.0] {
        check(&Sampling { min_p, ..warm() });
    }
    for penalty in [0.1, 0.9, 1.3, 100.0] {
        check(&Sampling { repetition_penalty: penalty, ..warm() });
    }
    for penalty in [-2.0, 0.5, 2.0] {
        check(&Sampling { presence_penalty: penalty, ..warm() });
        check(&Sampling { frequency_penalty: penalty, ..warm() });
    }
    check(&Sampling { logit_bias: vec![(0, 3.0), (1, -100.0), (2, 0.25), (2, 0.5)], ..warm() });
    check(&Sampling { logit_bias: vec![(1, f32::NEG_INFINITY)], ..warm() });
}

#[test]
fn all_settings_together_agree_with_their_plain_form() {
    for (top_k, top_p, min_p) in [(0, 0.95, 0.02), (40, 0.8, 0.0), (7, 0.99, 0.2), (500, 0.5, 0.1)]
    {
        check(&Sampling {
            temperature: 0.7,
            top_k,
            top_p,
            min_p,
            repetition_penalty: 1.1,
            presence_penalty: 0.3,
            frequency_penalty: 0.2,
            logit_bias: vec![(0, 1.5), (3, -2.0)],
            ..Sampling::default()
        });
    }
}

#[test]
fn rare_cuts_agree_with_their_plain_forms() {
    for typical_p in [1e-9, 0.2, 0.7, 0.95, 0.999] {
        check(&Sampling { typical_p, ..warm() });
        check(&Sampling { typical_p, top_k: 40, top_p: 0.95, min_p: 0.01, ..warm() });
    }
    for xtc_threshold in [1e-4, 0.01, 0.1, 0.5, 1.0] {
        let xtc = Sampling { xtc_probability: 0.5, xtc_threshold, ..warm() };
        check(&xtc);
        check(&Sampling { xtc_probability: 1.0, top_k: 20, ..xtc.clone() });
        check(&Sampling { typical_p: 0.9, temperature: 0.6, ..xtc });
    }
}

#[test]
fn repetitions_are_penalised_by_their_definition() {
    let answers: [&[u32]; 6] = [
        &[],
        &[1],
        &[1, 1, 1, 1, 1],
        &[0, 1, 2, 0, 1, 2, 0, 1],
        &[2, 0, 1, 2, 9, 0, 1, 2, 1, 2, 9, 0, 1, 2],
        &[1, 2, 3, 1, 2, 4, 1, 2],
    ];
    let long = [3u32, 4].repeat(120);
    // Long repetitions that end in a breaker, within a prompt and across its end.
    let mixed: Vec<u32> = (0..300).map(|i| i % 67 * 5 % 17 % (2 + i / 100)).collect();
    let twice = [&mixed[..], &mixed[..]].concat();
    for answer in answers.into_iter().chain([&long[..], &mixed, &mixed[..233], &twice]) {
        for range in [None, Some(0), Some(3), Some(6)] {
            for (allowed_length, breakers) in
                [(1, vec![]), (2, vec![]), (2, vec![2]), (300, vec![])]
            {
                let range = range.filter(|&range| range as usize <= answer.len());
                let dry = Dry { multiplier: 0.8, base: 1.75, allowed_length, range, breakers };
                let logits = random_logits(17, 5);
                let mut expected = logits.clone();
                let n = range.map_or(answer.len(), |range| range as usize);
                penalise_repetitions(&mut expected, &dry, &answer[answer.len() - n..]);
                let (prompt, answer) = answer.split_at(answer.len() / 2);
                let mut repetitions = Repetitions::new(dry, prompt, 17);
                answer.iter().for_each(|&id| repetitions.accept(id));
                for _ in 0..2 {
                    let mut found = logits.clone();
                    repetitions.penalise(&mut found, check_adjusted).unwrap();
                    assert_eq!(found, expected, "{answer:?}");
                }
            }
        }
    }
    let dry = Dry { multiplier: 2.0, base: 1.5, allowed_length: 1, range: None, breakers: vec![3] };
    check(&Sampling { dry: Some(dry.clone()), ..Sampling::default() });
    check(&Sampling { dry: Some(dry), top_p: 0.9, ..warm() });
}

#[test]
fn mirostat_agrees_with_its_plain_form() {
    let (tau, eta) = (2.0f32, 0.3f32);
    let settings = Sampling { mirostat: Some(Mirostat { tau, eta }), ..warm() };
    let mut sampler = Sampler::new(settings, 9, &[], 300);
    let mut scratch = SamplerScratch::default();
    let mut bound = 2.0 * f64::from(tau);
    let mut surprises = 0.0;
    for pos in 0..400u64 {
        let logits = random_logits(300, pos);
        let max = logits.iter().copied().fold(f32::MIN, f32::max);
        let weights: Vec<f64> =
            logits.iter().map(|&logit| f64::from(weight(logit, max, 1.0))).collect();
        let all = weights.iter().sum::<f64>();
        let floor = ((all * libm::exp2(-bound)).min(1.0)) as f32;
        let kept = |id: &usize| weights[*id] as f32 >= floor;
        let kept: Vec<usize> = (0..300).filter(kept).collect();
        let rest: f64 = kept.iter().map(|&id| weights[id]).sum();
        let (target, mut sum) = (philox::uniform(9, pos) * rest, 0.0);
        let expected = kept.iter().find(|&&id| (sum += weights[id], sum > target).1).unwrap();
        let surprise = -libm::log2(weights[*expected] / rest);
        bound -= f64::from(eta) * (surprise - f64::from(tau));
        assert_eq!(sampler.choose(&logits, pos, &mut scratch), Ok(*expected as u32));
        surprises += surprise;
    }
    assert!((surprises / 400.0 - f64::from(tau)).abs() < 0.2, "{surprises}");
}

#[test]
fn no_end_comes_before_its_time() {
    let mut sampler = Sampler::new(Sampling::default(), 0, &[], 3).at_least(2, [2, 7].into_iter());
    let mut scratch = SamplerScratch::default();
    let mut chosen = Vec::new();
    for pos in 0..4 {
        let id = sampler.choose(&[0.0, 1.0, 5.0], pos, &mut scratch).unwrap();
        sampler.note(id);
        chosen.push(id);
    }
    assert_eq!(chosen, [1, 1, 2, 2]);
}

#[test]
fn penalties_apply_without_temperature_too() {
    for penalty in [0.5, 4.0] {
        check(&Sampling { repetition_penalty: penalty, ..Sampling::default() });
        check(&Sampling { frequency_penalty: penalty, ..Sampling::default() });
    }
}

#[test]
fn draws_follow_the_distribution() {
    // Probabilities 1/2, 1/4, 1/8, 1/8; 16,000 draws.
    let logits = [4f32, 2.0, 1.0, 1.0].map(f32::ln);
    let mut sampler = Sampler::new(warm(), 5, &[], 4);
    let mut scratch = SamplerScratch::default();
    let mut counts = [0i32; 4];
    for pos in 0..16_000 {
        counts[sampler.choose(&logits, pos, &mut scratch).unwrap() as usize] += 1;
    }
    for (count, expected) in counts.into_iter().zip([8000, 4000, 2000, 2000]) {
        // 300 is about five standard deviations of the largest.
        assert!((count - expected).abs() < 300, "{counts:?}");
    }
}

#[test]
fn logits_that_are_no_numbers_fail_the_request() {
    let mut scratch = SamplerScratch::default();
    for settings in [Sampling::default(), warm()] {
        let mut sampler = Sampler::new(settings, 0, &[], 3);
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            match sampler.choose(&[0.0, value, 1.0], 0, &mut scratch) {
                Err(SampleError::NotFinite { id: 1, .. }) => {}
                other => panic!("{value}: {other:?}"),
            }
        }
    }
}

#[test]
fn bias_out_of_range_fails_the_request() {
    let mut scratch = SamplerScratch::default();
    let mut choose = |logit_bias: Vec<(u32, f32)>| {
        Sampler::new(Sampling { logit_bias, ..warm() }, 0, &[], 2).choose(
            &[f32::MAX, 1.0],
            0,
            &mut scratch,
        )
    };
    assert_eq!(
        choose(vec![(0, f32::MAX)]),
        Err(SampleError::Adjusted { id: 0, value: f32::INFINITY })
    );
    let forbid = |id| (id, f32::NEG_INFINITY);
    assert_eq!(choose(vec![forbid(0), forbid(1)]), Err(SampleError::AllForbidden));
    assert_eq!(choose(vec![forbid(0)]), Ok(1));
}

#[test]
fn forbidden_tokens_seen_before_stay_forbidden() {
    // Minus infinity times a penalty, or less a penalty, must not become NaN.
    let settings = Sampling {
        repetition_penalty: 1.5,
        frequency_penalty: 1.0,
        logit_bias: vec![(0, f32::NEG_INFINITY)],
        ..warm()
    };
    let mut sampler = Sampler::new(settings, 0, &[0, 1], 2);
    sampler.note(0);
    assert_eq!(sampler.choose(&[5.0, 0.0], 0, &mut SamplerScratch::default()), Ok(1));
}

#[test]
fn log_probabilities_are_a_log_softmax() {
    let mut scratch = SamplerScratch::default();
    let logits = [2f32, 1.0, 1.0, 0.0].map(|exponent| exponent * std::f32::consts::LN_2);
    let (chosen, top) = log_probabilities(&logits, 3, 3, &mut scratch);
    let expected = |parts: f32| (parts / 9.0).ln();
    assert!((chosen - expected(1.0)).abs() < 1e-6);
    assert_eq!(top.iter().map(|&(id, _)| id).collect::<Vec<_>>(), [0, 1, 2]);
    for (&(_, found), parts) in top.iter().zip([4.0, 2.0, 2.0]) {
        assert!((found - expected(parts)).abs() < 1e-6, "{found}");
    }
    assert_eq!(log_probabilities(&logits, 0, 0, &mut scratch).1, []);
    assert_eq!(log_probabilities(&logits, 0, 20, &mut scratch).1.len(), 4);
}

#[test]
fn who_has_no_token_left_is_told_what_forbids() {
    let message = SampleError::AllForbidden.to_string();
    for cause in ["constraint", "banned texts", "min_tokens", "bias"] {
        assert!(message.contains(cause), "{message}");
    }
}

#[test]
fn a_single_token_is_sure_only_where_its_logit_stays_a_number() {
    let file = gguf::Gguf::open(&testkit::smollm2()).unwrap();
    let tokenizer = std::sync::Arc::new(Tokenizer::from_gguf(file.metadata()).unwrap());
    let constraints = text::Constraints::new(std::sync::Arc::clone(&tokenizer)).unwrap();
    let constraint = constraints.compile(&text::Grammar::Regex("a".into())).unwrap();
    let check = |settings: Sampling, expected: bool| {
        let sampler = Sampler::new(settings.clone(), 0, &[], tokenizer.n_vocab());
        let sampler = sampler.under(Some(constraint.clone()), None);
        assert_eq!(sampler.is_indifferent(), expected, "{settings:?}");
    };
    let biased = |logit_bias| Sampling { logit_bias, ..Sampling::default() };
    check(Sampling::default(), true);
    check(biased(vec![(1, -100.0), (2, 100.0)]), true);
    check(biased(vec![(1, f32::NEG_INFINITY)]), false);
    check(biased(vec![(1, f32::MAX), (1, f32::MAX)]), false);
    check(Sampling { repetition_penalty: 1.1, ..Sampling::default() }, true);
    check(Sampling { repetition_penalty: 1e-40, ..Sampling::default() }, false);
}
