//! Adapters: the answers of merged models, and rows with and without them in one step.

mod common {
    pub(crate) mod feed;
    pub(crate) mod golden;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::golden::{Golden, distance, range, root, score, score_with};
use common::rows::{Sequence, push_row, step};
use pagoda_cpu::{AdapterLimits, ComputeDtype, CpuExecutor, CpuOptions, MemoryPlan, PackedAdapter};
use pagoda_kernels::{Isa, QuantFormat};
use pagoda_model::{Adapter, Checkpoint, ModelSource};
use pagoda_sched::{AdapterId, Executor, SamplingParams, StepOutput};
use std::path::PathBuf;
use std::sync::Arc;

/// As in `golden.rs`, by what each format rounds.
const F32_TOLERANCE: f32 = 1e-4;
const BF16_FACTOR: f32 = 1.25;
const INT8_TOLERANCE: f32 = 0.05;

fn options(dtype: ComputeDtype, isa: Option<Isa>) -> CpuOptions {
    CpuOptions {
        dtype,
        isa,
        threads: Some(2),
        blocks: 40,
        max_tokens_per_step: 64,
        max_rows: 8,
        adapters: AdapterLimits { count: 3, rank: 8 },
        ..CpuOptions::default()
    }
}

fn model(name: &str) -> Checkpoint {
    Checkpoint::open(&ModelSource::Folder(root().join(name))).expect("the model")
}

fn pack(checkpoint: &Checkpoint, name: &str, options: &CpuOptions) -> PackedAdapter {
    let folder = root().join("adapters").join(name);
    let adapter = Adapter::open(&folder, checkpoint.spec()).expect("the adapter");
    PackedAdapter::pack(&adapter, checkpoint.spec(), options).expect("the adapter is packed")
}

/// An executor with adapters, numbered from 1.
fn load(checkpoint: &Checkpoint, adapters: &[&str], options: &CpuOptions) -> CpuExecutor {
    let mut executor = CpuExecutor::load(checkpoint, options, &mut |_| ()).expect("the model loads");
    for (id, name) in (1..).zip(adapters) {
        let packed = pack(checkpoint, name, options);
        executor.attach(AdapterId(id), Box::new(packed)).expect("there is room");
    }
    executor
}

/// Each in one chunk, in several and token by token, which is in [`score_with`].
#[test]
fn every_adapter_gives_the_answers_of_the_merged_model() {
    let folders = std::fs::read_dir(root().join("adapters")).expect("tests/golden/adapters");
    let mut folders: Vec<PathBuf> = folders.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    assert!(folders.len() >= 6, "{folders:?}");
    for folder in folders {
        let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
        let base: serde_json::Value = serde_json::from_str(&text).expect("golden.json is JSON");
        let golden: Golden = serde_json::from_str(&text).expect("golden.json as described");
        let base = base["model"].as_str().expect("the model's name");
        let checkpoint = model(base);
        let own = std::fs::read_to_string(root().join(base).join("golden.json")).expect("golden.json");
        let own: Golden = serde_json::from_str(&own).expect("golden.json as described");
        score(&checkpoint, &own, &options(ComputeDtype::F32, None), F32_TOLERANCE);
        let case = &golden.cases[0];
        let narrow = case.bf16.as_ref().expect("answers in both formats");
        let pairs = case.f32.logits.iter().zip(&narrow.logits);
        let reference =
            pairs.map(|(exact, narrow)| distance(exact, narrow) / range(exact)).fold(0.0, f32::max);
        for isa in Isa::available() {
            let of = |options: CpuOptions, tolerance: f32| {
                let mut executor = load(&checkpoint, &[&name], &options);
                let what = format!("{name}, {}, {isa}", executor.plan().weight_formats);
                score_with(&mut executor, AdapterId(1), &golden, (&what, tolerance))
            };
            let exact = of(options(ComputeDtype::F32, Some(isa)), F32_TOLERANCE);
            assert_eq!(exact.open, 0, "{name}: every margin exceeds the error of f32");
            let narrow = of(options(ComputeDtype::Bf16, Some(isa)), BF16_FACTOR * reference);
            let half = of(options(ComputeDtype::F16, Some(isa)), BF16_FACTOR * reference);
            let int8 =
                CpuOptions { quantize: Some(QuantFormat::INT8), ..options(ComputeDtype::Auto, Some(isa)) };
            let small = of(int8, INT8_TOLERANCE);
            println!(
                "{name} {isa}: f32 {:.1e}, bf16 {:.1e} of {reference:.1e}, f16 {:.1e}, int8 {:.1e}",
                exact.error, narrow.error, half.error, small.error
            );
        }
    }
}

/// Tokens of a sequence, and how many of them are computed before the common step.
const SEQUENCES: [(u32, u32); 5] = [(21, 20), (19, 3), (30, 30 - 17), (17, 16), (25, 24)];
/// Their adapters.
const ADAPTERS: [u32; 5] = [1, 0, 2, 2, 1];

/// Logits of the last token of each sequence, computed in one step with those of the others that `together` names.
fn last_logits(executor: &mut CpuExecutor, together: &[usize]) -> Vec<Vec<f32>> {
    let params = Arc::new(SamplingParams::greedy());
    let mut input = step(executor);
    for &index in together {
        let (length, before) = SEQUENCES[index];
        let tokens: Vec<u32> = (0..length).map(|i| (i * i * 7 + i + index as u32 * 31) % 100).collect();
        let stride = SEQUENCES.len() as u32;
        let sequence = Sequence {
            adapter: AdapterId(ADAPTERS[index]),
            ..Sequence::scattered(&tokens, executor, index as u32, stride)
        };
        let early = Sequence { tokens: tokens[..before as usize].to_vec(), ..sequence.clone() };
        feed(executor, &early, 0, 7);
        push_row(&mut input, &sequence, before..length, Some(&params));
    }
    // A prompt that is not at its end: nothing is asked of its row.
    let rest = Sequence { adapter: AdapterId(1), ..Sequence::scattered(&[5; 9], executor, 38, 1) };
    push_row(&mut input, &rest, 0..9, None);
    executor.execute(&input, &mut StepOutput::default()).expect("a step");
    (0..together.len()).map(|index| executor.last_logits(index).expect("a sampled row").to_vec()).collect()
}

#[test]
fn rows_with_and_without_adapters_have_the_same_bits_alone_and_together() {
    let checkpoint = model("llama-gqa3-untied");
    let quantized = CpuOptions { quantize: Some(QuantFormat::INT8), ..options(ComputeDtype::Auto, None) };
    let formats = [options(ComputeDtype::F32, None), options(ComputeDtype::Bf16, None), quantized];
    for base in formats {
        for (isa, threads) in Isa::available().flat_map(|isa| [(isa, 1), (isa, 3)]) {
            let options = CpuOptions { isa: Some(isa), threads: Some(threads), ..base.clone() };
            let mut executor = load(&checkpoint, &["llama-all", "llama-root"], &options);
            let together = last_logits(&mut executor, &[0, 1, 2, 3, 4]);
            let backwards = last_logits(&mut executor, &[4, 3, 2, 1, 0]);
            for (index, together) in together.iter().enumerate() {
                let what = format!("sequence {index}, {isa}, {threads} threads");
                let alone = last_logits(&mut executor, &[index]).remove(0);
                assert!(alone == *together && alone == backwards[4 - index], "{what}");
            }
            let mut plain =
                load(&checkpoint, &[], &CpuOptions { adapters: AdapterLimits::default(), ..options });
            let params = Arc::new(SamplingParams::greedy());
            assert_eq!(
                plain_logits(&mut plain, &params),
                together[1],
                "a row without adapter is that of the model"
            );
        }
    }
}

/// The second sequence on an executor that has no adapters.
fn plain_logits(executor: &mut CpuExecutor, params: &Arc<SamplingParams>) -> Vec<f32> {
    let tokens: Vec<u32> = (0..19).map(|i| (i * i * 7 + i + 31) % 100).collect();
    let sequence = Sequence::scattered(&tokens, executor, 0, 1);
    let mut input = step(executor);
    push_row(&mut input, &sequence, 0..19, Some(params));
    executor.execute(&input, &mut StepOutput::default()).expect("a step");
    executor.last_logits(0).expect("a sampled row").to_vec()
}

#[test]
fn adapters_come_and_go_within_their_places() {
    let checkpoint = model("llama-gqa3-untied");
    let mut options = options(ComputeDtype::Auto, None);
    options.adapters.count = 1;
    let plan = MemoryPlan::new(checkpoint.spec(), &options).expect("a plan");
    let mut executor = load(&checkpoint, &["llama-root"], &options);
    assert!(executor.adapter_bytes() > 0 && executor.adapter_bytes() <= plan.adapters);
    let packed = || Box::new(pack(&checkpoint, "llama-root", &options));
    let refused = executor.attach(AdapterId(2), packed()).expect_err("every place is taken");
    assert!(refused.message.contains("taken"), "{refused}");
    assert!(executor.detach(AdapterId(2)).is_none());
    let before = last_logits(&mut executor, &[0]);
    assert!(executor.detach(AdapterId(1)).is_some());
    assert_eq!(executor.adapter_bytes(), 0);
    let gone = Sequence { adapter: AdapterId(1), ..Sequence::scattered(&[1, 2], &executor, 0, 1) };
    let mut input = step(&executor);
    push_row(&mut input, &gone, 0..2, None);
    let unknown = executor.execute(&input, &mut StepOutput::default()).expect_err("nobody has it");
    assert!(unknown.message.contains("adapter 1"), "{unknown}");
    executor.attach(AdapterId(1), Box::new(7)).expect_err("no adapter at all");
    executor.attach(AdapterId(1), packed()).expect("there is room again");
    assert_eq!(last_logits(&mut executor, &[0]), before);
    options.adapters.rank = 7;
    let folder = root().join("adapters/llama-root");
    let adapter = Adapter::open(&folder, checkpoint.spec()).expect("the adapter");
    let refused = PackedAdapter::pack(&adapter, checkpoint.spec(), &options).expect_err("rank 8").to_string();
    assert!(refused.contains("--max-lora-rank 8"), "{refused}");
}
