//! Products of codes with quantised activations.

use super::dot::Dot;
use super::ints::Ints;
use std::marker::PhantomData;

/// Products of pairs of 16 bits, summed.
pub(crate) trait PairUnit<S: Ints>: Copy {
    /// As [`Ints::add_pairs`].
    fn add(s: S, sum: S::I, a: S::I, b: S::I) -> S::I;
}

/// One instruction that multiplies and adds the halves, one that adds.
#[derive(Clone, Copy)]
pub(crate) struct TwoSteps;

impl<S: Ints> PairUnit<S> for TwoSteps {
    #[inline(always)]
    fn add(s: S, sum: S::I, a: S::I, b: S::I) -> S::I {
        s.add_pairs(sum, a, b)
    }
}

/// A product of codes with activations, and of zero points.
pub(crate) trait CodeDot<S: Ints>: Dot<Sum = S::I> + From<S> {
    /// The unit that multiplies pairs.
    type Pairs: PairUnit<S>;
}

/// Codes of BITS bits, widened to 16, times activations of 16 bits. The words of activations of a quad of inputs are
/// `(x0, x2)` and `(x1, x3)`: what a mask, and a shift, leave of four bytes.
#[derive(Clone, Copy)]
pub(crate) struct Wide<S, P, const BITS: usize> {
    s: S,
    pairs: PhantomData<P>,
}

impl<S: Ints, P: PairUnit<S>, const BITS: usize> From<S> for Wide<S, P, BITS> {
    #[inline(always)]
    fn from(s: S) -> Self {
        Wide { s, pairs: PhantomData }
    }
}

impl<S: Ints, P: PairUnit<S>, const BITS: usize> CodeDot<S> for Wide<S, P, BITS> {
    type Pairs = P;
}

impl<S: Ints, P: PairUnit<S>, const BITS: usize> Dot for Wide<S, P, BITS> {
    type Sum = S::I;
    type Raw = S::I;
    type Weights = S::I;
    type Word = S::I;
    const CELL: usize = 4;
    const STEPS: usize = 32 / BITS;
    const PARTS: usize = 16 / BITS;
    const EXACT: bool = true;

    #[inline(always)]
    fn zero(self) -> S::I {
        self.s.zero_words()
    }
    #[inline(always)]
    fn add(self, a: S::I, b: S::I) -> S::I {
        self.s.add_words(a, b)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { self.s.load_words(from) }
    }
    #[inline(always)]
    fn part(self, raw: S::I, part: usize) -> S::I {
        let s = self.s;
        match (BITS, part) {
            (8, 0) => s.and_word(raw, 0x00ff_00ff),
            (8, _) => s.shift_halves::<8>(raw),
            (_, 0) => s.and_word(raw, 0x000f_000f),
            (_, 1) => s.and_word(s.shift_halves::<8>(raw), 0x000f_000f),
            (_, 2) => s.and_word(s.shift_halves::<4>(raw), 0x000f_000f),
            _ => s.shift_halves::<12>(raw),
        }
    }
    #[inline(always)]
    unsafe fn word(self, from: *const u32) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { self.s.splat_word(from) }
    }
    #[inline(always)]
    fn dot(self, sum: S::I, weights: S::I, word: S::I) -> S::I {
        P::add(self.s, sum, weights, word)
    }
}

/// Codes of BITS bits, all below 128, times activations of 8 bits, where there is no instruction for four products in one
/// step.
#[derive(Clone, Copy)]
pub(crate) struct Narrow<S, const BITS: usize>(S);

impl<S: Ints, const BITS: usize> From<S> for Narrow<S, BITS> {
    #[inline(always)]
    fn from(s: S) -> Self {
        Narrow(s)
    }
}

impl<S: Ints, const BITS: usize> CodeDot<S> for Narrow<S, BITS> {
    type Pairs = TwoSteps;
}

impl<S: Ints, const BITS: usize> Dot for Narrow<S, BITS> {
    type Sum = S::I;
    type Raw = S::I;
    type Weights = S::I;
    type Word = S::I;
    const CELL: usize = 4;
    const STEPS: usize = 32 / BITS;
    const PARTS: usize = 8 / BITS;
    const EXACT: bool = true;

    #[inline(always)]
    fn zero(self) -> S::I {
        self.0.zero_words()
    }
    #[inline(always)]
    fn add(self, a: S::I, b: S::I) -> S::I {
        self.0.add_words(a, b)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { self.0.load_words(from) }
    }
    #[inline(always)]
    fn part(self, raw: S::I, part: usize) -> S::I {
        quad(self.0, raw, BITS, part)
    }
    #[inline(always)]
    unsafe fn word(self, from: *const u32) -> S::I {
        // SAFETY: as the caller promises.
        unsafe { self.0.splat_word(from) }
    }
    #[inline(always)]
    fn dot(self, sum: S::I, weights: S::I, word: S::I) -> S::I {
        self.0.add_quads(sum, weights, word)
    }
}

/// Part `part` of codes of `bits` bits as bytes: the lower halves of bytes, then the upper ones.
#[inline(always)]
pub(crate) fn quad<S: Ints>(s: S, raw: S::I, bits: usize, part: usize) -> S::I {
    match (bits, part) {
        (8, _) => raw,
        (_, 0) => s.and_word(raw, 0x0f0f_0f0f),
        _ => s.and_word(s.shift_halves::<4>(raw), 0x0f0f_0f0f),
    }
}
