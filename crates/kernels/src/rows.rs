//! How the rows of activations are cut into register blocks.

use std::ops::Range;

/// The register blocks of an instruction set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocking {
    /// Most rows of a block, a multiple of `step`.
    pub(crate) max: usize,
    /// Blocks have a multiple of this many rows, save that one row alone is a block of 1.
    pub(crate) step: usize,
}

/// The rows `0..m` of a call in as few blocks as possible, which differ by at most one step: a block of a few rows
/// behind full ones would read all weights for little arithmetic. The last block may have rows beyond m.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowBlocks {
    m: usize,
    count: usize,
    /// Rows of the smaller blocks.
    each: usize,
    /// Rows that the larger blocks have more.
    step: usize,
    /// Blocks, the first ones, that are larger.
    larger: usize,
}

impl RowBlocks {
    pub(crate) fn new(m: usize, blocking: Blocking) -> Self {
        let step = if m == 1 { 1 } else { blocking.step };
        let steps = m.div_ceil(step);
        let count = steps.div_ceil(blocking.max / step).max(1);
        RowBlocks { m, count, each: steps / count * step, step, larger: steps % count }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.m
    }

    /// Number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// First row of `block`; of [`count`](Self::count), the number of rows with the padding of the last block.
    pub(crate) fn start(&self, block: usize) -> usize {
        block * self.each + block.min(self.larger) * self.step
    }

    /// Rows of `block`, the padding of the last block included.
    pub(crate) fn padded(&self, block: usize) -> usize {
        self.start(block + 1) - self.start(block)
    }

    /// The rows below m of `blocks`.
    pub(crate) fn rows(&self, blocks: Range<usize>) -> Range<usize> {
        self.start(blocks.start)..self.start(blocks.end).min(self.m)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_rows_evenly_with_less_than_a_step_of_padding() {
        for (max, step) in [(12, 2), (6, 2), (32, 16), (14, 1)] {
            for m in 1..200 {
                let rows = RowBlocks::new(m, Blocking { max, step });
                let sizes: Vec<usize> = (0..rows.count()).map(|block| rows.padded(block)).collect();
                assert!(sizes.iter().all(|&n| n <= max && (n % step == 0 || m == 1)), "{m}: {sizes:?}");
                assert!(sizes[0] - sizes[sizes.len() - 1] <= step, "{m}: {sizes:?}");
                assert_eq!(rows.start(rows.count()), if m == 1 { 1 } else { m.next_multiple_of(step) });
                assert_eq!(rows.rows(0..rows.count()), 0..m);
                assert!(rows.count() == 1 || (rows.count() - 1) * max < m, "{m}: {sizes:?}");
            }
        }
    }
}
