//! Norms, rotation, activations and sums.

use super::math::{exp, gate, normal, tanh};
use super::simd::Simd;
use crate::act::{GELU_CUBIC, GELU_SCALE};
use crate::gated::GluTask;
use crate::weigh::{LN2_HIGH, LN2_LOW, ROUND, SERIES, SMALLEST};
use crate::{Glu, Map, Norm, NormKind, RowStats};

/// Mean of `x`, 0 for a root mean square, and `1 / sqrt(mean((x - mean)²) + eps)`.
#[inline(always)]
fn moments<S: Simd>(s: S, x: &[f32], norm: &Norm<'_>) -> (f32, f32) {
    let (mean, squares) = match norm.kind {
        NormKind::Rms => (0.0, squares(s, x, 0.0)),
        NormKind::Layer => {
            let mut sum = s.splat(0.0);
            for at in (0..x.len()).step_by(S::LANES) {
                sum = s.add(sum, s.get(x, at));
            }
            let mean = s.sum(sum) / x.len() as f32;
            // The zeros behind the last element are not elements.
            let (whole, tail) = x.split_at(x.len() - x.len() % S::LANES);
            (mean, tail.iter().fold(squares(s, whole, mean), |sum, x| sum + (x - mean) * (x - mean)))
        }
    };
    (mean, 1.0 / (squares / x.len() as f32 + norm.eps).sqrt())
}

/// Sum of `(x - mean)²`, where zeros fill the last register.
#[inline(always)]
fn squares<S: Simd>(s: S, x: &[f32], mean: f32) -> f32 {
    let (mut squares, mean) = (s.splat(0.0), s.splat(mean));
    for at in (0..x.len()).step_by(S::LANES) {
        let y = s.sub(s.get(x, at), mean);
        squares = s.fma(y, y, squares);
    }
    s.sum(squares)
}

/// LANES elements of a row from `at` on, after the norm.
#[inline(always)]
fn normed<S: Simd>(s: S, x: &[f32], at: usize, norm: &Norm<'_>, (mean, scale): (f32, f32)) -> S::F {
    let weight = s.get(norm.weight, at);
    let x = match norm.kind {
        NormKind::Rms => s.get(x, at),
        NormKind::Layer => s.sub(s.get(x, at), s.splat(mean)),
    };
    let y = s.mul(s.mul(x, s.splat(scale)), weight);
    norm.bias.map_or(y, |bias| s.add(y, s.get(bias, at)))
}

#[inline(always)]
pub(crate) fn norm<S: Simd>(s: S, x: &[f32], norm: &Norm<'_>, out: &mut [f32]) {
    let moments = moments(s, x, norm);
    for at in (0..x.len()).step_by(S::LANES) {
        s.put(out, at, normed(s, x, at, norm, moments));
    }
}

#[inline(always)]
pub(crate) fn norm_in_place<S: Simd>(s: S, x: &mut [f32], norm: &Norm<'_>) {
    let moments = moments(s, x, norm);
    for at in (0..x.len()).step_by(S::LANES) {
        let y = normed(s, x, at, norm, moments);
        s.put(x, at, y);
    }
}

#[inline(always)]
pub(crate) fn rope<S: Simd>(s: S, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let r = cos.len();
    let (low, high) = head.split_at_mut(r);
    let high = &mut high[..r];
    for at in (0..r).step_by(S::LANES) {
        let (x, y, cos, sin) = (s.get(low, at), s.get(high, at), s.get(cos, at), s.get(sin, at));
        s.put(low, at, s.sub(s.mul(x, cos), s.mul(y, sin)));
        s.put(high, at, s.fma(y, cos, s.mul(x, sin)));
    }
}

#[inline(always)]
pub(crate) fn rope_neighbours<S: Simd>(_: S, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    for (([a, b], &cos), &sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
        let (x, y) = (*a, *b);
        *a = x * cos - y * sin;
        *b = y.mul_add(cos, x * sin);
    }
}

#[inline(always)]
fn activate<S: Simd>(s: S, kind: Glu, x: S::F) -> S::F {
    match kind {
        Glu::Silu => gate(s, x, x),
        // x / 2 (1 + tanh y) = x / (1 + exp(-2 y))
        Glu::GeluTanh => {
            let cubic = s.fma(s.mul(s.mul(x, x), s.splat(GELU_CUBIC)), x, x);
            gate(s, x, s.mul(cubic, s.splat(2.0 * GELU_SCALE)))
        }
        Glu::Gelu => s.mul(x, normal(s, x)),
        // The second operand keeps a NaN.
        Glu::Relu => s.max(s.splat(0.0), x),
        Glu::ClampedSwish { alpha, limit } => {
            // The second operand keeps a NaN.
            let x = s.min(s.splat(limit), x);
            gate(s, x, s.mul(x, s.splat(alpha)))
        }
    }
}

