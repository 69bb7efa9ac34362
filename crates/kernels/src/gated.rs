//! Gated unit: the two linear operations, and the activation while their outputs are in cache.

use crate::act::Glu;
use crate::linear::{LinearTask, Operation, Output, pieces};
use crate::packed::UNIT;
use crate::pool::WorkerPool;
use crate::scratch::filled;
use crate::shared::SharedOut;
use crate::table::Kernels;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Sums of the units of a gate and of what it lets through, to be made outputs of a gated unit.
pub(crate) struct GluTask<'a> {
    pub(crate) kind: Glu,
    /// `[rows][pairs of units][2][UNIT]`
    pub(crate) sums: &'a [f32],
    /// Sums of a row.
    pub(crate) stride: usize,
    /// This task alone writes its rows and columns.
    pub(crate) out: Output<'a>,
    pub(crate) rows: Range<usize>,
    /// Those of the pairs; the last ones of the last pair may be missing.
    pub(crate) columns: Range<usize>,
}

impl<'a> GluTask<'a> {
    /// For each row and unit the gates and what they let through, and where the outputs go: as many of a unit as there are.
    #[inline(always)]
    pub(crate) fn rows(
        &self,
    ) -> impl Iterator<Item = impl Iterator<Item = ([&'a [f32; UNIT]; 2], &'a mut [f32])>> {
        self.rows.clone().zip(self.sums.chunks_exact(self.stride)).map(|(row, sums)| {
            // SAFETY: the rows and columns of a task belong to it alone.
            let out = unsafe { self.out.row(row, &self.columns) };
            let units = sums.as_chunks::<UNIT>().0.as_chunks::<2>().0;
            units.iter().zip(out.chunks_mut(UNIT)).map(|([gate, up], out)| ([gate, up], out))
        })
    }
}

/// Outputs of gated units from the sums of all their rows.
pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    (sums, stride): (&[f32], usize),
    kind: Glu,
    out: &mut [f32],
) {
    let rows = sums.len() / stride;
    let width = out.len() / rows.max(1);
    assert!(stride == 2 * width.next_multiple_of(UNIT), "sums of {stride} for rows of {width}");
    assert_eq!((sums.len(), out.len()), (rows * stride, rows * width), "{rows} rows of sums and outputs");
    pool.run_rows(out, width, crate::norm::GRAIN, &|first, out| {
        let present = out.len() / width;
        let sums = &sums[first * stride..(first + present) * stride];
        let to = Output { elements: &SharedOut::new(out), stride: width, first_row: first, first_column: 0 };
        let (rows, columns) = (first..first + present, 0..width);
        (kernels.glu)(&GluTask { kind, sums, stride, out: to, rows, columns });
    });
}

/// Sums of a gate and what it lets through that one worker has at a time; they stay in the second-level cache.
pub(crate) const SUMS: usize = 12 << 10;

impl Operation<'_> {
    /// Sums of gates and of what they let through, a part at a time, then the outputs made of them.
    pub(crate) fn compute_gated(
        &self,
        kernels: &Kernels,
        kind: Glu,
        units: Range<usize>,
        blocks: Range<usize>,
    ) {
        let Operation { x, prepared, w, bias, out, rows, .. } = *self;
        let mut memory = [const { MaybeUninit::uninit() }; SUMS];
        let most = units.len() * UNIT * rows.rows(blocks.clone()).len();
        let memory = filled(&mut memory, most.min(SUMS), 0.0);
        for blocks in pieces(blocks, SUMS / (2 * UNIT * rows.padded(0))) {
            let present = rows.rows(blocks.clone());
            let pairs_together = SUMS / (2 * UNIT * present.len());
            for first in units.clone().step_by(2 * pairs_together) {
                let units = first..(first + 2 * pairs_together).min(units.end);
                let stride = units.len() * UNIT;
                let sums = &mut memory[..present.len() * stride];
                let first_column = first * UNIT;
                let elements = &SharedOut::new(sums);
                let to = Output { elements, stride, first_row: present.start, first_column };
                let blocks = blocks.clone();
                (kernels.linear)(LinearTask { x, prepared, w, bias, out: to, rows, blocks, units });
                let start = first_column / 2;
                let columns = start..(start + stride / 2).min(out.stride);
                (kernels.glu)(&GluTask { kind, sums, stride, out, rows: present.clone(), columns });
            }
        }
    }
}
