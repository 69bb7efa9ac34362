//! VPDPWSSD and VPDPBUSD: pairs of 16 bits, and quads of bytes, multiplied and added in one step.

use super::simd::Avx512;
use crate::vector::dot::Dot;
use crate::vector::int_dot::{CodeDot, PairUnit, quad};
use crate::vector::ints::Ints;
use std::arch::x86_64::*;

/// Products of pairs in one step. It is named only where VNNI is enabled.
#[derive(Clone, Copy)]
pub(super) struct Vnni;

impl PairUnit<Avx512> for Vnni {
    #[inline(always)]
    fn add(_: Avx512, sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the features are enabled.
        unsafe { _mm512_dpwssd_epi32(sum, a, b) }
    }
}

/// Codes of BITS bits times activations of 8 bits. It is named only where VNNI is enabled.
#[derive(Clone, Copy)]
pub(super) struct Quads<const BITS: usize>(Avx512);

impl<const BITS: usize> From<Avx512> for Quads<BITS> {
    #[inline(always)]
    fn from(s: Avx512) -> Self {
        Quads(s)
    }
}

impl<const BITS: usize> CodeDot<Avx512> for Quads<BITS> {
    type Pairs = Vnni;
}

impl<const BITS: usize> Dot for Quads<BITS> {
    type Sum = __m512i;
    type Raw = __m512i;
    type Weights = __m512i;
    type Word = __m512i;
    const CELL: usize = 4;
    const STEPS: usize = 32 / BITS;
    const PARTS: usize = 8 / BITS;
    const EXACT: bool = true;

    #[inline(always)]
    fn zero(self) -> __m512i {
        self.0.zero_words()
    }
    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        self.0.add_words(a, b)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const u8) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { self.0.load_words(from) }
    }
    #[inline(always)]
    fn part(self, raw: __m512i, part: usize) -> __m512i {
        quad(self.0, raw, BITS, part)
    }
    #[inline(always)]
    unsafe fn word(self, from: *const u32) -> __m512i {
        // SAFETY: as the caller promises.
        unsafe { self.0.splat_word(from) }
    }
    #[inline(always)]
    fn dot(self, sum: __m512i, weights: __m512i, word: __m512i) -> __m512i {
        // SAFETY: the features are enabled.
        unsafe { _mm512_dpbusd_epi32(sum, weights, word) }
    }
}
