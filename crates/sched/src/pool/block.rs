//! What a sequence holds: handles to blocks, in the order of its tokens.

use super::ChainId;
use crate::BlockId;

/// One counted reference to a block of a [`BlockPool`](super::BlockPool).
///
/// It can be neither copied nor forged: it comes from the pool and goes back to it. Dropping one leaks the
/// block, which [`BlockPool::check_invariants`](super::BlockPool::check_invariants) reports.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a handle that is not released keeps its block for ever"]
pub struct BlockHandle(BlockId);

impl BlockHandle {
    /// A reference that the pool has counted already.
    pub(super) fn counted(index: u32) -> Self {
        Self(BlockId(index))
    }

    /// The block.
    pub fn id(&self) -> BlockId {
        self.0
    }

    /// The block as an index of the pool's arrays.
    pub(super) fn index(&self) -> u32 {
        self.0.0
    }
}

/// Blocks of one sequence: entry `i` holds the tokens `i * block_size..(i + 1) * block_size`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BlockTable {
    blocks: Vec<BlockHandle>,
}

impl BlockTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty table that can grow to `blocks` without allocating.
    pub fn with_capacity(blocks: usize) -> Self {
        Self { blocks: Vec::with_capacity(blocks) }
    }

    /// Makes room for `additional` further blocks.
    pub fn reserve(&mut self, additional: usize) {
        self.blocks.reserve(additional);
    }

    /// Number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block at `index`.
    pub fn get(&self, index: usize) -> Option<&BlockHandle> {
        self.blocks.get(index)
    }

    /// The last block.
    pub fn last(&self) -> Option<&BlockHandle> {
        self.blocks.last()
    }

    /// The blocks, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, BlockHandle> {
        self.blocks.iter()
    }

    /// Ids of the blocks, in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = BlockId> + ExactSizeIterator + '_ {
        self.blocks.iter().map(BlockHandle::id)
    }

    /// Appends a block.
    pub fn push(&mut self, block: BlockHandle) {
        self.blocks.push(block);
    }

    /// Takes the last block out.
    pub(super) fn pop(&mut self) -> Option<BlockHandle> {
        self.blocks.pop()
    }

    /// Puts `block` at `index` and gives back what was there.
    pub(super) fn replace(&mut self, index: usize, block: BlockHandle) -> BlockHandle {
        std::mem::replace(&mut self.blocks[index], block)
    }
}

impl IntoIterator for BlockTable {
    type Item = BlockHandle;
    type IntoIter = std::vec::IntoIter<BlockHandle>;

    fn into_iter(self) -> Self::IntoIter {
        self.blocks.into_iter()
    }
}

impl<'a> IntoIterator for &'a BlockTable {
    type Item = &'a BlockHandle;
    type IntoIter = std::slice::Iter<'a, BlockHandle>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// What a block is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Nobody holds it and nothing can be read from it.
    Free,
    /// Nobody holds it, but a later request with this prefix can take it.
    Cached(ChainId),
    /// Held by `refs >= 1` tables.
    Held {
        /// Number of references.
        refs: u32,
        /// The prefix that ends with this block, once it is published.
        chain: Option<ChainId>,
    },
}
