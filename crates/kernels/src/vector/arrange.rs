//! Arranging activations: words along K, those of the rows of a block side by side.
//!
//! The words of a block are `[words of a row][R]`; the blocks follow each other. Rows that the last block lacks are 0.

use super::level::Arrange;
use crate::linear::{K_BLOCK, PrepareTask};
use crate::round::to_bf16;

/// Words of floats.
pub(crate) trait FloatWords {
    /// Words of a row of `k` elements.
    fn words(k: usize) -> usize;

    /// Writes the words of `x` to place `r` of each R; where `x` ends within a word, the rest of the word is 0.
    fn convert<const R: usize>(x: &[f32], r: usize, out: &mut [[u32; R]]);
}

/// One `f32` in a word; STEP is what K is rounded up to.
pub(crate) struct Floats<const STEP: usize>;

impl<const STEP: usize> FloatWords for Floats<STEP> {
    #[inline(always)]
    fn words(k: usize) -> usize {
        k.next_multiple_of(STEP)
    }

    #[inline(always)]
    fn convert<const R: usize>(x: &[f32], r: usize, out: &mut [[u32; R]]) {
        for (out, x) in out.iter_mut().zip(x) {
            out[r] = x.to_bits();
        }
        for out in &mut out[x.len()..] {
            out[r] = 0;
        }
    }
}

/// Two consecutive elements, rounded to bf16, in a word: the first in the lower half. K is rounded up to even.
pub(crate) struct Bf16Pairs;

impl FloatWords for Bf16Pairs {
    #[inline(always)]
    fn words(k: usize) -> usize {
        k.div_ceil(2)
    }

    #[inline(always)]
    fn convert<const R: usize>(x: &[f32], r: usize, out: &mut [[u32; R]]) {
        let mut packed = Packed([0; K_BLOCK / 4]);
        for (half, &x) in packed.halves().iter_mut().zip(x) {
            *half = to_bf16(x).to_bits();
        }
        packed.interleave(r, out);
    }
}

/// K blocks but the last are of even length.
impl<S, W: FloatWords> Arrange<S> for W {
    #[inline(always)]
    fn run<const R: usize>(_: S, task: &PrepareTask<'_>) {
        let k = task.w.k();
        let first = task.rows.start(task.block) * W::words(k) + W::words(task.k.start) * R;
        // SAFETY: the words of this block and K block are this task's alone.
        let out = unsafe { task.out.slice(first..first + W::words(task.k.len()) * R) };
        let out = out.as_chunks_mut::<R>().0;
        let present = task.rows.rows(task.block..task.block + 1);
        for r in 0..R {
            let x = if r < present.len() {
                let start = (present.start + r) * k;
                &task.x[start + task.k.start..start + task.k.end]
            } else {
                &[0.0; K_BLOCK][..task.k.len()]
            };
            W::convert(x, r, out);
        }
    }
}

/// Small elements of a row, side by side, read as words.
pub(super) struct Packed<const N: usize>(pub(super) [u64; N]);

impl<const N: usize> Packed<N> {
    /// As elements of 16 bits.
    #[inline(always)]
    pub(super) fn halves(&mut self) -> &mut [u16] {
        // SAFETY: of one size, every bit pattern is a value of both, and the words need the stricter alignment.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), 4 * N) }
    }

    /// As bytes.
    #[inline(always)]
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), 8 * N) }
    }

    /// Writes the first words to place `r` of each R.
    #[inline(always)]
    pub(super) fn interleave<const R: usize>(&self, r: usize, out: &mut [[u32; R]]) {
        let (pairs, odd) = out.as_chunks_mut::<2>();
        for (out, &packed) in pairs.iter_mut().zip(&self.0) {
            out[0][r] = packed as u32;
            out[1][r] = (packed >> 32) as u32;
        }
        for out in odd {
            out[r] = self.0[pairs.len()] as u32;
        }
    }
}
