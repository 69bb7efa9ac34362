//! What must hold between any two calls.

use super::Scheduler;
use super::beams::Search;
use super::passing::{JUMPS, MAX_PASSES};
use crate::{RequestId, Sequence, SequenceId};

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
        for (id, tracked) in &self.requests {
            let width = self.searches.get(id).map(|search| search.beams.width());
            live += u32::from(width.unwrap_or(tracked.live));
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
        assert_eq!(live, covered, "live samples and beams, and the sequences that stand for them");
        for (&id, search) in &self.searches {
            assert!(self.requests.contains_key(&id), "the search of {id} has outlived it");
            self.check_search(id, search);
        }
        for running in self.batch.iter() {
            assert!(self.requests.contains_key(&running.request.id), "running {} is unknown", running.id());
            self.check_running(running);
        }
    }

    /// The beams of a search run or wait together, each with its own tokens, and share what they have in common.
    fn check_search(&self, id: RequestId, search: &Search) {
        let live = search.beams.live();
        let of = |sample| SequenceId { request: id, sample };
        let best = of(search.best_slot());
        if let Some(waiting) = self.queue.get(best) {
            let fits = waiting.rows() == u32::from(search.beams.width())
                && self.all_blocks(waiting) <= self.pool.total();
            assert!(fits, "waiting {best} does not stand for a search that fits the pool");
            return;
        }
        let (mut tokens, mut blocks) = (Vec::new(), Vec::new());
        let beams = live.iter().map(|beam| {
            self.batch.get(of(beam.slot)).unwrap_or_else(|| panic!("{} does not run", of(beam.slot)))
        });
        let beams: Vec<&Sequence> = beams.collect();
        let rows: u32 = beams.iter().map(|beam| beam.rows()).sum();
        assert_eq!(rows, u32::from(search.beams.width()), "rows of {id}");
        let together = beams.iter().all(|beam| beam.gap() > 1 || beam.held)
            || beams.iter().all(|beam| beam.gap() == 1 && !beam.held && beam.scheduled == beams[0].scheduled)
            || beams.len() == 1;
        assert!(together, "the last tokens of the beams of {id} do not run together");
        for (rank, beam) in beams.iter().enumerate() {
            tokens.clear();
            search.beams.tokens(rank, &mut tokens);
            assert_eq!(beam.output, tokens, "tokens of {}", beam.id());
            blocks.extend(beam.table.ids());
            for (other, earlier) in beams[..rank].iter().enumerate() {
                let common = beam.request.prompt.len() as u32 + search.beams.common(other, rank);
                let full = common.min(beam.computed).min(earlier.computed) / self.layout.block_size;
                let shared = beam.table.ids().zip(earlier.table.ids()).take(full as usize);
                assert!(shared.into_iter().all(|(one, other)| one == other), "{} copied a prefix", beam.id());
            }
        }
        blocks.sort_unstable();
        blocks.dedup();
        let most = search.beams.blocks(beams[0].request.prompt.len() as u32, self.layout.block_size);
        assert!(blocks.len() <= most as usize, "{} blocks for {id}, which needs {most}", blocks.len());
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
        let unread = sequence.unread();
        assert!(unread.is_empty() || sequence.computed <= unread.start, "running {id} left out {unread:?}");
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
