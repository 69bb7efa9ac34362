//! Letting waiting sequences in.

use super::Scheduler;
use crate::pace::OPEN_PREFILLS;
use crate::{EnqueueError, PrefixHit, Request, Sequence, SequenceId};
use std::time::Instant;

/// Whether the sequence that goes next can be admitted.
enum Fit {
    /// It can, and this prefix of it is cached.
    Now(PrefixHit),
    /// It needs this many blocks, or rows, that others hold.
    Later { needed: u32 },
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

    /// Admits waiting sequences in order until one does not fit or the budget is used.
    pub(super) fn admit(&mut self, now: Instant) {
        let mut displaced = false;
        while self.step.budget > 0 {
            let Some(head) = self.queue.head(now).map(Sequence::id) else { return };
            match self.fit(head) {
                Fit::Now(hit) => {
                    let admitted = self.admit_head(head, hit, now);
                    if !admitted || displaced {
                        return;
                    }
                }
                Fit::Later { needed } => {
                    if displaced || !self.preempt_for_head(head, needed, now) {
                        return;
                    }
                    displaced = true;
                }
            }
        }
    }

    fn fit(&mut self, head: SequenceId) -> Fit {
        let hit = self.cached_lookup(head);
        let sequence = self.queue.get(head).expect("the head waits");
        let blocks = self.blocks_for(sequence.total());
        let needed = blocks - hit.blocks + self.reserve_beside(sequence);
        let rows = self.batch.rows() + sequence.rows() <= self.config.max_num_seqs;
        if !rows || needed > self.pool.available() {
            return Fit::Later { needed };
        }
        // Others may have released blocks of the hit since the lookup, and taking those uses them up.
        let hit = self.lookup(sequence);
        if needed + hit.cached > self.pool.available() {
            return Fit::Later { needed: needed + hit.cached };
        }
        Fit::Now(hit)
    }

    /// Blocks to leave free when `sequence` joins: one per row, the watermark, and half of what all rows are expected
    /// to grow by, since they grow and end at different times. None if nothing runs, so that something can.
    fn reserve_beside(&self, sequence: &Sequence) -> u32 {
        if self.batch.is_empty() {
            return 0;
        }
        let rows = self.batch.rows() + sequence.rows();
        let watermark = (self.pool.total() * self.config.watermark_percent / 100).max(self.batch.rows() / 4);
        let growth =
            self.growth(sequence) + self.batch.iter().map(|running| self.growth(running)).sum::<u32>();
        rows + watermark + growth / 2
    }

    /// Blocks that a sequence is expected to need beyond its tokens, from the outputs of its class.
    fn growth(&self, sequence: &Sequence) -> u32 {
        let median = self.medians[sequence.priority().index()].tokens();
        let total = sequence.total();
        let more = median.min(sequence.request.max_tokens).saturating_sub(sequence.generated());
        let end = (total + more).min(self.config.max_model_len).max(total);
        (self.blocks_for(end) - self.blocks_for(total)) * sequence.rows()
    }

    /// The lookup of a waiting head, repeated only when the pool has changed.
    fn cached_lookup(&mut self, head: SequenceId) -> PrefixHit {
        let epoch = self.pool.epoch();
        if let Some((_, _, hit)) = self.head_lookup.filter(|&(id, at, _)| (id, at) == (head, epoch)) {
            return hit;
        }
        let hit = self.lookup(self.queue.get(head).expect("the head waits"));
        self.head_lookup = Some((head, epoch, hit));
        hit
    }

    /// The last token has to run, so it is never looked up.
    fn lookup(&self, sequence: &Sequence) -> PrefixHit {
        self.pool.lookup(sequence.request.salt, sequence.tokens(), sequence.total() - 1)
    }

    /// Moves the head into the batch with all the blocks of its tokens. Returns `false` and changes nothing if the
    /// budget leaves it no chunk.
    fn admit_head(&mut self, head: SequenceId, hit: PrefixHit, now: Instant) -> bool {
        let computed = hit.blocks * self.layout.block_size;
        let total = self.queue.get(head).expect("the head waits").total();
        let gap = total - computed;
        let chunk = self.chunk(computed, gap);
        if chunk == 0 || (chunk < gap && self.open_prefills() >= OPEN_PREFILLS) {
            return false;
        }
        let mut sequence = self.queue.remove(head).expect("the head waits");
        sequence.admitted(now);
        sequence.reserve(self.config.max_model_len, self.layout.block_size);
        let salt = sequence.request.salt;
        let tokens = crate::TokenView::new(&sequence.request.prompt, &sequence.output);
        let taken = self.pool.take_hit(salt, tokens, total - 1, &mut sequence.table);
        debug_assert_eq!(taken, hit);
        let missing = self.blocks_for(total) - taken.blocks;
        self.pool.allocate_many(missing, &mut sequence.table).expect("the head fits");
        sequence.computed = computed;
        sequence.cache.chain = taken.chain;
        sequence.cache.published = taken.blocks;
        sequence.cache.taken = taken.blocks;
        self.count_admission(&mut sequence, now);
        let key = self.batch.insert(sequence);
        self.schedule(key, chunk);
        true
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
