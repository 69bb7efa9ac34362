//! Taking blocks and giving them back.

use super::{AllocError, BlockAllocationResult, BlockHandle, BlockPool, BlockTable};
use crate::retention::CLASSES;
use crate::{BlockCopy, Retention};

impl BlockPool {
    /// Takes the block that is worth least: one without content, else the least recently used of the ordinary ones, else
    /// of those with the shortest time to live. Its cached content, if any, leaves the cache.
    ///
    /// # Errors
    /// [`AllocError::OutOfBlocks`] if every block is held.
    pub fn allocate(&mut self) -> BlockAllocationResult {
        if self.available == 0 {
            return Err(self.out_of_blocks(1));
        }
        Ok(self.pop())
    }

    /// Appends `count` blocks to `into`, or none.
    ///
    /// # Errors
    /// [`AllocError::OutOfBlocks`] if fewer are available; `into` is as it was.
    pub fn allocate_many(&mut self, count: u32, into: &mut BlockTable) -> BlockAllocationResult<()> {
        if self.available < count {
            return Err(self.out_of_blocks(count));
        }
        into.reserve(count as usize);
        for _ in 0..count {
            into.push(self.pop());
        }
        Ok(())
    }

    /// One more reference to a held block.
    pub fn share(&mut self, block: &BlockHandle) -> BlockHandle {
        self.records[block.index()].refs += 1;
        BlockHandle::counted(block.index())
    }

    /// A table with the same blocks, each counted once more.
    pub fn share_table(&mut self, table: &BlockTable) -> BlockTable {
        let mut copy = BlockTable::with_capacity(table.len() + 1);
        self.share_into(table, &mut copy);
        copy
    }

    /// Appends all blocks of `of` to `into`, each counted once more.
    pub fn share_into(&mut self, of: &BlockTable, into: &mut BlockTable) {
        into.begin_like(of);
        for block in of {
            into.push(self.share(block));
        }
    }

    /// Puts the first `count` blocks of `of`, none of which are gone, each counted once more, before those of `table`.
    pub fn share_front(&mut self, of: &BlockTable, count: usize, table: &mut BlockTable) {
        debug_assert!(of.gone() == 0 && table.gone() == 0, "the front of a table is there");
        let own = std::mem::replace(table, BlockTable::with_capacity(table.len() + count));
        for block in of.iter().take(count) {
            table.push(self.share(block));
        }
        own.into_iter().for_each(|block| table.push(block));
    }

    /// Makes the block at `index` the table's own, so that it may be written.
    ///
    /// Returns the copy to make before the write; `None` if the block is not shared.
    ///
    /// # Errors
    /// [`AllocError::OutOfBlocks`] if a copy is needed and every block is held.
    pub fn make_unique(
        &mut self,
        table: &mut BlockTable,
        index: usize,
    ) -> BlockAllocationResult<Option<BlockCopy>> {
        let block = table.get(index).expect("the block to be written is in the table");
        if self.refs(block) == 1 {
            return Ok(None);
        }
        let own = self.allocate()?;
        let to = own.id();
        let shared = table.replace(index, own);
        let from = shared.id();
        self.release(shared);
        Ok(Some(BlockCopy { from, to }))
    }

    /// Gives a reference back. The last one frees the block: without published content it is the next to be
    /// allocated, with it the last of its retention.
    pub fn release(&mut self, block: BlockHandle) {
        let index = block.index();
        let record = &mut self.records[index];
        assert!(record.refs > 0, "block {index} is released more often than it was taken");
        record.refs -= 1;
        if record.refs > 0 {
            return;
        }
        if record.retention() != Retention::ORDINARY {
            return self.shelve(index);
        }
        self.available += 1;
        if record.is_published() {
            self.cached += 1;
            self.records.push_back(index, Retention::ORDINARY);
        } else {
            self.records.push_front(index);
        }
    }

    /// Gives all blocks of a table back, last first, so that a prefix is evicted from its end.
    pub fn release_table(&mut self, table: &mut BlockTable) {
        self.release_from(table, 0);
    }

    /// Gives the blocks from `keep` on back, last first.
    pub fn release_from(&mut self, table: &mut BlockTable, keep: usize) {
        while table.len() > keep {
            let block = table.pop().expect("a table longer than `keep` has a last block");
            self.release(block);
        }
    }

    /// Gives all blocks of a table back and drops the content of those from `from_block` on from the cache,
    /// for whoever published it: it is not what a correct step would have written.
    pub fn discard_table(&mut self, table: &mut BlockTable, from_block: usize) {
        let mut index = table.len();
        while let Some(block) = table.pop() {
            index -= 1;
            if index >= from_block {
                self.forget(block.index());
            }
            self.release(block);
        }
    }

    /// Gives the blocks before entry `end` back, for a sequence of which no later token sees what they hold. Their content leaves
    /// the cache: what continues it, which the sequence still holds, would else outlive it.
    ///
    /// Returns how many they were.
    pub fn release_front(&mut self, table: &mut BlockTable, end: usize) -> usize {
        let before = table.gone();
        for block in table.take_front(end) {
            self.forget(block.index());
            self.release(block);
        }
        table.gone() - before
    }

    /// Takes the block that is worth least; at least one is available.
    fn pop(&mut self) -> BlockHandle {
        let ordinary = self.records.front(Retention::ORDINARY);
        let block = ordinary.unwrap_or_else(|| self.first_retained());
        self.records.unlink(block);
        self.available -= 1;
        self.allocations += 1;
        if self.records[block].is_published() {
            self.cached -= 1;
            self.unpublish(block);
        }
        self.records[block].refs = 1;
        BlockHandle::counted(block)
    }

    fn first_retained(&self) -> u32 {
        let mut lists = (1..CLASSES - 1).map(Retention::of_class);
        lists.find_map(|list| self.records.front(list)).expect("an available block is on a list")
    }

    fn out_of_blocks(&self, needed: u32) -> AllocError {
        AllocError::OutOfBlocks { needed, free: self.available - self.cached, reclaimable: self.cached }
    }
}
