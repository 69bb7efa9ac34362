//! The scheduler: which tokens of which sequences run in the next step.
//!
//! Invariants: `plan` and `commit` alternate; a step touches the running rows and what changed, never all waiting
//! sequences; the content of a block becomes visible to others only in `commit`; every sample of an accepted
//! request ends exactly once and its blocks come home.

mod admission;
mod beams;
mod check;
mod commit;
mod ending;
mod estimate;
mod explain;
mod lookups;
mod passing;
mod plan;
mod preempt;
mod report;
mod windows;

use crate::batch::RowKey;
use crate::growth::OutputMedian;
use crate::pace::{Pace, StepLoad};
use crate::rate::RateMeter;
use crate::wheel::{TimerKey, TimingWheel};
use crate::{
    AdapterId, Batch, BatchStats, BlockManagerStats, BlockPool, ConfigError, Counters, Effects, EnqueueError,
    KvCapacity, KvLayout, PoolConfig, Priority, Request, RequestId, Retention, SampleIndex, SchedulerConfig,
    SchedulerStats, Sequence, StepInput, WaitingQueue,
};
use beams::Search;
use lookups::Lookups;
use rustc_hash::FxHashMap;
use std::time::{Duration, Instant};

/// Owns all requests, their tokens and their blocks. One owner, no locks, no clock.
#[derive(Debug)]
pub struct Scheduler {
    config: SchedulerConfig,
    layout: KvLayout,
    pool: BlockPool,
    queue: WaitingQueue,
    batch: Batch,
    requests: FxHashMap<RequestId, Tracked>,
    /// The beams of those that are searched; taken out while they are worked on.
    searches: FxHashMap<RequestId, Box<Search>>,
    deadlines: TimingWheel<RequestId>,
    /// Requests whose timers fired; scratch.
    fired: Vec<RequestId>,
    step: Step,
    /// Effects that no caller has taken yet.
    out: Effects,
    /// Cancellations that have not taken effect; `None` is all samples.
    deferred: Vec<(RequestId, Option<SampleIndex>)>,
    lookups: Lookups,
    pace: Pace,
    medians: [OutputMedian; 4],
    admitted_requests: RateMeter,
    admitted_tokens: RateMeter,
    arrivals: u64,
    counters: Counters,
    /// How many tokens back a token sees at most.
    window: Option<u32>,
}

/// What is known of a request beside its sequences.
#[derive(Debug)]
struct Tracked {
    samples: u16,
    /// Samples that have not ended.
    live: u16,
    cancelled: bool,
    /// What its tenant is charged on.
    account: u32,
    timer: Option<TimerKey>,
}

/// The step being planned or in flight. All memory is reused.
#[derive(Debug)]
struct Step {
    input: StepInput,
    /// The sequence of each row.
    keys: Vec<RowKey>,
    /// Running sequences when planning began; scratch.
    order: Vec<RowKey>,
    /// Running sequences whose windows are looked at; scratch.
    windows: Vec<RowKey>,
    budget: u32,
    /// Waiting sequences that may still join.
    places: u32,
    load: StepLoad,
    in_flight: bool,
    planned_at: Option<Instant>,
    duration: Duration,
}

impl Step {
    fn new(config: &SchedulerConfig, layout: &KvLayout) -> Self {
        let rows = config.max_num_seqs as usize;
        let tokens = config.max_num_batched_tokens as usize;
        let input = StepInput {
            block_size: layout.block_size,
            tokens: Vec::with_capacity(tokens),
            positions: Vec::with_capacity(tokens),
            write_slots: Vec::with_capacity(tokens),
            rows: Vec::with_capacity(rows),
            tables: Vec::with_capacity(layout.blocks as usize),
            copies: Vec::with_capacity(rows),
            ..StepInput::default()
        };
        Self {
            input,
            keys: Vec::with_capacity(rows),
            order: Vec::with_capacity(rows),
            windows: Vec::with_capacity(rows),
            budget: 0,
            places: 0,
            load: StepLoad::default(),
            in_flight: false,
            planned_at: None,
            duration: Duration::ZERO,
        }
    }
}

impl Scheduler {
    /// A scheduler without requests over an executor of this capacity.
    ///
    /// # Errors
    /// [`ConfigError`] if a limit is zero or two limits contradict each other.
    pub fn new(config: SchedulerConfig, capacity: KvCapacity) -> Result<Self, ConfigError> {
        let config = config.validated(&capacity)?;
        let layout = capacity.layout;
        let pool = BlockPool::new(PoolConfig {
            blocks: layout.blocks,
            block_size: layout.block_size,
            hash_seed: config.hash_seed,
            hash_bits: config.hash_bits,
            prefix_cache: config.prefix_cache,
            max_pinned: config.max_pinned_blocks,
            max_kept: (u64::from(layout.blocks) * u64::from(config.max_kept_percent) / 100) as u32,
        });
        Ok(Self {
            pool,
            queue: WaitingQueue::new(config.ageing),
            batch: Batch::with_capacity(config.max_num_seqs as usize),
            requests: FxHashMap::default(),
            searches: FxHashMap::default(),
            deadlines: TimingWheel::new(),
            fired: Vec::new(),
            step: Step::new(&config, &layout),
            out: Effects::default(),
            deferred: Vec::new(),
            lookups: Lookups::default(),
            pace: Pace::new(config.itl_target),
            medians: Default::default(),
            admitted_requests: RateMeter::default(),
            admitted_tokens: RateMeter::default(),
            arrivals: 0,
            counters: Counters::default(),
            config,
            layout,
            window: capacity.window,
        })
    }

