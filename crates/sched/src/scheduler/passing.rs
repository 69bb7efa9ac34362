//! Who goes before whom out of turn, each within a bound: what fits before what does not, what is cached before what is not, and
//! everyone before one that waits for a prefix which another computes.

use super::Scheduler;
use super::admission::{Growth, Obstacle, SoFar};
use crate::{PrefixHit, Priority, Sequence, SequenceId};
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

impl Scheduler {
    /// Admits one that fits where `head` does not, or makes room for one of a higher class. Those that were preempted are passed
    /// by none of their class, so that blocks come together for them, and lower classes pass none, since they would be preempted
    /// for it.
    pub(super) fn admit_other(
        &mut self,
        head: SequenceId,
        obstacle: Obstacle,
        growth: Growth,
        so_far: &mut SoFar,
        now: Instant,
    ) -> bool {
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

    /// A running sequence that computes a prefix of `sequence` beyond what is cached, so that waiting for it saves more than
    /// [`SHARED_TOKENS`]. None once it has waited for long, and for one whose prompt is reported and so computed anyway.
    pub(super) fn prefix_to_come(&self, sequence: &Sequence, hit: PrefixHit) -> Option<SequenceId> {
        let is_read = !sequence.unread().is_empty();
        if !self.config.prefix_cache || is_read || sequence.passes.held >= MAX_HELD {
            return None;
        }
        let prompt = &sequence.request.prompt[..];
        let cached = (hit.blocks * self.layout.block_size) as usize;
        let end = cached + SHARED_TOKENS.max(self.layout.block_size) as usize;
        if prompt.len() <= end {
            return None;
        }
        let computing = self.batch.iter().filter(|running| {
            let space = running.request.cache_space();
            let same = running.gap() > 1 && !running.held && space == sequence.request.cache_space();
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
    /// [`JUMPS`] others, none of which was passed so often: whoever passes one passes the head, so that this was passed most.
    pub(super) fn preferred(&mut self, head: SequenceId) -> SequenceId {
        let passed = self.queue.get(head).expect("the head waits").passes.by_cached;
        if !self.config.prefix_cache || passed >= JUMPS || self.batch.rows() >= self.config.max_num_seqs {
            return head;
        }
        let mut row = [None; JUMPS as usize];
        row.iter_mut().zip(self.queue.behind(head)).for_each(|(place, next)| *place = Some(next.id()));
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
    pub(super) fn count_jump(&mut self, first: SequenceId, chosen: SequenceId) {
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
}
