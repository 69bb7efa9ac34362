//! The pool as one would write it first: lists, linear scans, no intrusive links and no hash.

use pagoda_sched::{AdapterId, AllocError, BlockId, BlockPool, BlockState, CacheSpace, Retention, TokenId};
use std::collections::VecDeque;

/// A prefix: the empty one of a space, or the number of a published one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    Root(CacheSpace),
    Number(usize),
}

/// Content under which a block can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    block: u32,
    parent: Chain,
    tokens: Vec<TokenId>,
    chain: Chain,
    /// When it was published or last changed its retention.
    stamp: usize,
}

#[derive(Debug)]
pub(crate) struct Model {
    block_size: usize,
    refs: Vec<u32>,
    /// Free blocks; of one retention the next to be allocated first.
    free: VecDeque<u32>,
    published: Vec<Entry>,
    issued: usize,
    stamps: usize,
    retention: Vec<Retention>,
    /// Tenths of seconds at which free blocks become ordinary.
    expires: Vec<u64>,
    now: u64,
    /// Most blocks that can be pinned, and kept for a time.
    most: (usize, usize),
    pub(crate) allocations: u64,
}

impl Model {
    pub(crate) fn new(blocks: u32, block_size: u32, most: (u32, u32)) -> Self {
        Self {
            block_size: block_size as usize,
            refs: vec![0; blocks as usize],
            free: (1..blocks).collect(),
            published: vec![],
            issued: 0,
            stamps: 0,
            retention: vec![Retention::ORDINARY; blocks as usize],
            expires: vec![0; blocks as usize],
            now: 0,
            most: (most.0 as usize, most.1 as usize),
            allocations: 0,
        }
    }

    pub(crate) fn available(&self) -> u32 {
        self.free.iter().filter(|&&block| !self.is_pinned(block)).count() as u32
    }

    pub(crate) fn cached(&self) -> u32 {
        let cached = |&&block: &&u32| self.chain_of(block).is_some() && !self.is_pinned(block);
        self.free.iter().filter(cached).count() as u32
    }

    pub(crate) fn is_pinned(&self, block: u32) -> bool {
        self.retention[block as usize] == Retention::PINNED
    }

    pub(crate) fn refs(&self, block: u32) -> u32 {
        self.refs[block as usize]
    }

    pub(crate) fn allocate_many(&mut self, count: u32) -> Result<Vec<u32>, AllocError> {
        if self.available() < count {
            let reclaimable = self.cached();
            let free = self.available() - reclaimable;
            return Err(AllocError::OutOfBlocks { needed: count, free, reclaimable });
        }
        Ok((0..count).map(|_| self.allocate()).collect())
    }

    fn allocate(&mut self) -> u32 {
        let first = self.free.iter().copied().min_by_key(|&block| self.retention[block as usize]);
        let block = first.expect("the caller has counted");
        assert!(!self.is_pinned(block));
        self.free.retain(|&free| free != block);
        self.unpublish(block);
        self.allocations += 1;
        self.refs[block as usize] = 1;
        block
    }

    pub(crate) fn share(&mut self, block: u32) {
        self.refs[block as usize] += 1;
    }

    pub(crate) fn release(&mut self, block: u32) {
        self.refs[block as usize] -= 1;
        if self.refs[block as usize] > 0 {
            return;
        }
        if self.chain_of(block).is_some() {
            let time = self.retention[block as usize].time().map_or(0, |time| 10 * time.as_secs());
            self.expires[block as usize] = self.now + time + 1;
            self.free.push_back(block);
        } else {
            self.free.push_front(block);
        }
    }

    /// Drops the content of `block` wherever it is.
    pub(crate) fn forget(&mut self, block: u32) {
        let Some(chain) = self.chain_of(block) else { return };
        let gone: Vec<u32> = self.holders_of(chain);
        gone.iter().for_each(|&block| self.unpublish(block));
        for block in gone.into_iter().rev().filter(|&block| self.refs[block as usize] == 0) {
            self.free.retain(|&free| free != block);
            self.free.push_front(block);
        }
    }

    pub(crate) fn publish(&mut self, block: u32, parent: Chain, tokens: &[TokenId]) -> Chain {
        if let Some(chain) = self.chain_of(block) {
            return chain;
        }
        let known = self.published.iter().find(|entry| entry.parent == parent && entry.tokens == tokens);
        let chain = match known {
            Some(entry) => entry.chain,
            None => {
                self.issued += 1;
                Chain::Number(self.issued)
            }
        };
        self.stamps += 1;
        self.published.push(Entry { block, parent, tokens: tokens.to_vec(), chain, stamp: self.stamps });
        chain
    }

    fn unpublish(&mut self, block: u32) {
        self.published.retain(|entry| entry.block != block);
        self.retention[block as usize] = Retention::ORDINARY;
    }

    fn set_retention(&mut self, block: u32, retention: Retention) {
        self.stamps += 1;
        self.retention[block as usize] = retention;
        let entry = self.published.iter_mut().find(|entry| entry.block == block);
        entry.expect("only published blocks are retained").stamp = self.stamps;
    }

    /// Raises the retention of the blocks, one after the other while there is room.
    pub(crate) fn retain_prefix(&mut self, blocks: &[u32], retention: Retention) -> usize {
        blocks.iter().take_while(|&&block| self.retain(block, retention)).count()
    }

