//! Taking blocks back from running sequences. Recompute only: what was published stays in the cache.

use super::Scheduler;
use crate::batch::RowKey;
use crate::{CompletionReason, LengthKind, Sequence, SequenceId};
use std::cmp::Reverse;
use std::time::Instant;

/// After so many preemptions a sequence is spared while its class has others.
const SPARED_AFTER: u16 = 3;

impl Scheduler {
    /// Preempts the best victim for a block that `key` needs and returns it; it may be `key` itself. Never one of a
    /// higher class than the sequence that needs the block.
    pub(super) fn preempt_for_block(&mut self, key: RowKey, now: Instant) -> RowKey {
        let class = self.batch.at(key).priority();
        let candidates = |spare: bool| {
            let best = self.batch.keys().filter(|&other| {
                let other = self.batch.at(other);
                other.priority() <= class && !(spare && self.is_spared(other))
            });
            best.min_by_key(|&other| self.victim_order(self.batch.at(other)))
        };
        // Somebody has to yield even if all were preempted too often.
        let victim =
            candidates(true).or_else(|| candidates(false)).expect("the sequence itself is a candidate");
        self.preempt(victim, now);
        victim
    }

    /// Preempts one running sequence of a strictly lower class so that the waiting `head` comes closer to `needed`
    /// blocks and to its rows. Returns whether it did; it does not if all lower classes together are not enough.
    pub(super) fn preempt_for_head(&mut self, head: SequenceId, needed: u32, now: Instant) -> bool {
        let head = self.queue.get(head).expect("the head waits");
        let (class, rows) = (head.priority(), head.rows());
        let lower = || self.batch.keys().filter(|&key| self.batch.at(key).priority() < class);
        let (held_rows, held_blocks) = lower().fold((0, 0), |(rows, blocks), key| {
            let sequence = self.batch.at(key);
            (rows + sequence.rows(), blocks + sequence.table.held() as u32)
        });
        if self.batch.rows() - held_rows + rows > self.config.max_num_seqs
            || self.pool.available() + held_blocks < needed
        {
            return false;
        }
        let eligible = lower().filter(|&key| {
            let victim = self.batch.at(key);
            // One that has generated nothing since it was resumed would lose the same work again, and one that has
            // aged past the head, or that runs because it had been passed over, would come back before it.
            let advanced = victim.preemptions == 0 || victim.generated() > victim.generated_before;
            advanced
                && !victim.passes.had_turn
                && !self.is_spared(victim)
                && self.queue.stays_behind(victim, head, now)
        });
        let Some(victim) = eligible.min_by_key(|&key| self.victim_order(self.batch.at(key))) else {
            return false;
        };
        self.counters.displaced += 1;
        self.preempt(victim, now);
        true
    }

    /// Lowest class, then least work to compute again, then newest.
    fn victim_order(&self, sequence: &Sequence) -> impl Ord + use<> {
        (sequence.priority(), sequence.uncached_work(self.layout.block_size), Reverse(sequence.order()))
    }

    fn is_spared(&self, sequence: &Sequence) -> bool {
        sequence.preemptions >= SPARED_AFTER && self.batch.class_len(sequence.priority()) > 1
    }

    /// Puts a running sequence back into the queue, at the place its arrival gives it.
    ///
    /// A copy that was planned for it stays in the step: its target is free or written after the copies, so it does no
    /// harm.
    ///
    /// The beams of one search go together.
    fn preempt(&mut self, key: RowKey, now: Instant) {
        if self.batch.at(key).beams > 0 {
            return self.preempt_beams(key, now);
        }
        if self.blocks_for(self.batch.at(key).total()) > self.pool.usable() {
            // Others may have been admitted beside one that has all that it can count on.
            self.step.budget += self.batch.at(key).scheduled;
            self.end_row(key, CompletionReason::LengthLimit(LengthKind::Pool), now);
            return self.count_load();
        }
        let mut sequence = self.batch.remove_key(key);
        self.step.budget += sequence.scheduled;
        self.count_load();
        self.pool.release_table(&mut sequence.table);
        sequence.preempted(now);
        self.counters.preemptions += 1;
        self.queue.insert(sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Deadlines, Effects, KvCapacity, KvLayout, Priority, Request, RequestId, Sampled, SamplingParams,
        SchedulerConfig, StepOutput,
    };

    /// A scheduler in which one sequence of each of `classes` decodes, and their keys.
    fn decoding(classes: &[Priority]) -> (Scheduler, Vec<RowKey>) {
        let layout = KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            block_size: 4,
            element_bytes: 2,
            scale_bytes: 0,
            blocks: 33,
        };
        let capacity = KvCapacity { layout, max_context: 64, vocab_size: 100, window: None };
        let mut scheduler = Scheduler::new(SchedulerConfig::default(), capacity).expect("the limits agree");
        let now = Instant::now();
        for &priority in classes {
            let request = Request {
                id: RequestId::new(),
                prompt: [1, 2, 3, 4, 5].into(),
                sampling: SamplingParams::greedy().into(),
                max_tokens: 20,
                samples: 1,
                priority,
                tenant: Default::default(),
                salt: Default::default(),
                adapter: Default::default(),
                retention: Default::default(),
                enqueued_at: now,
                deadlines: Deadlines::default(),
            };
            scheduler.enqueue(request, now).expect("the request is acceptable");
        }
        assert!(scheduler.plan(now).is_some());
        let samples = vec![Sampled { token: Ok(7), logprob: 0.0, top: 0..0 }; classes.len()];
        let output = StepOutput { samples, ..StepOutput::default() };
        scheduler.commit(Ok(&output), now, &mut Effects::default());
        let mut keys: Vec<_> = scheduler.batch.keys().collect();
        keys.sort_by_key(|&key| scheduler.batch.at(key).arrival);
        (scheduler, keys)
    }

    #[test]
    fn a_block_is_never_taken_from_a_higher_class() {
        let (mut scheduler, keys) = decoding(&[Priority::Low, Priority::Low, Priority::Urgent]);
        for &key in &keys[..2] {
            scheduler.batch.at_mut(key).preemptions = SPARED_AFTER;
        }
        let now = Instant::now();
        let newest = scheduler.preempt_for_block(keys[0], now);
        assert_eq!(newest, keys[1], "both are spared, and one of them yields all the same");
        assert_eq!(scheduler.preempt_for_block(keys[2], now), keys[0], "alone in its class it is not spared");
        assert_eq!(scheduler.preempt_for_block(keys[2], now), keys[2], "nobody else is left to yield");
    }

    #[test]
    fn a_spared_sequence_is_passed_over() {
        let (mut scheduler, keys) = decoding(&[Priority::Normal; 3]);
        let now = Instant::now();
        scheduler.batch.at_mut(keys[2]).preemptions = SPARED_AFTER;
        assert_eq!(scheduler.preempt_for_block(keys[0], now), keys[1]);
        scheduler.batch.at_mut(keys[2]).preemptions = SPARED_AFTER - 1;
        assert_eq!(scheduler.preempt_for_block(keys[0], now), keys[2]);
    }
}
