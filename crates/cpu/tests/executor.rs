//! The executor on the story model that ships with the project.

mod common {
    pub(crate) mod feed;
    pub(crate) mod rows;
}

use common::feed::feed;
use common::rows::{Sequence, push_row, step};
use pagoda_cpu::{AdapterLimits, ComputeDtype, CpuExecutor, CpuOptions, KvDtype, MemoryPlan};
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_sched::{BlockCopy, BlockId, Executor, SamplingParams, StepOutput};
use std::sync::Arc;

fn checkpoint() -> Checkpoint {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/folktale");
    Checkpoint::open(&ModelSource::Folder(folder.into())).expect("the model is in the repository")
}

fn options() -> CpuOptions {
    CpuOptions { blocks: 24, max_tokens_per_step: 64, max_rows: 8, threads: Some(2), ..CpuOptions::default() }
}

fn load(options: &CpuOptions) -> CpuExecutor {
    CpuExecutor::load(&checkpoint(), options, &mut |_| ()).expect("the model loads")
}

fn prompt(length: u32, seed: u32) -> Vec<u32> {
    (0..length).map(|i| (i * i * 31 + i * 7 + seed * 977) % 4000).collect()
}

#[test]
fn the_memory_plan_is_what_is_held() {
    let checkpoint = checkpoint();
    for dtype in [ComputeDtype::Auto, ComputeDtype::F32, ComputeDtype::Bf16, ComputeDtype::F16] {
        for (kv_dtype, count) in [(None, 0), (Some(KvDtype::F32), 2), (Some(KvDtype::Int8), 1)] {
            let adapters = AdapterLimits { count, rank: 8 };
            let options = CpuOptions { dtype, kv_dtype, adapters, ..options() };
            let plan = MemoryPlan::new(checkpoint.spec(), &options).expect("a plan");
            let executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads");
            assert_eq!(
                executor.held_bytes(),
                [plan.weights, plan.kv, plan.activations],
                "{dtype} {kv_dtype:?}"
            );
            assert_eq!(plan.total(), executor.held_bytes().iter().sum::<u64>() + plan.adapters);
            assert_eq!(executor.capacity().layout, plan.layout);
        }
    }
}

#[test]
fn progress_runs_from_nothing_to_the_stored_bytes() {
    let checkpoint = checkpoint();
    let mut seen = Vec::new();
    CpuExecutor::load(&checkpoint, &options(), &mut |progress| seen.push(progress)).expect("loads");
    assert_eq!(seen[0].done, 0);
    assert!(seen.windows(2).all(|pair| pair[0].done <= pair[1].done && pair[0].total == pair[1].total));
    let last = seen.last().expect("reports");
    assert_eq!(last.done, last.total);
    assert_eq!(last.total, checkpoint.stored_bytes());
}

#[test]
fn options_that_cannot_work_are_refused_by_name() {
    let checkpoint = checkpoint();
    let cases = [
        (CpuOptions { block_size: 17, ..options() }, "block_size = 17"),
        (CpuOptions { blocks: 1, ..options() }, "blocks = 1"),
        (CpuOptions { blocks: u32::MAX, ..options() }, "blocks = 4294967295"),
        (CpuOptions { max_tokens_per_step: 0, ..options() }, "max_tokens_per_step = 0"),
        (CpuOptions { max_rows: 0, ..options() }, "max_rows = 0"),
    ];
    for (options, expected) in cases {
        let message = MemoryPlan::new(checkpoint.spec(), &options).expect_err(expected).to_string();
        assert!(message.contains(expected), "{message}");
        assert!(CpuExecutor::load(&checkpoint, &options, &mut |_| ()).is_err());
    }
}

