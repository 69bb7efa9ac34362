//! What rounding the weights costs: perplexity of the embedded model on text that it was not trained on, for every
//! format. Run with `--nocapture` for the table.
#![cfg(feature = "embedded-model")]

#[path = "../../cpu/tests/common/rows.rs"]
mod rows;

use pagoda::{QuantFormat, embedded};
use pagoda_cpu::{CpuExecutor, CpuOptions, KvDtype, MemoryPlan};
use pagoda_model::Checkpoint;
use pagoda_sched::{Executor, SamplingParams, StepOutput};
use pagoda_text::Special;
use rows::{Sequence, push_row, step};
use std::path::Path;
use std::sync::Arc;

/// Passages of the held-out text, evenly spread over it, and their length in tokens.
const PASSAGES: usize = 32;
const LENGTH: usize = 160;

/// The passages, each after the token that begins a text.
fn passages() -> Vec<Vec<u32>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale/training/held_out.txt");
    let text = std::fs::read_to_string(Path::new(path)).expect("the held-out text");
    let tokens = embedded::tokenizer().expect("the tokenizer").encode(&text, Special::Skip).expect("tokens");
    let every = tokens.len() / PASSAGES;
    let passage = |index: usize| [&[0], &tokens[index * every..index * every + LENGTH]].concat();
    (0..PASSAGES).map(passage).collect()
}

/// Perplexity of the passages, and bytes of the weights.
fn perplexity(checkpoint: &Checkpoint, passages: &[Vec<u32>], options: CpuOptions) -> (f64, u64) {
    let blocks = 2 + (PASSAGES * (LENGTH + 1).div_ceil(16)) as u32;
    let options = CpuOptions { blocks, max_rows: PASSAGES as u32, ..options };
    let bytes = MemoryPlan::new(checkpoint.spec(), &options).expect("a plan").weights;
    let mut executor = CpuExecutor::load(checkpoint, &options, &mut |_| ()).expect("the model loads");
    let sequences: Vec<Sequence> = passages
        .iter()
        .enumerate()
        .map(|(index, tokens)| Sequence::scattered(tokens, &executor, index as u32, PASSAGES as u32))
        .collect();
    let params = Arc::new(SamplingParams::greedy());
    let mut nats = 0.0;
    for position in 0..LENGTH as u32 {
        let mut input = step(&executor);
        for sequence in &sequences {
            push_row(&mut input, sequence, position..position + 1, Some(&params));
        }
        executor.execute(&input, &mut StepOutput::default()).expect("a step");
        for (row, sequence) in sequences.iter().enumerate() {
            let logits = executor.last_logits(row).expect("a sampled row");
            nats += loss(logits, sequence.tokens[position as usize + 1]);
        }
    }
    ((nats / (PASSAGES * LENGTH) as f64).exp(), bytes)
}

/// `-ln p(token)`
fn loss(logits: &[f32], token: u32) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let total: f64 = logits.iter().map(|&x| (f64::from(x) - max).exp()).sum();
    total.ln() + max - f64::from(logits[token as usize])
}

fn quantized(format: QuantFormat) -> CpuOptions {
    CpuOptions { quantize: Some(format), ..CpuOptions::default() }
}

/// The bounds are about twice what was measured.
#[test]
fn small_formats_keep_the_perplexity() {
    let checkpoint = Checkpoint::open(&embedded::SOURCE).expect("the embedded model");
    let passages = passages();
    let (exact, bytes) = perplexity(&checkpoint, &passages, CpuOptions::default());
    println!("| weights | bytes | perplexity | change |\n|---|---|---|---|");
    println!("| {} | {bytes} | {exact:.3} | |", checkpoint.spec().dtype);
    for (name, options, most) in [
        ("int8", quantized(QuantFormat::INT8), 0.001),
        ("w8a8", quantized(QuantFormat::W8A8), 0.004),
        ("int4", quantized(QuantFormat::INT4), 0.015),
        ("w4a8", quantized(QuantFormat::W4A8), 0.015),
        (
            "keys and values int8",
            CpuOptions { kv_dtype: Some(KvDtype::Int8), ..CpuOptions::default() },
            0.001,
        ),
    ] {
        let (perplexity, bytes) = perplexity(&checkpoint, &passages, options);
        let change = perplexity / exact - 1.0;
        println!("| {name} | {bytes} | {perplexity:.3} | {:+.2} % |", 100.0 * change);
        // Written so that NaN fails.
        let within = change.abs() <= most;
        assert!(within, "{name}: perplexity {perplexity:.3} is {change:+.4} from {exact:.3}, allowed {most}");
    }
}
