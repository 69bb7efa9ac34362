//! Functions of registers.

use super::attention::product::KvSimd;
use super::simd::Simd;

/// `exp(x)` with a relative error below 2e-7; 0 far below, infinite far above, NaN of NaN, exactly 1 of 0.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // Beyond these bounds the result is 0 or infinite all the same; the second operand keeps a NaN.
    let x = s.min(s.splat(89.0), s.max(s.splat(-104.0), x));
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // x = n ln 2 + r, with ln 2 in two parts, the first exact in products with n.
    let r = s.fma(n, s.splat(-0.693_359_4), x);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    // The polynomial of the Cephes library for |r| <= ln 2 / 2: 1 + r + r² p(r).
    let mut p = s.splat(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    let p = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    // In two factors, since 2^n itself may be beyond what is representable.
    let half = s.round(s.mul(n, s.splat(0.5)));
    s.mul(s.mul(p, s.pow2(half)), s.pow2(s.sub(n, half)))
}

/// `2^x` for `x` at most about 0, with a relative error below 5e-7; 0 far below, NaN of NaN, exactly 1 of 0.
#[inline(always)]
pub(crate) fn exp2<S: KvSimd>(s: S, x: S::F) -> S::F {
    // The second operand keeps a NaN.
    let x = s.max(s.splat(S::FLOOR), x);
    let n = s.round(x);
    let r = s.sub(x, n);
    // Least relative error for |r| <= 1/2 among the polynomials that are 1 at 0.
    let mut p = s.splat(1.112_551e-3);
    for coefficient in [9.666_283e-3, 5.557_400_4e-2, 0.240_223_51, 0.693_142_83, 1.0] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    s.scale(p, n)
}

/// `tanh(x)` with an absolute error below 2e-7.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    let e = exp(s, s.add(x, x));
    s.sub(s.splat(1.0), s.div(s.splat(2.0), s.add(e, s.splat(1.0))))
}

/// Distribution function of the normal distribution, `(1 + erf(x / sqrt(2))) / 2`, with a relative error below 3e-7
/// and that of the rounding of `x² / 2` in the exponent.
#[inline(always)]
pub(crate) fn normal<S: Simd>(s: S, x: S::F) -> S::F {
    // The second operand keeps a NaN.
    let size = s.max(s.sub(s.splat(0.0), x), x);
    let t = s.div(s.splat(1.0), s.fma(size, s.splat(0.5 * std::f32::consts::FRAC_1_SQRT_2), s.splat(1.0)));
    // The tail is t exp(p(t) - x² / 2), with the polynomial of least absolute error in the exponent.
    let mut p = s.splat(0.170_877_05);
    for coefficient in [
        -0.822_172_46,
        1.488_556_1,
        -1.135_247_7,
        0.278_896_27,
        -0.186_299,
        0.096_786_66,
        0.374_091_66,
        1.000_023_7,
        -1.958_659_4,
    ] {
        p = s.fma(p, t, s.splat(coefficient));
    }
    let half_square = s.mul(s.mul(x, s.splat(0.5)), x);
    let tail = s.mul(t, exp(s, s.sub(p, half_square)));
    let right = s.sub(s.splat(1.0), s.add(tail, tail));
    s.add(tail, s.keep_above(right, x, s.splat(0.0)))
}

/// `x / (1 + exp(-y))`.
#[inline(always)]
pub(crate) fn gate<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    let e = exp(s, s.sub(s.splat(0.0), y));
    s.div(x, s.add(s.splat(1.0), e))
}
