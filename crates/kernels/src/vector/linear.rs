//! Linear operation: cache blocks around the register blocks.
//!
//! K is cut at multiples of [`K_BLOCK`]. The sum of a block starts at 0 and is added to the output, which starts at the
//! bias, so an output is `((bias + s0) + s1) + …` for every number of rows.

use super::dot::{Dot, Sums, accumulate};
use super::level::{Level, Multiply};
use super::simd::Simd;
use crate::linear::{K_BLOCK, LinearTask};
use crate::packed::{PANEL, Panels, UNIT};
use std::marker::PhantomData;
use std::ops::Range;

/// Register blocks of rows taken through the weights together: their words of a K block stay in the second-level cache.
const BLOCKS: usize = 16;

/// Units of outputs whose weights of a K block stay in the second-level cache while the blocks of rows pass.
const UNITS: usize = 4;

/// A register block: some rows times one unit over one K block.
pub(crate) struct Block<'a> {
    pub(crate) task: &'a LinearTask<'a>,
    /// Words of the rows, from the first of this K block: `[words][R]`.
    pub(crate) words: *const u32,
    /// The rows that there are, at most R.
    pub(crate) rows: Range<usize>,
    pub(crate) unit: usize,
    pub(crate) k: Range<usize>,
}

/// Runs `K` over the whole task; a row has `words(k)` words for its first k inputs.
pub(crate) fn drive<L: Level, K: Multiply<L::Simd>>(task: &LinearTask<'_>, words: impl Fn(usize) -> usize) {
    let k = task.w.k();
    for first in task.blocks.clone().step_by(BLOCKS) {
        let blocks = first..(first + BLOCKS).min(task.blocks.end);
        // A single block of rows reads the weights in the order of memory.
        let units_together = if blocks.len() == 1 { 1 } else { UNITS };
        for first in task.units.clone().step_by(units_together) {
            let units = first..(first + units_together).min(task.units.end);
            for k_start in (0..k).step_by(K_BLOCK) {
                let ks = k_start..(k_start + K_BLOCK).min(k);
                for block in blocks.clone() {
                    let padded = task.rows.padded(block);
                    let start = task.rows.start(block) * words(k) + words(k_start) * padded;
                    let words = task.prepared[start..start + words(ks.len()) * padded].as_ptr();
                    let rows = task.rows.rows(block..block + 1);
                    for unit in units.clone() {
                        let block = Block { task, words, rows: rows.clone(), unit, k: ks.clone() };
                        // SAFETY: a level is named only in the table that was handed out after its features were
                        // detected; the words of the rows were sliced above and the unit is one of the task's.
                        unsafe { L::multiply::<K>(padded, &block) };
                    }
                }
            }
        }
    }
}

/// Weights in floats: K blocks are summed by `D` and added to the output.
pub(crate) struct FloatSums<D>(PhantomData<D>);

impl<S: Simd, D: Dot<Sum = S::F> + From<S>> Multiply<S> for FloatSums<D> {
    #[inline(always)]
    unsafe fn run<const R: usize>(s: S, block: &Block<'_>) {
        // Few rows take more registers of outputs, so that the latency of the multiply-adds is hidden.
        let registers = UNIT / S::LANES;
        for v in (0..registers).step_by(if R <= 2 { registers } else { 2 }) {
            let column = block.unit * UNIT + v * S::LANES;
            // SAFETY: as the caller promises.
            unsafe {
                if R <= 2 && registers == 4 {
                    block.sum_floats::<S, D, R, 4>(s, column);
                } else {
                    block.sum_floats::<S, D, R, 2>(s, column);
                }
            }
        }
    }
}

impl Block<'_> {
    /// Adds the products of R rows with V registers of outputs, from `column` on, to the output.
    ///
    /// # Safety
    ///
    /// As [`Multiply::run`]; the outputs are within the unit.
    #[inline(always)]
    unsafe fn sum_floats<S, D, const R: usize, const V: usize>(&self, s: S, column: usize)
    where
        S: Simd,
        D: Dot<Sum = S::F> + From<S>,
    {
        let d = D::from(s);
        let (start, panel_bytes) = floats(self.task);
        let weights = std::array::from_fn(|v| {
            let column = column + v * S::LANES;
            // K_BLOCK is even, so a K block starts with a whole load.
            let offset = column / PANEL * panel_bytes
                + self.k.start / D::STEPS * PANEL * D::CELL
                + column % PANEL * D::CELL;
            // SAFETY: the first load of the K block of a column in the panels.
            unsafe { start.add(offset) }
        });
        let loads = self.k.len().div_ceil(D::STEPS);
        let mut sums: Sums<S::F, R, V> = [[d.zero(); V]; R];
        // SAFETY: a panel holds all loads of its columns; the words are as the caller promises.
        unsafe { accumulate(d, self.words, weights, PANEL * D::CELL, loads, &mut sums) };
        let before: Sums<S::F, R, V> = self.before(s, column);
        for (sums, before) in sums.iter_mut().zip(before) {
            sums.iter_mut().zip(before).for_each(|(sum, before)| *sum = s.add(before, *sum));
        }
        self.put(s, column, &sums);
    }

    /// What the K blocks before left in the output; the bias before the first.
    #[inline(always)]
    pub(super) fn before<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        column: usize,
    ) -> Sums<S::F, R, V> {
        let n = self.task.w.n();
        let mut sums = [[s.splat(0.0); V]; R];
        for (row, sums) in self.rows.clone().zip(&mut sums) {
            for (v, sum) in sums.iter_mut().enumerate() {
                let start = (column + v * S::LANES).min(n);
                let end = (start + S::LANES).min(n);
                *sum = match (self.k.start, self.task.bias) {
                    (0, Some(bias)) => s.get(&bias[..end], start),
                    (0, None) => s.splat(0.0),
                    // SAFETY: the rows and outputs of a task are written by it alone.
                    _ => s.get(unsafe { self.task.out.slice(row * n + start..row * n + end) }, 0),
                };
            }
        }
        sums
    }

    /// Writes sums to the output.
    #[inline(always)]
    pub(super) fn put<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        column: usize,
        sums: &Sums<S::F, R, V>,
    ) {
        let n = self.task.w.n();
        for (row, sums) in self.rows.clone().zip(sums) {
            for (v, &sum) in sums.iter().enumerate() {
                let start = (column + v * S::LANES).min(n);
                let end = (start + S::LANES).min(n);
                // SAFETY: the rows and outputs of a task are written by it alone.
                s.put(unsafe { self.task.out.slice(row * n + start..row * n + end) }, 0, sum);
            }
        }
    }
}

/// Start of the panels of a float format and the bytes of one.
#[inline(always)]
fn floats(task: &LinearTask<'_>) -> (*const u8, usize) {
    let (start, bytes) = match task.w.panels() {
        Panels::F32(w) => (w.as_ptr().cast(), size_of_val(w)),
        Panels::Bf16(w) => (w.as_ptr().cast(), size_of_val(w)),
        Panels::F16(w) => (w.as_ptr().cast(), size_of_val(w)),
        Panels::Quantized(_) => unreachable!("a quantised format has other kernels"),
    };
    (start, bytes / (task.w.units() * (UNIT / PANEL)))
}
