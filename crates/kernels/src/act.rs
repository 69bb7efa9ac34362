//! Activations, sums and what the sampler asks of a row of logits.

use crate::norm::GRAIN;
use crate::{Kernels, WorkerPool};

/// Activation of a gated linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Glu {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x³)))`.
    GeluTanh,
}

/// `sqrt(2 / pi)`.
pub(crate) const GELU_SCALE: f32 = 0.797_884_6;
/// Cubic coefficient of the tanh form of GELU.
pub(crate) const GELU_CUBIC: f32 = 0.044_715;

/// What a sampler needs to know of a row of logits first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStats {
    /// Largest element; negative infinity of an empty row, unspecified where one is NaN.
    pub max: f32,
    /// First place where it stands; unspecified where one is NaN or all are negative infinity.
    pub argmax: usize,
    /// Whether no element is NaN or infinite.
    pub finite: bool,
}

pub(crate) fn glu(
    kernels: &Kernels,
    pool: &WorkerPool,
    kind: Glu,
    width: usize,
    gate_up: &[f32],
    out: &mut [f32],
) {
    assert!(width > 0 && out.len().is_multiple_of(width), "rows of {width} in {}", out.len());
    assert_eq!(gate_up.len(), 2 * out.len(), "a gate and an up for each output");
    pool.run_rows(out, width, GRAIN, &|first, out| {
        let gate_up = &gate_up[2 * width * first..2 * (width * first + out.len())];
        for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
            let (gate, up) = row.split_at(width);
            (kernels.glu)(kind, gate, up, out);
        }
    });
}

pub(crate) fn add(kernels: &Kernels, pool: &WorkerPool, x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "a sum of two equal shapes");
    pool.run_rows(x, 1, 4 * GRAIN, &|first, x| (kernels.add)(x, &y[first..first + x.len()]));
}
