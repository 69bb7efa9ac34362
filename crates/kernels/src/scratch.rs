//! Memory of linear operations.

use crate::buffer::{Buffer, OutOfMemory};
use std::mem::MaybeUninit;

/// Memory in which a linear operation arranges its input, once for all workers.
#[derive(Debug)]
pub struct LinearScratch {
    pub(crate) words: Words,
    /// `[m, k]`: inputs in the order of the columns of weights.
    pub(crate) gathered: Buffer<f32>,
}

/// Memory for words of arranged input.
#[derive(Debug)]
pub(crate) struct Words(Buffer<u32>);

/// What rows are padded to at most: the rows of a matrix tile.
pub(crate) const MAX_STEP: usize = 16;

/// What K is padded to at most: the largest group of a quantised format.
const MAX_GROUP: usize = 128;

impl LinearScratch {
    /// Memory for operations of up to `max_rows` rows of up to `max_k` inputs.
    ///
    /// # Errors
    ///
    /// When the system does not have the memory.
    pub fn new(max_rows: usize, max_k: usize) -> Result<Self, OutOfMemory> {
        let words = Words(Buffer::zeroed(words(max_rows, max_k))?);
        Ok(LinearScratch { words, gathered: Buffer::zeroed(0)? })
    }

    /// The same, also for weights whose columns have the inputs in an order of their own.
    ///
    /// # Errors
    ///
    /// When the system does not have the memory.
    pub fn for_orders(max_rows: usize, max_k: usize) -> Result<Self, OutOfMemory> {
        let gathered = Buffer::zeroed(words(max_rows, max_k))?;
        Ok(LinearScratch { gathered, ..LinearScratch::new(max_rows, max_k)? })
    }

    /// Bytes that [`new`](Self::new) reserves, half of those of [`for_orders`](Self::for_orders); they become resident as they
    /// are first used.
    pub fn planned_bytes(max_rows: usize, max_k: usize) -> u64 {
        4 * words(max_rows, max_k) as u64
    }

    /// Bytes reserved.
    pub fn bytes(&self) -> u64 {
        4 * (self.words.0.len() + self.gathered.len()) as u64
    }

    /// Words for `m` rows of `k` inputs.
    pub(crate) fn needed(m: usize, k: usize) -> usize {
        words(m, k)
    }
}

impl Words {
    /// The memory for `m` rows of `k` inputs: a word for each, rows and inputs padded, which is room enough for smaller
    /// elements with what belongs to their groups.
    ///
    /// # Panics
    ///
    /// When this is more than was reserved.
    pub(crate) fn get_mut(&mut self, m: usize, k: usize) -> &mut [u32] {
        let needed = words(m, k);
        assert!(needed <= self.0.len(), "the scratch memory is too small for {m} rows of {k} inputs");
        &mut self.0[..needed]
    }

    /// What was written to that memory.
    pub(crate) fn get(&self, m: usize, k: usize) -> &[u32] {
        &self.0[..words(m, k)]
    }
}

/// Words for `rows` of `k` inputs; saturates, so that an absurd size is an allocation that fails.
fn words(rows: usize, k: usize) -> usize {
    let pad = |n: usize, to: usize| n.checked_next_multiple_of(to).unwrap_or(usize::MAX);
    pad(rows, MAX_STEP).saturating_mul(pad(k, MAX_GROUP))
}

/// The first `count` elements of `memory`, set to `value`; the rest stays untouched.
#[inline(always)]
pub(crate) fn filled<T: Copy>(memory: &mut [MaybeUninit<T>], count: usize, value: T) -> &mut [T] {
    let memory = &mut memory[..count];
    for element in &mut *memory {
        element.write(value);
    }
    // SAFETY: every element was written.
    unsafe { memory.assume_init_mut() }
}