    /// Raises the retention of all held blocks with this content, or of none.
    fn retain(&mut self, block: u32, retention: Retention) -> bool {
        let Some(chain) = self.chain_of(block) else { return false };
        let count = |wanted: fn(Retention) -> bool| self.retention.iter().filter(|&&it| wanted(it)).count();
        let mut less = self.holders_of(chain);
        less.retain(|&it| self.refs(it) > 0 && self.retention[it as usize] < retention);
        let ordinary = less.iter().filter(|&&it| self.retention[it as usize] == Retention::ORDINARY).count();
        let fits = match retention {
            Retention::PINNED => count(|it| it == Retention::PINNED) + less.len() <= self.most.0,
            _ => count(|it| it.time().is_some()) + ordinary <= self.most.1,
        };
        if fits {
            less.into_iter().rev().for_each(|it| self.set_retention(it, retention));
        }
        fits
    }

    /// Sets the time, in tenths of seconds.
    pub(crate) fn advance(&mut self, now: u64) {
        self.now = now;
        let due = |&&block: &&u32| {
            self.retention[block as usize].time().is_some() && self.expires[block as usize] <= now
        };
        let mut expired: Vec<u32> = self.free.iter().filter(due).copied().collect();
        expired.sort_by_key(|&block| self.retention[block as usize]);
        for block in expired {
            self.set_retention(block, Retention::ORDINARY);
            self.free.retain(|&free| free != block);
            self.free.push_back(block);
        }
    }

    /// The blocks of the longest published prefix, and that prefix.
    pub(crate) fn lookup(&self, space: CacheSpace, tokens: &[TokenId], max_tokens: u32) -> (Vec<u32>, Chain) {
        let (mut blocks, mut chain) = (vec![], Chain::Root(space));
        let usable = tokens.len().min(max_tokens as usize);
        for tokens in tokens[..usable].chunks_exact(self.block_size) {
            let equal = self.published.iter().filter(|entry| entry.parent == chain && entry.tokens == tokens);
            let Some(entry) = equal.max_by_key(|entry| (self.retention[entry.block as usize], entry.stamp))
            else {
                break;
            };
            blocks.push(entry.block);
            chain = entry.chain;
        }
        (blocks, chain)
    }

    pub(crate) fn take(&mut self, block: u32) {
        if self.refs[block as usize] == 0 {
            self.free.retain(|&free| free != block);
            self.allocations += 1;
        }
        self.refs[block as usize] += 1;
    }

    pub(crate) fn clear_cache(&mut self) -> u32 {
        let mut forgotten = 0;
        for block in 1..self.refs.len() as u32 {
            if self.chain_of(block).is_none() {
                continue;
            }
            if self.refs(block) > 0 {
                self.set_retention(block, Retention::ORDINARY);
                continue;
            }
            self.unpublish(block);
            self.free.retain(|&free| free != block);
            self.free.push_front(block);
            forgotten += 1;
        }
        forgotten
    }

    /// Forgets all that follows from the empty prefixes of `adapter`, in the order of publication.
    pub(crate) fn forget_adapter(&mut self, adapter: AdapterId) -> u32 {
        let number = |chain: Chain| match chain {
            Chain::Number(number) => number,
            Chain::Root(_) => 0,
        };
        let mut entries = self.published.clone();
        entries.sort_by_key(|entry| (number(entry.chain), entry.block));
        let mut gone = vec![];
        for entry in &entries {
            let is_own = match entry.parent {
                Chain::Root(space) => space.adapter == adapter,
                parent => gone.contains(&parent),
            };
            if is_own {
                gone.push(entry.chain);
                self.unpublish(entry.block);
                self.free.retain(|&free| free != entry.block);
                self.free.push_front(entry.block);
            }
        }
        gone.len() as u32
    }

    fn chain_of(&self, block: u32) -> Option<Chain> {
        self.published.iter().find(|entry| entry.block == block).map(|entry| entry.chain)
    }

    /// Blocks with this content, the one that is found first last.
    fn holders_of(&self, chain: Chain) -> Vec<u32> {
        let mut holders: Vec<_> = self.published.iter().filter(|entry| entry.chain == chain).collect();
        holders.sort_by_key(|entry| (self.retention[entry.block as usize], entry.stamp));
        holders.into_iter().map(|entry| entry.block).collect()
    }

    /// Asserts that `pool` tells the same about every block.
    pub(crate) fn compare(&self, pool: &BlockPool) {
        assert_eq!(pool.available(), self.available(), "available blocks");
        assert_eq!(pool.cached(), self.cached(), "cached blocks");
        for block in 1..self.refs.len() as u32 {
            let expected = (self.refs(block), self.chain_of(block).is_some());
            let state = match pool.state(BlockId(block)) {
                BlockState::Free => (0, false),
                BlockState::Cached(_) => (0, true),
                BlockState::Held { refs, chain } => (refs, chain.is_some()),
            };
            assert_eq!(state, expected, "references and publication of block {block}");
            let retention = self.retention[block as usize];
            assert_eq!(pool.retention(BlockId(block)), retention, "retention of block {block}");
        }
    }
}
