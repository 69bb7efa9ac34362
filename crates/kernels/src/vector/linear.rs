//! Linear operation: cache blocks around the inner loop.
//!
//! K is cut at multiples of [`K_BLOCK`]. The sum of a block starts at 0 and is added to the output, which starts at the
//! bias, so an output is `((bias + s0) + s1) + …` for every number of rows. Rows are taken [`ROWS`] at a time, transposed
//! into scratch memory that stays in the second-level cache, while the weights stream past once.

use super::simd::{Simd, Stored};
use super::tile::{Left, Right, Sums, Whole, accumulate};
use crate::linear::LinearTask;
use crate::packed::{PANEL, Panels, UNIT};
use std::mem::MaybeUninit;
use std::ops::Range;

/// Steps of K summed in registers: a slice of a panel of bf16 is 16 KiB.
const K_BLOCK: usize = 512;

/// Rows taken through the weights together; a multiple of every register block.
const ROWS: usize = 96;

/// Columns taken through all K blocks in scratch before the next ones.
const COLUMNS: usize = 8 * PANEL;

/// Elements of scratch memory: ROWS by K_BLOCK, 192 KiB.
const SCRATCH: usize = ROWS * K_BLOCK;

/// How an instruction set cuts the output into register blocks.
pub(crate) trait Blocking: Simd {
    /// Most rows of a block.
    const MAX_ROWS: usize;

    /// Rows of the smallest block that takes `rows`, at most MAX_ROWS.
    fn block_rows(rows: usize) -> usize;

    /// Computes a block of [`block_rows`](Self::block_rows) rows over `columns`, whole units.
    ///
    /// # Safety
    ///
    /// As [`Block::compute`].
    unsafe fn block<T: Stored<Self>>(self, block: &Block<'_, T>, columns: Range<usize>);
}

/// Some rows times one K block.
pub(crate) struct Block<'a, T> {
    task: &'a LinearTask<'a>,
    /// All panels.
    weights: &'a [T],
    /// Elements of a panel.
    panel: usize,
    /// Transposed rows: `[k][R]`.
    left: *const f32,
    /// Rows of the output; at most R.
    pub(crate) rows: Range<usize>,
    /// Steps of K.
    k: Range<usize>,
}

#[inline(always)]
pub(crate) fn linear<S: Blocking>(s: S, task: LinearTask<'_>) {
    match task.w.panels() {
        Panels::F32(weights) => blocks(s, &task, weights),
        Panels::Bf16(weights) => blocks(s, &task, weights),
        Panels::F16(weights) => blocks(s, &task, weights),
        Panels::Quantized(_) => (crate::scalar::KERNELS.linear)(task),
    }
}

#[inline(always)]
fn blocks<S: Blocking, T: Stored<S>>(s: S, task: &LinearTask<'_>, weights: &[T]) {
    let k = task.w.k();
    let columns = task.columns.clone();
    let mut scratch = [const { MaybeUninit::<f32>::uninit() }; SCRATCH];
    let panel = weights.len() / (task.w.units() * (UNIT / PANEL));
    for first in task.rows.clone().step_by(ROWS) {
        let rows = first..(first + ROWS).min(task.rows.end);
        let padded = padded_rows::<S>(rows.len());
        // As many K blocks at a time as fit: all of them for a few rows, one for many.
        let slice = (SCRATCH / (padded * K_BLOCK)).max(1) * K_BLOCK;
        for k_first in (0..k).step_by(slice) {
            let ks = k_first..(k_first + slice).min(k);
            transpose::<S>(task, &rows, &ks, &mut scratch);
            for c in columns.clone().step_by(COLUMNS) {
                let columns = c..(c + COLUMNS).min(columns.end);
                for k_start in ks.clone().step_by(K_BLOCK) {
                    let k = k_start..(k_start + K_BLOCK).min(ks.end);
                    let mut left = (k_start - ks.start) * padded;
                    for row in rows.clone().step_by(S::MAX_ROWS) {
                        let rows = row..(row + S::MAX_ROWS).min(rows.end);
                        let block_rows = S::block_rows(rows.len());
                        let start = scratch[left..left + k.len() * block_rows].as_ptr().cast();
                        left += k.len() * block_rows;
                        let block = Block { task, weights, panel, left: start, rows, k: k.clone() };
                        // SAFETY: `transpose` wrote the rows of this block at `start`; the columns are those of the
                        // task, whose units are whole.
                        unsafe { s.block(&block, columns.clone()) };
                    }
                }
            }
        }
    }
}

