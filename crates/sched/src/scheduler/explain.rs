//! Saying where a request stands and why.

use super::Scheduler;
use super::admission::Obstacle;
use crate::{
    BlockHandle, Explanation, MachineState, RequestId, Rule, SampleIndex, Sequence, SequenceId, Standing,
};
use std::time::Instant;

/// How many of those that go first are named.
const NAMED: usize = 8;

impl Scheduler {
    /// Where a request stands; `None` if it is not known. To be called between steps: one in flight is not waited for, and a
    /// request in it counts as running.
    ///
    /// Costs O(rows + sequences that go first).
    pub fn explain(&mut self, id: RequestId, now: Instant) -> Option<Explanation> {
        let samples = self.requests.get(&id)?.samples;
        let mut places = (0..samples).map(|sample| SequenceId { request: id, sample: SampleIndex(sample) });
        let waiting = places.clone().find(|&place| self.queue.contains(place));
        let running = places.any(|place| self.batch.contains(place));
        let machine = MachineState {
            rows: (self.batch.rows(), self.config.max_num_seqs),
            blocks: self.pool.total(),
            blocks_free: self.pool.available(),
            blocks_reclaimable: self.pool.cached(),
        };
        let standing = match waiting {
            Some(place) if !running => self.explain_waiting(place, now),
            _ => self.explain_running(id),
        };
        let sequence = match waiting {
            Some(place) => self.queue.get(place),
            None => self.batch.iter().find(|running| running.id().request == id),
        };
        let sequence = sequence.expect("a known request has a live sample");
        Some(Explanation {
            class: sequence.priority(),
            effective_class: self.queue.effective_class(sequence, now),
            waited: sequence.waited(now),
            standing,
            estimate: self.estimate(id, now),
            machine,
        })
    }

    fn explain_running(&self, id: RequestId) -> Standing {
        let samples = || self.batch.iter().filter(|running| running.id().request == id);
        let mut blocks: Vec<_> =
            samples().flat_map(|running| running.table.iter().map(BlockHandle::id)).collect();
        blocks.sort_unstable();
        blocks.dedup();
        Standing::Running {
            computed: samples().map(Sequence::computed).max().unwrap_or(0),
            generated: samples().map(Sequence::generated).max().unwrap_or(0),
            blocks: blocks.len() as u32,
        }
    }

    fn explain_waiting(&mut self, id: SequenceId, now: Instant) -> Standing {
        let rule = self.rule(id, now);
        let growth = self.batch_growth();
        let sequence = self.queue.get(id).expect("it waits");
        let hit = self.lookup(sequence);
        let reserve = self.reserve_beside(sequence, growth);
        let before = self.queue.before(id, NAMED, now);
        Standing::Waiting {
            position: self.queue.position(id, now),
            rule,
            needed_blocks: self.all_blocks(sequence) - hit.blocks + reserve,
            cached_tokens: hit.blocks * self.layout.block_size,
            before: before.into_iter().map(|before| before.request.id).collect(),
        }
    }

    /// The rule that decides on a waiting sequence in the next step.
    fn rule(&mut self, id: SequenceId, now: Instant) -> Rule {
        let rehearses = !self.step.in_flight;
        if rehearses {
            self.rehearse(now);
        }
        let first = self.queue.head(now).expect("something waits");
        let head = self.preferred(first);
        let growth = self.batch_growth();
        let of_head = self.fit(head, growth).err();
        let of_own = if id == head { of_head } else { self.fit(id, growth).err() };
        let rule = match (of_head, of_own) {
            (None, None) if id == head => Rule::Next,
            (None, _) => Rule::Order { first: head },
            (Some(obstacle), None) if self.may_pass(head, obstacle, id, now) => Rule::Next,
            (Some(_), None) => Rule::Order { first: head },
            (Some(_), Some(obstacle)) => obstacle.into(),
        };
        if rehearses {
            self.end_rehearsal();
        }
        rule
    }

    /// Gives the running rows their tokens as the next step will, but no blocks.
    fn rehearse(&mut self, now: Instant) {
        self.begin_step(now);
        let mut order = std::mem::take(&mut self.step.order);
        order.clear();
        order.extend(self.batch.keys());
        order.retain(|&key| {
            let sequence = self.batch.at(key);
            let prefill = sequence.gap() > 1 && !sequence.held;
            if !prefill && !sequence.held {
                self.schedule(key, 1);
            }
            prefill
        });
        self.step.order = order;
        if !self.newcomers_first(now) {
            self.plan_prefills();
        }
    }

    fn end_rehearsal(&mut self) {
        let mut order = std::mem::take(&mut self.step.order);
        order.clear();
        order.extend(self.batch.keys());
        for &key in &order {
            self.batch.at_mut(key).scheduled = 0;
        }
        self.step.order = order;
    }
}

impl From<Obstacle> for Rule {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::Rows => Self::Rows,
            Obstacle::Blocks { .. } => Self::Blocks,
            Obstacle::Prefix { with } => Self::Prefix { with },
            Obstacle::Chunk => Self::Prefill,
        }
    }
}
