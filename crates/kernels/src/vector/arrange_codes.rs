//! Quantising activations.
//!
//! The words of a block are, for each group, `[words of a row][R]`, then `[R]` scales, then `[R]` words for the zero
//! points: with one zero point for all, minus it times the sum of the integers; else that sum, negated, as the pair
//! `(a, b)` of `a + 128 b`, which meets `(z, 128 z)`.

use super::level::Arrange;
use super::quantized::GROUP_WORDS;
use crate::linear::{K_BLOCK, PrepareTask};
use crate::quant::QuantFormat;
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

impl<const BYTES: usize> Arrange for Codes<BYTES> {
    #[inline(always)]
    fn run<const R: usize>(task: &PrepareTask<'_>) {
        let format = quant_format(task.w);
        let (k, group) = (task.w.k(), usize::from(format.group));
        let first =
            task.rows.start(task.block) * Self::words(k, group) + Self::words(task.k.start, group) * R;
        // SAFETY: the words of this block and K block are this task's alone.
        let out = unsafe { task.out.slice(first..first + Self::words(task.k.len(), group) * R) };
        let present = task.rows.rows(task.block..task.block + 1);
        let group_words = Self::words(group, group);
        for r in 0..R {
            let mut padded = [0f32; K_BLOCK];
            if r < present.len() {
                let start = (present.start + r) * k;
                padded[..task.k.len()].copy_from_slice(&task.x[start + task.k.start..start + task.k.end]);
            }
            for (x, out) in padded.chunks_exact(group).zip(out.chunks_exact_mut(group_words * R)) {
                let mut row = [0u32; MAX_GROUP];
                let row = &mut row[..group_words];
                Self::quantize(x, format, row);
                out.as_chunks_mut::<R>().0.iter_mut().zip(&*row).for_each(|(out, &word)| out[r] = word);
            }
        }
    }
}

impl<const BYTES: usize> Codes<BYTES> {
    /// Writes the words of one group of one row, which start out as 0.
    #[inline(always)]
    fn quantize(x: &[f32], format: QuantFormat, words: &mut [u32]) {
        let (words, ends) = words.split_at_mut(x.len() * BYTES / 4);
        // Magnitudes compare as their bits do, infinity and NaN above all numbers.
        let largest = x.iter().fold(0, |largest, x| x.to_bits().wrapping_shl(1).max(largest)) >> 1;
        let largest = f32::from_bits(largest);
        if !largest.is_finite() {
            ends[0] = f32::NAN.to_bits();
            return;
        }
        if largest < TINY {
            return;
        }
        let factor = format.activations.max() / largest;
        let mut q = [0i32; MAX_GROUP];
        let q = &mut q[..x.len()];
        q.iter_mut().zip(x).for_each(|(q, &x)| *q = round(x * factor));
        let sum = q.iter().fold(0, |sum: i32, &q| sum.wrapping_add(q));
        for (words, q) in words.chunks_exact_mut(BYTES).zip(q.as_chunks::<4>().0) {
            if BYTES == 1 {
                words[0] = word(q.map(|q| q as u8));
            } else {
                words[0] = pair(q[0], q[2]);
                words[1] = pair(q[1], q[3]);
            }
        }
        ends[0] = (largest / format.activations.max()).to_bits();
        ends[1] = if format.zero_point {
            pair(-sum & 127, -sum >> 7)
        } else {
            (-sum * i32::from(format.bits.middle())).cast_unsigned()
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

#[inline(always)]
fn pair(low: i32, high: i32) -> u32 {
    (low.cast_unsigned() & 0xffff) | high.cast_unsigned() << 16
}

#[inline(always)]
fn word(bytes: [u8; 4]) -> u32 {
    u32::from_le_bytes(bytes)
}
