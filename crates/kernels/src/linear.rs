//! Linear operation: what is prepared, what is shared out.

use crate::act::Glu;
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
    pub(crate) out: Output<'a>,
    pub(crate) rows: RowBlocks,
    /// Blocks of `rows`.
    pub(crate) blocks: Range<usize>,
    /// Units of outputs; the last may end beyond n.
    pub(crate) units: Range<usize>,
}

/// Where outputs go: those of row r and column c to `(r - first_row) * stride + c - first_column`, where the first column may
/// be negative, as a number that wraps. A task alone writes its rows times its outputs.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    pub(crate) elements: &'a SharedOut<'a, f32>,
    pub(crate) stride: usize,
    pub(crate) first_row: usize,
    pub(crate) first_column: usize,
}

impl<'a> Output<'a> {
    /// Where `columns` of `row` go.
    #[inline(always)]
    pub(crate) fn range(&self, row: usize, columns: &Range<usize>) -> Range<usize> {
        let start = (row - self.first_row) * self.stride + columns.start;
        let start = start.wrapping_sub(self.first_column);
        start..start + columns.len()
    }

    /// `columns` of `row`.
    ///
    /// # Safety
    ///
    /// As [`SharedOut::slice`].
    #[inline(always)]
    pub(crate) unsafe fn row(&self, row: usize, columns: &Range<usize>) -> &'a mut [f32] {
        // SAFETY: as the caller promises.
        unsafe { self.elements.slice(self.range(row, columns)) }
    }
}

/// Elements that one worker arranges at least: a few microseconds of work.
pub(crate) const PREPARE_GRAIN: usize = 16 << 10;

/// Products that one worker computes at least: about ten microseconds of work.
pub(crate) const GRAIN: usize = 1 << 20;

/// Products that take as long as reading a weight from memory.
pub(crate) const READ: usize = 16;

/// Pieces per worker below which rows are shared out too.
const PIECES: usize = 4;

/// One linear operation, or gated unit, whose input is arranged: what its tasks have in common.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    /// `[m, k]`
    pub(crate) x: &'a [f32],
    /// `x` as the tasks of preparation arranged it.
    pub(crate) prepared: &'a [u32],
    pub(crate) w: &'a PackedLinear,
    /// `[n]`
    pub(crate) bias: Option<&'a [f32]>,
    /// The kind of a gated unit.
    pub(crate) glu: Option<Glu>,
    pub(crate) out: Output<'a>,
    pub(crate) rows: RowBlocks,
}

impl Operation<'_> {
    /// Computes `units` of outputs of `blocks` of rows; pairs of units of a gated unit.
    pub(crate) fn compute(&self, kernels: &Kernels, units: Range<usize>, blocks: Range<usize>) {
        if let Some(kind) = self.glu {
            return self.compute_gated(kernels, kind, units, blocks);
        }
        let Operation { x, prepared, w, bias, out, rows, .. } = *self;
        (kernels.linear)(LinearTask { x, prepared, w, bias, out, rows, blocks, units });
    }
}

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    (w, glu): (&PackedLinear, Option<Glu>),
    bias: Option<&[f32]>,
    scratch: &mut LinearScratch,
    out: &mut [f32],
) {
    let columns = glu.map_or(w.n(), |_| w.gated().expect("the matrices of a gated unit"));
    let rows = x.len() / w.k();
    assert_eq!(out.len(), rows * columns, "out is [{rows}, {columns}]");
    run_columns(kernels, pool, x, (w, glu), bias, scratch, (out, columns));
}

/// The same where a row of the output, of which this is the first part, has `stride` elements.
pub(crate) fn run_columns(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    (w, glu): (&PackedLinear, Option<Glu>),
    bias: Option<&[f32]>,
    scratch: &mut LinearScratch,
    (out, stride): (&mut [f32], usize),
) {
    let Some((rows, x, prepared)) = prepare(kernels, pool, x, w, bias, scratch) else { return };
    let out = Output { elements: &SharedOut::new(out), stride, first_row: 0, first_column: 0 };
    let operation = Operation { x, prepared, w, bias, glu, out, rows };
    let piece = if glu.is_some() { 2 * UNIT } else { UNIT };
    share(pool, w, rows, piece, &|units, blocks| operation.compute(kernels, units, blocks));
}

