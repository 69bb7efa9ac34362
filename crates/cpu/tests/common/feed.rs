//! Drives an executor without a scheduler: one sequence, in chunks.

use super::rows::{Sequence, push_row, step};
use pagoda_cpu::CpuExecutor;
use pagoda_sched::{Executor, SamplingParams, StepOutput};
use std::sync::Arc;

/// Feeds the tokens from `start` on in chunks of `chunk`, asking for logits at the end of each; the logits.
pub(crate) fn feed(executor: &mut CpuExecutor, sequence: &Sequence, start: u32, chunk: u32) -> Vec<Vec<f32>> {
    let params = Arc::new(SamplingParams::greedy());
    let end = sequence.tokens.len() as u32;
    let mut logits = Vec::new();
    let mut position = start;
    while position < end {
        let next = (position + chunk).min(end);
        let mut input = step(executor);
        push_row(&mut input, sequence, position..next, Some(&params));
        let mut output = StepOutput::default();
        executor.execute(&input, &mut output).expect("a step");
        logits.push(executor.last_logits(0).expect("one sampled row").to_vec());
        position = next;
    }
    logits
}
