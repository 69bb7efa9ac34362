//! Norms, rotation, activations and sums.

use super::erfc::erfc;
use crate::act::{GELU_CUBIC, GELU_SCALE};
use crate::gated::GluTask;
use crate::{Glu, Map, Norm, NormKind, RowStats};

/// Mean, 0 for a root mean square, and `1 / sqrt(mean((x - mean)²) + eps)`.
fn moments(x: &[f32], norm: &Norm<'_>) -> (f64, f64) {
    let n = x.len() as f64;
    let mean = match norm.kind {
        NormKind::Rms => 0.0,
        NormKind::Layer => x.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
    };
    let squares: f64 = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    (mean, 1.0 / (squares / n + f64::from(norm.eps)).sqrt())
}

fn normed(x: f32, index: usize, norm: &Norm<'_>, (mean, scale): (f64, f64)) -> f32 {
    let bias = norm.bias.map_or(0.0, |bias| f64::from(bias[index]));
    ((f64::from(x) - mean) * scale * f64::from(norm.weight[index]) + bias) as f32
}

pub(super) fn norm(x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    let moments = moments(x, norm);
    for (index, (out, &x)) in out.iter_mut().zip(x).enumerate() {
        *out = normed(x, index, norm, moments);
    }
}

pub(super) fn norm_in_place(x: &mut [f32], norm: &Norm<'_>) {
    let moments = moments(x, norm);
    x.iter_mut().enumerate().for_each(|(index, x)| *x = normed(*x, index, norm, moments));
}

pub(super) fn rope(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = head.split_at_mut(cos.len());
    for (((a, b), &cos), &sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
        turn(a, b, cos, sin);
    }
}

pub(super) fn rope_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (([a, b], &cos), &sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        turn(a, b, cos, sin);
    }
}

fn turn(a: &mut f32, b: &mut f32, cos: f32, sin: f32) {
    let (x, y, cos, sin) = (f64::from(*a), f64::from(*b), f64::from(cos), f64::from(sin));
    *a = (x * cos - y * sin) as f32;
    *b = (y * cos + x * sin) as f32;
}

fn activate(kind: Glu, x: f64) -> f64 {
    match kind {
        Glu::Silu => x / (1.0 + (-x).exp()),
        Glu::GeluTanh => {
            let inner = f64::from(GELU_SCALE) * (x + f64::from(GELU_CUBIC) * x * x * x);
            0.5 * x * (1.0 + inner.tanh())
        }
        Glu::Gelu => 0.5 * x * erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        Glu::Relu if x < 0.0 => 0.0,
        Glu::Relu => x,
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

pub(super) fn map(x: &mut [f32], map: Map) {
    let apply = |x: f64| match map {
        Map::Activate(kind) => activate(kind, x),
        Map::Scale(factor) => x * f64::from(factor),
        Map::Softcap(cap) => f64::from(cap) * (x / f64::from(cap)).tanh(),
    };
    x.iter_mut().for_each(|x| *x = apply(f64::from(*x)) as f32);
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