/// `blocks` in as few pieces of about equal length as hold `most` each.
pub(crate) fn pieces(blocks: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let count = blocks.len().div_ceil(most);
    (0..count).map(move |piece| {
        let piece = crate::partition(blocks.len(), count, piece);
        blocks.start + piece.start..blocks.start + piece.end
    })
}

/// In how many parts the rows of an operation are shared out whose outputs are in `pieces`.
pub(crate) fn row_parts(pool: &WorkerPool, pieces: usize, rows: RowBlocks) -> usize {
    let wanted = (PIECES * pool.threads()).div_ceil(pieces);
    if pool.threads() == 1 { 1 } else { wanted.min(rows.count()) }
}

/// Shares out the outputs of `w`, `piece` of them at least at a time, and the rows where few outputs meet many workers, to
/// `task`: units of outputs and blocks of rows.
pub(crate) fn share(
    pool: &WorkerPool,
    w: &PackedLinear,
    rows: RowBlocks,
    piece: usize,
    task: &(dyn Fn(Range<usize>, Range<usize>) + Sync),
) {
    let units = piece / UNIT;
    let pieces = w.units() / units;
    let row_parts = row_parts(pool, pieces, rows);
    let products = piece * w.k() * (rows.len() / row_parts + READ);
    pool.share(pieces * row_parts, GRAIN.div_ceil(products), &|items| {
        if row_parts == 1 {
            return task(items.start * units..items.end * units, 0..rows.count());
        }
        for item in items {
            let first = item / row_parts * units;
            task(first..first + units, crate::partition(rows.count(), row_parts, item % row_parts));
        }
    });
}

/// The rows of `x` with their inputs in the order of the columns of `w`, in `to` where that is another.
pub(crate) fn in_order<'a>(
    pool: &WorkerPool,
    x: &'a [f32],
    w: &PackedLinear,
    to: &'a mut [f32],
) -> &'a [f32] {
    let Some(order) = w.order() else { return x };
    let k = w.k();
    assert!(x.len() <= to.len(), "the scratch memory is not for weights in an order of their own");
    let to = &mut to[..x.len()];
    let out = SharedOut::new(to);
    pool.share(x.len() / k, PREPARE_GRAIN.div_ceil(k), &|rows| {
        for row in rows {
            // SAFETY: each row belongs to one worker.
            let to = unsafe { out.slice(row * k..(row + 1) * k) };
            let x = &x[row * k..(row + 1) * k];
            to.iter_mut().zip(order).for_each(|(to, &input)| *to = x[input as usize]);
        }
    });
    to
}

/// The rows, their inputs in the order of the columns of `w`, and those arranged, on the calling thread alone if there is little
/// of them. None where there are no rows.
pub(crate) fn prepare<'a>(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &'a [f32],
    w: &PackedLinear,
    bias: Option<&[f32]>,
    scratch: &'a mut LinearScratch,
) -> Option<(RowBlocks, &'a [f32], &'a [u32])> {
    let m = x.len() / w.k();
    assert_eq!(x.len(), m * w.k(), "x is [m, {}]", w.k());
    assert!(bias.is_none_or(|bias| bias.len() == w.n()), "bias is [{}]", w.n());
    if m == 0 {
        return None;
    }
    let prepared = scratch.words.get_mut(m, w.k());
    let x = in_order(pool, x, w, &mut scratch.gathered);
    Some((arrange(kernels, pool, x, w, prepared), x, prepared))
}

/// Arranges the input, of at least one row, in `prepared`.
pub(crate) fn arrange(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &PackedLinear,
    prepared: &mut [u32],
) -> RowBlocks {
    let m = x.len() / w.k();
    let rows = RowBlocks::new(m, (kernels.blocking)(w.format(), m));
    let parts = w.k().div_ceil(K_BLOCK);
    let grain = PREPARE_GRAIN.div_ceil(rows.padded(0) * K_BLOCK.min(w.k()));
    let out = SharedOut::new(prepared);
    pool.share(rows.count() * parts, grain, &|items| {
        for item in items {
            let start = item % parts * K_BLOCK;
            let k = start..(start + K_BLOCK).min(w.k());
            (kernels.prepare)(PrepareTask { x, w, rows, block: item / parts, k, out: &out });
        }
    });
    rows
}
