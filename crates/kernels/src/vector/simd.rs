//! What the kernels need of an instruction set.

use half::{bf16, f16};

/// Bytes of a cache line.
pub(crate) const LINE: usize = 64;

/// Registers of [`LANES`](Self::LANES) `f32` of one instruction set.
///
/// A value of an implementing type proves that the machine runs the instruction set, which makes the arithmetic safe.
/// All methods are inlined into a function that enables the features.
pub(crate) trait Simd: Copy {
    /// A register.
    type F: Copy;
    /// Elements of a register, a divisor of 16.
    const LANES: usize;

    fn splat(self, x: f32) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; `b` where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a` where `x > bound`, else 0.
    fn keep_above(self, a: Self::F, x: Self::F, bound: Self::F) -> Self::F;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::F;
    /// 2 to the power of `a`, an integer from -126 to 127; anything where `a` is NaN.
    fn pow2(self, a: Self::F) -> Self::F;
    /// Sum of the lanes, in an order that depends on the instruction set alone.
    fn sum(self, a: Self::F) -> f32;
    /// Largest lane, leaving out NaN or not.
    fn largest(self, a: Self::F) -> f32;

    /// # Safety
    ///
    /// `from` is readable for LANES elements.
    unsafe fn load(self, from: *const f32) -> Self::F;
    /// The first `n <= LANES` elements, then zeros.
    ///
    /// # Safety
    ///
    /// `from` is readable for `n` elements.
    unsafe fn load_first(self, from: *const f32, n: usize) -> Self::F;
    /// # Safety
    ///
    /// `to` is writable for LANES elements.
    unsafe fn store(self, to: *mut f32, a: Self::F);
    /// Writes the first `n <= LANES` lanes.
    ///
    /// # Safety
    ///
    /// `to` is writable for `n` elements.
    unsafe fn store_first(self, to: *mut f32, n: usize, a: Self::F);
    /// LANES elements, widened.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES elements.
    unsafe fn load_f16(self, from: *const f16) -> Self::F;
    /// LANES floats of 8 bits as the half-precision numbers of the same fields, widened.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES bytes.
    unsafe fn load_fp8(self, from: *const u8) -> Self::F;
    /// LANES pairs, widened: the first of each pair, the second of each.
    ///
    /// # Safety
    ///
    /// `from` is readable for LANES pairs.
    unsafe fn load_pairs(self, from: *const bf16) -> (Self::F, Self::F);
    /// The first `n <= LANES` pairs, then zeros.
    ///
    /// # Safety
    ///
    /// `from` is readable for `n` pairs.
    unsafe fn load_pairs_first(self, from: *const bf16, n: usize) -> (Self::F, Self::F);

    /// Asks for the cache line of `address`, which may be anything, in the second-level cache.
    fn prefetch<T>(self, address: *const T);

    /// Elements `at..at + LANES` of `x`, as far as it has them, then zeros.
    #[inline(always)]
    fn get(self, x: &[f32], at: usize) -> Self::F {
        let rest = &x[at..];
        if rest.len() >= Self::LANES {
            // SAFETY: `rest` has LANES elements.
            unsafe { self.load(rest.as_ptr()) }
        } else {
            // SAFETY: `rest` has this many elements.
            unsafe { self.load_first(rest.as_ptr(), rest.len()) }
        }
    }

    /// Writes elements `at..at + LANES` of `x`, as far as it has them.
    #[inline(always)]
    fn put(self, x: &mut [f32], at: usize, a: Self::F) {
        let rest = &mut x[at..];
        if rest.len() >= Self::LANES {
            // SAFETY: `rest` has LANES elements.
            unsafe { self.store(rest.as_mut_ptr(), a) };
        } else {
            // SAFETY: `rest` has this many elements.
            unsafe { self.store_first(rest.as_mut_ptr(), rest.len(), a) };
        }
    }
}

/// Types that weights, keys and values are stored in, read a register of columns at a time.
pub(crate) trait Stored<S: Simd>: Copy {
    /// Steps along the sum that lie side by side: 2 for pairs.
    const STEP: usize;

    /// LANES columns at the first and, of pairs, at the second step.
    ///
    /// # Safety
    ///
    /// `from` is readable for `LANES * STEP` elements.
    unsafe fn load(s: S, from: *const Self) -> (S::F, S::F);
}

impl<S: Simd> Stored<S> for f32 {
    const STEP: usize = 1;

    #[inline(always)]
    unsafe fn load(s: S, from: *const Self) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        let x = unsafe { s.load(from) };
        (x, x)
    }
}

impl<S: Simd> Stored<S> for bf16 {
    const STEP: usize = 2;

    #[inline(always)]
    unsafe fn load(s: S, from: *const Self) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        unsafe { s.load_pairs(from) }
    }
}

impl<S: Simd> Stored<S> for f16 {
    const STEP: usize = 1;

    #[inline(always)]
    unsafe fn load(s: S, from: *const Self) -> (S::F, S::F) {
        // SAFETY: as the caller promises.
        let x = unsafe { s.load_f16(from) };
        (x, x)
    }
}
