//! What takes further models to find out of answers: similarities by one that makes vectors,
//! preferences by one that judges.

use engine::similarity;
use gate::{Candidate, CaseSet, Measure, Measures, Need, Outcome, Preference};

use super::runner::{Job, Runner};
use crate::commands::run::say_info;
use crate::locate::{self, Missing};

/// The catalogue's encoder.
pub(super) const DEFAULT_EMBEDDER: &str = "minilm-l6-v2";
/// Texts whose vectors are computed at once: bounds the tokens that are held.
const N_TEXTS: usize = 1024;

/// An answer for which something is needed: whose (0 the old candidate's, 1 the new one's), and by
/// which case, sample and expectation.
struct Needed<'a> {
    side_idx: usize,
    key: (usize, usize, usize),
    answer: &'a str,
    need: Need<'a>,
}

fn needed<'a>(set: &'a CaseSet, sides: [Option<&'a Candidate>; 2]) -> Vec<Needed<'a>> {
    let mut all = Vec::new();
    for (side_idx, side) in sides.into_iter().enumerate() {
        let Some(side) = side else { continue };
        for (case_idx, (case, outcomes)) in set.cases.iter().zip(&side.outcomes).enumerate() {
            for (expect_idx, expectation) in case.expect.iter().enumerate() {
                let Some(need) = expectation.need() else { continue };
                for (sample_idx, outcome) in outcomes.iter().enumerate() {
                    // What failed has failed, whatever it is like.
                    let Outcome::Answered(answer) = outcome else { continue };
                    let key = (case_idx, sample_idx, expect_idx);
                    all.push(Needed { side_idx, key, answer: &answer.text, need });
                }
            }
        }
    }
    all
}

/// Measures how near answers are to the texts that are expected.
pub(super) fn similarities(
    runner: &Runner<'_>,
    embedder: Option<&str>,
    set: &CaseSet,
    sides: [Option<&Candidate>; 2],
    measures: &mut [Measures; 2],
) -> anyhow::Result<()> {
    let needed = needed(set, sides);
    let texts = |needed: &&Needed<'_>| matches!(needed.need, Need::Similarity(_));
    let needed: Vec<&Needed<'_>> = needed.iter().filter(texts).collect();
    if needed.is_empty() {
        return Ok(());
    }
    let name = embedder.unwrap_or(DEFAULT_EMBEDDER);
    let chosen = locate::find(runner.context, name, Missing::Fetch)?;
    let n_threads = runner.options.n_threads;
    let options = engine::EngineOptions { n_threads, ..engine::EngineOptions::default() };
    let embedder = chosen.open_embedder(runner.context, &options)?;
    say_info(runner.context, &chosen.name, embedder.info());
    let n_ctx = embedder.info().n_ctx as usize;
    let mut n_too_long = 0;
    for some in needed.chunks(N_TEXTS / 2) {
        let mut tokens = Vec::new();
        let mut measured = Vec::new();
        for needed in some {
            let Need::Similarity(text) = needed.need else { continue };
            let both = [needed.answer, text].map(|text| embedder.tokens(text));
            if both.iter().any(|tokens| tokens.len() > n_ctx) {
                n_too_long += 1;
                continue;
            }
            tokens.extend(both);
            measured.push(needed);
        }
        let vectors = embedder.embed(&tokens)?;
        for (needed, pair) in measured.into_iter().zip(vectors.chunks_exact(2)) {
            let cosine = similarity(&pair[0], &pair[1]);
            measures[needed.side_idx].insert(needed.key, Measure::Similarity(cosine));
        }
    }
    if n_too_long > 0 {
        runner.context.note(&format!(
            "{n_too_long} answers or references have more than the {n_ctx} tokens of {}: their \
             similarity is not measured, and they fail",
            chosen.name
        ));
    }
    Ok(())
}

/// Has a model judge answers beside references, or beside the old candidate's answers.
pub(super) fn preferences(
    runner: &Runner<'_>,
    judge: &str,
    set: &CaseSet,
    sides: [Option<&Candidate>; 2],
    measures: &mut [Measures; 2],
) -> anyhow::Result<()> {
    let mut judged = Vec::new();
    let mut jobs = Vec::new();
    let needed = needed(set, sides);
    for needed in &needed {
        let Need::Preference { criterion, reference } = needed.need else { continue };
        let (case_idx, sample_idx, _) = needed.key;
        let of_old = || sides[0]?.outcomes[case_idx].get(sample_idx);
        let other = match (reference, of_old()) {
            (Some(reference), _) => reference,
            (None, Some(Outcome::Answered(old))) => &old.text,
            // Nothing is there to hold it against: it is not judged, and fails.
            (None, None) => continue,
            // Beside one that failed every answer is the better one.
            (None, Some(Outcome::Failed(_))) => {
                let won = Measure::Preference(Preference::Answer);
                measures[needed.side_idx].insert(needed.key, won);
                continue;
            }
        };
        if needed.answer == other {
            let tie = Measure::Preference(Preference::Neither);
            measures[needed.side_idx].insert(needed.key, tie);
            continue;
        }
        let ask = &set.cases[case_idx].ask;
        for [first, second] in [[needed.answer, other], [other, needed.answer]] {
            jobs.push(Job::new(&gate::question(ask, criterion, first, second), 0));
        }
        judged.push(needed);
    }
    if jobs.is_empty() {
        return Ok(());
    }
    let chosen = locate::find(runner.context, judge, Missing::Fetch)?;
    let engine = chosen.open_engine(runner.context, &runner.options)?;
    say_info(runner.context, &chosen.name, engine.info());
    let outcomes = runner.ask(&engine, &chosen.name, jobs)?;
    let mut problems = Vec::new();
    for (needed, outcomes) in judged.into_iter().zip(outcomes.chunks_exact(2)) {
        match outcomes {
            [Outcome::Answered(first), Outcome::Answered(second)] => {
                if let Some(preference) = gate::preference(&first.text, &second.text) {
                    let measure = Measure::Preference(preference);
                    measures[needed.side_idx].insert(needed.key, measure);
                }
            }
            outcomes => problems.extend(outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Failed(why) => Some(why.clone()),
                Outcome::Answered(_) => None,
            })),
        }
    }
    if let Some(why) = problems.first() {
        let n = problems.len();
        runner.context.note(&format!("{n} answers could not be judged, and fail: {why}"));
    }
    Ok(())
}
