//! Blocks as a person sees them: for stats, logs, the block map and tests.

use super::{BlockPool, BlockState, Holding};
use crate::{BlockId, KvLayout, SequenceId};
use std::ops::Range;

/// One block with everything that is known about it. Read-only: state changes go through handles.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBlock<'a> {
    id: BlockId,
    state: BlockState,
    block_size: u32,
    usage: Option<Usage<'a>>,
}

/// How a sequence uses a block.
#[derive(Clone, Copy, Debug)]
struct Usage<'a> {
    holding: Holding<'a>,
    index: usize,
}

impl<'a> MemoryBlock<'a> {
    /// The block.
    pub fn id(&self) -> BlockId {
        self.id
    }

    /// What the block is used for.
    pub fn state(&self) -> BlockState {
        self.state
    }

    /// Whether a sequence holds the block.
    pub fn is_allocated(&self) -> bool {
        matches!(self.state, BlockState::Held { .. })
    }

    /// The first of the sequences that hold the block; `None` if it is free or cached.
    pub fn sequence(&self) -> Option<SequenceId> {
        self.usage.map(|it| it.holding.sequence)
    }

    /// Position of the block's first token in its sequences; `None` if it is free or cached.
    pub fn start_token(&self) -> Option<u32> {
        self.usage.map(|it| it.index as u32 * self.block_size)
    }

    /// Tokens stored in the block that can be read: at most [`block_size`](Self::block_size), 0 if it is free.
    pub fn token_count(&self) -> u32 {
        match (self.state, self.usage) {
            (BlockState::Free, _) => 0,
            (BlockState::Cached(_), _) | (BlockState::Held { chain: Some(_), .. }, None) => self.block_size,
            (BlockState::Held { .. }, None) => 0,
            (BlockState::Held { .. }, Some(it)) => it.holding.filled(it.index, self.block_size),
        }
    }

    /// Tokens that fit.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Where the block's keys of `layer` lie, in elements of the executor's key storage.
    pub fn keys(&self, layout: &KvLayout, layer: u32) -> Range<usize> {
        layout.key(layer, self.id)
    }

    /// Where the block's values of `layer` lie, in elements of the executor's value storage.
    pub fn values(&self, layout: &KvLayout, layer: u32) -> Range<usize> {
        layout.value(layer, self.id)
    }
}

/// All blocks of a pool, each with the first sequence that holds it.
#[derive(Debug)]
pub struct BlockMap<'a> {
    pool: &'a BlockPool,
    usages: Vec<Option<Usage<'a>>>,
}

impl<'a> BlockMap<'a> {
    /// The block of this id.
    ///
    /// # Panics
    /// If the pool has no such block.
    pub fn block(&self, id: BlockId) -> MemoryBlock<'a> {
        MemoryBlock {
            id,
            state: self.pool.state(id),
            block_size: self.pool.block_size(),
            usage: self.usages[id.0 as usize],
        }
    }

    /// All blocks but the null block, in the order of their ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = MemoryBlock<'a>> + '_ {
        (1..self.pool.config.blocks).map(|id| self.block(BlockId(id)))
    }
}

impl BlockPool {
    /// Who uses which block, given all sequences that hold blocks. Costs one step per block.
    pub fn map<'a>(&'a self, holdings: impl IntoIterator<Item = Holding<'a>>) -> BlockMap<'a> {
        let mut usages = vec![None; self.config.blocks as usize];
        for holding in holdings {
            for (index, block, _) in holding.blocks(self.config.block_size) {
                usages[block.index() as usize].get_or_insert(Usage { holding, index });
            }
        }
        BlockMap { pool: self, usages }
    }

    /// One block, given all sequences that hold blocks. Costs one step per held block; see [`map`](Self::map)
    /// for many.
    ///
    /// # Panics
    /// If the pool has no such block.
    pub fn block<'a>(&self, id: BlockId, holdings: impl IntoIterator<Item = Holding<'a>>) -> MemoryBlock<'a> {
        let find = |holding: Holding<'a>| {
            let (index, _) = holding.table.entries().find(|(_, block)| block.id() == id)?;
            Some(Usage { holding, index })
        };
        MemoryBlock {
            id,
            state: self.state(id),
            block_size: self.config.block_size,
            usage: holdings.into_iter().find_map(find),
        }
    }
}
