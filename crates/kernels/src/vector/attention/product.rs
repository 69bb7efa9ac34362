//! Products of queries with keys and of weights with values, one kind for each way in which these are stored.

use crate::kv::KvElement;
use crate::vector::ints::Ints;
use half::bf16;

/// What attention needs of an instruction set beyond the arithmetic of [`Simd`](crate::vector::simd::Simd).
pub(crate) trait KvSimd: Ints {
    /// An exponent so low that [`scale`](Self::scale) makes it 0.
    const FLOOR: f32;

    /// `x · 2^n` for an integer `n` from [`FLOOR`](Self::FLOOR) to 1; anything where `n` is NaN.
    fn scale(self, x: Self::F, n: Self::F) -> Self::F;

    /// LANES pairs of bytes, widened to 16 bits.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES pairs.
    unsafe fn load_codes(self, from: *const i8) -> Self::I;

    /// The first `n <= LANES` pairs of bytes, widened to 16 bits, then zeros.
    ///
    /// # Safety
    ///
    /// `from` is readable for `n` pairs.
    unsafe fn load_codes_first(self, from: *const i8, n: usize) -> Self::I;

    /// Rounds to 16 bits, ties to even.
    ///
    /// # Safety
    ///
    /// `to` is writable for LANES elements.
    unsafe fn store_rounded(self, to: *mut i16, x: Self::F);

    /// # Safety
    ///
    /// `to` is writable for LANES words.
    unsafe fn store_words(self, to: *mut f32, a: Self::I);
}

/// One step of a sum of products: of the left operand, a query or a row of weights, `STEP` elements, of the right one
/// `STEP` elements of each column of a register.
pub(crate) trait Product<S: KvSimd>: Copy {
    /// Keys and values in memory.
    type Stored: KvElement;
    /// A register of columns.
    type Column: Copy;
    /// A register of running sums.
    type Sum: Copy;
    /// Elements along the sum that lie side by side.
    const STEP: usize;
    /// Words of the left operand in a step.
    const WORDS: usize;
    /// Whether keys and values have scales, and the sums are integers.
    const SCALED: bool = false;

    fn zero(s: S) -> Self::Sum;

    /// A column of zeros.
    fn empty(s: S) -> Self::Column;

    /// Adds the products of a step.
    ///
    /// # Safety
    ///
    /// `left` is readable for WORDS words.
    unsafe fn add(s: S, left: *const f32, column: Self::Column, sum: Self::Sum) -> Self::Sum;

    /// A step of LANES columns.
    ///
    /// # Safety
    ///
    /// `from` is readable for `LANES * STEP` elements.
    unsafe fn load(s: S, from: *const Self::Stored) -> Self::Column;

    /// A step of the first `n <= LANES` columns, then zeros.
    ///
    /// # Safety
    ///
    /// `from` is readable for `n * STEP` elements.
    unsafe fn load_first(s: S, from: *const Self::Stored, n: usize) -> Self::Column;

    /// The column with a zero for the first or the second element of each pair, which has a weight of 0, where that makes a
    /// difference. Not for single steps.
    fn half(s: S, column: Self::Column, half: Half) -> Self::Column;

    /// Sums that were put away.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES words.
    unsafe fn take(s: S, from: *const f32) -> Self::Sum;

    /// Puts sums away.
    ///
    /// # Safety
    ///
    /// `to` is writable for LANES words.
    unsafe fn put(s: S, to: *mut f32, sum: Self::Sum);

    /// Sums as floats.
    fn floats(s: S, sum: Self::Sum) -> S::F;

    /// Makes a query the left operand; answers the factor of its products.
    fn query(s: S, query: &[f32], left: &mut [f32]) -> f32;

    /// Makes LANES weights the elements from `at` on of a left operand. They may take the place of the floats that they
    /// were made from, when these go from front to back.
    ///
    /// # Safety
    ///
    /// `left` is writable for `at + LANES` words.
    unsafe fn put_weights(s: S, left: *mut f32, at: usize, weights: S::F);
}

/// What is kept of each pair.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    First,
    Second,
}

/// What products have in common that are summed as `f32` from a query that is `f32`.
macro_rules! float_sums {
    () => {
        #[inline(always)]
        fn zero(s: S) -> S::F {
            s.splat(0.0)
        }
        #[inline(always)]
        unsafe fn take(s: S, from: *const f32) -> S::F {
            // SAFETY: as the caller promises.
            unsafe { s.load(from) }
        }
        #[inline(always)]
        unsafe fn put(s: S, to: *mut f32, sum: S::F) {
            // SAFETY: as the caller promises.
            unsafe { s.store(to, sum) }
        }
        #[inline(always)]
        fn floats(_: S, sum: S::F) -> S::F {
            sum
        }
        #[inline(always)]
        fn query(_: S, query: &[f32], left: &mut [f32]) -> f32 {
            left[..query.len()].copy_from_slice(query);
            1.0
        }
        #[inline(always)]
        unsafe fn put_weights(s: S, left: *mut f32, at: usize, weights: S::F) {
            // SAFETY: as the caller promises.
            unsafe { s.store(left.add(at), weights) }
        }
    };
}

/// f32 keys and values.
#[derive(Clone, Copy)]
pub(crate) struct Float;

impl<S: KvSimd> Product<S> for Float {
    type Stored = f32;
    type Column = S::F;
    type Sum = S::F;
    const STEP: usize = 1;
    const WORDS: usize = 1;

    float_sums!();

    #[inline(always)]
    fn empty(s: S) -> S::F {
        s.splat(0.0)
    }
    #[inline(always)]
    unsafe fn add(s: S, left: *const f32, column: S::F, sum: S::F) -> S::F {
        // SAFETY: as the caller promises.
        s.fma(s.splat(unsafe { *left }), column, sum)
    }
    #[inline(always)]
    unsafe fn load(s: S, from: *const f32) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load(from) }
    }
    #[inline(always)]
    unsafe fn load_first(s: S, from: *const f32, n: usize) -> S::F {
        // SAFETY: as the caller promises.
        unsafe { s.load_first(from, n) }
    }
    #[inline(always)]
    fn half(_: S, column: S::F, _: Half) -> S::F {
        column
    }
}

/// bf16 keys and values, widened and multiplied as f32.
#[derive(Clone, Copy)]
pub(crate) struct Widened;

impl<S: KvSimd> Product<S> for Widened {
    type Stored = bf16;
    type Column = (S::F, S::F);
    type Sum = S::F;
    const STEP: usize = 2;
    const WORDS: usize = 2;

    float_sums!();

    #[inline(always)]
    fn empty(s: S) -> (S::F, S::F) {
        (s.splat(0.0), s.splat(0.0))
    }
    #[inline(always)]
    unsafe fn add(s: S, left: *const f32, column: (S::F, S::F), sum: S::F) -> S::F {
        // SAFETY: as the caller promises.
        let (first, second) = unsafe { (*left, *left.add(1)) };
        s.fma(s.splat(second), column.1, s.fma(s.splat(first), column.0, sum))
    }
    #[inline(always)]
    unsafe fn load(s: S, from: *const bf16) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        unsafe { s.load_pairs(from) }
    }
    #[inline(always)]
    unsafe fn load_first(s: S, from: *const bf16, n: usize) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        unsafe { s.load_pairs_first(from, n) }
    }
    #[inline(always)]
    fn half(s: S, column: (S::F, S::F), half: Half) -> (S::F, S::F) {
        match half {
            Half::First => (column.0, s.splat(0.0)),
            Half::Second => (s.splat(0.0), column.1),
        }
    }
}
