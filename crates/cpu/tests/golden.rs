//! The forward pass against the answers of `transformers` for small models of every architecture; the files are
//! described in `tests/golden/README.md`. Run with `--nocapture` for the table.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::Sequence;
use pagoda_cpu::{ComputeDtype, CpuExecutor, CpuOptions};
use pagoda_kernels::{Isa, QuantFormat};
use pagoda_model::{Checkpoint, ModelSource};
use std::path::{Path, PathBuf};

/// Largest error of the f32 path, relative to the range of the reference logits.
const F32_TOLERANCE: f32 = 1e-4;
/// The bf16 path rounds weights, keys and values but no activations, so its error has to stay below that of the
/// reference, which rounds everything.
const BF16_FACTOR: f32 = 1.0;
/// Where pairs of bf16 are multiplied, activations, queries and attention weights are rounded as the reference rounds
/// them, so that the errors are alike, but not the same.
const BF16_PAIRS_FACTOR: f32 = 1.25;
/// Largest error of int8, relative to the range: weights are rounded to one part in 256 of the largest of their group.
const INT8_TOLERANCE: f32 = 0.04;

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    prompt: Vec<u32>,
    positions: Vec<u32>,
    f32: Answer,
    bf16: Answer,
}

#[derive(serde::Deserialize)]
struct Answer {
    logits: Vec<Vec<f32>>,
    greedy: Greedy,
}

#[derive(serde::Deserialize)]
struct Greedy {
    tokens: Vec<u32>,
    margins: Vec<f32>,
    last_logits: Vec<f32>,
}

/// What one path makes of one model.
#[derive(Default)]
struct Score {
    /// Largest difference from the reference, relative to the range of the logits.
    error: f32,
    /// Tokens that had to be, and were, those of the reference.
    equal: usize,
    /// Tokens whose margin is within the error, so that either may be chosen.
    open: usize,
}

impl Case {
    /// Largest distance between the reference's own two formats where both saw the same tokens.
    fn reference_error(&self) -> f32 {
        let pairs = self.f32.logits.iter().zip(&self.bf16.logits);
        pairs.map(|(exact, narrow)| distance(exact, narrow) / range(exact)).fold(0.0, f32::max)
    }
}

#[test]
fn every_model_gives_the_reference_answers() {
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(root()).expect("tests/golden").flatten().map(|e| e.path()).collect();
    folders.retain(|path| path.join("golden.json").is_file());
    folders.sort();
    assert!(folders.len() >= 10, "{} reference models", folders.len());
    println!(
        "| model | isa | f32 error | tokens | bf16 error | reference's bf16 error | tokens | f16 error | int8 error |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for folder in folders {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let golden = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
        let golden: Golden = serde_json::from_str(&golden).expect("golden.json as described");
        let reference = golden.cases.iter().map(Case::reference_error).fold(0.0, f32::max);
        let checkpoint = Checkpoint::open(&ModelSource::Folder(folder)).expect("the model");
        for isa in Isa::available() {
            let factor = if isa >= Isa::Avx512Bf16 { BF16_PAIRS_FACTOR } else { BF16_FACTOR };
            let of = |dtype, tolerance| score(&checkpoint, &golden, &options(dtype, isa), tolerance);
            let exact = of(ComputeDtype::F32, F32_TOLERANCE);
            let narrow = of(ComputeDtype::Bf16, factor * reference);
            let half = of(ComputeDtype::F16, factor * reference);
            let quantized =
                CpuOptions { quantize: Some(QuantFormat::INT8), ..options(ComputeDtype::Auto, isa) };
            let small = score(&checkpoint, &golden, &quantized, INT8_TOLERANCE);
            println!(
                "| {name} | {isa} | {:.1e} | {} | {:.1e} | {reference:.1e} | {} + {} open | {:.1e} | {:.1e} |",
                exact.error, exact.equal, narrow.error, narrow.equal, narrow.open, half.error, small.error
            );
            assert_eq!(exact.open, 0, "{name}: every margin exceeds the error of f32");
        }
    }
}

fn options(dtype: ComputeDtype, isa: Isa) -> CpuOptions {
    CpuOptions {
        dtype,
        isa: Some(isa),
        threads: Some(1),
        blocks: 33,
        max_tokens_per_step: 64,
        max_rows: 4,
        ..CpuOptions::default()
    }
}

/// Runs all cases; panics where an error exceeds `tolerance` or a clear token differs.
fn score(checkpoint: &Checkpoint, golden: &Golden, options: &CpuOptions, tolerance: f32) -> Score {
    let mut executor = CpuExecutor::load(checkpoint, options, &mut |_| ()).expect("the model loads");
    let mut score = Score::default();
    let plan = executor.plan();
    let name = format!("{}, {}, {}", checkpoint.source(), plan.weight_formats, executor.isa());
    for case in &golden.cases {
        let mut compare = |logits: &[f32], expected: &[f32], place: &str| {
            let error = distance(logits, expected) / range(expected);
            // Written so that NaN fails.
            let within = error <= tolerance;
            assert!(within, "{name}, {place}: error {error:e}, allowed {tolerance:e}");
            score.error = score.error.max(error);
        };
        for (&position, expected) in case.positions.iter().zip(&case.f32.logits) {
            let logits = prefill(&mut executor, &case.prompt[..=position as usize]);
            compare(&logits, expected, &format!("position {position}"));
        }
        // The reference's own tokens are fed, so that each choice is made in the context that it knows.
        let greedy = &case.f32.greedy;
        let tokens = [&case.prompt, &greedy.tokens[..]].concat();
        let sequence = Sequence::scattered(&tokens, &executor, 3, 1);
        let steps = feed(&mut executor, &sequence, 0, 1);
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
fn prefill(executor: &mut CpuExecutor, tokens: &[u32]) -> Vec<f32> {
    let mut ways = [tokens.len() as u32, 7, 1].into_iter().zip([1, 3, 5]).map(|(chunk, stride)| {
        let sequence = Sequence::scattered(tokens, executor, chunk, stride);
        feed(executor, &sequence, 0, chunk).pop().expect("a last chunk")
    });
    let whole = ways.next().expect("a first way");
    assert!(ways.all(|other| other == whole), "chunks change the logits");
    whole
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` would drop a NaN; a sum of one keeps it.
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, |worst, x| if x <= worst { worst } else { x })
}

fn range(logits: &[f32]) -> f32 {
    logits.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        - logits.iter().copied().fold(f32::INFINITY, f32::min)
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}

/// Index of the largest logit, the lowest among equals.
fn argmax(logits: &[f32]) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&x| x == max).expect("a maximum") as u32
}
