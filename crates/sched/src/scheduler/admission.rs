//! Letting waiting sequences in.

use super::Scheduler;
use crate::pace::OPEN_PREFILLS;
use crate::{EnqueueError, PrefixHit, Priority, Request, Sequence, SequenceId};
use std::time::Instant;

/// How many that wait behind a sequence are looked at when it does not fit.
const FOLLOWERS: usize = 8;

/// How often others that fit may pass it before blocks are left to come together for it.
pub(super) const MAX_PASSES: u8 = 16;

/// How many older ones of its tenant a sequence may pass because more of it is cached, and how often each may be passed.
pub(super) const JUMPS: u8 = 8;

/// Fewest tokens of a prefix for whose computation by another sequence one waits.
const SHARED_TOKENS: u32 = 32;

/// Most steps that it waits for that.
const MAX_HELD: u8 = 64;

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

/// What admission has done in this step.
#[derive(Default)]
struct SoFar {
    /// Whether a sequence was preempted for one that waits.
    displaced: bool,
    /// The one that waits for a prefix.
    held: Option<SequenceId>,
}

impl Obstacle {
    /// Whether preempting others helps.
    fn is_room(self) -> bool {
        matches!(self, Self::Rows | Self::Blocks { .. })
    }
}

impl Scheduler {
    /// Why a request cannot be accepted, if so.
    pub(super) fn acceptable(&self, request: &Request, now: Instant) -> Result<(), EnqueueError> {
        let tokens = request.prompt.len() as u32;
        let counts =
            [("prompt", tokens), ("samples", u32::from(request.samples)), ("max_tokens", request.max_tokens)];
        if let Some(&(field, _)) = counts.iter().find(|(_, value)| *value == 0) {
            return Err(EnqueueError::Empty { field });
        }
        if self.requests.contains_key(&request.id) {
            return Err(EnqueueError::DuplicateId(request.id));
        }
        if tokens >= self.config.max_model_len {
            return Err(EnqueueError::TooLong { tokens, max_model_len: self.config.max_model_len });
        }
        let (needed_blocks, pool_blocks) = (self.blocks_for(tokens), self.pool.total());
        if needed_blocks > pool_blocks {
            return Err(EnqueueError::NeverFits { needed_blocks, pool_blocks });
        }
        let max_num_seqs = self.config.max_num_seqs;
        if u32::from(request.samples) > max_num_seqs {
            return Err(EnqueueError::TooManySamples { samples: request.samples, max_num_seqs });
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
        while self.step.budget > 0 && self.admit_one(&mut so_far, now) {}
    }

    /// Admits the sequence that goes next, or makes room for it, or admits one that may pass it. Returns whether to go on.
    fn admit_one(&mut self, so_far: &mut SoFar, now: Instant) -> bool {
        let Some(first) = self.queue.head(now) else { return false };
        let growth = self.expected_growth();
        let head = self.preferred(first);
        let obstacle = match self.fit(head, growth) {
            Ok(hit) => {
                self.count_jump(first, head);
                self.admit_sequence(head, hit, now);
                return !so_far.displaced;
            }
            Err(obstacle) => obstacle,
        };
        if so_far.displaced {
            return false;
        }
        if matches!(obstacle, Obstacle::Prefix { .. }) && so_far.held.replace(head) != Some(head) {
            self.queue.get_mut(head).expect("the head waits").passes.held += 1;
        }
        so_far.displaced = self.make_room(head, obstacle, growth, now);
        so_far.displaced || self.admit_other(head, obstacle, so_far, now)
    }

    /// Preempts a sequence of a lower class for `id`, if rows or blocks are what it lacks.
    fn make_room(&mut self, id: SequenceId, obstacle: Obstacle, growth: u32, now: Instant) -> bool {
        let class = self.queue.get(id).expect("the sequence waits").priority();
        let lower = || Priority::ALL[..class.index()].iter();
        if !obstacle.is_room() || lower().all(|&lower| self.batch.class_len(lower) == 0) {
            return false;
        }
        let hit = self.cached_lookup(id);
        let sequence = self.queue.get(id).expect("the sequence waits");
        let needed = self.blocks_for(sequence.total()) - hit.blocks + self.reserve_beside(sequence, growth);
        self.preempt_for_head(id, needed + hit.cached, now)
    }

    /// Admits one that fits where `head` does not, or makes room for one of a higher class. Those that were preempted are passed
    /// by none of their class, so that blocks come together for them, and lower classes pass none, since they would be preempted
    /// for it.
    fn admit_other(
        &mut self,
        head: SequenceId,
        obstacle: Obstacle,
        so_far: &mut SoFar,
        now: Instant,
    ) -> bool {
        let growth = self.expected_growth();
        if !self.lets_pass(head, obstacle) {
            return false;
        }
        for higher in self.higher_classes(head, now) {
            let id = self.queue.class_head(higher).expect("a class in the order waits");
            match self.fit(id, growth) {
                Ok(hit) => return self.pass(head, obstacle, id, hit, now),
                Err(obstacle) => so_far.displaced = self.make_room(id, obstacle, growth, now),
            }
            if so_far.displaced {
                return true;
            }
        }
        for id in self.followers(head).into_iter().flatten() {
            if let Ok(hit) = self.fit(id, growth) {
                return self.pass(head, obstacle, id, hit, now);
            }
        }
        false
    }

    /// Whether others may still go before a `head` that does not fit.
    fn lets_pass(&self, head: SequenceId, obstacle: Obstacle) -> bool {
        let passes = &self.queue.get(head).expect("the head waits").passes;
        !obstacle.is_room() || passes.by_fitting < MAX_PASSES
    }

    /// Classes above that of `head` in which something waits, when it is the turn of `head`.
    fn higher_classes(&self, head: SequenceId, now: Instant) -> impl Iterator<Item = Priority> + use<> {
        let class = self.queue.get(head).expect("the head waits").priority();
        self.queue.class_order(now).filter(move |&other| other > class)
    }

    /// The oldest of the class of `head` that never ran, but itself.
    fn followers(&self, head: SequenceId) -> [Option<SequenceId>; FOLLOWERS] {
        let mut followers = [None; FOLLOWERS];
        let sequence = self.queue.get(head).expect("the head waits");
        if sequence.preemptions == 0 && self.batch.rows() < self.config.max_num_seqs {
            let fresh = self.queue.fresh(sequence.priority()).map(Sequence::id).filter(|&id| id != head);
            followers.iter_mut().zip(fresh).for_each(|(place, id)| *place = Some(id));
        }
        followers
    }

    /// Whether `id` is one of those that go before a `head` that does not fit.
    pub(super) fn may_pass(
        &mut self,
        head: SequenceId,
        obstacle: Obstacle,
        id: SequenceId,
        now: Instant,
    ) -> bool {
        let mut higher = self.higher_classes(head, now);
        let is_head = higher.any(|class| self.queue.class_head(class) == Some(id));
        self.lets_pass(head, obstacle) && (is_head || self.followers(head).contains(&Some(id)))
    }

    /// Admits `id`, which fits, before `head`, which does not.
    fn pass(
        &mut self,
        head: SequenceId,
        obstacle: Obstacle,
        id: SequenceId,
        hit: PrefixHit,
        now: Instant,
    ) -> bool {
        let passes = &mut self.queue.get_mut(head).expect("the head waits").passes;
        match obstacle {
            Obstacle::Rows | Obstacle::Blocks { .. } => passes.by_fitting += 1,
            Obstacle::Prefix { .. } | Obstacle::Chunk => {}
        }
        self.admit_sequence(id, hit, now);
        true
    }

    /// Whether a waiting sequence can be admitted, and with which cached prefix. `growth` is that of the running ones.
    pub(super) fn fit(&mut self, id: SequenceId, growth: u32) -> Result<PrefixHit, Obstacle> {
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
        let needed = self.blocks_for(sequence.total()) - hit.blocks + reserve;
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
        (self.chunk(computed, gap), gap)
    }

    /// A running sequence that computes a prefix of `sequence` beyond what is cached, so that waiting for it saves more than
    /// [`SHARED_TOKENS`]. None once it has waited for long.
    fn prefix_to_come(&self, sequence: &Sequence, hit: PrefixHit) -> Option<SequenceId> {
        if !self.config.prefix_cache || sequence.passes.held >= MAX_HELD {
            return None;
        }
        let prompt = &sequence.request.prompt[..];
        let cached = (hit.blocks * self.layout.block_size) as usize;
        let end = cached + SHARED_TOKENS.max(self.layout.block_size) as usize;
        if prompt.len() <= end {
            return None;
        }
        let computing = self.batch.iter().filter(|running| {
            let same = running.gap() > 1 && running.request.salt == sequence.request.salt;
            same && (running.cache.published * self.layout.block_size) < end as u32
        });
        let mut sharing = computing.filter(|running| {
            let other = &running.request.prompt[..];
            // What differs, differs mostly here.
            other.len() >= end
                && other[cached..end] == prompt[cached..end]
                && other[..cached] == prompt[..cached]
        });
        sharing.next().map(Sequence::id)
    }

    /// The sequence to admit in place of `head`: one of those behind it, of the same tenant, of which most is cached. It may pass
    /// [`JUMPS`] others, none of which was passed so often.
    pub(super) fn preferred(&mut self, head: SequenceId) -> SequenceId {
        if !self.config.prefix_cache || self.batch.rows() >= self.config.max_num_seqs {
            return head;
        }
        let mut row = [None; JUMPS as usize];
        let mut may_pass = self.queue.get(head).is_some_and(|head| head.passes.by_cached < JUMPS);
        for (place, next) in row.iter_mut().zip(self.queue.behind(head)) {
            *place = may_pass.then(|| next.id());
            may_pass &= next.passes.by_cached < JUMPS;
        }
        if row[0].is_none() {
            return head;
        }
        let mut best = (head, self.cached_lookup(head).blocks);
        for id in row.into_iter().flatten() {
            let hit = self.cached_lookup(id).blocks;
            let total = self.queue.get(id).expect("those behind a head wait").total();
            if hit > best.1 && 2 * hit * self.layout.block_size >= total {
                best = (id, hit);
            }
        }
        best.0
    }

    /// Notes that those from `first` on were passed by `chosen`.
    fn count_jump(&mut self, first: SequenceId, chosen: SequenceId) {
        let mut row = [None; JUMPS as usize];
        if first == chosen {
            return;
        }
        let passed = self.queue.behind(first).map(Sequence::id).take_while(|&id| id != chosen);
        row.iter_mut().zip(std::iter::once(first).chain(passed)).for_each(|(place, id)| *place = Some(id));
        for id in row.into_iter().flatten() {
            self.queue.get_mut(id).expect("those behind a head wait").passes.by_cached += 1;
        }
    }

    /// Blocks that all running sequences are expected to need beyond their tokens.
    pub(super) fn expected_growth(&self) -> u32 {
        self.batch.iter().map(|running| self.growth(running)).sum()
    }

    /// Blocks to leave free when `sequence` joins: one per row, the watermark, and half of what all rows are expected
    /// to grow by, since they grow and end at different times. None if nothing runs, so that something can.
    pub(super) fn reserve_beside(&self, sequence: &Sequence, growth: u32) -> u32 {
        if self.batch.is_empty() {
            return 0;
        }
        let rows = self.batch.rows() + sequence.rows();
        let watermark = (self.pool.total() * self.config.watermark_percent / 100).max(self.batch.rows() / 4);
        rows + watermark + (self.growth(sequence) + growth) / 2
    }

    /// Blocks that a sequence is expected to need beyond its tokens, from the outputs of its class.
    fn growth(&self, sequence: &Sequence) -> u32 {
        let median = self.medians[sequence.priority().index()].tokens();
        let total = sequence.total();
        let more = median.min(sequence.request.max_tokens).saturating_sub(sequence.generated());
        let end = (total + more).min(self.config.max_model_len).max(total);
        (self.blocks_for(end) - self.blocks_for(total)) * sequence.rows()
    }

    /// The lookup of a waiting sequence, repeated only when the pool has changed.
    fn cached_lookup(&mut self, id: SequenceId) -> PrefixHit {
        let epoch = self.pool.epoch();
        self.lookups.get(id, epoch).unwrap_or_else(|| {
            let hit = self.lookup(self.queue.get(id).expect("the sequence waits"));
            self.lookups.keep(id, epoch, hit);
            hit
        })
    }

    /// The last token has to run, so it is never looked up.
    pub(super) fn lookup(&self, sequence: &Sequence) -> PrefixHit {
        self.pool.lookup(sequence.request.salt, sequence.tokens(), sequence.total() - 1)
    }

    /// Moves a waiting sequence that fits into the batch with all the blocks of its tokens.
    fn admit_sequence(&mut self, id: SequenceId, hit: PrefixHit, now: Instant) {
        let (chunk, _) = self.first_chunk(self.queue.get(id).expect("the sequence waits"), hit);
        let mut sequence = self.queue.admit(id, now).expect("the sequence waits");
        let (computed, total) = (hit.blocks * self.layout.block_size, sequence.total());
        sequence.admitted(now);
        sequence.reserve(self.config.max_model_len, self.layout.block_size);
        let salt = sequence.request.salt;
        let tokens = crate::TokenView::new(&sequence.request.prompt, &sequence.output);
        let taken = self.pool.take_hit(salt, tokens, total - 1, &mut sequence.table);
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
