//! Linear operation: what is prepared, what is shared out.

use crate::packed::{PackedLinear, UNIT};
use crate::pool::WorkerPool;
use crate::rows::RowBlocks;
use crate::scratch::LinearScratch;
use crate::shared::SharedOut;
use crate::table::Kernels;
use std::ops::Range;

/// Inputs summed at a time: sums start anew at each multiple and are added to the output, in an order that thus depends
/// on K alone. A multiple of every group.
pub(crate) const K_BLOCK: usize = 512;

/// Part of the input to arrange for [`LinearTask`]: some inputs of the rows of one block. Where and how they are written
/// is between the two functions of an instruction set.
pub(crate) struct PrepareTask<'a> {
    /// `[m, k]`
    pub(crate) x: &'a [f32],
    /// The weights that the rows will meet.
    pub(crate) w: &'a PackedLinear,
    pub(crate) rows: RowBlocks,
    pub(crate) block: usize,
    /// One K block, the last of which ends at k.
    pub(crate) k: Range<usize>,
    /// A word for each element of `[m, k]`, m padded to a multiple of 16 and k of 128; this task alone writes what belongs
    /// to its block and inputs.
    pub(crate) out: &'a SharedOut<'a, u32>,
}

/// Some rows times some outputs.
pub(crate) struct LinearTask<'a> {
    /// `[m, k]`
    pub(crate) x: &'a [f32],
    /// `x` as the tasks of preparation arranged it.
    pub(crate) prepared: &'a [u32],
    pub(crate) w: &'a PackedLinear,
    /// `[n]`
    pub(crate) bias: Option<&'a [f32]>,
    /// `[m, n]`; this task alone writes its rows times its outputs.
    pub(crate) out: &'a SharedOut<'a, f32>,
    pub(crate) rows: RowBlocks,
    /// Blocks of `rows`.
    pub(crate) blocks: Range<usize>,
    /// Units of outputs; the last may end beyond n.
    pub(crate) units: Range<usize>,
}

/// Elements that one worker arranges at least: a few microseconds of work.
const PREPARE_GRAIN: usize = 16 << 10;

/// Products that one worker computes at least: about ten microseconds of work.
const GRAIN: usize = 1 << 20;

/// Products that take as long as reading a weight from memory.
const READ: usize = 16;

/// Pieces per worker below which rows are shared out too.
const PIECES: usize = 4;

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &PackedLinear,
    bias: Option<&[f32]>,
    scratch: &mut LinearScratch,
    out: &mut [f32],
) {
    let m = x.len() / w.k();
    assert_eq!(x.len(), m * w.k(), "x is [m, {}]", w.k());
    assert_eq!(out.len(), m * w.n(), "out is [{m}, {}]", w.n());
    assert!(bias.is_none_or(|bias| bias.len() == w.n()), "bias is [{}]", w.n());
    if m == 0 {
        return;
    }
    let rows = RowBlocks::new(m, (kernels.blocking)(w.format(), m));
    let prepared = scratch.words_mut(m, w.k());
    prepare(kernels, pool, x, w, rows, prepared);
    let out = SharedOut::new(out);
    let units = w.units();
    // Few outputs for many workers: cut the rows as well.
    let row_parts = (PIECES * pool.threads()).div_ceil(units).min(rows.count());
    let row_parts = if pool.threads() == 1 { 1 } else { row_parts };
    let products = UNIT * w.k() * (m / row_parts + READ);
    pool.share(units * row_parts, GRAIN.div_ceil(products), &|items| {
        let task = |units, part| {
            let blocks = crate::partition(rows.count(), row_parts, part);
            (kernels.linear)(LinearTask { x, prepared, w, bias, out: &out, rows, blocks, units });
        };
        if row_parts == 1 {
            return task(items, 0);
        }
        for item in items {
            let unit = item / row_parts;
            task(unit..unit + 1, item % row_parts);
        }
    });
}

/// Arranges the whole input, on the calling thread alone if it is small.
fn prepare(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &PackedLinear,
    rows: RowBlocks,
    out: &mut [u32],
) {
    let parts = w.k().div_ceil(K_BLOCK);
    let grain = PREPARE_GRAIN.div_ceil(rows.padded(0) * K_BLOCK.min(w.k()));
    let out = SharedOut::new(out);
    pool.share(rows.count() * parts, grain, &|items| {
        for item in items {
            let start = item % parts * K_BLOCK;
            let k = start..(start + K_BLOCK).min(w.k());
            (kernels.prepare)(PrepareTask { x, w, rows, block: item / parts, k, out: &out });
        }
    });
}
