//! int8 keys and values: exact sums of integers.
//!
//! Queries and weights are rounded to integers of 16 bits, queries per row, weights (times the scales of their values) per
//! row and span. No sum leaves 32 bits: the largest have head_dim, at most 1024, terms of 16383 times 127, and 512 terms of
//! 32767 times 127. What is outside a row's view has a weight of 0, and no byte is a NaN, so that nothing is to be masked.

use super::product::{Half, KvSimd, Product};
use super::{Rows, Seen, Work};
use crate::attention::{Area, GROUP, QUERY_ROWS, SPAN};
use crate::kv::{KvElement, KvShape};
use crate::vector::int_dot::PairUnit;
use std::marker::PhantomData;

/// Largest element of a query.
const QUERY_MAX: f32 = 16383.0;

/// Largest weight.
const WEIGHT_MAX: f32 = 32767.0;

const _: () = assert!(QUERY_MAX as usize * 127 * KvShape::MAX_HEAD_DIM <= i32::MAX as usize);
const _: () = assert!(WEIGHT_MAX as usize * 127 * SPAN <= i32::MAX as usize);

/// Numbers below this are taken for 0, so that their inverses are finite.
const TINY: f32 = 1e-30;

/// Pairs of codes times pairs of 16 bits, multiplied by `U`.
#[derive(Clone, Copy)]
pub(crate) struct Codes<U>(PhantomData<U>);

impl<S: KvSimd, U: PairUnit<S>> Product<S> for Codes<U> {
    type Stored = i8;
    type Column = S::I;
    type Sum = S::I;
    const STEP: usize = 2;
    const WORDS: usize = 1;
    const SCALED: bool = true;

    #[inline(always)]
    fn zero(s: S) -> S::I {
        s.zero_words()
    }
    #[inline(always)]
    fn empty(s: S) -> S::I {
        s.zero_words()
    }
    #[inline(always)]
    unsafe fn add(s: S, left: *const f32, column: S::I, sum: S::I) -> S::I {
        // SAFETY: as the caller promises.
        U::add(s, sum, column, unsafe { s.splat_word(left.cast()) })
    }
    #[inline(always)]
    unsafe fn load(s: S, from: *const i8) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.load_codes(from) }
    }
    #[inline(always)]
    unsafe fn load_first(s: S, from: *const i8, n: usize) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.load_codes_first(from, n) }
    }
    #[inline(always)]
    fn half(_: S, column: S::I, _: Half) -> S::I {
        column
    }
    #[inline(always)]
    unsafe fn take(s: S, from: *const f32) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { s.load_words(from.cast()) }
    }
    #[inline(always)]
    unsafe fn put(s: S, to: *mut f32, sum: S::I) {
        // SAFETY: as the caller promises.
        unsafe { s.store_words(to, sum) }
    }
    #[inline(always)]
    fn floats(s: S, sum: S::I) -> S::F {
        s.to_floats(sum)
    }
    #[inline(always)]
    fn query(s: S, query: &[f32], left: &mut [f32]) -> f32 {
        let zero = s.splat(0.0);
        let (mut largest, mut check) = (zero, zero);
        for at in (0..query.len()).step_by(S::LANES) {
            let x = s.get(query, at);
            largest = s.max(s.max(x, s.sub(zero, x)), largest);
            check = s.fma(x, zero, check);
        }
        let (largest, check) = (s.largest(largest), s.sum(check));
        let (factor, inverse) = rounding(largest, QUERY_MAX);
        assert!(left.len() >= query.len().next_multiple_of(S::LANES));
        for at in (0..query.len()).step_by(S::LANES) {
            let x = s.mul(s.get(query, at), s.splat(inverse));
            // SAFETY: there are LANES words from `at` on.
            unsafe { Self::put_weights(s, left.as_mut_ptr(), at, x) };
        }
        // A factor of 0 would make NaN of what is masked.
        if factor == 0.0 { 1.0 } else { factor + check }
    }
    #[inline(always)]
    unsafe fn put_weights(s: S, left: *mut f32, at: usize, weights: S::F) {
        // SAFETY: as the caller promises.
        unsafe { s.store_rounded(left.cast::<i16>().add(at), weights) }
    }
}

/// What an integer stands for, and its inverse, where the largest integer is `max`.
fn rounding(largest: f32, max: f32) -> (f32, f32) {
    if largest < TINY { (0.0, 0.0) } else { (largest / max, max / largest) }
}

/// Makes integers of `weights` times the scales of their values in place, those outside `visible` 0; answers what they
/// stand for, NaN where a scale is not finite.
#[inline(always)]
pub(super) fn round_weights<S: KvSimd, P: Product<S>>(
    s: S,
    scores: &mut [f32],
    visible: &std::ops::Range<usize>,
    scales: impl Fn(usize) -> usize,
    all: &[f32],
) -> f32 {
    let whole = visible.start / GROUP * GROUP..visible.end.next_multiple_of(GROUP);
    for at in whole.clone().step_by(S::LANES) {
        let scale = s.get(&all[scales(at)..], 0);
        let weight = s.mul(s.get(scores, at), scale);
        s.put(scores, at, weight);
    }
    scores[whole.start..visible.start].fill(0.0);
    scores[visible.end..whole.end].fill(0.0);
    let zero = s.splat(0.0);
    let (mut largest, mut check) = (zero, zero);
    for at in whole.clone().step_by(S::LANES) {
        let weight = s.get(scores, at);
        largest = s.max(weight, largest);
        check = s.fma(weight, zero, check);
    }
    let (factor, inverse) = rounding(s.largest(largest), WEIGHT_MAX);
    for at in whole.step_by(S::LANES) {
        let weight = s.mul(s.get(scores, at), s.splat(inverse));
        // SAFETY: the row has LANES words from `at` on.
        unsafe { P::put_weights(s, scores.as_mut_ptr(), at, weight) };
    }
    factor + s.sum(check)
}

impl<T: KvElement> Work<'_, T> {
    /// Where the scales of the group of place `at` start, and `at` in them.
    #[inline(always)]
    pub(super) fn scales_at(seen: &Seen, at: usize) -> usize {
        seen.scales[at / GROUP] + at % GROUP
    }

    /// Turns the integer sums of the values of a span into floats.
    #[inline(always)]
    pub(super) fn float_sums<S: KvSimd, P: Product<S, Stored = T>>(
        &self,
        s: S,
        rows: &Rows,
        area: &mut Area<'_>,
    ) {
        let width = area.sums.len() / QUERY_ROWS;
        for row in 0..self.tile.rows() {
            let (sums, factor) = (&mut area.sums[row * width..(row + 1) * width], s.splat(rows.weight[row]));
            for at in (0..width).step_by(S::LANES) {
                // SAFETY: a row is padded to whole registers.
                let sum = unsafe { P::take(s, sums[at..].as_ptr()) };
                s.put(sums, at, s.mul(P::floats(s, sum), factor));
            }
        }
    }
}
