//! Gated unit: the two linear operations, and the activation while their outputs are in cache.

use crate::act::Glu;
use crate::linear::{LinearTask, Output, pieces, prepare, share};
use crate::packed::{PackedLinear, UNIT};
use crate::pool::WorkerPool;
use crate::scratch::{LinearScratch, filled};
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

/// Sums of a gate and what it lets through that one worker has at a time; they stay in the second-level cache.
const SUMS: usize = 12 << 10;

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    (w, kind): (&PackedLinear, Glu),
    bias: Option<&[f32]>,
    scratch: &mut LinearScratch,
    out: &mut [f32],
) {
    let width = w.gated().expect("the matrices of a gated unit");
    let Some((rows, prepared)) = prepare(kernels, pool, x, w, bias, scratch) else { return };
    assert_eq!(out.len(), rows.len() * width, "out is [{}, {width}]", rows.len());
    let out = Output { elements: &SharedOut::new(out), stride: width, first_row: 0, first_column: 0 };
    share(pool, w, rows, 2 * UNIT, &|units, blocks| {
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
                let columns = start..(start + stride / 2).min(width);
                (kernels.glu)(&GluTask { kind, sums, stride, out, rows: present.clone(), columns });
            }
        }
    });
}
