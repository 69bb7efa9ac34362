//! Cached blocks that stay for a time or for good.
//!
//! Each retention class is a free list of its own. Within a class blocks are freed in the order in which their time is
//! up, so the front of each list is all that has to be looked at.

use super::{BlockPool, BlockTable};
use crate::retention::CLASSES;
use crate::{BlockId, Retention};
use std::time::{Duration, Instant};

/// Resolution of times to live; a `u32` of them is 13 years.
const TICK: Duration = Duration::from_millis(100);

/// What the pool knows about retained blocks.
#[derive(Debug)]
pub(super) struct Retained {
    origin: Option<Instant>,
    /// Ticks since the origin.
    now: u32,
    /// When each block becomes ordinary, in ticks; meaningful while it is free and has a time to live.
    expires: Box<[u32]>,
    /// Blocks with a time to live, held ones included.
    pub(super) kept: u32,
    /// Pinned blocks, held ones included.
    pub(super) pinned: u32,
    /// Pinned blocks that nobody holds.
    pub(super) pinned_idle: u32,
}

impl Retained {
    pub(super) fn new(blocks: u32) -> Self {
        let expires = vec![0; blocks as usize].into();
        Self { origin: None, now: 0, expires, kept: 0, pinned: 0, pinned_idle: 0 }
    }

    /// Whether the time of a free block is not up.
    pub(super) fn is_alive(&self, block: u32) -> bool {
        self.expires[block as usize] > self.now
    }

    /// When the time of a free block is up.
    pub(super) fn expires(&self, block: u32) -> u32 {
        self.expires[block as usize]
    }

    /// How many blocks have this retention, or one of its kind.
    fn count(&mut self, retention: Retention) -> Option<&mut u32> {
        match retention {
            Retention::ORDINARY => None,
            Retention::PINNED => Some(&mut self.pinned),
            _ => Some(&mut self.kept),
        }
    }

    pub(super) fn change(&mut self, from: Retention, to: Retention) {
        if let Some(count) = self.count(from) {
            *count -= 1;
        }
        if let Some(count) = self.count(to) {
            *count += 1;
        }
    }
}

impl BlockPool {
    /// Tells the pool the time: what was kept for a time that is up by `now` becomes ordinary, as what was used last.
    /// Until the first call the time stands still. Costs a few steps per class and some per block that expires.
    pub fn advance(&mut self, now: Instant) {
        let origin = *self.retained.origin.get_or_insert(now);
        let ticks = now.saturating_duration_since(origin).as_millis() / TICK.as_millis();
        self.retained.now = self.retained.now.max(u32::try_from(ticks).unwrap_or(u32::MAX));
        if self.retained.kept == 0 {
            return;
        }
        // Shorter lists first, so that a prefix that expires as a whole comes before what it continues.
        for class in 1..CLASSES - 1 {
            let list = Retention::of_class(class);
            while let Some(block) = self.records.front(list).filter(|&front| !self.retained.is_alive(front)) {
                self.records.unlink(block);
                self.set_retention(block, Retention::ORDINARY);
                self.records.push_back(block, Retention::ORDINARY);
            }
        }
    }

    /// Keeps the content of the first `blocks` of a table, which were published, at least as `retention` says. Returns how
    /// many of them are kept like that: it begins with the first and stops where as many blocks are as may be.
    pub fn retain_prefix(&mut self, table: &BlockTable, blocks: usize, retention: Retention) -> usize {
        debug_assert!(table.gone() == 0, "a prefix begins with its first block");
        let blocks = table.iter().take(blocks);
        blocks.take_while(|block| self.retain(block.index(), retention)).count()
    }

    /// Keeps a held block. Returns whether there was room, and content that was not dropped as poisoned.
    ///
    /// Held blocks of equal content are kept alike: a table that holds what continues one of them may hold any of them,
    /// and nothing may stay longer than what is before it.
    fn retain(&mut self, block: u32, retention: Retention) -> bool {
        if !self.records[block].is_published() {
            return false;
        }
        let (count, most) = match retention {
            Retention::PINNED => (self.retained.pinned, self.config.max_pinned),
            _ => (self.retained.kept, self.config.max_kept),
        };
        let uncounted = |&twin: &u32| {
            retention == Retention::PINNED || self.records[twin].retention() == Retention::ORDINARY
        };
        let more = self.held_twins_below(block, retention).filter(uncounted).count() as u32;
        if more > most.saturating_sub(count) {
            return false;
        }
        loop {
            let twin = self.held_twins_below(block, retention).next();
            let Some(twin) = twin else { return true };
            self.set_retention(twin, retention);
        }
    }

    /// Held blocks with the content of `block`, itself included, that stay less long.
    fn held_twins_below(&self, block: u32, retention: Retention) -> impl Iterator<Item = u32> + '_ {
        let twins = self.index.twins(&self.records, block);
        twins.filter(move |&twin| self.records[twin].refs > 0 && self.records[twin].retention() < retention)
    }

    /// How long the content of a block stays.
    ///
    /// # Panics
    /// If the pool has no such block.
    pub fn retention(&self, block: BlockId) -> Retention {
        self.records[block.0].retention()
    }

    /// Blocks that are kept for a time, held ones included.
    pub fn kept(&self) -> u32 {
        self.retained.kept
    }

    /// Blocks that are pinned, held ones included.
    pub fn pinned(&self) -> u32 {
        self.retained.pinned
    }

    /// Retention of a published block; among blocks of equal content the one that stays longest is found first, so that
    /// its use and that of what continues it renew each other.
    pub(super) fn set_retention(&mut self, block: u32, retention: Retention) {
        self.retained.change(self.records[block].retention(), retention);
        self.records[block].set_retention(retention);
        self.index.sort_in(&self.records, block);
    }

    /// Puts a block that has just become free, and is retained, on its list.
    pub(super) fn shelve(&mut self, block: u32) {
        let list = self.records[block].retention();
        self.records.push_back(block, list);
        match list.time() {
            None => self.retained.pinned_idle += 1,
            Some(time) => {
                // One more, because part of the present tick has passed.
                let ticks = (time.as_millis() / TICK.as_millis()) as u32 + 1;
                self.retained.expires[block as usize] = self.retained.now.saturating_add(ticks);
                self.available += 1;
                self.cached += 1;
            }
        }
    }

    /// Takes a free block with content off its list.
    pub(super) fn unshelve(&mut self, block: u32) {
        self.records.unlink(block);
        if self.records[block].retention() == Retention::PINNED {
            self.retained.pinned_idle -= 1;
        } else {
            self.available -= 1;
            self.cached -= 1;
        }
    }
}
