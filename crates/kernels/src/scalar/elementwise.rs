//! Norms, rotation, activations and sums.

use crate::act::{GELU_CUBIC, GELU_SCALE};
use crate::gated::GluTask;
use crate::{Glu, RowStats};

/// `1 / sqrt(mean(x²) + eps)`.
fn inverse_rms(x: &[f32], eps: f32) -> f64 {
    let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    1.0 / (squares / x.len() as f64 + f64::from(eps)).sqrt()
}

pub(super) fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let scale = inverse_rms(x, eps);
    for ((out, &x), &w) in out.iter_mut().zip(x).zip(weight) {
        *out = (f64::from(x) * scale * f64::from(w)) as f32;
    }
}

pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    let scale = inverse_rms(x, eps);
    for (x, &w) in x.iter_mut().zip(weight) {
        *x = (f64::from(*x) * scale * f64::from(w)) as f32;
    }
}

pub(super) fn rope(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        let (x, y, cos, sin) = (f64::from(*a), f64::from(*b), f64::from(cos), f64::from(sin));
        *a = (x * cos - y * sin) as f32;
        *b = (y * cos + x * sin) as f32;
    }
}

fn activate(kind: Glu, x: f64) -> f64 {
    match kind {
        Glu::Silu => x / (1.0 + (-x).exp()),
        Glu::GeluTanh => {
            let inner = f64::from(GELU_SCALE) * (x + f64::from(GELU_CUBIC) * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Glu::ClampedSwish { alpha, limit } => {
            // A comparison with NaN is false.
            let x = if x > f64::from(limit) { f64::from(limit) } else { x };
            x / (1.0 + (-f64::from(alpha) * x).exp())
        }
    }
}

/// What a gate is multiplied by.
fn let_through(kind: Glu, up: f64) -> f64 {
    match kind {
        Glu::ClampedSwish { limit, .. } => up.clamp(-f64::from(limit), f64::from(limit)) + 1.0,
        _ => up,
    }
}

pub(super) fn glu(task: &GluTask<'_>) {
    for ([gate, up], out) in task.rows().flatten() {
        for ((out, &gate), &up) in out.iter_mut().zip(gate).zip(up) {
            let up = let_through(task.kind, f64::from(up));
            *out = (activate(task.kind, f64::from(gate)) * up) as f32;
        }
    }
}

pub(super) fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, &y)| *x += y);
}

pub(super) fn row_stats(x: &[f32]) -> RowStats {
    let mut stats = RowStats { max: f32::NEG_INFINITY, argmax: 0, finite: true };
    for (i, &x) in x.iter().enumerate() {
        stats.finite &= x.is_finite();
        if x > stats.max {
            (stats.max, stats.argmax) = (x, i);
        }
    }
    stats
}

pub(super) fn sum_exp(x: &[f32], max: f32, scale: f32) -> f32 {
    x.iter().map(|&x| (f64::from(x - max) * f64::from(scale)).exp()).sum::<f64>() as f32
}

pub(super) fn weigh(x: &[f32], max: f32, scale: f32, out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(out, &x)| *out = crate::weight((x - max) * scale));
}
