//! Sampling of all rows of a step, shared out among the workers.

use crate::sampler::{RowLogits, Sampler};
use pagoda_kernels::{WorkerPool, partition};
use pagoda_sched::{Sampled, StepInput, StepOutput};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Logits per worker below which waking it costs more than it brings.
const GRAIN: usize = 1 << 15;

/// One sampler per worker, with what it chose.
#[derive(Debug)]
pub(crate) struct RowSamplers {
    vocab_size: usize,
    workers: Vec<Mutex<RowSampler>>,
}

#[derive(Debug)]
struct RowSampler {
    sampler: Sampler,
    output: StepOutput,
}

impl RowSamplers {
    /// Samplers for `threads` workers.
    pub(crate) fn new(threads: usize, vocab_size: u32) -> Self {
        let vocab_size = vocab_size as usize;
        let worker =
            || Mutex::new(RowSampler { sampler: Sampler::new(vocab_size), output: StepOutput::default() });
        Self { vocab_size, workers: (0..threads).map(|_| worker()).collect() }
    }

    /// Bytes of the samplers for `threads` workers.
    pub(crate) fn bytes(threads: usize, vocab_size: u32) -> u64 {
        threads as u64 * Sampler::bytes(vocab_size as usize)
    }

    /// Bytes that these samplers hold.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.workers.iter().map(|worker| lock(worker).sampler.held_bytes()).sum()
    }

    /// Samples the rows of `input` whose indices are `sampled`, from `logits`, `[sampled, vocab_size]`, in order.
    pub(crate) fn run(
        &self,
        pool: &WorkerPool,
        input: &StepInput,
        sampled: &[u32],
        logits: &[f32],
        output: &mut StepOutput,
    ) {
        let parts = (logits.len() / GRAIN).clamp(1, self.workers.len()).min(sampled.len().max(1));
        let part = |worker: usize| {
            let mut guard = lock(&self.workers[worker]);
            let RowSampler { sampler, output } = &mut *guard;
            output.clear();
            for index in partition(sampled.len(), parts, worker) {
                let row = &input.rows[sampled[index] as usize];
                let request = row.sampling.as_ref().expect("a sampled row has a request");
                let history = &input.history[request.history.start as usize..request.history.end as usize];
                let logits = &logits[index * self.vocab_size..(index + 1) * self.vocab_size];
                let position = row.context;
                let first_sample = row.sample;
                sampler.sample(&RowLogits { logits, position, first_sample, request, history }, output);
            }
        };
        if parts == 1 {
            part(0);
        } else {
            pool.run(&|worker| {
                if worker < parts {
                    part(worker);
                }
            });
        }
        for worker in &self.workers[..parts] {
            append(output, &lock(worker).output);
        }
    }
}

/// Appends what one worker chose; ranges of `top` move by what is there already.
fn append(output: &mut StepOutput, part: &StepOutput) {
    let base = output.top.len() as u32;
    output.top.extend_from_slice(&part.top);
    output.samples.extend(
        part.samples.iter().map(|sampled| Sampled {
            top: sampled.top.start + base..sampled.top.end + base,
            ..sampled.clone()
        }),
    );
}

/// The state of a sampler is rebuilt by every call, so a panic in another one leaves nothing to distrust.
fn lock(worker: &Mutex<RowSampler>) -> MutexGuard<'_, RowSampler> {
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}
