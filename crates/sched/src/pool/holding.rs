//! What one sequence holds in the pool.

use super::{BlockHandle, BlockTable};
use crate::SequenceId;

/// A sequence's view of its blocks, lent by the scheduler.
///
/// The pool stores neither owners nor fill levels, which would be second copies of the tables and of the
/// sequences' progress; what reports them takes holdings.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// The sequence.
    pub sequence: SequenceId,
    /// Its blocks.
    pub table: &'a BlockTable,
    /// Tokens whose keys and values are stored in them.
    pub tokens: u32,
}

impl<'a> Holding<'a> {
    /// Tokens stored in the block at `index` of the table.
    pub(super) fn filled(&self, index: usize, block_size: u32) -> u32 {
        let start = index as u64 * u64::from(block_size);
        u64::from(self.tokens).saturating_sub(start).min(u64::from(block_size)) as u32
    }

    /// The blocks with their index and fill level.
    pub(super) fn blocks(self, block_size: u32) -> impl Iterator<Item = (usize, &'a BlockHandle, u32)> {
        let filled = move |index| self.filled(index, block_size);
        self.table.entries().map(move |(index, block)| (index, block, filled(index)))
    }
}
