//! A row whose numbers are not finite is alone with that.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::{Sequence, push_row, step};
use pagoda_cpu::{ComputeDtype, CpuExecutor, CpuOptions};
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_sched::{Executor, RowFault, SamplingParams, StepOutput};
use std::sync::Arc;

const MODEL: &str = "llama-gqa3-untied";
const POISON: u32 = 17;

/// The model with NaN in the embedding of one token; the head is not tied to it.
fn poisoned_model() -> Checkpoint {
    let folder = format!("{}/../../tests/golden/{MODEL}", env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| std::fs::read(format!("{folder}/{name}")).expect("the reference model");
    let mut weights = read("model.safetensors");
    let header_len = u64::from_le_bytes(weights[..8].try_into().expect("8 bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&weights[8..8 + header_len]).expect("a header");
    let embedding = &header["model.embed_tokens.weight"];
    let start = embedding["data_offsets"][0].as_u64().expect("an offset") as usize;
    let hidden = embedding["shape"][1].as_u64().expect("a width") as usize;
    assert_eq!(embedding["dtype"], "F32");
    let row = 8 + header_len + start + POISON as usize * hidden * 4;
    weights[row..row + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    let files = vec![("config.json", &*read("config.json").leak()), ("model.safetensors", &*weights.leak())];
    Checkpoint::open(&ModelSource::Memory { name: "poisoned", files: files.leak() }).expect("the model")
}

#[test]
fn a_poisoned_row_faults_alone_and_its_blocks_can_be_used_again() {
    let checkpoint = poisoned_model();
    for dtype in [ComputeDtype::F32, ComputeDtype::Bf16] {
        let options =
            CpuOptions { dtype, blocks: 17, max_tokens_per_step: 64, max_rows: 4, ..CpuOptions::default() };
        let mut executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads");
        let clean_tokens: Vec<u32> = (20..45).collect();
        let sick_tokens: Vec<u32> = (0..30).collect();
        let clean = Sequence::scattered(&clean_tokens, &executor, 0, 1);
        let alone = feed(&mut executor, &clean, 0, 64).pop().expect("logits");

        let sick = Sequence::scattered(&sick_tokens, &executor, 4, 1);
        let params = Arc::new(SamplingParams { logprobs: Some(2), ..SamplingParams::greedy() });
        let mut input = step(&executor);
        push_row(&mut input, &sick, 0..30, Some(&params));
        push_row(&mut input, &clean, 0..25, Some(&params));
        let mut output = StepOutput::default();
        executor.execute(&input, &mut output).expect("a step");
        assert_eq!(output.samples[0].token, Err(RowFault::NonFiniteLogits), "{dtype}");
        assert!(output.samples[1].token.is_ok() && output.samples[1].logprob.is_finite(), "{dtype}");
        assert_eq!(executor.last_logits(1), Some(&*alone), "{dtype}: the neighbour of a poisoned row");

        // The blocks still hold NaN behind the last token of their next owner.
        let next = Sequence { tokens: clean_tokens, ..sick };
        for chunk in [64, 1] {
            let reused = feed(&mut executor, &next, 0, chunk).pop().expect("logits");
            assert_eq!(reused, alone, "{dtype}: in blocks that a poisoned row has left");
        }
    }
}
