//! A step allocates nothing once its arrays have grown to their size.

mod common {
    pub(crate) mod rows;
}

use common::rows::{Sequence, push_row, step};
use pagoda_cpu::{CpuExecutor, CpuOptions};
use pagoda_model::{Checkpoint, ModelSource};
use pagoda_sched::{Executor, SamplingParams, StepInput, StepOutput};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator with the arguments unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the rules of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_step_allocates_nothing() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/qwen3-sharded");
    let checkpoint = Checkpoint::open(&ModelSource::Folder(folder.into())).expect("the model");
    let options = CpuOptions {
        threads: Some(2),
        blocks: 33,
        max_tokens_per_step: 64,
        max_rows: 4,
        ..CpuOptions::default()
    };
    let mut executor = CpuExecutor::load(&checkpoint, &options, &mut |_| ()).expect("loads");
    let drawn = SamplingParams {
        temperature: 0.8,
        top_p: 0.9,
        min_p: 0.01,
        logprobs: Some(5),
        logit_bias: [(3, 1.0)].into(),
        ..SamplingParams::greedy()
    };
    let ways = [SamplingParams::greedy(), drawn.clone(), SamplingParams { top_k: 20, ..drawn }].map(Arc::new);
    let tokens: Vec<u32> = (0..60).collect();
    let sequences = [0, 1, 2].map(|start| Sequence::scattered(&tokens, &executor, start, 3));
    let inputs: Vec<StepInput> = (0..20)
        .map(|position| {
            let mut input = step(&executor);
            for (sequence, params) in sequences.iter().zip(&ways) {
                // A chunk of the prompt at first, then one token after the other.
                let range = if position == 0 { 0..20 } else { 19 + position..20 + position };
                push_row(&mut input, sequence, range, Some(params));
            }
            input
        })
        .collect();
    let mut output = StepOutput::default();
    let run = |executor: &mut CpuExecutor, output: &mut StepOutput| {
        for input in &inputs {
            output.clear();
            executor.execute(input, output).expect("a step");
        }
    };
    run(&mut executor, &mut output);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    run(&mut executor, &mut output);
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "allocations in {} steps", inputs.len());
    assert_eq!(output.samples.len(), 3);
}