/// What a gate is multiplied by.
#[inline(always)]
fn let_through<S: Simd>(s: S, kind: Glu, up: S::F) -> S::F {
    match kind {
        Glu::ClampedSwish { limit, .. } => {
            let up = s.max(s.splat(-limit), s.min(s.splat(limit), up));
            s.add(up, s.splat(1.0))
        }
        _ => up,
    }
}

#[inline(always)]
pub(crate) fn glu<S: Simd>(s: S, task: &GluTask<'_>) {
    for units in task.rows() {
        for ([gate, up], out) in units {
            for at in (0..out.len()).step_by(S::LANES) {
                let up = let_through(s, task.kind, s.get(up, at));
                s.put(out, at, s.mul(activate(s, task.kind, s.get(gate, at)), up));
            }
        }
    }
}

#[inline(always)]
pub(crate) fn map<S: Simd>(s: S, x: &mut [f32], map: Map) {
    for at in (0..x.len()).step_by(S::LANES) {
        let old = s.get(x, at);
        let new = match map {
            Map::Activate(kind) => activate(s, kind, old),
            Map::Scale(factor) => s.mul(old, s.splat(factor)),
            Map::Softcap(cap) => s.mul(s.splat(cap), tanh(s, s.div(old, s.splat(cap)))),
        };
        s.put(x, at, new);
    }
}

#[inline(always)]
pub(crate) fn add<S: Simd>(s: S, x: &mut [f32], y: &[f32]) {
    for at in (0..x.len()).step_by(S::LANES) {
        let sum = s.add(s.get(x, at), s.get(y, at));
        s.put(x, at, sum);
    }
}

#[inline(always)]
pub(crate) fn row_stats<S: Simd>(s: S, x: &[f32]) -> RowStats {
    let (zero, mut max, mut taint) = (s.splat(0.0), s.splat(f32::NEG_INFINITY), s.splat(0.0));
    let whole = x.len() - x.len() % S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        let x = s.get(x, at);
        max = s.max(x, max);
        // NaN and infinity times 0 are NaN.
        taint = s.fma(x, zero, taint);
    }
    let tail = &x[whole..];
    let max = tail.iter().fold(s.largest(max), |max, &x| if x > max { x } else { max });
    let finite = !s.sum(taint).is_nan() && tail.iter().all(|x| x.is_finite());
    RowStats { max, argmax: first_place(x, max), finite }
}

/// Elements compared side by side in search of one.
const SEARCH: usize = 64;

/// Where `value` stands first; 0 where it does not.
#[inline(always)]
fn first_place(x: &[f32], value: f32) -> usize {
    // Without a way out in the middle of a block its comparisons fit in registers.
    let has = |block: &[f32]| block.iter().fold(false, |any, &x| any | (x == value));
    let start = x.chunks(SEARCH).position(has).map_or(0, |block| block * SEARCH);
    start + x[start..].iter().position(|&x| x == value).unwrap_or(0)
}

/// Elements summed in `f32` before the sum goes on in `f64`.
const SUM_BLOCK: usize = 1024;

#[inline(always)]
pub(crate) fn sum_exp<S: Simd>(s: S, x: &[f32], max: f32, scale: f32) -> f32 {
    let (max_lanes, scale_lanes) = (s.splat(max), s.splat(scale));
    let mut total = 0f64;
    for block in x.chunks(SUM_BLOCK) {
        let whole = block.len() - block.len() % S::LANES;
        let mut sum = s.splat(0.0);
        for at in (0..whole).step_by(S::LANES) {
            sum = s.add(sum, exp(s, s.mul(s.sub(s.get(block, at), max_lanes), scale_lanes)));
        }
        total += f64::from(s.sum(sum));
        for &x in &block[whole..] {
            total += f64::from(s.largest(exp(s, s.splat((x - max) * scale))));
        }
    }
    total as f32
}

/// The steps of [`crate::weight`], one by one.
#[inline(always)]
pub(crate) fn weigh<S: Simd>(s: S, x: &[f32], max: f32, scale: f32, out: &mut [f32]) {
    let (max, scale, smallest, round) = (s.splat(max), s.splat(scale), s.splat(SMALLEST), s.splat(ROUND));
    let [first, rest @ ..] = SERIES;
    for at in (0..x.len()).step_by(S::LANES) {
        let x = s.mul(s.sub(s.get(x, at), max), scale);
        let clamped = s.max(x, smallest);
        let n = s.sub(s.add(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)), round), round);
        let r = s.sub(clamped, s.mul(n, s.splat(LN2_HIGH)));
        let r = s.sub(r, s.mul(n, s.splat(LN2_LOW)));
        let mut p = s.splat(first);
        for coefficient in rest {
            p = s.add(s.mul(p, r), s.splat(coefficient));
        }
        s.put(out, at, s.keep_above(s.mul(p, s.pow2(n)), x, smallest));
    }
}
