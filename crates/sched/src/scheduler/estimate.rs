//! When waiting requests will be served.
//!
//! The waiting ones are admitted in order to rows that become free as the running ones end, in a clock of decode steps; each takes
//! what a decode step of a full batch costs, and each admission holds all up for its prefill. Lengths of outputs are those of the
//! class, or `max_tokens` where nothing else ends a request.

use super::Scheduler;
use crate::{Estimate, RequestId, SampleIndex, Sequence, SequenceId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Sequences before a request that are looked at one by one; beyond that its wait is in proportion.
const WALKED: usize = 1024;

/// Largest share of the time that prefill of later arrivals is expected to take.
const MOST_PREFILL: f64 = 0.8;

/// Rows that become free, and the time that prefill takes meanwhile.
struct Service {
    /// Seconds of a decode step.
    step: f64,
    /// Seconds of a prefill token.
    token: f64,
    /// Decode steps until each row is free.
    rows: BinaryHeap<Reverse<u64>>,
    /// Seconds of prefill so far.
    prefill: f64,
    /// Decode steps so far.
    steps: u64,
}

impl Service {
    /// Admits one with `tokens` to prefill and `output` to generate. Returns when, in seconds.
    fn admit(&mut self, tokens: u32, output: u32) -> f64 {
        let Reverse(free) = self.rows.pop().unwrap_or(Reverse(self.steps));
        self.steps = self.steps.max(free);
        let start = self.seconds(self.steps);
        self.prefill += f64::from(tokens) * self.token;
        self.rows.push(Reverse(self.steps + u64::from(output)));
        start
    }

    fn seconds(&self, steps: u64) -> f64 {
        steps as f64 * self.step + self.prefill
    }
}

impl Scheduler {
    /// Sequences that are expected to go before a waiting request; `None` if it does not wait.
    pub fn position(&self, id: RequestId, now: Instant) -> Option<u32> {
        let id = SequenceId { request: id, sample: SampleIndex(0) };
        self.queue.contains(id).then(|| self.queue.position(id, now))
    }

    /// When a waiting request is expected to be served; `None` if it does not wait, or before any step has told what steps cost.
    ///
    /// Costs O(n log n) for n rows and sequences before it, of which at most 1,024 are looked at.
    pub fn estimate(&self, id: RequestId, now: Instant) -> Option<Estimate> {
        let id = SequenceId { request: id, sample: SampleIndex(0) };
        let sequence = self.queue.get(id)?;
        let position = self.queue.position(id, now);
        let before = self.queue.before(id, WALKED, now);
        let mut service = self.service(sequence)?;
        for waiting in &before {
            service.admit(self.to_prefill(waiting), self.expected_output(waiting));
        }
        let tokens = self.to_prefill(sequence);
        let output = self.expected_output(sequence);
        let own = f64::from(tokens) * service.token;
        let mut start = service.admit(tokens, output);
        if before.len() < position as usize {
            start *= f64::from(position) / before.len().max(1) as f64;
        }
        // Those behind it take the rows that become free meanwhile, if so many wait.
        let behind = (self.queue.len() - 1).saturating_sub(position as usize);
        let joining = behind.min(service.rows.len()) as f64 * own;
        let first_token = start + own + service.step;
        let decoding = f64::from(output) * service.step;
        // Or others come as they came lately, and take their share of the time.
        let share = (self.admitted_tokens.per_second(now) * service.token).min(MOST_PREFILL);
        let finish = start + own + (decoding + joining).max(decoding / (1.0 - share));
        let seconds = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        Some(Estimate {
            position,
            start: seconds(start),
            first_token: seconds(first_token),
            finish: seconds(finish),
        })
    }

    /// The rows as they are, of as many as the pool can hold of sequences like those that run and `sequence`.
    fn service(&self, sequence: &Sequence) -> Option<Service> {
        let mut rows: BinaryHeap<_> =
            self.batch.iter().map(|running| Reverse(u64::from(self.expected_output(running)))).collect();
        let known = || self.batch.iter().chain([sequence]);
        let blocks = |of: &Sequence| self.blocks_for(of.total() + self.expected_output(of) / 2);
        let mean = known().map(blocks).sum::<u32>() / known().count() as u32;
        let most = (self.pool.total() / mean.max(1)).clamp(1, self.config.max_num_seqs) as usize;
        while rows.len() < most {
            rows.push(Reverse(0));
        }
        let waiting = self.queue.len() + self.batch.len();
        let busy = most.min(waiting.max(1)) as u32;
        let context = known().map(|of| u64::from(of.total())).sum::<u64>() / known().count() as u64;
        let (step, token) = self.pace.rates(busy, context as u32)?;
        let open = self.batch.iter().filter(|running| running.gap() > 1).map(Sequence::gap).sum::<u32>();
        Some(Service { step, token, rows, prefill: f64::from(open) * token, steps: 0 })
    }

    /// Tokens that a waiting sequence lacks, granted that nothing of it is cached.
    fn to_prefill(&self, sequence: &Sequence) -> u32 {
        sequence.total()
    }

    /// Tokens that a sequence is expected to generate from here on; at least one.
    fn expected_output(&self, sequence: &Sequence) -> u32 {
        let most = sequence.request.max_tokens.max(1);
        let median = self.medians[sequence.priority().index()].tokens();
        let ends_early = !sequence.request.sampling.stop_ids.is_empty() && median > 0;
        let length = if ends_early { median.min(most) } else { most };
        // One that has outlived the median goes on for about as long as it has a right to.
        let generated = sequence.generated();
        if generated < length { length - generated } else { ((most.saturating_sub(generated)) / 2).max(1) }
    }
}
