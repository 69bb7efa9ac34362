//! GGUF files through the real paged path, against the answers of `transformers` for the weights that the blocks stand for;
//! see `tests/golden/README.md`. Run with `--nocapture` for the table.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::Sequence;
use pagoda_cpu::{CpuExecutor, CpuOptions, KvDtype};
use pagoda_kernels::Isa;
use pagoda_model::{Checkpoint, Dtype, ModelSource};
use std::path::{Path, PathBuf};

/// Largest error relative to the range of the reference logits: of single precision, of half precision and of blocks, whose
/// activations are rounded to 16 bits, and of bf16, where some machines round activations too.
const TOLERANCES: [(Dtype, f32); 3] = [(Dtype::F32, 1e-4), (Dtype::F16, 5e-3), (Dtype::Bf16, 4e-2)];
const BLOCKS: f32 = 5e-4;
/// Of the models of folders that are rounded to 8 bits, while the answers are not.
const ROUNDED: f32 = 4e-2;

#[derive(serde::Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    prompt: Vec<u32>,
    positions: Vec<u32>,
    f32: Answer,
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

#[test]
fn every_file_gives_the_reference_answers() {
    let root = root();
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("gguf"))
        .expect("tests/golden/gguf")
        .flatten()
        .map(|e| e.path())
        .collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    files.sort();
    assert!(files.len() >= 14, "{} files", files.len());
    println!("| file | stored | isa | error | tokens |\n|---|---|---|---|---|");
    for file in files {
        let name = file.file_stem().expect("a name").to_string_lossy().into_owned();
        let answers = match name.strip_prefix("folder-") {
            Some(folder) => root.join(folder).join("golden.json"),
            None => file.with_extension("json"),
        };
        let golden = std::fs::read_to_string(&answers).expect("the answers");
        let golden: Golden = serde_json::from_str(&golden).expect("answers as described");
        let checkpoint = Checkpoint::open(&ModelSource::at(&file)).expect("the model");
        let stored = checkpoint.spec().dtype;
        let known = TOLERANCES.iter().find(|(dtype, _)| *dtype == stored);
        let blocks = if name.starts_with("folder-") { ROUNDED } else { BLOCKS };
        let tolerance = known.map_or(blocks, |(_, tolerance)| *tolerance);
        for isa in Isa::available() {
            let (error, equal) = score(&checkpoint, &golden, isa, tolerance);
            println!("| {name} | {stored} | {isa} | {error:.1e} | {equal} |");
        }
    }
}

/// The largest error and the number of greedy tokens that had to be, and were, those of the reference.
fn score(checkpoint: &Checkpoint, golden: &Golden, isa: Isa, tolerance: f32) -> (f32, usize) {
    let options = CpuOptions {
        isa: Some(isa),
        threads: Some(1),
        blocks: 33,
        max_tokens_per_step: 64,
        max_rows: 4,
        kv_dtype: Some(KvDtype::F32),
        ..CpuOptions::default()
    };
    let mut executor = CpuExecutor::load(checkpoint, &options, &mut |_| ()).expect("the model loads");
    let name = format!("{}, {isa}", checkpoint.source());
    let (mut worst, mut equal) = (0f32, 0);
    for case in &golden.cases {
        let mut compare = |logits: &[f32], expected: &[f32], place: &str| {
            let error = distance(logits, expected) / range(expected);
            // Written so that NaN fails.
            let within = error <= tolerance;
            assert!(within, "{name}, {place}: error {error:e}, allowed {tolerance:e}");
            worst = worst.max(error);
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
                equal += 1;
            }
        }
    }
    (worst, equal)
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

/// Index of the largest logit, the lowest among equals.
fn argmax(logits: &[f32]) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&x| x == max).expect("a maximum") as u32
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden"))
}
