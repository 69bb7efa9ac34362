//! Letting waiting sequences in.

use super::Scheduler;
use crate::pace::OPEN_PREFILLS;
use crate::{Batching, EnqueueError, PrefixHit, Priority, Request, Reservation, Sequence, SequenceId};
use std::time::Instant;

/// What keeps a waiting sequence from being admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Rows that others have.
    Rows,
    /// It needs this many blocks to be free, those to leave free included.
    Blocks { needed: u32 },
    /// A running sequence computes a prefix of it.
    Prefix { with: SequenceId },
    /// The step has no room for a chunk of it, or two prompts are open.
    Chunk,
}

/// Blocks that sequences need beyond their tokens: from the outputs of their classes, and with outputs as long as they may be.
#[derive(Clone, Copy, Default)]
pub(super) struct Growth {
    expected: u32,
    most: u32,
}

impl Growth {
    fn and(self, other: Self) -> Self {
        Self { expected: self.expected + other.expected, most: self.most.saturating_add(other.most) }
    }
}

/// What admission has done in this step.
#[derive(Default)]
pub(super) struct SoFar {
    /// Whether a sequence was preempted for one that waits.
    pub(super) displaced: bool,
    /// The one that waits for a prefix.
    held: Option<SequenceId>,
}

impl Obstacle {
    /// Whether preempting others helps.
    pub(super) fn is_room(self) -> bool {
        matches!(self, Self::Rows | Self::Blocks { .. })
    }
}

