//! What must hold between any two calls.

use super::Scheduler;
use super::passing::{JUMPS, MAX_PASSES};
use crate::Sequence;

impl Scheduler {
    /// Asserts that queue, batch, pool and bookkeeping agree. Costs O(blocks + sequences).
    ///
    /// # Panics
    /// With what is broken.
    pub fn check_invariants(&self) {
        self.queue.check_invariants();
        self.batch.check_invariants();
        self.pool.check_invariants(self.batch.iter().map(Sequence::holding));
        assert!(self.batch.rows() <= self.config.max_num_seqs, "{} rows run", self.batch.rows());
        let (mut live, mut timers) = (0, 0);
        for tracked in self.requests.values() {
            live += u32::from(tracked.live);
            timers += usize::from(tracked.timer.is_some());
            assert!(tracked.live > 0, "a request without live samples is known");
        }
        assert_eq!(self.deadlines.len(), timers, "armed timers");
        let mut covered = self.batch.rows();
        for waiting in self.queue.iter() {
            covered += waiting.rows();
            let idle = waiting.table.is_empty() && waiting.computed == 0 && waiting.scheduled == 0;
            assert!(idle, "waiting {} holds blocks or computed tokens", waiting.id());
            assert!(self.requests.contains_key(&waiting.request.id), "waiting {} is unknown", waiting.id());
            let fits = self.blocks_for(waiting.total()) <= self.pool.usable();
            assert!(fits, "waiting {} would not fit the pool even alone", waiting.id());
            let passes = &waiting.passes;
            let bounded = passes.by_fitting <= MAX_PASSES && passes.by_cached <= JUMPS;
            assert!(bounded, "waiting {} was passed over too often: {passes:?}", waiting.id());
        }
        assert_eq!(live, covered, "live samples and the sequences that stand for them");
        for running in self.batch.iter() {
            assert!(self.requests.contains_key(&running.request.id), "running {} is unknown", running.id());
            self.check_running(running);
        }
    }

    fn check_running(&self, sequence: &Sequence) {
        let id = sequence.id();
        let size = self.layout.block_size;
        let end = sequence.computed + sequence.scheduled;
        assert!(sequence.rows() > 0, "running {id} stands for no sample");
        assert!(end <= sequence.total() && sequence.gap() > 0, "running {id} is ahead of its tokens");
        let blocks = sequence.table.len() as u32;
        let allowed = self.blocks_for(end)..=self.blocks_for(sequence.total());
        assert!(allowed.contains(&blocks), "running {id} has {blocks} blocks, not {allowed:?}");
        let full = sequence.computed / size;
        let published = if self.config.prefix_cache { full } else { 0 };
        assert_eq!(sequence.cache.published, published, "published blocks of {id}");
        assert!(sequence.cache.taken <= full, "blocks of {id} taken from the cache");
        assert!(self.step.in_flight || sequence.scheduled == 0, "running {id} is scheduled outside a step");
        for block in sequence.computed / size..self.blocks_for(end) {
            let block = sequence.table.get(block as usize).expect("the table covers the step");
            if sequence.scheduled > 0 {
                assert!(
                    self.pool.is_writable(block),
                    "{id} writes to block {:?}, which others can see",
                    block.id()
                );
            }
        }
    }
}
