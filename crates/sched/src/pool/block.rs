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

    /// No block, where one is gone.
    const NULL: Self = Self(BlockId(0));

    fn is_null(&self) -> bool {
        *self == Self::NULL
    }

    /// The block as an index of the pool's arrays.
    pub(super) fn index(&self) -> u32 {
        self.0.0
    }
}

/// Blocks of one sequence: entry `i` holds the tokens `i * block_size..(i + 1) * block_size`.
///
/// Leading entries may be gone: their blocks were given back, since no later token sees what they held.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct BlockTable {
    /// Those that are gone are the null block.
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

    /// Number of entries, those that are gone included.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Number of blocks.
    pub fn held(&self) -> usize {
        self.len() - self.gone()
    }

    /// Number of entries that are gone.
    pub fn gone(&self) -> usize {
        // Mostly none are, and there are as many comparisons as the length has bits otherwise.
        match self.blocks.first() {
            Some(first) if first.is_null() => self.blocks.partition_point(BlockHandle::is_null),
            _ => 0,
        }
    }

    /// Whether there is no block.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block at `index`; `None` if it is gone.
    pub fn get(&self, index: usize) -> Option<&BlockHandle> {
        self.blocks.get(index).filter(|block| !block.is_null())
    }

    /// The blocks with their index, in order.
    pub fn entries(&self) -> impl Iterator<Item = (usize, &BlockHandle)> {
        (self.gone()..).zip(self)
    }

    /// The last block.
    pub fn last(&self) -> Option<&BlockHandle> {
        self.blocks.last()
    }

    /// The blocks, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, BlockHandle> {
        self.blocks[self.gone()..].iter()
    }

    /// Ids of the entries, in order; the null block where they are gone.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = BlockId> + ExactSizeIterator + '_ {
        self.blocks.iter().map(BlockHandle::id)
    }

    /// Appends a block.
    pub fn push(&mut self, block: BlockHandle) {
        self.blocks.push(block);
    }

    /// Takes the last block out; with the last one of all the table is empty.
    pub(super) fn pop(&mut self) -> Option<BlockHandle> {
        let block = self.blocks.pop();
        if self.blocks.last().is_some_and(BlockHandle::is_null) {
            self.blocks.clear();
        }
        block
    }

    /// Takes the blocks before entry `end` out, but never the last one of all.
    pub(super) fn take_front(&mut self, end: usize) -> impl Iterator<Item = BlockHandle> {
        let end = end.min(self.len().saturating_sub(1));
        let start = self.gone().min(end);
        self.blocks[start..end].iter_mut().map(|block| std::mem::replace(block, BlockHandle::NULL))
    }

    /// Lets an empty table begin with as many entries that are gone as `other` does.
    pub(super) fn begin_like(&mut self, other: &Self) {
        let gone = other.gone();
        debug_assert!(self.is_empty() || gone == 0, "entries that are gone come first");
        self.blocks.extend(std::iter::repeat_with(|| BlockHandle::NULL).take(gone));
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
