//! A matrix in blocks in the order of files.

use super::BlockFormat;
use super::stored::Block;
use crate::pack_error::PackError;

/// A view of a matrix `[n, k]` in blocks, row after row, as GGUF files store it.
#[derive(Clone, Copy, Debug)]
pub struct BlockRef<'a> {
    n: usize,
    k: usize,
    format: BlockFormat,
    bytes: &'a [u8],
}

impl<'a> BlockRef<'a> {
    /// A view of `bytes` as a matrix `[n, k]`.
    ///
    /// # Errors
    ///
    /// Bytes of another length than `n` and `k` call for; a `k` that is no whole number of blocks.
    pub fn new(n: usize, k: usize, format: BlockFormat, bytes: &'a [u8]) -> Result<Self, PackError> {
        let parts = |what, found| PackError::Parts { what, found, n, k };
        if !k.is_multiple_of(format.block()) {
            return Err(parts("inputs of a whole number of blocks", k));
        }
        let needed = (k / format.block()).checked_mul(n).and_then(|b| b.checked_mul(format.stored_bytes()));
        if needed != Some(bytes.len()) {
            return Err(parts("bytes of blocks", bytes.len()));
        }
        Ok(BlockRef { n, k, format, bytes })
    }

    /// Outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Inputs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The format.
    pub fn format(&self) -> BlockFormat {
        self.format
    }

    /// Reads block `index` of `row`.
    pub(crate) fn read(&self, row: usize, index: usize, to: &mut Block) {
        let size = self.format.stored_bytes();
        let at = (row * (self.k / self.format.block()) + index) * size;
        to.read(self.format, &self.bytes[at..at + size]);
    }

    /// Widens row `row` to `out`, `[k]`, as the format defines its weights.
    ///
    /// # Panics
    ///
    /// When there is no such row or `out` has another length.
    pub fn widen_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.n, "row {row} of {}", self.n);
        assert_eq!(out.len(), self.k, "a row has {} elements", self.k);
        let build = self.format.build();
        let mut block = Block::default();
        for (index, out) in out.chunks_exact_mut(build.block).enumerate() {
            self.read(row, index, &mut block);
            for (step, out) in out.iter_mut().enumerate() {
                let (factor, addend) = block.group(self.format, step / build.group);
                let level = i16::from(block.codes[step]) - i16::from(build.zero);
                *out = f32::from(level) * factor + addend;
            }
        }
    }
}
