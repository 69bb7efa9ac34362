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
    let lines = to.chunks_mut(PACK_STEPS * PANEL * format.bytes());
    for (step, to) in (0..k).step_by(PACK_STEPS).zip(lines) {
        let steps = step..(step + PACK_STEPS).min(k);
        let mut part_start = 0;
        for &(weights, rows) in parts {
            let from = first.max(part_start);
            let until = (first + PANEL).min(part_start + rows);
            for row in from..until.max(from) {
                let start = (row - part_start) * k;
                pack_row(weights, start + steps.start..start + steps.end, format, row - first, to);
            }
            part_start += rows;
        }
    }
}

/// Writes consecutive elements of a row of the matrix to its column of a panel, `to` being the lines of their steps.
fn pack_row(weights: Weights<'_>, elements: Range<usize>, format: FloatFormat, column: usize, to: &mut [u8]) {
    use FloatFormat as To;
    match (weights, format) {
        (Weights::F32(w), To::F32) => singles(&w[elements], column, to, f32::to_ne_bytes),
        (Weights::Bf16(w), To::F32) => singles(&w[elements], column, to, |x| x.to_f32().to_ne_bytes()),
        (Weights::F16(w), To::F32) => singles(&w[elements], column, to, |x| x.to_f32().to_ne_bytes()),
        (Weights::F32(w), To::Bf16) => pairs(&w[elements], column, to, to_bf16),
        (Weights::Bf16(w), To::Bf16) => pairs(&w[elements], column, to, |x| x),
        (Weights::F16(w), To::Bf16) => pairs(&w[elements], column, to, |x| to_bf16(x.to_f32())),
        (Weights::F32(w), To::F16) => singles(&w[elements], column, to, |x| f16::from_f32(x).to_ne_bytes()),
        (Weights::Bf16(w), To::F16) => {
            singles(&w[elements], column, to, |x| f16::from_f32(x.to_f32()).to_ne_bytes());
        }
        (Weights::F16(w), To::F16) => singles(&w[elements], column, to, f16::to_ne_bytes),
        (Weights::Fp8(_) | Weights::Quantized(_) | Weights::Blocks(_), _) => {
            unreachable!("quantised weights are packed only in their own format")
        }
    }
}

/// One element per line of the panel.
fn singles<T: Copy, const BYTES: usize>(
    row: &[T],
    column: usize,
    to: &mut [u8],
    convert: impl Fn(T) -> [u8; BYTES],
) {
    let (cells, _) = to.as_chunks_mut::<BYTES>();
    let (lines, _) = cells.as_chunks_mut::<PANEL>();
    for (line, &x) in lines.iter_mut().zip(row) {
        line[column] = convert(x);
    }
}

/// Two elements per line of the panel; the last one is alone where K is odd.
fn pairs<T: Copy>(row: &[T], column: usize, to: &mut [u8], convert: impl Fn(T) -> bf16) {
    let (cells, _) = to.as_chunks_mut::<4>();
    let (lines, _) = cells.as_chunks_mut::<PANEL>();
    let pair = |x: bf16, y: bf16| {
        // One store of the two.
        let [a, b] = x.to_ne_bytes();
        let [c, d] = y.to_ne_bytes();
        [a, b, c, d]
    };
    let (whole, last) = row.as_chunks::<2>();
    for (line, &[x, y]) in lines.iter_mut().zip(whole) {
        line[column] = pair(convert(x), convert(y));
    }
    if let (&[x], Some(line)) = (last, lines.get_mut(whole.len())) {
        line[column] = pair(convert(x), bf16::ZERO);
    }
}
