//! Rounding of weights to codes: for each group the scale, and the zero point, whose rounded weights are nearest.
//!
//! Nearest is the least sum of squared differences, measured with the scale as it is stored (bf16). The scales tried are
//! those around the one that just covers the range: a little less clips the outermost weights and rounds all others
//! finer.

use crate::quant::{Bits, QuantFormat};
use half::bf16;

/// Most weights of a group.
pub(crate) const MAX_GROUP: usize = 128;

/// Sums under way at once; every group is a multiple of it.
const LANES: usize = 16;

/// Groups whose weights are all smaller are stored as 0, since the inverse of their scale could overflow.
const TINY: f32 = f32::from_bits(27 << 23); // 2^-100

/// One group of weights as it is stored.
pub(crate) struct Group {
    pub(crate) scale: f32,
    pub(crate) zero: u8,
    pub(crate) codes: [u8; MAX_GROUP],
}

/// How codes spread over the numbers: `w = (u - zero) * scale`.
#[derive(Clone, Copy)]
struct Grid {
    scale: f32,
    /// Least and largest of `u - zero`.
    low: f32,
    high: f32,
}

impl Grid {
    fn new(scale: bf16, zero: u8, bits: Bits) -> Self {
        let low = -f32::from(zero);
        Grid { scale: scale.to_f32(), low, high: low + f32::from(bits.max_code()) }
    }

    /// `u - zero` of the nearest grid point, given the inverse of the scale.
    #[inline(always)]
    fn round(self, x: f32, inverse: f32) -> f32 {
        /// Adding it leaves no bits for a fraction: the sum is rounded to an integer, ties to even.
        const SHIFT: f32 = 12_582_912.0;
        // Comparisons, since `max` and `min` spend instructions on NaN.
        let scaled = x * inverse;
        let above = if scaled > self.low { scaled } else { self.low };
        let clamped = if above < self.high { above } else { self.high };
        (clamped + SHIFT) - SHIFT
    }

    /// Sum of the squared differences between `w` and its rounded weights.
    #[inline(always)]
    fn error(self, w: &[f32]) -> f32 {
        let inverse = 1.0 / self.scale;
        let mut sums = [0f32; LANES];
        for w in w.as_chunks::<LANES>().0 {
            for (sum, &w) in sums.iter_mut().zip(w) {
                let difference = w - self.round(w, inverse) * self.scale;
                *sum += difference * difference;
            }
        }
        sums.iter().sum()
    }
}

/// The best grid so far.
struct Best {
    error: f32,
    scale: bf16,
    zero: u8,
}

impl Best {
    #[inline(always)]
    fn consider(&mut self, w: &[f32], scale: bf16, zero: u8, bits: Bits) {
        let error = Grid::new(scale, zero, bits).error(w);
        if error < self.error {
            *self = Best { error, scale, zero };
        }
    }
}

/// Quantises finite weights `w`, a whole group, padded with zeros; leaves in `w` what it computed with. The same bits on
/// every machine: nothing is fused.
pub(crate) fn quantize(w: &mut [f32], format: QuantFormat) -> Group {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        /// The same, compiled for wider registers.
        #[target_feature(enable = "avx2")]
        fn wide(w: &mut [f32], format: QuantFormat) -> Group {
            search(w, format)
        }
        // SAFETY: the feature was detected.
        return unsafe { wide(w, format) };
    }
    search(w, format)
}

#[inline(always)]
fn search(w: &mut [f32], format: QuantFormat) -> Group {
    let bits = format.bits;
    let (min, max) = range(w);
    let largest = max.max(-min);
    if largest < TINY {
        let zero = bits.middle();
        return Group { scale: 0.0, zero, codes: [zero; MAX_GROUP] };
    }
    // A power of two that brings the largest near 1, so that no square overflows or vanishes; it changes no rounding.
    let unit = f32::from_bits(largest.to_bits() & 0x7f80_0000);
    let inverse = 1.0 / unit;
    w.iter_mut().for_each(|w| *w *= inverse);
    let (min, max) = (min * inverse, max * inverse);
    let best = match (bits, format.zero_point) {
        (Bits::Eight, _) => symmetric(w, extreme(min, max), bits, -2..=2, 1),
        (Bits::Four, false) => symmetric(w, extreme(min, max), bits, -39..=15, 3),
        (Bits::Four, true) => asymmetric(w, min, max, bits),
    };
    let grid = Grid::new(best.scale, best.zero, bits);
    let inverse = 1.0 / grid.scale;
    let mut codes = [best.zero; MAX_GROUP];
    for (code, w) in codes.iter_mut().zip(w) {
        *code = (grid.round(*w, inverse) - grid.low) as u8;
    }
    Group { scale: bf16::from_f32(grid.scale * unit).to_f32(), zero: best.zero, codes }
}

/// The least and the largest weight.
#[inline(always)]
fn range(w: &[f32]) -> (f32, f32) {
    let (mut mins, mut maxs) = ([0f32; LANES], [0f32; LANES]);
    for w in w.as_chunks::<LANES>().0 {
        for i in 0..LANES {
            mins[i] = mins[i].min(w[i]);
            maxs[i] = maxs[i].max(w[i]);
        }
    }
    (mins.into_iter().fold(0.0, f32::min), maxs.into_iter().fold(0.0, f32::max))
}

/// The end of the range that is farther from 0.
fn extreme(min: f32, max: f32) -> f32 {
    if max > -min { max } else { min }
}

/// The scale `offset` steps of bf16 away from `scale`; its magnitude grows with the offset.
fn neighbour(scale: bf16, offset: i16) -> bf16 {
    bf16::from_bits(scale.to_bits().wrapping_add_signed(offset))
}

/// Tries scales that put the extreme near the lowest code, which is farther from 0 than the highest; a positive extreme
/// makes the scale negative.
#[inline(always)]
fn symmetric(
    w: &[f32],
    extreme: f32,
    bits: Bits,
    offsets: std::ops::RangeInclusive<i16>,
    stride: usize,
) -> Best {
    let zero = bits.middle();
    let covering = bf16::from_f32(-extreme / f32::from(zero));
    let mut best = Best { error: f32::INFINITY, scale: covering, zero };
    for offset in offsets.step_by(stride) {
        best.consider(w, neighbour(covering, offset), zero, bits);
    }
    refine(w, &mut best, bits, stride as i16);
    best
}

/// Tries scales around the one whose codes span the range, each with the zero points that put the range in the middle.
#[inline(always)]
fn asymmetric(w: &[f32], min: f32, max: f32, bits: Bits) -> Best {
    const STRIDE: usize = 6;
    let top = f32::from(bits.max_code());
    let spanning = bf16::from_f32((max - min) / top);
    let mut best = Best { error: f32::INFINITY, scale: spanning, zero: bits.middle() };
    for offset in (-48..=6).step_by(STRIDE) {
        let scale = neighbour(spanning, offset);
        let middle = (0.5 * top - 0.5 * (min + max) / scale.to_f32()).round();
        for shift in [-1.0, 0.0, 1.0] {
            best.consider(w, scale, (middle + shift).clamp(0.0, top) as u8, bits);
        }
    }
    refine(w, &mut best, bits, STRIDE as i16);
    best
}

/// Tries the scales between those `stride` apart.
#[inline(always)]
fn refine(w: &[f32], best: &mut Best, bits: Bits, stride: i16) {
    let (scale, zero) = (best.scale, best.zero);
    for offset in (1 - stride..stride).filter(|&offset| offset != 0) {
        best.consider(w, neighbour(scale, offset), zero, bits);
    }
}
