//! Linear operation: shapes and partition.

use crate::packed::{PackedLinear, UNIT};
use crate::pool::{WorkerPool, partition};
use crate::shared::SharedOut;
use crate::table::Kernels;
use std::ops::Range;

/// The share of one worker: some rows times some columns.
pub(crate) struct LinearTask<'a> {
    /// `[m, k]`
    pub(crate) x: &'a [f32],
    pub(crate) w: &'a PackedLinear,
    /// `[n]`
    pub(crate) bias: Option<&'a [f32]>,
    /// `[m, n]`; this worker alone writes `rows` times `columns`.
    pub(crate) out: &'a SharedOut<'a, f32>,
    pub(crate) rows: Range<usize>,
    /// Outputs, in whole units; the last may end beyond n.
    pub(crate) columns: Range<usize>,
}

/// Rows that are worth a worker of their own: about one register block.
const ROW_UNIT: usize = 12;

pub(crate) fn run(
    kernels: &Kernels,
    pool: &WorkerPool,
    x: &[f32],
    w: &PackedLinear,
    bias: Option<&[f32]>,
    out: &mut [f32],
) {
    let m = x.len() / w.k();
    assert_eq!(x.len(), m * w.k(), "x is [m, {}]", w.k());
    assert_eq!(out.len(), m * w.n(), "out is [{m}, {}]", w.n());
    assert!(bias.is_none_or(|bias| bias.len() == w.n()), "bias is [{}]", w.n());
    if m == 0 {
        return;
    }
    let out = SharedOut::new(out);
    let row_units = m.div_ceil(ROW_UNIT);
    let grid = Grid::choose(pool.threads(), row_units, w.units());
    let part = |worker: usize| {
        let (i, j) = (worker / grid.columns, worker % grid.columns);
        let rows = partition(row_units, grid.rows, i);
        let rows = rows.start * ROW_UNIT..(rows.end * ROW_UNIT).min(m);
        let units = partition(w.units(), grid.columns, j);
        let columns = units.start * UNIT..units.end * UNIT;
        if !rows.is_empty() && !columns.is_empty() {
            (kernels.linear)(LinearTask { x, w, bias, out: &out, rows, columns });
        }
    };
    pool.run(&part);
}

/// Workers in rows and columns over the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Grid {
    rows: usize,
    columns: usize,
}

impl Grid {
    /// The grid whose busiest worker has least to do; among equals the one with most columns, which reads each weight
    /// on one worker only.
    fn choose(threads: usize, row_units: usize, units: usize) -> Grid {
        let busiest = |grid: &Grid| row_units.div_ceil(grid.rows) * units.div_ceil(grid.columns);
        let grids = (1..=threads).filter(|rows| threads.is_multiple_of(*rows));
        let grids = grids.map(|rows| Grid { rows, columns: threads / rows });
        grids.min_by_key(busiest).expect("one row of workers is always possible")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_outputs_are_cut_by_columns_and_narrow_ones_by_rows_too() {
        assert_eq!(Grid::choose(4, 1, 100), Grid { rows: 1, columns: 4 });
        assert_eq!(Grid::choose(4, 40, 1), Grid { rows: 4, columns: 1 });
        assert_eq!(Grid::choose(4, 40, 2), Grid { rows: 2, columns: 2 });
        assert_eq!(Grid::choose(1, 3, 3), Grid { rows: 1, columns: 1 });
    }
}