/// Rows in scratch memory, the padding of the last block included.
#[inline(always)]
fn padded_rows<S: Blocking>(rows: usize) -> usize {
    let rest = rows % S::MAX_ROWS;
    rows - rest + if rest == 0 { 0 } else { S::block_rows(rest) }
}

/// Writes steps `ks` of `rows` as `[K block][row block][k][R]`; rows that are lacking in the last block are 0.
#[inline(always)]
fn transpose<S: Blocking>(
    task: &LinearTask<'_>,
    rows: &Range<usize>,
    ks: &Range<usize>,
    scratch: &mut [MaybeUninit<f32>; SCRATCH],
) {
    let mut at = 0;
    for k_start in ks.clone().step_by(K_BLOCK) {
        let k = k_start..(k_start + K_BLOCK).min(ks.end);
        for row in rows.clone().step_by(S::MAX_ROWS) {
            let present = S::MAX_ROWS.min(rows.end - row);
            let block_rows = S::block_rows(present);
            let to = &mut scratch[at..at + k.len() * block_rows];
            at += to.len();
            for r in 0..block_rows {
                let to = to[r..].iter_mut().step_by(block_rows);
                if r < present {
                    let start = (row + r) * task.w.k();
                    let from = &task.x[start + k.start..start + k.end];
                    to.zip(from).for_each(|(to, &x)| _ = to.write(x));
                } else {
                    to.for_each(|to| _ = to.write(0.0));
                }
            }
        }
    }
}

impl<T: Copy> Block<'_, T> {
    /// Adds the products of R rows to as many columns as V registers take from `columns`, and returns the columns that
    /// are left; takes none when fewer are left.
    ///
    /// # Safety
    ///
    /// `left` is readable for `[k][R]`, `columns` are in the panels.
    #[inline(always)]
    pub(crate) unsafe fn compute<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        mut columns: Range<usize>,
    ) -> Range<usize>
    where
        T: Stored<S>,
    {
        // SAFETY: an offset below R of the first step.
        let left = Left { rows: std::array::from_fn(|r| unsafe { self.left.add(r) }), step: R };
        while columns.len() >= V * S::LANES {
            let starts = std::array::from_fn(|v| self.weight_index::<S>(columns.start + v * S::LANES));
            let right =
                Right { columns: starts.map(|start| self.weights[start..].as_ptr()), step: PANEL * T::STEP };
            let mut sums: Sums<S, R, V> = [[s.splat(0.0); V]; R];
            // SAFETY: as the caller promises; a panel holds all steps of its columns.
            unsafe { accumulate(s, left, right, Whole, self.k.len(), &mut sums) };
            self.add(s, columns.start, &sums);
            columns.start += V * S::LANES;
        }
        columns
    }

    /// Index of the first step of this K block in column `column`.
    #[inline(always)]
    fn weight_index<S: Simd>(&self, column: usize) -> usize
    where
        T: Stored<S>,
    {
        // K_BLOCK is even, so a K block starts with a whole pair.
        column / PANEL * self.panel + self.k.start * PANEL + column % PANEL * T::STEP
    }

    /// Adds sums to the output, or to the bias in the first K block.
    #[inline(always)]
    fn add<S: Simd, const R: usize, const V: usize>(&self, s: S, column: usize, sums: &Sums<S, R, V>) {
        let n = self.task.w.n();
        for (row, sums) in self.rows.clone().zip(sums) {
            for (v, &sum) in sums.iter().enumerate() {
                let start = column + v * S::LANES;
                if start >= n {
                    break;
                }
                let end = (start + S::LANES).min(n);
                // SAFETY: the rows and columns of a task belong to one worker.
                let out = unsafe { self.task.out.slice(row * n + start..row * n + end) };
                let before = match (self.k.start, self.task.bias) {
                    (0, Some(bias)) => s.get(&bias[..end], start),
                    (0, None) => s.splat(0.0),
                    _ => s.get(out, 0),
                };
                s.put(out, 0, s.add(before, sum));
            }
        }
    }
}
