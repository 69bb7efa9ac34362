//! VDPBF16PS: pairs of bf16 times pairs of bf16, added to `f32`.

use super::simd::Avx512;
use crate::vector::dot::Dot;
use std::arch::x86_64::*;

/// Pairs of weights times pairs of activations. It is named only where AVX512-BF16 is enabled.
#[derive(Clone, Copy)]
pub(super) struct Bf16Dot(());

impl From<Avx512> for Bf16Dot {
    #[inline(always)]
    fn from(_: Avx512) -> Self {
        Bf16Dot(())
    }
}

impl Dot for Bf16Dot {
    type Sum = __m512;
    type Raw = __m512i;
    type Weights = __m512bh;
    type Word = __m512bh;
    const CELL: usize = 4;
    const STEPS: usize = 2;
    const PARTS: usize = 1;
    const EXACT: bool = false;

    #[inline(always)]
    fn zero(self) -> __m512 {
        // SAFETY: the features are enabled.
        unsafe { _mm512_setzero_ps() }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: the features are enabled.
        unsafe { _mm512_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    fn part(self, raw: __m512i, _: usize) -> __m512bh {
        pairs(raw)
    }
    #[inline(always)]
    unsafe fn word(self, from: *const u32) -> __m512bh {
        // SAFETY: as the caller promises.
        pairs(unsafe { _mm512_set1_epi32((*from).cast_signed()) })
    }
    #[inline(always)]
    fn dot(self, sum: __m512, weights: __m512bh, word: __m512bh) -> __m512 {
        // SAFETY: the features are enabled.
        unsafe { _mm512_dpbf16_ps(sum, weights, word) }
    }
}

/// Words as pairs of bf16.
#[inline(always)]
fn pairs(words: __m512i) -> __m512bh {
    // SAFETY: vectors of one size, of which every bit pattern is a value.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(words) }
}
