//! Products of panels of weights with rows of activations.

use super::simd::{Simd, Stored};
use std::marker::PhantomData;

/// How an instruction set multiplies weights of one storage with activations of one arrangement.
///
/// Both are rows of 32-bit words along K. A panel has [`PANEL`](crate::packed::PANEL) outputs side by side; what one load
/// takes of it meets [`PARTS`](Self::PARTS) words of each row of activations, each broadcast to all outputs.
pub(crate) trait Dot: Copy {
    /// A register of sums, one for each of as many outputs as it has lanes.
    type Sum: Copy;
    /// A register of weights as loaded.
    type Raw: Copy;
    /// A register of weights as multiplied.
    type Weights: Copy;
    /// A word of activations in all lanes.
    type Word: Copy;
    /// Bytes that one load takes for each output.
    const CELL: usize;
    /// Inputs whose weights one load takes.
    const STEPS: usize;
    /// Words of activations that one load meets.
    const PARTS: usize;

    fn zero(self) -> Self::Sum;

    /// # Safety
    ///
    /// `from` is readable for `CELL` bytes per output.
    unsafe fn load(self, from: *const u8) -> Self::Raw;

    /// Weights number `part` of a load.
    fn part(self, raw: Self::Raw, part: usize) -> Self::Weights;

    /// # Safety
    ///
    /// `from` is readable.
    unsafe fn word(self, from: *const u32) -> Self::Word;

    /// `sum + weights · word`
    fn dot(self, sum: Self::Sum, weights: Self::Weights, word: Self::Word) -> Self::Sum;
}

/// Sums of R rows by V registers.
pub(crate) type Sums<T, const R: usize, const V: usize> = [[T; V]; R];

/// `sums[r][v] += Σ activations[r] · weights[v]` over `loads` loads, in order. All linear operations are summed here, so
/// the order of the terms of an output is the same whatever R and V are.
///
/// # Safety
///
/// Each of `weights` is readable for `loads` loads that are `stride` bytes apart, `activations` for `[loads * PARTS][R]`
/// words.
#[inline(always)]
pub(crate) unsafe fn accumulate<D: Dot, const R: usize, const V: usize>(
    d: D,
    activations: *const u32,
    weights: [*const u8; V],
    stride: usize,
    loads: usize,
    sums: &mut Sums<D::Sum, R, V>,
) {
    // Local, so that the sums live in registers.
    let mut acc = *sums;
    for i in 0..loads {
        // SAFETY: load `i` of `loads`.
        let raw = weights.map(|start| unsafe { start.add(i * stride) });
        // SAFETY: as above.
        let raw = raw.map(|start| unsafe { d.load(start) });
        for part in 0..D::PARTS {
            let columns = raw.map(|raw| d.part(raw, part));
            for (r, sums) in acc.iter_mut().enumerate() {
                // SAFETY: word `i * PARTS + part` of row `r`.
                let word = unsafe { d.word(activations.add((i * D::PARTS + part) * R + r)) };
                for (sum, column) in sums.iter_mut().zip(columns) {
                    *sum = d.dot(*sum, column, word);
                }
            }
        }
    }
    *sums = acc;
}

/// Weights of type T, widened to `f32`, times `f32`.
#[derive(Clone, Copy)]
pub(crate) struct Fma<S, T> {
    simd: S,
    stored: PhantomData<T>,
}

impl<S: Simd, T: Stored<S>> From<S> for Fma<S, T> {
    #[inline(always)]
    fn from(simd: S) -> Self {
        Fma { simd, stored: PhantomData }
    }
}

impl<S: Simd, T: Stored<S>> Dot for Fma<S, T> {
    type Sum = S::F;
    type Raw = (S::F, S::F);
    type Weights = S::F;
    type Word = S::F;
    const CELL: usize = T::STEP * size_of::<T>();
    const STEPS: usize = T::STEP;
    const PARTS: usize = T::STEP;

    #[inline(always)]
    fn zero(self) -> S::F {
        self.simd.splat(0.0)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        unsafe { T::load(self.simd, from.cast()) }
    }
    #[inline(always)]
    fn part(self, raw: (S::F, S::F), part: usize) -> S::F {
        if part == 0 { raw.0 } else { raw.1 }
    }
    #[inline(always)]
    unsafe fn word(self, from: *const u32) -> S::F {
        // SAFETY: as the caller promises; the word is an `f32`.
        self.simd.splat(unsafe { *from.cast() })
    }
    #[inline(always)]
    fn dot(self, sum: S::F, weights: S::F, word: S::F) -> S::F {
        self.simd.fma(weights, word, sum)
    }
}
