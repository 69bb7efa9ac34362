//! Answers of the reference, and how far a model is from them.

use super::feed::feed;
use super::rows::Sequence;
use pagoda_cpu::{CpuExecutor, CpuOptions};
use pagoda_model::Checkpoint;
use pagoda_sched::AdapterId;
use std::path::Path;

#[derive(serde::Deserialize)]
pub(crate) struct Golden {
    pub(crate) cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
pub(crate) struct Case {
    pub(crate) prompt: Vec<u32>,
    pub(crate) positions: Vec<u32>,
    pub(crate) f32: Answer,
    pub(crate) bf16: Option<Answer>,
}

#[derive(serde::Deserialize)]
pub(crate) struct Answer {
    pub(crate) logits: Vec<Vec<f32>>,
    pub(crate) greedy: Greedy,
}

#[derive(serde::Deserialize)]
pub(crate) struct Greedy {
    pub(crate) tokens: Vec<u32>,
    pub(crate) margins: Vec<f32>,
    pub(crate) last_logits: Vec<f32>,
}

/// What one path makes of one model.
#[derive(Default)]
pub(crate) struct Score {
    /// Largest difference from the reference, relative to the range of the logits.
    pub(crate) error: f32,
    /// Tokens that had to be, and were, those of the reference.
    pub(crate) equal: usize,
    /// Tokens whose margin is within the error, so that either may be chosen.
    pub(crate) open: usize,
}

/// Runs all cases; panics where an error exceeds `tolerance` or a clear token differs.
pub(crate) fn score(checkpoint: &Checkpoint, golden: &Golden, options: &CpuOptions, tolerance: f32) -> Score {
    let mut executor = CpuExecutor::load(checkpoint, options, &mut |_| ()).expect("the model loads");
    let plan = executor.plan();
    let name = format!("{}, {}, {}", checkpoint.source(), plan.weight_formats, executor.isa());
    score_with(&mut executor, AdapterId::NONE, golden, (&name, tolerance))
}

/// Runs all cases with an adapter that the executor has.
pub(crate) fn score_with(
    executor: &mut CpuExecutor,
    adapter: AdapterId,
    golden: &Golden,
    (name, tolerance): (&str, f32),
) -> Score {
    let mut score = Score::default();
    for case in &golden.cases {
        let mut compare = |logits: &[f32], expected: &[f32], place: &str| {
            let error = distance(logits, expected) / range(expected);
            // Written so that NaN fails.
            let within = error <= tolerance;
            assert!(within, "{name}, {place}: error {error:e}, allowed {tolerance:e}");
            score.error = score.error.max(error);
        };
        for (&position, expected) in case.positions.iter().zip(&case.f32.logits) {
            let logits = prefill(executor, adapter, &case.prompt[..=position as usize]);
            compare(&logits, expected, &format!("position {position}"));
        }
        // The reference's own tokens are fed, so that each choice is made in the context that it knows.
        let greedy = &case.f32.greedy;
        let tokens = [&case.prompt, &greedy.tokens[..]].concat();
        let sequence = Sequence { adapter, ..Sequence::scattered(&tokens, executor, 3, 1) };
        let steps = feed(executor, &sequence, 0, 1);
        for (index, (&token, &margin)) in greedy.tokens.iter().zip(&greedy.margins).enumerate() {
            let logits = &steps[case.prompt.len() - 1 + index];
            if index + 1 == greedy.tokens.len() {
                compare(logits, &greedy.last_logits, "the last token");
            }
            if margin > 2.0 * tolerance * range(&greedy.last_logits) {
                assert_eq!(argmax(logits), token, "{name}: token {index}");
                score.equal += 1;
            } else {
                score.open += 1;
            }
        }
    }
    score
}

/// Logits after `tokens`, computed in one chunk, in chunks of 7 and token by token, over different blocks: all the
/// same to the bit.
fn prefill(executor: &mut CpuExecutor, adapter: AdapterId, tokens: &[u32]) -> Vec<f32> {
    let mut ways = [tokens.len() as u32, 7, 1].into_iter().zip([1, 3, 5]).map(|(chunk, stride)| {
        let sequence = Sequence { adapter, ..Sequence::scattered(tokens, executor, chunk, stride) };
        feed(executor, &sequence, 0, chunk).pop().expect("a last chunk")
    });
    let whole = ways.next().expect("a first way");
    assert!(ways.all(|other| other == whole), "chunks change the logits");
    whole
}

pub(crate) fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` would drop a NaN; a sum of one keeps it.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |worst, x| if x <= worst { worst } else { x })
}

pub(crate) fn range(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        - logits.iter().copied().fold(f32::INFINITY, f32::min)
}

pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}

/// Index of the largest logit, the lowest among equals.
fn argmax(logits: &[f32]) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&x| x == max).expect("a maximum") as u32
}