#[test]
fn the_logits_do_not_depend_on_chunks_blocks_threads_or_neighbours() {
    let tokens = prompt(50, 1);
    for dtype in [ComputeDtype::Auto, ComputeDtype::F32] {
        let mut executor = load(&CpuOptions { dtype, threads: Some(1), ..options() });
        let whole = Sequence::scattered(&tokens, &executor, 0, 1);
        let alone = feed(&mut executor, &whole, 0, 50).pop().expect("logits");
        let mut threaded = load(&CpuOptions { dtype, threads: Some(3), ..options() });
        for chunk in [1, 3, 7, 16, 33] {
            let sequence = Sequence::scattered(&tokens, &threaded, 5, 3);
            let chunked = feed(&mut threaded, &sequence, 0, chunk).pop().expect("logits");
            assert_eq!(chunked, alone, "{dtype}, chunk {chunk}");
        }
        let neighbour = Sequence::scattered(&prompt(13, 2), &threaded, 0, 5);
        let sequence = Sequence::scattered(&tokens, &threaded, 1, 5);
        let params = Arc::new(SamplingParams::greedy());
        let mut input = step(&threaded);
        push_row(&mut input, &neighbour, 0..13, Some(&params));
        push_row(&mut input, &sequence, 0..50, Some(&params));
        threaded.execute(&input, &mut StepOutput::default()).expect("a step");
        assert_eq!(threaded.last_logits(1), Some(&*alone));
        assert_eq!(threaded.last_logits(2), None);
    }
}

#[test]
fn copies_come_before_writes() {
    let tokens = prompt(21, 3);
    let mut executor = load(&options());
    let original = Sequence::scattered(&tokens[..20], &executor, 0, 1);
    feed(&mut executor, &original, 0, 20);
    let mut fork = Sequence { tokens: tokens.clone(), ..original.clone() };
    fork.blocks[1] = BlockId(2);
    let params = Arc::new(SamplingParams::greedy());
    let mut input = step(&executor);
    input.copies.push(BlockCopy { from: original.blocks[1], to: fork.blocks[1] });
    push_row(&mut input, &fork, 20..21, Some(&params));
    executor.execute(&input, &mut StepOutput::default()).expect("a step");
    let forked = executor.last_logits(0).expect("logits").to_vec();
    let fresh = Sequence::scattered(&tokens, &executor, 9, 1);
    assert_eq!(feed(&mut executor, &fresh, 0, 21).pop(), Some(forked));
}

#[test]
fn a_stray_token_is_an_error_that_names_it() {
    let mut executor = load(&options());
    let vocab = executor.capacity().vocab_size;
    let mut sequence = Sequence::scattered(&prompt(4, 1), &executor, 0, 1);
    sequence.tokens[2] = vocab;
    let mut input = step(&executor);
    push_row(&mut input, &sequence, 0..4, None);
    let error = executor.execute(&input, &mut StepOutput::default()).expect_err("a stray token").to_string();
    assert!(error.contains(&vocab.to_string()) && error.contains("position 2"), "{error}");
}

#[test]
#[should_panic(expected = "a token goes where its table says")]
fn a_slot_outside_the_table_is_a_broken_invariant() {
    let mut executor = load(&options());
    let sequence = Sequence::scattered(&prompt(4, 1), &executor, 0, 1);
    let mut input = step(&executor);
    push_row(&mut input, &sequence, 0..4, None);
    input.write_slots[3].0 += 1;
    let _ = executor.execute(&input, &mut StepOutput::default());
}

#[test]
fn narrow_formats_stay_close_to_single_precision() {
    let tokens = prompt(40, 4);
    let mut exact = load(&CpuOptions { dtype: ComputeDtype::F32, ..options() });
    let sequence = Sequence::scattered(&tokens, &exact, 0, 1);
    let expected = feed(&mut exact, &sequence, 0, 40).pop().expect("logits");
    let range = expected.iter().copied().fold(f32::NEG_INFINITY, f32::max)
        - expected.iter().copied().fold(f32::INFINITY, f32::min);
    for dtype in [ComputeDtype::Bf16, ComputeDtype::F16] {
        let mut executor = load(&CpuOptions { dtype, ..options() });
        let logits = feed(&mut executor, &sequence, 0, 40).pop().expect("logits");
        let error = logits.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(error <= 0.02 * range, "{dtype}: error {error} in a range of {range}");
        assert_eq!(argmax(&logits), argmax(&expected), "{dtype}");
    }
}

/// Index of the largest logit, the lowest among equals.
fn argmax(logits: &[f32]) -> u32 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&x| x == max).expect("a maximum") as u32
}
