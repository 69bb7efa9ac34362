//! Sixteen lanes of 32 bits, for what is done with the rows of tiles.

use std::arch::x86_64::*;

/// Arithmetic on rows of 16 elements. All methods are inlined into a function that enables the features.
pub(super) trait Lanes: Copy {
    /// 16 `f32`.
    type Floats: Copy;
    /// 16 `i32`.
    type Ints: Copy;

    fn splat(self, x: f32) -> Self::Floats;
    fn floats(self, from: &[f32; 16]) -> Self::Floats;
    fn put(self, to: &mut [f32; 16], x: Self::Floats);
    fn add(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul(self, a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, rounded once, where `a` is converted first.
    fn fma(self, a: Self::Ints, b: Self::Floats, c: Self::Floats) -> Self::Floats;

    fn ints(self, from: &[i32; 16]) -> Self::Ints;
    /// `256 * upper + lower`
    fn join(self, upper: Self::Ints, lower: Self::Ints) -> Self::Ints;
    /// `a - b`
    fn sub(self, a: Self::Ints, b: i32) -> Self::Ints;
    /// `a - b * c`
    fn sub_product(self, a: Self::Ints, b: Self::Ints, c: i32) -> Self::Ints;
}

/// Plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Plain;

impl Lanes for Plain {
    type Floats = [f32; 16];
    type Ints = [i32; 16];

    fn splat(self, x: f32) -> [f32; 16] {
        [x; 16]
    }
    fn floats(self, from: &[f32; 16]) -> [f32; 16] {
        *from
    }
    fn put(self, to: &mut [f32; 16], x: [f32; 16]) {
        *to = x;
    }
    fn add(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] + b[i])
    }
    fn mul(self, a: [f32; 16], b: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| a[i] * b[i])
    }
    fn fma(self, a: [i32; 16], b: [f32; 16], c: [f32; 16]) -> [f32; 16] {
        std::array::from_fn(|i| (a[i] as f32).mul_add(b[i], c[i]))
    }
    fn ints(self, from: &[i32; 16]) -> [i32; 16] {
        *from
    }
    fn join(self, upper: [i32; 16], lower: [i32; 16]) -> [i32; 16] {
        std::array::from_fn(|i| (upper[i] << 8) + lower[i])
    }
    fn sub(self, a: [i32; 16], b: i32) -> [i32; 16] {
        a.map(|a| a - b)
    }
    fn sub_product(self, a: [i32; 16], b: [i32; 16], c: i32) -> [i32; 16] {
        std::array::from_fn(|i| a[i] - b[i] * c)
    }
}

/// Registers of AVX-512, and the proof that the machine has it.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The proof, where the feature is enabled.
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn here() -> Self {
        Avx512(())
    }
}

/// An intrinsic inside a method of the proof.
macro_rules! proven {
    ($call:expr) => {
        // SAFETY: a value of `Avx512` exists only where the feature is enabled; pointers are to 16 elements.
        unsafe { $call }
    };
}

impl Lanes for Avx512 {
    type Floats = __m512;
    type Ints = __m512i;

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn floats(self, from: &[f32; 16]) -> __m512 {
        proven!(_mm512_loadu_ps(from.as_ptr()))
    }
    #[inline(always)]
    fn put(self, to: &mut [f32; 16], x: __m512) {
        proven!(_mm512_storeu_ps(to.as_mut_ptr(), x));
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512i, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(_mm512_cvtepi32_ps(a), b, c))
    }
    #[inline(always)]
    fn ints(self, from: &[i32; 16]) -> __m512i {
        proven!(_mm512_loadu_si512(from.as_ptr().cast()))
    }
    #[inline(always)]
    fn join(self, upper: __m512i, lower: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(_mm512_slli_epi32::<8>(upper), lower))
    }
    #[inline(always)]
    fn sub(self, a: __m512i, b: i32) -> __m512i {
        proven!(_mm512_sub_epi32(a, _mm512_set1_epi32(b)))
    }
    #[inline(always)]
    fn sub_product(self, a: __m512i, b: __m512i, c: i32) -> __m512i {
        proven!(_mm512_sub_epi32(a, _mm512_mullo_epi32(b, _mm512_set1_epi32(c))))
    }
}
