//! Sampling of all rows of a step, shared out among the workers.

use crate::sampler::{RowLogits, Sampler};
use pagoda_kernels::{Kernels, WorkerPool, partition};
use pagoda_sched::{Sampled, StepInput, StepOutput, TokenId};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Logits per worker below which waking it costs more than it brings.
const GRAIN: usize = 1 << 15;

/// Most workers that sample; more would not find enough rows to share.
const MAX_PARTS: usize = 64;

/// A place in a prompt whose logits are looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The token that stands there.
    pub(crate) token: TokenId,
    /// How many of the most likely tokens to report.
    pub(crate) top: u8,
}

/// Rows of logits that one worker takes.
type Lot<'a> = Mutex<&'a mut [f32]>;

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
    pub(crate) fn new(threads: usize, vocab_size: u32, kernels: &'static Kernels) -> Self {
        let vocab_size = vocab_size as usize;
        let worker = || {
            let sampler = Sampler::with_kernels(vocab_size, kernels);
            Mutex::new(RowSampler { sampler, output: StepOutput::default() })
        };
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
        logits: &mut [f32],
        output: &mut StepOutput,
    ) {
        let parts = self.parts(logits.len(), sampled.len());
        let mut rest = logits;
        // The rows of each part, for its worker to take.
        let lots: [Lot<'_>; MAX_PARTS] = std::array::from_fn(|part| {
            let rows = if part < parts { partition(sampled.len(), parts, part).len() } else { 0 };
            let (lot, others) = std::mem::take(&mut rest).split_at_mut(rows * self.vocab_size);
            rest = others;
            Mutex::new(lot)
        });
        let part = |worker: usize| {
            let mut lot = lots[worker].lock().unwrap_or_else(PoisonError::into_inner);
            let mut guard = lock(&self.workers[worker]);
            let RowSampler { sampler, output } = &mut *guard;
            output.clear();
            let rows = lot.chunks_exact_mut(self.vocab_size);
            for (index, logits) in partition(sampled.len(), parts, worker).zip(rows) {
                let row = &input.rows[sampled[index] as usize];
                let request = row.sampling.as_ref().expect("a sampled row has a request");
                let history = &input.history[request.history.start as usize..request.history.end as usize];
                let position = row.context;
                let first_sample = row.sample;
                let mut row = RowLogits { logits, position, first_sample, request, history };
                sampler.sample(&mut row, output);
            }
        };
        self.share_out(pool, parts, &part, output);
    }

    /// Says of each of `places` how likely its token is, by `logits`, `[places, vocab_size]`, in order.
    pub(crate) fn rate(&self, pool: &WorkerPool, places: &[Place], logits: &[f32], output: &mut StepOutput) {
        let parts = self.parts(logits.len(), places.len());
        let part = |worker: usize| {
            let mut guard = lock(&self.workers[worker]);
            let RowSampler { sampler, output } = &mut *guard;
            output.clear();
            let share = partition(places.len(), parts, worker);
            let rows = logits.chunks_exact(self.vocab_size);
            for (place, logits) in places[share.clone()].iter().zip(rows.skip(share.start)) {
                sampler.rate(logits, place.token, usize::from(place.top), output);
            }
        };
        self.share_out(pool, parts, &part, output);
    }

    /// Among how many workers `rows` rows are shared out.
    fn parts(&self, logits: usize, rows: usize) -> usize {
        let most = self.workers.len().min(MAX_PARTS);
        (logits / GRAIN).clamp(1, most).min(rows.max(1))
    }

    /// Runs `part` for the first `parts` workers and joins what they chose.
    fn share_out(
        &self,
        pool: &WorkerPool,
        parts: usize,
        part: &(dyn Fn(usize) + Sync),
        output: &mut StepOutput,
    ) {
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
    output.prompt.extend_from_slice(&part.prompt);
    output.prompt_top.extend_from_slice(&part.prompt_top);
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