impl Scheduler {
    /// Why a request cannot be accepted, if so.
    pub(super) fn acceptable(&self, request: &Request, now: Instant) -> Result<(), EnqueueError> {
        let tokens = request.prompt.len() as u32;
        let counts = [
            ("prompt", tokens),
            ("samples", u32::from(request.samples)),
            ("beam.width", u32::from(request.rows())),
            // A search without tokens has no outputs.
            ("max_tokens", if request.sampling.beam.is_some() { request.max_tokens } else { 1 }),
        ];
        if let Some(&(field, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(EnqueueError::Empty { field });
        }
        if self.requests.contains_key(&request.id) {
            return Err(EnqueueError::DuplicateId(request.id));
        }
        if tokens + request.max_tokens.min(1) > self.config.max_model_len {
            return Err(EnqueueError::TooLong { tokens, max_model_len: self.config.max_model_len });
        }
        let (needed_blocks, pool_blocks) = (self.blocks_for(tokens), self.pool.usable());
        if needed_blocks > pool_blocks {
            return Err(EnqueueError::NeverFits { needed_blocks, pool_blocks });
        }
        let max_num_seqs = self.config.max_num_seqs;
        let (samples, rows) = (request.samples, request.rows());
        if u32::from(rows) > max_num_seqs {
            return Err(EnqueueError::TooManySamples { samples: rows, max_num_seqs });
        }
        if samples > rows {
            return Err(EnqueueError::NarrowBeam { samples, width: rows });
        }
        self.has_room(tokens, now)
    }

    /// Whether the waiting queue takes another prompt. An empty queue takes any.
    fn has_room(&self, tokens: u32, now: Instant) -> Result<(), EnqueueError> {
        let waiting = self.queue.len() as u32;
        let total = self.queue.prompt_tokens() + u64::from(tokens);
        let excess_requests = (waiting + 1).saturating_sub(self.config.max_waiting_requests);
        let excess_tokens = total.saturating_sub(self.config.max_waiting_tokens);
        if waiting == 0 || (excess_requests == 0 && excess_tokens == 0) {
            return Ok(());
        }
        let by_requests = self.admitted_requests.time_for(u64::from(excess_requests), now);
        let by_tokens = self.admitted_tokens.time_for(excess_tokens, now);
        Err(EnqueueError::QueueFull {
            requests: waiting,
            tokens: self.queue.prompt_tokens(),
            retry_after: by_requests.max(by_tokens),
        })
    }

    /// Admits waiting sequences until the budget is used or nothing fits that may go.
    pub(super) fn admit(&mut self, now: Instant) {
        let mut so_far = SoFar::default();
        while self.step.budget > 0 && self.step.places > 0 && self.admit_one(&mut so_far, now) {}
    }

    /// Admits the sequence that goes next, or makes room for it, or admits one that may pass it. Returns whether to go on.
    fn admit_one(&mut self, so_far: &mut SoFar, now: Instant) -> bool {
        let Some(first) = self.queue.head(now) else { return false };
        let growth = self.batch_growth();
        let head = self.preferred(first);
        let obstacle = match self.fit(head, growth) {
            Ok(hit) => {
                self.count_jump(first, head);
                self.admit_sequence(head, hit, now);
                return !so_far.displaced;
            }
            Err(Obstacle::Blocks { .. }) if self.leave_windows() > 0 => return true,
            Err(obstacle) => obstacle,
        };
        if so_far.displaced {
            return false;
        }
        if self.config.batching == Batching::Static && obstacle.is_room() {
            // The batch is full.
            self.step.places = 0;
            return false;
        }
        if matches!(obstacle, Obstacle::Prefix { .. }) && so_far.held.replace(head) != Some(head) {
            self.queue.get_mut(head).expect("the head waits").passes.held += 1;
        }
        so_far.displaced = self.make_room(head, obstacle, growth, now);
        so_far.displaced || self.admit_other(head, obstacle, growth, so_far, now)
    }

    /// Preempts a sequence of a lower class for `id`, if rows or blocks are what it lacks.
    pub(super) fn make_room(
        &mut self,
        id: SequenceId,
        obstacle: Obstacle,
        growth: Growth,
        now: Instant,
    ) -> bool {
        let class = self.queue.get(id).expect("the sequence waits").priority();
        let lower = || Priority::ALL[..class.index()].iter();
        if !obstacle.is_room() || lower().all(|&lower| self.batch.class_len(lower) == 0) {
            return false;
        }
        let hit = self.cached_lookup(id);
        let sequence = self.queue.get(id).expect("the sequence waits");
        let needed = self.all_blocks(sequence) - hit.blocks + self.reserve_beside(sequence, growth);
        self.preempt_for_head(id, needed + hit.cached, now)
    }

    /// Whether a waiting sequence can be admitted, and with which cached prefix. `growth` is that of the running ones.
    pub(super) fn fit(&mut self, id: SequenceId, growth: Growth) -> Result<PrefixHit, Obstacle> {
        let sequence = self.queue.get(id).expect("the sequence waits");
        if self.batch.rows() + sequence.rows() > self.config.max_num_seqs {
            return Err(Obstacle::Rows);
        }
        let reserve = self.reserve_beside(sequence, growth);
        if reserve > self.pool.available() {
            return Err(Obstacle::Blocks { needed: reserve });
        }
        let hit = self.cached_lookup(id);
        let sequence = self.queue.get(id).expect("the sequence waits");
        let needed = self.all_blocks(sequence) - hit.blocks + reserve;
        if needed > self.pool.available() {
            return Err(Obstacle::Blocks { needed });
        }
        // Others may have released blocks of the hit since the lookup, and taking those uses them up.
        let hit = self.lookup(sequence);
        if needed + hit.cached > self.pool.available() {
            return Err(Obstacle::Blocks { needed: needed + hit.cached });
        }
        if let Some(with) = self.prefix_to_come(sequence, hit) {
            return Err(Obstacle::Prefix { with });
        }
        let (chunk, gap) = self.first_chunk(sequence, hit);
        if chunk == 0 || (chunk < gap && self.open_prefills() >= OPEN_PREFILLS) {
            return Err(Obstacle::Chunk);
        }
        Ok(hit)
    }

    /// Tokens of a waiting sequence that would be computed in this step, and all that it lacks.
    fn first_chunk(&self, sequence: &Sequence, hit: PrefixHit) -> (u32, u32) {
        let computed = hit.blocks * self.layout.block_size;
        let gap = sequence.total() - computed;
        (self.chunk(computed, sequence.runnable() - computed), gap)
    }

    /// Blocks that all running sequences need beyond their tokens.
    pub(super) fn batch_growth(&self) -> Growth {
        self.batch.iter().map(|running| self.growth(running)).fold(Growth::default(), Growth::and)
    }

    /// Blocks to leave free when `sequence` joins those that grow by `growth`: one per row, the watermark, and half of what all
    /// rows are expected to grow by, since they grow and end at different times; but no more than they can ever need. None if
    /// nothing runs, so that something can.
    ///
    /// With [`Reservation::WorstCase`] all that they may grow by.
    pub(super) fn reserve_beside(&self, sequence: &Sequence, growth: Growth) -> u32 {
        if self.batch.is_empty() {
            return 0;
        }
        let rows = self.batch.rows() + sequence.rows();
        let watermark = (self.pool.total() * self.config.watermark_percent / 100).max(self.batch.rows() / 4);
        let growth = self.growth(sequence).and(growth);
        match self.config.reservation {
            Reservation::Expected => (rows + watermark + growth.expected / 2).min(growth.most),
            Reservation::WorstCase => growth.most,
        }
    }

    /// Blocks that a sequence needs beyond its tokens.
    fn growth(&self, sequence: &Sequence) -> Growth {
        let total = sequence.total();
        let to = |output: u32| {
            let end = (total + output.saturating_sub(sequence.generated())).min(self.config.max_model_len);
            self.blocks_for(end.max(total)) - self.blocks_for(total)
        };
        let most = sequence.request.max_tokens;
        let median = self.medians[sequence.priority().index()].tokens().min(most);
        // Each sample or beam of several copies the block that it shares in part.
        let copies = u32::from(sequence.shares_blocks());
        Growth { expected: to(median) * sequence.rows(), most: (to(most) + copies) * sequence.rows() }
    }

    /// The lookup of a waiting sequence, repeated only when the pool has changed.
    pub(super) fn cached_lookup(&mut self, id: SequenceId) -> PrefixHit {
        let epoch = self.pool.epoch();
        self.lookups.get(id, epoch).unwrap_or_else(|| {
            let hit = self.lookup(self.queue.get(id).expect("the sequence waits"));
            self.lookups.keep(id, epoch, hit);
            hit
        })
    }

    pub(super) fn lookup(&self, sequence: &Sequence) -> PrefixHit {
        self.pool.lookup(sequence.request.cache_space(), sequence.tokens(), lookup_limit(sequence))
    }

    /// Moves a waiting sequence that fits into the batch with all the blocks of its tokens.
    pub(super) fn admit_sequence(&mut self, id: SequenceId, hit: PrefixHit, now: Instant) {
        let waiting = self.queue.get(id).expect("the sequence waits");
        let ((chunk, _), limit) = (self.first_chunk(waiting, hit), lookup_limit(waiting));
        let mut sequence = self.queue.admit(id, now).expect("the sequence waits");
        let (computed, total) = (hit.blocks * self.layout.block_size, sequence.total());
        sequence.admitted(now);
        sequence.reserve(self.config.max_model_len, self.layout.block_size);
        let space = sequence.request.cache_space();
        let tokens = crate::TokenView::new(&sequence.request.prompt, &sequence.output);
        let taken = self.pool.take_hit(space, tokens, limit, &mut sequence.table);
        debug_assert_eq!(taken, hit);
        let missing = self.blocks_for(total) - taken.blocks;
        self.pool.allocate_many(missing, &mut sequence.table).expect("the sequence fits");
        sequence.computed = computed;
        sequence.cache.chain = taken.chain;
        sequence.cache.published = taken.blocks;
        sequence.cache.taken = taken.blocks;
        self.count_admission(&mut sequence, now);
        let key = self.batch.insert(sequence);
        self.schedule(key, chunk);
        self.step.places -= 1;
        self.spread_beams(key);
    }

    fn count_admission(&mut self, sequence: &mut Sequence, now: Instant) {
        let (total, hit) = (sequence.total(), sequence.computed);
        if self.config.prefix_cache {
            self.counters.prefix_queries += u64::from(total);
            self.counters.prefix_hits += u64::from(hit);
        }
        if sequence.first_scheduled.is_never() {
            let prompt = sequence.request.prompt.len() as u32;
            sequence.cached_tokens = hit;
            self.counters.prompt_tokens += u64::from(prompt);
            self.admitted_requests.add(1, now);
            self.admitted_tokens.add(prompt, now);
        }
        self.counters.recomputed_tokens += u64::from(sequence.lost.saturating_sub(hit));
        sequence.lost = 0;
    }
}

/// Most tokens of a prefix that is taken from the cache. The last token has to run, and before those of several beams
/// each has to run up to it. What is still to be reported has to run as well.
fn lookup_limit(sequence: &Sequence) -> u32 {
    let limit = sequence.total() - 1 - u32::from(sequence.waits_for_beams());
    let unread = sequence.unread();
    if unread.is_empty() { limit } else { limit.min(unread.start) }
}
