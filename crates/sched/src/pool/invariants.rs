//! What must hold between any two operations, as code.

use super::chain::Link;
use super::record::{NONE, Record};
use super::{BlockPool, Holding};
use crate::retention::CLASSES;
use crate::{Retention, TokenId};
use rustc_hash::FxHashMap;

impl BlockPool {
    /// Asserts everything that must hold between two operations, given all sequences that hold blocks. For tests,
    /// simulation and idle times: costs several steps per block and allocates.
    ///
    /// # Panics
    /// If something is broken, saying what.
    pub fn check_invariants<'a>(&self, holdings: impl IntoIterator<Item = Holding<'a>>) {
        let mut check = Check { pool: self, place: vec![0; self.config.blocks as usize], placed: 0 };
        check.references(holdings);
        check.free_lists();
        check.index();
        check.chains();
    }
}

/// One pass of checks.
struct Check<'p> {
    pool: &'p BlockPool,
    /// Position of each block in the order in which free blocks go, from 1; 0 for held ones.
    place: Vec<u32>,
    /// Blocks that have their place.
    placed: u32,
}

impl Check<'_> {
    fn record(&self, block: u32) -> &Record {
        &self.pool.records[block]
    }

    fn blocks(&self) -> std::ops::Range<u32> {
        1..self.pool.config.blocks
    }

    /// A block's count is the number of tables that hold it, all at one index and filled alike.
    fn references<'a>(&self, holdings: impl IntoIterator<Item = Holding<'a>>) {
        let mut seen: Vec<(u32, usize, u32)> = vec![(0, 0, 0); self.pool.config.blocks as usize];
        let size = self.pool.config.block_size;
        for holding in holdings {
            let who = holding.sequence;
            let room = holding.table.len() as u64 * u64::from(size);
            assert!(u64::from(holding.tokens) <= room, "{who} has {} tokens in {room} slots", holding.tokens);
            for (index, block, filled) in holding.blocks(size) {
                let block = block.index();
                assert!(block != NONE, "the table of {who} holds the null block at {index}");
                let (refs, at, tokens) = &mut seen[block as usize];
                if *refs == 0 {
                    (*at, *tokens) = (index, filled);
                }
                *refs += 1;
                assert!(
                    *at == index,
                    "block {block} is at {at} in one table and at {index} in that of {who}"
                );
                assert!(*tokens == filled, "block {block} has {tokens} tokens, for {who} it has {filled}");
                let published = self.record(block).is_published();
                assert!(
                    !published || filled == size,
                    "block {block} is published with {filled} tokens by {who}"
                );
            }
            self.continuity(&holding);
        }
        for block in self.blocks() {
            let (refs, counted) = (seen[block as usize].0, self.record(block).refs);
            assert!(counted == refs, "block {block} has count {counted}, but {refs} tables hold it");
        }
        assert!(self.record(NONE).refs == 0, "the null block has count {}", self.record(NONE).refs);
    }

    /// The published blocks of a table come first, continue one another, and none stays longer than the one before it.
    fn continuity(&self, holding: &Holding<'_>) {
        let who = holding.sequence;
        let mut before: Option<Link> = None;
        let mut stays = Retention::PINNED;
        for (index, block) in holding.table.entries() {
            let record = self.record(block.index());
            if !record.is_published() {
                before = None;
                continue;
            }
            let (parent, block) = (self.parent(block.index()), block.index());
            let ordered = record.retention() <= stays || self.was_forgotten(parent);
            assert!(ordered, "block {block} of {who} stays longer than the one before it");
            stays = record.retention();
            let is_root = parent.serial().is_none();
            assert!(is_root == (index == 0), "block {block} at {index} of {who} has the parent {parent:?}");
            let continues = index == 0 || before == Some(parent) || self.was_forgotten(parent);
            assert!(continues, "block {block} of {who} continues {parent:?}, but {before:?} is before it");
            before = record.chain().map(|chain| chain.link());
        }
    }

    /// The lists hold exactly the blocks with count 0, each on that of its retention, and the counters agree.
    fn free_lists(&mut self) {
        let lists = (0..CLASSES).map(|class| self.free_list(Retention::of_class(class)));
        let lists: Vec<(u32, u32)> = lists.collect();
        let (pinned, others) = lists.split_last().expect("there is a list of pinned blocks");
        let sum = others.iter().fold((0, 0), |sum, list| (sum.0 + list.0, sum.1 + list.1));
        let (available, cached, idle) =
            (self.pool.available, self.pool.cached, self.pool.retained.pinned_idle);
        assert!(sum.0 == available, "{} blocks can be allocated, {available} were counted", sum.0);
        assert!(sum.1 == cached, "{} of them are published, {cached} were counted", sum.1);
        assert!(pinned.0 == idle, "{} free blocks are pinned, {idle} were counted", pinned.0);
        for block in self.blocks().filter(|&block| self.record(block).refs == 0) {
            assert!(self.place[block as usize] != 0, "block {block} has count 0 and is not on a free list");
        }
        self.retained();
    }

    /// Walks one list, unpublished blocks first and the others in the order in which their time is up. Returns its length
    /// and how many are published.
    fn free_list(&mut self, list: Retention) -> (u32, u32) {
        let (records, end) = (&self.pool.records, self.pool.records.end(list));
        let (mut length, mut cached, mut before, mut due) = (0, 0, end, 0);
        let mut block = records.after(end);
        while block != end {
            length += 1;
            assert!(self.place[block as usize] == 0, "block {block} is on the free lists twice");
            self.placed += 1;
            self.place[block as usize] = self.placed;
            assert!(records[block].refs == 0, "block {block} is free and has count {}", records[block].refs);
            let back = records.before(block);
            assert!(back == before, "block {block} is behind {before} on a free list, but links to {back}");
            let (published, retention) = (records[block].is_published(), records[block].retention());
            assert!(published || cached == 0, "unpublished block {block} is behind published ones");
            assert!(retention == list, "block {block} of {retention:?} is on the list of {list:?}");
            if list.time().is_some() {
                let expires = self.pool.retained.expires(block);
                assert!(expires >= due, "block {block} expires before one that is before it");
                assert!(self.pool.retained.is_alive(block), "the time of block {block} is up");
                due = expires;
            }
            cached += u32::from(published);
            (before, block) = (block, records.after(block));
        }
        assert!(records.before(end) == before, "a free list ends with {before}, not where its tail says");
        (length, cached)
    }

    /// Retained blocks are as many as were counted, and no more than may be.
    fn retained(&self) {
        let of = |wanted: fn(Retention) -> bool| {
            self.blocks().filter(|&block| wanted(self.record(block).retention())).count() as u32
        };
        let (kept, pinned) = (of(|it| it.time().is_some()), of(|it| it == Retention::PINNED));
        let (retained, config) = (&self.pool.retained, &self.pool.config);
        assert!(kept == retained.kept, "{kept} blocks are kept for a time, {} were counted", retained.kept);
        assert!(pinned == retained.pinned, "{pinned} blocks are pinned, {} were counted", retained.pinned);
        assert!(kept <= config.max_kept && pinned <= config.max_pinned, "{kept} kept and {pinned} pinned");
    }

    /// Published blocks are in their bucket, once, and nothing else is in any.
    fn index(&self) {
        let (records, index) = (&self.pool.records, &self.pool.index);
        let mut seen = vec![false; self.pool.config.blocks as usize];
        for bucket in 0..index.buckets() {
            for block in index.bucket(bucket) {
                assert!(
                    !std::mem::replace(&mut seen[block as usize], true),
                    "block {block} is indexed twice"
                );
                assert!(records[block].is_published(), "block {block} is indexed and not published");
                let right = index.bucket_of(records[block].hash());
                self.check_twins(block, bucket);
                assert!(right == bucket, "block {block} is in bucket {bucket}, but belongs in {right}");
            }
        }
        for block in self.blocks().filter(|&block| records[block].is_published()) {
            assert!(seen[block as usize], "block {block} is published and not indexed");
        }
    }

    /// Of blocks with equal content the one that stays longest is found first.
    fn check_twins(&self, block: u32, bucket: usize) {
        let (record, behind) =
            (self.record(block), self.pool.index.bucket(bucket).skip_while(|&it| it != block));
        let mut twins = behind.map(|it| self.record(it)).filter(|it| it.chain() == record.chain());
        assert!(
            twins.all(|twin| twin.retention() <= record.retention()),
            "block {block} is found before one that stays longer"
        );
    }

    /// Chain and (parent, tokens) determine each other; each parent outlives its children.
    fn chains(&self) {
        let mut by_chain: FxHashMap<Link, Prefix<'_>> = FxHashMap::default();
        let mut by_content: FxHashMap<(Link, &[TokenId]), Link> = FxHashMap::default();
        for block in self.blocks() {
            let (record, tokens) = (self.record(block), self.pool.index.tokens(block));
            let Some(chain) = record.chain().map(|chain| chain.link()) else { continue };
            let (parent, place) = (self.parent(block), self.lifetime(block));
            let serial = chain.serial().expect("a block's chain is no root");
            assert!(serial <= self.pool.last_serial, "block {block} has {chain:?}, which was never issued");
            let entry = by_chain.entry(chain).or_insert(Prefix { parent, tokens, lifetime: place });
            assert!(
                entry.parent == parent && entry.tokens == tokens,
                "block {block} shares {chain:?} with a block of other content"
            );
            entry.lifetime = entry.lifetime.max(place);
            let known = *by_content.entry((parent, tokens)).or_insert(chain);
            assert!(known == chain, "block {block} is {chain:?}, equal content is {known:?}");
        }
        for (chain, prefix) in &by_chain {
            if prefix.parent.serial().is_none() || self.was_forgotten(prefix.parent) {
                continue;
            }
            let parent = by_chain.get(&prefix.parent);
            let parent =
                parent.unwrap_or_else(|| panic!("{chain:?} has lost its parent {:?}", prefix.parent));
            assert!(
                parent.lifetime >= prefix.lifetime,
                "{chain:?} would outlive its parent {:?}",
                prefix.parent
            );
        }
    }

    fn parent(&self, block: u32) -> Link {
        self.pool.index.parent(&self.pool.records, block)
    }

    /// When a block can be evicted, relative to others: held ones last.
    fn lifetime(&self, block: u32) -> u32 {
        match self.place[block as usize] {
            0 => u32::MAX,
            place => place,
        }
    }

    /// Whether a prefix may have been dropped as poisoned, so that what continues it has lost its parent.
    fn was_forgotten(&self, chain: Link) -> bool {
        chain.serial().is_some_and(|serial| serial <= self.pool.last_forgotten)
    }
}

/// A prefix in the index.
struct Prefix<'p> {
    parent: Link,
    tokens: &'p [TokenId],
    /// The largest lifetime of the blocks that hold it.
    lifetime: u32,
}
