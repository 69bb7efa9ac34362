//! Quantising activations.
//!
//! The words of a block are, for each group, `[words of a row][R]`, then `[R]` scales, then `[R]` words for the zero
//! points: with one zero point for all, minus it times the sum of the integers; else that sum, negated, as the pair
//! `(a, b)` of `a + 128 b`, which meets `(z, 128 z)`; or, for formats with a minimum, that sum times the scale.

use super::arrange::Packed;
use super::ints::Ints;
use super::level::Arrange;
use super::quantized::GROUP_WORDS;
use crate::linear::PrepareTask;
use crate::quant::{Activations, QuantFormat};
use crate::quantize::MAX_GROUP;
use crate::scalar::activations::TINY;
use crate::{PackedLinear, WeightFormat};

/// Integers of BYTES bytes: quads `(x0, x1, x2, x3)` are one word of bytes or two words of pairs, `(x0, x2)`, `(x1, x3)`.
pub(crate) struct Codes<const BYTES: usize>;

impl<const BYTES: usize> Codes<BYTES> {
    /// Words of a row of `k` elements in groups of `group`.
    pub(crate) fn words(k: usize, group: usize) -> usize {
        k.div_ceil(group) * (group * BYTES / 4 + GROUP_WORDS)
    }
}

/// The format of quantised weights.
pub(crate) fn quant_format(w: &PackedLinear) -> QuantFormat {
    match w.format() {
        WeightFormat::Quantized(format) => format,
        _ => unreachable!("weights in codes"),
    }
}

/// How activations are grouped for weights of a format, and what follows each group.
#[derive(Clone, Copy)]
pub(crate) struct Grouping {
    pub(crate) group: usize,
    activations: Activations,
    end: End,
}

/// The second word that follows a group, made of the sum of its integers.
#[derive(Clone, Copy)]
enum End {
    /// Minus the sum times the zero point of all.
    Zero(u8),
    /// Minus the sum, as a pair.
    Pair,
    /// The sum times the scale.
    Scaled,
}

impl Grouping {
    pub(crate) fn of(w: &PackedLinear) -> Self {
        if let WeightFormat::Blocks(format, activations) = w.format() {
            let build = format.build();
            let end = if build.minimum { End::Scaled } else { End::Zero(build.zero) };
            return Grouping { group: build.group, activations, end };
        }
        let QuantFormat { bits, group, zero_point, activations, .. } = quant_format(w);
        let end = if zero_point { End::Pair } else { End::Zero(bits.middle()) };
        Grouping { group: group.into(), activations, end }
    }
}

impl<S: Ints, const BYTES: usize> Arrange<S> for Codes<BYTES> {
    #[inline(always)]
    fn run<const R: usize>(s: S, task: &PrepareTask<'_>) {
        let grouping = Grouping::of(task.w);
        let (k, group) = (task.w.k(), grouping.group);
        let first =
            task.rows.start(task.block) * Self::words(k, group) + Self::words(task.k.start, group) * R;
        // SAFETY: the words of this block and K block are this task's alone.
        let out = unsafe { task.out.slice(first..first + Self::words(task.k.len(), group) * R) };
        let present = task.rows.rows(task.block..task.block + 1);
        for r in 0..R {
            let x = if r < present.len() {
                let start = (present.start + r) * k;
                &task.x[start + task.k.start..start + task.k.end]
            } else {
                &[]
            };
            match group {
                16 => Self::row::<S, R, 16>(s, x, r, grouping, out),
                32 => Self::row::<S, R, 32>(s, x, r, grouping, out),
                64 => Self::row::<S, R, 64>(s, x, r, grouping, out),
                _ => Self::row::<S, R, 128>(s, x, r, grouping, out),
            }
        }
    }
}

impl<const BYTES: usize> Codes<BYTES> {
    /// Writes the words of a row to place `r` of each R, in groups of G; what is beyond `x` is 0.
    #[inline(always)]
    fn row<S: Ints, const R: usize, const G: usize>(
        s: S,
        x: &[f32],
        r: usize,
        grouping: Grouping,
        out: &mut [u32],
    ) {
        let (groups, rest) = x.as_chunks::<G>();
        let mut groups = groups.iter();
        let mut last = [0f32; G];
        for (value, x) in last.iter_mut().zip(rest) {
            *value = *x;
        }
        for out in out.as_chunks_mut::<R>().0.chunks_exact_mut(Self::words(G, G)) {
            match groups.next() {
                Some(x) => Self::quantize(s, x, r, grouping, out),
                None => Self::quantize(s, &last, r, grouping, out),
            }
        }
    }

    /// Writes the words of one group of one row.
    #[inline(always)]
    fn quantize<S: Ints, const R: usize, const G: usize>(
        s: S,
        x: &[f32; G],
        r: usize,
        grouping: Grouping,
        out: &mut [[u32; R]],
    ) {
        // Magnitudes compare as their bits do, infinity and NaN above all numbers.
        let mut largest = 0;
        for x in x {
            largest = largest.max(x.to_bits() & 0x7fff_ffff);
        }
        let largest = f32::from_bits(largest);
        let max = grouping.activations.max();
        let (factor, scale) = if !largest.is_finite() {
            (0.0, f32::NAN)
        } else if largest < TINY {
            (0.0, 0.0)
        } else {
            (max / largest, largest / max)
        };
        let mut packed = Packed([0; MAX_GROUP / 4]);
        let (mut sums, factor) = (s.zero_words(), s.splat(factor));
        let mut i = 0;
        while i < G {
            // SAFETY: LANES elements of the group, which has a multiple, and of the room for the largest.
            unsafe {
                let q = s.round_words(s.mul(s.load(x.as_ptr().add(i)), factor));
                sums = s.add_words(sums, q);
                if BYTES == 1 {
                    s.store_bytes(packed.bytes().as_mut_ptr().add(i), q);
                } else {
                    s.store_halves(packed.halves().as_mut_ptr().add(i), s.swap_middle(q));
                }
            }
            i += S::LANES;
        }
        let sum = s.sum_words(sums);
        let (words, ends) = out.split_at_mut(G * BYTES / 4);
        packed.interleave(r, words);
        ends[0][r] = scale.to_bits();
        ends[1][r] = match grouping.end {
            End::Zero(zero) => sum.wrapping_mul(-i32::from(zero)).cast_unsigned(),
            End::Pair => {
                let minus = sum.wrapping_neg();
                (minus & 127).cast_unsigned() | (minus >> 7).cast_unsigned() << 16
            }
            End::Scaled => (scale * sum as f32).to_bits(),
        };
    }
}

/// The nearest integer, ties to even, of a number below 2^22 in magnitude.
#[inline(always)]
pub(crate) fn round(x: f32) -> i32 {
    /// Adding it leaves no bits for a fraction.
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed()
}
