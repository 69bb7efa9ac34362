//! Preempting a search and computing its beams again.

use super::Search;
use crate::batch::RowKey;
use crate::scheduler::Scheduler;
use crate::sequence::CacheProgress;
use crate::{
    BlockTable, ChainId, CompletionReason, LengthKind, RequestId, SampleIndex, Sequence, SequenceId,
};
use std::time::Instant;

impl Scheduler {
    /// Puts the beams of the search that runs in `key` back into the queue, as one sequence. A search that the pool could
    /// not hold even alone ends instead.
    pub(in crate::scheduler) fn preempt_beams(&mut self, key: RowKey, now: Instant) {
        let sequence = self.batch.at(key);
        let (id, prompt) = (sequence.request.id, sequence.request.prompt.len() as u32);
        let mut search = self.take_search(id);
        search.blocks = search.beams.blocks(prompt, self.layout.block_size);
        if search.blocks > self.pool.usable() {
            search.beams.keep_live(&CompletionReason::LengthLimit(LengthKind::Pool));
            self.finish_search(id, &search, now);
        } else {
            let best = search.best_slot();
            for sample in (0..search.beams.width()).map(SampleIndex) {
                let Some(mut sequence) = self.batch.remove(SequenceId { request: id, sample }) else {
                    continue;
                };
                self.step.budget += sequence.scheduled;
                self.pool.release_table(&mut sequence.table);
                if sample == best {
                    sequence.beams = search.beams.width();
                    sequence.sample = SampleIndex(0);
                    sequence.preempted(now);
                    self.queue.insert(sequence);
                }
            }
            search.beams.renumber();
            self.counters.preemptions += 1;
            self.put_search(id, search);
        }
        self.count_load();
    }

    /// Blocks that a waiting sequence needs, with those of the other beams that it stands for.
    pub(in crate::scheduler) fn all_blocks(&self, sequence: &Sequence) -> u32 {
        if !sequence.waits_for_beams() {
            return self.blocks_for(sequence.total());
        }
        self.searches[&sequence.request.id].blocks
    }

    /// Gives the other beams of the search that was admitted in `key` their blocks. They are held until the one before
    /// them is computed. Does nothing for any other sequence.
    pub(in crate::scheduler) fn spread_beams(&mut self, key: RowKey) {
        let best = self.batch.at(key);
        if !best.waits_for_beams() {
            return;
        }
        let (id, prompt, total) = (best.request.id, best.request.prompt.len() as u32, best.total());
        let (space, blocks) = (best.request.cache_space(), self.blocks_for(total));
        let mut search = self.take_search(id);
        search.caught_up = 0;
        let live = search.beams.live();
        let spare = search.beams.width() - live.len() as u16;
        self.batch.change_rows(key, |best| best.beams = 1 + spare);
        for (rank, beam) in live.iter().enumerate().skip(1) {
            let shared = (prompt + search.beams.shared(rank).1) / self.layout.block_size;
            let mut table = BlockTable::new();
            self.pool.allocate_many(blocks - shared, &mut table).expect("all beams fit");
            let mut held = self.batch.at(key).fork(beam.slot, table);
            search.beams.tokens(rank, &mut held.output);
            (held.computed, held.scheduled) = (0, 0);
            held.cache = CacheProgress { chain: ChainId::root(space), published: 0, taken: 0 };
            held.beams = 1;
            held.held = true;
            self.counters.recomputed_tokens += u64::from(total - 1 - shared * self.layout.block_size);
            self.batch.insert(held);
        }
        self.put_search(id, search);
    }

    /// Lets the next beam be computed if the one before it lacks nothing but its last token; after the last one all go on.
    pub(super) fn catch_up(&mut self, id: RequestId, search: &mut Search) {
        let of = |sample| SequenceId { request: id, sample };
        loop {
            let live = search.beams.live();
            let key = self.batch.key(of(live[search.caught_up].slot)).expect("a live beam runs");
            if self.batch.at(key).gap() > 1 {
                return;
            }
            self.batch.at_mut(key).held = true;
            search.caught_up += 1;
            let Some(next) = live.get(search.caught_up) else { break };
            let (earlier, common) = search.beams.shared(search.caught_up);
            self.begin_beam(of(live[earlier].slot), of(next.slot), common);
        }
        for beam in search.beams.live() {
            let key = self.batch.key(of(beam.slot)).expect("a live beam runs");
            self.batch.at_mut(key).held = false;
        }
    }

    /// Shares the full blocks that a held beam has in common with an earlier one, which has `common` generated tokens of it,
    /// and lets it compute the rest.
    fn begin_beam(&mut self, earlier: SequenceId, held: SequenceId, common: u32) {
        let [earlier, held] = [earlier, held].map(|name| self.batch.key(name).expect("a live beam runs"));
        let source = self.batch.at(earlier);
        let blocks = (source.request.prompt.len() as u32 + common) / self.layout.block_size;
        let last = blocks.checked_sub(1).and_then(|last| source.table.get(last as usize));
        let cache = match last.filter(|_| self.config.prefix_cache) {
            Some(last) => CacheProgress {
                chain: self.pool.chain_after(last),
                published: blocks,
                taken: blocks.min(source.cache.taken),
            },
            None => {
                CacheProgress { chain: ChainId::root(source.request.cache_space()), published: 0, taken: 0 }
            }
        };
        let mut table = std::mem::take(&mut self.batch.at_mut(held).table);
        self.pool.share_front(&self.batch.at(earlier).table, blocks as usize, &mut table);
        let held = self.batch.at_mut(held);
        held.table = table;
        held.computed = blocks * self.layout.block_size;
        held.cache = cache;
        held.held = false;
    }
}
