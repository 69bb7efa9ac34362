//! Panels of floats.
//!
//! ```text
//! f32, f16:  [n / PANEL][k][PANEL]
//! bf16:      [n / PANEL][k / 2][PANEL][2]      k rounded up to even, padded with 0
//! ```
//!
//! The pairs of bf16 are what VDPBF16PS and AMX tiles read (an AMX tile of B is 16 rows of pairs by 16 outputs), and they
//! widen to f32 with one shift (even k) or one mask (odd k). Rows beyond n are 0.

use super::PANEL;
use crate::round::to_bf16;
use crate::source::Weights;
use half::{bf16, f16};
use std::ops::Range;

/// A format of floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FloatFormat {
    F32,
    Bf16,
    F16,
}

impl FloatFormat {
    /// Bytes of one weight.
    pub(crate) fn bytes(self) -> usize {
        match self {
            FloatFormat::F32 => 4,
            FloatFormat::Bf16 | FloatFormat::F16 => 2,
        }
    }

    /// Weights along K that are stored together.
    fn step(self) -> usize {
        match self {
            FloatFormat::Bf16 => 2,
            FloatFormat::F32 | FloatFormat::F16 => 1,
        }
    }

    /// Index in a panel of the weight of row `column` of the panel at step `step`.
    pub(crate) fn cell(self, column: usize, step: usize) -> usize {
        let group = self.step();
        (step / group * PANEL + column) * group + step % group
    }

    /// Bytes of one panel of K = `k`.
    pub(crate) fn panel_bytes(self, k: usize) -> usize {
        k.next_multiple_of(self.step()) * PANEL * self.bytes()
    }
}

/// Steps of K packed for all rows of a panel before the next ones, so that what is written stays in cache.
const PACK_STEPS: usize = 128;

/// Fills the panel whose first row is `first` of the stacked matrices, each `[rows, k]`.
pub(crate) fn pack_panel(
    parts: &[(Weights<'_>, usize)],
    k: usize,
    format: FloatFormat,
    first: usize,
    to: &mut [u8],
) {
    for step in (0..k).step_by(PACK_STEPS) {
        let steps = step..(step + PACK_STEPS).min(k);
        let mut part_start = 0;
        for &(weights, rows) in parts {
            let from = first.max(part_start);
            let until = (first + PANEL).min(part_start + rows);
            for row in from..until.max(from) {
                let start = (row - part_start) * k;
                let elements = start + steps.start..start + steps.end;
                let cell = |i: usize| format.cell(row - first, steps.start + i);
                pack_row(weights, elements, format, to, cell);
            }
            part_start += rows;
        }
    }
}

/// Writes some elements of a row of the matrix; element `i` of them goes to `cell(i)` of the panel.
fn pack_row(
    weights: Weights<'_>,
    elements: Range<usize>,
    format: FloatFormat,
    to: &mut [u8],
    cell: impl Fn(usize) -> usize,
) {
    use FloatFormat as To;
    match (weights, format) {
        (Weights::F32(w), To::F32) => scatter(&w[elements], to, cell, f32::to_ne_bytes),
        (Weights::Bf16(w), To::F32) => scatter(&w[elements], to, cell, |x| x.to_f32().to_ne_bytes()),
        (Weights::F16(w), To::F32) => scatter(&w[elements], to, cell, |x| x.to_f32().to_ne_bytes()),
        (Weights::F32(w), To::Bf16) => scatter(&w[elements], to, cell, |x| to_bf16(x).to_ne_bytes()),
        (Weights::Bf16(w), To::Bf16) => scatter(&w[elements], to, cell, bf16::to_ne_bytes),
        (Weights::F16(w), To::Bf16) => {
            scatter(&w[elements], to, cell, |x| to_bf16(x.to_f32()).to_ne_bytes());
        }
        (Weights::F32(w), To::F16) => scatter(&w[elements], to, cell, |x| f16::from_f32(x).to_ne_bytes()),
        (Weights::Bf16(w), To::F16) => {
            scatter(&w[elements], to, cell, |x| f16::from_f32(x.to_f32()).to_ne_bytes());
        }
        (Weights::F16(w), To::F16) => scatter(&w[elements], to, cell, f16::to_ne_bytes),
        (Weights::Quantized(_), _) => unreachable!("quantised weights are packed only in their own format"),
    }
}

fn scatter<T: Copy, const BYTES: usize>(
    row: &[T],
    to: &mut [u8],
    cell: impl Fn(usize) -> usize,
    convert: impl Fn(T) -> [u8; BYTES],
) {
    let (cells, _) = to.as_chunks_mut::<BYTES>();
    for (i, &x) in row.iter().enumerate() {
        cells[cell(i)] = convert(x);
    }
}
