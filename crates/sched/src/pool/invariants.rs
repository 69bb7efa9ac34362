//! What must hold between any two operations, as code.

use super::chain::Link;
use super::record::{NONE, Record};
use super::{BlockPool, Holding};
use crate::TokenId;
use rustc_hash::FxHashMap;

impl BlockPool {
    /// Asserts everything that must hold between two operations, given all sequences that hold blocks. For tests,
    /// simulation and idle times: costs several steps per block and allocates.
    ///
    /// # Panics
    /// If something is broken, saying what.
    pub fn check_invariants<'a>(&self, holdings: impl IntoIterator<Item = Holding<'a>>) {
        let mut check = Check { pool: self, place: vec![0; self.config.blocks as usize] };
        check.references(holdings);
        check.free_list();
        check.index();
        check.chains();
    }
}

/// One pass of checks.
struct Check<'p> {
    pool: &'p BlockPool,
    /// Position of each block on the free list, from 1; 0 for blocks that are not on it.
    place: Vec<u32>,
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

    /// The published blocks of a table come first and continue one another.
    fn continuity(&self, holding: &Holding<'_>) {
        let who = holding.sequence;
        let mut before: Option<Link> = None;
        for (index, block) in holding.table.iter().enumerate() {
            let record = self.record(block.index());
            if !record.is_published() {
                before = None;
                continue;
            }
            let (parent, block) = (record.parent(), block.index());
            let is_root = parent.serial().is_none();
            assert!(is_root == (index == 0), "block {block} at {index} of {who} has the parent {parent:?}");
            let continues = index == 0 || before == Some(parent) || self.was_forgotten(parent);
            assert!(continues, "block {block} of {who} continues {parent:?}, but {before:?} is before it");
            before = record.chain().map(|chain| chain.link);
        }
    }

    /// The list holds exactly the blocks with count 0, unpublished ones first, and its counters agree.
    fn free_list(&mut self) {
        let records = &self.pool.records;
        let (mut length, mut cached, mut before) = (0, 0, NONE);
        let mut block = records.front();
        while block != NONE {
            length += 1;
            assert!(self.place[block as usize] == 0, "block {block} is on the free list twice");
            self.place[block as usize] = length;
            assert!(records[block].refs == 0, "block {block} is free and has count {}", records[block].refs);
            let back = records.before(block);
            assert!(back == before, "block {block} is behind {before} on the free list, but links to {back}");
            let published = records[block].is_published();
            assert!(published || cached == 0, "unpublished block {block} is behind published ones");
            cached += u32::from(published);
            (before, block) = (block, records.after(block));
        }
        assert!(records.before(NONE) == before, "the free list ends with {before}, not where its tail says");
        let (available, counted) = (self.pool.available, self.pool.cached);
        assert!(length == available, "{length} blocks are on the free list, {available} were counted");
        assert!(cached == counted, "{cached} free blocks are published, {counted} were counted");
        for block in self.blocks().filter(|&block| records[block].refs == 0) {
            assert!(self.place[block as usize] != 0, "block {block} has count 0 and is not on the free list");
        }
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
                assert!(right == bucket, "block {block} is in bucket {bucket}, but belongs in {right}");
            }
        }
        for block in self.blocks().filter(|&block| records[block].is_published()) {
            assert!(seen[block as usize], "block {block} is published and not indexed");
        }
    }

    /// Chain and (parent, tokens) determine each other; each parent outlives its children.
    fn chains(&self) {
        let mut by_chain: FxHashMap<Link, Prefix<'_>> = FxHashMap::default();
        let mut by_content: FxHashMap<(Link, &[TokenId]), Link> = FxHashMap::default();
        for block in self.blocks() {
            let (record, tokens) = (self.record(block), self.pool.index.tokens(block));
            let Some(chain) = record.chain().map(|chain| chain.link) else { continue };
            let (parent, place) = (record.parent(), self.lifetime(block));
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
