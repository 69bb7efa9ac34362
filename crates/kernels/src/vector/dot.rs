//! Products of panels of weights with rows of activations.

#![expect(clippy::needless_range_loop, reason = "several arrays of registers have one index")]

use super::simd::{LINE, Simd, Stored};
use crate::packed::PANEL;
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
    /// Whether sums are the same in any order.
    const EXACT: bool;

    fn zero(self) -> Self::Sum;
    fn add(self, a: Self::Sum, b: Self::Sum) -> Self::Sum;

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

/// Weights that come next, asked for while sums are computed: each load asks for `stride` bytes from each pointer on.
#[derive(Clone, Copy)]
pub(crate) struct Ahead<const V: usize> {
    pub(crate) from: [*const u8; V],
    pub(crate) stride: usize,
}

impl<const V: usize> Ahead<V> {
    /// Asks for what one load does.
    #[inline(always)]
    pub(super) fn step<S: Simd>(&mut self, s: S) {
        for from in &mut self.from {
            s.prefetch(*from);
            // A K block of weights is followed by a longer one at the end of K.
            if self.stride > LINE {
                s.prefetch(from.wrapping_add(LINE));
            }
            *from = from.wrapping_add(self.stride);
        }
    }

    /// What `loads` loads further is asked for.
    #[inline(always)]
    pub(crate) fn skip(&mut self, loads: usize) {
        for from in &mut self.from {
            *from = from.wrapping_add(loads * self.stride);
        }
    }
}

/// `sums[r][v] + Σ activations[r] · weights[v]` over `loads` loads, in order. All linear operations are summed here, so
/// the order of the terms of an output is the same whatever R and V are.
///
/// # Safety
///
/// Each of `weights` is readable for `loads` loads of a panel, `activations` for `[loads * PARTS][R]`
/// words.
#[inline(always)]
pub(crate) unsafe fn accumulate<S: Simd, D: Dot + From<S>, const R: usize, const V: usize>(
    s: S,
    mut activations: *const u32,
    mut weights: [*const u8; V],
    loads: usize,
    mut ahead: Ahead<V>,
    mut sums: Sums<D::Sum, R, V>,
) -> Sums<D::Sum, R, V> {
    let d = D::from(s);
    // A few sums wait for themselves; where any order will do, the parts have sums of their own.
    let apart = D::EXACT && R * V <= 2;
    let mut others: Sums<D::Sum, R, V> = [[d.zero(); V]; R];
    for _ in 0..loads {
        ahead.step(s);
        // Loops instead of closures, which could not be forced inline; the parts are written out, since a loop over them
        // might be kept as one, and each part is another instruction.
        // SAFETY: one of the loads and its words.
        unsafe {
            let mut raw = [d.load(weights[0]); V];
            for v in 0..V {
                raw[v] = d.load(weights[v]);
                weights[v] = weights[v].add(PANEL * D::CELL);
            }
            add_part(d, raw, 0, activations, &mut sums);
            if D::PARTS > 1 {
                add_part(d, raw, 1, activations, if apart { &mut others } else { &mut sums });
            }
            if D::PARTS > 2 {
                add_part(d, raw, 2, activations, &mut sums);
                add_part(d, raw, 3, activations, if apart { &mut others } else { &mut sums });
            }
            activations = activations.add(D::PARTS * R);
        }
    }
    if apart {
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = d.add(sums[r][v], others[r][v]);
            }
        }
    }
    sums
}

/// `sums[r][v] += words[part][r] · part(raw[v])`
///
/// # Safety
///
/// `words` is readable for `[part + 1][R]` words.
#[inline(always)]
pub(super) unsafe fn add_part<D: Dot, const R: usize, const V: usize>(
    d: D,
    raw: [D::Raw; V],
    part: usize,
    words: *const u32,
    sums: &mut Sums<D::Sum, R, V>,
) {
    let mut columns = [d.part(raw[0], part); V];
    for v in 1..V {
        columns[v] = d.part(raw[v], part);
    }
    for r in 0..R {
        // SAFETY: as the caller promises.
        let word = unsafe { d.word(words.add(part * R + r)) };
        for v in 0..V {
            sums[r][v] = d.dot(sums[r][v], columns[v], word);
        }
    }
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
    const EXACT: bool = false;

    #[inline(always)]
    fn zero(self) -> S::F {
        self.simd.splat(0.0)
    }
    #[inline(always)]
    fn add(self, a: S::F, b: S::F) -> S::F {
        self.simd.add(a, b)
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