    /// Accepts a request.
    ///
    /// # Errors
    /// [`EnqueueError`] says why not; nothing was changed but the count of refusals.
    pub fn enqueue(&mut self, request: Request, now: Instant) -> Result<(), EnqueueError> {
        if let Err(refusal) = self.acceptable(&request, now) {
            self.counters.refused += 1;
            return Err(refusal);
        }
        self.counters.accepted += 1;
        let mut sequence = Sequence::new(request, self.arrivals);
        self.arrivals += 1;
        let (id, samples) = (sequence.request.id, sequence.request.samples);
        let timer = ending::next_deadline(&sequence).map(|(due, _)| self.deadlines.arm(now, due, id));
        let account = self.queue.open(sequence.priority(), sequence.request.tenant);
        sequence.account = account;
        if let Some(beam) = sequence.request.sampling.beam {
            self.searches.insert(id, Box::new(Search::new(beam, &sequence.request)));
        }
        self.requests.insert(id, Tracked { samples, live: samples, cancelled: false, account, timer });
        self.queue.insert(sequence);
        Ok(())
    }

    /// Ends what was cancelled or has expired and hands over all effects so far.
    ///
    /// While a step is in flight the ends wait until it is committed.
    pub fn reap(&mut self, now: Instant, effects: &mut Effects) {
        self.settle(now);
        self.deliver(effects);
    }

    /// A time at which [`reap`](Self::reap) is worth calling if nothing else happens: a time in the past if an effect or
    /// a cancellation is pending, else at most a millisecond after the first deadline. `None` without any of them.
    pub fn next_deadline(&self) -> Option<Instant> {
        let pending = !self.out.events.is_empty() || !self.deferred.is_empty();
        let past = self.step.planned_at.filter(|_| pending);
        past.or_else(|| self.deadlines.next_deadline())
    }

    /// Whether no request is known and no effect is left to take.
    pub fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.out.events.is_empty()
    }

    /// Whether a step is planned and not committed.
    pub fn in_flight(&self) -> bool {
        self.step.in_flight
    }

    /// The limits in force.
    pub fn config(&self) -> &SchedulerConfig {
        &self.config
    }

    /// The running set.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The waiting sequences.
    pub fn queue(&self) -> &WaitingQueue {
        &self.queue
    }

    /// The block pool.
    pub fn pool(&self) -> &BlockPool {
        &self.pool
    }

    /// Forgets every cached block that no sequence holds, pinned ones included, and lets held ones become ordinary.
    /// Returns how many blocks were forgotten.
    pub fn clear_prefix_cache(&mut self) -> u32 {
        let running: Vec<RowKey> = self.batch.keys().collect();
        for key in running {
            // Else its prompt would be kept again with the next step.
            self.batch.at_mut(key).request.retention = Retention::ORDINARY;
        }
        self.pool.clear_cache()
    }

    /// Forgets every prefix that was computed with `adapter`. Returns how many blocks were forgotten.
    ///
    /// # Panics
    /// If a request with this adapter has not ended.
    pub fn forget_adapter(&mut self, adapter: AdapterId) -> u32 {
        self.pool.forget_adapter(adapter)
    }

    /// How long requests of higher classes that arrive later can go before those of `class` without limit:
    /// `(3 - class) * ageing`. After that the class has at least every ninth turn.
    pub fn ageing_bound(&self, class: Priority) -> Duration {
        self.queue.ageing_bound(class)
    }

    /// Figures at `now`.
    pub fn stats(&self, now: Instant) -> SchedulerStats {
        SchedulerStats {
            running: self.batch.len() as u32,
            waiting: self.queue.len() as u32,
            waiting_by_class: Priority::ALL.map(|class| self.queue.class_len(class)),
            waiting_tokens: self.queue.prompt_tokens(),
            kv_blocks_total: self.pool.total(),
            kv_blocks_used: self.pool.held(),
            kv_blocks_cached: self.pool.cached(),
            kv_blocks_kept: self.pool.kept(),
            kv_blocks_pinned: self.pool.pinned(),
            oldest_wait: self.queue.longest_wait(now),
            counters: self.counters,
        }
    }

    /// Everything that is counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Figures of the block pool.
    pub fn block_stats(&self) -> BlockManagerStats {
        self.pool.stats(self.batch.iter().map(Sequence::holding))
    }

    /// Figures of the running set.
    pub fn batch_stats(&self) -> BatchStats {
        BatchStats {
            batch: self.batch.id(),
            sequences: self.batch.len() as u32,
            rows: self.batch.rows(),
            max_rows: self.config.max_num_seqs,
            memory_bytes: u64::from(self.pool.held()) * self.layout.block_bytes(),
            processing_time: self.step.duration,
        }
    }

    fn blocks_for(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.layout.block_size)
    }

    /// Moves pending effects to the caller's. Swapping keeps the memory of both.
    fn deliver(&mut self, effects: &mut Effects) {
        if effects.is_empty() {
            std::mem::swap(&mut self.out, effects);
        } else {
            effects.absorb(&mut self.out);
        }
    }
}
