//! The pool as one would write it first: lists, linear scans, no intrusive links and no hash.

use pagoda_sched::{AllocError, BlockId, BlockPool, BlockState, CacheSalt, TokenId};
use std::collections::VecDeque;

/// A prefix: the empty one of a salt, or the number of a published one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    Root(CacheSalt),
    Number(usize),
}

/// Content under which a block can be found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    block: u32,
    parent: Chain,
    tokens: Vec<TokenId>,
    chain: Chain,
}

#[derive(Debug)]
pub(crate) struct Model {
    block_size: usize,
    refs: Vec<u32>,
    /// Free blocks, the next to be allocated first.
    free: VecDeque<u32>,
    /// In the order of publication.
    published: Vec<Entry>,
    issued: usize,
    pub(crate) allocations: u64,
}

impl Model {
    pub(crate) fn new(blocks: u32, block_size: u32) -> Self {
        Self {
            block_size: block_size as usize,
            refs: vec![0; blocks as usize],
            free: (1..blocks).collect(),
            published: vec![],
            issued: 0,
            allocations: 0,
        }
    }

    pub(crate) fn available(&self) -> u32 {
        self.free.len() as u32
    }

    pub(crate) fn cached(&self) -> u32 {
        self.free.iter().filter(|&&block| self.chain_of(block).is_some()).count() as u32
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
        let block = self.free.pop_front().expect("the caller has counted");
        self.published.retain(|entry| entry.block != block);
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
            self.free.push_back(block);
        } else {
            self.free.push_front(block);
        }
    }

    /// Drops the content of `block` wherever it is.
    pub(crate) fn forget(&mut self, block: u32) {
        let Some(chain) = self.chain_of(block) else { return };
        let gone: Vec<u32> = self.holders_of(chain);
        self.published.retain(|entry| entry.chain != chain);
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
        self.published.push(Entry { block, parent, tokens: tokens.to_vec(), chain });
        chain
    }

    /// The blocks of the longest published prefix, and that prefix.
    pub(crate) fn lookup(&self, salt: CacheSalt, tokens: &[TokenId], max_tokens: u32) -> (Vec<u32>, Chain) {
        let (mut blocks, mut chain) = (vec![], Chain::Root(salt));
        let usable = tokens.len().min(max_tokens as usize);
        for tokens in tokens[..usable].chunks_exact(self.block_size) {
            let mut newest_first = self.published.iter().rev();
            let Some(entry) = newest_first.find(|entry| entry.parent == chain && entry.tokens == tokens)
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

    pub(crate) fn reset_cache(&mut self) -> bool {
        let idle = self.refs.iter().all(|&refs| refs == 0);
        if idle {
            self.published.clear();
        }
        idle
    }

    fn chain_of(&self, block: u32) -> Option<Chain> {
        self.published.iter().find(|entry| entry.block == block).map(|entry| entry.chain)
    }

    fn holders_of(&self, chain: Chain) -> Vec<u32> {
        self.published.iter().filter(|entry| entry.chain == chain).map(|entry| entry.block).collect()
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
        }
    }
}
