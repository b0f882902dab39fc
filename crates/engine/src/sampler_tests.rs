//! The sampler held against its plain form, and each setting against its definition.

use super::*;

/// The definition in its plainest form: every list sorted in full, every step on its own.
fn reference(
    logits: &[f32],
    settings: &Sampling,
    prompt: &[u32],
    answer: &[u32],
    uniform: f64,
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
    let target = uniform * sum_by_id(&ranked);
    ranked.sort_by_key(|&(id, _)| id);
    let mut sum = 0.0;
    ranked.iter().find(|entry| (sum += weight_of(entry), sum > target).1).unwrap().0
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
        answer.iter().for_each(|&id| sampler.accept(id));
        for pos in 0..50 {
            let uniform = philox::uniform(42, pos);
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
            seed: None,
        });
    }
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
    sampler.accept(0);
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
